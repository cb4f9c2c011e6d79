"""What a reader sees of groups: a line for each, with its mean, how sure that is, and what failed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.evaluation.figures import brief, labels_text, mean_text, percent_text, plural
from isolated_magic.evaluation.report_tables import count_cell, with_fold
from isolated_magic.render.blocks import Cell, Line, Role, Table
from isolated_magic.render.formatting import bar, share_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from isolated_magic.evaluation.groups import Groups, R
    from isolated_magic.evaluation.summary import MetricSummary, Summary
    from isolated_magic.render.blocks import Block, View

MOST_GROUPS = 50  # seen without a click
MOST_FOLDED = 100  # and after it
MOST_METRICS = 5  # with a table of their own


def view_of_groups(groups: Groups[R]) -> View:
    """The view of groups: a table for each metric with a line for each group."""
    summaries = [(str(name), group.summary) for name, group in islice(groups.items(), MOST_GROUPS + MOST_FOLDED)]
    by, count = brief(groups.by), len(groups)
    if not summaries:
        return (Line(f"There are no groups by {by}.", Role.HEADLINE),)
    metrics = dict.fromkeys(name for _, summary in summaries for name in summary["metrics"])
    blocks: list[Block] = []
    for metric in islice(metrics, MOST_METRICS):
        told = f"{brief(metric)} by {by}: {count:,} {plural('group', count)}"
        blocks += [Line(told, Role.HEADLINE), *_tables(by, metric, summaries, count)]
    if not metrics:
        told = f"No score by {by}: {count:,} {plural('group', count)}"
        blocks += [Line(told, Role.HEADLINE), *_tables(by, "", summaries, count)]
    if len(metrics) > MOST_METRICS:
        blocks.append(Line(f"... {len(metrics) - MOST_METRICS:,} more metrics: to_pandas() has them", Role.NOTE))
    return tuple(blocks)


def _tables(by: str, metric: str, summaries: Sequence[tuple[str, Summary]], count: int) -> list[Block]:
    figures = [summary["metrics"].get(metric) for _, summary in summaries]
    largest = _largest(figures)
    rows = [_row(name, summary, one, largest) for (name, summary), one in zip(summaries, figures, strict=True)]
    headers = (by, "mean \N{PLUS-MINUS SIGN} 95 %", "", "rows", "scored", "failed", "passed", "labels")
    table = Table(headers, tuple(rows), has_headers_in_text=True).without_empty_columns()
    return with_fold(table, count, MOST_GROUPS, "groups", "to_pandas() has them")


def _largest(figures: Iterable[MetricSummary | None]) -> float | None:
    """What the longest bar stands for: 1, or the largest mean if that is more; None if a mean is below 0."""
    means = [one["mean"] for one in figures if one is not None and one["mean"] is not None]
    return None if min(means, default=0) < 0 else max(1.0, *means, 1.0)


def _row(name: str, summary: Summary, metric: MetricSummary | None, largest: float | None) -> tuple[Cell, ...]:
    mean, text, passed, labels = None, "", "", ""
    if metric is not None:
        mean, labels = metric["mean"], labels_text(metric["labels"])
        text = "" if mean is None else mean_text(mean, metric["interval"])
        if metric["pass_rate"] is not None:
            passed = f"{percent_text(metric['pass_rate'])} ({metric['passed']:,})"
    failed = summary["rows"] if metric is None else metric["failed"]
    share = None if mean is None or largest is None else mean / largest
    return (
        Cell(brief(name), Role.NAME),
        Cell(text, Role.LINE),
        Cell(bar(share), Role.BAR, number=share_in(share)),
        count_cell(summary["rows"]),
        count_cell(0 if metric is None else metric["scored"]),
        count_cell(failed) if failed else Cell(""),
        Cell(passed, Role.LINE),
        Cell(labels),
    )
