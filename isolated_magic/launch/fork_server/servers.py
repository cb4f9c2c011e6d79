"""The templates of one process: which are ready, which are starting, and which have to go.

Launchers with the same settings share one set of templates, so what one of them has imported ahead is there for
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
from isolated_magic.launch.base import Preloaded
from isolated_magic.launch.fork_server.freshness import Recipe, Refusal, environment_for
from isolated_magic.launch.fork_server.server import Template
from isolated_magic.launch.fork_server.source_scan import Learned
from isolated_magic.launch.guardian import Guardian
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic.launch.fork_server.source_scan import Program
    from isolated_magic.launch.spawn import Attributes
    from isolated_magic.request import RunRequest


MOST_TEMPLATES = 4  # that one launcher has asked for; a template with Opik takes 90 MB
KEEP_SECS = 20.0  # one that was used so recently does not have to make room
RETRY_SECS = 60.0
MOST_GIVEN_UP = 100
MOST_ATTEMPTS = 8  # to start one template, each time without the module that did not do


class Templates:
    """All templates. Their starts are waited for in threads of their own, which end with them.

    Args:
        start: starts a process around descriptors (see ``launch/guardian.py``).
        learned: is told which modules do not do.
        standby: how many children of each wait for a run.
        idle_secs: seconds after which a template that nobody uses ends.
    """

    def __init__(
        self, start: Callable[[list[int]], None], learned: Learned, standby: int, idle_secs: float
    ) -> None:
        self._start = start
        self._learned = learned
        self._standby = standby
        self._idle_secs = idle_secs
        self._all: list[Template] = []
        self._leaving: list[Template] = []
        self._starting = 0
        self._awaited = 0
        self._given_up: dict[int, float] = {}
        self._changed = threading.Condition(threading.RLock())  # re-entered by a signal handler that tears down
        _instances.add(self)

    def best_for(self, request: RunRequest, program: Program, attributes: Attributes) -> Template | None:
        """The ready template that spares this run the most imports, None when none suits.

        Args:
            request: the run.
            program: what its code says about itself.
            attributes: of the caller.
        """
        self._tend()
        ready = [template for template in list(self._all) if template.state == "ready"]
        suitable = [template for template in ready if template.suits(request, program, attributes)]
        return max(suitable, key=lambda template: len(template.modules), default=None)

    def modules(self) -> frozenset[str]:
        """The names of all modules that are in one that is ready."""
        return frozenset().union(*(one.modules for one in list(self._all) if one.state == "ready"))

    def packages(self) -> frozenset[str]:
        """The names of those that somebody asks for and that are in one that is ready."""
        ready = [template.asked_for for template in list(self._all) if template.state == "ready"]
        return frozenset().union(*ready)

    def _tend(self) -> None:
        """Drop those that ended, retire those that are out of date."""
        for template in list(self._all):
            if template.state == "ready" and template.is_gone():
                self.remove(template)
            elif template.state == "ready" and not template.is_current():
                if not template.packages_are_current():
                    self._learned.packages_changed()
                self.remove(template)
        for template in list(self._leaving):
            if template.is_gone():
                with suppress(ValueError):
                    self._leaving.remove(template)

    def remove(self, template: Template) -> bool:
        """Let it finish what runs on it, and end; False when it was removed before.

        Args:
            template: one of them.
        """
        with self._changed:
            if template not in self._all:
                return False
            self._all.remove(template)
            self._leaving.append(template)
        template.retire()
        return True

    def want(self, recipe: Recipe, environment: Mapping[bytes, bytes], asker: object) -> None:
        """Start a template unless there is one of that kind, or too many in use.

        Args:
            recipe: what it is made of.
            environment: of a run that it has to suit.
            asker: of those that share the templates the one that asks.
        """
        with self._changed:
            self._all = [template for template in self._all if template.state != "over"]
            for template in self._all:
                if _is_kin(template.recipe, recipe):
                    known = template.inputs if template.state == "ready" else None
                    wanted = environment_for(environment, known)
                    if wanted == environment_for(template.recipe.environment, known):
                        return
                    recipe = replace(recipe, environment=wanted)
            if time.monotonic() < self._given_up.get(_kind(recipe), 0.0):
                return
            its_own = [template for template in self._all if template.asker is asker]
            if len(its_own) >= MOST_TEMPLATES:
                oldest = min(its_own, key=lambda template: template.used_at)
                if time.monotonic() - oldest.used_at < KEEP_SECS:
                    return
                self.remove(oldest)
            started = self._started(recipe, asker)
        if started is None:
            return
        try:
            start_thread(partial(self._bring_up, started, environment, MOST_ATTEMPTS), "isolated_magic template")
        except LaunchError:  # the runs that go on are not to blame
            self._over(started)

    def orphan(self, asker: object) -> None:
        """One of those that share the templates leaves: the others go on using what it has asked for, for a while.

        Args:
            asker: that leaves.
        """
        with self._changed:
            for template in self._all:
                if template.asker is asker:
                    template.asker = None
            orphans = sorted((one for one in self._all if one.asker is None), key=lambda one: one.used_at)
        for template in orphans[:-MOST_TEMPLATES]:
            self.remove(template)

    def _over(self, started: Template) -> None:
        """Nobody waits for it any longer, and it did not become ready."""
        self.remove(started)
        with self._changed:
            self._starting -= 1
            self._changed.notify_all()

    def _started(self, recipe: Recipe, asker: object) -> Template | None:
        """A template that starts, listed; None when the system refuses: the run at hand will say so."""
        try:
            template = Template(recipe, self._start, os.getpid(), self._idle_secs, is_awaited=self._awaited > 0)
        except (OSError, LaunchError):
            return None
        template.asker = asker
        self._all.append(template)
        self._starting += 1
        return template

    def _bring_up(self, first: Template, environment: Mapping[bytes, bytes], attempts: int) -> None:
        """Wait for a template; when it turns out not to suit the run it is for, for another in its place."""
        current: Template | None = first
        while current is not None:
            template, attempts = current, attempts - 1
            try:
                current = self._brought_up(template, first.recipe, environment, may_retry=attempts > 0)
            except MemoryError:
                return self._over(template)
        return None

    def _brought_up(
        self, template: Template, first: Recipe, environment: Mapping[bytes, bytes], *, may_retry: bool
    ) -> Template | None:
        """Wait for a template; the one to wait for in its place, None when this one does or nothing will."""
        refusal = template.wait_until_ready()
        better = self._better(template, refusal, environment) if may_retry else None
        if better is None and template.state == "ready":
            template.fill(self._standby)
            self._retire_replaced(template)
        with self._changed:
            following = None
            if better is not None or template.state != "ready":
                was_wanted = self.remove(template)
                following = self._started(better, template.asker) if better is not None and was_wanted else None
                if better is None and was_wanted:
                    self._give_up(first)
            self._starting -= 1
            self._changed.notify_all()
            return following

    def _give_up(self, recipe: Recipe) -> None:
        """Do not try again for a while: it would end like this time."""
        if len(self._given_up) >= MOST_GIVEN_UP:
            self._given_up.clear()
        self._given_up[_kind(recipe)] = time.monotonic() + RETRY_SECS

    def _better(
        self, template: Template, refusal: Refusal | None, environment: Mapping[bytes, bytes]
    ) -> Recipe | None:
        """What would have done instead; None when this one does, or nothing will."""
        recipe = template.recipe
        if refusal is None:
            self._learned.note_missing(template.not_there)
            wanted = environment_for(environment, template.inputs)
            missing = any(recipe.environment.get(name) != value for name, value in wanted.items())
            return replace(recipe, environment=wanted) if missing else None
        if refusal.is_unclear:
            return replace(recipe, in_detail=True)
        if not refusal.reasons:
            return None
        self._learned.refuse(recipe, refusal)
        return replace(recipe, modules=refusal.kept, in_detail=False)

    def _retire_replaced(self, new: Template) -> None:
        """Of two of which one can do all that the other can, keep that one."""
        for other in list(self._all):
            if other is not new and other.state == "ready":
                if _is_superseded(other, new):
                    self.remove(other)
                elif _is_superseded(new, other):
                    self.remove(new)

    def wait(self, timeout_secs: float) -> bool:
        """Whether none is starting, now or within the time.

        Args:
            timeout_secs: seconds.
        """
        self._awaited += 1
        try:
            for template in list(self._all):
                template.hurry()
            with self._changed:
                return self._changed.wait_for(lambda: self._starting == 0, timeout_secs)
        finally:
            self._awaited -= 1

    def refill(self, template: Template) -> None:
        """Have as many children wait as there should.

        Args:
            template: one of them.
        """
        template.fill(self._standby)

    def release(self) -> Callable[[], None]:
        """Forget all; returns what ends them, with the runs that go on."""
        with self._changed:
            gone, self._all, self._leaving = [*self._all, *self._leaving], [], []
            self._changed.notify_all()

        def close() -> None:
            for template in gone:
                template.close()

        return close

    def forget(self) -> None:
        """In a fork of the owner: they belong to the original."""
        self._changed = threading.Condition(threading.RLock())  # another thread may have held it
        for template in (*self._all, *self._leaving):
            template.forget()
        self._all, self._leaving, self._starting = [], [], 0


def _kind(recipe: Recipe) -> int:
    """What tells one recipe from another, without the values of its variables."""
    environment = frozenset(recipe.environment.items())
    return hash((recipe.executable, recipe.modules, recipe.imports, environment, recipe.cwd, recipe.stack_bytes))


def _is_kin(one: Recipe, other: Recipe) -> bool:
    """Whether they differ in their environments at most."""
    return replace(one, environment={}) == replace(other, environment={})


def _is_superseded(old: Template, new: Template) -> bool:
    return old.modules <= new.modules and replace(old.recipe, modules=()) == replace(new.recipe, modules=())


_instances: weakref.WeakSet[Templates] = weakref.WeakSet()


def _forget_all() -> None:
    for templates in list(_instances):
        templates.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)


class Way(NamedTuple):
    """A way to start runs: launchers of which it is the same can share.

    Args:
        given: names of the modules that every template imports.
        learns: whether templates import what runs were seen to import.
        standby: how many children of each template wait for a run.
        idle_secs: seconds after which a template ends that nobody uses.
    """

    given: tuple[str, ...]
    learns: bool
    standby: int
    idle_secs: float


class Shared:
    """What the launchers of one way share.

    Args:
        way: theirs.
        learned: what was learned by all that import the same, whatever else differs.
    """

    def __init__(self, way: Way, learned: Learned) -> None:
        self.learned = learned
        self.guardian = Guardian()
        self.templates = Templates(self.guardian.start_run, learned, way.standby, way.idle_secs)
        self.users = 0

    def close(self) -> None:
        """End the templates and all that runs on them."""
        self.templates.release()()
        self.guardian.close()


class Membership:
    """One launcher's part in what is shared, until it leaves and again from when it uses it then.

    Args:
        way: how it starts runs.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._shared: Shared | None = _joined(way)

    @property
    def shared(self) -> Shared:
        """What is shared; from now on it is this launcher's too."""
        shared = self._shared
        if shared is None:
            with _lock:
                shared = self._shared = self._shared or _joined(self._way)
        return shared

    def preloaded(self) -> Preloaded:
        """What the templates have imported that would be this launcher's."""
        shared = _by_way.get(self._way)
        if shared is None:
            return Preloaded()
        there = shared.templates.modules()  # for runs with other variables, perhaps
        reasons = {name: why for name, why in sorted(shared.learned.reasons.items()) if name not in there}
        return Preloaded(tuple(sorted(shared.templates.packages())), MappingProxyType(reasons))

    def leave(self) -> Callable[[], None]:
        """Have no part in it any more. Returns what ends it, unless others go on using it."""
        with _lock:
            shared, self._shared = self._shared, None
            if shared is None:
                return lambda: None
            shared.users -= 1
            if shared.users:
                shared.templates.orphan(self)
                return lambda: None
            if _by_way.get(self._way) is shared:
                del _by_way[self._way]
        return shared.close


def _joined(way: Way) -> Shared:
    with _lock:
        shared = _by_way.get(way)
        if shared is None:
            lessons = way.given, way.learns
            learned = _learned.get(lessons)
            if learned is None:
                learned = _learned[lessons] = Learned(way.given)
            shared = _by_way[way] = Shared(way, learned)
        shared.users += 1
        return shared


_lock = threading.RLock()  # re-entered by a signal handler that tears down
_by_way: dict[Way, Shared] = {}
_learned: weakref.WeakValueDictionary[tuple[tuple[str, ...], bool], Learned] = weakref.WeakValueDictionary()


def _forget() -> None:
    """In a fork of the owner: another thread may have held the lock. Templates and guardians see to themselves."""
    global _lock  # noqa: PLW0603 - likewise
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
