"""Evaluations made by hand, for tests of what is done with them."""

from isolated_magic.evaluation.result import EvaluationResult
from isolated_magic.evaluation.row_result import Attempt, RowResult
from isolated_magic.models import DisplayData, ErrorKind, Found, RunError, Score, Timings

BROKEN = RunError(
    ErrorKind.NO_RESULT, "No result:\n  x\n", "No result:", hint="Print it.", found="a str", found_kind=Found.VALUE
)


def some_rows(count, *, tenants=3, **fields):
    """Rows of several tenants, with a score that rises with the row."""
    return tuple(
        RowResult(
            n, f"k{n}", {"tenant": f"t{n % tenants + 8}", "n": n}, (Score("relevance", n / count),), **fields
        )
        for n in range(count)
    )


def rich_result():
    """One of each kind of row."""
    return EvaluationResult(
        (
            RowResult(
                0,
                "first",
                {"tenant": "t1", "n": 1, "tags": ["a", {"b": None}], "note": 'line 1\nline, "2"', "ms": 7},
                (
                    Score(
                        "relevance",
                        0.25,
                        "because",
                        "quality",
                        {"usage": {"tokens": 3}},
                        passed=False,
                        threshold=0.5,
                    ),
                    Score("tone", "kind"),
                    Score("error", 2),
                ),
                notes=("Look at this.",),
                stdout="out\n",
                stderr="err\n",
                payload={"scores": [], "more": [1]},
                displays=(DisplayData({"text/plain": "x"}, {"a": 1}, 2, 3, "id"),),
                cluster="c1",
                failed_attempts=(Attempt(BROKEN, Timings(1.5, 2.5)),),
                timings=Timings(1.25, 20.5),
            ),
            RowResult(1, "second", {"tenant": "t2", "n": None}, error=BROKEN, repetition=1),
            RowResult(
                2,
                "3",
                {"tenant": "t1"},
                (Score("relevance", float("nan")), Score("tone", None, "no key", scoring_failed=True)),
            ),
            RowResult(3, "naïve", {"tenant": None}, (Score("relevance", 1.0),)),
        ),
        not_run=2,
        stopped="It was interrupted.",
        repeat=2,
        notes=("All of it.",),
        label="mine",
    )
