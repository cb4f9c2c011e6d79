"""What counts as the result, through the real child program."""

import json

import pytest

from tests.runs import LIGHT, as_text, line, refusal, scores


class TestPrinted:
    @pytest.mark.parametrize("ending", ["", "\n", "\n\n  \n", "\r\n"])
    def test_the_last_non_empty_line_is_the_result(self, executor, ending):
        code = f"import sys\nprint('before')\nsys.stdout.write('  {{\"scores\": [], \"more\": 1}}' + {ending!r})"
        result = executor.run(code)
        assert (result.payload, result.stdout) == ({"scores": [], "more": 1}, "before\n")

    def test_any_json_object_comes_back_unchanged(self, executor):
        thing = {"code": 7, "deep": [{"a": None}], "é": 1.5, "scores": "none"}
        assert executor.execute(f"print({json.dumps(thing)!r})", {}) == thing

    def test_printed_scores_go_before_a_number_and_before_a_metric(self, executor):
        code = LIGHT + (
            f"class Mine(BaseMetric):\n    def score(self): raise SystemError('must not run')\nprint('{line('a')}')\n"
        )
        for ending in ("", "0.5", "import os\nos.system('true')"):
            result = executor.run(code + ending)
            assert (result.payload, result.stdout) == (json.loads(line("a")), "")

    def test_what_native_code_prints_goes_before_a_metric_too(self, executor):
        code = LIGHT + (
            "import subprocess\nclass Mine(BaseMetric):\n    def score(self): raise SystemError('must not run')\n"
            f"subprocess.run(['echo', '{line('a')}'])\nx = 1\n"
        )
        assert executor.execute(code, {}) == json.loads(line("a"))

    def test_an_object_followed_by_another_line_is_ordinary_output(self, executor):
        result = executor.run("print('{\"scores\": []}')\nprint('after')\n0.5")
        assert result.stdout == '{"scores": []}\nafter\n'
        assert result.payload["scores"][0]["value"] == 0.5

    def test_a_failed_run_keeps_the_object_as_output(self, executor):
        result = executor.run("print('{\"scores\": []}')\n1/0")
        assert result.stdout == '{"scores": []}\n'
        assert result.to_dict()["code"] == 400

    @pytest.mark.parametrize("line", ["[1, 2]", '"text"', "3", "{'a': 1}", "{", "{}}", "done {}"])
    def test_what_is_no_json_object_does_not_count_and_is_named(self, executor, line):
        assert line in refusal(executor, f"print({line!r})").replace('\\"', '"')


