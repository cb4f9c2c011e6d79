"""What a result is to the code of a user, and to a test."""

import dataclasses
import json
import math
import subprocess
import sys

import pytest

from isolated_magic import InvalidRequestError, NoSuchScoreError
from isolated_magic.models import ErrorKind, RunError, RunResult, Score, parse_scores


def result_of(*scores, **rest):
    payload = {"scores": list(scores), **rest}
    return RunResult(payload=payload, scores=parse_scores(payload), exit_status=0)


A, B = {"name": "a", "value": 0.5, "reason": "half", "metadata": {"k": 1}}, {"name": "b", "value": math.nan}


def test_a_score_by_its_name():
    result = result_of(A, B)
    assert result["a"] == Score("a", 0.5, reason="half", metadata={"k": 1})
    assert math.isnan(result["b"].value)


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (result_of(A, B), "There is no score 'c' among those of the run: 'a', 'b'."),
        (result_of(), "There is no score 'c' among those of the run: none at all."),
        (
            result_of(*[{"name": "c", "value": 1}] * 2),
            "result['c'] is ambiguous: 2 scores are called 'c'. result.scores has them in order, "
            "result.to_pandas() as a table.",
        ),
        (
            result_of(*[{"name": name, "value": 1} for name in ["words", "C!", "words", "chars"] * 30]),
            "There is no score 'c' among those of the run: 'C!' (30), 'words' (60), 'chars' (30).",
        ),
        (
            result_of(*[{"name": f"name {n}", "value": 1} for n in range(5000)]),
            f"There is no score 'c' among those of the run: {', '.join(repr(f'name {n}') for n in range(10))}, "
            "and 4,990 more names.",
        ),
        (
            RunResult(error=RunError.from_text(ErrorKind.DIED, "The process died.")),
            "There is no score 'c': the run failed (The process died.).",
        ),
    ],
)
def test_a_name_that_leads_to_no_score(result, said):
    with pytest.raises(NoSuchScoreError) as caught:
        result["c"]
    assert str(caught.value) == said
    assert isinstance(caught.value, KeyError)


def test_to_dict():
    assert result_of(A, model="m").to_dict() == {"scores": [A], "model": "m"}
    assert RunResult(error=RunError.from_text(ErrorKind.DIED, "dead")).to_dict() == {"code": 500, "error": "dead"}


def test_to_dict_without_what_strict_json_cannot_hold():
    deep = [math.nan]
    for _ in range(2000):
        deep = [deep]
    result = result_of(
        {"name": "a", "value": math.nan},
        {"name": "b", "value": -math.inf, "metadata": {"x": [1.5, math.inf, "NaN", {"y": math.nan}]}},
        deep=deep,
    )
    plain = result.to_dict(nan="null")
    innermost = plain.pop("deep")
    for _ in range(2000):
        (innermost,) = innermost
    assert innermost == [None]
    assert json.loads(json.dumps(plain, allow_nan=False)) == {
        "scores": [
            {"name": "a", "value": None},
            {"name": "b", "value": None, "metadata": {"x": [1.5, None, "NaN", {"y": None}]}},
        ]
    }
    assert math.isnan(result.to_dict()["scores"][0]["value"])
    assert math.isnan(result.payload["scores"][0]["value"])
    failed = RunResult(error=RunError.from_text(ErrorKind.DIED, "dead"))
    assert failed.to_dict(nan="null") == {"code": 500, "error": "dead"}
    with pytest.raises(InvalidRequestError, match="give one of 'float', 'null'"):
        result.to_dict(nan="text")


@pytest.mark.parametrize(
    ("said", "passed", "threshold"),
    [
        ({}, None, None),
        ({"passed": True, "threshold": 0.5}, True, 0.5),
        ({"passed": "false", "threshold": "high"}, False, None),
        ({"passed": None, "threshold": True}, None, None),
    ],
)
def test_what_a_metric_lets_pass(said, passed, threshold):
    (score,) = result_of({"name": "a", "value": 0.25, **said})
    assert (score.passed, score.threshold) == (passed, threshold)
    assert (f"passed={passed}" in repr(score)) == (passed is not None)


