"""The contract of every strategy, and all of it that does not depend on how a child comes to life."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Unpack

from isolated_magic import telemetry
from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors import sigint
from isolated_magic.executors.background import BackgroundRun
from isolated_magic.executors.lifecycle import Lifetime, LiveRun, in_thread
from isolated_magic.executors.runner import failed_run, run_child
from isolated_magic.limits import NO_LIMITS, Limits
from isolated_magic.request import (
    SOURCE_NAME,
    build_request,
    check_options,
    checked_limits,
    checked_timeout,
    lists_options,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from isolated_magic.environment import EnvValue
    from isolated_magic.launch.base import Launcher
    from isolated_magic.models import RunResult
    from isolated_magic.request import RunOptions, RunRequest
    from isolated_magic.strict_json import JsonObject
    from isolated_magic.supervisor.output import OnOutput

DEFAULT_TIMEOUT_SECS = 30.0
DEFAULT_WARM_UP_SECS = 60.0


class Executor(Lifetime):
    """Runs code in processes of its own. Safe from many threads at once, and in a fork of this process.

    Args:
        launcher: how a child comes to life.
        metric_prefix: of the names of the OpenTelemetry metrics.
        timeout_secs: seconds that a run may take unless its call says otherwise; infinity for no limit.
        limits: what a run may use unless its call says otherwise.

    Raises:
        InvalidRequestError: the timeout is no number greater than zero, or the limits are none.
    """

    def __init__(
        self, launcher: Launcher, metric_prefix: str, timeout_secs: float, limits: Limits = NO_LIMITS
    ) -> None:
        self.timeout_secs = checked_timeout(timeout_secs)
        self.limits = checked_limits(limits)
        self._metric_prefix = metric_prefix
        super().__init__(launcher)

    @lists_options
    def execute(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> JsonObject:
        """Run the code and return its result as a dict.

        Args:
            code: Python source, or the path of a file.
            data: a dict, its keys of type str; a list for ``payload_type="trace_thread"``; None for an empty
                dict. In the code it is the name ``data``, and ``{"data": ..., "payload_type": ...}`` on stdin.
            env_vars: variables over those of this process; None as a value removes one.
            timeout_secs: seconds that the run may take; None for the executor's own.
            payload_type: a name in the code too; ``"trace_thread"`` hands the data to a metric as a whole.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            ``{"scores": [...]}`` or whatever JSON object the code printed; for a failed run
            ``{"code": 400 or 500, "error": text}``.

        Raises:
            KeyboardInterrupt: this thread was interrupted; the run is gone by then.
        """
        return self.run(code, data, env_vars, timeout_secs, payload_type, **options).to_dict()

    @lists_options
    def run(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        *,
        on_output: OnOutput | None = None,
        on_request: Callable[[RunRequest], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run the code and return everything there is to know about the run. Arguments as for :meth:`execute`.

        Args:
            on_output: called in this thread with ``"stdout"`` or ``"stderr"`` and text, as the code prints;
                the line that is the result is not among it.
            on_request: called in this thread with what the run was given, before it starts.

        Raises:
            KeyboardInterrupt: this thread was interrupted; the run is gone by then.
        """
        called_at = time.monotonic()
        try:
            request = self.prepare(code, data, env_vars, timeout_secs, payload_type, **options)
        except (InvalidRequestError, MemoryError) as problem:
            return failed_run(problem)
        if on_request is not None:
            on_request(request)
        return self._run(request, LiveRun(request.source_name, called_at), on_output)

    @lists_options
    def start(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        *,
        label: str | None = None,
        on_request: Callable[[RunRequest], object] | None = None,
        **options: Unpack[RunOptions],
    ) -> BackgroundRun:
        """Begin a run and return at once. Code, data and environment are those of now.

        Arguments as for :meth:`execute`.

        Args:
            label: what to call the run where runs are listed; None for the source's name.
            on_request: as for :meth:`run`.

        Raises:
            InvalidRequestError: it cannot be run as given.
        """
        called_at = time.monotonic()
        request = self.prepare(code, data, env_vars, timeout_secs, payload_type, **options)
        if on_request is not None:
            on_request(request)
        return self.start_request(request, label=label, called_at=called_at)

    @lists_options
    async def aexecute(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> JsonObject:
        """:meth:`execute` from asyncio, with the same arguments. Cancelling the task kills the run.

        Raises:
            asyncio.CancelledError: the task was cancelled; the run is gone by then.
        """
        live = LiveRun(options.get("source_name", SOURCE_NAME))

        def work() -> RunResult:
            try:
                request = self.prepare(code, data, env_vars, timeout_secs, payload_type, **options)
            except (InvalidRequestError, MemoryError) as problem:
                return failed_run(problem)
            return self._run(request, live)

        future = in_thread(work)
        try:
            return (await asyncio.wrap_future(future)).to_dict()
        except asyncio.CancelledError:
            live.stop()
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):  # once more: the run is going already
                    await asyncio.gather(asyncio.wrap_future(future), return_exceptions=True)
            raise

    @lists_options
    def prepare(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunRequest:
        """Check and freeze a run for :meth:`run_request` or :meth:`start_request`. Arguments: see :meth:`execute`.

        Raises:
            InvalidRequestError: it cannot be run as given.
            TypeError: there is no such option.
        """
        if options:
            check_options(options)
        if options.get("limits") is None:
            options["limits"] = self.limits
        timeout = self.timeout_secs if timeout_secs is None else timeout_secs
        return build_request(code, data, env_vars, timeout, payload_type, **options)

    def run_request(
        self, request: RunRequest, *, on_output: OnOutput | None = None, called_at: float | None = None
    ) -> RunResult:
        """:meth:`run` of what :meth:`prepare` made; called_at is when the caller began, by time.monotonic()."""
        return self._run(request, LiveRun(request.source_name, called_at), on_output)

    def start_request(
        self, request: RunRequest, *, label: str | None = None, called_at: float | None = None
    ) -> BackgroundRun:
        """:meth:`start` of what :meth:`prepare` made; called_at is when the caller began, by time.monotonic()."""
        live = LiveRun(label or request.source_name, called_at)
        return BackgroundRun(live, lambda on_output: self._run(request, live, on_output))

    def _run(self, request: RunRequest, live: LiveRun, on_output: OnOutput | None = None) -> RunResult:
        """Run the request where others can stop it, and record it."""
        instruments = telemetry.instruments(self._metric_prefix)
        if instruments:
            instruments.started()
        try:
            self._live.add(live)
            try:
                with sigint.HeldBack(live.interrupt):
                    result = run_child(self._launcher, request, on_output, live)
            finally:
                self._live.discard(live)
        except BaseException:
            if instruments:
                instruments.abandoned()
            raise
        if instruments:
            instruments.ended(result)
        return result

    def warm_up(self, timeout_secs: float = DEFAULT_WARM_UP_SECS) -> bool:
        """Wait until what makes runs fast is ready: for the environment of now, and for what earlier runs taught.

        Forks of a template, workers that have imported what runs import, or containers that wait.

        Args:
            timeout_secs: seconds to wait at most.

        Returns:
            Whether it is, with all modules that ``preload`` names; :attr:`preloaded` tells what is missing. True
            at once where every run is a cold one.
        """
        return self._launcher.warm_up(self._any_request(), timeout_secs)

    def _any_request(self) -> RunRequest:
        return build_request("", None, None, self.timeout_secs, None, limits=self.limits)
