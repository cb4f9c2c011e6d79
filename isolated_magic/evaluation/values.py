"""The value that each row has of each metric: what summaries and comparisons are computed from."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.evaluation.statistics import mean_of
from isolated_magic.models import NO_VALUE

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.models import Score
    from isolated_magic.strict_json import JsonValue

MINIMIZE = "minimize"  # the direction of a metric of which less is better, in the metadata of Phoenix's scores
LARGEST = 1e300  # what is beyond counts as infinite: sums of it could not be computed


class Value(NamedTuple):
    """What one run of a row has of one metric."""

    number: float | None = None  # mean of its numbers; None if it has none
    passed: bool | None = None  # whether all verdicts are that it passed; None if there is none
    labels: tuple[str, ...] = ()  # its categories, or else its values that are text
    has_text: bool = False  # it has a value that is text
    problem: str = ""  # why it has neither a number nor text; empty if it has


@dataclass
class MetricValues:
    """All values of one metric: of each row that has a score of it."""

    name: str
    rows: list[RowResult] = field(default_factory=list)
    values: list[Value] = field(default_factory=list)

    @property
    def direction(self) -> JsonValue:
        """Which values its first score says are better, such as ``"minimize"``; None if it does not say."""
        for row in self.rows[:1]:
            for score in row.scores:
                if score.name == self.name:
                    return _direction(score)
        return None

    def usable(self) -> MetricValues:
        """Those that have a number; or text, if none has a number."""
        has_numbers = any(value.number is not None for value in self.values)
        which = [value.number is not None if has_numbers else value.has_text for value in self.values]
        return self if all(which) else self._where(which)

    def _where(self, which: Sequence[bool]) -> MetricValues:
        return MetricValues(
            self.name,
            [row for row, is_wanted in zip(self.rows, which, strict=True) if is_wanted],
            [value for value, is_wanted in zip(self.values, which, strict=True) if is_wanted],
        )

    def numbers(self) -> list[float]:
        """The numbers of the values that have one."""
        return [value.number for value in self.values if value.number is not None]


class RowMeans(NamedTuple):
    """A number for each row: the mean over its repetitions."""

    keys: list[str]
    means: list[float]
    clusters: list[str | None]
    repetitions: list[list[float]] | None  # the numbers of each row; None if no row has two


def row_means(rows: Sequence[RowResult], numbers: Sequence[float]) -> RowMeans:
    """A number for each row from one for each run of it, in the order of the rows."""
    keys = [row.key for row in rows]
    clusters = [row.cluster for row in rows]
    if len(set(keys)) == len(keys):
        return RowMeans(keys, list(numbers), clusters, None)
    repetitions: dict[str, list[float]] = {}
    cluster_of: dict[str, str | None] = {}
    for key, cluster, number in zip(keys, clusters, numbers, strict=True):
        repetitions.setdefault(key, []).append(number)
        cluster_of.setdefault(key, cluster)
    of_rows = [*repetitions.values()]
    return RowMeans([*repetitions], [mean_of(some) for some in of_rows], [*cluster_of.values()], of_rows)


def cluster_ids(clusters: Sequence[str | None]) -> list[Hashable] | None:
    """An identity for each row's cluster: of its own where it has none; None if that is so for all rows."""
    if all(cluster is None for cluster in clusters):
        return None
    return [index if cluster is None else cluster for index, cluster in enumerate(clusters)]


def values_of(rows: Iterable[RowResult]) -> dict[str, MetricValues]:
    """The values of each metric, in the order in which the metrics are first seen."""
    metrics: dict[str, MetricValues] = {}
    for row in rows:
        for name, value in _values_in(row.scores):
            metric = metrics.get(name)
            if metric is None:
                metric = metrics[name] = MetricValues(name)
            metric.rows.append(row)
            metric.values.append(value)
    return metrics


def _values_in(scores: Sequence[Score]) -> list[tuple[str, Value]]:
    """The value of each name among a row's scores: of several scores one value."""
    found = [(score.name, value_of(score)) for score in scores]
    if len({name for name, _ in found}) == len(found):
        return found
    named: dict[str, list[Value]] = {}
    for name, value in found:
        named.setdefault(name, []).append(value)
    return [(name, _joined(values)) for name, values in named.items()]


def value_of(score: Score) -> Value:
    """The value of a score. NaN and infinite numbers are none: with them there would be no mean."""
    value, category = score.value, score.category_name
    if score.scoring_failed:
        return Value(problem=score.reason or (NO_VALUE if value is None else "scoring failed"))
    if isinstance(value, (int, float)) and -LARGEST <= value <= LARGEST:  # NaN is not between them
        return Value(float(value), _verdict(score, value), () if category is None else (category,))
    if isinstance(value, str):
        return Value(None, score.passed, (value if category is None else category,), has_text=True)
    return Value(problem=_problem(value))


def _verdict(score: Score, value: float) -> bool | None:
    """Whether a score has passed: as it says, or else by its threshold."""
    threshold = score.threshold
    if score.passed is not None or threshold is None or not -LARGEST <= threshold <= LARGEST:
        return score.passed
    return value <= threshold if _direction(score) == MINIMIZE else value >= threshold


def _direction(score: Score) -> JsonValue:
    return score.metadata.get("direction") if isinstance(score.metadata, dict) else None


def _problem(value: object) -> str:
    if isinstance(value, (int, float)):
        return "NaN" if isinstance(value, float) and math.isnan(value) else "an infinite value"
    kind = "an object" if isinstance(value, dict) else "a list" if isinstance(value, list) else "nothing"
    return f"{kind} instead of a number"


def _joined(values: Sequence[Value]) -> Value:
    """One value from several: the mean of the numbers, passed if all have passed."""
    numbers = [value.number for value in values if value.number is not None]
    verdicts = [value.passed for value in values if value.passed is not None]
    has_text = any(value.has_text for value in values)
    return Value(
        number=mean_of(numbers) if numbers else None,
        passed=all(verdicts) if verdicts else None,
        labels=tuple(label for value in values for label in value.labels),
        has_text=has_text,
        problem="" if numbers or has_text else values[0].problem,
    )
