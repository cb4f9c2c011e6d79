"""What a reader sees of one row of an evaluation: its scores or its error, what it is made of, what it printed."""

from __future__ import annotations

import re
import reprlib
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.evaluation.figures import LONGEST_READ, brief
from isolated_magic.models import RunResult
from isolated_magic.render.blocks import Cell, Code, Fold, Line, Role, Table
from isolated_magic.render.formatting import FAILED, number_of, shown, value_text
from isolated_magic.render.terminal import settled
from isolated_magic.render.view import view_of
from isolated_magic.sanitize import without_addresses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.summary import Summary
    from isolated_magic.models import Score
    from isolated_magic.render.blocks import Block, View

MOST_COLUMNS = 8  # metrics beside a row
LONGEST_OUTPUT = 10_000  # characters of each stream
NO_KEY = re.compile(r"[0-9a-f]{16}(-\d+)?|#\d+")  # of a row that was given none: a digest, or its place

_repr_of_row = reprlib.Repr()
_repr_of_row.maxdict = _repr_of_row.maxlist = _repr_of_row.maxtuple = 12
_repr_of_row.maxstring = _repr_of_row.maxother = 120
_repr_of_row.maxlevel = 3


def view_of_row(row: RowResult) -> View:
    """The view of one row: the same for the same one, whenever and wherever it was run."""
    told = "failed" if row.error is not None else "scored" if row.scores else "run"
    tries = f" after {len(row.attempts):,} attempts" if row.failed_attempts else ""
    blocks: list[Block] = [Line(f"{row_name(row)}: {told}{tries}", Role.HEADLINE), Code(row_text(row.row))]
    as_run = RunResult(row.payload, row.scores, error=row.error, notes=row.notes)
    blocks += view_of(as_run)
    for name, printed in (("stdout", row.stdout), ("stderr", row.stderr)):
        text = shown(settled(printed)[:LONGEST_OUTPUT]).strip("\n")
        if text.strip():
            blocks.append(Fold(name, Code(text)))
    return tuple(blocks)


def rows_table(rows: Sequence[RowResult], summary: Summary, *, has_data: bool = False) -> Table:
    """Rows with their scores or their errors, and with what they are made of if that is asked for."""
    names = [*islice(summary["metrics"], MOST_COLUMNS)]
    headers = ("row", *(brief(name, 30) for name in names), "data", "reasons", "notes", "error")
    made = []
    for row in rows:
        by_name = {score.name: score for score in reversed(row.scores)}
        cells = [_score_cell(by_name.get(name)) for name in names]
        told = (row_text(row.row), _reasons_text(row), "; ".join(row.notes)) if has_data else ("", "", "")
        texts = [Cell(brief(text, LONGEST_READ)) for text in (*told, reason_of(row))]
        made.append((Cell(row_name(row), Role.NAME), *cells, *texts))
    return Table(headers, tuple(made)).without_empty_columns()


def failures_table(failures: Sequence[RowResult], *, has_data: bool = False) -> Table:
    """Rows that failed and why, and what they are made of if that is asked for."""
    rows = [
        (
            Cell(row_name(row), Role.NAME),
            Cell(reason_of(row)),
            Cell(f"{len(row.attempts):,}" if row.failed_attempts else ""),
            Cell(row_text(row.row) if has_data else ""),
        )
        for row in failures
    ]
    return Table(("row", "reason", "attempts", "data"), tuple(rows)).without_empty_columns()


def row_name(row: RowResult) -> str:
    """The key of a row; its place in the input if it was given none; and its repetition."""
    name = f"rows[{row.index}]" if NO_KEY.fullmatch(row.key) else brief(row.key)
    return f"{name} ({row.repetition + 1})" if row.repetition else name


def row_text(row: object) -> str:
    """A row on one line, whatever it is and however large."""
    try:
        text = _repr_of_row.repr(row)
    except Exception:  # noqa: BLE001 - whatever a repr of somebody else's raises
        return type(row).__name__
    return brief(without_addresses(text), LONGEST_READ)


def reason_of(row: RowResult) -> str:
    """Why it failed, on one line; empty if it did not."""
    return "" if row.error is None else brief(row.error.summary, LONGEST_READ)


def _reasons_text(row: RowResult) -> str:
    told = [
        f"{brief(score.name, 30)}: {brief(score.reason, LONGEST_READ)}" for score in row.scores if score.reason
    ]
    return "; ".join(told[:MOST_COLUMNS])


def _score_cell(score: Score | None) -> Cell:
    if score is None:
        return Cell("")
    if score.scoring_failed:
        return Cell(FAILED, Role.FAILED)
    return Cell(brief(value_text(score)), Role.VALUE, number=number_of(score.value))
