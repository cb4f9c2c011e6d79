"""What an evaluation returns: EvaluationResult, with a RowResult for each row."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError, RunInterrupted
from isolated_magic.evaluation.compare import Side, compare
from isolated_magic.evaluation.summary import summarize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from isolated_magic.evaluation.compare import Comparison
    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.summary import Summary


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationResult:
    """The result of an evaluation. Equality ignores timings, notes and label.

    Args:
        rows: a RowResult for each row that was begun, in the order of the input.
        not_run: number of rows that were not begun; None if nobody knows how many there are.
        stopped: why it ended before all rows were done, as a sentence; empty if it did not.
        repeat: how often each row was run.
        notes: sentences about the evaluation as a whole.
        label: what it is called where it is shown; empty for nothing.
        comparison: with an earlier evaluation, to be shown with it; None for none.
    """

    rows: tuple[RowResult, ...] = ()
    not_run: int | None = 0
    stopped: str = ""
    repeat: int = 1
    notes: tuple[str, ...] = ()
    label: str = ""
    comparison: Comparison | None = None

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvaluationResult) and self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        return self.rows, self.not_run, self.stopped, self.repeat

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

    @cached_property
    def summary(self) -> Summary:
        """Counts, the figures of each metric, causes of failures, the slowest rows and usage, as a plain dict."""
        return summarize(self.rows, not_run=self.not_run, stopped=self.stopped, repeat=self.repeat)

    def compare(self, other: EvaluationResult, *, lower_is_better: Iterable[str] = ()) -> Comparison:
        """Compare with an earlier evaluation, row by row: is this one better, or is the difference noise?

        Rows are paired by key; repetitions of a row are averaged first. Each difference is this one - the other.

        Args:
            other: the earlier one.
            lower_is_better: names of metrics of which a smaller value is the better one.

        Raises:
            InvalidRequestError: other is no evaluation, or lower_is_better names a metric that neither has.
        """
        if not isinstance(other, EvaluationResult):
            raise InvalidRequestError(
                f"compare() needs another EvaluationResult, and got a value of type {type(other).__name__}."
            )
        after, before = (Side(one.rows, one.label, one.stopped) for one in (self, other))
        return compare(after, before, lower_is_better)


class EvaluationInterrupted(RunInterrupted):
    """An evaluation was interrupted. All its processes have ended.

    Args:
        result: what was done until then.
    """

    def __init__(self, result: EvaluationResult) -> None:
        self.result = result
        super().__init__(f"{result.stopped} What was done is in .result of this exception.")
