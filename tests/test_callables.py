"""Functions, classes and objects of plain Python on the last line: they are called with the keys of the data they take."""

import pytest

from isolated_magic import ProcessExecutor
from tests.runs import LIGHT, as_text, refusal, run_cell, scores

ROW = {"output": "yes", "reference": "yes", "id": 3}
CLOSE = "def closeness(output, reference):\n    return float(output == reference)\n"


def found(executor, code, data=ROW, **settings):
    """Names and values."""
    return [(score["name"], score["value"]) for score in scores(executor, code, data, **settings)]


def refused(executor, code, data=ROW, **settings):
    """The summary and the hint of the error."""
    result = run_cell(executor, code, data=data, **settings)
    assert result.error is not None, result.payload
    assert result.error.code == 400, result.error.text
    assert "isolated_magic" not in result.error.text
    return result.error.summary, result.error.hint


class TestFunctions:
    @pytest.mark.parametrize(
        ("code", "expected"),
        [
            (CLOSE + "closeness", ("closeness", 1.0)),
            ("async " + CLOSE + "closeness", ("closeness", 1.0)),
            ("near = lambda output: len(output)\nnear", ("near", 3)),
            ("lambda output: len(output)", ("score", 3)),
            ("def f(**data): return len(data)\nf", ("f", 3)),
            ("def f(output, **rest): return len(rest)\nf", ("f", 2)),
            ("def f(output, /, *, id=0): return id\nf", ("f", 3)),
            ("def f(output, k=0.5): return k\nf", ("f", 0.5)),
            ("def f(): return 0.5\nf", ("f", 0.5)),
            ("from functools import partial\ndef f(output, id): return id\npartial(f, id=0.5)", ("f", 0.5)),
            (
                "from functools import partial\ndef f(output, id): return id\nhalf = partial(f, id=0.5)\nhalf",
                ("half", 0.5),
            ),
            ("from functools import cache\n@cache\ndef f(output): return 0.5\nf", ("f", 0.5)),
            ("class C:\n    def near(self, output): return 0.5\nC().near", ("near", 0.5)),
            ("class C:\n    @staticmethod\n    def near(output): return 0.5\nC.near", ("near", 0.5)),
            ("class C:\n    def score(self, output): return 0.5\nC().score", ("C", 0.5)),
            ("def f(output): return {'scores': [{'name': 'mine', 'value': 0.5}]}\nf", ("mine", 0.5)),
            ("def f(output): return True\nf", ("f", 1.0)),
            ("len", ("len", 3)),
        ],
    )
    def test_it_is_called_with_the_keys_that_it_takes(self, executor, code, expected):
        assert found(executor, code) == [expected]

    def test_an_imported_one_too(self, executor, tmp_path, monkeypatch):
        (tmp_path / "helpers_of_mine.py").write_text(CLOSE)
        monkeypatch.chdir(tmp_path)
        assert found(executor, "from helpers_of_mine import closeness\ncloseness") == [("closeness", 1.0)]
        assert found(executor, "from operator import eq\neq", {"a": 1, "b": 1}) == [("eq", 1.0)]
        assert found(executor, "import math\nmath.sqrt", {"x": 4}) == [("sqrt", 2.0)]

    @pytest.mark.parametrize(
        "name", ["data", "row", "item", "d", "sample", "mine: dict", "mine: 'dict[str, str]'"]
    )
    def test_one_whose_parameter_means_the_whole_gets_all_of_the_data(self, executor, name):
        assert found(executor, f"def size({name}): return len({name.partition(':')[0]})\nsize") == [("size", 3)]

    def test_a_key_of_that_name_comes_first(self, executor):
        assert found(executor, "def size(data): return len(data)\nsize", {"data": "yes", "a": 1}) == [("size", 3)]

    def test_a_thread_is_its_argument(self, executor):
        thread = [{"role": "user"}, {"role": "assistant"}]
        for parameters in ("thread", "*args", "*, thread", "thread, k=1"):
            name = parameters.strip("*, ").partition(",")[0].replace("args", "args[0]")
            code = f"def size({parameters}): return len({name})\nsize"
            assert found(executor, code, thread, payload_type="trace_thread") == [("size", 2)]
        summary, _ = refused(executor, CLOSE + "closeness", thread, payload_type="trace_thread")
        assert summary == (
            "TypeError: closeness() cannot be called with the data alone: it takes output, reference."
        )

    def test_a_parameter_that_the_data_lacks_is_named_with_the_closest_key(self, executor):
        assert refused(executor, CLOSE + "closeness", {"answer": "a", "reference": "b"}) == (
            "TypeError: closeness() needs output, which is not in the data (answer, reference).",
            'Map it: data={"output": row["answer"]}',
        )
        assert refused(executor, CLOSE + "closeness", {"answer": "a", "expected": "b"})[1] == (
            'Map them: data={"output": row["answer"], "reference": row["expected"]}'
        )
        summary, hint = refused(executor, CLOSE + "closeness", {})
        assert (
            summary == "TypeError: closeness() needs output, reference, which are not in the data, which is empty."
        )
        assert hint == 'Hand it over: data={"output": ...}'

    def test_a_key_that_a_default_stood_in_for_is_a_note(self, executor):
        result = executor.run("def f(output, expected=None): return 1\nf", ROW)
        assert result.notes == (
            "f() does not take reference, and expected is not in the data: its default was used. "
            'Map it: data={"expected": row["reference"]}',
        )
        assert executor.run("def f(output, limit=3): return 1\nf", ROW).notes == ()

    def test_its_exception_has_its_own_traceback(self, executor):
        summary, _ = refused(executor, "def f(output):\n    return 1 / 0\nf")
        assert summary == "ZeroDivisionError: division by zero (line 3)"

    def test_what_it_returned_is_named(self, executor):
        assert "f() returned a bytes" in refusal(executor, "def f(output): return b'x'\nf", ROW)
        assert "f() returned None" in refusal(executor, "def f(output): pass\nf", ROW)

    def test_several(self, executor):
        code = CLOSE + "async def size(output): return len(output)\nclass M:\n    def score(self, id): return id\n"
        expected = [("closeness", 1.0), ("size", 3), ("M", 3)]
        for ending in ("[closeness, size, M]", "(closeness, size, M())"):
            assert found(executor, code + ending) == expected
        assert found(executor, code + "{'a': closeness, 'b': size, 'c': M()}") == [("a", 1.0), ("b", 3), ("c", 3)]
        assert "a list of metrics whose item 1 is an int" in refusal(executor, code + "[closeness, 3]", ROW)
        assert "a dict of metrics whose value 'b' is an int" in refusal(
            executor, code + "{'a': closeness, 'b': 3}", ROW
        )