class TestLastExpression:
    @pytest.mark.parametrize(
        ("expression", "value"),
        [("0.5", 0.5), ("3", 3), ("-1", -1), ("True", 1.0), ("Decimal('0.25')", 0.25), ("Fraction(1, 4)", 0.25)],
    )
    def test_a_number_is_a_score(self, executor, expression, value):
        code = f"from decimal import Decimal\nfrom fractions import Fraction\n{expression}"
        assert scores(executor, code) == [{"name": "score", "value": value, "reason": None}]

    @pytest.mark.parametrize(
        "expression", ["np.float64(0.5)", "np.float32(0.5)", "np.array(0.5)", "pd.Series([0, 1]).mean()"]
    )
    def test_a_number_of_numpy_or_pandas_is_a_score(self, executor, expression):
        assert scores(executor, f"import numpy as np, pandas as pd\n{expression}")[0]["value"] == 0.5

    def test_nan_is_a_score(self, executor):
        (score,) = scores(executor, "float('nan')")
        assert score["value"] != score["value"]

    def test_a_dict_with_scores_comes_back_as_json(self, executor):
        code = "import datetime\n{'scores': [{'name': 'a', 'value': 1}], 'at': datetime.date(2026, 1, 2), 'n': (1, 2)}"
        assert executor.execute(code, {}) == {
            "scores": [{"name": "a", "value": 1}],
            "at": "2026-01-02",
            "n": [1, 2],
        }

    def test_a_score_result_or_a_list_of_them(self, executor):
        one = {"name": "a", "value": 0.5, "reason": "r"}
        assert scores(executor, LIGHT + "ScoreResult('a', 0.5, 'r')") == [one]
        assert scores(executor, LIGHT + "[ScoreResult('a', 0.5, 'r'), ScoreResult('a', 0.5, 'r')]") == [one, one]

    def test_a_dict_of_score_results(self, executor):
        code = LIGHT + "{'scores': [ScoreResult('a', 0.5), {'name': 'b', 'value': 'high'}]}"
        assert [(score["name"], score["value"]) for score in scores(executor, code)] == [("a", 0.5), ("b", "high")]

    def test_goes_before_a_metric_class(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self): return 1\nScoreResult('direct', 0)"
        assert scores(executor, code)[0]["name"] == "direct"

    def test_none_is_no_value(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self): return 1\nprint('hello')"
        assert scores(executor, code)[0]["name"] == "Mine"

    @pytest.mark.parametrize(
        ("expression", "found"),
        [
            ("'text'", "a str"),
            ("[]", "an empty list"),
            ("[1, 2]", "item 0 is an int"),
            ("{'a': 'b'}", "without the key 'scores'"),
            ("object()", "an object"),
            ("1j", "a complex"),
            ("{'scores': {1, 2}}", "'scores' is a set"),
            ("{'scores': 1}", "'scores' is an int"),
            ("{'scores': [{'value': 1}]}", "scores[0] has no 'name' and 'value'"),
            ("{'scores': [{'name': 'a', 'value': {1}}]}", "scores[0]['value']: a set"),
            ("{'scores': [], 'x': {1}}", "['x']: a set"),
        ],
    )
    def test_what_does_not_count_is_named(self, executor, expression, found):
        assert found in refusal(executor, expression)

    @pytest.mark.parametrize(
        ("code", "kind", "found"),
        [
            ("x = 1", "nothing", "nothing was printed and the code does not end with a value"),
            ("print('hello')", "output", "the last line printed is 'hello', which is no JSON object"),
            ("print('{\"half\": ')", "line", "begins like a JSON object, but ends in the middle"),
            ("print('hello')\n'text'", "value", "the value of the last line is a str"),
            ("import pandas\npandas.DataFrame()", "value", "the value of the last line is a DataFrame"),
            ("data", "value", "the value of the last line is a dict without the key 'scores'"),
            (
                LIGHT + "class M(BaseMetric):\n    def score(self, **rest): pass",
                "metric",
                "M.score() returned None",
            ),
            ("raise SystemExit", "exit", "the code left with sys.exit()"),
        ],
    )
    def test_what_was_found_is_told_as_a_field_too(self, executor, code, kind, found):
        error = executor.run(code, {"answer": "a"}).error
        assert (error.code, str(error.found_kind)) == (500, kind)
        assert found in error.found
        assert error.text.startswith(f"Invalid JSON response from subprocess: {error.found}.")

    def test_nothing_at_all(self, executor):
        for code in ("", "x = 1", "'''doc'''\nx = 1"):
            assert "nothing was printed" in refusal(executor, code)


RECORDS = """
from collections import namedtuple
from dataclasses import dataclass
from typing import NamedTuple
@dataclass
class Named:
    name: str
    value: float
    explanation: str = "why"
    passed: bool = False
@dataclass
class Verdict:
    score: float
    rationale: str = "why"
    label: str = "fair"
    threshold: float = 0.5
class Tuple(NamedTuple):
    name: str
    score: float
    comment: str = "why"
class Plain:
    def __init__(self): self.name, self.score = "plain", 0.5
class Slots:
    __slots__ = ("name", "value")
class Metric:
    name = "m"
    def __init__(self): self.name = "m"
    def score(self, output): return 1
"""
PYDANTIC = """
from pydantic import BaseModel
class Judged(BaseModel):
    name: str
    value: float
    metadata: dict = {}
class Verdict(BaseModel):
    score: float
    reason: str
"""


