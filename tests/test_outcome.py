"""What counts as the result, through the real child program; the metric classes with the real opik too."""

import json
import textwrap

import pytest

# A stand-in that costs no import: what the child goes by is the names of the classes.
LIGHT = """
class BaseMetric:
    def __init__(self, name=None): self.name = name or type(self).__name__
class ScoreResult:
    def __init__(self, name, value, reason=None): self.name, self.value, self.reason = name, value, reason
"""


def scores(executor, code, data=None, **settings):
    result = executor.run(textwrap.dedent(code), data, **settings)
    assert result.error is None, result.error.text
    return result.payload["scores"]


def refusal(executor, code, data=None):
    answer = executor.execute(textwrap.dedent(code), data)
    assert answer["code"] == 500, answer
    assert answer["error"].startswith("Invalid JSON response from subprocess: ")
    return answer["error"]


class TestPrinted:
    @pytest.mark.parametrize("ending", ["", "\n", "\n\n  \n", "\r\n"])
    def test_the_last_non_empty_line_is_the_result(self, executor, ending):
        code = f"import sys\nprint('before')\nsys.stdout.write('  {{\"scores\": [], \"more\": 1}}' + {ending!r})"
        result = executor.run(code)
        assert (result.payload, result.stdout) == ({"scores": [], "more": 1}, "before\n")

    def test_any_json_object_comes_back_unchanged(self, executor):
        thing = {"code": 7, "deep": [{"a": None}], "é": 1.5, "scores": "none"}
        assert executor.execute(f"print({json.dumps(thing)!r})", {}) == thing

    def test_printed_goes_before_the_last_expression_and_before_a_metric(self, executor):
        code = LIGHT + (
            "class Mine(BaseMetric):\n    def score(self): raise SystemError('must not run')\n"
            "print('{\"printed\": true}')\n"
        )
        assert executor.execute(code, {}) == {"printed": True}
        assert executor.execute(code + "0.5", {}) == {"printed": True}

    def test_what_native_code_prints_goes_before_a_metric_too(self, executor):
        code = LIGHT + (
            "import subprocess\nclass Mine(BaseMetric):\n    def score(self): raise SystemError('must not run')\n"
            "subprocess.run(['echo', '{\"printed\": true}'])\nx = 1\n"
        )
        assert executor.execute(code, {}) == {"printed": True}

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
            ("{'a': 1}", "without the key 'scores'"),
            ("object()", "an object"),
            ("1j", "a complex"),
            ("{'scores': {1, 2}}", "'scores' is a set"),
            ("{'scores': 1}", "'scores' is an int"),
            ("{'scores': [{'name': 'a'}]}", "scores[0] has no 'name' and 'value'"),
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


