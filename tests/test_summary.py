"""The summary of an evaluation: what is counted, what is averaged, and what is said to be missing."""

import json
import math
import random
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from isolated_magic import (
    EvaluationResult,
    IsolatedSubprocessExecutor,
    Limits,
    RowResult,
    RunError,
    Score,
    Timings,
)
from isolated_magic.evaluation.causes import group_failures
from isolated_magic.models import ErrorKind
from tests.time_limits import time_limit_from

FAILED = RunError(ErrorKind.USER_CODE, "KeyError: 'x'", "KeyError: 'x' (line 1)")


def row(index, *scores, error=None, key=None, **more):
    return RowResult(index, key or f"k{index}", {}, scores=scores, error=error, **more)


def evaluation(values, name="relevance", **more):
    """One row for each value; None for a row that failed."""
    rows = [
        row(index, error=FAILED) if value is None else row(index, Score(name, value))
        for index, value in enumerate(values)
    ]
    return EvaluationResult(tuple(rows), **more)


def metric(*rows, name="relevance"):
    return EvaluationResult(tuple(rows)).summary["metrics"][name]


def numbers(count, seed=1):
    source = random.Random(seed)
    return [source.random() for _ in range(count)]


class TestCounts:
    def test_every_row_is_scored_failed_or_unscored(self):
        rows = (
            row(0, Score("a", 1.0), Score("b", 2.0)),
            row(1, Score("a", 0.5)),
            row(2, error=FAILED),
            row(3),  # its result is an object without scores
            row(4, Score("a", math.nan)),
            row(5, Score("tone", "kind")),
        )
        summary = EvaluationResult(rows, not_run=3, stopped="The evaluation was interrupted.").summary
        counts = {name: summary[name] for name in ("rows", "scored", "failed", "unscored", "not_run", "stopped")}
        assert counts == {
            "rows": 6,
            "scored": 3,
            "failed": 1,
            "unscored": 2,
            "not_run": 3,
            "stopped": "The evaluation was interrupted.",
        }
        assert {name: (one["scored"], one["failed"]) for name, one in summary["metrics"].items()} == {
            "a": (2, 4),
            "b": (1, 5),
            "tone": (1, 5),
        }

    def test_no_rows(self):
        summary = EvaluationResult().summary
        assert (summary["rows"], summary["metrics"], summary["failures"], summary["usage"]) == (0, {}, [], {})

    def test_it_is_plain_json_and_computed_once(self):
        result = evaluation([*numbers(20), None], repeat=1)
        assert json.loads(json.dumps(result.summary)) == result.summary
        assert result.summary is result.summary

    def test_of_a_value_that_cannot_be_averaged_the_reason_is_given(self):
        found = metric(
            row(0, Score("relevance", 0.5)),
            row(1, Score("relevance", math.nan)),
            row(2, Score("relevance", math.inf)),
            row(3, Score("relevance", 10**400)),
            row(4, Score("relevance", "high")),
            row(5, Score("relevance", {"a": 1})),
            row(6, Score("relevance", None, "no value: no answer", scoring_failed=True)),
            row(7, Score("other", 1.0)),
            row(8, error=FAILED),
        )
        assert (found["scored"], found["failed"], found["mean"]) == (1, 8, 0.5)
        assert {one["cause"]: one["count"] for one in found["failures"]} == {
            "an infinite value": 2,
            "NaN": 1,
            "text instead of a number": 1,
            "an object instead of a number": 1,
            "no value: no answer": 1,
            "no score of this name": 1,
        }
        assert sum(one["count"] for one in found["failures"]) == found["failed"] - 1  # the one with an error

    def test_each_row_may_have_a_metric_of_its_own(self):
        found = EvaluationResult(tuple(row(n, Score(f"m{n}", 1.0)) for n in range(3000))).summary["metrics"]
        assert len(found) == 3000
        missing = {"cause": "no score of this name", "kind": "no_score", "count": 2999, "keys": ["k0", "k2", "k3"]}
        assert found["m1"]["failures"] == [missing]
        assert (found["m1"]["scored"], found["m1"]["failed"]) == (1, 2999)