class TestOnlyDefined:
    def test_it_is_not_called_and_the_error_names_it(self, executor):
        code = CLOSE + "def helper(text): raise ValueError\ndef _private(output): raise ValueError\n"
        result = executor.run(code, ROW)
        assert result.notes == ("closeness was only defined: as the last line, it scores.",)
        assert result.error.code == 500
        assert result.error.text.endswith("\ncloseness was only defined: as the last line, it scores.")
        assert executor.execute(code + "print('x')", ROW)["error"].endswith("as the last line, it scores.")

    def test_a_class_with_such_a_method_likewise(self, executor):
        result = executor.run("class M:\n    def score(self, output): return 1", ROW)
        assert result.notes == ("M was only defined: as the last line, it scores.",)

    def test_nothing_is_said_where_there_is_a_result(self, executor):
        assert executor.run(CLOSE + "0.5", ROW).notes == ()
        assert (
            executor.run(LIGHT + CLOSE + "class M(BaseMetric):\n    def score(self, **_): return 1", ROW).notes
            == ()
        )

    def test_an_imported_one_is_not_meant(self, executor):
        assert executor.run("from textwrap import dedent", ROW).notes == ()

    def test_in_a_cell(self, executor):
        assert "closeness was only defined" in as_text(run_cell(executor, CLOSE, data=ROW))


