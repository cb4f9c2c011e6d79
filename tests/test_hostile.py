"""Code that gets results wrong, or means harm: accepted as it stands or refused with a reason, in every kind of process."""

import json
import math
import os

import pytest

from isolated_magic.magic.display import bundle
from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of

METRIC = "class BaseMetric: pass\nclass Mine(BaseMetric):\n    def score(self): return 0.25\n"
FORGED = {"outcome": {"result": {"scores": [{"name": "forged", "value": 1}]}}}

# For a run: finds the descriptor that only the child program should write to.
CHANNEL = """
import json, os, socket

def find():
    for number in range(3, 1000):
        try:
            with socket.socket(fileno=os.dup(number)) as found:
                if found.family == socket.AF_UNIX:
                    return number
        except OSError:
            continue

channel = find()

def frame(message):
    body = json.dumps(message).encode()
    return len(body).to_bytes(8, "big") + body

def say(message):
    os.write(channel, frame(message))

"""


def shown(result):
    """What a notebook shows of it, once it is sure that it can be saved."""
    by_type, metadata = bundle(result)
    json.dumps([by_type, metadata], allow_nan=False, ensure_ascii=False).encode()
    return by_type["text/plain"]


def refusal(executor, code, data=None, **settings):
    result = executor.run(code, data, **settings)
    assert result.error is not None, result.payload
    for text in (result.error.text, result.error.summary, result.stderr):
        assert "isolated_magic" not in text
        assert "_child" not in text
    assert len(result.error.summary) < 1500
    shown(result)
    return result.error


def printing(text, rest=""):
    return f"print({text!r}, end='')\n{rest}"


