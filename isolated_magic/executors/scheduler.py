"""Work that threads share: each piece is begun when it may be, and may ask to be gone on with later."""

from __future__ import annotations

import contextvars
import heapq
import itertools
import math
import sys
import threading
import time
from abc import ABC, abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.errors import LaunchError
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable


LONGEST_WAIT_SECS = 3600.0  # at once: threading takes no time of centuries


class Work(ABC):
    """One piece of work. It runs in one thread at a time."""

    @abstractmethod
    def run(self) -> float | None:
        """Do some of it; when to go on, by time.monotonic(), or None for no more."""

    @abstractmethod
    def stop(self) -> None:
        """Have :meth:`run` end soon. Called from another thread, once or more."""


class Pace:
    """When runs may begin, at most so many in a second. Thread-safe."""

    def __init__(self, per_sec: float) -> None:
        self._interval_secs = 1 / per_sec
        self._next_at = -math.inf
        self._lock = threading.Lock()

    def next(self) -> float:
        """When the next one may begin, by time.monotonic(). That is then taken."""
        with self._lock:
            at = max(time.monotonic(), self._next_at)
            self._next_at = at + self._interval_secs
        return at

    @property
    def free_at(self) -> float:
        """When the next one may begin; nothing is taken."""
        return self._next_at


class Scheduler:
    """Threads that do work.

    Args:
        threads: how many.
        failed: called with what :meth:`Work.run` raises, which it should not.
        ended: called when it is closed and nothing runs any more, once or more.
        pace: at which work begins.
    """

    def __init__(
        self,
        threads: int,
        failed: Callable[[BaseException], object],
        ended: Callable[[], object] = bool,
        pace: Pace | None = None,
    ) -> None:
        self._most = threads
        self._failed = failed
        self._ended = ended
        self._pace = pace or Pace(math.inf)
        self._waiting: list[tuple[float, int, Work]] = []  # a heap
        self._order = itertools.count()
        self._running: set[Work] = set()
        self._threads = 0
        self._idle = 0
        self._is_closed = False
        self._changed = threading.Condition(threading.RLock())  # re-entered by a signal handler that tears down
        forget_in_forks(self)

    def add(self, work: Work, at: float = -math.inf) -> None:
        """Have it run, not before the time ``at``. Does nothing when it is closed.

        Raises:
            LaunchError: the system has no thread left, and there is none yet.
        """
        with self._changed:
            if self._is_closed:
                return
            heapq.heappush(self._waiting, (at, next(self._order), work))
            if self._idle < len(self._waiting) and self._threads < self._most:
                self._start_thread()
            self._changed.notify()

    def _start_thread(self) -> None:
        self._threads += 1
        try:
            start_thread(partial(contextvars.copy_context().run, self._work), "isolated_magic evaluation")
        except LaunchError:
            self._threads -= 1
            if not self._threads:
                raise

    def stop(self) -> None:
        """Stop what runs, and begin nothing more. Does not wait."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            running = list(self._running)
            has_ended = not self._threads
            self._changed.notify_all()
        for work in running:
            work.stop()
        if has_ended:
            self._ended()

    def close(self) -> None:
        """Begin nothing more, and wait until nothing runs."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
            # A program that ends stops its daemon threads: an iterator that is closed then would wait for ever.
            self._changed.wait_for(lambda: not self._threads or sys.is_finalizing())
        self._ended()

    def forget(self) -> None:
        """In a fork: the threads are the original's, and so is what they run."""
        self._changed = threading.Condition(threading.RLock())
        self._threads, self._is_closed = 0, True
        self._waiting, self._running = [], set()

    def _work(self) -> None:
        try:
            self._work_until_closed()
        finally:
            with self._changed:
                self._threads -= 1
                is_last = not self._threads and self._is_closed
                self._changed.notify_all()
            if is_last:
                self._ended()

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
            del work  # nor what it holds, while this thread waits

    def _take(self) -> Work | None:
        """The next piece of work, when it may begin; None when there will be no more."""
        with self._changed:
            while not self._is_closed:
                left = None
                if self._waiting:
                    left = min(max(self._waiting[0][0], self._pace.free_at) - time.monotonic(), LONGEST_WAIT_SECS)
                if left is not None and left <= 0:
                    self._pace.next()
                    work = heapq.heappop(self._waiting)[2]
                    self._running.add(work)
                    return work
                self._idle += 1
                try:
                    self._changed.wait(left)
                finally:
                    self._idle -= 1
            return None