class TestShapes:
    """What plain Python has for scores."""

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("{'accuracy': 0.5, 'exact': True, 'n': 3}", {"accuracy": 0.5, "exact": 1.0, "n": 3}),
            ("import numpy as np\n{'a': np.float32(0.5), 'b': np.bool_(True)}", {"a": 0.5, "b": 1.0}),
            ("{'a': 0.5, 'b': None}", {"a": 0.5, "b": None}),
            ("('closeness', 0.5)", {"closeness": 0.5}),
            ("{'name': 'a', 'value': 0.5}", {"a": 0.5}),
            ("[{'name': 'a', 'value': 0.5}, {'key': 'b', 'score': 1}]", {"a": 0.5, "b": 1}),
            ("[{'a': 0.5}, ('b', 1)]", {"a": 0.5, "b": 1}),
            ("({'key': 'a', 'score': 0.5}, {'key': 'b', 'score': 1})", {"a": 0.5, "b": 1}),
            ("{'a': {'score': 0.5, 'reason': 'r'}, 'b': (1, 'r'), 'c': 0}", {"a": 0.5, "b": 1, "c": 0}),
            ("{'results': [{'key': 'a', 'score': 0.5}, {'key': 'b', 'value': 'good'}]}", {"a": 0.5, "b": "good"}),
            ("{'scores': [{'key': 'a', 'score': 0.5}, {'name': 'b', 'value': 1}]}", {"a": 0.5, "b": 1}),
            (RECORDS + "[Named('a', 0.5), Tuple('b', 1), Plain()]", {"a": 0.5, "b": 1, "plain": 0.5}),
            (RECORDS + "{'x': Named('a', 0.5), 'y': Verdict(1)}", {"x": 0.5, "y": 1}),
            (PYDANTIC + "[Judged(name='a', value=0.5), Verdict(score=1, reason='r')]", {"a": 0.5, "score": 1}),
            ("import pandas as pd\npd.Series({'a': 0.5, 'b': 1})", {"a": 0.5, "b": 1.0}),
            ("import pandas as pd\npd.DataFrame({'a': [0, 1], 'b': [1, 1]}).mean()", {"a": 0.5, "b": 1.0}),
            ("import pandas as pd\npd.DataFrame({'name': ['a', 'b'], 'value': [0.5, 1]})", {"a": 0.5, "b": 1.0}),
            ("import pandas as pd\npd.DataFrame({'value': [0.5, 1]}, index=['a', 'b'])", {"a": 0.5, "b": 1.0}),
            ("import pandas as pd\npd.DataFrame({'score': [0.5, 1]}, index=['a', 'b'])", {"a": 0.5, "b": 1.0}),
            ("import pandas as pd\npd.DataFrame({'a': [0.5], 'b': [1]})", {"a": 0.5, "b": 1.0}),
            ("from collections import Counter\nCounter('aab')", {"a": 2, "b": 1}),
        ],
    )
    def test_names_and_values(self, executor, expression, expected):
        result = executor.run(expression)
        assert result.error is None, result.error.text
        assert [(one.name, one.value) for one in result.scores] == [*expected.items()]

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("(0.5, 'half')", {"reason": "half"}),
            ("('a', 0.5, 'half')", {"reason": "half"}),
            ("{'score': 0.5, 'comment': 'half'}", {"reason": "half"}),
            (RECORDS + "Named('a', 0.5)", {"reason": "why", "passed": False}),
            (RECORDS + "Verdict(0.5)", {"reason": "why", "category_name": "fair", "threshold": 0.5}),
            (RECORDS + "Tuple('a', 0.5)", {"reason": "why"}),
            (PYDANTIC + "Judged(name='a', value=0.5, metadata={'usage': 3})", {"metadata": {"usage": 3}}),
            (
                "{'name': 'a', 'score': 0.5, 'success': True, 'metadata': {'at': {1}}}",
                {"passed": True, "metadata": {"at": [1]}},
            ),
            ("{'name': 'a', 'score': 0.5, 'error': ''}", {}),
            (
                "import pandas as pd\npd.DataFrame({'score': [0.5], 'reason': ['half'], 'text': ['t']})",
                {"reason": "half"},
            ),
        ],
    )
    def test_fields_keep_their_meaning(self, executor, expression, expected):
        (score,) = executor.run(expression).scores
        fields = ("reason", "category_name", "metadata", "passed", "threshold")
        assert score.value == 0.5
        assert {name: getattr(score, name) for name in fields if getattr(score, name) is not None} == expected
        assert not score.scoring_failed

    @pytest.mark.parametrize(
        ("expression", "found"),
        [
            ("{'a': 'text'}", "a dict without the key 'scores'"),
            ("{'a': 0.5, 'b': 'text'}", "a dict without the key 'scores'"),
            ("{'a': {'b': 0.5}}", "a dict without the key 'scores'"),
            ("{1: 0.5}", "a dict without the key 'scores'"),
            ("{'a': None}", "a dict without the key 'scores'"),
            ("{'results': [0.5]}", "a dict without the key 'scores'"),
            ("[0.5, 0.7]", "a list whose item 0 is a float, not a score"),
            ("(0.5, 0.7)", "a tuple whose item 0 is a float, not a score"),
            ("[{'a': 0.5}, 'text']", "a list whose item 1 is a str, not a score"),
            ("'C'", "a str"),
            ("import enum\nclass Color(enum.Enum): RED = 'red'\nColor.RED", "a Color"),
            (RECORDS + "Slots()", "a Slots"),
            (RECORDS + "Named", "a type"),
            ("import pandas as pd\npd.DataFrame({'a': [0.5, 0.7]})", "a DataFrame"),
            ("import pandas as pd\npd.DataFrame({'a': [0.5], 'b': ['x']})", "a DataFrame"),
            ("import pandas as pd\npd.DataFrame({'a': [0.5, 0.7]}, index=['x', 'y'])", "a DataFrame"),
            ("import pandas as pd\npd.Series([0.5, 0.7])", "a Series"),
            ("data", "a dict without the key 'scores'"),
        ],
    )
    def test_what_is_no_score_is_named(self, executor, expression, found):
        error = executor.run(expression, {"a": 1}).error
        assert error.found == f"the value of the last line is {found}"

    @pytest.mark.parametrize("value", ["{'a': 1}", "(0, 'done')", "('a', 1)", "[{'a': 1}]"])
    def test_printed_scores_go_before_what_may_be_something_else(self, executor, value):
        assert [one.name for one in executor.run(printing(line("printed")) + value).scores] == ["printed"]

    @pytest.mark.parametrize(
        "value", ["{'key': 'x', 'score': 1}", "[{'name': 'x', 'value': 1}]", RECORDS + "Named('x', 1)"]
    )
    def test_but_not_before_scores(self, executor, value):
        assert [one.name for one in executor.run(printing(line("printed")) + value).scores] == ["x"]

    def test_a_metric_may_return_each_of_them(self, executor):
        for returned, name in (("(0.5, 'half')", "M"), ("{'score': 0.5}", "M"), ("{'a': 0.5}", "a")):
            code = LIGHT + f"class M(BaseMetric):\n    def score(self, **data): return {returned}"
            assert [(one.name, one.value) for one in executor.run(code).scores] == [(name, 0.5)]


