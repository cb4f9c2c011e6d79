"""Launches each run in a new container: some wait for a run, each is used once, and none is left behind."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.environment import QUIET_DEFAULTS, acts_at_start
from isolated_magic.errors import IsolatedError, LaunchError
from isolated_magic.launch.base import LONGEST_WAIT_SECS, Attach, Child, Launcher, StoppedError, to_nobody
from isolated_magic.launch.containers.bridge import Bridge
from isolated_magic.launch.containers.client import DaemonClient, require_sdk, this_process
from isolated_magic.launch.containers.command import CommandBridge, CommandContainer
from isolated_magic.launch.containers.container import Container, container_messages
from isolated_magic.launch.containers.settings import shape_for
from isolated_magic.launch.fork_server.source_scan import scan_source
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.resources import start_thread
from isolated_magic.launch.spawn import program_messages
from isolated_magic.limits import NO_LIMITS, STACK_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic.launch.containers.settings import ContainerSettings, Shape
    from isolated_magic.limits import Limits
    from isolated_magic.models import LaunchMethod
    from isolated_magic.request import RunRequest

MOST_MAKERS = 4  # at once: the daemon makes more of them no faster
START_TIMEOUT_SECS = 10.0  # to wait for a container
CLOSE_TIMEOUT_SECS = 10.0

STOPPED = "The run was stopped while it waited for a container."


class _Waiter:
    """A run that waits for a container. Its control ends the waiting."""

    def __init__(self, changed: threading.Condition) -> None:
        self.is_stopped = False
        self._changed = changed

    def kill(self) -> None:
        with self._changed:
            self.is_stopped = True
            self._changed.notify_all()

    interrupt = kill


class ContainerPool:
    """Containers of one shape, of which ``standby`` wait for a run. Safe from many threads."""

    def __init__(self, settings: ContainerSettings, shape: Shape, standby: int) -> None:
        self.shape = shape
        self._settings = settings
        self._standby = standby
        self._label = this_process().label
        self._changed = threading.Condition()  # its lock is re-entered by a signal handler that tears down
        self._client: DaemonClient | None = None
        self._waiting: deque[Container] = deque()
        self._in_use: set[Container] = set()
        self._makers = 0
        self._takers = 0
        self._failures = 0
        self._problem: IsolatedError | None = None
        self._is_closed = False

    def take(self, timeout_secs: float, attach: Attach = to_nobody) -> Container:
        """A container for one run, to be discarded in the end; LaunchError if there is none in time."""
        taker = _Waiter(self._changed)
        attach(taker)
        deadline = time.monotonic() + min(timeout_secs, threading.TIMEOUT_MAX / 2)
        with self._changed:
            failures = self._failures
            self._takers += 1
            try:
                while (container := self._next()) is None:
                    if taker.is_stopped:
                        raise StoppedError(STOPPED)
                    if self._failures == failures or self._problem is None:
                        self._see_to_makers()
                    elif not self._makers:  # else one of the others may succeed
                        raise type(self._problem)(*self._problem.args)
                    left = deadline - time.monotonic()
                    if left <= 0 or self._is_closed:
                        raise LaunchError(self._why_none(timeout_secs))
                    self._changed.wait(min(left, LONGEST_WAIT_SECS))
                self._in_use.add(container)
                return container
            finally:
                self._takers -= 1

    def _why_none(self, timeout_secs: float) -> str:
        if self._is_closed:
            return "The run was given up: its executor was torn down."
        return f"No container was ready within the {timeout_secs:g} seconds that a run waits for one."

    def _next(self) -> Container | None:
        while self._waiting:
            container = self._waiting.popleft()
            if container.is_waiting():
                return container
            self._dispose(container)  # it was idle for too long, or killed from outside
        return None

    def _dispose(self, container: Container) -> None:
        self._in_use.add(container)
        container.hang_up()
        start_thread(lambda: self.discard(container), "isolated_magic container")

    def discard(self, container: Container) -> None:
        """Remove a container that was used."""
        container.close()
        container.remove()
        with self._changed:
            self._in_use.discard(container)
            self._changed.notify_all()

    @property
    def has_waiting(self) -> bool:
        """Whether a container waits, or is being made."""
        return bool(self._waiting or self._makers)

    def refill(self) -> None:
        """Have as many containers made as are missing, in the background."""
        with self._changed:
            self._see_to_makers()

    def _see_to_makers(self) -> None:
        wanted = self._standby + self._takers
        while not self._is_closed and self._makers < MOST_MAKERS and len(self._waiting) + self._makers < wanted:
            self._makers += 1
            try:
                start_thread(self._make, "isolated_magic container")
            except LaunchError as problem:
                self._makers -= 1
                self._fail(problem)
                return

    def _make(self) -> None:
        container, problem = None, None
        try:
            kind = CommandContainer if self._settings.command else Container
            container = kind(self._connected(), self._settings, self.shape, self._label)
            with self._changed:
                self._in_use.add(container)
                if self._is_closed:
                    container.hang_up()
            container.make()
        except IsolatedError as known:
            problem = known
        except BaseException as unknown:  # noqa: BLE001 - the runs that wait are told
            problem = LaunchError(f"No container could be started: {unknown!r}.")
        with self._changed:
            self._makers -= 1
            if problem is not None:
                self._fail(problem)
            elif container is not None and not self._is_closed:
                self._in_use.discard(container)
                self._waiting.append(container)
                self._see_to_makers()
                self._changed.notify_all()
                return
        if container is not None:
            self.discard(container)

    def _fail(self, problem: IsolatedError) -> None:
        """Tell the runs that wait. The next attempt is that of the next run."""
        self._failures += 1
        self._problem = problem
        self._changed.notify_all()

    def _connected(self) -> DaemonClient:
        with self._changed:
            client = self._client
        if client is None:
            client = DaemonClient(self._settings.base_url)
            client.sweep()
            with self._changed:
                self._client = self._client or client
        return client

    def warm_up(self, timeout_secs: float) -> bool:
        """Wait until ``standby`` containers wait; whether they do."""
        deadline = time.monotonic() + min(timeout_secs, threading.TIMEOUT_MAX / 2)
        with self._changed:
            failures = self._failures
            for container in list(self._waiting):
                if not container.is_waiting():
                    self._waiting.remove(container)
                    self._dispose(container)
            while len(self._waiting) < self._standby and self._failures == failures and not self._is_closed:
                self._see_to_makers()
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, LONGEST_WAIT_SECS))
            return len(self._waiting) >= self._standby

    def close(self) -> None:
        """End all containers, those in use too, and wait until they are gone, but not for ever."""
        deadline = time.monotonic() + CLOSE_TIMEOUT_SECS
        with self._changed:
            self._is_closed = True
            waiting, self._waiting = list(self._waiting), deque()
            for container in (*waiting, *self._in_use):
                container.hang_up()
            self._in_use.update(waiting)
            self._changed.notify_all()
        for container in waiting:  # in this thread: at the end of a program there can be no others
            self.discard(container)
        with self._changed:
            while (self._in_use or self._makers) and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(left)
        if self._client is not None:
            self._client.close()

    def forget(self) -> None:
        """In a fork of the owner: close our copies; the containers belong to the original."""
        self._changed = threading.Condition()  # another thread may have held its lock
        for container in (*self._waiting, *self._in_use):
            container.forget()
        self._is_closed = True
        self._waiting.clear()
        self._in_use.clear()


class ContainerLauncher(Launcher):
    """Launches each run in a container of its own. Containers wait for runs with ``limits``."""

    def __init__(self, settings: ContainerSettings, limits: Limits = NO_LIMITS) -> None:
        require_sdk()
        self._settings = settings
        self._shape = shape_for(settings, limits)
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._pools: list[ContainerPool] = [self._new_pool()]
        forget_in_forks(self)
        weakref.finalize(self, _close_all, self._pools)

    def _new_pool(self) -> ContainerPool:
        # Where a command runs, a container that waits could not end by itself after idle_secs.
        standby = 0 if self._settings.command else self._settings.standby
        return ContainerPool(self._settings, self._shape, standby)

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for this request; see :class:`Launcher`."""
        if self._settings.command:
            return self._commanded(request, attach), b""
        child, messages = self._started(request, "run", attach)
        return child, messages + program_messages(request)

    def _commanded(self, request: RunRequest, attach: Attach) -> Child:
        pool = self._pool_for(request)
        container = pool.take(max(request.timeout_secs, START_TIMEOUT_SECS), attach)
        try:
            assert isinstance(container, CommandContainer)  # noqa: S101 - the pool makes no others
            bridge = CommandBridge(container, container.begin(request))
            start_thread(partial(_serve, bridge, pool, container), "isolated_magic container")
        except BaseException:
            start_thread(partial(pool.discard, container), "isolated_magic container")
            raise
        return _handed_over(bridge, pool, "cold")

    def start_rows(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for many rows, in a container of its own; see :class:`Launcher`."""
        return self._started(request, "rows", attach)

    def _started(self, request: RunRequest, role: str, attach: Attach) -> tuple[Child, bytes]:
        pool = self._pool_for(request)
        container = pool.take(max(request.timeout_secs, START_TIMEOUT_SECS), attach)
        try:
            environment = _environment(request, container.environment)
            cold = request.fresh or not _suits(request, container, environment)
            messages = container_messages(request, environment, cold=cold, role=role)
            bridge = Bridge(container, None if role == "rows" else request.timeout_secs)
            start_thread(partial(_serve, bridge, pool, container), "isolated_magic container")
        except BaseException:
            start_thread(partial(pool.discard, container), "isolated_magic container")
            raise
        return _handed_over(bridge, pool, "cold" if cold else "forked"), messages

    def _pool_for(self, request: RunRequest) -> ContainerPool:
        shape = shape_for(self._settings, request.limits)
        with self._lock:
            if shape == self._shape:
                return self._pools[0]
            own = next((pool for pool in self._pools if pool.shape == shape), None)
            if own is None:
                own = ContainerPool(self._settings, shape, standby=0)
                self._pools.append(own)
            return own

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:
        """Wait until containers wait; see :class:`Launcher`."""
        return self._pool_for(request).warm_up(timeout_secs)

    def release(self) -> Callable[[], None]:
        """Start afresh; see :class:`Launcher`."""
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


def _handed_over(bridge: Bridge, pool: ContainerPool, launch: LaunchMethod) -> Child:
    bridge.child.launch = launch
    bridge.child.handed_over_at = time.monotonic()  # waiting for it is not the run's time
    if not pool.has_waiting:  # else after the run: making one takes the processor
        pool.refill()
    return bridge.child


def _serve(bridge: Bridge, pool: ContainerPool, container: Container) -> None:
    try:
        bridge.run()
    finally:
        pool.refill()
        pool.discard(container)


def _close_all(pools: list[ContainerPool]) -> None:
    for pool in pools:
        pool.close()


def _environment(request: RunRequest, image: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """The environment of the image, changed as the request says."""
    quiet = {name.encode(): value.encode() for name, value in QUIET_DEFAULTS.items()}
    merged = {**quiet, **image, **request.environment}
    without = request.container.unset if request.container is not None else ()
    return {name: value for name, value in merged.items() if name not in without}


def _suits(request: RunRequest, container: Container, environment: Mapping[bytes, bytes]) -> bool:
    """Whether a fork of the process that waits is what a new interpreter would be for this run."""
    before, environment_reads = container.environment, container.environment_reads
    changed = (name for name in {*before, *environment} if before.get(name) != environment.get(name))
    if any(acts_at_start(name) or environment_reads[name] for name in changed):
        return False
    if request.limits.stack_bytes != STACK_LIMIT_BYTES:
        return False
    if not container.settings.preload:
        return True
    scan = scan_source(request.source or "")
    sets = (os.fsencode(name) for name in scan.sets)
    return not (scan.redirects or scan.sets_anything or any(environment_reads[name] for name in sets))