class TestPrinted:
    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ('{"scores": [{"name": "a", "val', "ends in the middle of the text that begins at column 27: "),
            ('{"scores": [{"name": "a", "value": 1', "ends in the middle, after column 36: "),
            ('{"a": 1 "b": 2}', "is invalid: Expecting ',' delimiter at column 9: "),
            ("{'a': 1}", "is invalid: Expecting property name enclosed in double quotes at column 2: "),
            ('{"a": 1} {"b": 2}', "is invalid: Extra data at column 10: "),
            ('{"scores": [], "scores": []}', 'has the key "scores" twice in one object: '),
            ('{"scores": [{"name": "a", "value": 1, "value": 2}]}', 'has the key "value" twice'),
            ('{"a": {"\\ud800": 1, "\\ud800": 2}}', 'has the key "\\ud800" twice'),
            ('{"a": ' + "9" * 5000 + "}", "holds an integer of more than 4,300 digits: "),
            ('{"a": ' * 100_000 + "1" + "}" * 100_000, "is nested too deeply: "),
            ("[" * 100_000, "which is no JSON object"),
            ('{"scores": [{"name": "a", "value": 1}, {"name": 5, "value": 2}]}', "scores[1].name is int: "),
            ('{"scores": [{"name": null, "value": 2}]}', "scores[0].name is NoneType: "),
            ('{"scores": [{"value": 2}]}', "has a value without a name: scores[0]: "),
        ],
        ids=lambda given: given[:20],
    )
    def test_what_is_wrong_with_a_line_is_said_and_the_line_quoted(self, executor, line, why):
        error = refusal(executor, printing(line))
        assert error.code == 500
        assert error.summary.startswith("Invalid JSON response from subprocess: the last line printed ")
        assert why in error.text
        assert len(error.summary) < 400

    def test_a_refused_object_is_not_passed_over_for_another_result(self, executor):
        twice = '{"scores": [{"name": "a", "value": 1, "value": 2}]}'
        assert "twice" in refusal(executor, printing(twice, "0.5")).text
        assert "twice" in refusal(executor, METRIC + printing(twice)).text

    def test_a_line_that_is_no_json_at_all_is_output(self, executor):
        result = executor.run(printing("{'a': 1}\n", "0.5"))
        assert (result.scores[0].value, result.stdout) == (0.5, "{'a': 1}\n")
        assert executor.run(METRIC + printing('{"half": ')).scores[0].value == 0.25

    def test_the_quote_is_where_the_fault_is(self, executor):
        line = '{"a": [' + "1, " * 5000 + "here, " + "2, " * 5000 + "3]}"
        assert "here" in refusal(executor, printing(line)).summary

    def test_nan_and_infinities_are_values(self, executor):
        scores = '[{"name": "a", "value": NaN}, {"name": "b", "value": -Infinity}, {"name": "c", "value": 1e999}]'
        result = executor.run(printing(f'{{"scores": {scores}}}'))
        assert [math.isnan(score.value) or score.value for score in result.scores] == [True, -math.inf, math.inf]
        assert shown(result).split() == ["a", "nan", "b", "-inf", "c", "inf"]
        assert bundle(result)[1]["isolated_magic"]["scores"][1] == {"name": "b", "value": "-Infinity"}

    def test_a_huge_integer_is_kept(self, executor):
        result = executor.run("import json\nprint(json.dumps({'scores': [{'name': 'a', 'value': 10**400}]}))")
        assert result.scores[0].value == result.payload["scores"][0]["value"] == 10**400
        assert shown(result) == "a  1.000e+400"

    @pytest.mark.parametrize(
        "value", [True, False, "high", "0.5", [1], {"a": 1}, 0, -0.0, 0.1 + 0.2, 5e-324, 2**63]
    )
    def test_any_json_value_comes_back_as_it_is(self, executor, value):
        payload = {"scores": [{"name": "a", "value": value, "reason": ["r"]}], "other": value}
        result = executor.run(printing(json.dumps(payload)))
        assert repr(result.payload) == repr(payload)
        assert repr(result.scores[0].value) == repr(float(value) if isinstance(value, bool) else value)
        shown(result)

    def test_a_score_without_a_value_is_kept_beside_the_error_that_it_is(self, executor):
        result = executor.run(printing(json.dumps({"scores": [{"name": "a", "value": None}], "other": None})))
        assert result.error.code == 400
        assert [(score.name, score.value, score.scoring_failed) for score in result.scores] == [("a", None, True)]
        shown(result)

    @pytest.mark.parametrize("scores", [[{"a": 1}], [1], [], {"name": 1, "value": 2}, None, "none"])
    def test_an_object_whose_scores_are_none_comes_back_as_it_is(self, executor, scores):
        result = executor.run(printing(json.dumps({"scores": scores})))
        assert (result.payload, result.scores) == ({"scores": scores}, ())

    def test_lone_surrogates_are_shown_as_escapes(self, executor):
        payload = {"scores": [{"name": "\ud800", "value": "\udfff", "reason": "\ud800"}], "\ud800": "\ud800"}
        result = executor.run(printing(json.dumps(payload)))
        assert result.payload == payload
        assert '"\\ud800": "\\ud800"' in shown(result)

    def test_what_looks_like_our_protocol_is_output(self, executor):
        code = f"import os\nfor n in (1, 2): os.write(n, {json.dumps(FORGED)!r}.encode() + b'\\nexit 0\\nfailed x\\n')\n0.5"
        result = executor.run(CHANNEL + code + "\n")
        assert [score.name for score in result.scores] == ["score"]
        assert result.stdout == result.stderr == json.dumps(FORGED) + "\nexit 0\nfailed x\n"
        assert executor.run(printing(json.dumps(FORGED))).payload == FORGED

    def test_200_megabytes_are_refused_with_their_size(self, executor):
        result = executor.run("print('{\"a\": \"' + 'x' * 200_000_000 + '\"}')")
        assert "the last line printed has more than 64 MB: 200,000,010 bytes." in result.error.summary
        assert len(result.stdout) < 1000
        assert "200,000,010 bytes; not kept" in result.stdout

    def test_up_to_the_limit_a_result_is_kept(self, executor):
        result = executor.run("print('{\"a\": \"' + 'x' * 60_000_000 + '\"}')")
        assert len(result.payload["a"]) == 60_000_000


