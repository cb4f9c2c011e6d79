"""What a reader sees of an evaluation: what it says, how sure that is, and what is missing from it."""

from __future__ import annotations

import math
import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.evaluation.comparison_report import view_of_comparison
from isolated_magic.evaluation.figures import (
    LONGEST_READ,
    amount_text,
    brief,
    histogram_text,
    labels_text,
    mean_text,
    percent_text,
    plural,
)
from isolated_magic.evaluation.progress import INTERRUPTED
from isolated_magic.evaluation.report_tables import count_cell, figure_cell, first_of, with_fold
from isolated_magic.evaluation.row_report import failures_table, reason_of, row_name, rows_table
from isolated_magic.models import ErrorKind
from isolated_magic.render.blocks import Cell, Fold, Line, Role, Table
from isolated_magic.render.formatting import bar, share_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from isolated_magic.evaluation.causes import FailureGroup
    from isolated_magic.evaluation.evaluated import Evaluated
    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.summary import MetricSummary, Summary
    from isolated_magic.models import RunError
    from isolated_magic.render.blocks import Block, View

METRIC_HEADERS = (
    "metric",
    "mean \N{PLUS-MINUS SIGN} 95 %",
    "",
    "scored",
    "failed",
    "std",
    "within rows",
    "between rows",
    "min",
    "p50",
    "p90",
    "max",
    "distribution",
    "passed",
    "labels",
)
DOT = " \N{MIDDLE DOT} "
MOST_HEADLINES = 5  # metrics with a line of their own
MOST_METRICS = 20  # seen without a click
MOST_FOLDED_METRICS = 100  # and after it
MOST_IN_LINE, MOST_CAUSES = 3, 10  # reasons of failures in one line, and in their table
MOST_NOTES = 20
MOST_HINTS = 3
MOST_ROW_NOTES = 3  # that are not the same
MOST_USAGE = 10
MOST_WORKERS = 20
MOST_ROWS = 20  # of each kind in the output of a cell
LONGEST_CAUSE = 80
NOTHING = "Nothing was scored."
PARTLY = re.compile(r"[\d,]+ of [\d,]+ scores could be computed")  # which is told of each metric
NO_ROWS = "There were no rows: nothing was scored."


def view_of_evaluation(result: Evaluated, *, has_times: bool = False, most_rows: int = MOST_ROWS) -> View:
    """The view of an evaluation: the same for the same result, whenever and wherever it ran.

    Args:
        result: what was evaluated.
        has_times: True adds what differs from run to run, for what is saved with no notebook.
        most_rows: so many of the rows, and of those that failed, are folded; the others are left out.
    """
    summary = result.summary
    blocks: list[Block] = [
        *_stopped_lines(result, summary),
        *_headlines(result, summary),
        *_metric_blocks(summary),
    ]
    if result.comparison is not None:
        blocks += view_of_comparison(result.comparison)
    blocks += _failure_blocks(result, summary, most_rows)
    if usage := summary["usage"]:
        told = [f"{brief(name)} {amount_text(total)}" for name, total in islice(usage.items(), MOST_USAGE)]
        told += [f"{len(usage) - MOST_USAGE:,} more"] * (len(usage) > MOST_USAGE)
        blocks.append(Line(f"usage: {', '.join(told)}"))
    blocks += _note_lines(result)
    if has_times:
        blocks += _time_blocks(result, summary)
    if len(result.rows) > 0:
        blocks.append(_rows_fold(result, summary, most_rows))
    return tuple(blocks)


def _stopped_lines(result: Evaluated, summary: Summary) -> list[Line]:
    """That it is not whole, if it is not."""
    if not (result.stopped or result.not_run):
        return []
    done = f"{summary['rows']:,} of {summary['rows'] + result.not_run:,} rows" if result.not_run else ""
    done = done or f"{summary['rows']:,} {plural('row', summary['rows'])}"
    rest = f"; {result.not_run:,} were not run" if result.not_run else ""
    if result.stopped in {"", INTERRUPTED}:
        return [Line(f"{'Interrupted' if result.stopped else 'Ended'} after {done}{rest}.", Role.ERROR)]
    return [Line(f"{brief(result.stopped, LONGEST_READ)} It ended after {done}{rest}.", Role.ERROR)]


def _headlines(result: Evaluated, summary: Summary) -> list[Line]:
    label = f"{brief(result.label)}: " if result.label else ""
    rows, metrics = summary["rows"], summary["metrics"]
    if not rows:
        return [Line(f"{label}{NOTHING if result.stopped or result.not_run else NO_ROWS}", Role.HEADLINE)]
    if 0 < len(metrics) <= MOST_HEADLINES:
        lines = [f"{label}{metric_line(name, metric, rows)}" for name, metric in metrics.items()]
        return [Line(line, Role.HEADLINE) for line in lines]
    told = [f"{rows:,} {plural('row', rows)}", f"{summary['scored']:,} scored"]
    told += [f"{summary['failed']:,} failed"] * bool(summary["failed"])
    told += [f"{summary['unscored']:,} without a score"] * bool(summary["unscored"])
    told += [f"{len(metrics):,} metrics"] * bool(metrics)
    return [Line(f"{label}{DOT.join(told)}", Role.HEADLINE)]