class TestNoUsableScore:
    @pytest.mark.parametrize(
        ("code", "told"),
        [
            ("{'scores': [{'name': 'a', 'value': None}]}", ["a: no value"]),
            (LIGHT + "ScoreResult('a', None, 'the judge is away')", ["a: no value: the judge is away"]),
            (
                "{'scores': [{'name': 'a', 'value': 0, 'scoring_failed': True, 'reason': 'no key'}, {'name': 'b'}]}",
                ["a: no key", "b: no value"],
            ),
            ('print(\'{"scores": [{"name": "a", "value": null}]}\')', ["a: no value"]),
            ("[{'key': 'a', 'score': None, 'error': ValueError('bad')}]", ["a: no value: ValueError: bad"]),
        ],
    )
    def test_is_an_error_that_names_each(self, executor, code, told):
        answer = executor.execute(code)
        assert answer["code"] == 400
        result = executor.run(code)
        assert (result.error.kind, result.payload, result.exit_status) == ("no_score", None, 0)
        assert [one.scoring_failed for one in result.scores] == [True] * len(told)
        for one in told:
            assert one in answer["error"]
            assert one in result.error.summary
        shown = as_text(result)
        assert shown.startswith(result.error.summary)
        assert shown.count("FAILED") == len(told)

    def test_one_usable_among_them_is_a_success_that_says_so(self, executor):
        code = "{'scores': [{'name': 'a', 'value': 1}, {'name': 'b', 'value': None, 'reason': 'no key'}]}"
        result = executor.run(code)
        assert result.ok
        assert result.notes == ("1 of 2 scores could be computed; failed: b: no value: no key",)
        assert "note: 1 of 2 scores could be computed" in as_text(result)
        assert executor.execute(code)["scores"][0] == {"name": "a", "value": 1}
        strict = executor.run(code, strict=True)
        assert (strict.error.kind, strict.error.text) == ("strict", result.notes[0])

    def test_no_scores_at_all_and_nan_stay_what_they_are(self, executor):
        assert executor.run("{'scores': []}").ok
        assert executor.run("{'a': float('nan')}").ok

    def test_hundreds_are_named_in_the_text_and_counted_in_the_summary(self, executor):
        error = executor.run("{'scores': [{'name': f'm{n}', 'value': None} for n in range(300)]}").error
        assert error.text.count("no value") == 300
        assert error.summary.startswith("None of the 300 scores could be computed: m0: no value; ")
        assert error.summary.endswith("m9: no value; and 290 more.")

    def test_a_secret_in_a_reason_is_hidden(self, executor):
        code = "import os\n{'scores': [{'name': 'a', 'value': None, 'reason': 'key ' + os.environ['A_KEY']}]}"
        result = executor.run(code, None, {"A_KEY": "s3cret-value"}, secrets=["*_KEY"])
        assert "s3cret" not in result.error.text + repr(result.scores)
        assert "key ***" in result.error.text


