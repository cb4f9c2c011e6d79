"""What an evaluation returns for one row: a RowResult."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isolated_magic.models import Timings

if TYPE_CHECKING:
    from isolated_magic.models import DisplayData, RunError, RunResult, Score
    from isolated_magic.strict_json import JsonObject


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to score a row.

    Args:
        error: why it failed; None for the one that succeeded.
        timings: durations in milliseconds.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.evaluate("1 / data['n']", [{"n": 0}], retries=1)
        >>> [attempt.error.kind.value for attempt in result.rows[0].attempts]
        ['user_code', 'user_code']
    """

    error: RunError | None
    timings: Timings


@dataclass(frozen=True, slots=True, eq=False)
class RowResult:
    """The result of one row. Equality is that of index, key, repetition, scores, error, notes and printed text.

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
        worker: the process of a cluster that ran it, such as ``"tcp://10.0.0.7:40331"``; None for a run of this
            process.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.evaluate("data['n'] / 2", [{"n": 1}, {"n": 2}], key="n")

        >>> row = result["2"]
        >>> row.index, row.row, row.ok, row.scores
        (1, {'n': 2}, True, (Score('score', 1.0),))
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
    worker: str | None = field(default=None, repr=False)

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
        timings=timings_of(result),
        worker=result.worker,
    )


def timings_of(result: RunResult) -> Timings:
    """Its timings to a microsecond, short enough for files: what is loaded then has the same summary."""
    return Timings(*(round(ms, 3) for ms in (result.timings.creation_ms, result.timings.execution_ms)))
