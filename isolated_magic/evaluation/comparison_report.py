"""What a reader sees of a comparison: for each metric whether it is better, and how sure that is."""

from __future__ import annotations

import math
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.evaluation.figures import brief, difference_text, p_text, plural
from isolated_magic.evaluation.report_tables import count_cell, figure_cell, with_fold
from isolated_magic.render.blocks import Cell, Line, Role, Table
from isolated_magic.render.formatting import DOWN, UP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolated_magic.evaluation.compare import Change, Comparison, MetricComparison
    from isolated_magic.render.blocks import Block, View

HEADERS = (
    "metric",
    "before",
    "after",
    "change \N{PLUS-MINUS SIGN} 95 %",
    "p",
    "wins",
    "ties",
    "losses",
    "pairs",
    "verdict",
)
CHANGE_HEADERS = ("changed most", "metric", "before", "after", "change")
# The marks say in black and white what the colours say.
VERDICTS = {
    "better": (Role.BETTER, "\N{CHECK MARK} better"),
    "worse": (Role.WORSE, "\N{BALLOT X} worse"),
    "no difference shown": (Role.CHANGE, "= no difference shown"),
    "too few to tell": (Role.CHANGE, "? too few to tell"),
}
MOST_METRICS = 20  # seen without a click
MOST_FOLDED_METRICS = 100  # and after it
MOST_NAMES = 5
MOST_NOTES = 20
LONGEST_NOTE = 1000


def view_of_comparison(comparison: Comparison) -> View:
    """The view of a comparison: the same for the same one, whenever and wherever it was made."""
    label = brief(comparison.label) or "the run before"
    told = f"Compared with {label}: {comparison.pairs:,} {plural('row', comparison.pairs)} in both"
    if comparison.unpaired:
        told += f", {comparison.unpaired:,} {plural('row', comparison.unpaired)} in one of them alone"
    blocks: list[Block] = [Line(told, Role.HEADLINE), *_metric_blocks(comparison)]
    for names, where in ((comparison.only_before, "before"), (comparison.only_after, "after")):
        if names:
            listed = ", ".join(brief(name) for name in names[:MOST_NAMES])
            more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
            blocks.append(Line(f"Only {where}: {listed}{more}.", Role.NOTE))
    if comparison.changed:
        blocks.append(_changed_table(comparison.changed, comparison))
    blocks += [Line(f"note: {brief(note, LONGEST_NOTE)}", Role.NOTE) for note in comparison.notes[:MOST_NOTES]]
    return tuple(blocks)


def _metric_blocks(comparison: Comparison) -> list[Block]:
    metrics = comparison.metrics
    if not metrics:
        return [Line("There is no metric that both have numbers of.", Role.NOTE)]
    rows = tuple(map(_metric_row, islice(metrics.values(), MOST_METRICS + MOST_FOLDED_METRICS)))
    headers = [f"{header} (Holm)" if header == "p" and len(metrics) > 1 else header for header in HEADERS]
    table = Table(tuple(headers), rows, has_headers_in_text=True).without_empty_columns()
    return with_fold(table, len(metrics), MOST_METRICS, "metrics", "Comparison.metrics has them")


def _metric_row(metric: MetricComparison) -> tuple[Cell, ...]:
    role, mark = VERDICTS[metric.verdict]
    p = metric.p if metric.p_adjusted is None else metric.p_adjusted
    return (
        Cell(brief(metric.name), Role.NAME),
        figure_cell(metric.before),
        figure_cell(metric.after),
        Cell("" if math.isnan(metric.delta) else difference_text(metric.delta, metric.interval), Role.LINE),
        Cell("" if p is None else p_text(p), Role.LINE),
        *(count_cell(count) for count in (metric.wins, metric.ties, metric.losses, metric.pairs)),
        Cell(f"{mark} (lower is better)" if metric.lower_is_better else mark, role, mark),
    )


def _changed_table(changed: Sequence[Change], comparison: Comparison) -> Table:
    rows = []
    for change in changed:
        metric = comparison.metrics.get(change.metric)
        difference = change.after - change.before
        is_better = (difference < 0) is (metric is not None and metric.lower_is_better)
        text = f"{UP if difference > 0 else DOWN} {difference_text(difference, None)}"
        rows.append(
            (
                Cell(brief(change.key), Role.NAME),
                Cell(brief(change.metric), Role.LINE),
                figure_cell(change.before),
                figure_cell(change.after),
                Cell(text, Role.BETTER if is_better else Role.WORSE),
            )
        )
    return Table(CHANGE_HEADERS, tuple(rows), has_headers_in_text=True)
