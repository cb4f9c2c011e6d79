"""Rows in groups: by a column, by a function."""

import math

import pytest

from isolated_magic import EvaluationResult, InvalidRequestError, NoSuchRowError, RowResult, Score
from tests.evaluations import rich_result, some_rows


def of_values(*values):
    return EvaluationResult(tuple(RowResult(n, f"k{n}", {"v": value}) for n, value in enumerate(values)))


def test_by_a_column():
    result = EvaluationResult(some_rows(9), not_run=0)
    groups = result.by("tenant")
    assert list(groups) == ["t8", "t9", "t10"]
    assert groups["t9"].rows == result.rows[1::3]
    assert groups["t9"].summary["metrics"]["relevance"]["mean"] == pytest.approx((1 + 4 + 7) / 27)
    assert sum(len(group) for group in groups.values()) == 9
    assert (groups.by, groups["t9"].label, len(groups), "t9" in groups, "t1" in groups) == (
        "tenant",
        "t9",
        3,
        True,
        False,
    )
    assert repr(groups).startswith("Groups(by tenant; t8: EvaluationResult(relevance 0.3")


def test_by_a_function():
    def parity(row):
        return row["n"] % 2 == 0

    groups = EvaluationResult(some_rows(5)).by(parity)
    assert {name: len(group) for name, group in groups.items()} == {False: 2, True: 3}
    assert groups.by == "parity"
    assert len(groups["True"]) == len(groups[True]) == 3


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["t10", "t9", "a"], ["a", "t9", "t10"]),
        ([3, 1.5, -1, 10], [-1, 1.5, 3, 10]),
        (["b", 2, None, True, math.nan], [True, 2, "b", "(none)"]),
        ([["x", 1], {"b": 1, "a": 2}], ['["x", 1]', '{"a": 2, "b": 1}']),
        ([object(), 10**5000], ["<int>", "<object>"]),
    ],
)
def test_names_of_groups_and_their_order(values, names):
    assert list(of_values(*values).by("v")) == names
    assert list(of_values(*reversed(values)).by("v")) == names


def test_rows_without_the_column_are_a_group():
    groups = rich_result().by("n")
    assert {name: [row.key for row in group] for name, group in groups.items()} == {
        1: ["first"],
        "(none)": ["second", "3", "naïve"],
    }


def test_by_what_the_result_knows():
    assert list(rich_result().by("cluster")) == ["c1", "(none)"]
    assert list(rich_result().by("repetition")) == [0, 1]


def test_a_part_of_what_was_stopped_does_not_say_how_much_is_missing():
    group = rich_result().by("tenant")["t1"]
    assert (group.not_run, group.stopped, group.ok) == (None, "It was interrupted.", False)


def test_what_is_wrong():
    result = EvaluationResult(some_rows(3))
    with pytest.raises(
        InvalidRequestError, match=r"No row has a column 'tenat': there are tenant, n. Did you mean 'tenant'\?"
    ):
        result.by("tenat")
    with pytest.raises(InvalidRequestError, match="by: the function raised KeyError for row k0: 'x'"):
        result.by(lambda row: row["x"])

    class OddError(Exception):
        __str__ = None

    def raising(row):
        raise OddError

    with pytest.raises(InvalidRequestError, match="raised OddError for row k0: <OddError that cannot be printed>"):
        result.by(raising)
    with pytest.raises(
        InvalidRequestError, match="by is int: give the name of a column, or a function of the row"
    ):
        result.by(3)
    with pytest.raises(NoSuchRowError, match="There is no group 't1' by tenant: there are t8, t9, t10"):
        result.by("tenant")["t1"]
    assert list(EvaluationResult().by("anything")) == []


def test_to_pandas():
    scores = (Score("relevance", 0.5), Score("tone", "kind"))
    rows = (*some_rows(6), RowResult(6, "k6", {"tenant": "t8"}, scores))
    frame = EvaluationResult(rows).by("tenant").to_pandas()
    assert list(frame) == ["tenant", "rows", "scored", "failed", "relevance", "relevance.low", "relevance.high"]
    assert list(frame["tenant"]) == ["t8", "t9", "t10"]
    assert list(frame["rows"]) == [3, 2, 2]
    assert frame["relevance"][0] == pytest.approx((0 + 0.5 + 0.5) / 3)
    assert (frame["relevance.low"] < frame["relevance"]).all()