class TestFigures:
    def test_a_case_worked_by_hand(self):
        found = metric(*evaluation([0.2, 0.4, 0.6, 0.8, 1.0, None]).rows)
        assert found["mean"] == pytest.approx(0.6)
        assert found["std"] == pytest.approx(math.sqrt(0.1))
        assert found["standard_error"] == pytest.approx(math.sqrt(0.02))
        assert found["interval"] == pytest.approx([0.6 - 2.776445 * 0.141421, 0.6 + 2.776445 * 0.141421], abs=1e-5)
        assert [found[name] for name in ("min", "p50", "p90", "max")] == pytest.approx([0.2, 0.6, 0.92, 1.0])
        assert found["histogram"] == [0, 0, 1, 0, 1, 0, 1, 0, 1, 1]
        assert (found["scored"], found["failed"], found["clusters"]) == (5, 1, 5)
        assert (found["std_within"], found["std_between"], found["pass_rate"]) == (None, None, None)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=50))
    def test_they_are_those_of_numpy_and_scipy(self, values):
        found = metric(*evaluation(values).rows)
        assert found["mean"] == pytest.approx(np.mean(values), abs=1e-9)
        assert found["std"] == pytest.approx(np.std(values, ddof=1), abs=1e-9)
        assert [found["p50"], found["p90"]] == pytest.approx(np.quantile(values, [0.5, 0.9]), abs=1e-9)
        assert sum(found["histogram"]) == len(values)
        if np.std(values) > 1e-6:
            expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
            assert found["interval"] == pytest.approx(expected, rel=1e-6, abs=1e-6)

    def test_one_value_has_no_interval(self):
        found = metric(*evaluation([0.5]).rows)
        assert (found["mean"], found["interval"], found["standard_error"], found["std"]) == (0.5, None, None, None)

    def test_equal_values_have_one_of_no_width(self):
        found = metric(*evaluation([0.1] * 9).rows)
        assert (found["interval"], found["std"]) == ([found["mean"]] * 2, 0)

    def test_several_scores_of_one_name_are_one_value(self):
        found = metric(
            row(0, Score("relevance", 0.2, passed=True), Score("relevance", 0.6, passed=False)),
            row(1, Score("relevance", 1.0, passed=True), Score("relevance", None, scoring_failed=True)),
        )
        assert (found["scored"], found["mean"], found["passed"]) == (2, pytest.approx(0.7), 1)

    def test_verdicts(self):
        verdicts = [True, True, False, None]
        found = metric(*(row(index, Score("relevance", 0.5, passed=one)) for index, one in enumerate(verdicts)))
        assert (found["passed"], found["pass_rate"]) == (2, pytest.approx(2 / 3))

    def test_a_score_with_a_threshold_alone_has_passed_if_it_reaches_it(self):
        values = [0.4, 0.5, 0.6, 0.7]
        found = metric(*(row(n, Score("relevance", value, threshold=0.5)) for n, value in enumerate(values)))
        assert (found["passed"], found["pass_rate"]) == (3, 0.75)
        less = {"direction": "minimize"}
        found = metric(
            *(row(n, Score("relevance", value, threshold=0.5, metadata=less)) for n, value in enumerate(values))
        )
        assert found["passed"] == 2

    def test_labels_are_counted_and_not_averaged(self):
        tones = ["kind", "rude", "kind", "plain"]
        found = metric(*(row(index, Score("tone", tone)) for index, tone in enumerate(tones)), name="tone")
        assert found["labels"] == {"kind": 2, "plain": 1, "rude": 1}
        assert [*found["labels"]] == ["kind", "plain", "rude"]  # the most frequent first
        assert (found["scored"], found["failed"], found["mean"], found["histogram"]) == (4, 0, None, [])

    def test_a_category_beside_a_number(self):
        found = metric(row(0, Score("relevance", 1.0, category_name="good")), row(1, Score("relevance", 0.0)))
        assert (found["mean"], found["labels"]) == (0.5, {"good": 1})


