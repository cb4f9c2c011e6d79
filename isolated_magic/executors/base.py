"""The contract of every strategy, and all of it that does not depend on how a child comes to life."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, TypedDict, Unpack

from isolated_magic import telemetry
from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors import sigint
from isolated_magic.executors.background import BackgroundRun
from isolated_magic.executors.lifecycle import Lifetime, LiveRun, in_thread
from isolated_magic.executors.runner import conduct
from isolated_magic.launch.resources import NO_MEMORY
from isolated_magic.limits import NO_LIMITS, Limits
from isolated_magic.models import ErrorKind, RunError, RunResult
from isolated_magic.request import SOURCE_NAME, build_request, checked_limits, checked_timeout

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Mapping

    from isolated_magic.environment import EnvValue
    from isolated_magic.launch.base import Launcher
    from isolated_magic.request import RunRequest
    from isolated_magic.strict_json import JsonObject
    from isolated_magic.supervisor.output import OnOutput

DEFAULT_TIMEOUT_SECS = 30.0
DEFAULT_WARM_UP_SECS = 60.0


class _Options(TypedDict, total=False):
    inherit_env: bool
    source_name: str
    fresh: bool
    secrets: Collection[str]
    strict: bool
    data_name: str | None


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

    def execute(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        *,
        strict: bool = False,
    ) -> JsonObject:
        """Run the code and return its result as a dict.

        Args:
            code: Python source, or the path of a file.
            data: a dict, its keys of type str; a list for ``payload_type="trace_thread"``; None for an empty
                dict. In the code it is the name ``data``, and ``{"data": ..., "payload_type": ...}`` on stdin.
            env_vars: variables over those of this process; None as a value removes one.
            timeout_secs: seconds that the run may take; None for the executor's own.
            payload_type: a name in the code too; ``"trace_thread"`` hands the data to a metric as a whole.
            strict: as for :meth:`run`.

        Returns:
            ``{"scores": [...]}`` or whatever JSON object the code printed; for a failed run
            ``{"code": 400 or 500, "error": text}``.

        Raises:
            KeyboardInterrupt: this thread was interrupted; the run is gone by then.
        """
        return self.run(code, data, env_vars, timeout_secs, payload_type, strict=strict).to_dict()

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
        limits: Limits | None = None,
        secrets: Collection[str] = (),
        strict: bool = False,
        data_name: str | None = None,
        on_output: OnOutput | None = None,
        on_request: Callable[[RunRequest], object] | None = None,
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
            limits: what the run may use; None for the executor's own.
            secrets: names of variables of the run's environment, or patterns such as ``"*_KEY"``: wherever their
                values stand in what the run prints or comes to, ``***`` stands instead.
            strict: True makes a result with notes an error, whose text they are.
            data_name: what stands for the data on the magic's line, so that hints can say what to write there.
            on_output: called in this thread with ``"stdout"`` or ``"stderr"`` and text, as the code prints;
                the line that is the result is not among it.
            on_request: called in this thread with what the run was given, before it starts.

        Raises:
            KeyboardInterrupt: this thread was interrupted; the run is gone by then.
        """
        arguments = (code, data, env_vars, timeout_secs, payload_type)
        build = self._builder(
            *arguments,
            inherit_env=inherit_env,
            source_name=source_name,
            fresh=fresh,
            limits=limits,
            secrets=secrets,
            strict=strict,
            data_name=data_name,
            on_request=on_request,
        )
        return self._run(build, on_output, LiveRun(source_name))

    def start(  # noqa: PLR0913 - as run()
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
        limits: Limits | None = None,
        secrets: Collection[str] = (),
        strict: bool = False,
        data_name: str | None = None,
        label: str | None = None,
        on_request: Callable[[RunRequest], object] | None = None,
    ) -> BackgroundRun:
        """Begin a run and return at once. Code, data and environment are those of now.

        Args:
            code: as for :meth:`run`.
            data: as for :meth:`run`.
            env_vars: as for :meth:`run`.
            timeout_secs: as for :meth:`run`.
            payload_type: as for :meth:`run`.
            inherit_env: as for :meth:`run`.
            source_name: as for :meth:`run`.
            fresh: as for :meth:`run`.
            limits: as for :meth:`run`.
            secrets: as for :meth:`run`.
            strict: as for :meth:`run`.
            data_name: as for :meth:`run`.
            label: what to call the run where runs are listed; None for the source's name.
            on_request: as for :meth:`run`.

        Raises:
            InvalidRequestError: it cannot be run as given.
        """
        arguments = (code, data, env_vars, timeout_secs, payload_type)
        build = self._builder(
            *arguments,
            inherit_env=inherit_env,
            source_name=source_name,
            fresh=fresh,
            limits=limits,
            secrets=secrets,
            strict=strict,
            data_name=data_name,
            on_request=on_request,
        )
        live, called_at = LiveRun(label or source_name), time.monotonic()
        return BackgroundRun(live, partial(self._perform, build(), live=live, called_at=called_at))

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

    async def aexecute(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        *,
        strict: bool = False,
    ) -> JsonObject:
        """:meth:`execute` from asyncio. Cancelling the task kills the run.

        Args:
            code: as for :meth:`execute`.
            data: as for :meth:`execute`.
            env_vars: as for :meth:`execute`.
            timeout_secs: as for :meth:`execute`.
            payload_type: as for :meth:`execute`.
            strict: as for :meth:`run`.

        Raises:
            asyncio.CancelledError: the task was cancelled; the run is gone by then.
        """
        live = LiveRun(SOURCE_NAME)
        build = self._builder(code, data, env_vars, timeout_secs, payload_type, strict=strict)
        future = in_thread(partial(self._run, build, None, live))
        try:
            return (await asyncio.wrap_future(future)).to_dict()
        except asyncio.CancelledError:
            live.stop()
            while not future.done():
                with contextlib.suppress(asyncio.CancelledError):  # once more: the run is going already
                    await asyncio.gather(asyncio.wrap_future(future), return_exceptions=True)
            raise

    def _builder(
        self,
        code: str | os.PathLike[str],
        data: object,
        env_vars: Mapping[str, EnvValue] | None,
        timeout_secs: float | None,
        payload_type: str | None,
        *,
        limits: Limits | None = None,
        on_request: Callable[[RunRequest], object] | None = None,
        **options: Unpack[_Options],
    ) -> Callable[[], RunRequest]:
        """What makes the request of these arguments, later, where its errors can be a result."""
        timeout = self.timeout_secs if timeout_secs is None else timeout_secs
        limits = self.limits if limits is None else limits
        build = partial(build_request, code, data, env_vars, timeout, payload_type, limits=limits, **options)

        def built() -> RunRequest:
            request = self._built(build, env_vars or {})
            if on_request is not None:
                on_request(request)
            return request

        return built

    def _built(self, build: Callable[..., RunRequest], env_vars: Mapping[str, EnvValue]) -> RunRequest:  # noqa: ARG002 - of strategies that treat them in a way of their own
        """The request, as this strategy takes it.

        Args:
            build: makes it of the arguments of the call; what it is called with by name goes over these.
            env_vars: of the call.

        Raises:
            InvalidRequestError: it cannot be run as given.
        """
        return build()

    def _run(self, build: Callable[[], RunRequest], on_output: OnOutput | None, live: LiveRun) -> RunResult:
        """Build the request and run it."""
        called_at = time.monotonic()
        try:
            request = build()
        except InvalidRequestError as problem:
            return RunResult(error=RunError.of(ErrorKind.INVALID_REQUEST, str(problem)))
        except MemoryError:
            return RunResult(error=RunError.of(ErrorKind.LAUNCH, f"The run was given up: {NO_MEMORY}."))
        return self._perform(request, on_output, live, called_at)

    def _perform(
        self, request: RunRequest, on_output: OnOutput | None, live: LiveRun, called_at: float
    ) -> RunResult:
        """Run the request, and record it."""
        instruments = telemetry.instruments(self._metric_prefix)
        if instruments:
            instruments.started()
        try:
            with self._live.added(live), sigint.held_back(live.interrupt):
                result = conduct(self._launcher, request, on_output, live, called_at)
        except BaseException:
            if instruments:
                instruments.abandoned()
            raise
        if instruments:
            instruments.ended(result)
        return result
