"""The fork servers of one process: which are ready, which are starting, and which have to go.

Launchers with the same settings share one set of fork servers, so what one of them has imported ahead is there for
all. The set ends with the last launcher that uses it.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import suppress
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import LaunchError
from isolated_magic.launch.base import Preloaded, forget_in_forks
from isolated_magic.launch.fork_server.freshness import ForkServerSpec, PreloadFailure, environment_for
from isolated_magic.launch.fork_server.server import ForkServer
from isolated_magic.launch.fork_server.source_scan import ImportHistory
from isolated_magic.launch.guardian import Guardian
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic.launch.fork_server.source_scan import SourceScan
    from isolated_magic.launch.spawn import ProcessAttributes
    from isolated_magic.request import RunRequest


MOST_TEMPLATES = 4  # that one launcher has asked for; a fork server with Opik takes 90 MB
KEEP_SECS = 20.0  # one that was used so recently does not have to make room
RETRY_SECS = 60.0
MOST_GIVEN_UP = 100
MOST_ATTEMPTS = 8  # to start one fork server, each time without the module that did not do


class ForkServerPool:
    """All fork servers. Their starts are waited for in threads of their own, which end with them.

    Args:
        start: starts a process around descriptors (see ``launch/guardian.py``).
        learned: is told which modules do not do.
        standby: how many children of each wait for a run.
        idle_secs: seconds after which a fork server that nobody uses ends.
    """

    def __init__(
        self, start: Callable[[list[int]], None], history: ImportHistory, standby: int, idle_secs: float
    ) -> None:
        self._start = start
        self._history = history
        self._standby = standby
        self._idle_secs = idle_secs
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

    def modules(self) -> frozenset[str]:
        """The names of all modules that are in one that is ready."""
        return frozenset().union(*(one.modules for one in list(self._all) if one.state == "ready"))

    def packages(self) -> frozenset[str]:
        """The names of those that somebody asks for and that are in one that is ready."""
        ready = [server.asked_for for server in list(self._all) if server.state == "ready"]
        return frozenset().union(*ready)

    def _drop_outdated(self) -> None:
        """Drop those that ended, retire those that are out of date."""
        for server in list(self._all):
            if server.state == "ready" and server.is_gone():
                self.remove(server)
            elif server.state == "ready" and not server.is_current():
                if not server.packages_are_current():
                    self._history.packages_changed()
                self.remove(server)
        for server in list(self._leaving):
            if server.is_gone():
                with suppress(ValueError):
                    self._leaving.remove(server)

    def remove(self, server: ForkServer) -> bool:
        """Let it finish what runs on it, and end; False when it was removed before."""
        with self._changed:
            if server not in self._all:
                return False
            self._all.remove(server)
            self._leaving.append(server)
        server.retire()
        return True

    def ensure(self, spec: ForkServerSpec, environment: Mapping[bytes, bytes], asker: object) -> None:
        """Start a fork server unless there is one of that kind, or too many in use."""
        with self._changed:
            self._all = [server for server in self._all if server.state != "over"]
            for server in self._all:
                if _is_kin(server.spec, spec):
                    known = server.inputs if server.state == "ready" else None
                    wanted = environment_for(environment, known)
                    if wanted == environment_for(server.spec.environment, known):
                        return
                    spec = replace(spec, environment=wanted)
            if time.monotonic() < self._given_up.get(_kind(spec), 0.0):
                return
            its_own = [server for server in self._all if server.asker is asker]
            if len(its_own) >= MOST_TEMPLATES:
                oldest = min(its_own, key=lambda server: server.used_at)
                if time.monotonic() - oldest.used_at < KEEP_SECS:
                    return
                self.remove(oldest)
            started = self._started(spec, asker)
        if started is None:
            return
        try:
            start_thread(
                partial(self._bring_up, started, environment, MOST_ATTEMPTS), "isolated_magic fork server"
            )
        except LaunchError:  # the runs that go on are not to blame
            self._over(started)

    def disown(self, asker: object) -> None:
        """One launcher leaves: the others go on using what it has asked for, for a while."""
        with self._changed:
            for server in self._all:
                if server.asker is asker:
                    server.asker = None
            orphans = sorted((one for one in self._all if one.asker is None), key=lambda one: one.used_at)
        for server in orphans[:-MOST_TEMPLATES]:
            self.remove(server)

    def _over(self, started: ForkServer) -> None:
        """Nobody waits for it any longer, and it did not become ready."""
        self.remove(started)
        with self._changed:
            self._starting -= 1
            self._changed.notify_all()

    def _started(self, spec: ForkServerSpec, asker: object) -> ForkServer | None:
        """A fork server that starts, listed; None when the system refuses: the run at hand will say so."""
        try:
            server = ForkServer(spec, self._start, os.getpid(), self._idle_secs, is_awaited=self._awaited > 0)
        except (OSError, LaunchError):
            return None
        server.asker = asker
        self._all.append(server)
        self._starting += 1
        return server

    def _bring_up(self, first: ForkServer, environment: Mapping[bytes, bytes], attempts: int) -> None:
        """Wait for a fork server; when it turns out not to suit the run it is for, for another in its place."""
        current: ForkServer | None = first
        while current is not None:
            server, attempts = current, attempts - 1
            try:
                current = self._brought_up(server, first.spec, environment, may_retry=attempts > 0)
            except MemoryError:
                return self._over(server)
        return None

    def _brought_up(
        self, server: ForkServer, first: ForkServerSpec, environment: Mapping[bytes, bytes], *, may_retry: bool
    ) -> ForkServer | None:
        """Wait for a fork server; the one to wait for in its place, None when this one does or nothing will."""
        refusal = server.wait_until_ready()
        better = self._better(server, refusal, environment) if may_retry else None
        if better is None and server.state == "ready":
            server.fill(self._standby)
            self._retire_replaced(server)
        with self._changed:
            following = None
            if better is not None or server.state != "ready":
                was_wanted = self.remove(server)
                following = self._started(better, server.asker) if better is not None and was_wanted else None
                if better is None and was_wanted:
                    self._give_up(first)
            self._starting -= 1
            self._changed.notify_all()
            return following

    def _give_up(self, spec: ForkServerSpec) -> None:
        """Do not try again for a while: it would end like this time."""
        if len(self._given_up) >= MOST_GIVEN_UP:
            self._given_up.clear()
        self._given_up[_kind(spec)] = time.monotonic() + RETRY_SECS

    def _better(
        self, server: ForkServer, refusal: PreloadFailure | None, environment: Mapping[bytes, bytes]
    ) -> ForkServerSpec | None:
        """What would have done instead; None when this one does, or nothing will."""
        spec = server.spec
        if refusal is None:
            self._history.note_missing(server.not_there)
            wanted = environment_for(environment, server.inputs)
            missing = any(spec.environment.get(name) != value for name, value in wanted.items())
            return replace(spec, environment=wanted) if missing else None
        if refusal.is_unclear:
            return replace(spec, in_detail=True)
        if not refusal.reasons:
            return None
        self._history.refuse(spec, refusal)
        return replace(spec, modules=refusal.kept, in_detail=False)

    def _retire_replaced(self, new: ForkServer) -> None:
        """Of two of which one can do all that the other can, keep that one."""
        for other in list(self._all):
            if other is not new and other.state == "ready":
                if _is_superseded(other, new):
                    self.remove(other)
                elif _is_superseded(new, other):
                    self.remove(new)

    def wait(self, timeout_secs: float) -> bool:
        """Whether none is starting, now or within the time."""
        self._awaited += 1
        try:
            for server in list(self._all):
                server.hurry()
            with self._changed:
                return self._changed.wait_for(lambda: self._starting == 0, timeout_secs)
        finally:
            self._awaited -= 1

    def refill(self, server: ForkServer) -> None:
        """Have as many children wait as there should."""
        server.fill(self._standby)

    def release(self) -> Callable[[], None]:
        """Forget all; returns what ends them, with the runs that go on."""
        with self._changed:
            gone, self._all, self._leaving = [*self._all, *self._leaving], [], []
            self._changed.notify_all()

        def close() -> None:
            for server in gone:
                server.close()

        return close

    def forget(self) -> None:
        """In a fork of the owner: they belong to the original."""
        self._changed = threading.Condition(threading.RLock())  # another thread may have held it
        for server in (*self._all, *self._leaving):
            server.forget()
        self._all, self._leaving, self._starting = [], [], 0


def _kind(spec: ForkServerSpec) -> int:
    """What tells one recipe from another, without the values of its variables."""
    environment = frozenset(spec.environment.items())
    return hash((spec.executable, spec.modules, spec.imports, environment, spec.cwd, spec.stack_bytes))


def _is_kin(one: ForkServerSpec, other: ForkServerSpec) -> bool:
    """Whether they differ in their environments at most."""
    return replace(one, environment={}) == replace(other, environment={})


def _is_superseded(old: ForkServer, new: ForkServer) -> bool:
    return old.modules <= new.modules and replace(old.spec, modules=()) == replace(new.spec, modules=())


class PoolSettings(NamedTuple):
    """A way to start runs: launchers of which it is the same can share."""

    given: tuple[str, ...]  # names of the modules that every fork server imports
    learns: bool  # whether fork servers import what runs were seen to import
    standby: int  # how many children of each fork server wait for a run
    idle_secs: float  # seconds after which a fork server ends that nobody uses


class SharedPool:
    """What the launchers of one way share.

    Args:
        way: theirs.
        learned: what was learned by all that import the same, whatever else differs.
    """

    def __init__(self, settings: PoolSettings, history: ImportHistory) -> None:
        self.history = history
        self.guardian = Guardian()
        self.servers = ForkServerPool(self.guardian.start_run, history, settings.standby, settings.idle_secs)
        self.users = 0

    def close(self) -> None:
        """End the fork servers and all that runs on them."""
        self.servers.release()()
        self.guardian.close()


class PoolRegistry:
    """The shared pools of this process, and what was learned by all that import the same."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # re-entered by a signal handler that tears down
        self.pools: dict[PoolSettings, SharedPool] = {}
        self._histories: weakref.WeakValueDictionary[tuple[tuple[str, ...], bool], ImportHistory] = (
            weakref.WeakValueDictionary()
        )
        forget_in_forks(self)

    def join(self, settings: PoolSettings) -> SharedPool:
        """The pool for launchers with these settings, which has one user more."""
        with self.lock:
            shared = self.pools.get(settings)
            if shared is None:
                key = settings.given, settings.learns
                history = self._histories.get(key)
                if history is None:
                    history = self._histories[key] = ImportHistory(settings.given)
                shared = self.pools[settings] = SharedPool(settings, history)
            shared.users += 1
            return shared

    def forget(self) -> None:
        """In a fork of the owner: fork servers and guardians see to themselves."""
        self.lock = threading.RLock()


