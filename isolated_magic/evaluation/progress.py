"""How far an evaluation is: counts and running means."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.evaluation.values import value_of

if TYPE_CHECKING:
    from isolated_magic.evaluation.row_result import RowResult

INTERRUPTED = "The evaluation was interrupted."


class Progress(NamedTuple):
    """How far an evaluation is.

    Args:
        done: runs of rows that have ended, or that a checkpoint had.
        total: how many there will be; None if nobody knows.
        failed: those among them that failed.
        elapsed_secs: since it began.
        means: running mean of each metric, by its name.
        resumed: those that a checkpoint had, which took no time.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> rows, seen = [{"n": 1}, {"n": 2}], []
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.evaluate("data['n'] / 2", rows, progress=seen.append)
        >>> seen[-1].done, seen[-1].total, seen[-1].failed, seen[-1].means
        (2, 2, 0, {'score': 0.75})
    """

    done: int
    total: int | None
    failed: int
    elapsed_secs: float
    means: dict[str, float]
    resumed: int = 0


class Tally:
    """Counts results of rows, and adds up their scores. Not thread-safe."""

    def __init__(self) -> None:
        self.done = 0
        self.failed = 0
        self._resumed = 0
        self._begun_at = time.monotonic()
        self._sums: dict[str, tuple[int, float]] = {}  # number and sum of values

    def add(self, row: RowResult) -> None:
        """Count a result."""
        self.done += 1
        self.failed += row.error is not None
        self._resumed += row.is_resumed
        for score in row.scores:
            number = value_of(score).number
            if number is not None:
                count, total = self._sums.get(score.name, (0, 0.0))
                self._sums[score.name] = count + 1, total + number

    def progress(self, total: int | None) -> Progress:
        """How far it is now."""
        means = {name: added / count for name, (count, added) in self._sums.items()}
        elapsed_secs = time.monotonic() - self._begun_at
        return Progress(self.done, total, self.failed, elapsed_secs, means, self._resumed)