class TestObjects:
    @pytest.mark.parametrize("method", ["score", "measure", "evaluate", "__call__"])
    @pytest.mark.parametrize("ending", ["M", "M()", "m = M()\nm"])
    @pytest.mark.parametrize("define", ["def", "async def"])
    def test_its_method_is_called(self, executor, method, ending, define):
        code = f"class M:\n    {define} {method}(self, output): return len(output)\n{ending}"
        assert found(executor, code) == [("M", 3)]

    def test_its_name_is_that_of_the_score(self, executor):
        code = "class M:\n    def __init__(self, name='near'): self.name = name\n    def score(self, output): return 1\n"
        assert found(executor, code + "M") == [("near", 1)]
        assert found(executor, code + "[M('a'), M('b')]") == [("a", 1), ("b", 1)]

    def test_a_missing_key_is_named(self, executor):
        code = "class M:\n    def score(self, answer): return 1\nM"
        assert refused(executor, code) == (
            "TypeError: M.score() needs answer, which is not in the data (output, reference, id).",
            'Map it: data={"answer": row["output"]}',
        )

    def test_a_class_that_cannot_be_made_without_arguments(self, executor):
        summary, hint = refused(
            executor, "class M:\n    def __init__(self, k): pass\n    def score(self): return 1\nM"
        )
        assert summary == "TypeError: M cannot be made without arguments: it needs k."
        assert hint == "End the code with the metric that is to score: M(k=...)"

    @pytest.mark.parametrize(
        "code",
        [
            "object()",
            "class M: pass\nM",
            "class M:\n    score = 0.5\nM",
            "import abc\nclass M(abc.ABC):\n    @abc.abstractmethod\n    def score(self): ...\nM",
            "str",
        ],
    )
    def test_what_cannot_score_is_no_metric(self, executor, code):
        assert "the value of the last line is" in refusal(executor, code, ROW)

    def test_an_object_of_a_library_scores_only_with_what_the_data_has(self, executor):
        code = "import difflib\nclass L(difflib.SequenceMatcher): pass\nL()"
        assert "the value of the last line is a L" in refusal(executor, code, ROW)

    def test_an_object_that_is_a_result_is_one(self, executor):
        code = (
            "from dataclasses import dataclass\n@dataclass\nclass R:\n    name: str\n    value: float\n"
            "    def score(self): return 0\nR('r', 0.5)"
        )
        assert found(executor, code) == [("r", 0.5)]


class TestLangsmithShapes:
    """Evaluators of LangSmith are plain functions: without the library they get objects of the same shape."""

    CODE = "def right(run, example): return run.outputs['a'] == example.outputs['a'] and run.inputs == example.inputs\nright"

    @pytest.mark.parametrize(
        "data",
        [
            {"inputs": {"q": 1}, "outputs": {"a": 1}, "reference_outputs": {"a": 1}},
            {"run": {"outputs": {"a": 1}}, "example": {"outputs": {"a": 1}}},
            {"outputs": {"a": 1}, "example": {"outputs": {"a": 1}}},
        ],
    )
    def test_run_and_example(self, executor, data):
        assert found(executor, self.CODE, data) == [("right", 1.0)]

    def test_missing_outputs_are_named(self, executor):
        summary, hint = refused(executor, self.CODE, {"outputs": {"a": 1}, "expected": {"a": 1}})
        assert (
            summary == "TypeError: right() needs reference_outputs, which is not in the data (outputs, expected)."
        )
        assert hint == 'Map it: data={"reference_outputs": row["expected"]}'
        result = executor.run(self.CODE, {"outputs": {"a": 1}})
        assert "'NoneType' object is not subscriptable" in result.error.text
        assert result.error.hint.startswith("reference_outputs is not in the data (outputs): None was passed.")


def test_a_worker_calls_them_again_and_again():
    with ProcessExecutor(60, workers=1) as executor:
        for _ in range(4):
            assert found(executor, CLOSE + "closeness") == [("closeness", 1.0)]
            assert "needs output" in refused(executor, CLOSE + "closeness", {"answer": 1})[0]
            assert found(executor, "async def f(output): return 0.5\n[f, f]") == [("f", 0.5)] * 2
