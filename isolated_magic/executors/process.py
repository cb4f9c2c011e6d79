"""Workers that do one run after the other: for throughput, among runs that trust one another."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Unpack

from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS, Executor
from isolated_magic.executors.isolated import process_launcher
from isolated_magic.launch.worker_pool import PoolLauncher
from isolated_magic.limits import NO_LIMITS

if TYPE_CHECKING:
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
    """Runs code in workers that are started beforehand and used again.

    ::

        with ProcessExecutor(workers=2) as executor:
            executor.execute("len(data['answer'])", {"answer": "yes"})

    A run finds a new ``__main__``, and the working directory, environment, standard streams, signal handlers
    and settings of the interpreter and the process as they were; what an earlier run made has ended with it. It
    may find what earlier runs left in the modules that they imported, their daemon threads and files that
    others hold: code that must not have that belongs into an :class:`IsolatedSubprocessExecutor`. A worker
    whose run timed out, crashed, was killed, or left processes or other threads behind is replaced; so is one
    whose environment, packages or modules of the user's are out of date. A run with limits has a process of its
    own.

    Args:
        timeout_secs: seconds that a run may take from when it has a worker, unless its call says otherwise;
            infinity for no limit.
        workers: how many there are, and so how many runs go on at once; None for one for each processor that this
            process may use.
        max_runs: that a worker does before it is replaced, None for no end. Exit functions are called then.
        max_memory_bytes: of memory with which a worker is replaced after a run, None for any size.
        preload: what new workers have imported, as for :class:`IsolatedSubprocessExecutor`.
        limits: what a run may use unless its call says otherwise.

    Raises:
        InvalidRequestError: one of these is not what it should be.
        UnsupportedPlatformError: there are no processes here.
    """

    def __init__(
        self,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        *,
        workers: int | None = None,
        max_runs: int | None = DEFAULT_MAX_RUNS,
        max_memory_bytes: int | None = None,
        preload: Preload = "learned",
        limits: Limits = NO_LIMITS,
    ) -> None:
        self.workers = _processors() if workers is None else _checked("workers", workers)
        if max_runs is not None:
            _checked("max_runs", max_runs)
        if max_memory_bytes is not None:
            _checked("max_memory_bytes", max_memory_bytes)
        processes = process_launcher(preload=preload)
        pool = PoolLauncher(processes, self.workers, max_runs, max_memory_bytes)
        super().__init__(pool, "process", timeout_secs, limits)
        with suppress(InvalidRequestError):  # no working directory: each run will say so
            pool.fill(self._any_request())

    def prepare(
        self,
        code: str | os.PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunRequest:
        """As every executor's; a run with variables of its own is refused."""
        if env_vars:
            raise InvalidRequestError(REFUSES_VARIABLES)
        return super().prepare(code, data, None, timeout_secs, payload_type, **options)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _checked(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidRequestError(f"{name} is {value!r}: give a number greater than zero.")
    return value