class TestRepetitionsAndClusters:
    def test_identical_repetitions_change_neither_mean_nor_interval(self):
        values = numbers(30)
        once = metric(*evaluation(values).rows)
        often = metric(
            *(row(i, Score("relevance", value), repetition=n) for i, value in enumerate(values) for n in range(4))
        )
        assert often["interval"] == pytest.approx(once["interval"])
        assert (often["mean"], often["clusters"]) == (pytest.approx(once["mean"]), 30)
        assert (often["scored"], often["std_within"]) == (120, 0)
        assert often["std_between"] == pytest.approx(once["std"])

    def test_the_interval_of_repetitions_is_that_of_clusters(self):
        source = random.Random(2)
        values = [[source.random() for _ in range(3)] for _ in range(10)]
        found = metric(
            *(
                row(i, Score("relevance", v), repetition=n)
                for i, some in enumerate(values)
                for n, v in enumerate(some)
            )
        )
        flat = [value for some in values for value in some]
        mean = statistics.fmean(flat)
        total = sum(sum(value - mean for value in some) ** 2 for some in values)
        assert found["mean"] == pytest.approx(mean)
        assert found["standard_error"] == pytest.approx(math.sqrt(total * 10 / 9) / 30)
        assert found["std_within"] == pytest.approx(
            math.sqrt(statistics.fmean(statistics.variance(some) for some in values))
        )
        assert found["std_between"] == pytest.approx(statistics.stdev(map(statistics.fmean, values)))

    def test_a_row_of_which_a_repetition_failed_counts_as_much_as_another(self):
        found = metric(
            row(0, Score("relevance", 1.0)),
            row(0, Score("relevance", 1.0), repetition=1),
            row(1, Score("relevance", 0.0)),
            row(1, error=FAILED, repetition=1),
        )
        assert (found["mean"], found["scored"], found["failed"], found["clusters"]) == (0.5, 3, 1, 2)

    def test_rows_of_a_cluster_are_one_piece_of_evidence(self):
        clusters = ["a", "a", "b", "b", "c"]
        found = metric(
            *(
                row(index, Score("relevance", value), cluster=cluster)
                for index, (value, cluster) in enumerate(zip([1, 2, 3, 6, 3], clusters, strict=True))
            )
        )
        assert found["standard_error"] == pytest.approx(math.sqrt(27) / 5)  # see test_statistics
        assert (found["mean"], found["clusters"], found["scored"]) == (3, 3, 5)

    def test_rows_without_a_cluster_stand_alone(self):
        found = metric(
            *(row(i, Score("relevance", v), cluster="a" if i < 2 else None) for i, v in enumerate(numbers(5)))
        )
        assert found["clusters"] == 4


class TestFailures:
    def test_they_are_grouped_by_cause_the_most_frequent_first(self):
        timeout = RunError.from_text(ErrorKind.TIMEOUT, "Execution timed out after 5 seconds")
        rows = [row(n, error=timeout if n % 6 == 0 else FAILED) for n in range(13)]
        summary = EvaluationResult(tuple(rows)).summary
        assert summary["failures"] == [
            {"cause": "KeyError 'x'", "kind": "user_code", "count": 10, "keys": ["k1", "k2", "k3"]},
            {"cause": "timeout", "kind": "timeout", "count": 3, "keys": ["k0", "k6", "k12"]},
        ]

    def test_causes_with_something_of_the_row_in_them_are_one(self):
        causes = [f"ValueError: could not convert string to float: 'abc{n}'" for n in range(9)]
        found = group_failures((f"k{n}", "user_code", cause) for n, cause in enumerate(causes))
        assert found == [
            {
                "cause": "ValueError: could not convert string to float: \N{HORIZONTAL ELLIPSIS}",
                "kind": "user_code",
                "count": 9,
                "keys": ["k0", "k1", "k2"],
            }
        ]

    def test_a_few_that_come_again_and_again_are_not(self):
        codes = [(429, 40), (500, 30), (502, 20), (503, 10)]
        causes = [f"HTTPError: {code}" for code, count in codes for _ in range(count)]
        found = group_failures((f"k{n}", "user_code", cause) for n, cause in enumerate(causes))
        assert [(one["cause"], one["count"]) for one in found] == [(f"HTTPError: {code}", n) for code, n in codes]
        names = [("k0", "user_code", "KeyError 'a'"), ("k1", "user_code", "KeyError 'b'")]
        assert len(group_failures(names)) == 2

    def test_a_row_is_named_once_however_often_it_failed(self):
        rows = [row(index, error=FAILED, repetition=n) for index in range(5) for n in range(3)]
        assert EvaluationResult(tuple(rows)).summary["failures"][0]["keys"] == ["k0", "k1", "k2"]

    def test_causes_of_real_runs(self):
        code = """
            import ctypes, os, sys, time
            way = data["way"]
            if way == "key": data["reference"]
            if way == "attribute": None.score
            if way == "message": raise ValueError(f"first line\\nrow {data['n']}")
            if way == "timeout": time.sleep(600)
            if way == "segfault": ctypes.string_at(0)
            if way == "kill": os.kill(os.getpid(), 9)
            if way == "exit": sys.exit(3)
            if way == "memory": bytearray(1 << 30)
            if way == "failed": value = {"scores": [{"name": "relevance", "value": None, "reason": "no answer"}]}
            else: value = object() if way == "object" else 0.5
            value
        """.replace("\n            ", "\n")
        ways = ["key", "attribute", "message", "timeout", "segfault", "kill", "exit", "memory", "failed", "object"]
        rows = [{"way": way, "n": n} for n in range(2) for way in [*ways, "ok"]]
        with IsolatedSubprocessExecutor() as executor, time_limit_from(secs=4):
            result = executor.evaluate(code, rows, timeout_secs=1, limits=Limits(memory_bytes=512 << 20))
        summary = result.summary
        assert [(one["cause"], one["count"]) for one in summary["failures"]] == [
            ("KeyError 'reference'", 2),
            ("AttributeError: 'NoneType' object has no attribute 'score'", 2),
            ("ValueError: first line", 2),
            ("timeout", 2),
            ("died: SIGSEGV", 2),
            ("died: SIGKILL", 2),
            ("no result: exit status 3", 2),
            ("memory limit 512 MB exceeded", 2),
            ("no score: relevance: no value: no answer", 2),
            ("no result: the value of the last line is an object", 2),
        ]
        assert (summary["rows"], summary["scored"], summary["failed"]) == (22, 2, 20)
        timed_out = {one.key for one in result.rows if one.row["way"] == "timeout"}
        assert {one["key"] for one in summary["slowest"][:2]} == timed_out