def printing(*printed):
    return "".join(f"print({one!r})\n" for one in printed)


LOG = '{"level": "info"}'


class TestWhichResult:
    """What has scores goes before what has none, the later before the earlier."""

    @pytest.mark.parametrize(
        ("code", "name", "stdout"),
        [
            (printing(LOG) + line("value"), "value", f"{LOG}\n"),
            (printing(line("printed")) + line("value"), "value", f"{line('printed')}\n"),
            (printing(line("printed"), LOG) + line("value"), "value", f"{line('printed')}\n{LOG}\n"),
            (printing(line("one"), line("two")), "two", f"{line('one')}\n"),
            (printing(line("printed"), LOG), "printed", f"{LOG}\n"),
            (printing(line("printed"), LOG) + "0.5", "printed", f"{LOG}\n"),
            (printing(LOG) + "0.5", "score", f"{LOG}\n"),
            (printing("{}") + "0.5", "score", "{}\n"),
            (
                printing(line("printed"), '{"scores": [0.5, 0.7], "epoch": 1}'),
                "printed",
                '{"scores": [0.5, 0.7], "epoch": 1}\n',
            ),
            (printing('{"scores": []}') + line("value"), "value", '{"scores": []}\n'),
            (printing(line("printed"), "text") + line("value"), "value", f"{line('printed')}\ntext\n"),
            (printing('{"a": 1, "a": 2}') + line("value"), "value", '{"a": 1, "a": 2}\n'),
            (printing('{"half": ') + line("value"), "value", '{"half": \n'),
        ],
    )
    def test_of_what_is_printed_and_the_last_expression(self, executor, code, name, stdout):
        result = executor.run(code)
        assert result.error is None, result.error.text
        assert ([score.name for score in result.scores], result.stdout) == ([name], stdout)

    @pytest.mark.parametrize("waits", [False, True])
    @pytest.mark.parametrize(
        ("code", "at_exit", "name", "stdout"),
        [
            ("0.5", LOG, "score", f"{LOG}\n"),
            (line("value"), LOG, "value", f"{LOG}\n"),
            (line("value"), line("exit"), "exit", ""),
            (printing(line("printed")) + line("value"), line("exit"), "exit", f"{line('printed')}\n"),
            (printing(line("printed")) + line("value"), LOG, "value", f"{line('printed')}\n{LOG}\n"),
            (printing(line("printed")), LOG, "printed", f"{LOG}\n"),
            (printing(line("printed"), LOG), line("exit"), "exit", f"{line('printed')}\n{LOG}\n"),
            ("0.5", line("exit"), "exit", ""),
        ],
    )
    def test_of_what_is_printed_at_exit(self, executor, code, at_exit, name, stdout, waits):
        begin = (
            f"import threading, time\ndef late(): time.sleep(0.1); print({at_exit!r})\nthreading.Thread(target=late).start()\n"
            if waits
            else f"import atexit\natexit.register(print, {at_exit!r})\n"
        )
        result = executor.run(begin + code)
        assert ([score.name for score in result.scores], result.stdout) == ([name], stdout)

    def test_output_comes_in_order_also_while_the_run_goes_on(self, executor):
        heard = []
        code = printing("a", line("one"), LOG, "b", line("two"), LOG, "c") + line("value")
        result = executor.run(code, on_output=lambda _, text: heard.append(text))
        assert "".join(heard) == result.stdout == f"a\n{line('one')}\n{LOG}\nb\n{line('two')}\n{LOG}\nc\n"

    @pytest.mark.parametrize("text", ["{}", LOG, line("printed"), "text"])
    def test_what_score_prints_does_not_count_for_what_it_returns(self, executor, text):
        code = (
            LIGHT
            + f"class M(BaseMetric):\n    def score(self, **kw):\n        print({text!r})\n        return 0.7"
        )
        result = executor.run(code, {"output": "x"})
        assert ([(score.name, score.value) for score in result.scores], result.stdout) == (
            [("M", 0.7)],
            f"{text}\n",
        )

    def test_an_object_without_scores_does_not_keep_a_metric_from_scoring(self, executor):
        code = LIGHT + "class M(BaseMetric):\n    def score(self, **kw): return 0.7\n" + printing(LOG)
        result = executor.run(code, {"output": "x"})
        assert (result["M"].value, result.stdout) == (0.7, f"{LOG}\n")

    def test_an_object_without_scores_is_the_result_when_nothing_else_is(self, executor):
        for code in (printing(LOG), printing(LOG) + "'text'", printing('{"other": 1}', LOG)):
            assert executor.execute(code) == {"level": "info"}

    @pytest.mark.parametrize("wrote", ["sys.stdout.write", "sys.stdout.buffer.write"])
    def test_a_count_of_what_was_written_is_no_score(self, executor, wrote):
        quote = "b" if "buffer" in wrote else ""
        result = executor.run(f"import sys\n{wrote}({quote}'{LOG}')")
        assert (result.payload, result.scores) == ({"level": "info"}, ())

    def test_a_refused_line_with_scores_goes_before_what_comes_earlier_alone(self, executor):
        twice = '{"scores": [{"name": "a", "value": 1, "value": 2}]}'
        assert "twice" in refusal(executor, printing(line("printed"), twice))
        assert executor.run(printing(twice) + line("value"))["value"].value == 1
        assert "twice" in refusal(executor, f"import atexit\natexit.register(print, {twice!r})\n" + line("value"))

    def test_a_secret_line_is_neither(self, executor):
        code = f"import os\nprint('{line('a')}')\nprint(os.environ['A_KEY'])"
        result = executor.run(code, None, {"A_KEY": LOG}, secrets=["*_KEY"])
        assert result.stdout == f"{line('a')}\n***\n"
        assert not result.ok

    def test_a_lazy_global_is_not_touched(self, executor):
        lazy = "class L:\n    @property\n    def __class__(self): raise RuntimeError('not configured')\nsettings = L()\n"
        assert executor.execute(lazy + printing(line("a"))) == json.loads(line("a"))
        metric = LIGHT + "class M(BaseMetric):\n    def score(self, **kw): return 0.25\n"
        assert scores(executor, lazy + metric)[0]["value"] == 0.25
        assert "the value of the last line is a L" in refusal(executor, lazy + "settings")
        assert executor.execute(lazy + printing(line("a")) + "settings") == json.loads(line("a"))

    def test_nor_is_a_class_asked_what_it_equals(self, executor):
        odd = (
            "class Meta(type):\n    def __eq__(self, other): raise RuntimeError('asked')\n"
            "    def __getattribute__(self, name): raise RuntimeError('asked')\n"
            "class Odd(metaclass=Meta): pass\nodd = Odd()\nodds = [odd]\n"
        )
        metric = LIGHT + "class M(BaseMetric):\n    def score(self, **kw): return 0.25\nm = M()\n"
        assert scores(executor, odd + metric)[0]["value"] == 0.25
        assert executor.execute(odd + printing(line("a"))) == json.loads(line("a"))


