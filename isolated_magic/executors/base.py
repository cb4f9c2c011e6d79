"""The contract of every strategy, and all of it that does not depend on how a child comes to life."""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, TypeVar, Unpack

from isolated_magic import telemetry
from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors import sigint
from isolated_magic.executors.background import BackgroundRun
from isolated_magic.executors.evaluation import Host, evaluation_of, not_evaluated
from isolated_magic.executors.evaluation_options import (
    EvaluationSettings,
    check_evaluate_options,
    lists_evaluate_options,
)
from isolated_magic.executors.lifecycle import Lifetime, LiveEvaluation, LiveRun, in_thread
from isolated_magic.executors.local_dispatch import LocalDispatch
from isolated_magic.executors.progress import shown
from isolated_magic.executors.row_process import RowHost
from isolated_magic.executors.runner import NOBODY, Watchers, failed_run, run_child
from isolated_magic.launch.resources import processors
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
    from collections.abc import Callable, Iterator, Mapping

    from isolated_magic.environment import EnvValue
    from isolated_magic.evaluation.progress import Progress
    from isolated_magic.evaluation.result import EvaluationResult
    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.executors.dispatch import Dispatch, Reports
    from isolated_magic.executors.evaluation import Evaluation
    from isolated_magic.executors.evaluation_options import EvaluateOptions, Variables
    from isolated_magic.executors.progress import OnProgress
    from isolated_magic.launch.base import Launcher
    from isolated_magic.models import RunResult
    from isolated_magic.request import RunOptions, RunRequest
    from isolated_magic.strict_json import JsonObject
    from isolated_magic.supervisor.displays import OnDisplay
    from isolated_magic.supervisor.output import OnOutput

DEFAULT_TIMEOUT_SECS = 30.0
DEFAULT_WARM_UP_SECS = 60.0
REFUSES_PACKAGES = (
    "packages and python (--with, --python) cannot be given to {executor}: {why} Use IsolatedSubprocessExecutor "
    "(--executor isolated)."
)
GRACE_SECS = 0.5  # for a thread whose runs are gone

T = TypeVar("T")


async def _settled(future: Future[T], live: LiveRun) -> T:
    """The result of what goes on in another thread. Cancelling this task stops that and waits for its end.

    Once nothing runs, it waits no longer for a function of the caller's that may never return.
    """
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        live.stop()
        ending = asyncio.wrap_future(future)
        ending.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody else asks for it
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):  # once more: it is going already
                _, going_on = await asyncio.wait({ending}, timeout=GRACE_SECS)
                if going_on and live.wait_until_gone(0):
                    break
        raise


def _call_in(loop: asyncio.AbstractEventLoop, progress: OnProgress, now: Progress) -> None:
    """Call it in the thread of the event loop, and wait for that."""
    called: Future[object] = Future()

    def call() -> None:
        try:
            called.set_result(progress(now))
        except BaseException as problem:  # noqa: BLE001 - raised where it is waited for
            called.set_exception(problem)

    loop.call_soon_threadsafe(call)
    called.result()


def _begun_at(request: RunRequest, called_at: float) -> float:
    """When a run began: the time that it takes to install its packages is none of its own."""
    return called_at if request.interpreter is None else time.monotonic()


