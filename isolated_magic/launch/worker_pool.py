"""A bounded pool of reusable worker processes (see ``child/worker.py``), and the launcher that uses it.

There are never more than so many. A run takes one that is idle and still what a new one would be: of the same
environment, attributes and packages, with no file of the user's imported that has changed since. Where all are
at work, it waits for its turn.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import LaunchError
from isolated_magic.launch.base import Attach, Child, Launcher, StoppedError, forget_in_forks, to_nobody
from isolated_magic.launch.spawn import program_messages, send_at_once
from isolated_magic.launch.worker import spec_for, started

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isolated_magic.launch.base import Preloaded, ProcessLauncher
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.launch.worker import Worker, WorkerSpec
    from isolated_magic.request import RunRequest


LONGEST_WAIT_SECS = 1.0  # should whoever is to wake the next run be interrupted just then
STOPPED = "The run was stopped while it waited for a worker."


class Slot:
    """The right of a run to a worker. It ends with :meth:`give_back`, and when nobody has it any more.

    An exception out of a signal handler may come between any two steps of whoever has it: what counts is one step.
    """

    def __init__(self) -> None:
        self.is_over = False

    def give_back(self) -> None:
        """The run has no worker any more."""
        self.is_over = True


class Checkout(NamedTuple):
    """What a run has got.

    Args:
        worker: for it alone.
        has_waited: whether it had to wait.
        place: to keep for as long as it has the worker.
    """

    worker: Worker
    has_waited: bool
    slot: Slot


class _Waiter:
    """A run that waits for a worker. Orders to the run end the waiting."""

    def __init__(self, pool: WorkerPool) -> None:
        self.is_stopped = False
        self._pool = pool
        self._came = threading.Lock()  # unlike an Event, a signal handler can release it at any moment
        self._came.acquire()

    def wait(self) -> None:
        """Wait until it may be its turn."""
        self._came.acquire(timeout=LONGEST_WAIT_SECS)

    def wake(self) -> None:
        """It may be."""
        with suppress(RuntimeError):  # it was woken already
            self._came.release()

    def kill(self) -> None:
        """Wait no longer."""
        self._pool.give_up(self)

    interrupt = kill


class WorkerPool:
    """The workers of one launcher, until it is released.

    Args:
        processes: starts them.
        most: how many there may be.
    """

    def __init__(self, processes: ProcessLauncher, most: int) -> None:
        self._processes = processes
        self._most = most
        self._idle: list[Worker] = []  # the one that has worked last stands last
        self._slots: list[weakref.ref[Slot]] = []
        self._reserved = 0
        self._waiters: deque[_Waiter] = deque()
        self._is_closed = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    def take(self, request: RunRequest, attach: Attach) -> Checkout:
        """A worker for this run.

        Raises:
            LaunchError: the system refuses one, or the run was stopped.
        """
        waiter = _Waiter(self)
        slot = self._slot_for(waiter)
        has_waited = slot is None
        if slot is None:
            attach(waiter)
            slot = self._wait_for(waiter)
        try:
            spec = spec_for(request)
            worker = self._found(request, spec) or started(self._processes, request, spec)
        except BaseException:
            self._give_back(slot)
            raise
        return Checkout(worker, has_waited, slot)

    def _slot_for(self, waiter: _Waiter) -> Slot | None:
        """A place when it is this run's turn, else it stands in the queue."""
        with self._lock:
            is_first = not self._waiters or self._waiters[0] is waiter
            if is_first and self._busy < self._most:
                slot = Slot()
                self._slots.append(weakref.ref(slot))
                if self._waiters:
                    self._waiters.popleft()
                return slot
            if waiter not in self._waiters and not waiter.is_stopped:
                self._waiters.append(waiter)
            return None

    @property
    def _busy(self) -> int:
        """How many runs have a place."""
        slots = [(ref, ref()) for ref in self._slots]
        self._slots = [ref for ref, slot in slots if slot is not None and not slot.is_over]
        return len(self._slots)

    def _wait_for(self, waiter: _Waiter) -> Slot:
        try:
            return self._claimed(waiter)
        except BaseException:
            self.give_up(waiter)
            raise

    def _claimed(self, waiter: _Waiter) -> Slot:
        while (slot := self._slot_for(waiter)) is None:
            if waiter.is_stopped:
                raise StoppedError(STOPPED)
            waiter.wait()
        self._wake_next()
        return slot

    def _wake_next(self) -> None:
        with self._lock:
            if self._waiters:
                self._waiters[0].wake()

    def _give_back(self, slot: Slot) -> None:
        slot.give_back()
        self._wake_next()

    def give_up(self, waiter: _Waiter) -> bool:
        """A run that waits is to wait no longer. Whether it did wait."""
        with self._lock:
            waiter.is_stopped = True
            waiter.wake()
            if waiter not in self._waiters:
                return False
            self._waiters.remove(waiter)
            self._wake_next()
            return True

    def _found(self, request: RunRequest, spec: WorkerSpec) -> Worker | None:
        """The best of the idle workers, None when a new one is better."""
        while (worker := self._pop(request)) is not None:
            if worker.suits(spec) and not self._lacks_imports(worker, request):
                return worker
            worker.let_go()
        return None

    def _pop(self, request: RunRequest) -> Worker | None:
        with self._lock:
            known = [worker for worker in self._idle if worker.has_done(request)]
            if not self._idle:
                return None
            worker = known[-1] if known else self._idle[-1]
            self._idle.remove(worker)
            return worker

    def _lacks_imports(self, worker: Worker, request: RunRequest) -> bool:
        return not worker.has_done(request) and self._processes.would_spare_imports(request, worker.modules)

    def take_back(self, checkout: Checkout, request: RunRequest, said: Messages | None) -> None:
        """A run is over. Its worker waits for the next one, or another does in its place."""
        worker, handle = checkout.worker, checkout.worker.child.handle
        try:
            if said is None or handle.killed or handle.interrupted or self._is_closed:
                worker.let_go()
            else:
                worker.note(request, said)
                with self._lock:
                    self._idle.append(worker)
        finally:
            self._give_back(checkout.slot)
        self.fill(request)

    def fill(self, request: RunRequest) -> None:
        """Have as many workers as there may be."""
        with suppress(OSError, LaunchError):  # the next run will say what the system is short of
            while self._reserve():
                try:
                    worker = started(self._processes, request, spec_for(request))
                    with self._lock:
                        self._idle.insert(0, worker)
                finally:
                    self._reserved -= 1
            if self._is_closed:
                self.close()

    def _reserve(self) -> bool:
        with self._lock:
            if self._is_closed or self._busy + len(self._idle) + self._reserved >= self._most:
                return False
            self._reserved += 1
            return True

    def close_unused(self) -> None:
        """Let the workers go that have done nothing yet."""
        with self._lock:
            unused = [worker for worker in self._idle if not worker.runs]
            self._idle = [worker for worker in self._idle if worker.runs]
        for worker in unused:
            worker.let_go()

    def close(self) -> None:
        """Let all idle workers go, and the busy ones when they come back; nobody waits any longer."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for waiter in list(self._waiters):
                self.give_up(waiter)
        for worker in idle:
            worker.let_go()

    def forget(self) -> None:
        """In a fork of the owner: close our copies."""
        for worker in self._idle:
            worker.child.close()


class PoolLauncher(Launcher):
    """Has workers do the runs. One with limits, or that is to be in a new interpreter, has a process of its own.

    Args:
        processes: starts them, workers and others.
        workers: how many there are.
        max_runs: that each of them does, None for no end.
        largest_bytes: of memory with which one goes on, None for any size.
    """

    def __init__(
        self, processes: ProcessLauncher, workers: int, max_runs: int | None, largest_bytes: int | None
    ) -> None:
        self._processes = processes
        self._workers = workers
        self._max_runs = max_runs
        self._largest_bytes = largest_bytes
        self._pool = self._new_pool()
        forget_in_forks(self)

    def _new_pool(self) -> WorkerPool:
        pool = WorkerPool(self._processes, self._workers)
        self._end = weakref.finalize(self, pool.close)
        return pool

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Find a worker for this request; see :class:`Launcher`."""
        if request.fresh or request.limits.of_resources:
            return self._processes.launch(request)
        pool = self._pool
        checkout = pool.take(request, attach)
        worker, child = checkout.worker, _lent(checkout, partial(pool.take_back, checkout, request))
        worker.runs += 1
        messages, worker.unsent = worker.unsent + self._program(request, worker), b""
        return child, send_at_once(child, messages)

    def _program(self, request: RunRequest, worker: Worker) -> bytes:
        is_last = self._max_runs is not None and worker.runs >= self._max_runs
        return program_messages(request, is_last=is_last, largest_bytes=self._largest_bytes)

    def fill(self, request: RunRequest) -> None:
        """Start the workers."""
        self._pool.fill(request)

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:
        """Take in what a run imported; see :class:`Launcher`."""
        self._processes.learn(request, modules, files)

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:
        """Wait for templates, and have the workers start from them; see :class:`Launcher`."""
        is_warm = self._processes.warm_up(request, timeout_secs)
        self._pool.close_unused()
        self._pool.fill(request)
        return is_warm

    def preloaded(self) -> Preloaded:
        """What workers have imported when they start; see :class:`Launcher`."""
        return self._processes.preloaded()

    def release(self) -> Callable[[], None]:
        """Start afresh from now on; see :class:`Launcher`."""
        pool, self._pool = self._pool, self._new_pool()
        end_processes = self._processes.release()

        def close() -> None:
            pool.close()
            end_processes()

        return close

    def forget(self) -> None:
        """In a fork of the owner: the workers belong to the original."""
        self._end.detach()
        self._pool.forget()
        self._pool = self._new_pool()


def _lent(checkout: Checkout, give_back: Callable[[Messages | None], None]) -> Child:
    """The worker's process, as this run has it. Nothing else refers to it: it goes when it is lost."""
    worker, child = checkout.worker, checkout.worker.child
    handed_over_at = time.monotonic() if checkout.has_waited or worker.runs else None
    streams = child.channel, child.stdout, child.stderr, child.handle
    return Child(*streams, launch="reused", give_back=give_back, handed_over_at=handed_over_at)
