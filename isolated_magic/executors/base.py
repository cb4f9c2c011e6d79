"""The contract of every strategy, and all of it that does not depend on how a child comes to life."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import time
from functools import partial
from typing import TYPE_CHECKING, Self

from isolated_magic import interrupts, telemetry
from isolated_magic.environment import in_kernel
from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors import registry
from isolated_magic.executors.callbacks import Callbacks
from isolated_magic.executors.conduct import conduct
from isolated_magic.executors.live import LiveRun, LiveRuns, in_thread
from isolated_magic.models import ErrorKind, RunError, RunResult
from isolated_magic.request import SOURCE_NAME, build_request, checked_timeout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from isolated_magic.environment import EnvValue
    from isolated_magic.launch.base import Launcher
    from isolated_magic.models import JsonObject, RunRequest
    from isolated_magic.output import OnOutput

DEFAULT_TIMEOUT_SECS = 30.0
DEFAULT_TEARDOWN_TIMEOUT_SECS = 5.0


class Executor:
    """Runs code in processes of its own. Safe from many threads at once, and in a fork of this process.

    Args:
        launcher: how a child comes to life.
        metric_prefix: of the names of the OpenTelemetry metrics.
        timeout_secs: seconds that a run may take unless its call says otherwise; infinity for no limit.

    Raises:
        InvalidRequestError: the timeout is no number greater than zero.
    """

    def __init__(self, launcher: Launcher, metric_prefix: str, timeout_secs: float) -> None:
        self.timeout_secs = checked_timeout(timeout_secs)
        self._launcher = launcher
        self._metric_prefix = metric_prefix
        self._live = LiveRuns()
        self._callbacks = Callbacks()
        self._callbacks_pid = os.getpid()
        registry.add(self)

    def execute(
        self,
        code: str | os.PathLike[str],
        data: object,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
    ) -> JsonObject:
        """Run the code and return its result as a dict.

        Args:
            code: Python source, or the path of a file.
            data: a dict, its keys of type str; a list for ``payload_type="trace_thread"``. In the code it is the
                name ``data``, and ``{"data": ..., "payload_type": ...}`` on stdin.
            env_vars: variables over those of this process; None as a value removes one.
            timeout_secs: seconds that the run may take; None for the executor's own.
            payload_type: a name in the code too; ``"trace_thread"`` hands the data to a metric as a whole.

        Returns:
            ``{"scores": [...]}`` or whatever JSON object the code printed; for a failed run
            ``{"code": 400 or 500, "error": text}``.

        Raises:
            KeyboardInterrupt: this thread was interrupted; the run is gone by then.
        """
        return self.run(code, data, env_vars, timeout_secs, payload_type).to_dict()

    def run(  # noqa: PLR0913 - one for each thing that a run depends on, the rare ones by name only
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        *,
        inherit_env: bool = True,
        source_name: str = SOURCE_NAME,
        fresh: bool = False,
        on_output: OnOutput | None = None,
    ) -> RunResult:
        """Run the code and return all that there is to know about the run.

        Args:
            code: as for :meth:`execute`.
            data: as for :meth:`execute`.
            env_vars: as for :meth:`execute`.
            timeout_secs: as for :meth:`execute`.
            payload_type: as for :meth:`execute`.
            inherit_env: False starts the run with what an interpreter needs and nothing else of this
                process's environment.
            source_name: what tracebacks call the source.
            fresh: True for a new interpreter, whatever else would do.
            on_output: called in this thread with ``"stdout"`` or ``"stderr"`` and text, as the code prints;
                the line that is the result is not among it.

        Raises:
            KeyboardInterrupt: this thread was interrupted; the run is gone by then.
        """
        arguments = (code, data, env_vars, timeout_secs, payload_type)
        build = self._builder(*arguments, inherit_env=inherit_env, source_name=source_name, fresh=fresh)
        return self._run(build, on_output, LiveRun())

    async def aexecute(
        self,
        code: str | os.PathLike[str],
        data: object,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
    ) -> JsonObject:
        """:meth:`execute` from asyncio. Cancelling the task kills the run.

        Args:
            code: as for :meth:`execute`.
            data: as for :meth:`execute`.
            env_vars: as for :meth:`execute`.
            timeout_secs: as for :meth:`execute`.
            payload_type: as for :meth:`execute`.

        Raises:
            asyncio.CancelledError: the task was cancelled; the run is gone by then.
        """
        live = LiveRun()
        build = self._builder(code, data, env_vars, timeout_secs, payload_type)
        future = in_thread(partial(self._run, build, None, live))
        try:
            return (await asyncio.wrap_future(future)).to_dict()
        except asyncio.CancelledError:
            live.stop()
            with contextlib.suppress(Exception):
                await asyncio.wrap_future(future)
            raise

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

    def _builder(
        self,
        code: str | os.PathLike[str],
        data: object,
        env_vars: Mapping[str, EnvValue] | None,
        timeout_secs: float | None,
        payload_type: str | None,
        *,
        inherit_env: bool = True,
        source_name: str = SOURCE_NAME,
        fresh: bool = False,
    ) -> Callable[[], RunRequest]:
        """What makes the request of these arguments, later, where its errors can be a result."""
        timeout = self.timeout_secs if timeout_secs is None else timeout_secs
        arguments = (code, data, env_vars, timeout, payload_type)
        return partial(build_request, *arguments, inherit_env=inherit_env, source_name=source_name, fresh=fresh)

    def _run(self, build: Callable[[], RunRequest], on_output: OnOutput | None, live: LiveRun) -> RunResult:
        """Build the request, run it, and record it."""
        called_at = time.monotonic()
        try:
            request = build()
        except InvalidRequestError as problem:
            return RunResult(error=RunError.of(ErrorKind.INVALID_REQUEST, str(problem)))
        instruments = telemetry.instruments(self._metric_prefix)
        if instruments:
            instruments.started()
        try:
            with self._live.added(live), interrupts.held_back(live.interrupt):
                result = conduct(self._launcher, request, on_output, live, called_at)
        except BaseException:
            if instruments:
                instruments.abandoned()
            raise
        if instruments:
            instruments.ended(result)
        return result

    def _teardown_at_exit(self) -> None:
        if os.getpid() == self._callbacks_pid:  # the exit of a fork tears nothing down
            self.teardown()

    def forget(self) -> None:
        """In a fork: the runs and the callbacks belong to the original."""
        self._live = LiveRuns()
        self._callbacks = Callbacks()