def named(result):
    return [(score.name, score.value) for score in result.scores]


ROW = {"answer": "a", "reference": "r", "tenant": "t1"}
MISSING = 'output is not in the data (answer, reference, tenant): None was passed. Map it: data={"output": row["answer"]}'


def metric(signature, body="return 0.0"):
    return LIGHT + f"class M(BaseMetric):\n    def score({signature}): {body}\n"


class TestKeys:
    def test_a_parameter_that_the_data_lacks_gets_none_and_a_note(self, executor):
        result = executor.run(metric("self, output, reference, **kw", "return float(output is None)"), ROW)
        assert (named(result), result.notes) == ([("M", 1.0)], (MISSING,))
        error = executor.run(metric("self, output, reference, **kw"), ROW, strict=True).error
        assert (error.kind, error.code, error.text) == ("strict", 400, MISSING)
        assert executor.execute(metric("self, output, **kw"), ROW, strict=True) == {"code": 400, "error": MISSING}

    def test_an_error_on_the_none_says_the_same(self, executor):
        result = executor.run(metric("self, output, **kw", "return len(output)"), ROW)
        assert result.error.summary == "TypeError: object of type 'NoneType' has no len() (line 7)"
        assert (result.error.hint, result.notes) == (MISSING, ())
        assert MISSING in result.to_dict()["error"]

    @pytest.mark.parametrize(
        ("parameter", "data", "key"),
        [
            ("output", {"context": 1, "outputs": 2}, "outputs"),
            ("output", {"id": 1, "question": 2, "model_answer": 3}, "model_answer"),
            ("reference", {"output": 1, "expected": 2}, "expected"),
            ("Reference", {"output": 1, "reference": 2}, "reference"),
            ("input", {"output": 1, "question": 2}, "question"),
            ("threshold", {"a": 1}, "a"),
            ("output", {'a"b\n': 1}, 'a\\"b\\n'),
        ],
    )
    def test_the_nearest_key_comes_first(self, executor, parameter, data, key):
        (note,) = executor.run(metric(f"self, {parameter}, **kw"), data).notes
        assert note.startswith(f"{parameter} is not in the data ({key}")
        assert note.endswith(f'Map it: data={{"{parameter}": row["{key}"]}}')

    def test_no_value_and_not_too_many_names_are_told(self, executor):
        data = {f"key_{number}": "private" for number in range(1000)} | {"x" * 5000: "private"}
        (note,) = executor.run(metric("self, output, **kw"), data).notes
        assert "... 993 more" in note
        assert "private" not in note
        assert len(note) < 600
        (note,) = executor.run(metric("self, output, **kw"), {}).notes
        assert (
            note
            == 'output is not in the data, which is empty: None was passed. Hand it over: data={"output": ...}'
        )

    def test_a_name_that_is_a_secret_is_hidden(self, executor):
        (note,) = executor.run(
            metric("self, output, **kw"), {"s3cret-value": 1}, {"A_KEY": "s3cret-value"}, secrets=["*_KEY"]
        ).notes
        assert "s3cret" not in note
        assert "(***)" in note

    def test_a_key_that_it_does_not_take_is_named_with_what_it_takes_and_what_to_do(self, executor):
        error = executor.run(metric("self, answer, limit=3"), ROW).error
        assert error.code == 400
        assert (
            error.summary
            == "TypeError: M.score() got an unexpected keyword argument 'reference': it takes answer, limit."
        )
        assert (
            error.hint
            == "reference, tenant are keys of the data. Add **ignored to the parameters of score(), or leave them out."
        )
        assert "isolated_magic" not in error.text

    def test_one_that_it_lacks_is_told_too(self, executor):
        error = executor.run(metric("self, output"), {"answer": 1}).error
        assert error.hint.endswith('output is not in the data (answer). Map it: data={"output": row["answer"]}')

    def test_score_that_wants_the_data_as_a_whole(self, executor):
        hint = executor.run(metric("self, row"), ROW).error.hint
        assert "def score(self, answer, reference, tenant, **ignored)" in hint
        assert hint.endswith('data={"row": row}')

    @pytest.mark.parametrize(
        ("signature", "fits"),
        [
            *[
                (fitting, True)
                for fitting in ("self, thread", "self, thread, limit=3", "self, *all", "self, thread, /")
            ],
            *[(unfit, False) for unfit in ("self", "self, output, reference", "self, *, thread", "self, **kw")],
        ],
    )
    def test_the_thread_form(self, executor, signature, fits):
        result = executor.run(metric(signature), [{"role": "user"}], payload_type="trace_thread")
        assert (result.ok, result.notes) == (fits, ())
        if not fits:
            assert result.error.code == 400
            assert "cannot be called with the data alone" in result.error.summary
            assert "def score(self, thread)" in result.error.hint

    @pytest.mark.parametrize("signature", ["self, answer, /", "self, *all"])
    def test_positions_do_not_take_keys(self, executor, signature):
        error = executor.run(metric(signature), {"answer": 1}).error
        assert error.code == 400
        assert error.summary.startswith("TypeError: M.score() ")
        assert error.hint

    def test_an_async_score_and_one_behind_a_decorator(self, executor):
        code = (
            LIGHT + "class M(BaseMetric):\n    async def score(self, output, **kw): return float(output is None)"
        )
        assert executor.run(code, ROW).notes == (MISSING,)
        code = LIGHT + (
            "import functools\ndef plain(f):\n    @functools.wraps(f)\n    def g(*a, **k): return f(*a, **k)\n    return g\n"
            "class M(BaseMetric):\n    @plain\n    def score(self, output, **kw): return float(output is None)"
        )
        assert executor.run(code, ROW).notes == (MISSING,)
        code = (
            LIGHT
            + "class M(BaseMetric):\n    @staticmethod\n    def score(output, **kw): return float(output is None)"
        )
        assert executor.run(code, ROW).notes == (MISSING,)


