"""What the launchers of one process share: a guardian for templates, the templates, and what was learned.

Launchers that start runs in the same way use the same templates, so what one of them has imported ahead is there
for all. Each keeps its other runs under a guardian of its own. What is shared ends with the last that has it.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.launch.base import Preloaded
from isolated_magic.launch.guardian import Guardian
from isolated_magic.launch.learned import Learned
from isolated_magic.launch.templates import Templates

if TYPE_CHECKING:
    from collections.abc import Callable


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