class TestSlowest:
    def test_five_rows_each_once(self):
        rows = [row(n, Score("a", 1.0), timings=Timings(execution_ms=10.0 * n)) for n in range(8)]
        rows += [row(2, Score("a", 1.0), repetition=1, timings=Timings(execution_ms=75.0)), row(9, error=FAILED)]
        assert EvaluationResult(tuple(rows)).summary["slowest"] == [
            {"key": "k2", "ms": 75.0},
            {"key": "k7", "ms": 70.0},
            {"key": "k6", "ms": 60.0},
            {"key": "k5", "ms": 50.0},
            {"key": "k4", "ms": 40.0},
        ]


class TestUsage:
    @pytest.mark.parametrize(
        ("metadata", "usage"),
        [
            (
                {"usage": {"prompt_tokens": 5, "completion_tokens": 3, "details": {"cached_tokens": 2}}},
                {"prompt_tokens": 10, "completion_tokens": 6, "details.cached_tokens": 4},
            ),
            ({"model": "m", "cost": 0.1, "total_tokens": 7}, {"cost": pytest.approx(0.2), "total_tokens": 14}),
            ({"evaluation_cost": 0.5, "input_tokens": 3}, {"evaluation_cost": 1.0, "input_tokens": 6}),  # deepeval
            (
                {"mlflow.assessment.judgeCost": 0.25, "mlflow.assessment.judgeInputTokens": 9},
                {"judgeCost": 0.5, "judgeInputTokens": 18},
            ),
            ({"cost": {"input": 1, "output": 2}}, {"cost.input": 2, "cost.output": 4}),
            ({"response": {"usage_metadata": {"total_tokens": 4}}}, {"total_tokens": 8}),
            ({"total_tokens": 4, "usage": {"total_tokens": 4}}, {"total_tokens": 8}),  # said twice, spent once
            ({"max_tokens": 512, "temperature": 0.1, "rows": [{"cost": 1}]}, {}),
            ({"usage": {"total_tokens": "9", "cached": True, "cost": math.nan, "n": 10**400}}, {}),
            ("text", {}),
        ],
    )
    def test_what_scores_carry_is_summed(self, metadata, usage):
        rows = [row(n, Score("relevance", 0.5, metadata=metadata)) for n in range(2)]
        assert EvaluationResult(tuple(rows)).summary["usage"] == usage

    def test_rows_that_failed_have_cost_something_too(self):
        score = Score("relevance", None, scoring_failed=True, metadata={"cost": 0.5})
        assert EvaluationResult((row(0, score, error=FAILED),)).summary["usage"] == {"cost": 0.5}

    def test_metadata_that_is_nested_deeply(self):
        metadata = {"cost": 1}
        for _ in range(5000):
            metadata = {"usage": {"x": 1, "inner": metadata}, "more": metadata}
        found = EvaluationResult((row(0, Score("relevance", 0.5, metadata=metadata)),)).summary["usage"]
        assert found["x"] == 1


def test_the_order_of_rows_does_not_matter():
    rows = evaluation([*numbers(40), None, math.nan]).rows
    mixed = tuple(random.Random(3).sample(rows, len(rows)))
    assert metric(*mixed) == {
        **metric(*rows),
        "standard_error": pytest.approx(metric(*rows)["standard_error"]),
        "interval": pytest.approx(metric(*rows)["interval"]),
    }
