"""The pools of fork servers of this process, and who uses them.

Launchers with the same settings share one pool, so what one of them has imported ahead is there for all. It ends
with the last launcher that uses it.
"""

from __future__ import annotations

import threading
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from isolated_magic.launch.base import Preloaded
from isolated_magic.launch.fork_server import import_cache
from isolated_magic.launch.fork_server.import_history import ImportHistory
from isolated_magic.launch.fork_server.servers import ForkServerPool
from isolated_magic.launch.forks import forget_in_forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.launch.fork_server.servers import PoolSettings


class PoolRegistry:
    """The pools in use in this process. Those that import the same have one history, whatever else differs."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # re-entered by a signal handler that tears down
        self.pools: dict[PoolSettings, ForkServerPool] = {}
        forget_in_forks(self)

    def join(self, settings: PoolSettings) -> ForkServerPool:
        """The pool for these settings, with one user more."""
        with self.lock:
            pool = self.pools.get(settings)
            if pool is None:
                pool = self.pools[settings] = ForkServerPool(settings, self._history_for(settings))
            pool.users += 1
            return pool

    def _history_for(self, settings: PoolSettings) -> ImportHistory:
        """The history of the pools in use that import the same; an empty one if there are none.

        Not by a weak reference: it would find that of a pool that has ended, until its last thread has ended and
        the garbage of its runs was collected.
        """
        for other, pool in self.pools.items():
            if other._replace(standby=0, idle_secs=0) == settings._replace(standby=0, idle_secs=0):
                return pool.history
        directory = _working_directory() if settings.remembers else None
        return ImportHistory(settings.given, directory, settings.interpreter)

    def forget(self) -> None:
        """In a fork of the owner: fork servers and guardians see to themselves."""
        self.lock = threading.RLock()


class PoolLease:
    """One launcher's use of a pool, until it leaves it, and again from its next run."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._pool: ForkServerPool | None = _registry.join(settings)

    @property
    def pool(self) -> ForkServerPool:
        """The pool, which this launcher joins if it has left it."""
        pool = self._pool
        if pool is None:
            with _registry.lock:
                pool = self._pool = self._pool or _registry.join(self._settings)
        return pool

    def preloaded(self) -> Preloaded:
        """What the fork servers of the pool have imported, without joining it."""
        pool = _registry.pools.get(self._settings)
        if pool is None:
            return Preloaded()
        there = pool.modules()  # for runs with other variables, perhaps
        reasons = {name: why for name, why in sorted(pool.history.reasons.items()) if name not in there}
        return Preloaded(tuple(sorted(pool.packages())), MappingProxyType(reasons))

    def leave(self) -> Callable[[], None]:
        """Leave the pool. The function returned ends it, unless others use it."""
        with _registry.lock:
            pool, self._pool = self._pool, None
            if pool is None:
                return lambda: None
            pool.users -= 1
            if pool.users:
                pool.disown(self)
                return lambda: None
            if _registry.pools.get(self._settings) is pool:
                del _registry.pools[self._settings]
        return pool.close


_registry = PoolRegistry()


def _working_directory() -> str | None:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed
        return None


def forget_imports(*, everywhere: bool) -> int:
    """Forget what processes have learned of programs, but for what this one goes on with.

    Args:
        everywhere: of all folders; else of those that this process runs programs in.

    Returns:
        The number of folders.

    Raises:
        OSError: it cannot be removed.
    """
    histories = [pool.history for pool in list(_registry.pools.values())]
    for history in histories:
        history.forget_earlier()
    if everywhere:
        return import_cache.forget_all()
    here = _working_directory()
    caches = [None if here is None else import_cache.cache_for(here), *(history.cache for history in histories)]
    return sum(cache.forget() for cache in caches if cache is not None)
