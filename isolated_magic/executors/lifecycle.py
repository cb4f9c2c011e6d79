"""Live runs, teardown callbacks, and the registry of all executors of this process.

On a shutdown request and on a restart, a kernel runs ``atexit``, and with it every teardown. A SIGTERM that
nobody handles ends Python before that, so we handle it. SIGKILL cannot be handled: the guardian cleans up then.
"""

from __future__ import annotations

import atexit
import contextvars
import logging
import os
import signal
import threading
import time
import weakref
from concurrent.futures import Future
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar

from isolated_magic.environment import in_kernel
from isolated_magic.errors import LaunchError
from isolated_magic.launch.base import Preloaded
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.process import leaving
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import FrameType, TracebackType

    from isolated_magic.launch.base import Launcher, RunControl

logger = logging.getLogger(__name__)


T = TypeVar("T")

DEFAULT_TEARDOWN_TIMEOUT_SECS = 5.0


class LiveRun:
    """One run, from before its launch until nothing of it is left, for threads that did not start it.

    Args:
        label: what to call it where runs are listed; nothing that differs from tenant to tenant.
        begun_at: when it was called for, by time.monotonic(); None for now.
        is_of_evaluation: it runs rows of an evaluation, which is known by itself.
    """

    def __init__(self, label: str, begun_at: float | None = None, *, is_of_evaluation: bool = False) -> None:
        self.is_of_evaluation = is_of_evaluation
        self.label = label.strip("<>")
        self.pid: int | None = None
        self.begun_at = time.monotonic() if begun_at is None else begun_at
        self.is_interrupted = False  # it was asked to end as Ctrl-C does
        self._is_stopped = False
        self._is_gone = False
        self._thread = 0
        self._control: RunControl | None = None
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._changed: list[threading.Condition] = []  # one of that lock, once somebody waits

    def attach(self, control: RunControl) -> None:
        """From now on this receives kill and interrupt requests; it gets those that came before at once."""
        with self._lock:
            self._control = control
            if self.is_interrupted:
                control.interrupt()
            if self._is_stopped:
                control.kill()

    def detach(self) -> None:
        """The child is about to be closed: no request goes to a descriptor that may be somebody else's by then."""
        with self._lock:
            self._control = None

    def created(self, pid: int) -> None:
        """The child's process exists."""
        with self._lock:
            self.pid = pid
            for changed in self._changed:
                changed.notify_all()

    def wait_for_pid(self, timeout: float | None = None) -> int | None:
        """The pid of its process as soon as there is one, None when it ended without, or after so many seconds."""
        with self._lock:
            self._wait_for(lambda: self.pid is not None or self._is_gone, timeout)
            return self.pid

    def begin(self) -> None:
        """This thread supervises the run from now on."""
        self._thread = threading.get_ident()

    def end(self) -> None:
        """Nothing of the run is left."""
        with self._lock:
            self._is_gone = True
            for changed in self._changed:
                changed.notify_all()

    def wait_until_gone(self, timeout: float) -> bool:
        """Whether nothing of the run is left, now or within so many seconds.

        The thread that supervises the run does not wait: it is in the middle of that, and asks from a signal
        handler or an output callback.
        """
        if self._thread == threading.get_ident():
            return self._is_gone
        with self._lock:
            return self._wait_for(lambda: self._is_gone, timeout)

    def _wait_for(self, holds: Callable[[], bool], timeout: float | None) -> bool:
        """Wait until this holds. Whoever calls it has the lock."""
        if not self._changed:  # a signal handler may wait, too, and come in between: then there are two
            self._changed.append(threading.Condition(self._lock))
        return self._changed[0].wait_for(holds, timeout)

    def stop(self) -> None:
        """Kill the run now, or as soon as there is something to kill. Does not wait."""
        with self._lock:
            self._is_stopped = True
            if self._control is not None:
                self._control.kill()

    def interrupt(self) -> None:
        """Ask the run to end, as Ctrl-C does, and see to it that it does. Does not wait."""
        with self._lock:
            self.is_interrupted = True
            if self._control is not None:
                self._control.interrupt()


class LiveEvaluation(LiveRun):
    """An evaluation, for those who stop all runs: it has no process of its own, and ends when its rows have."""

    is_known = False  # to its executor

    def begin(self) -> None:
        """This thread waits for its rows from now on."""
        self.is_known = True
        super().begin()

    def wait_for_pid(self, timeout: float | None = None) -> int | None:  # noqa: ARG002 - as of a run
        """None: its rows have pids."""
        return None


