"""The runs that are going on, for the threads that did not start them."""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.errors import LaunchError
from isolated_magic.launch.shortage import start_thread
from isolated_magic.models import ErrorKind, RunError, RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from isolated_magic.launch.base import Orders


class LiveRun:
    """One run, from before its launch until nothing of it is left.

    Args:
        label: what to call it where runs are listed; nothing that differs from tenant to tenant.
    """

    def __init__(self, label: str) -> None:
        self.label = label.strip("<>")
        self.pid: int | None = None
        self.begun_at = time.monotonic()
        self._is_gone = False
        self._thread = 0
        self._orders: Orders | None = None
        self._interrupted = False
        self._stopped = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._changed = threading.Condition(self._lock)

    @property
    def is_interrupted(self) -> bool:
        """Whether it was asked to end as Ctrl-C does."""
        return self._interrupted

    def attach(self, orders: Orders) -> None:
        """There is somebody now for orders, to whom goes at once what was asked of the run before.

        Args:
            orders: takes them.
        """
        with self._lock:
            self._orders = orders
            if self._interrupted:
                orders.interrupt()
            if self._stopped:
                orders.kill()

    def detach(self) -> None:
        """The child is about to be closed: no order goes to a descriptor that may be somebody else's by then."""
        with self._lock:
            self._orders = None

    def created(self, pid: int) -> None:
        """The child's process exists.

        Args:
            pid: of the process.
        """
        with self._lock:
            self.pid = pid
            self._changed.notify_all()

    def wait_for_pid(self, timeout: float | None = None) -> int | None:
        """The pid of its process as soon as there is one, None when it ended without.

        Args:
            timeout: seconds to wait, None for as long as it takes.
        """
        with self._lock:
            self._changed.wait_for(lambda: self.pid is not None or self._is_gone, timeout)
            return self.pid

    def begin(self) -> None:
        """This thread supervises the run from now on."""
        self._thread = threading.get_ident()

    def end(self) -> None:
        """Nothing of the run is left."""
        with self._lock:
            self._is_gone = True
            self._changed.notify_all()

    def wait_until_gone(self, timeout: float) -> bool:
        """Whether nothing of the run is left, now or within the timeout.

        Args:
            timeout: seconds to wait. The thread that supervises the run does not: it is in the middle of that,
                and asks from a signal handler or from a callback for output.
        """
        if self._thread == threading.get_ident():
            return self._is_gone
        with self._lock:
            return self._changed.wait_for(lambda: self._is_gone, timeout)

    def stop(self) -> None:
        """Kill the run now, or as soon as there is something to kill. Does not wait."""
        with self._lock:
            self._stopped = True
            if self._orders is not None:
                self._orders.kill()

    def interrupt(self) -> None:
        """Ask the run to end, as Ctrl-C does, and see to it that it does. Does not wait."""
        with self._lock:
            self._interrupted = True
            if self._orders is not None:
                self._orders.interrupt()


class LiveRuns:
    """All runs of one executor."""

    def __init__(self) -> None:
        self._runs: set[LiveRun] = set()
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    @contextmanager
    def added(self, live: LiveRun) -> Iterator[None]:
        """The run is among them inside this block, and gone after it.

        Args:
            live: the run.
        """
        with self._lock:
            self._runs.add(live)
        live.begin()
        try:
            yield
        finally:
            with self._lock:
                self._runs.discard(live)
            live.end()

    def all(self) -> list[LiveRun]:
        """Those that are going on now."""
        with self._lock:
            return list(self._runs)

    def with_pid(self, pid: int) -> LiveRun | None:
        """The run whose process has that pid.

        Args:
            pid: of a process.
        """
        return next((live for live in self.all() if live.pid == pid), None)

    def pids(self) -> tuple[int, ...]:
        """The pids of those that have a process, in ascending order."""
        return tuple(sorted(live.pid for live in self.all() if live.pid is not None))


def in_thread(work: Callable[[], RunResult]) -> Future[RunResult]:
    """Do the work in a thread of its own: a pool would let waiting runs starve one another.

    Args:
        work: called once, with the context variables of the caller.
    """
    future: Future[RunResult] = Future()
    future.set_running_or_notify_cancel()  # from now on only the work decides how it ends

    def target() -> None:
        try:
            future.set_result(work())
        except BaseException as problem:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(problem)

    try:
        start_thread(partial(contextvars.copy_context().run, target), "isolated_magic run")
    except LaunchError as problem:
        future.set_result(RunResult(error=RunError.of(ErrorKind.LAUNCH, str(problem))))
    return future