class Executor(Lifetime):
    """Base class of the executors: runs code in child processes. Thread-safe, and usable in forks of this process.

    Args:
        launcher: starts child processes.
        metric_prefix: prefix of the names of OpenTelemetry metrics.
        timeout_secs: default time limit of a run in seconds; infinity for no limit.
        limits: default limits of a run.

    Raises:
        InvalidRequestError: the timeout is not a number greater than zero, or ``limits`` is not a Limits.

    Example:
        >>> from isolated_magic import Executor, IsolatedSubprocessExecutor, ProcessExecutor
        >>> def mean_length(executor: Executor, answers: list[str]) -> float:
        ...     rows = [{"answer": answer} for answer in answers]
        ...     result = executor.evaluate("{'length': len(data['answer'])}", rows)
        ...     return result.summary["metrics"]["length"]["mean"]
        >>> with IsolatedSubprocessExecutor() as one, ProcessExecutor(workers=1) as other:
        ...     mean_length(one, ["yes", "no"]), mean_length(other, ["yes", "no"])
        (2.5, 2.5)
    """

    refuses_packages = ""  # why

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
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty
                dict. The code finds it as ``data``, and as ``{"data": ..., "payload_type": ...}`` on stdin.
            env_vars: variables to set over those of this process; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            ``{"scores": [...]}``, or the JSON object that the code printed; for a failed run
            ``{"code": 400 or 500, "error": text}``.

        Raises:
            TypeError: there is no such option.
            KeyboardInterrupt: this thread was interrupted; the run has been stopped.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.execute("len(data['answer']) / 10", {"answer": "yes"})
            ...     executor.execute("import os; float(os.environ['WEIGHT'])", env_vars={"WEIGHT": "0.3"})
            ...     executor.execute("1 / 0")["code"]
            {'scores': [{'name': 'score', 'value': 0.3, 'reason': None}]}
            {'scores': [{'name': 'score', 'value': 0.3, 'reason': None}]}
            400
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
        on_display: OnDisplay | None = None,
        **options: Unpack[RunOptions],
    ) -> RunResult:
        """Run the code and return a RunResult.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: variables to set over those of this process; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            on_output: called in this thread with ``"stdout"`` or ``"stderr"`` and text, as the code prints;
                without the line that is the result.
            on_display: called in this thread with a :class:`DisplayData` for each thing that the code displays, in
                order with its output.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            The result; a failed run has one, too, with its ``error``.

        Raises:
            TypeError: there is no such option.
            KeyboardInterrupt: this thread was interrupted; the run has been stopped.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> def show(stream, text):
            ...     print(f"{stream}: {text!r}")
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.run("print('scoring', end=''); {'overlap': 0.8}", on_output=show)
            stdout: 'scoring'
            >>> result["overlap"].value
            0.8
        """
        called_at = time.monotonic()
        try:
            request = self.prepare(code, data, env_vars, timeout_secs, payload_type, **options)
        except (InvalidRequestError, MemoryError) as problem:
            return failed_run(problem)
        watchers = Watchers(on_output, on_display)
        return self._run(request, LiveRun(request.source_name, _begun_at(request, called_at)), watchers)

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
        **options: Unpack[RunOptions],
    ) -> BackgroundRun:
        """Start a run in the background and return its handle. Code, data and environment are read now.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: variables to set over those of this process; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            label: name of the run in lists of runs; None for the source's name.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            The handle, which has all that a RunResult has once the run has ended.

        Raises:
            InvalidRequestError: an argument is invalid.
            TypeError: there is no such option.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     run = executor.start("0.5", label="nightly")
            ...     run.result(timeout=60)["score"].value
            0.5
        """
        called_at = time.monotonic()
        request = self.prepare(code, data, env_vars, timeout_secs, payload_type, **options)
        return self.start_request(request, label=label, called_at=_begun_at(request, called_at))

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
        """:meth:`execute` from asyncio. Cancelling the task kills the run.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: variables to set over those of this process; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            As :meth:`execute`.

        Raises:
            TypeError: there is no such option.
            asyncio.CancelledError: the task was cancelled; the run has been killed.

        Example:
            >>> import asyncio
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     asyncio.run(executor.aexecute("len(data['answer']) / 10", {"answer": "yes"}))
            {'scores': [{'name': 'score', 'value': 0.3, 'reason': None}]}
        """
        live = LiveRun(options.get("source_name", SOURCE_NAME))

        def work() -> RunResult:
            try:
                request = self.prepare(code, data, env_vars, timeout_secs, payload_type, **options)
            except (InvalidRequestError, MemoryError) as problem:
                return failed_run(problem)
            live.begun_at = _begun_at(request, live.begun_at)
            return self._run(request, live)

        return (await _settled(in_thread(work, failed_run), live)).to_dict()

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
        """Check and freeze a run for :meth:`run_request` or :meth:`start_request`.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: variables to set over those of this process; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            The frozen run, which can be run as often as wanted.

        Raises:
            InvalidRequestError: it cannot be run as given.
            TypeError: there is no such option.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     request = executor.prepare("len(data['answer']) / 10", {"answer": "yes"})
            ...     [executor.run_request(request)["score"].value for _ in range(2)]
            [0.3, 0.3]
        """
        if options:
            check_options(options)
            self._check_packages(options.pop("packages", None), options.pop("python", None))
        if options.get("limits") is None:
            options["limits"] = self.limits
        timeout = self.timeout_secs if timeout_secs is None else timeout_secs
        return build_request(code, data, env_vars, timeout, payload_type, **options)  # type: ignore[misc]  # without what was taken out

    def run_request(
        self,
        request: RunRequest,
        *,
        on_output: OnOutput | None = None,
        on_display: OnDisplay | None = None,
        called_at: float | None = None,
    ) -> RunResult:
        """:meth:`run` of what :meth:`prepare` made.

        Args:
            request: what :meth:`prepare` returned.
            on_output: called in this thread with ``"stdout"`` or ``"stderr"`` and text, as the code prints.
            on_display: called in this thread with a :class:`DisplayData` for each thing that the code displays.
            called_at: when the caller began, by ``time.monotonic()``, in seconds; None for now.

        Returns:
            The result; a failed run has one, too.

        Raises:
            KeyboardInterrupt: this thread was interrupted; the run has been stopped.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.run_request(executor.prepare("0.5"))["score"].value
            0.5
        """
        watchers = Watchers(on_output, on_display)
        return self._run(request, LiveRun(request.source_name, called_at), watchers)

    def start_request(
        self, request: RunRequest, *, label: str | None = None, called_at: float | None = None
    ) -> BackgroundRun:
        """:meth:`start` of what :meth:`prepare` made.

        Args:
            request: what :meth:`prepare` returned.
            label: name of the run in lists of runs; None for the source's name.
            called_at: when the caller began, by ``time.monotonic()``, in seconds; None for now.

        Returns:
            The handle of the run.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.start_request(executor.prepare("0.5"), label="nightly").result().ok
            True
        """
        live = LiveRun(label or request.source_name, called_at)
        return BackgroundRun(live, lambda on_output: self._run(request, live, Watchers(on_output)))

    @lists_evaluate_options
    def evaluate(
        self,
        code: str | os.PathLike[str],
        rows: object,
        *,
        env_vars: Variables = None,
        progress: OnProgress | bool | None = None,
        **options: Unpack[EvaluateOptions],
    ) -> EvaluationResult:
        """Run the code once for each row and return all results. A row that fails costs no other row.

        Args:
            code: Python source, or the path of a file.
            rows: a list, any iterable, a dict of columns, a data frame, a dataset, or the path of a .jsonl, .csv
                or .parquet file.
            env_vars: variables to set for each run, or a function of the row that gives them.
            progress: called in this thread with a :class:`Progress`, a few times a second. True shows a line in a
                terminal or a notebook (with the extension loaded) once a second has passed.
            options: see :class:`~isolated_magic.executors.evaluation_options.EvaluateOptions`.

        Returns:
            A RowResult for each row that was begun, in the order of the rows, and figures of each metric.

        Raises:
            InvalidRequestError: the evaluation cannot be run as given.
            TypeError: there is no such option.
            LaunchError: nothing can be run there any more, such as on a cluster whose scheduler is gone.
            EvaluationInterrupted: this thread was interrupted; its ``result`` holds the rows that were done.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> rows = [{"answer": "yes"}, {"answer": "no"}, {}]
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.evaluate("{'length': len(data['answer'])}", rows)
            >>> result.summary["metrics"]["length"]["mean"], len(result.failures)
            (2.5, 1)
            >>> result.rows[2].error.summary
            "KeyError: 'answer' (line 1)"
        """
        with shown(progress) as on_progress:
            return self._evaluation(code, rows, env_vars, options).result(on_progress)

    @lists_evaluate_options
    async def aevaluate(
        self,
        code: str | os.PathLike[str],
        rows: object,
        *,
        env_vars: Variables = None,
        progress: OnProgress | bool | None = None,
        **options: Unpack[EvaluateOptions],
    ) -> EvaluationResult:
        """:meth:`evaluate` from asyncio. Cancelling the task kills all runs.

        Rows are read, and functions of the row are called, in a thread of its own; ``progress`` is called in that
        of the event loop.

        Args:
            code: Python source, or the path of a file.
            rows: a list, any iterable, a dict of columns, a data frame, a dataset, or the path of a .jsonl, .csv
                or .parquet file.
            env_vars: variables to set for each run, or a function of the row that gives them.
            progress: as for :meth:`evaluate`.
            options: see :class:`~isolated_magic.executors.evaluation_options.EvaluateOptions`.

        Returns:
            As :meth:`evaluate`.

        Raises:
            InvalidRequestError: the evaluation cannot be run as given.
            TypeError: there is no such option.
            LaunchError: nothing can be run there any more, such as on a cluster whose scheduler is gone.
            asyncio.CancelledError: the task was cancelled; all runs have been killed.

        Example:
            >>> import asyncio
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = asyncio.run(executor.aevaluate("data['n'] / 2", [{"n": 1}, {"n": 2}]))
            >>> [row.scores[0].value for row in result]
            [0.5, 1.0]
        """
        loop = asyncio.get_running_loop()
        live = LiveEvaluation("evaluation")

        with shown(progress) as on_progress:
            told = None if on_progress is None else partial(_call_in, loop, on_progress)

            def work() -> EvaluationResult:
                return self._evaluation(code, rows, env_vars, options, live=live).result(told)

            return await _settled(in_thread(work, not_evaluated), live)

    @lists_evaluate_options
    def map(
        self,
        code: str | os.PathLike[str],
        rows: object,
        *,
        env_vars: Variables = None,
        **options: Unpack[EvaluateOptions],
    ) -> Iterator[RowResult]:
        """:meth:`evaluate`, one RowResult after the other, in the order of the rows, however many there are.

        Rows are read ahead only as far as is needed to keep the processors busy, and nothing is kept of those that
        were yielded: the same key is found only among the last 10,000. What the iterator of the rows raises is
        raised after the results of the rows before. Closing it kills what runs.

        Args:
            code: Python source, or the path of a file.
            rows: a list, any iterable, a dict of columns, a data frame, a dataset, or the path of a .jsonl, .csv
                or .parquet file.
            env_vars: variables to set for each run, or a function of the row that gives them.
            options: see :class:`~isolated_magic.executors.evaluation_options.EvaluateOptions`.

        Returns:
            An iterator of RowResults; it reads and runs rows as it is asked for them.

        Raises:
            InvalidRequestError: the evaluation cannot be run as given.
            TypeError: there is no such option.
            LaunchError: nothing can be run there any more, such as on a cluster whose scheduler is gone.
            EvaluationStoppedError: it was stopped, by ``fail_on_error`` or a teardown; what had been done was
                yielded before.
            KeyboardInterrupt: this thread was interrupted; all runs have been killed.

        Example:
            >>> from itertools import count, islice
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     results = executor.map("data['n'] / 2", ({"n": n} for n in count()))
            ...     print([row.scores[0].value for row in islice(results, 3)])
            ...     results.close()
            [0.0, 0.5, 1.0]
        """
        return self._evaluation(code, rows, env_vars, options, is_endless=True).in_order()

    def _evaluation(
        self,
        code: str | os.PathLike[str],
        rows: object,
        env_vars: Variables,
        options: EvaluateOptions,
        *,
        is_endless: bool = False,
        live: LiveEvaluation | None = None,
    ) -> Evaluation:
        check_evaluate_options(options)
        self._check_variables(env_vars)
        settings = EvaluationSettings(**options)
        host = Host(self.prepare, self._dispatch, self._begin, self._end)
        return evaluation_of(host, code, rows, env_vars, settings, is_endless=is_endless, live=live)

    def _dispatch(
        self,
        request: RunRequest,  # noqa: ARG002 - of all its runs: what is of this machine needs no check
        settings: EvaluationSettings,
    ) -> Callable[[Reports], Dispatch]:
        """Gives what begins to run the tasks of an evaluation."""
        processes = RowHost(self._launcher_for, self._begin, self._end, self._record_row)
        return partial(LocalDispatch, self._run, processes, self.jobs, settings)

    def _check_variables(self, env_vars: object) -> None:
        """Refuse variables, or a function that gives them, where there can be none."""

    def _check_packages(self, packages: object, python: object) -> None:
        """Refuse packages and an interpreter of a run's own, where there can be none."""
        if packages is not None or python is not None:
            raise InvalidRequestError(
                REFUSES_PACKAGES.format(executor=type(self).__name__, why=self.refuses_packages)
            )

    def _launcher_for(self, request: RunRequest) -> Launcher:  # noqa: ARG002 - of those that have several
        """What starts such a run."""
        return self._launcher

    @property
    def jobs(self) -> int:
        """How many rows an evaluation runs at once: one for each processor that this process may use."""
        return processors()

    def _run(self, request: RunRequest, live: LiveRun, watchers: Watchers = NOBODY) -> RunResult:
        """Run the request where others can stop it, and record it."""
        instruments = telemetry.instruments(self._metric_prefix)
        if instruments:
            instruments.started()
        try:
            self._begin(live)
            try:
                with sigint.HeldBack(live.interrupt):
                    result = self._run_one(request, watchers, live)
            finally:
                self._end(live)
        except BaseException:
            if instruments:
                instruments.abandoned()
            raise
        if instruments:
            instruments.ended(result)
        return result

    def _run_one(self, request: RunRequest, watchers: Watchers, live: LiveRun) -> RunResult:
        return run_child(self._launcher_for(request), request, watchers, live)

    def _record_row(self, result: RunResult) -> None:
        """Record a row of a process that runs many."""
        instruments = telemetry.instruments(self._metric_prefix)
        if instruments:
            instruments.started()
            instruments.ended(result)

    def warm_up(self, timeout_secs: float = DEFAULT_WARM_UP_SECS) -> bool:
        """Wait until runs are fast: with this process's environment, and the imports of earlier runs.

        What gets ready are forks of a fork server, workers with preloaded modules, or waiting containers.

        Args:
            timeout_secs: seconds to wait at most.

        Returns:
            Whether all is ready, with all modules in ``preload``; :attr:`preloaded` tells what is missing. True at
            once if every run is a cold start.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     executor.warm_up()
            True
        """
        request = self._any_request()
        return self._launcher_for(request).warm_up(request, timeout_secs)

    def _any_request(self) -> RunRequest:
        return build_request("", None, None, self.timeout_secs, None, limits=self.limits)
