"""The summary of an evaluation: counts, the figures of each metric, causes of failures, slow rows, usage."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, TypedDict

from isolated_magic.evaluation.causes import MOST_KEYS, FailureGroup, cause_of, group_failures
from isolated_magic.evaluation.statistics import (
    estimate_mean,
    histogram,
    pooled_std,
    quantile,
    sample_std,
)
from isolated_magic.evaluation.usage import usage_of
from isolated_magic.evaluation.values import cluster_ids, row_means, values_of
from isolated_magic.models import ErrorKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.values import MetricValues, RowMeans

SLOWEST = 5  # rows
TEXT_AMONG_NUMBERS = "text instead of a number"
NOT_THERE = "no score of this name"


class SlowRow(TypedDict):
    """A row, and how long its code ran in milliseconds."""

    key: str
    ms: float


class MetricSummary(TypedDict):
    """The figures of one metric. None where there are too few values, or no numbers.

    Args:
        scored: rows with a usable value: a finite number; or text, if no row has a number.
        failed: rows that were run and have none.
        mean: of the rows; each row counts once, however many of its repetitions have a value.
        interval: of the mean, with a confidence of 95%, from the t distribution. Rows of one cluster and
            repetitions of one row count as one piece of evidence (clustered standard error).
        standard_error: of the mean.
        std: standard deviation of all values, as of a sample.
        histogram: counts of ten bins over [0, 1] if all values are in it, else from the least to the largest.
        pass_rate: share of passed verdicts; None if there are none. Of a score with a threshold and without a
            verdict, the verdict is whether it reaches it.
        passed: rows whose verdict is that they passed.
        labels: how often there is each category, or each text.
        clusters: number of independent groups that the interval rests on.
        std_within: standard deviation within rows over their repetitions, pooled; None without repetitions.
        std_between: standard deviation of the means of rows; None without repetitions.
        failures: of the rows without an error: why they have no value.
    """

    scored: int
    failed: int
    mean: float | None
    interval: list[float] | None
    standard_error: float | None
    std: float | None
    min: float | None
    p50: float | None
    p90: float | None
    max: float | None
    histogram: list[int]
    pass_rate: float | None
    passed: int
    labels: dict[str, int]
    clusters: int
    std_within: float | None
    std_between: float | None
    failures: list[FailureGroup]


class Summary(TypedDict):
    """What an evaluation came to. Each repetition of a row counts as a row.

    Args:
        rows: those that were run: scored, failed and unscored ones.
        scored: rows without an error that have a usable score.
        failed: rows with an error.
        unscored: rows without an error and without a usable score.
        not_run: rows that were not begun; None if nobody knows.
        stopped: why it ended early; empty if it did not.
        repeat: how often each row was run.
        metrics: figures by name of the metric.
        failures: the rows with an error by cause, the most frequent first.
        slowest: the five rows that took longest.
        usage: sum of each number of usage (tokens, cost) that scores carry in their metadata.
    """

    rows: int
    scored: int
    failed: int
    unscored: int
    not_run: int | None
    stopped: str
    repeat: int
    metrics: dict[str, MetricSummary]
    failures: list[FailureGroup]
    slowest: list[SlowRow]
    usage: dict[str, int | float]


def summarize(
    rows: Sequence[RowResult], *, not_run: int | None = 0, stopped: str = "", repeat: int = 1
) -> Summary:
    """The summary of rows that were run."""
    metrics = {name: (metric, metric.usable()) for name, metric in values_of(rows).items()}
    failed = [(row.key, str(row.error.kind), cause_of(row.error)) for row in rows if row.error is not None]
    ok = [row for row in rows if row.error is None]
    with_value = {id(row) for _, usable in metrics.values() for row in usable.rows if row.error is None}
    return Summary(
        rows=len(rows),
        scored=len(with_value),
        failed=len(failed),
        unscored=len(rows) - len(failed) - len(with_value),
        not_run=not_run,
        stopped=stopped,
        repeat=repeat,
        metrics={name: _summary_of(*both, ok, len(rows)) for name, both in metrics.items()},
        failures=group_failures(failed),
        slowest=_slowest(rows),
        usage=usage_of(rows),
    )


def _slowest(rows: Sequence[RowResult]) -> list[SlowRow]:
    """The rows that took longest; each once, with its longest repetition."""
    longest: dict[str, float] = {}
    for row in rows:
        ms = row.timings.execution_ms
        if ms > longest.get(row.key, -math.inf):  # never true for NaN: it was not run
            longest[row.key] = ms
    slowest = heapq.nlargest(SLOWEST, longest.items(), key=lambda item: item[1])
    return [SlowRow(key=key, ms=ms) for key, ms in slowest]


def _summary_of(metric: MetricValues, usable: MetricValues, ok: Sequence[RowResult], count: int) -> MetricSummary:
    """The figures of a metric in ``count`` rows, among them those that have no error."""
    verdicts = [value.passed for value in usable.values if value.passed is not None]
    labels = Counter(label for value in usable.values for label in value.labels)
    summary = MetricSummary(
        scored=len(usable.rows),
        failed=count - len(usable.rows),
        mean=None,
        interval=None,
        standard_error=None,
        std=None,
        min=None,
        p50=None,
        p90=None,
        max=None,
        histogram=[],
        pass_rate=sum(verdicts) / len(verdicts) if verdicts else None,
        passed=sum(verdicts),
        labels=dict(sorted(labels.items(), key=lambda item: (-item[1], item[0]))),
        clusters=0,
        std_within=None,
        std_between=None,
        failures=_failures_of(metric, usable, ok),
    )
    numbers = usable.numbers()
    if numbers:
        _add_distribution(summary, numbers)
        _add_mean(summary, row_means(usable.rows, numbers))
    return summary


def _add_distribution(summary: MetricSummary, numbers: list[float]) -> None:
    ordered = sorted(numbers)
    summary["std"] = sample_std(numbers)
    summary["min"], summary["max"] = ordered[0], ordered[-1]
    summary["p50"], summary["p90"] = quantile(ordered, 0.5), quantile(ordered, 0.9)
    summary["histogram"] = histogram(numbers)


def _add_mean(summary: MetricSummary, of_rows: RowMeans) -> None:
    """The mean of the means of rows: if all rows have the same number of values, that of all values."""
    estimate = estimate_mean(of_rows.means, cluster_ids(of_rows.clusters))
    summary["mean"], summary["standard_error"] = estimate.mean, estimate.standard_error
    summary["interval"] = None if estimate.interval is None else list(estimate.interval)
    summary["clusters"] = estimate.clusters
    if of_rows.repetitions is not None:
        summary["std_within"] = pooled_std(of_rows.repetitions)
        summary["std_between"] = sample_std(of_rows.means)


def _failures_of(metric: MetricValues, usable: MetricValues, ok: Sequence[RowResult]) -> list[FailureGroup]:
    """Why rows that have no error have no value of a metric.

    The work is that of the rows which have a score of it, for each row may have one of a name of its own.
    """
    kind = str(ErrorKind.NO_SCORE)
    if len(usable.rows) == len(ok):
        return []
    with_value = {id(row) for row in usable.rows}
    pairs = zip(metric.rows, metric.values, strict=True)
    groups = group_failures(
        (row.key, kind, value.problem or TEXT_AMONG_NUMBERS)
        for row, value in pairs
        if row.error is None and id(row) not in with_value
    )
    there = {id(row) for row in metric.rows if row.error is None}
    if count := len(ok) - len(there):
        keys = dict.fromkeys(row.key for row in islice(_others(ok, there), MOST_KEYS))
        groups.append(FailureGroup(cause=NOT_THERE, kind=kind, count=count, keys=[*keys]))
    return sorted(groups, key=lambda group: -group["count"])


def _others(rows: Sequence[RowResult], known: set[int]) -> Iterator[RowResult]:
    return (row for row in rows if id(row) not in known)