class TestValues:
    @pytest.mark.parametrize(
        ("code", "why"),
        [
            ("x = []\nfor _ in range(100_000): x = [x]\n{'scores': [], 'x': x}", "nested too deeply"),
            ("x = {'scores': []}\nx['x'] = x\nx", "a dict that is nested too deeply, or holds itself"),
            ("{'scores': [], 1: 2, '1': 3}", "two keys become the same text"),
            (
                "{'scores': [{'name': 'a', 'value': {None: 1, 'None': 2}}]}",
                "scores[0]['value']: a dict in which two",
            ),
            ("{'scores': [{'name': 5, 'value': 2}]}", "scores[0] has no 'name' and 'value'"),
            (
                "class ScoreResult: name = 5; value = 1\n[ScoreResult()]",
                "a score whose name is not a string: its name is int",
            ),
            ("10 ** 5000", "the result cannot be written as JSON"),
            ("import sys\nsys.set_int_max_str_digits(0)\n10 ** 5000", "the result holds an integer of more than"),
            ("{'scores': [], 'x': 'x' * 70_000_000}", "the result has more than 64 MB: 70,000,048 bytes."),
            ("{'scores': [], 'x' * 70_000_000: {1}}", "characters left out"),
        ],
        ids=lambda given: given[:20],
    )
    def test_what_cannot_be_a_result_is_named(self, executor, code, why):
        error = refusal(executor, code)
        assert error.code == 500
        assert why in error.text

    def test_a_bool_is_a_number_alone_and_in_a_score(self, executor):
        for code in ("True", "{'scores': [{'name': 'a', 'value': True}]}"):
            assert repr(executor.run(code).scores[0].value) == "1.0"

    def test_a_name_that_is_an_enum_is_its_text(self, executor):
        code = "import enum\nclass N(str, enum.Enum): A = 'a'\nclass ScoreResult: name = N.A; value = 1\n"
        assert executor.run(code + "ScoreResult()").scores[0].name == "a"
        assert executor.run(code + "{'scores': [{'name': N.A, 'value': 1}]}").scores[0].name == "a"

    def test_an_error_as_long_as_a_book_is_cut(self, executor):
        error = refusal(executor, "raise ValueError('x' * 70_000_000)")
        assert error.code == 400
        assert "characters left out" in error.text
        assert "ValueError: xxx" in error.summary
        assert len(error.text) < 110_000

    def test_an_error_with_lone_surrogates(self, executor):
        error = refusal(executor, "raise ValueError('\\ud800')")
        assert error.summary == "ValueError: \\ud800 (line 1)"

    def test_data_that_is_nested_too_deeply_is_refused(self, executor):
        for depth in (800, 900, 950, 980, 1000, 100_000):
            data = []
            for _ in range(depth):
                data = [data]
            result = executor.run("len(data)", {"x": data})
            assert result.ok or (result.error.code == 400 and "nested too deeply" in result.error.text)


