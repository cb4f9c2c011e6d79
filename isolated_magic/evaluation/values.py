"""The value that each row has of each metric: what summaries and comparisons are computed from."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.evaluation.statistics import mean_of
from isolated_magic.models import NO_VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.models import Score

LARGEST = 1e300  # what is beyond counts as infinite: sums of it could not be computed
TEXT_AMONG_NUMBERS = "text instead of a number"
NOT_THERE = "no score of this name"


class Value(NamedTuple):
    """What one row, in one repetition, has of one metric."""

    number: float | None  # mean of its numbers; None if it has none
    passed: bool | None  # whether all verdicts are that it passed; None if there is none
    labels: tuple[str, ...]  # its categories, or else its values that are text
    is_text: bool  # it has a value that is text
    problem: str  # why it has none at all; empty if it has one


@dataclass
class MetricValues:
    """All values of one metric.

    Args:
        rows: the rows that have a score of it, each with its value.
    """

    name: str
    rows: list[tuple[RowResult, Value]] = field(default_factory=list)

    @property
    def is_text(self) -> bool:
        """Whether its values are labels: some are text, and none is a number."""
        return any(value.is_text for _, value in self.rows) and not any(
            value.number is not None for _, value in self.rows
        )

    def usable(self) -> list[tuple[RowResult, Value]]:
        """The rows with a usable value: a number, or text where the values of all rows are text."""
        if self.is_text:
            return [(row, value) for row, value in self.rows if value.is_text]
        return [(row, value) for row, value in self.rows if value.number is not None]


def values_of(rows: Iterable[RowResult]) -> dict[str, MetricValues]:
    """The values of each metric, in the order in which the metrics are first seen."""
    metrics: dict[str, MetricValues] = {}
    for row in rows:
        for name, scores in _by_name(row.scores).items():
            if name not in metrics:
                metrics[name] = MetricValues(name)
            metrics[name].rows.append((row, value_of(scores)))
    return metrics


def _by_name(scores: Sequence[Score]) -> dict[str, list[Score]]:
    named: dict[str, list[Score]] = {}
    for score in scores:
        named.setdefault(score.name, []).append(score)
    return named


def value_of(scores: Sequence[Score]) -> Value:
    """The value of one row from its scores of one name: of several the mean of those that have a number.

    NaN and infinite numbers are no values: with them there would be no mean.
    """
    numbers: list[float] = []
    texts: list[str] = []
    labels: list[str] = []
    verdicts: list[bool] = []
    problem = ""
    for score in scores:
        number = _number(score)
        is_text = number is None and isinstance(score.value, str) and not score.scoring_failed
        if number is None and not is_text:
            problem = problem or _problem(score)
            continue
        if number is not None:
            numbers.append(number)
        else:
            texts.append(str(score.value))
        if score.category_name is not None:
            labels.append(score.category_name)
        elif is_text:
            labels.append(str(score.value))
        if score.passed is not None:
            verdicts.append(score.passed)
    return Value(
        number=(numbers[0] if len(numbers) == 1 else mean_of(numbers)) if numbers else None,
        passed=all(verdicts) if verdicts else None,
        labels=tuple(labels),
        is_text=bool(texts),
        problem="" if numbers or texts else problem,
    )


def is_usable(score: Score) -> bool:
    """Whether a score has a number that is finite, or text."""
    return _number(score) is not None or (isinstance(score.value, str) and not score.scoring_failed)


def _number(score: Score) -> float | None:
    value = score.value
    if score.scoring_failed or not isinstance(value, (int, float)):
        return None
    return float(value) if -LARGEST <= value <= LARGEST else None  # NaN is not between them


def _problem(score: Score) -> str:
    """Why a score has no usable value, in a few words that are the same for each row."""
    value = score.value
    if score.scoring_failed:
        return score.reason or (NO_VALUE if value is None else "scoring failed")
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, (int, float)):
        return "an infinite value"
    kind = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "no value"
    return f"{kind} instead of a number"


def by_row(usable: Iterable[tuple[RowResult, Value]]) -> dict[str, list[tuple[RowResult, float]]]:
    """The numbers of each row over its repetitions, by the row's key."""
    numbers: defaultdict[str, list[tuple[RowResult, float]]] = defaultdict(list)
    for row, value in usable:
        if value.number is not None:
            numbers[row.key].append((row, value.number))
    return numbers
