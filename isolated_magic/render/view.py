"""What a reader sees of a result, of a run in the background, and of the history of a kernel."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal
from itertools import islice
from typing import TYPE_CHECKING

from isolated_magic.child.error_report import ARROW
from isolated_magic.models import FAIL, PASS, ErrorKind
from isolated_magic.render.blocks import Cell, Code, Fold, Line, Role, Table
from isolated_magic.render.formatting import (
    DOWN,
    FAILED,
    UP,
    as_json,
    bar,
    change_text,
    mean_of,
    name_text,
    number_in,
    number_of,
    number_text,
    one_line,
    share_in,
    shown,
    time_since,
    value_text,
    verdict_text,
)
from isolated_magic.render.terminal import settled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from isolated_magic.executors.background import BackgroundRun
    from isolated_magic.history import History, Run
    from isolated_magic.models import RunError, RunResult, Score
    from isolated_magic.render.blocks import Block, View
    from isolated_magic.strict_json import JsonValue

HEADERS = ("score", "value", "pass", "change", "", "reason")
MOST_ROWS = 20  # seen without a click
MOST_FOLDED = 1000  # and after it
MOST_NOTES = 20
LONGEST_JSON = 10_000  # characters
GONE = "-"
NO_BAR = Cell("", Role.BAR)
NOTHING_BEFORE = "No earlier run to compare with."

SUMMARY_HEADERS = ("name", "count", "mean", "min", "max", "failed", "not averaged")
MOST_NAMES = 20

WHOLE_ERROR, WHOLE_STACK = "Traceback", "Where the code was"
TRACEBACK = "Traceback (most recent call last):"
LAST_VALUE = "What it ended with:"
_FRAME = '  File "'

HISTORY_HEADERS = ("run", "when", "cell", "result", "changed")
MOST_RUNS = 50
MOST_SCORES_OF_RUN = 6
LONGEST_OF_RUN = 24  # characters of a name, and of a value
LONGEST_ERROR = 80  # characters; to_pandas() has all of it
ERROR = "error"
LONGEST_OUTPUT = 10_000  # characters of each stream
NO_RUNS = "No cell has been run yet."


def view_of(result: RunResult, most_rows: int = MOST_ROWS) -> View:
    """The view of a result: the same for the same result, whenever and wherever it ran.

    Scores beyond ``most_rows`` are folded.
    """
    if result.error is not None:
        notes = () if result.error.kind is ErrorKind.STRICT else result.notes  # which are its text
        scores = _score_blocks(result, most_rows) if result.error.kind is ErrorKind.NO_SCORE else ()
        return (*_error_blocks(result.error, notes), *scores)
    blocks: list[Block] = [*_score_blocks(result, most_rows)]
    if result.payload is not None:
        rest = dict(result.payload)
        if result.scores:
            rest.pop("scores", None)
        if rest or not result.scores:
            blocks += _code_blocks(as_json(rest), LONGEST_JSON, "result.payload")
    if result.notes:
        blocks += _note_lines(result.notes)
    if result.compared_with == ():
        blocks.append(Line(NOTHING_BEFORE, Role.NOTE))
    elif result.compared_with and result.differs_in:
        *most, last = result.differs_in
        differs = f"{', '.join(most)} and {last}" if most else last
        blocks.append(Line(f"Compared with a run that differs in {one_line(differs)}.", Role.NOTE))
    return tuple(blocks)


def _note_lines(notes: Sequence[str]) -> list[Line]:
    lines = [Line(f"note: {one_line(note)}", Role.NOTE) for note in notes[:MOST_NOTES]]
    if len(notes) > MOST_NOTES:
        lines.append(Line(f"{len(notes) - MOST_NOTES:,} more notes are in result.notes.", Role.NOTE))
    return lines


def _code_blocks(text: str, most: int, whole: str) -> list[Block]:
    """The beginning of a text, and where the whole text is if that is not all of it."""
    if len(text) <= most:
        return [Code(text)]
    return [Code(text[:most]), Line(f"{len(text) - most:,} more characters of it are in {whole}.", Role.NOTE)]


def _error_blocks(error: RunError, notes: Sequence[str]) -> View:
    is_no_traceback = error.kind in {ErrorKind.NO_RESULT, ErrorKind.NO_SCORE}
    is_told_otherwise = is_no_traceback and not error.text.startswith(error.summary)
    rest = "" if is_told_otherwise else shown(error.text.removeprefix(error.summary).strip("\n"))
    blocks: list[Block] = [Line(shown(error.summary), Role.ERROR)]
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
    blocks += _note_lines(notes)
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


def _score_blocks(result: RunResult, most_rows: int) -> View:
    rows, count = _rows(result, most_rows + MOST_FOLDED)
    if not rows:
        return ()
    table = Table(HEADERS, tuple(rows)).without_empty_columns()
    if count <= most_rows:
        return (table,)
    first, others = Table(table.headers, table.rows[:most_rows]), Table(table.headers, table.rows[most_rows:])
    more = f"{count - most_rows:,} more scores"
    if count > most_rows + MOST_FOLDED:
        more += f", the first {MOST_FOLDED:,} of them"
    return (*summary(result.scores, result.score_label), first, Fold(more, others, in_text=f"... {more}"))


def _rows(result: RunResult, most: int) -> tuple[list[tuple[Cell, ...]], int]:
    """The rows, at most so many, and how many there are: failed scores, others, those of the earlier run alone."""
    before = _by_occurrence(result.compared_with or ())
    failed: list[tuple[Score, Score | None]] = []
    others: list[tuple[Score, Score | None]] = []
    for key, score in _by_occurrence(result.scores).items():
        (failed if score.scoring_failed else others).append((score, before.pop(key, None)))
    pairs = failed + others
    has_other_data = "data" in result.differs_in
    rows = []
    for score, earlier in pairs[:most]:
        change = change_text(score, earlier, has_other_data=has_other_data) if result.compared_with else ""
        rows.append(_row(score, change, result.score_label))
    for score in islice(before.values(), most - len(rows)):
        change_cell = Cell(f"gone, was {value_text(score)}", Role.CHANGE)
        name = _name_cell(score, result.score_label)
        rows.append((name, Cell(GONE, Role.VALUE), Cell(""), change_cell, NO_BAR, Cell("")))
    return rows, len(pairs) + len(before)


def _by_occurrence(scores: Iterable[Score]) -> dict[tuple[str, int], Score]:
    """Scores by their name and by how many of that name came before."""
    found: dict[tuple[str, int], Score] = {}
    counts: Counter[str] = Counter()
    for score in scores:
        found[score.name, counts[score.name]] = score
        counts[score.name] += 1
    return found


def _row(score: Score, change: str, label: str) -> tuple[Cell, ...]:
    value, drawn = Cell(FAILED, Role.FAILED), NO_BAR
    if not score.scoring_failed:
        value = Cell(value_text(score), Role.VALUE, number=number_of(score.value))
        drawn = Cell(bar(score.value), Role.BAR, number=share_in(score.value))
    reason = Cell(one_line(score.reason or ""))
    return _name_cell(score, label), value, _verdict_cell(score), _change_cell(change), drawn, reason


def _name_cell(score: Score, label: str) -> Cell:
    return Cell(name_text(score, label), Role.NAME)


def _change_cell(change: str) -> Cell:
    mark = change.partition(",")[0]
    role = Role.BETTER if mark.startswith(UP) else Role.WORSE if mark.startswith(DOWN) else Role.CHANGE
    return Cell(change, role, mark)


def _verdict_cell(score: Score) -> Cell:
    if score.passed is None:
        return Cell(verdict_text(score), Role.CHANGE)
    role, mark = (Role.PASSED, PASS) if score.passed else (Role.FAILED, FAIL)
    return Cell(verdict_text(score), role, mark)


def summary(scores: Sequence[Score], label: str = "") -> View:
    """One line, or a table by name: only scores of one name have a mean. There has to be a score."""
    by_name: dict[str, list[Score]] = {}
    for score in scores:
        by_name.setdefault(score.name, []).append(score)
    said = [f"{len(scores):,} scores"]
    if len(by_name) == 1:
        _, _, mean, least, most, _, others = _summary_row(scores, label)
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
    rows = [_summary_row(of_name, label) for of_name in islice(by_name.values(), MOST_NAMES)]
    table = Table(SUMMARY_HEADERS, tuple(rows), has_headers_in_text=True).without_empty_columns()
    if len(by_name) <= MOST_NAMES:
        return (headline, table)
    return (headline, table, Line(f"... {len(by_name) - MOST_NAMES:,} more names", Role.NOTE))


def _summary_row(scores: Sequence[Score], label: str) -> tuple[Cell, ...]:
    valid = [score.value for score in scores if not score.scoring_failed]
    numbers = [number for number in map(number_in, valid) if number is not None]
    others = Counter(_kind(value) for value in valid if number_in(value) is None)
    figures = [_figure(one(numbers)) if numbers else Cell("") for one in (mean_of, min, max)]
    failed = len(scores) - len(valid)
    return (
        _name_cell(scores[0], label),
        Cell(f"{len(scores):,}", Role.VALUE, number=Decimal(len(scores))),
        *figures,
        Cell(f"{failed:,} {FAILED}" if failed else "", Role.FAILED),
        Cell(", ".join(f"{count:,} {kind}" for kind, count in others.items())),
    )


def _figure(number: Decimal) -> Cell:
    return Cell(number_text(number), Role.VALUE, number=number)


def _kind(value: JsonValue) -> str:
    """What to call a value that has no mean."""
    if value is None:
        return "without a value"
    if isinstance(value, str):
        return "text"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "JSON"
    return "NaN" if value != value else "infinite" if value in {math.inf, -math.inf} else "too large"  # noqa: PLR0124 - an integer may be beyond math.isnan()


def view_of_history(history: History, now: datetime | None = None) -> View:
    """The view of the runs of a kernel, the oldest first.

    With the time, it says how long ago each was: for what is seen, and saved nowhere.
    """
    if not history.runs:
        return (Line(NO_RUNS),)
    listed = history.runs[-MOST_RUNS:]
    rows = tuple(_history_row(run, now) for run in listed)
    table = Table(HISTORY_HEADERS, rows, has_headers_in_text=True).without_empty_columns()
    if left_out := len(history.runs) - len(listed):
        return (Line(f"{left_out} earlier runs are not shown: to_pandas() has them.", Role.NOTE), table)
    return (table,)


def _history_row(run: Run, now: datetime | None) -> tuple[Cell, ...]:
    outcome = one_line(run.told) or outcome_text(run.scores, run.error, run.score_label)
    return (
        Cell(f"[{run.number}]", Role.NAME),
        Cell("" if now is None else time_since((now - run.ended_at).total_seconds()), Role.NOTE),
        Cell(one_line(run.cell), Role.LINE),
        Cell(outcome, Role.FAILED, ERROR) if run.error else Cell(outcome, Role.LINE),
        Cell(one_line(", ".join(run.differs_in)), Role.CHANGE),
    )


def outcome_text(scores: Sequence[Score], error: str, label: str = "") -> str:
    """The scores of a run on one short line, or its error if that is not empty."""
    if error:
        return f"{ERROR}: {_cut(one_line(error), LONGEST_ERROR)}"
    told = [_outcome_of(score, label) for score in scores[:MOST_SCORES_OF_RUN]]
    if len(scores) > MOST_SCORES_OF_RUN:
        told.append(f"... {len(scores) - MOST_SCORES_OF_RUN} more")
    return ", ".join(told) or "no scores"


def _outcome_of(score: Score, label: str) -> str:
    name, value = (_cut(text, LONGEST_OF_RUN) for text in (name_text(score, label), value_text(score)))
    is_judged = score.passed is not None and not score.scoring_failed
    return f"{name} {value}" + (f" {PASS if score.passed else FAIL}" if is_judged else "")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def view_of_background(
    run: BackgroundRun, most_rows: int = MOST_ROWS, *, is_just_begun: bool = False, has_output: bool = True
) -> View:
    """The view of a run in the background: once it has ended, its output, if it is to have that, and its result.

    With ``is_just_begun`` it is running, even if it has ended: what a notebook saves must not depend on its speed.
    """
    state = "running" if is_just_begun else run.state
    blocks: list[Block] = [Line(f"{type(run).__name__} {one_line(run.label)}: {state}", Role.HEADLINE)]
    result = None if state == "running" else run.peek()
    if result is None:
        return tuple(blocks)
    for name, printed in (("stdout", result.stdout), ("stderr", result.stderr)) if has_output else ():
        text = settled(printed)
        if not (lines := shown(text[:LONGEST_OUTPUT]).strip("\n")).strip():
            continue
        if name == "stderr":
            blocks.append(Line("stderr:", Role.NOTE))
        blocks.append(Code(lines))
        if (more := len(text) - LONGEST_OUTPUT) > 0:
            blocks.append(Line(f"{more:,} more characters of it are in the handle's {name}.", Role.NOTE))
    return (*blocks, *view_of(result, most_rows))
