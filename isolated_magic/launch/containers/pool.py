"""The containers of one launcher: some wait, each is used once, and none is left."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from isolated_magic.errors import IsolatedError, LaunchError
from isolated_magic.launch.base import StoppedError, to_nobody
from isolated_magic.launch.containers.client import Client
from isolated_magic.launch.containers.container import Container
from isolated_magic.launch.containers.owner import this_process
from isolated_magic.launch.shortage import start_thread

if TYPE_CHECKING:
    from isolated_magic.launch.base import Attach
    from isolated_magic.launch.containers.settings import ContainerSettings, Shape

MOST_MAKERS = 4  # at once: the daemon takes no more of them faster
CLOSE_TIMEOUT_SECS = 10.0

STOPPED = "The run was stopped while it waited for a container."


class _Taker:
    """A run that waits for a container. Orders to the run end the waiting.

    Args:
        changed: notified of them.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self.is_stopped = False
        self._changed = changed

    def kill(self) -> None:
        """Wait no longer."""
        with self._changed:
            self.is_stopped = True
            self._changed.notify_all()

    interrupt = kill


class Pool:
    """Containers of one shape. Safe from many threads.

    Args:
        settings: of the executor.
        shape: of the containers.
        standby: how many wait for a run.
    """

    def __init__(self, settings: ContainerSettings, shape: Shape, standby: int) -> None:
        self.shape = shape
        self._settings = settings
        self._standby = standby
        self._labels = this_process().labels
        self._changed = threading.Condition()  # its lock is re-entered by a signal handler that tears down
        self._client: Client | None = None
        self._waiting: deque[Container] = deque()
        self._in_use: set[Container] = set()
        self._makers = 0
        self._takers = 0
        self._failures = 0
        self._problem: IsolatedError | None = None
        self._is_closed = False

    def take(self, timeout_secs: float, attach: Attach = to_nobody) -> Container:
        """A container for one run: one that waits, or a new one. Give it to :meth:`discard` in the end.

        Args:
            timeout_secs: seconds to wait at most.
            attach: called with whom orders to the run go to meanwhile.

        Raises:
            LaunchError: there is none; the message says why.
        """
        taker = _Taker(self._changed)
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
                    elif not self._makers:  # else one of the others may have more luck
                        raise type(self._problem)(*self._problem.args)
                    left = deadline - time.monotonic()
                    if left <= 0 or self._is_closed:
                        raise LaunchError(self._why_none(timeout_secs))
                    self._changed.wait(left)
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
            self._dispose(container)  # nobody needed it for so long, or it was killed from outside
        return None

    def _dispose(self, container: Container) -> None:
        self._in_use.add(container)
        container.hang_up()
        start_thread(lambda: self.discard(container), "isolated_magic container")

    def discard(self, container: Container) -> None:
        """Take away a container that has served; see that it is gone.

        Args:
            container: of this pool.
        """
        container.close()
        container.remove()
        with self._changed:
            self._in_use.discard(container)
            self._changed.notify_all()

    @property
    def has_waiting(self) -> bool:
        """Whether a container waits, or is about to."""
        return bool(self._waiting or self._makers)

    def refill(self) -> None:
        """Have as many wait as there are to wait. Does not wait for them."""
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
            container = Container(self._connected(), self._settings, self.shape, self._labels)
            with self._changed:
                self._in_use.add(container)
                if self._is_closed:
                    container.hang_up()
            container.make()
        except IsolatedError as known:
            problem = known
        except BaseException as unknown:  # noqa: BLE001 - whoever waits is told, whatever it is
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
        """Tell all who wait. Nobody tries again until somebody wants a container."""
        self._failures += 1
        self._problem = problem
        self._changed.notify_all()

    def _connected(self) -> Client:
        with self._changed:
            client = self._client
        if client is None:
            client = Client(self._settings.base_url)
            client.sweep()
            with self._changed:
                self._client = self._client or client
        return client

    def warm_up(self, timeout_secs: float) -> bool:
        """Wait until as many wait as there are to wait.

        Args:
            timeout_secs: seconds to wait at most.

        Returns:
            Whether they do.
        """
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
                self._changed.wait(left)
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
