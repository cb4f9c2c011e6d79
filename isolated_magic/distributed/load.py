"""What each worker has to do, and how fast it does it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolated_magic.distributed.backlog import Batch
    from isolated_magic.distributed.engine import Worker

CHUNK_SECS = 0.5  # that a chunk is to take: lost if its worker is
SMALL_CHUNK_SECS = 0.02  # what it takes to send one is little beside that
MOST_ROWS = 2000  # of a chunk
GROWTH = 8  # of the number of rows, from one chunk to the next: the first rows may not be like the others
CHUNKS_PER_THREAD = 2  # of a worker: one runs, one waits
BEHIND_SECS = 1.0  # that a chunk runs: then others may have its rows, if they have nothing to do
FAR_BEHIND_SECS = 5.0  # that the rows of its lanes take a worker: then others may have one, with a new process
WAITED_SECS = 0.1  # likewise, that it waits
REFUSED_SECS = 0.5  # that a worker gets nothing after it has refused a chunk


@dataclass(eq=False, slots=True)
class Sent:
    """A chunk that is out."""

    id: str
    batch: Batch
    load: Load
    at: float  # when it was sent, by time.monotonic(), or began to run, as far as that is known


@dataclass(eq=False, slots=True)
class Load:
    """What a worker has."""

    worker: Worker
    sent: dict[str, Sent] = field(default_factory=dict)  # chunks, by id, in the order in which it runs them
    has_program: bool = False
    has_refused: bool = False  # the last chunk that is over
    free_at: float = -math.inf  # when it takes chunks again
    is_asked: bool = False  # to give rows back
    _secs: float | None = None  # that a row takes
    _most: int = 1  # rows of its next chunk, as its last one had so many

    @property
    def has_suspects(self) -> bool:
        """Whether it runs suspects, and is to have nothing else."""
        return any(sent.batch.is_suspect for sent in self.sent.values())

    @property
    def takes(self) -> bool:
        """Whether it takes chunks now."""
        return not self.worker.is_silent and self.free_at <= time.monotonic()

    @property
    def refuses(self) -> bool:
        """Whether it begins no chunk, as far as that is known."""
        now = time.monotonic()
        return self.has_refused and not any(now > sent.at + REFUSED_SECS for sent in self.sent.values())

    @property
    def running(self) -> int:
        """How many chunks it may be running."""
        return min(len(self.sent), self.worker.threads)

    @property
    def is_idle(self) -> bool:
        """Whether it could run something now."""
        return self.takes and len(self.sent) < self.worker.threads and not self.has_suspects

    def over(self, sent: Sent) -> None:
        """It has a chunk no longer; another one begins."""
        del self.sent[sent.id]
        for position, other in enumerate(self.sent.values()):
            if position == self.worker.threads - 1:
                other.at = time.monotonic()

    def behind(self, waiting_rows: int) -> list[Sent]:
        """Chunks that others should have some rows of, if they have nothing to do.

        Args:
            waiting_rows: that wait for this worker alone.
        """
        now = time.monotonic()
        found = []
        for position, sent in enumerate(self.sent.values()):
            runs, lane = position < self.worker.threads, sent.batch.lane
            if now < sent.at + (BEHIND_SECS if runs else WAITED_SECS) or sent.batch.is_suspect:
                continue
            if lane is None:
                is_left = not runs or len(sent.batch.rows) > 1
            else:  # its process may have been expensive to make
                is_left = not runs and (sent.batch.is_first or self.is_far_behind(waiting_rows))
            if is_left:
                found.append(sent)
        return found

    def is_far_behind(self, rows: int) -> bool:
        """Whether so many rows take it so long that others should have some, whatever that costs."""
        if self._secs is not None and rows * self._secs / self.worker.threads > FAR_BEHIND_SECS:
            return True
        since = min((sent.at for sent in self.sent.values()), default=math.inf)
        return time.monotonic() - since > FAR_BEHIND_SECS

    def refused(self) -> None:
        """It did not begin a chunk."""
        self.has_refused = True
        self.free_at = time.monotonic() + REFUSED_SECS

    def measured(self, rows: int, secs: float) -> None:
        """It has run a chunk."""
        self.has_refused = False
        if not rows:
            return
        each = secs / rows
        if self._secs is None:
            self._secs = each
        else:  # what is measured first has a start in it that others have not
            self._secs += (each - self._secs) * (0.8 if each < self._secs else 0.5)
        self._most = max(self._most, min(MOST_ROWS, rows * GROWTH))

    def rows_in(self, secs: float) -> int:
        """How many rows it runs in so many seconds; at least one."""
        if self._secs is None:
            return 1
        return max(1, min(self._most, int(secs / max(self._secs, 1e-6))))