def metric_line(name: str, metric: MetricSummary, rows: int) -> str:
    """One metric on one line: never its mean alone."""
    value = mean_text(metric["mean"], metric["interval"]) if metric["mean"] is not None else ""
    if value and metric["interval"] is None:
        value += " (too few for an interval)"
    if metric["labels"]:
        value = f"{value}, {labels_text(metric['labels'])}" if value else labels_text(metric["labels"])
    told = [f"{brief(name)} {value}".strip(), f"{metric['scored']:,} of {rows:,} scored"]
    told += [f"{metric['failed']:,} failed"] * bool(metric["failed"])
    if metric["pass_rate"] is not None:
        told.append(f"{percent_text(metric['pass_rate'])} passed")
    return DOT.join(told)


def _metric_blocks(summary: Summary) -> list[Block]:
    metrics = summary["metrics"]
    if not metrics:
        return []
    is_told_above = len(metrics) <= MOST_HEADLINES
    rows = [
        _metric_row(name, metric, is_told_above=is_told_above)
        for name, metric in islice(metrics.items(), MOST_METRICS + MOST_FOLDED_METRICS)
        if metric["mean"] is not None or not is_told_above
    ]
    if not rows:
        return []
    table = Table(METRIC_HEADERS, tuple(rows), has_headers_in_text=True).without_empty_columns()
    return with_fold(table, len(metrics), MOST_METRICS, "metrics", "result.summary has them")


def _metric_row(name: str, metric: MetricSummary, *, is_told_above: bool) -> tuple[Cell, ...]:
    mean, passed, counts = metric["mean"], "", (metric["scored"], metric["failed"])
    if metric["pass_rate"] is not None:
        passed = f"{percent_text(metric['pass_rate'])} ({metric['passed']:,})"
    return (
        Cell(brief(name), Role.NAME),
        Cell("" if mean is None else mean_text(mean, metric["interval"]), Role.LINE),
        Cell("" if mean is None else bar(mean), Role.BAR, number=share_in(mean)),
        *(count_cell(count) if count and not is_told_above else Cell("") for count in counts),
        figure_cell(metric["std"]),
        figure_cell(metric["std_within"]),
        figure_cell(metric["std_between"]),
        figure_cell(metric["min"]),
        figure_cell(metric["p50"]),
        figure_cell(metric["p90"]),
        figure_cell(metric["max"]),
        Cell("" if mean is None else histogram_text(metric["histogram"]), Role.LINE),
        Cell(passed, Role.LINE),
        Cell("" if is_told_above else labels_text(metric["labels"])),
    )


def _failure_blocks(result: Evaluated, summary: Summary, most_rows: int) -> list[Block]:
    """How many rows failed and why, by reason, with the keys of some; more of the rows folded."""
    groups = [(f"{group['count']:,} {_cause_text(group)}", group) for group in summary["failures"]]
    for name, metric in islice(summary["metrics"].items(), MOST_METRICS):
        told = f"without {brief(name, 30)}"
        groups += [(f"{one['count']:,} {told}: {_cause_text(one)}", one) for one in metric["failures"]]
    if not groups:
        return []
    failed, rows = summary["failed"], summary["rows"]
    blocks: list[Block] = []
    if failed:
        causes = [text for text, _ in groups[: len(summary["failures"])]]
        told = ", ".join(causes[:MOST_IN_LINE])
        told += f", {len(causes) - MOST_IN_LINE:,} more kinds" if len(causes) > MOST_IN_LINE else ""
        blocks.append(Line(f"{failed:,} of {rows:,} {plural('row', rows)} failed: {told}", Role.HEADLINE))
    named = _rows_of({key for _, group in groups[:MOST_CAUSES] for key in group["keys"]}, result.rows)
    lines = [
        (
            Cell(text, Role.NAME),
            Cell(_keys_text(group["keys"], group["count"], named)),
            Cell(reason_of(named[group["keys"][0]]) if group["keys"][0] in named else ""),
        )
        for text, group in groups[:MOST_CAUSES]
    ]
    blocks.append(Table(("cause", "rows", "reason"), tuple(lines)).without_empty_columns())
    if len(groups) > MOST_CAUSES:
        more = f"... {len(groups) - MOST_CAUSES:,} more kinds: result.summary has them"
        blocks.append(Line(more, Role.NOTE))
    firsts = [named[group["keys"][0]].error for _, group in groups[:MOST_CAUSES] if group["keys"][0] in named]
    hints = dict.fromkeys(_hint(error) for error in firsts if error is not None and error.hint)
    blocks += [Line(f"hint: {brief(hint, LONGEST_READ)}", Role.NOTE) for hint in islice(hints, MOST_HINTS)]
    if failed > len(summary["failures"]):
        blocks.append(_failures_fold(result, most_rows))
    return blocks