class TestMetricClass:
    def test_score_gets_the_data_and_none_for_what_is_missing(self, executor):
        code = LIGHT + (
            "class Mine(BaseMetric):\n    def score(self, output, reference, *, extra, limit=3, **rest):\n"
            "        return ScoreResult('m', 1, repr((output, reference, extra, limit, rest)))"
        )
        (score,) = scores(executor, code, {"output": "o", "other": 1})
        assert score["reason"] == "('o', None, None, 3, {'other': 1})"

    def test_the_data_is_the_runs_whatever_the_code_does_with_the_name(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, a): return a\ndel payload_type\ndata = [1, 2]"
        assert scores(executor, code, {"a": 0.5})[0]["value"] == 0.5

    def test_trace_thread_hands_over_the_whole_list(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, thread): return len(thread)"
        (score,) = scores(executor, code, [{"role": "user"}, {"role": "assistant"}], payload_type="trace_thread")
        assert (score["name"], score["value"]) == ("Mine", 2)

    def test_a_list_without_trace_thread_is_refused(self, executor):
        answer = executor.execute("1", [1])
        assert answer["code"] == 400
        assert "trace_thread" in answer["error"]

    def test_an_imported_class_is_not_a_defined_one(self, executor, tmp_path, monkeypatch):
        (tmp_path / "shipped.py").write_text(LIGHT + "class Ready(BaseMetric):\n    def score(self): return 1")
        monkeypatch.chdir(tmp_path)
        refusal(executor, "from shipped import *")

    def test_the_last_concrete_class_is_taken(self, executor):
        code = LIGHT + (
            "import abc\n"
            "class Helper(BaseMetric):\n    def score(self): return 0.1\n"
            "class Base(BaseMetric, abc.ABC):\n    @abc.abstractmethod\n    def part(self): ...\n    def score(self): return self.part()\n"
            "class Mine(Base):\n    def part(self): return Helper().score() * 2\n"
            "class Unfinished(Base): pass\n"
        )
        assert scores(executor, code) == [{"name": "Mine", "value": 0.2, "reason": None}]

    def test_an_async_score_is_awaited(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    async def score(self): return 0.5"
        assert scores(executor, code)[0]["value"] == 0.5

    def test_a_metric_that_scores_in_async_only(self, executor):
        code = (
            "class BaseMetric:\n    def score(self): raise NotImplementedError\n    async def ascore(self): return self.score()\n"
            "class Mine(BaseMetric):\n    async def ascore(self): return 0.5"
        )
        assert scores(executor, code)[0]["value"] == 0.5

    def test_the_traceback_of_an_async_metric_is_its_own(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    async def score(self):\n        raise ValueError('boom')"
        lines = executor.execute(code, {})["error"].splitlines()
        assert len(lines) == 4
        assert lines[2].strip() == "raise ValueError('boom')"

    def test_its_exception_is_a_400_with_its_own_frames(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, a):\n        return a.missing"
        answer = executor.execute(code, {"a": 1})
        assert answer["code"] == 400
        assert "return a.missing" in answer["error"]
        assert "isolated_magic" not in answer["error"]

    def test_an_argument_it_does_not_take_is_a_400(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self, a): return 1"
        answer = executor.execute(code, {"a": 1, "b": 2})
        assert answer["code"] == 400
        assert "unexpected keyword argument 'b'" in answer["error"]

    def test_what_it_returned_is_named_when_it_is_no_score(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self): return 'good'"
        assert "Mine.score() returned a str" in refusal(executor, code)

    def test_after_sys_exit_no_metric_is_made(self, executor):
        code = LIGHT + "class Mine(BaseMetric):\n    def score(self): return 1\nraise SystemExit"
        assert "sys.exit()" in refusal(executor, code)


class TestRealOpik:
    def test_a_subclass_of_base_metric(self, executor):
        code = """
            from typing import Any
            from opik.evaluation.metrics import BaseMetric, Equals
            from opik.evaluation.metrics.score_result import ScoreResult

            class Shorter(BaseMetric):
                def __init__(self):
                    super().__init__(name="shorter")

                def score(self, output: str, reference: str, **ignored: Any) -> ScoreResult:
                    return ScoreResult(name=self.name, value=float(len(output) < len(reference)), reason="by length")
        """
        (score,) = scores(executor, code, {"output": "a", "reference": "abc", "id": 3})
        assert score == {
            "name": "shorter",
            "value": 1.0,
            "reason": "by length",
            "category_name": None,
            "metadata": None,
            "scoring_failed": False,
        }

    def test_trace_thread(self, executor):
        code = """
            from opik.evaluation.metrics import base_metric, score_result

            class Turns(base_metric.BaseMetric):
                def score(self, thread):
                    return [score_result.ScoreResult("turns", len(thread)), score_result.ScoreResult("ok", 1, scoring_failed=True)]
        """
        found = scores(executor, code, [{"role": "user", "content": "hi"}] * 3, payload_type="trace_thread")
        assert [(score["name"], score["value"], score["scoring_failed"]) for score in found] == [
            ("turns", 3, False),
            ("ok", 1, True),
        ]

    def test_a_shipped_metric_as_the_last_expression(self, executor):
        code = "from opik.evaluation.metrics import Equals\nEquals(track=False).score(**data)"
        (score,) = scores(executor, code, {"output": "a", "reference": "a"})
        assert (score["name"], score["value"]) == ("equals_metric", 1.0)

    def test_no_network_call_that_the_code_did_not_ask_for(self, executor):
        code = """
            import socket
            tried = []
            def refuse(self, address, *_): tried.append(address); raise OSError("no network here")
            socket.socket.connect = refuse
            from opik.evaluation.metrics import Contains
            Contains(track=False).score(output="abc", reference="b")
            import atexit, json, threading
            print(json.dumps({"tried": [str(one) for one in tried]}))
        """
        assert executor.execute(textwrap.dedent(code), {}) == {"tried": []}
