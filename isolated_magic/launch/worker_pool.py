"""A bounded pool of reusable worker processes (see ``child/worker.py``), and the launcher that uses it.

There are never more than so many. A run takes one that is idle and still what a new one would be: of the same
environment, attributes and packages, with no file of the user's imported that has changed since. Where all are
at work, it waits for its turn.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import LaunchError
from isolated_magic.launch.base import Attach, Child, Launcher, StoppedError, to_nobody
from isolated_magic.launch.spawn import program_messages, send_at_once
from isolated_magic.launch.worker import started, surroundings_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isolated_magic.launch.base import Attach, Preloaded, ProcessLauncher
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.launch.worker import Surroundings, Worker
    from isolated_magic.request import RunRequest


LONGEST_WAIT_SECS = 1.0  # should whoever is to wake the next run be interrupted just then
STOPPED = "The run was stopped while it waited for a worker."


class Place:
    """The right of a run to a worker. It ends with :meth:`give_back`, and when nobody has it any more.

    An exception out of a signal handler may come between any two steps of whoever has it: what counts is one step.
    """

    def __init__(self) -> None:
        self.is_over = False

    def give_back(self) -> None:
        """The run has no worker any more."""
        self.is_over = True


class Taken(NamedTuple):
    """What a run has got.

    Args:
        worker: for it alone.
        has_waited: whether it had to wait.
        place: to keep for as long as it has the worker.
    """

    worker: Worker
    has_waited: bool
    place: Place


class _Turn:
    """A run that waits for a worker. Orders to the run end the waiting."""

    def __init__(self, crew: Crew) -> None:
        self.is_stopped = False
        self._crew = crew
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
        self._crew.give_up(self)

    interrupt = kill


class Crew:
    """The workers of one launcher, until it is released.

    Args:
        processes: starts them.
        most: how many there may be.
    """

    def __init__(self, processes: ProcessLauncher, most: int) -> None:
        self._processes = processes
        self._most = most
        self._idle: list[Worker] = []  # the one that has worked last stands last
        self._places: list[weakref.ref[Place]] = []
        self._reserved = 0
        self._turns: deque[_Turn] = deque()
        self._is_closed = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    def take(self, request: RunRequest, attach: Attach) -> Taken:
        """A worker for this run.

        Args:
            request: the run.
            attach: called with whom orders to the run go to meanwhile.

        Raises:
            LaunchError: the system refuses one, or the run was stopped.
        """
        turn = _Turn(self)
        place = self._place_for(turn)
        has_waited = place is None
        if place is None:
            attach(turn)
            place = self._wait_for(turn)
        try:
            surroundings = surroundings_of(request)
            worker = self._found(request, surroundings) or started(self._processes, request, surroundings)
        except BaseException:
            self._give_back(place)
            raise
        return Taken(worker, has_waited, place)

    def _place_for(self, turn: _Turn) -> Place | None:
        """A place when it is this run's turn, else it stands in the queue."""
        with self._lock:
            is_first = not self._turns or self._turns[0] is turn
            if is_first and self._busy < self._most:
                place = Place()
                self._places.append(weakref.ref(place))
                if self._turns:
                    self._turns.popleft()
                return place
            if turn not in self._turns and not turn.is_stopped:
                self._turns.append(turn)
            return None

    @property
    def _busy(self) -> int:
        """How many runs have a place."""
        places = [(ref, ref()) for ref in self._places]
        self._places = [ref for ref, place in places if place is not None and not place.is_over]
        return len(self._places)

    def _wait_for(self, turn: _Turn) -> Place:
        try:
            return self._claimed(turn)
        except BaseException:
            self.give_up(turn)
            raise

    def _claimed(self, turn: _Turn) -> Place:
        while (place := self._place_for(turn)) is None:
            if turn.is_stopped:
                raise StoppedError(STOPPED)
            turn.wait()
        self._wake_next()
        return place

    def _wake_next(self) -> None:
        with self._lock:
            if self._turns:
                self._turns[0].wake()

    def _give_back(self, place: Place) -> None:
        place.give_back()
        self._wake_next()

    def give_up(self, turn: _Turn) -> bool:
        """A run that waits is to wait no longer. Whether it did wait.

        Args:
            turn: its place in the queue.
        """
        with self._lock:
            turn.is_stopped = True
            turn.wake()
            if turn not in self._turns:
                return False
            self._turns.remove(turn)
            self._wake_next()
            return True

    def _found(self, request: RunRequest, surroundings: Surroundings) -> Worker | None:
        """The best of the idle workers, None when a new one is better."""
        while (worker := self._pop(request)) is not None:
            if worker.suits(surroundings) and not self._lacks_imports(worker, request):
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

    def take_back(self, taken: Taken, request: RunRequest, said: Messages | None) -> None:
        """A run is over. Its worker waits for the next one, or another does in its place.

        Args:
            taken: what it had.
            request: what it was.
            said: what it said, None when the worker is of no use any more.
        """
        worker, handle = taken.worker, taken.worker.child.handle
        try:
            if said is None or handle.killed or handle.interrupted or self._is_closed:
                worker.let_go()
            else:
                worker.note(request, said)
                with self._lock:
                    self._idle.append(worker)
        finally:
            self._give_back(taken.place)
        self.fill(request)

    def fill(self, request: RunRequest) -> None:
        """Have as many workers as there may be.

        Args:
            request: a run such as they are for.
        """
        with suppress(OSError, LaunchError):  # the next run will say what the system is short of
            while self._reserve():
                try:
                    worker = started(self._processes, request, surroundings_of(request))
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
            for turn in list(self._turns):
                self.give_up(turn)
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
        self._crew = self._new_crew()
        _instances.add(self)

    def _new_crew(self) -> Crew:
        crew = Crew(self._processes, self._workers)
        self._end = weakref.finalize(self, crew.close)
        return crew

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Find a worker for this request; see :class:`Launcher`."""
        if request.fresh or request.limits.of_resources:
            return self._processes.launch(request)
        crew = self._crew
        taken = crew.take(request, attach)
        worker, child = taken.worker, _lent(taken, partial(crew.take_back, taken, request))
        worker.runs += 1
        messages, worker.unsent = worker.unsent + self._program(request, worker), b""
        return child, send_at_once(child, messages)

    def _program(self, request: RunRequest, worker: Worker) -> bytes:
        is_last = self._max_runs is not None and worker.runs >= self._max_runs
        return program_messages(request, is_last=is_last, largest_bytes=self._largest_bytes)

    def fill(self, request: RunRequest) -> None:
        """Start the workers.

        Args:
            request: a run such as they are for.
        """
        self._crew.fill(request)

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:
        """Take in what a run imported; see :class:`Launcher`."""
        self._processes.learn(request, modules, files)

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:
        """Wait for templates, and have the workers start from them; see :class:`Launcher`."""
        is_warm = self._processes.warm_up(request, timeout_secs)
        self._crew.close_unused()
        self._crew.fill(request)
        return is_warm

    def preloaded(self) -> Preloaded:
        """What workers have imported when they start; see :class:`Launcher`."""
        return self._processes.preloaded()

    def release(self) -> Callable[[], None]:
        """Start afresh from now on; see :class:`Launcher`."""
        crew, self._crew = self._crew, self._new_crew()
        end_processes = self._processes.release()

        def close() -> None:
            crew.close()
            end_processes()

        return close

    def forget(self) -> None:
        """In a fork of the owner: the workers belong to the original."""
        self._end.detach()
        self._crew.forget()
        self._crew = self._new_crew()


def _lent(taken: Taken, give_back: Callable[[Messages | None], None]) -> Child:
    """The worker's process, as this run has it. Nothing else refers to it: it goes when it is lost."""
    worker, child = taken.worker, taken.worker.child
    handed_over_at = time.monotonic() if taken.has_waited or worker.runs else None
    streams = child.channel, child.stdout, child.stderr, child.handle
    return Child(*streams, launch="reused", give_back=give_back, handed_over_at=handed_over_at)


_instances: weakref.WeakSet[PoolLauncher] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(_instances):
        launcher.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