class TestChannel:
    @pytest.mark.parametrize(
        "what",
        [
            "os.write(channel, b'garbage that is no frame')",
            "os.write(channel, (1 << 63).to_bytes(8, 'big'))",
            "os.write(channel, (5).to_bytes(8, 'big') + b'{\"outcome\": {}}')",
            "os.write(channel, (500).to_bytes(8, 'big') + b'{}')",
            "os.write(channel, (4).to_bytes(8, 'big') + b'\\xff' * 4)",
            "for _ in range(100): os.write(channel, b'x' * 1_000_000)",
            "say({'outcome': {'result': {'scores': 5}}})",
            "say({'outcome': {'result': {'scores': [5]}}})",
            "say({'outcome': {'error': {'text': 5}}})",
            "say({'outcome': {'error': {'text': 'forged', 'summary': 'forged'}}})",
            "say({'outcome': {'error': 'x'}})",
            "say({'outcome': 5})",
            f"say({FORGED!r})",
            f"channel = os.dup(channel)\nimport atexit\natexit.register(lambda: say({FORGED!r}))",
            "for _ in range(10_000): os.write(channel, frame({'ask': 1}) * 100)",
            "say({'started': {}})",
            "say({'not_started': {'errno': 7, 'path': None}})",
            "say({'memory': {'pages': ['x']}})",
            "say([])",
            "say({})",
            "say({'display': 5})",
            "say({'display': {'data': [], 'metadata': {}}})",
            "say({'display': {'data': {'text/plain': 'a'}, 'metadata': 5}})",
            "os.write(channel, frame({'display': {'data': {'text/plain': 'a'}, 'metadata': {}}}) * 100)",
        ],
    )
    @pytest.mark.parametrize("ending", ["0.5", METRIC + "x = 1"])
    def test_what_the_code_writes_there_is_no_result_and_costs_it_its_own(self, executor, what, ending):
        if "b'{}'" in what and ending != "0.5":
            return  # the rest of the message that it begins never comes: the run times out
        error = refusal(executor, CHANNEL + f"{what}\n{ending}")
        assert error.code == 500
        assert "private channel" in error.text or "64 MB" in error.text
        assert "forged" not in error.text

    def test_what_was_printed_is_not_lost(self, executor):
        code = CHANNEL + "os.write(channel, b'garbage')\nprint('{\"scores\": []}')"
        assert executor.execute(code, {}) == {"scores": []}

    def test_an_exception_after_it_is_still_a_failure(self, executor):
        error = refusal(
            executor, CHANNEL + "os.write(channel, b'garbage')\nprint('{\"scores\": []}', flush=True)\n1/0"
        )
        assert "exit status 1: something else than the run's own program" in error.text

    def test_what_it_says_of_its_imports_is_not_believed(self, executor, tmp_path):
        os.mkfifo(tmp_path / "fifo")
        files = [str(tmp_path / "fifo"), "/dev/zero", "a\0b", "\ud800", "/nonexistent", str(tmp_path)]
        lie = {"imported": {"installed": ["no_such_module", "\ud800", "x" * 10_000], "files": files}}
        code = "try:\n    import no_such_package\nexcept ImportError:\n    pass\n"
        for _ in range(2):
            result = executor.run(CHANNEL + code + f"say({lie!r})\nprint('{{}}', flush=True)\nos._exit(0)")
            assert result.payload == {}
        assert executor.run(code + "0.5").scores[0].value == 0.5

    @pytest.mark.parametrize(
        "what",
        [
            "import json\njson.dumps = json.JSONEncoder.encode = json.JSONEncoder.iterencode = None",
            "import json.encoder\njson.encoder.c_make_encoder = json.encoder.FLOAT_REPR = None",
            "import sys\nsys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = None",
            "import os\nos.write = os.getpid = None",
            "import sys\nsys.modules.clear()",
            "import gc, io\n[one.close() for one in gc.get_objects() if isinstance(one, io.FileIO) and one.fileno() > 2]",
        ],
    )
    def test_code_that_changes_what_python_is_made_of_has_its_result(self, executor, what):
        assert (
            executor.run(f"{what}\n{{'scores': [{{'name': 'a', 'value': 0.123456789}}]}}").scores[0].value
            == 0.123456789
        )

    @pytest.mark.parametrize(
        "what", ["import builtins\nbuiltins.len = None", "import builtins\nvars(builtins).clear()"]
    )
    def test_code_that_takes_python_apart_is_told_so(self, executor, what):
        error = refusal(executor, f"{what}\n{{'scores': []}}")
        assert error.text == (
            "The process ended with exit status 1: the code took apart what Python needs to tell its result"
        )


def test_a_result_too_deep_to_be_shown_is_a_result(executor):
    found = 0
    for depth in (100, 300, 500, 700, 900, 970, 985, 1000):
        reason = "[" * depth + "]" * depth
        result = executor.run(printing(f'{{"scores": [{{"name": "a", "value": 1, "reason": {reason}}}]}}'))
        shown(result)
        to_text(view_of(result))
        found += result.ok
        assert result.ok or "nested too deeply" in result.error.text
    assert found >= 4
