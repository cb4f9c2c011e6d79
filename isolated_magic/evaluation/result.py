"""What an evaluation returns: RowResult for each row, EvaluationResult for all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from isolated_magic.errors import RunInterrupted
from isolated_magic.models import Timings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated_magic.models import DisplayData, RunError, RunResult, Score
    from isolated_magic.strict_json import JsonObject


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to score a row.

    Args:
        error: why it failed; None for the one that succeeded.
        timings: durations in milliseconds.
    """

    error: RunError | None
    timings: Timings


@dataclass(frozen=True, slots=True, eq=False)
class RowResult:
    """The result of one row. Equality ignores timings.

    Args:
        index: position of the row in the input, from 0.
        key: what the row is called in checkpoints, comparisons and lists of failures.
        row: the row as it was read; values of secrets in it are hidden.
        scores: its scores; empty if there are none.
        error: why it has no scores, or None.
        notes: sentences to show beside the scores.
        stdout: text that the code printed for it, without the line that is its result.
        stderr: text that the code wrote to stderr for it.
        payload: the JSON object that is its result, where that holds more than scores; else None.
        displays: what the code displayed for it.
        repetition: which of its repetitions this is, from 0.
        cluster: which rows belong together, for the intervals; None if each stands alone.
        failed_attempts: those before the last one, oldest first.
        timings: of the last attempt, in milliseconds.
        is_resumed: whether it was read from a checkpoint instead of run.
    """

    index: int
    key: str
    row: object = field(repr=False)
    scores: tuple[Score, ...] = ()
    error: RunError | None = None
    notes: tuple[str, ...] = ()
    stdout: str = ""
    stderr: str = field(default="", repr=False)
    payload: JsonObject | None = None
    displays: tuple[DisplayData, ...] = field(default=(), repr=False)
    repetition: int = 0
    cluster: str | None = None
    failed_attempts: tuple[Attempt, ...] = field(default=(), repr=False)
    timings: Timings = field(default=Timings(), repr=False)
    is_resumed: bool = field(default=False, repr=False)

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RowResult) and self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        told = self.index, self.key, self.repetition, self.error, self.notes, self.stdout, self.stderr
        return (*told, tuple(map(repr, self.scores)))  # in which NaN is equal to itself

    @property
    def ok(self) -> bool:
        """Whether it has no error."""
        return self.error is None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """All attempts, the last one included."""
        return (*self.failed_attempts, Attempt(self.error, self.timings))


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationResult:
    """The result of an evaluation.

    Args:
        rows: a RowResult for each row that was begun, in the order of the input.
        not_run: number of rows that were not begun; None if nobody knows how many there are.
        stopped: why it ended before all rows were done, as a sentence; empty if it did not.
        repeat: how often each row was run.
        notes: sentences about the evaluation as a whole.
        label: what it is called where it is shown; empty for nothing.
    """

    rows: tuple[RowResult, ...] = ()
    not_run: int | None = 0
    stopped: str = ""
    repeat: int = 1
    notes: tuple[str, ...] = ()
    label: str = ""

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvaluationResult) and self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        return self.rows, self.not_run, self.stopped, self.repeat, self.notes

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RowResult]:
        return iter(self.rows)

    @property
    def ok(self) -> bool:
        """Whether every row was scored: none failed, none was left out."""
        return not (self.failures or self.stopped or self.not_run)

    def __bool__(self) -> bool:
        """As :attr:`ok`."""
        return self.ok

    @cached_property
    def failures(self) -> tuple[RowResult, ...]:
        """The rows that have an error, in the order of the input."""
        return tuple(row for row in self.rows if row.error is not None)


class EvaluationInterrupted(RunInterrupted):
    """An evaluation was interrupted. All its processes have ended.

    Args:
        result: what was done until then.
    """

    def __init__(self, result: EvaluationResult) -> None:
        self.result = result
        super().__init__(f"{result.stopped} What was done is in .result of this exception.")


def row_result(
    result: RunResult,
    *,
    index: int,
    key: str,
    row: object,
    repetition: int = 0,
    cluster: str | None = None,
    failed_attempts: tuple[Attempt, ...] = (),
) -> RowResult:
    """The result of one row from that of its last run."""
    payload = result.payload
    return RowResult(
        index=index,
        key=key,
        row=row,
        scores=result.scores,
        error=result.error,
        notes=result.notes,
        stdout=result.stdout,
        stderr=result.stderr,
        payload=payload if payload is not None and (not result.scores or len(payload) > 1) else None,
        displays=result.displays,
        repetition=repetition,
        cluster=cluster,
        failed_attempts=failed_attempts,
        timings=result.timings,
    )