class PoolLease:
    """One launcher's share in a pool, until it leaves it, and again from its next use."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._shared: SharedPool | None = _registry.join(settings)

    @property
    def shared(self) -> SharedPool:
        """What is shared; from now on it is this launcher's too."""
        shared = self._shared
        if shared is None:
            with _registry.lock:
                shared = self._shared = self._shared or _registry.join(self._settings)
        return shared

    def preloaded(self) -> Preloaded:
        """What the fork servers have imported that would be this launcher's."""
        shared = _registry.pools.get(self._settings)
        if shared is None:
            return Preloaded()
        there = shared.servers.modules()  # for runs with other variables, perhaps
        reasons = {name: why for name, why in sorted(shared.history.reasons.items()) if name not in there}
        return Preloaded(tuple(sorted(shared.servers.packages())), MappingProxyType(reasons))

    def leave(self) -> Callable[[], None]:
        """Have no part in it any more. Returns what ends it, unless others go on using it."""
        with _registry.lock:
            shared, self._shared = self._shared, None
            if shared is None:
                return lambda: None
            shared.users -= 1
            if shared.users:
                shared.servers.disown(self)
                return lambda: None
            if _registry.pools.get(self._settings) is shared:
                del _registry.pools[self._settings]
        return shared.close


_registry = PoolRegistry()
