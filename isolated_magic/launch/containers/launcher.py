"""Children in containers: a new one for each run, which waited for it."""

from __future__ import annotations

import os
import threading
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.environment import QUIET_DEFAULTS, acts_at_start
from isolated_magic.launch.base import Attach, Child, Launcher, to_nobody
from isolated_magic.launch.containers.bridge import Bridge
from isolated_magic.launch.containers.client import require_sdk
from isolated_magic.launch.containers.pool import Pool
from isolated_magic.launch.containers.program import container_messages
from isolated_magic.launch.containers.settings import shape_for
from isolated_magic.launch.fork_server.source_scan import program_of
from isolated_magic.launch.shortage import start_thread
from isolated_magic.limits import NO_LIMITS, STACK_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic.launch.containers.container import Container
    from isolated_magic.launch.containers.settings import ContainerSettings
    from isolated_magic.limits import Limits
    from isolated_magic.request import RunRequest


START_TIMEOUT_SECS = 10.0  # to wait for a container


class ContainerLauncher(Launcher):
    """Launches each run in a container of its own.

    Args:
        settings: of the containers.
        limits: of most runs: containers wait for those that have them.

    Raises:
        MissingLibraryError: the docker SDK is not installed.
    """

    def __init__(self, settings: ContainerSettings, limits: Limits = NO_LIMITS) -> None:
        require_sdk()
        self._settings = settings
        self._shape = shape_for(settings, limits)
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._pools: list[Pool] = [self._new_pool()]
        _instances.add(self)
        weakref.finalize(self, _close_all, self._pools)

    def _new_pool(self) -> Pool:
        return Pool(self._settings, self._shape, self._settings.standby)

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for this request; see :class:`Launcher`."""
        pool = self._pool_for(request)
        container = pool.take(max(request.timeout_secs, START_TIMEOUT_SECS), attach)
        try:
            environment = _environment(request, container.environment)
            cold = request.fresh or not _suits(request, container, environment)
            messages = container_messages(request, environment, cold=cold)
            bridge = Bridge(container, request.timeout_secs)
            start_thread(partial(_serve, bridge, pool, container), "isolated_magic container")
        except BaseException:
            start_thread(partial(pool.discard, container), "isolated_magic container")
            raise
        bridge.child.launch = "cold" if cold else "forked"
        bridge.child.handed_over_at = time.monotonic()  # to wait for one is not the run's time
        if not pool.has_waiting:  # else when the run is over: making one takes the processor
            pool.refill()
        return bridge.child, messages

    def _pool_for(self, request: RunRequest) -> Pool:
        shape = shape_for(self._settings, request.limits)
        with self._lock:
            if shape == self._shape:
                return self._pools[0]
            own = next((pool for pool in self._pools if pool.shape == shape), None)
            if own is None:
                own = Pool(self._settings, shape, standby=0)
                self._pools.append(own)
            return own

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:
        """Wait until containers wait; see :class:`Launcher`."""
        return self._pool_for(request).warm_up(timeout_secs)

    def release(self) -> Callable[[], None]:
        """Leave the containers to the runs that have them; see :class:`Launcher`."""
        with self._lock:
            released = self._pools[:]
            self._pools[:] = [self._new_pool()]
        return partial(_close_all, released)

    def forget(self) -> None:
        """In a fork of the owner: start afresh; the containers belong to the original."""
        self._lock = threading.RLock()
        for pool in self._pools:
            pool.forget()
        self._pools[:] = [self._new_pool()]


def _serve(bridge: Bridge, pool: Pool, container: Container) -> None:
    try:
        bridge.run()
    finally:
        pool.refill()
        pool.discard(container)


def _close_all(pools: list[Pool]) -> None:
    for pool in pools:
        pool.close()


def _environment(request: RunRequest, image: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The container's, with what the request sets, and without what it removes."""
    quiet = {name.encode(): value.encode() for name, value in QUIET_DEFAULTS.items()}
    merged = {**quiet, **image, **request.environment}
    without = request.elsewhere.without if request.elsewhere is not None else ()
    return {name: value for name, value in merged.items() if name not in without}


def _suits(request: RunRequest, container: Container, environment: Mapping[bytes, bytes]) -> bool:
    """Whether the fork that waits cannot be told from an interpreter that is started for this run."""
    before, inputs = container.environment, container.inputs
    changed = (name for name in {*before, *environment} if before.get(name) != environment.get(name))
    if any(acts_at_start(name) or inputs.read(name) for name in changed):
        return False
    if request.limits.stack_bytes != STACK_LIMIT_BYTES:
        return False
    if not container.settings.preload:
        return True
    program = program_of(request.source or "")
    sets = (os.fsencode(name) for name in program.sets)
    return not (program.redirects or program.sets_anything or any(inputs.read(name) for name in sets))


_instances: weakref.WeakSet[ContainerLauncher] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(_instances):
        launcher.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