WAYS = {
    "printed": "import json\nprint(json.dumps({{'scores': [{{'name': 'a', 'value': {0}}}]}}))",
    "dict": "{{'scores': [{{'name': 'a', 'value': {0}}}]}}",
    "result": LIGHT.replace("{", "{{").replace("}", "}}") + "ScoreResult('a', {0})",
    "list": LIGHT.replace("{", "{{").replace("}", "}}") + "[ScoreResult('a', {0})]",
    "metric": LIGHT.replace("{", "{{").replace("}", "}}")
    + "class M(BaseMetric):\n    def score(self): return ScoreResult('a', {0})",
}


class TestValues:
    """One table of what a value means, the same in each way of returning it."""

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize(
        ("value", "means", "failed", "reason"),
        [
            ("-0.5", "-0.5", False, None),
            ("7", "7", False, None),
            ("True", "1.0", False, None),
            ("False", "0.0", False, None),
            ("'0.5'", "'0.5'", False, None),
            ("None", "None", True, "no value"),
            ("float('nan')", "nan", False, None),
        ],
    )
    def test_a_value(self, executor, way, value, means, failed, reason):
        (score,) = executor.run(WAYS[way].format(value)).scores
        assert (repr(score.value), score.scoring_failed, score.reason) == (means, failed, reason)

    @pytest.mark.parametrize("printed", [True, False])
    def test_one_without_a_value_does_not_lose_the_others(self, executor, printed):
        payload = {
            "scores": [{"name": "a", "value": 0.9}, {"name": "b", "reason": "the judge gave none"}, {"name": "c"}]
        }
        result = executor.run(printing(json.dumps(payload)) if printed else repr(payload))
        assert result.payload == payload
        assert [(one.name, one.value, one.scoring_failed, one.reason) for one in result.scores] == [
            ("a", 0.9, False, None),
            ("b", None, True, "no value: the judge gave none"),
            ("c", None, True, "no value"),
        ]

    @pytest.mark.parametrize(
        ("flag", "failed"),
        [
            *[(flag, True) for flag in (True, "true", "True", 1, "1")],
            *[(flag, False) for flag in (False, 0, "false", None, "", [])],
        ],
    )
    def test_what_says_that_scoring_failed(self, executor, flag, failed):
        payload = {"scores": [{"name": "a", "value": 0.9, "scoring_failed": flag}]}
        for code in (printing(json.dumps(payload)), repr(payload)):
            assert executor.run(code)["a"].scoring_failed is failed

    @pytest.mark.parametrize("other", [{"value": 1}, {"reason": "r"}, {"name": 3}, 0.5, None, "b"])
    def test_among_scores_one_without_a_name_is_refused(self, executor, other):
        payload = {"scores": [{"name": "a", "value": 1}, other]}
        for code in (printing(json.dumps(payload)), repr(payload)):
            assert "scores[1]" in refusal(executor, code)
