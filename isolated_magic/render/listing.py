"""What there is to see of a kernel's runs, and of one in the background."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolated_magic.render.blocks import Cell, Code, Line, Role, Table
from isolated_magic.render.values import one_line, shown, value_text
from isolated_magic.render.view import MOST_ROWS, view_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isolated_magic.executors.background import BackgroundRun
    from isolated_magic.history import History, Run
    from isolated_magic.models import Score
    from isolated_magic.render.blocks import Block, View

HEADERS = ("run", "cell", "result", "changed")
MOST_RUNS = 50
MOST_SCORES = 6  # of one run
LONGEST_ERROR = 80  # characters; to_pandas() has all of it
LONGEST_OUTPUT = 10_000  # characters of each stream
NOTHING = "No cell has been run yet."


def view_of_history(history: History) -> View:
    """What there is to see of the runs, the oldest first.

    Args:
        history: of a kernel.
    """
    if not history.runs:
        return (Line(NOTHING),)
    shown = history.runs[-MOST_RUNS:]
    table = Table(HEADERS, tuple(map(_row, shown)), has_headers_in_text=True).without_empty_columns()
    left_out = len(history.runs) - len(shown)
    if not left_out:
        return (table,)
    return (Line(f"{left_out} earlier runs are not shown: to_pandas() has them.", Role.NOTE), table)


def view_of_background(run: BackgroundRun, most_rows: int = MOST_ROWS, *, is_just_begun: bool = False) -> View:
    """What there is to see of a run in the background: once it has ended, its output and its result.

    Args:
        run: the handle.
        most_rows: scores beyond this many are folded.
        is_just_begun: whether it is shown as running whether it has ended or not, so that what a notebook saves
            does not depend on how fast it was.
    """
    state = "running" if is_just_begun else run.state
    title = Line(f"{type(run).__name__} {one_line(run.label)}: {state}", Role.HEADLINE)
    result = None if state == "running" else run.peek()
    if result is None:
        return (title,)
    return (
        title,
        *_output_blocks("", result.stdout),
        *_output_blocks("stderr", result.stderr),
        *view_of(result, most_rows),
    )


def _output_blocks(name: str, text: str) -> Iterator[Block]:
    lines = shown(text[:LONGEST_OUTPUT]).strip("\n")
    if not lines.strip():
        return
    if name:
        yield Line(f"{name}:", Role.NOTE)
    yield Code(lines)
    if len(text) > LONGEST_OUTPUT:
        more = len(text) - LONGEST_OUTPUT
        yield Line(f"{more:,} more characters of it are in the handle's {name or 'stdout'}.", Role.NOTE)


def _row(run: Run) -> tuple[Cell, ...]:
    outcome = outcome_text(run.scores, run.error)
    return (
        Cell(str(run.number), Role.NAME),
        Cell(one_line(run.cell), Role.VALUE),
        Cell(outcome),
        Cell(one_line(", ".join(run.differs_in)), Role.CHANGE),
    )


def outcome_text(scores: Sequence[Score], error: str) -> str:
    """What a run came to, on one short line.

    Args:
        scores: of the run.
        error: in one line; empty when there is none.
    """
    if error:
        error = one_line(error)
        return f"error: {error if len(error) <= LONGEST_ERROR else error[: LONGEST_ERROR - 3] + '...'}"
    told = [f"{one_line(score.name)} {value_text(score)}" for score in scores[:MOST_SCORES]]
    if len(scores) > MOST_SCORES:
        told.append(f"... {len(scores) - MOST_SCORES} more")
    return ", ".join(told) or "no scores"
