"""The fork servers of one pool: which are ready, which are starting, and which have to end.

Launchers share them (``pools.py``). Each launcher has a guardian of its own for its other runs.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import LaunchError
from isolated_magic.launch.base import LONGEST_WAIT_SECS, StoppedError
from isolated_magic.launch.fork_server.freshness import ForkServerSpec, PreloadFailure, environment_for
from isolated_magic.launch.fork_server.server import Deferred, ForkServer
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.guardian import Guardian
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isolated_magic.launch.attributes import ProcessAttributes
    from isolated_magic.launch.base import Attach
    from isolated_magic.launch.fork_server.import_history import ImportHistory
    from isolated_magic.launch.fork_server.source_scan import SourceScan
    from isolated_magic.packages.interpreters import Interpreter
    from isolated_magic.request import RunRequest

MOST_SERVERS = 4  # asked for by one launcher; a fork server with Opik takes 90 MB
KEEP_SECS = 20.0  # one that was used so recently does not have to make room
RETRY_SECS = 60.0
MOST_GIVEN_UP = 100
MOST_PATIENCE_SECS = 5.0  # of a run that waits for a fork server
HEAD_START_SECS = 0.2  # in less, a fork server is ready that has imported little
STOPPED = "The run was stopped while it waited for a fork server."
MOST_ATTEMPTS = 8  # to start one fork server, each time without the module that was refused


class PoolSettings(NamedTuple):
    """Launchers for which these are the same can share fork servers."""

    given: tuple[str, ...]  # modules that every fork server imports
    learns: bool  # whether fork servers import what runs were seen to import
    standby: int  # how many children of each fork server wait for a run
    idle_secs: float  # after which an unused fork server ends
    remembers: bool = False  # whether later processes may know what was learned
    interpreter: Interpreter | None = None  # of the runs; None for that of this process


class _Waiter:
    """A run that waits for a fork server. Its control ends the waiting."""

    def __init__(self, changed: threading.Condition) -> None:
        self.is_stopped = False
        self._changed = changed

    def kill(self) -> None:
        self.is_stopped = True
        with self._changed:
            self._changed.notify_all()

    interrupt = kill


class ForkServerPool:
    """The fork servers of launchers with the same settings. A thread waits for each one that starts."""

    def __init__(self, settings: PoolSettings, history: ImportHistory) -> None:
        self.history = history
        self.users = 0
        self._is_closed = False
        self._guardian = Guardian()
        self._standby = settings.standby
        self._idle_secs = settings.idle_secs
        self._all: list[ForkServer] = []
        self._leaving: list[ForkServer] = []
        self._starting = 0
        self._awaited = 0
        self._given_up: dict[int, float] = {}
        self._changed = threading.Condition(threading.RLock())  # re-entered by a signal handler that tears down
        forget_in_forks(self)

    def best_for(self, request: RunRequest, scan: SourceScan, attributes: ProcessAttributes) -> ForkServer | None:
        """The ready fork server that spares this run the most imports, None when none suits."""
        self._drop_outdated()
        best: ForkServer | None = None
        for server in list(self._all):
            is_better = server.state == "ready" and (best is None or len(server.modules) > len(best.modules))
            if is_better and server.suits(request, scan, attributes):
                best = server
        return best

    def starting_for(
        self, request: RunRequest, scan: SourceScan, attributes: ProcessAttributes
    ) -> ForkServer | None:
        """A fork server that is importing what this program imports, and will be through before a new interpreter.

        It does the same, with so much of a head start that the program's imports are no small ones. With Opik it
        takes 1.06 times as long as a new interpreter, to look at what the imports do.
        """
        if not self._starting:
            return None
        before = time.monotonic() - HEAD_START_SECS
        starting = [one for one in list(self._all) if one.state == "starting" and one.started_at < before]
        hopeful = [one for one in starting if one.spec.imports and not one.is_doubtful]
        fitting = [one for one in hopeful if one.suits(request, scan, attributes)]
        return min(fitting, key=lambda one: one.started_at, default=None)

    def wait_for(self, server: ForkServer, attach: Attach) -> None:
        """Wait until a fork server is no longer starting, but not for longer than it has taken so far.

        Its imports may hang, or be refused in the end. No run waits for it again then.

        Raises:
            StoppedError: the run is stopped.
        """
        waiter = _Waiter(self._changed)
        attach(waiter)
        now = time.monotonic()
        deadline = now + min(now - server.started_at, MOST_PATIENCE_SECS)
        server.hurry()
        with self._changed:
            while server.state == "starting":
                if waiter.is_stopped:
                    raise StoppedError(STOPPED)
                left = deadline - time.monotonic()
                if left <= 0:
                    server.is_doubtful = True
                    return
                self._changed.wait(min(left, LONGEST_WAIT_SECS))

    def modules(self) -> frozenset[str]:
        """All modules that a ready fork server has imported."""
        return frozenset().union(*(one.modules for one in list(self._all) if one.state == "ready"))

    def packages(self) -> frozenset[str]:
        """The packages that programs or the user ask for and that a ready fork server has imported."""
        ready = [server.asked_for for server in list(self._all) if server.state == "ready"]
        return frozenset().union(*ready)

    def _drop_outdated(self) -> None:
        """Drop those that ended, retire those that are out of date."""
        for server in list(self._all):
            if server.state == "ready" and server.is_gone():
                self.remove(server)
            elif server.state == "ready" and not server.is_current():
                if not server.packages_are_current():
                    self.history.packages_changed()
                self.remove(server)
        for server in list(self._leaving):
            if server.is_gone():
                with suppress(ValueError):
                    self._leaving.remove(server)

    def remove(self, server: ForkServer) -> bool:
        """Let it finish its runs, and end; False if it was removed before."""
        with self._changed:
            if server not in self._all:
                return False
            self._all.remove(server)
            self._leaving.append(server)
        server.retire()
        return True

    def ensure(self, spec: ForkServerSpec, environment: Mapping[bytes, bytes], lease: object) -> None:
        """Start a fork server for a run with this environment, unless there is one or too many are in use."""
        started = self._begin(spec, environment, lease)
        if started is None:
            return
        try:
            start_thread(
                partial(self._bring_up, started, environment, MOST_ATTEMPTS), "isolated_magic fork server"
            )
        except LaunchError:  # the runs that go on are not to blame
            self._abandon(started)

    def defer(
        self, spec: ForkServerSpec, environment: Mapping[bytes, bytes], lease: object, scan: SourceScan
    ) -> bool:
        """Put off a fork server for a program until one that may serve it too is ready: it may have all as well.

        Returns:
            False if none such is starting.
        """
        with self._changed:
            for server in self._all:
                if server.state == "starting" and _may_do_for(server.spec, spec, scan):
                    if not {*server.spec.modules}.issuperset(spec.modules):
                        server.deferred.append(Deferred(spec, environment, lease))
                        self._starting += 1
                    return True
        return False

    def start_ahead(
        self, specs: Iterable[ForkServerSpec], environment: Mapping[bytes, bytes], lease: object
    ) -> None:
        """Start these, one after the other, and behind all other work. Returns when all of them are ready."""
        with suppress(OSError, LaunchError):  # the runs will start theirs
            self._guardian.start()  # without the lock that runs need, too: it takes as long as a run
            if self._is_closed:
                return self._guardian.close()
            for spec in specs:
                started = self._begin(spec, environment, lease, is_ahead=True)
                if started is not None:
                    self._bring_up(started, environment, MOST_ATTEMPTS)
        return None

    def _begin(
        self, spec: ForkServerSpec, environment: Mapping[bytes, bytes], lease: object, *, is_ahead: bool = False
    ) -> ForkServer | None:
        """Begin to start a fork server, unless there is one or too many are in use."""
        with self._changed:
            self._all = [server for server in self._all if server.state != "over"]
            for server in self._all:
                if _differ_in_environment_alone(server.spec, spec):
                    if _has_variables(server, environment):
                        return None
                    known = server.environment_reads if server.state == "ready" else None
                    spec = replace(spec, environment=environment_for(environment, known))
            if time.monotonic() < self._given_up.get(_key_of(spec), 0.0):
                return None
            its_own = [server for server in self._all if server.lease is lease]
            if len(its_own) >= MOST_SERVERS:
                oldest = min(its_own, key=lambda server: server.used_at)
                if is_ahead or time.monotonic() - oldest.used_at < KEEP_SECS:
                    return None
                self.remove(oldest)
            return self._start(spec, lease, is_ahead=is_ahead)

    def disown(self, lease: object) -> None:
        """A launcher leaves: what it has asked for stays, for the others, as long as there is room."""
        with self._changed:
            for server in self._all:
                if server.lease is lease:
                    server.lease = None
            orphans = sorted((one for one in self._all if one.lease is None), key=lambda one: one.used_at)
        for server in orphans[:-MOST_SERVERS]:
            self.remove(server)

    def _abandon(self, started: ForkServer) -> None:
        """Give up waiting for a fork server that did not become ready."""
        self.remove(started)
        with self._changed:
            deferred, started.deferred = started.deferred, []
            self._starting -= 1 + len(deferred)
            self._changed.notify_all()

    def _start(self, spec: ForkServerSpec, lease: object, *, is_ahead: bool) -> ForkServer | None:
        """Start a fork server and list it; None if the system refuses: the run itself will say so."""
        if self._is_closed:
            return None
        is_awaited, start = self._awaited > 0, self._guardian.start_run
        try:
            server = ForkServer(spec, start, self._idle_secs, is_awaited=is_awaited, is_ahead=is_ahead)
        except (OSError, LaunchError):
            return None
        server.lease = lease
        self._all.append(server)
        self._starting += 1
        return server

    def _bring_up(self, first: ForkServer, environment: Mapping[bytes, bytes], attempts: int) -> None:
        """Wait for a fork server; if it does not suit the run that it is for, for another in its place."""
        server = first
        current: ForkServer | None = first
        while current is not None:
            server, attempts = current, attempts - 1
            try:
                current = self._wait_for(server, first.spec, environment, may_retry=attempts > 0)
            except MemoryError:
                return self._abandon(server)
        self._start_deferred(server)
        if server.modules:  # it was ready
            self.history.remember(
                server.spec, server.roots, server.modules_of_programs, is_used=not server.is_ahead
            )
        return None

    def _start_deferred(self, server: ForkServer) -> None:
        """Start what was put off until this one is ready, if it lacks modules or is gone."""
        with self._changed:
            deferred, server.deferred = server.deferred, []
        for one in deferred:
            has_all = server.state == "ready" and server.modules.issuperset(one.spec.modules)
            if not (has_all and _has_variables(server, one.environment)):
                self.ensure(*one)
            with self._changed:
                self._starting -= 1
                self._changed.notify_all()

    def _wait_for(
        self, server: ForkServer, first: ForkServerSpec, environment: Mapping[bytes, bytes], *, may_retry: bool
    ) -> ForkServer | None:
        """Wait for a fork server; the one to wait for instead, None if this one suits or nothing will."""
        refusal = server.wait_until_ready()
        better = self._spec_instead(server, refusal, environment) if may_retry else None
        if better is None and server.state == "ready":
            server.fill(self._standby)
            self._retire_replaced(server)
        with self._changed:
            following = None
            if better is not None or server.state != "ready":
                was_wanted = self.remove(server)
                if better is not None and was_wanted:
                    following = self._start(better, server.lease, is_ahead=server.is_ahead)
                if following is not None:
                    following.is_doubtful = refusal is not None
                    following.deferred, server.deferred = server.deferred, []
                elif better is None and was_wanted:
                    self._give_up(first)
            self._starting -= 1
            self._changed.notify_all()
            return following

    def _give_up(self, spec: ForkServerSpec) -> None:
        """Do not try this again for a while."""
        if len(self._given_up) >= MOST_GIVEN_UP:
            self._given_up.clear()
        self._given_up[_key_of(spec)] = time.monotonic() + RETRY_SECS

    def _spec_instead(
        self, server: ForkServer, refusal: PreloadFailure | None, environment: Mapping[bytes, bytes]
    ) -> ForkServerSpec | None:
        """What to start instead; None if this one suits, or nothing will."""
        spec = server.spec
        if refusal is None:
            self.history.note_missing(server.not_there)
            wanted = environment_for(environment, server.environment_reads)
            missing = any(spec.environment.get(name) != value for name, value in wanted.items())
            return replace(spec, environment=wanted) if missing else None
        if refusal.is_unclear:
            return replace(spec, in_detail=True)
        if not refusal.reasons:
            return None
        self.history.refuse(spec, refusal)
        return replace(spec, modules=refusal.kept, in_detail=False)

    def _retire_replaced(self, new: ForkServer) -> None:
        """Remove each fork server whose runs another one can take."""
        for other in list(self._all):
            if other is not new and other.state == "ready":
                if _is_superseded(other, new):
                    self.remove(other)
                elif _is_superseded(new, other):
                    self.remove(new)

    def wait(self, timeout_secs: float) -> bool:
        """Wait until none is starting; False if that takes longer."""
        self._awaited += 1
        try:
            for server in list(self._all):
                server.hurry()
            with self._changed:
                return self._changed.wait_for(lambda: self._starting == 0, timeout_secs)
        finally:
            self._awaited -= 1

    def refill(self, server: ForkServer) -> None:
        """Have as many children wait as the settings say."""
        server.fill(self._standby)

    def close(self) -> None:
        """End all fork servers, and what still runs on them."""
        with self._changed:
            self._is_closed = True
            gone, self._all, self._leaving = [*self._all, *self._leaving], [], []
            self._changed.notify_all()
        for server in gone:
            server.close()
        self._guardian.close()
        self.history.save()

    def forget(self) -> None:
        """In a fork of the owner: they belong to the original."""
        self._changed = threading.Condition(threading.RLock())
        for server in (*self._all, *self._leaving):
            server.forget()
        self._all, self._leaving, self._starting = [], [], 0


def _key_of(spec: ForkServerSpec) -> int:
    """Tells specs apart."""
    environment = frozenset(spec.environment.items())
    return hash((spec.executable, spec.modules, spec.imports, environment, spec.cwd, spec.stack_bytes))


def _differ_in_environment_alone(one: ForkServerSpec, other: ForkServerSpec) -> bool:
    """Whether they differ in nothing but their environments."""
    return replace(one, environment={}) == replace(other, environment={})


def _has_variables(server: ForkServer, environment: Mapping[bytes, bytes]) -> bool:
    """Whether all that its imports looked at, as far as that is known, is the same in this environment."""
    known = server.environment_reads if server.state == "ready" else None
    return environment_for(environment, known) == environment_for(server.spec.environment, known)


def _may_do_for(starting: ForkServerSpec, spec: ForkServerSpec, scan: SourceScan) -> bool:
    """Whether a fork server may serve a program that another one would be for."""
    if not (starting.imports and spec.imports and starting.imports <= scan.all_imports):
        return False
    bare, none = replace(starting, in_detail=False), frozenset[str]()
    return replace(bare, modules=(), wanted=none, imports=none) == replace(
        spec, modules=(), wanted=none, imports=none
    )


def _is_superseded(old: ForkServer, new: ForkServer) -> bool:
    return old.modules <= new.modules and replace(old.spec, modules=()) == replace(new.spec, modules=())