def _hint(error: RunError) -> str:
    """What to do; where that is to write one of two lines, with the lines, which a single run shows above it."""
    if error.kind is ErrorKind.NO_RESULT and error.excerpt:
        return f"{error.hint.removesuffix('.')}: {' or '.join(error.excerpt.splitlines())}"
    return error.hint


def _cause_text(group: FailureGroup) -> str:
    text = brief(group["cause"], LONGEST_CAUSE)
    return plural(text, group["count"]) if text == str(ErrorKind.TIMEOUT) else text


def _keys_text(keys: Sequence[str], count: int, rows: Mapping[str, RowResult]) -> str:
    told = [row_name(rows[key]) if key in rows else brief(key) for key in keys]
    return ", ".join(told) + (", ..." if count > len(keys) else "")


def _rows_of(keys: set[str], rows: Iterable[RowResult]) -> dict[str, RowResult]:
    """The rows with these keys; of repetitions the first one that failed."""
    found: dict[str, RowResult] = {}
    for row in rows:
        if row.key in keys and (row.key not in found or found[row.key].ok):
            found[row.key] = row
    return found


def _failures_fold(result: Evaluated, most: int) -> Fold:
    failures = result.failures
    title = f"{len(failures):,} failed {plural('row', len(failures))}{first_of(most, len(failures))}"
    return Fold(title, failures_table(failures[:most]), in_text=f"... {title}: {_variable(result)}.failures")


def _variable(result: Evaluated) -> str:
    """What the reader calls the result."""
    return result.label if result.label.isidentifier() else "result"


def _rows_fold(result: Evaluated, summary: Summary, most: int) -> Fold:
    count = len(result.rows)
    title = f"{count:,} {plural('row', count)}{first_of(most, count)}"
    return Fold(title, rows_table(result.rows[:most], summary), in_text=f"... {title}: {_variable(result)}.rows")


def _note_lines(result: Evaluated) -> list[Line]:
    """Notes on the whole, and those that rows have, the most frequent first."""
    lines = [Line(f"note: {brief(note, LONGEST_READ)}", Role.NOTE) for note in result.notes[:MOST_NOTES]]
    if len(result.notes) > MOST_NOTES:
        lines.append(Line(f"{len(result.notes) - MOST_NOTES:,} more notes are in result.notes.", Role.NOTE))
    counts = Counter(note for row in result.rows if row.ok for note in row.notes if not PARTLY.match(note))
    for note, count in counts.most_common(MOST_ROW_NOTES):
        lines.append(Line(f"note of {count:,} {plural('row', count)}: {brief(note, LONGEST_READ)}", Role.NOTE))
    if len(counts) > MOST_ROW_NOTES:
        lines.append(Line(f"{len(counts) - MOST_ROW_NOTES:,} more notes are in those of the rows.", Role.NOTE))
    return lines


def _time_blocks(result: Evaluated, summary: Summary) -> list[Block]:
    blocks: list[Block] = []
    if slowest := summary["slowest"]:
        named = _rows_of({each["key"] for each in slowest}, result.rows)
        ran_on = {(row.key, row.timings.execution_ms): row.worker for row in result.rows if row.key in named}
        rows = [
            (
                Cell(row_name(named[each["key"]]), Role.NAME),
                Cell(f"{each['ms']:,.0f} ms"),
                Cell(brief(ran_on.get((each["key"], each["ms"])) or "")),
            )
            for each in slowest
        ]
        table = Table(("slowest rows", "time", "worker"), tuple(rows), has_headers_in_text=True)
        blocks.append(table.without_empty_columns())
    return [*blocks, *_worker_blocks(result.rows)]


def _worker_blocks(rows: Sequence[RowResult]) -> list[Block]:
    """What each worker of a cluster has done, those with the most failures first."""
    done: dict[str, list[RowResult]] = {}
    for row in rows:
        if row.worker is not None:
            done.setdefault(row.worker, []).append(row)
    if not done:
        return []
    failed = {worker: sum(not row.ok for row in some) for worker, some in done.items()}
    order = sorted(done, key=lambda worker: (-failed[worker], -len(done[worker]), worker))
    lines = [_worker_line(worker, done[worker], failed[worker]) for worker in order[:MOST_WORKERS]]
    table = Table(("worker", "rows", "failed", "mean time"), tuple(lines), has_headers_in_text=True)
    blocks: list[Block] = [table.without_empty_columns()]
    if len(order) > MOST_WORKERS:
        blocks.append(Line(f"... {len(order) - MOST_WORKERS:,} more workers", Role.NOTE))
    return blocks


def _worker_line(worker: str, rows: Sequence[RowResult], failed: int) -> tuple[Cell, ...]:
    times = [row.timings.execution_ms for row in rows if not math.isnan(row.timings.execution_ms)]
    return (
        Cell(brief(worker), Role.NAME),
        count_cell(len(rows)),
        count_cell(failed) if failed else Cell(""),
        Cell(f"{sum(times) / len(times):,.0f} ms" if times else ""),
    )
