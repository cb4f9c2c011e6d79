"""What there is to see of a result, of a run in the background, and of the history of a kernel."""

from __future__ import annotations

import math
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.child.error_report import ARROW
from isolated_magic.models import ErrorKind
from isolated_magic.render.blocks import Cell, Code, Fold, Line, Role, Table
from isolated_magic.render.formatting import (
    FAILED,
    as_json,
    bar,
    change_text,
    mean_text,
    number_in,
    number_text,
    one_line,
    shown,
    value_text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from isolated_magic.executors.background import BackgroundRun
    from isolated_magic.history import History, Run
    from isolated_magic.models import RunError, RunResult, Score
    from isolated_magic.render.blocks import Block, View
    from isolated_magic.strict_json import JsonObject, JsonValue


HEADERS = ("score", "value", "change", "bar", "reason")
MOST_ROWS = 20  # seen without a click
MOST_FOLDED = 1000  # and after it
MOST_NOTES = 20
LONGEST_JSON = 10_000  # characters
SUMMARY_HEADERS = ("name", "count", "mean", "min", "max", "failed", "not averaged")
MOST_NAMES = 20  # in a summary
GONE = "-"
WHOLE_ERROR, WHOLE_STACK = "Traceback", "Where the code was"
TRACEBACK = "Traceback (most recent call last):"
_FRAME = '  File "'
LAST_VALUE = "What it ended with:"
NOTHING_BEFORE = "No earlier run to compare with."


def view_of(result: RunResult, most_rows: int = MOST_ROWS) -> View:
    """What there is to see of a result. The same for the same result, whenever and wherever it ran.

    Args:
        result: of a run.
        most_rows: scores beyond this many are folded.
    """
    if result.error is not None:
        notes = () if result.error.kind is ErrorKind.STRICT else _note_lines(result.notes)  # they are its text
        return _error_blocks(result.error, notes)
    payload = result.payload or {}
    blocks: list[Block] = [*_score_blocks(result, most_rows)]
    rest: JsonObject = {key: value for key, value in payload.items() if key != "scores" or not result.scores}
    if rest or (result.payload is not None and not result.scores):
        blocks += _json_blocks(as_json(rest))
    blocks += _note_lines(result.notes)
    if result.compared_with == ():
        blocks.append(Line(NOTHING_BEFORE, Role.NOTE))
    elif result.compared_with and result.differs_in:
        *most, last = result.differs_in
        differs = f"{', '.join(most)} and {last}" if most else last
        blocks.append(Line(f"Compared with a run that differs in {one_line(differs)}.", Role.NOTE))
    return tuple(blocks)


def _note_lines(notes: Sequence[str]) -> View:
    lines = [Line(f"note: {one_line(note)}", Role.NOTE) for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        lines.append(Line(f"{len(notes) - MOST_NOTES:,} more notes are in result.notes.", Role.NOTE))
    return tuple(lines)


def _json_blocks(text: str) -> Iterator[Block]:
    yield Code(text[:LONGEST_JSON])
    if len(text) > LONGEST_JSON:
        more = len(text) - LONGEST_JSON
        yield Line(f"{more:,} more characters of it are in result.payload.", Role.NOTE)


def _error_blocks(error: RunError, notes: View) -> View:
    is_told_otherwise = error.kind is ErrorKind.NO_RESULT and not error.text.startswith(error.summary)
    rest = "" if is_told_otherwise else shown(error.text.removeprefix(error.summary).strip("\n"))
    blocks: list[Block] = [Line(shown(error.summary), Role.HEADLINE)]
    if error.excerpt and (message := _rest_of_message(rest)) is not None:
        rest = ""
        blocks += [Code(message)] if message else []
    if rest and "\n" not in rest:
        blocks.append(Line(rest))
    if error.excerpt:
        blocks.append(Code(shown(error.excerpt), mark=ARROW))
    if error.hint:
        blocks.append(Line(shown(error.hint)))
    if error.found_repr:
        blocks += [Line(LAST_VALUE, Role.NOTE), Code(shown(error.found_repr))]
    blocks += notes
    if "\n" in rest:
        blocks.append(Fold(WHOLE_ERROR, Code(rest)))
    if error.stack and not (error.excerpt and error.stack.count(_FRAME) == 1):
        blocks.append(Fold(WHOLE_STACK, Code(shown(error.stack))))
    return tuple(blocks)


def _rest_of_message(traceback: str) -> str | None:
    """What the error of a traceback says below its first line; None where there is more than one frame."""
    before, frame, after = traceback.partition(_FRAME)
    if not frame or _FRAME.strip() in after or before.strip() not in {"", TRACEBACK}:
        return None
    lines = after.split("\n")[1:]
    while lines and lines[0].startswith("    "):  # the line of the code, and marks
        del lines[0]
    return "\n".join(lines[1:]).strip("\n") if lines else None


def _rows(result: RunResult, most: int) -> tuple[list[tuple[Cell, ...]], int]:
    """One for each score, failed ones first; then those that an earlier run had and this one has not.

    Returns:
        At most so many of them, and how many there are.
    """
    before = _by_occurrence(result.compared_with or ())
    pairs = [(score, before.pop(key, None)) for key, score in _by_occurrence(result.scores).items()]
    pairs.sort(key=lambda pair: not pair[0].scoring_failed)  # stable: the order stays otherwise
    rows = [_row(score, _change(score, earlier, result)) for score, earlier in pairs[:most]]
    rows += [_gone_row(score) for score in islice(before.values(), most - len(rows))]
    return rows, len(pairs) + len(before)


def _by_occurrence(scores: Iterable[Score]) -> dict[tuple[str, int], Score]:
    """Scores by their name and by how many of that name came before."""
    found: dict[tuple[str, int], Score] = {}
    counts: dict[str, int] = {}
    for score in scores:
        count = counts.get(score.name, 0)
        counts[score.name] = count + 1
        found[score.name, count] = score
    return found


def _change(score: Score, before: Score | None, result: RunResult) -> str:
    if not result.compared_with:
        return ""
    return change_text(score, before, has_other_data="data" in result.differs_in)


def _row(score: Score, change: str) -> tuple[Cell, ...]:
    failed = score.scoring_failed
    return (
        Cell(one_line(score.name), Role.NAME),
        Cell(value_text(score), Role.FAILED if failed else Role.VALUE),
        Cell(change, Role.CHANGE),
        Cell("" if failed else bar(score.value), Role.BAR),
        Cell(one_line(score.reason or ""), Role.PROSE),
    )


def _gone_row(score: Score) -> tuple[Cell, ...]:
    change = f"gone, was {value_text(score)}"
    return (
        Cell(one_line(score.name), Role.NAME),
        Cell(GONE, Role.VALUE),
        Cell(change, Role.CHANGE),
        Cell("", Role.BAR),
        Cell("", Role.PROSE),
    )


def _score_blocks(result: RunResult, most_rows: int) -> View:
    rows, count = _rows(result, most_rows + MOST_FOLDED)
    if not rows:
        return ()
    table = Table(HEADERS, tuple(rows)).without_empty_columns()
    if count <= most_rows:
        return (table,)
    first, others = (Table(table.headers, part) for part in (table.rows[:most_rows], table.rows[most_rows:]))
    more = f"{count - most_rows:,} more scores"
    if count > most_rows + MOST_FOLDED:
        more += f", the first {MOST_FOLDED:,} of them"
    return (*summary(result.scores), first, Fold(more, others, in_text=f"... {more}"))


def summary(scores: Sequence[Score]) -> View:
    """What there is to see of many scores: a line for each name, because only scores of one name have a mean.

    Args:
        scores: at least one.
    """
    by_name: dict[str, list[Score]] = {}
    for score in scores:
        by_name.setdefault(score.name, []).append(score)
    said = [f"{len(scores):,} scores"]
    if len(by_name) == 1:
        _, _, mean, least, most, _, others = _summary_row(next(iter(by_name)), scores)
        if mean.text:
            said.append(f"mean {mean.text}, from {least.text} to {most.text}")
    failed = sum(score.scoring_failed for score in scores)
    if failed:
        said.append(f"{failed:,} {FAILED}")
    if len(by_name) == 1 and others.text:
        said.append(f"not averaged: {others.text}")
    headline = Line("; ".join(said), Role.HEADLINE)
    if len(by_name) in {1, len(scores)}:  # or each has a name of its own
        return (headline,)
    rows = [_summary_row(name, of_name) for name, of_name in islice(by_name.items(), MOST_NAMES)]
    table = Table(SUMMARY_HEADERS, tuple(rows), has_headers_in_text=True).without_empty_columns()
    if len(by_name) <= MOST_NAMES:
        return (headline, table)
    return (headline, table, Line(f"... {len(by_name) - MOST_NAMES:,} more names", Role.NOTE))


def _summary_row(name: str, scores: Sequence[Score]) -> tuple[Cell, ...]:
    valid = [score.value for score in scores if not score.scoring_failed]
    numbers = [number for number in map(number_in, valid) if number is not None]
    others = Counter(_kind(value) for value in valid if number_in(value) is None)
    figures = [mean_text(numbers), number_text(min(numbers)), number_text(max(numbers))] if numbers else [""] * 3
    failed = len(scores) - len(valid)
    return (
        Cell(one_line(name), Role.NAME),
        Cell(f"{len(scores):,}", Role.VALUE),
        *(Cell(figure, Role.VALUE) for figure in figures),
        Cell(f"{failed:,} {FAILED}" if failed else "", Role.FAILED),
        Cell(", ".join(f"{count:,} {kind}" for kind, count in others.items())),
    )


def _kind(value: JsonValue) -> str:
    """What a value is that has no mean."""
    if value is None:
        return "without a value"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "JSON"
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else "infinite" if math.isinf(value) else "too large"
    return "too large"


HISTORY_HEADERS = ("run", "cell", "result", "changed")
MOST_RUNS = 50
MOST_SCORES_OF_RUN = 6  # of one run
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
    listed = history.runs[-MOST_RUNS:]
    table = Table(
        HISTORY_HEADERS, tuple(map(_history_row, listed)), has_headers_in_text=True
    ).without_empty_columns()
    left_out = len(history.runs) - len(listed)
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


def _history_row(run: Run) -> tuple[Cell, ...]:
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
    told = [f"{one_line(score.name)} {value_text(score)}" for score in scores[:MOST_SCORES_OF_RUN]]
    if len(scores) > MOST_SCORES_OF_RUN:
        told.append(f"... {len(scores) - MOST_SCORES_OF_RUN} more")
    return ", ".join(told) or "no scores"
