"""Workers that do one run after the other (see ``child/worker.py``), and who gets which.

There are never more than so many. A run takes one that is idle and still what a new one would be: of the same
environment, attributes and packages, with no file of the user's imported that has changed since. Where all are
at work, it waits for its turn.
"""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isolated_magic.child.fingerprint import fingerprint
from isolated_magic.errors import LaunchError
from isolated_magic.launch.attributes import Attributes, credentials, current_attributes
from isolated_magic.launch.folders import is_unchanged, package_folders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.launch.base import Attach, Child, ProcessLauncher
    from isolated_magic.messages import Messages
    from isolated_magic.run_request import RunRequest

MOST_SOURCES = 256  # that a worker is known to have run

STOPPED = "The run was stopped while it waited for a worker."


@dataclass(frozen=True)
class Surroundings:
    """What a worker has from its start, and keeps.

    Args:
        environment: of the runs that it does.
        cwd: that they start in.
        stack_bytes: of the main thread.
        attributes: what it has inherited.
        credentials: whom it acts for.
    """

    environment: Mapping[bytes, bytes] = field(repr=False)
    cwd: str
    stack_bytes: int
    attributes: Attributes
    credentials: tuple[object, ...]


@dataclass(eq=False)
class Worker:
    """One worker, busy or idle.

    Args:
        child: its process.
        surroundings: what it was started with.
        unsent: what is to be sent to it before its next request.
        modules: names of installed modules that it has imported.
        files: states of the user's files that it has imported, and of the folders of packages.
        sources: of runs that it has done: whatever they import is there.
        runs: how many it was given.
    """

    child: Child
    surroundings: Surroundings
    unsent: bytes
    modules: set[str]
    files: dict[str, list[int] | None]
    sources: set[str | None] = field(default_factory=set, repr=False)
    runs: int = 0

    def suits(self, surroundings: Surroundings) -> bool:
        """Whether a new one for such a run would be no other.

        Args:
            surroundings: of the run.
        """
        return self.surroundings == surroundings and self.child.handle.lives() and is_unchanged(self.files)


class _Turn:
    """A run that waits for a worker. Orders to the run end the waiting."""

    def __init__(self, crew: Crew) -> None:
        self.came = threading.Lock()
        self.came.acquire()
        self.is_stopped = False
        self._crew = crew

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
        self._busy = 0
        self._reserved = 0
        self._turns: deque[_Turn] = deque()
        self._is_closed = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down

    def take(self, request: RunRequest, attach: Attach) -> tuple[Worker, bool]:
        """A worker for this run, and whether the run had to wait for it.

        Args:
            request: the run.
            attach: called with whom orders to the run go to meanwhile.

        Raises:
            LaunchError: the system refuses one, or the run was stopped.
        """
        turn = self._turn()
        if turn is not None:
            attach(turn)
            self._wait_for(turn)
        try:
            surroundings = surroundings_of(request)
            worker = self._found(request, surroundings) or self._started(request, surroundings)
        except BaseException:
            self._hand_on()
            raise
        return worker, turn is not None

    def _wait_for(self, turn: _Turn) -> None:
        try:
            turn.came.acquire()
        except BaseException:
            if not self.give_up(turn):
                self._hand_on()
            raise
        if turn.is_stopped:
            raise LaunchError(STOPPED)

    def _turn(self) -> _Turn | None:
        """A place in the queue, None when it is this run's turn at once."""
        with self._lock:
            if self._busy < self._most:
                self._busy += 1
                return None
            turn = _Turn(self)
            self._turns.append(turn)
            return turn

    def _hand_on(self) -> None:
        """A run has no worker any more: the next one may have one."""
        with self._lock:
            if self._turns:
                self._turns.popleft().came.release()
            else:
                self._busy -= 1

    def give_up(self, turn: _Turn) -> bool:
        """A run that waits is to wait no longer. Whether it did wait.

        Args:
            turn: its place in the queue.
        """
        with self._lock:
            if turn not in self._turns:
                return False
            self._turns.remove(turn)
            turn.is_stopped = True
            turn.came.release()
            return True

    def _found(self, request: RunRequest, surroundings: Surroundings) -> Worker | None:
        """The best of the idle workers, None when a new one is better."""
        while (worker := self._pop(request)) is not None:
            if worker.suits(surroundings) and not self._lacks_imports(worker, request):
                return worker
            _let_go(worker)
        return None

    def _pop(self, request: RunRequest) -> Worker | None:
        with self._lock:
            known = [worker for worker in self._idle if _program_of(request) in worker.sources]
            if not self._idle:
                return None
            worker = known[-1] if known else self._idle[-1]
            self._idle.remove(worker)
            return worker

    def _lacks_imports(self, worker: Worker, request: RunRequest) -> bool:
        return _program_of(request) not in worker.sources and self._processes.would_spare_imports(
            request, worker.modules
        )

    def _started(self, request: RunRequest, surroundings: Surroundings) -> Worker:
        started = self._processes.start_worker(request)
        packages = fingerprint(package_folders())
        return Worker(started.child, surroundings, started.unsent, set(started.modules), packages)

    def take_back(self, worker: Worker, request: RunRequest, said: Messages | None) -> None:
        """A run is over. Its worker waits for the next one, or another does in its place.

        Args:
            worker: that did it.
            request: what it was.
            said: what it said, None when the worker is of no use any more.
        """
        handle = worker.child.handle
        if said is None or handle.killed or handle.interrupted or self._is_closed:
            _let_go(worker)
        else:
            _note(worker, request, said)
            with self._lock:
                self._idle.append(worker)
        self._hand_on()
        self.fill(request)

    def fill(self, request: RunRequest) -> None:
        """Have as many workers as there may be.

        Args:
            request: a run such as they are for.
        """
        with suppress(OSError, LaunchError):  # the next run will say what the system is short of
            while self._reserve():
                try:
                    worker = self._started(request, surroundings_of(request))
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
            _let_go(worker)

    def close(self) -> None:
        """Let all idle workers go, and the busy ones when they come back; nobody waits any longer."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            for turn in list(self._turns):
                self.give_up(turn)
        for worker in idle:
            _let_go(worker)

    def forget(self) -> None:
        """In a fork of the owner: close our copies."""
        for worker in self._idle:
            worker.child.close()


def _let_go(worker: Worker) -> None:
    worker.child.handle.kill()  # a fork of this process may have its streams open, too
    worker.child.close()


def _program_of(request: RunRequest) -> str | None:
    return request.source if request.path is None else request.path


def _note(worker: Worker, request: RunRequest, said: Messages) -> None:
    """What the worker has imported and run by now."""
    if len(worker.sources) < MOST_SOURCES:
        worker.sources.add(_program_of(request))
    if said.imported is not None:
        worker.modules.update(said.imported.installed)
        worker.files.update(fingerprint(said.imported.files))


def surroundings_of(request: RunRequest) -> Surroundings:
    """What a worker for such a run has.

    Args:
        request: the run.
    """
    return Surroundings(
        request.environment, request.cwd, request.limits.stack_bytes, current_attributes(), credentials()
    )
