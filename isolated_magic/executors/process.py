"""Workers that do one run after the other: for throughput, among runs that trust one another."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS, Executor
from isolated_magic.executors.isolated import process_launcher
from isolated_magic.launch.resources import processors
from isolated_magic.launch.worker_pool import PoolLauncher
from isolated_magic.limits import NO_LIMITS
from isolated_magic.request import lists_options

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from isolated_magic.environment import EnvValue
    from isolated_magic.launch.fork_server.launcher import Preload
    from isolated_magic.limits import Limits
    from isolated_magic.request import RunOptions, RunRequest

DEFAULT_MAX_RUNS = 1000

REFUSES_VARIABLES = (
    "env_vars (-e, --env-file, --secret) cannot be given to ProcessExecutor: its workers do many runs, and what "
    "libraries read from the environment of one they keep for the next. Use IsolatedSubprocessExecutor "
    "(--executor isolated), or pass the values as data."
)


class ProcessExecutor(Executor):
    """Runs code in reusable worker processes that are started beforehand.

    A run has a new ``__main__``; working directory, environment, standard streams, signal handlers and settings
    of interpreter and process are restored, and objects of earlier runs are gone. It may see state that earlier
    runs left in imported modules, their daemon threads, and files held by others: use an
    :class:`IsolatedSubprocessExecutor` for code that must not. A worker whose run timed out, crashed, was
    killed, or left processes or other threads behind is replaced; so is one whose environment, packages or
    modules of the user are out of date. A run with limits has its own process.

    Args:
        timeout_secs: default time limit of a run in seconds, from when it has a worker; infinity for no limit.
        workers: number of workers, and so of concurrent runs; None for one for each processor that this process
            may use.
        max_runs: runs of a worker before it is replaced; None for no limit. Its exit functions are called then.
        max_memory_bytes: bytes of memory above which a worker is replaced after a run; None for no limit.
        preload: modules that new workers import, as for :class:`IsolatedSubprocessExecutor`.
        remember: whether what was learned is kept for later processes, as for :class:`IsolatedSubprocessExecutor`.
        limits: default limits of a run.

    Raises:
        InvalidRequestError: one of these is invalid.
        UnsupportedPlatformError: this platform has no processes.

    Example:
        >>> from isolated_magic import ProcessExecutor
        >>> with ProcessExecutor(workers=2) as executor:
        ...     result = executor.evaluate("len(data['answer']) / 10", [{"answer": "yes"}] * 1000)
        >>> result.summary["scored"]
        1000
    """

    refuses_packages = "its workers serve all runs, and have imported the packages of this process."

    def __init__(
        self,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        *,
        workers: int | None = None,
        max_runs: int | None = DEFAULT_MAX_RUNS,
        max_memory_bytes: int | None = None,
        preload: Preload = "learned",
        remember: bool = True,
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.workers = processors() if workers is None else _checked("workers", workers)
        if max_runs is not None:
            _checked("max_runs", max_runs)
        if max_memory_bytes is not None:
            _checked("max_memory_bytes", max_memory_bytes)
        processes = process_launcher(preload=preload, remember=remember)
        pool = PoolLauncher(processes, self.workers, max_runs, max_memory_bytes)
        super().__init__(pool, "process", timeout_secs, limits)
        with suppress(InvalidRequestError):  # no working directory: each run will say so
            pool.fill(self._any_request())

    @property
    def jobs(self) -> int:
        """How many rows an evaluation runs at once: one for each worker."""
        return self.workers

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
        """As :meth:`Executor.prepare`; a run with variables of its own is refused.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: None or empty: workers keep what they read from the environment.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            The frozen run.

        Raises:
            InvalidRequestError: it cannot be run as given; ``env_vars``, ``packages`` or ``python`` was given.
            TypeError: there is no such option.

        Example:
            >>> from isolated_magic import ProcessExecutor
            >>> with ProcessExecutor(workers=1) as executor:
            ...     executor.execute("0.5", env_vars={"TENANT_ID": "t1"})["code"]
            400
        """
        self._check_variables(env_vars)
        return super().prepare(code, data, None, timeout_secs, payload_type, **options)

    def _check_variables(self, env_vars: object) -> None:
        if env_vars:
            raise InvalidRequestError(REFUSES_VARIABLES)


def _checked(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequestError(f"{name} is {value!r}: give a number greater than zero.")
    return value
