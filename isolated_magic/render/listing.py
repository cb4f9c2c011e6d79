"""What there is to see of a kernel's runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolated_magic.render.blocks import Cell, Line, Role, Table
from isolated_magic.render.values import one_line, value_text

if TYPE_CHECKING:
    from isolated_magic.history import History, Run
    from isolated_magic.render.blocks import View

HEADERS = ("run", "cell", "result")
MOST_RUNS = 50
MOST_SCORES = 6  # of one run
LONGEST_ERROR = 80  # characters; to_pandas() has all of it
NOTHING = "No cell has been run yet."


def view_of_history(history: History) -> View:
    """What there is to see of the runs, the oldest first.

    Args:
        history: of a kernel.
    """
    if not history.runs:
        return (Line(NOTHING),)
    shown = history.runs[-MOST_RUNS:]
    table = Table(HEADERS, tuple(map(_row, shown)), has_headers_in_text=True)
    left_out = len(history.runs) - len(shown)
    if not left_out:
        return (table,)
    return (Line(f"{left_out} earlier runs are not shown: to_pandas() has them.", Role.NOTE), table)


def _row(run: Run) -> tuple[Cell, ...]:
    return (Cell(str(run.number), Role.NAME), Cell(one_line(run.cell), Role.VALUE), Cell(_result_text(run)))


def _result_text(run: Run) -> str:
    if run.error:
        error = one_line(run.error)
        return f"error: {error if len(error) <= LONGEST_ERROR else error[: LONGEST_ERROR - 3] + '...'}"
    told = [f"{one_line(score.name)} {value_text(score)}" for score in run.scores[:MOST_SCORES]]
    if len(run.scores) > MOST_SCORES:
        told.append(f"... {len(run.scores) - MOST_SCORES} more")
    return ", ".join(told) or "no scores"