def in_thread(work: Callable[[], T], otherwise: Callable[[LaunchError], T]) -> Future[T]:
    """Do the work in a thread of its own, with the caller's context variables; the other one if there is none.

    A pool would let waiting runs starve one another.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()  # from now on only the work decides how it ends

    def target() -> None:
        try:
            future.set_result(work())
        except BaseException as problem:  # noqa: BLE001 - handed to whoever waits
            future.set_exception(problem)

    try:
        start_thread(partial(contextvars.copy_context().run, target), "isolated_magic run")
    except LaunchError as problem:
        future.set_result(otherwise(problem))
    return future


class Lifetime:
    """The live runs of one executor, its teardown callbacks, and the end of both.

    Args:
        launcher: whatever it keeps between runs ends too.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._runs: set[LiveRun] = set()
        self._callbacks: list[Callable[[], object]] = []
        self._callbacks_pid = os.getpid()
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        _executors.add(self)
        forget_in_forks(self)

    def register_teardown_callback(self, callback: Callable[[], object]) -> None:
        """Have something called once when the executor is torn down, at the latest when this process exits.

        Args:
            callback: called without arguments, after those registered before it. What it raises is logged.

        Raises:
            TypeError: it cannot be called.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.register_teardown_callback(lambda: print("torn down"))
            ...     print("at work")
            at work
            torn down
        """
        if not callable(callback):
            raise TypeError(
                f"A teardown callback is called without arguments; {type(callback).__name__} cannot be."
            )
        with self._lock:
            self._callbacks.append(callback)
        self._callbacks_pid = os.getpid()
        atexit.unregister(self._teardown_at_exit)
        atexit.register(self._teardown_at_exit)
        if in_kernel():
            handle_termination()

    def teardown(self, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> None:
        """Kill what still runs, give back what is kept between runs, and run the callbacks.

        A second call finds nothing left to do. The executor can be used again afterwards.

        Args:
            timeout: seconds to wait for the runs to be gone.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> executor = IsolatedSubprocessExecutor()
            >>> run = executor.start("import time; time.sleep(60)")
            >>> executor.teardown()
            >>> run.result().error.summary
            'The run was killed before it ended.'
        """
        # Runs that begin from now on are not torn down.
        end_the_rest = [launcher.release() for launcher in self._launchers()]
        self.kill_all_processes(timeout)
        for end in end_the_rest:
            end()
        atexit.unregister(self._teardown_at_exit)
        self._run_callbacks()

    def kill_process(self, pid: int, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> bool:
        """Kill one run and everything that it started.

        Args:
            pid: one of :attr:`active_pids`.
            timeout: seconds to wait until it is gone.

        Returns:
            True when it is gone; False when no run has that pid, or it was not gone in time.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("import time; time.sleep(60)")
            ...     executor.kill_process(run.pid)
            True
        """
        live = next((live for live in self.live_runs if live.pid == pid), None)
        if live is None:
            return False
        live.stop()
        return live.wait_until_gone(timeout)

    def kill_all_processes(self, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> None:
        """Kill all runs and everything that they started.

        Args:
            timeout: seconds to wait until they are gone.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     runs = [executor.start("import time; time.sleep(60)") for _ in range(2)]
            ...     executor.kill_all_processes()
            ...     [run.result().error.code for run in runs]
            [500, 500]
        """
        runs = self.live_runs
        for live in runs:
            live.stop()
        deadline = time.monotonic() + timeout
        for live in runs:
            live.wait_until_gone(max(0.0, deadline - time.monotonic()))
        leaving.wait(deadline - time.monotonic())

    @property
    def active_pids(self) -> tuple[int, ...]:
        """The pids of the runs that are going on, in ascending order."""
        return tuple(sorted(live.pid for live in self.live_runs if live.pid is not None))

    @property
    def live_runs(self) -> tuple[LiveRun, ...]:
        """What is going on now, the oldest first."""
        with self._lock:
            runs = list(self._runs)
        return tuple(sorted(runs, key=lambda live: live.begun_at))

    @property
    def preloaded(self) -> Preloaded:
        """What is imported ahead of runs now, and what cannot be: for all executors that start runs alike."""
        return _together(launcher.preloaded() for launcher in self._launchers())

    def _launchers(self) -> Sequence[Launcher]:
        """All that start runs of this executor."""
        return (self._launcher,)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.teardown()

    def _begin(self, live: LiveRun) -> None:
        with self._lock:
            self._runs.add(live)
        live.begin()

    def _end(self, live: LiveRun) -> None:
        with self._lock:
            self._runs.discard(live)
        live.end()

    def _run_callbacks(self) -> None:
        """Call and forget them all, each even when another one raised."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        interrupt: KeyboardInterrupt | None = None
        for callback in callbacks:
            try:
                callback()
            except KeyboardInterrupt as problem:
                interrupt = problem
            except BaseException:
                logger.exception("A teardown callback failed; the others still run.")
        if interrupt is not None:
            raise interrupt

    def _teardown_at_exit(self) -> None:
        if os.getpid() == self._callbacks_pid:  # the exit of a fork tears nothing down
            self.teardown()

    def forget(self) -> None:
        """In a fork: the runs and the callbacks belong to the original, and a lock may be held by nobody."""
        self._lock = threading.RLock()
        self._runs, self._callbacks = set(), []


_executors: weakref.WeakSet[Lifetime] = weakref.WeakSet()


def live_runs() -> list[LiveRun]:
    """The runs of all executors that are going on, the oldest first."""
    return sorted((live for one in list(_executors) for live in one.live_runs), key=lambda live: live.begun_at)


def preloaded() -> Preloaded:
    """What is imported ahead of the runs of any executor."""
    return _together(one.preloaded for one in list(_executors))


def _together(several: Iterable[Preloaded]) -> Preloaded:
    found = list(several)
    packages = {name for each in found for name in each.packages}
    refused = {name: reason for each in found for name, reason in each.refused.items() if name not in packages}
    return Preloaded(tuple(sorted(packages)), MappingProxyType(dict(sorted(refused.items()))))


def handle_termination() -> None:
    """Tear every executor down on SIGTERM, unless somebody handles that already."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_termination)


def leave_termination() -> None:
    """Undo :func:`handle_termination`."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is _on_termination:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _on_termination(number: int, _frame: FrameType | None) -> None:
    try:
        for executor in list(_executors):
            executor.teardown()
    finally:  # and end as without us: by the signal
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
