"""A bounded pool of reusable worker processes (see ``child/worker.py``), and the launcher that uses it.

A run takes an idle worker that is what a new one would be: with the same environment, attributes and packages, and
none of the user's files that it imported changed since. If all workers are busy, the run waits for its turn.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.child.modules import fingerprint
from isolated_magic.errors import LaunchError
from isolated_magic.launch.attributes import current_attributes
from isolated_magic.launch.base import LONGEST_WAIT_SECS, Attach, Child, Launcher, StoppedError, to_nobody
from isolated_magic.launch.fork_server.freshness import is_unchanged, package_folders
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.spawn import program_messages, send_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from isolated_magic.launch.attributes import ProcessAttributes
    from isolated_magic.launch.base import Preloaded, ProcessLauncher
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.request import RunRequest

MOST_SOURCES = 256  # remembered for each worker
STOPPED = "The run was stopped while it waited for a worker."


class WorkerSpec(NamedTuple):
    """What a worker has from its start, and keeps."""

    environment: Mapping[bytes, bytes]
    cwd: str
    stack_bytes: int
    attributes: ProcessAttributes

    def __repr__(self) -> str:
        """Without the values of variables."""
        return f"{type(self).__name__}(cwd={self.cwd!r}, attributes={self.attributes!r})"


def spec_for(request: RunRequest) -> WorkerSpec:
    """The spec of a worker for this run."""
    return WorkerSpec(request.environment, request.cwd, request.limits.stack_bytes, current_attributes())


@dataclass(eq=False)
class Worker:
    """One worker, busy or idle."""

    child: Child
    spec: WorkerSpec
    unsent: bytes  # to be sent before its next request
    modules: set[str]  # installed modules that it has imported
    files: dict[str, list[int] | None]  # states of the user's files that it has imported, and of package folders
    sources: set[str | None] = field(default_factory=set, repr=False)  # it has imported whatever these import
    runs: int = 0

    def suits(self, spec: WorkerSpec) -> bool:
        """Whether it is what a new worker with this spec would be."""
        return self.spec == spec and self.child.handle.lives() and is_unchanged(self.files)

    def note(self, request: RunRequest, messages: Messages) -> None:
        """Remember what a run has imported."""
        if len(self.sources) < MOST_SOURCES:
            self.sources.add(_program_of(request))
        if messages.imported is not None:
            self.modules.update(messages.imported.installed)
            self.files.update(fingerprint(messages.imported.files))

    def end(self) -> None:
        """Kill and close it."""
        self.child.handle.kill()  # a fork of this process may have its streams open, too
        self.child.close()


def _program_of(request: RunRequest) -> str | None:
    return request.source if request.path is None else request.path


class Slot:
    """The right of a run to a worker, until ``is_over`` is set or nobody refers to it any more.

    A signal handler may raise between any two steps of its holder: each way to end it is one step.
    """

    def __init__(self) -> None:
        self.is_over = False


class Checkout(NamedTuple):
    """A worker that a run has for itself."""

    worker: Worker
    has_waited: bool
    slot: Slot  # to keep for as long as the run has the worker


class _Waiter:
    """A run that waits for a worker. Its control ends the waiting."""

    def __init__(self, pool: WorkerPool) -> None:
        self.is_stopped = False
        self._pool = pool
        self._may_go = threading.Lock()  # unlike an Event, a signal handler can release it at any moment
        self._may_go.acquire()

    def wait(self) -> None:
        self._may_go.acquire(timeout=LONGEST_WAIT_SECS)

    def wake(self) -> None:
        with suppress(RuntimeError):  # it was woken already
            self._may_go.release()

    def kill(self) -> None:
        self._pool.give_up(self)

    interrupt = kill


class WorkerPool:
    """The workers of one launcher, at most so many, until the launcher is released."""

    def __init__(self, processes: ProcessLauncher, most: int) -> None:
        self._processes = processes
        self._most = most
        self._idle: list[Worker] = []  # the one that ran last stands last
        self._slots: list[weakref.ref[Slot]] = []
        self._starting = 0
        self._waiters: deque[_Waiter] = deque()
        self._is_closed = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    def take(self, request: RunRequest, attach: Attach) -> Checkout:
        """Find or start a worker for this run. Raises LaunchError if there can be none, or the run is stopped."""
        slot = self._slot_for(None)
        has_waited = slot is None
        if slot is None:
            waiter = _Waiter(self)
            attach(waiter)
            slot = self._wait_for_slot(waiter)
        try:
            spec = spec_for(request)
            worker = self._best_idle(request, spec) or self._started(request, spec)
        except BaseException:
            self._give_back(slot)
            raise
        return Checkout(worker, has_waited, slot)

    def _started(self, request: RunRequest, spec: WorkerSpec) -> Worker:
        start = self._processes.start_worker(request)
        packages = fingerprint(package_folders())
        return Worker(start.child, spec, start.unsent, set(start.modules), packages)

    def _slot_for(self, waiter: _Waiter | None) -> Slot | None:
        """A slot if it is this run's turn; else the run is in the queue, if it waits already."""
        with self._lock:
            is_first = not self._waiters or self._waiters[0] is waiter
            if is_first and self._busy < self._most:
                slot = Slot()
                self._slots.append(weakref.ref(slot))
                if self._waiters:
                    self._waiters.popleft()
                return slot
            if waiter is not None and waiter not in self._waiters and not waiter.is_stopped:
                self._waiters.append(waiter)
            return None

    @property
    def _busy(self) -> int:
        """How many runs have a slot."""
        busy = []
        for ref in self._slots:
            slot = ref()
            if slot is not None and not slot.is_over:
                busy.append(ref)
        self._slots = busy
        return len(busy)

    def _wait_for_slot(self, waiter: _Waiter) -> Slot:
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
        slot.is_over = True
        self._wake_next()

    def give_up(self, waiter: _Waiter) -> None:
        """Have a run wait no longer."""
        with self._lock:
            waiter.is_stopped = True
            waiter.wake()
            if waiter in self._waiters:
                self._waiters.remove(waiter)
                self._wake_next()

    def _best_idle(self, request: RunRequest, spec: WorkerSpec) -> Worker | None:
        """The best of the idle workers, None if a new one is better. Those that are outdated end."""
        program = _program_of(request)
        while (worker := self._pop_idle(program)) is not None:
            # One that has run the program has imported what that needs.
            if worker.suits(spec) and (
                program in worker.sources or not self._processes.would_spare_imports(request, worker.modules)
            ):
                return worker
            worker.end()
        return None

    def _pop_idle(self, program: str | None) -> Worker | None:
        """The idle worker that ran last, if possible of those that have run the program."""
        with self._lock:
            if not self._idle:
                return None
            worker = self._idle[-1]
            for each in reversed(self._idle):
                if program in each.sources:
                    worker = each
                    break
            self._idle.remove(worker)
            return worker

    def take_back(self, checkout: Checkout, request: RunRequest, messages: Messages | None) -> None:
        """End a checkout. ``messages`` is None if the worker is of no more use: another one takes its place."""
        worker, handle = checkout.worker, checkout.worker.child.handle
        try:
            if messages is None or handle.killed or handle.interrupted or self._is_closed:
                worker.end()
            else:
                worker.note(request, messages)
                with self._lock:
                    self._idle.append(worker)
        finally:
            self._give_back(checkout.slot)
        self.fill(request)

    def fill(self, request: RunRequest) -> None:
        """Start workers for such runs until there are as many as there may be."""
        while self._reserve():
            try:
                worker = self._started(request, spec_for(request))
                with self._lock:
                    self._idle.insert(0, worker)
            except (OSError, LaunchError):  # the next run will say what the system is short of
                return
            finally:
                self._starting -= 1
        if self._is_closed:
            self.close()

    def _reserve(self) -> bool:
        with self._lock:
            if self._is_closed or self._busy + len(self._idle) + self._starting >= self._most:
                return False
            self._starting += 1
            return True

    def close_unused(self) -> None:
        """End the workers that have run nothing yet."""
        with self._lock:
            unused = [worker for worker in self._idle if not worker.runs]
            self._idle = [worker for worker in self._idle if worker.runs]
        for worker in unused:
            worker.end()

    def close(self) -> None:
        """End all idle workers now, and busy ones when they come back. Runs that wait are stopped."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for waiter in list(self._waiters):
                self.give_up(waiter)
        for worker in idle:
            worker.end()

    def forget(self) -> None:
        """In a fork of the owner: close our copies."""
        for worker in self._idle:
            worker.child.close()


class PoolLauncher(Launcher):
    """Hands runs to workers. A run with limits, or one that wants a new interpreter, has a process of its own.

    Args:
        processes: starts workers and other processes.
        workers: how many there may be.
        max_runs: after so many runs a worker is replaced, None for never.
        largest_bytes: a worker that uses more memory is replaced, None for any size.
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
        is_last = self._max_runs is not None and worker.runs >= self._max_runs
        program = program_messages(request, is_last=is_last, largest_bytes=self._largest_bytes)
        messages, worker.unsent = worker.unsent + program, b""
        return child, send_at_once(child, messages)

    def start_rows(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for many rows, which is no worker; see :class:`Launcher`."""
        return self._processes.start_rows(request, attach)

    def fill(self, request: RunRequest) -> None:
        """Start the workers for such runs."""
        self._pool.fill(request)

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:
        """Note what a run imported; see :class:`Launcher`."""
        self._processes.learn(request, modules, files)

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:
        """Wait for fork servers, and have the workers start from them; see :class:`Launcher`."""
        is_warm = self._processes.warm_up(request, timeout_secs)
        self._pool.close_unused()
        self._pool.fill(request)
        return is_warm

    def preloaded(self) -> Preloaded:
        """What workers have imported when they start; see :class:`Launcher`."""
        return self._processes.preloaded()

    def release(self) -> Callable[[], None]:
        """Start afresh; see :class:`Launcher`."""
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
    """The worker's process as this run has it. Nothing else refers to it: the slot ends when it is lost."""
    worker, child = checkout.worker, checkout.worker.child
    handed_over_at = time.monotonic() if checkout.has_waited or worker.runs else None
    streams = child.channel, child.stdout, child.stderr, child.handle
    return Child(*streams, launch="reused", give_back=give_back, handed_over_at=handed_over_at)
