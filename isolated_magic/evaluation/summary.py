"""The summary of an evaluation: counts, the figures of each metric, causes of failures, slow rows, usage."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from typing import TYPE_CHECKING, TypedDict

from isolated_magic.evaluation.causes import FailureGroup, cause_of, group_failures
from isolated_magic.evaluation.statistics import (
    estimate_mean,
    histogram,
    mean_of,
    pooled_std,
    quantile,
    sample_std,
)
from isolated_magic.evaluation.usage import usage_of
from isolated_magic.evaluation.values import NOT_THERE, TEXT_AMONG_NUMBERS, by_row, is_usable, values_of
from isolated_magic.models import ErrorKind

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.values import MetricValues, Value

SLOWEST = 5  # rows


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
        pass_rate: share of passed verdicts; None if there are none.
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
    failed = [row for row in rows if row.error is not None]
    scored = sum(row.error is None and any(map(is_usable, row.scores)) for row in rows)
    return Summary(
        rows=len(rows),
        scored=scored,
        failed=len(failed),
        unscored=len(rows) - len(failed) - scored,
        not_run=not_run,
        stopped=stopped,
        repeat=repeat,
        metrics={name: _summary_of(metric, rows) for name, metric in values_of(rows).items()},
        failures=group_failures(
            (row.key, str(row.error.kind), cause_of(row.error)) for row in failed if row.error is not None
        ),
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


def _summary_of(metric: MetricValues, rows: Sequence[RowResult]) -> MetricSummary:
    usable = metric.usable()
    verdicts = [value.passed for _, value in usable if value.passed is not None]
    labels = Counter(label for _, value in usable for label in value.labels)
    summary = MetricSummary(
        scored=len(usable),
        failed=len(rows) - len(usable),
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
        labels=dict(labels.most_common()),
        clusters=0,
        std_within=None,
        std_between=None,
        failures=_failures_of(metric, usable, rows),
    )
    numbers = [value.number for _, value in usable if value.number is not None]
    if numbers:
        _add_distribution(summary, numbers)
        _add_mean(summary, usable)
    return summary


def _add_distribution(summary: MetricSummary, numbers: list[float]) -> None:
    ordered = sorted(numbers)
    summary["std"] = sample_std(numbers)
    summary["min"], summary["max"] = ordered[0], ordered[-1]
    summary["p50"], summary["p90"] = quantile(ordered, 0.5), quantile(ordered, 0.9)
    summary["histogram"] = histogram(numbers)


def _add_mean(summary: MetricSummary, usable: Sequence[tuple[RowResult, Value]]) -> None:
    """The mean of the means of rows: with the same number of repetitions, that of all values."""
    repetitions = [[number for _, number in numbers] for numbers in by_row(usable).values()]
    means = [mean_of(numbers) for numbers in repetitions]
    estimate = estimate_mean(means, clusters_of(usable))
    summary["mean"], summary["standard_error"] = estimate.mean, estimate.standard_error
    summary["interval"] = None if estimate.interval is None else list(estimate.interval)
    summary["clusters"] = estimate.clusters
    if len(means) < len(usable):
        summary["std_within"], summary["std_between"] = pooled_std(repetitions), sample_std(means)


def clusters_of(usable: Sequence[tuple[RowResult, Value]]) -> list[Hashable] | None:
    """The cluster of each row, in the order of :func:`by_row`; None if each stands alone."""
    clusters: dict[str, Hashable] = {}
    for row, _ in usable:
        clusters.setdefault(row.key, (row.key,) if row.cluster is None else row.cluster)
    if all(isinstance(cluster, tuple) for cluster in clusters.values()):
        return None
    return [*clusters.values()]


def _failures_of(
    metric: MetricValues, usable: Sequence[tuple[RowResult, Value]], rows: Sequence[RowResult]
) -> list[FailureGroup]:
    """Why rows that have no error have no value of a metric."""
    with_value = {id(row) for row, _ in usable}
    problems = {id(row): value.problem or TEXT_AMONG_NUMBERS for row, value in metric.rows}
    return group_failures(
        (row.key, str(ErrorKind.NO_SCORE), problems.get(id(row), NOT_THERE))
        for row in rows
        if row.error is None and id(row) not in with_value
    )
