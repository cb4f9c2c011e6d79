"""Work that threads share: each piece is begun when it may be, and may ask to be gone on with later."""

from __future__ import annotations

import contextvars
import heapq
import itertools
import math
import threading
import time
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable


class Work(ABC):
    """One piece of work. It runs in one thread at a time."""

    @abstractmethod
    def run(self) -> float | None:
        """Do some of it; when to go on, by time.monotonic(), or None for no more."""

    @abstractmethod
    def stop(self) -> None:
        """Have :meth:`run` end soon. Called from another thread, once or more."""


class Pace:
    """When runs may begin, at most so many in a second."""

    def __init__(self, per_sec: float) -> None:
        self._interval_secs = 1 / per_sec
        self._next_at = -math.inf

    def next(self) -> float:
        """When the next one may begin, by time.monotonic(). That is then taken."""
        at = max(time.monotonic(), self._next_at)
        self._next_at = at + self._interval_secs
        return at


class Scheduler:
    """Threads that do work.

    Args:
        threads: how many.
        failed: called with what :meth:`Work.run` raises, which it should not.
    """

    def __init__(self, threads: int, failed: Callable[[BaseException], object]) -> None:
        self._most = threads
        self._failed = failed
        self._waiting: list[tuple[float, int, Work]] = []  # a heap
        self._order = itertools.count()
        self._running: set[Work] = set()
        self._threads = 0
        self._idle = 0
        self._is_closed = False
        self._changed = threading.Condition(threading.RLock())  # re-entered by a signal handler that tears down

    def add(self, work: Work, at: float = -math.inf) -> None:
        """Have it run, not before the time ``at``.

        Raises:
            LaunchError: the system has no thread left, and there is none yet.
        """
        with self._changed:
            heapq.heappush(self._waiting, (at, next(self._order), work))
            if not self._idle and self._threads < self._most:
                start_thread(partial(contextvars.copy_context().run, self._work), "isolated_magic evaluation")
                self._threads += 1
            self._changed.notify()

    def stop(self) -> None:
        """Stop what runs, and begin nothing more. Does not wait."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            running = list(self._running)
            self._changed.notify_all()
        for work in running:
            work.stop()

    def close(self) -> None:
        """Begin nothing more, and wait until nothing runs."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._threads)

    def _work(self) -> None:
        try:
            self._work_until_closed()
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def _work_until_closed(self) -> None:
        while (work := self._take()) is not None:
            again: float | None = None
            try:
                again = work.run()
            except BaseException as problem:  # noqa: BLE001 - the thread has nobody else to tell
                self._failed(problem)
            with self._changed:
                self._running.discard(work)
                if again is not None and not self._is_closed:
                    self.add(work, again)

    def _take(self) -> Work | None:
        """The next piece of work, when it may begin; None when there will be no more."""
        with self._changed:
            while not self._is_closed:
                left = self._waiting[0][0] - time.monotonic() if self._waiting else None
                if left is not None and left <= 0:
                    work = heapq.heappop(self._waiting)[2]
                    self._running.add(work)
                    return work
                self._idle += 1
                try:
                    self._changed.wait(left)
                finally:
                    self._idle -= 1
            return None