def test_to_pandas():
    frame = result_of(A, B, {"name": "c", "value": "high", "scoring_failed": True}).to_pandas()
    fields = ["name", "value", "reason", "category_name", "metadata", "scoring_failed", "passed", "threshold"]
    assert list(frame.columns) == fields
    assert list(frame.name) == ["a", "b", "c"]
    assert frame.value[0] == 0.5
    assert list(frame.scoring_failed) == [False, False, True]
    assert list(result_of().to_pandas().columns) == list(frame.columns)


def test_without_pandas_it_says_how_to_get_it():
    program = (
        "import sys; sys.modules['pandas'] = None\n"
        "from isolated_magic import MissingLibraryError, RunResult\n"
        "try: RunResult().to_pandas()\n"
        "except MissingLibraryError as problem: print(isinstance(problem, ImportError), problem)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "True to_pandas() needs pandas, which is not installed: pip install 'isolated-magic[notebooks]', "
        "or pandas by itself: pip install pandas\n"
    )


class TestEquality:
    def test_pid_launch_and_timings_do_not_count(self):
        one = result_of(A)
        assert one == dataclasses.replace(one, pid=5, launch="cold")

    def test_nan_equals_itself(self):
        assert result_of({"name": "b", "value": float("nan")}) == result_of({"name": "b", "value": float("nan")})

    @pytest.mark.parametrize(
        "change", [{"stdout": "x"}, {"stderr": "x"}, {"exit_status": 1}, {"payload": {"scores": []}}]
    )
    def test_all_else_does(self, change):
        assert result_of(A) != dataclasses.replace(result_of(A), **change)
        assert result_of(A) != "a"

    def test_two_runs_of_the_same_code(self, executor):
        code = "print('out')\n{'scores': [{'name': 'a', 'value': float('nan')}]}"
        assert executor.run(code) == executor.run(code)
        assert executor.run("1/0") == executor.run("1/0")
        assert executor.run("1") != executor.run("2")


class TestRepr:
    def test_it_says_what_a_failing_test_should_show_and_nothing_that_differs(self):
        failed = {"name": "t", "value": 0, "scoring_failed": True}
        result = dataclasses.replace(result_of(A, failed), pid=123, launch="cold")
        assert repr(result) == "RunResult(scores={'a': 0.5, 't': FAILED}, exit_status=0)"
        error = RunResult(error=RunError.from_text(ErrorKind.TIMEOUT, "Execution timed out after 1 seconds"))
        assert repr(error) == (
            "RunResult(error='Execution timed out after 1 seconds', kind='timeout', exit_status=None)"
        )
        assert repr(RunResult(payload={"b": 1})) == "RunResult(payload={'b': 1}, exit_status=None)"

    def test_it_is_short(self):
        many = [{"name": "n" * 1000, "value": "v" * 1000} for _ in range(100)]
        assert len(repr(result_of(*many))) < 1500
        assert "100 in all" in repr(result_of(*many))
        deep = []
        for _ in range(500):
            deep = [deep]
        assert len(repr(RunResult(payload={"deep": deep, "long": "x" * 10_000}))) < 300

    def test_a_score(self):
        assert repr(Score("a", 1)) == "Score('a', 1)"
        assert (
            repr(Score("a", 1, reason="r", scoring_failed=True))
            == "Score('a', 1, reason='r', scoring_failed=True)"
        )


def test_a_result_is_a_collection_of_its_scores():
    result = RunResult(payload={}, scores=(Score("a", 1), Score("b", 2)))
    assert "a" in result
    assert "c" not in result
    assert [score.name for score in result] == ["a", "b"]
    assert RunResult(payload={})  # one without scores is not false


def test_equality_of_results_of_great_depth():
    payload = json.loads('{"a":' + "[" * 900 + "NaN" + "]" * 900 + "}")
    assert RunResult(payload=payload) == RunResult(payload=payload)
    assert RunResult(payload=payload) != RunResult(payload={"a": []})


@pytest.mark.parametrize(
    ("said", "is_failed"),
    [(True, True), (1, True), ("true", True), (False, False), ("false", False), (0, False), (None, False)],
)
def test_what_says_that_scoring_failed(said, is_failed):
    assert Score.from_json({"name": "a", "value": 1, "scoring_failed": said}).scoring_failed is is_failed


def test_a_result_is_true_when_the_run_has_one():
    assert result_of(A)
    assert result_of()  # it has no length: a result without scores is one, too
    assert not RunResult(error=RunError.from_text(ErrorKind.DIED, "The process died."))
