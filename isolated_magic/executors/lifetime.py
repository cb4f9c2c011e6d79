"""What an executor owes to its runs and to its process when either is to end."""

from __future__ import annotations

import atexit
import os
import time
from typing import TYPE_CHECKING, Self

from isolated_magic.environment import in_kernel
from isolated_magic.executors import registry
from isolated_magic.executors.callbacks import Callbacks
from isolated_magic.executors.live import LiveRuns

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from isolated_magic.executors.live import LiveRun
    from isolated_magic.launch.base import Launcher, Preloaded

DEFAULT_TEARDOWN_TIMEOUT_SECS = 5.0


class Lifetime:
    """The runs of one executor, its teardown callbacks, and the end of both.

    Args:
        launcher: whatever it keeps between runs ends too.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._live = LiveRuns()
        self._callbacks = Callbacks()
        self._callbacks_pid = os.getpid()
        registry.add(self)

    def register_teardown_callback(self, callback: Callable[[], object]) -> None:
        """Have something called once when the executor is torn down, at the latest when this process exits.

        Args:
            callback: called without arguments, after those registered before it. What it raises is logged.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(callback):
            raise TypeError(
                f"A teardown callback is called without arguments; {type(callback).__name__} cannot be."
            )
        self._callbacks.add(callback)
        self._callbacks_pid = os.getpid()
        atexit.unregister(self._teardown_at_exit)
        atexit.register(self._teardown_at_exit)
        if in_kernel():
            registry.handle_termination()

    def teardown(self, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> None:
        """Kill what still runs, give back what is kept between runs, and run the callbacks.

        A second call finds nothing left to do. The executor can be used again afterwards.

        Args:
            timeout: seconds to wait for the runs to be gone.
        """
        end_the_rest = self._launcher.release()  # runs that begin from now on are not torn down
        self.kill_all_processes(timeout)
        end_the_rest()
        atexit.unregister(self._teardown_at_exit)
        self._callbacks.run()

    def kill_process(self, pid: int, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> bool:
        """Kill one run and everything that it started.

        Args:
            pid: one of :attr:`active_pids`.
            timeout: seconds to wait until it is gone.

        Returns:
            True when it is gone; False when no run has that pid, or it was not gone in time.
        """
        live = self._live.with_pid(pid)
        if live is None:
            return False
        live.stop()
        return live.wait_until_gone(timeout)

    def kill_all_processes(self, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> None:
        """Kill all runs and everything that they started.

        Args:
            timeout: seconds to wait until they are gone.
        """
        runs = self._live.all()
        for live in runs:
            live.stop()
        deadline = time.monotonic() + timeout
        for live in runs:
            live.wait_until_gone(max(0.0, deadline - time.monotonic()))

    @property
    def active_pids(self) -> tuple[int, ...]:
        """The pids of the runs that are going on, in ascending order."""
        return self._live.pids()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.teardown()

    @property
    def preloaded(self) -> Preloaded:
        """What is imported ahead of runs now, and what cannot be: for all executors that start runs alike."""
        return self._launcher.preloaded()

    @property
    def live_runs(self) -> tuple[LiveRun, ...]:
        """What is going on now, the oldest first."""
        return tuple(sorted(self._live.all(), key=lambda live: live.begun_at))

    def _teardown_at_exit(self) -> None:
        if os.getpid() == self._callbacks_pid:  # the exit of a fork tears nothing down
            self.teardown()

    def forget(self) -> None:
        """In a fork: the runs and the callbacks belong to the original."""
        self._live = LiveRuns()
        self._callbacks = Callbacks()
