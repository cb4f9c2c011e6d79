"""Runs on the workers of a cluster: for evaluations that one machine is not enough for."""

from __future__ import annotations

import atexit
import weakref
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Unpack

from isolated_magic.distributed.dispatch import ClusterDispatch
from isolated_magic.distributed.launcher import ANSWER_SECS, ClusterLauncher
from isolated_magic.distributed.needs import needs_of
from isolated_magic.distributed.single import WORKER_SECS, Places, run_on
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS, Executor
from isolated_magic.executors.isolated import DEFAULT_IDLE_SECS, DEFAULT_STANDBY, LaunchSettings, check_launch
from isolated_magic.executors.lifecycle import DEFAULT_TEARDOWN_TIMEOUT_SECS
from isolated_magic.executors.runner import failed_run
from isolated_magic.limits import NO_LIMITS
from isolated_magic.redaction.redactor import Secret
from isolated_magic.request import RemoteTarget, given_variables, lists_options, with_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike

    from isolated_magic.environment import EnvValue
    from isolated_magic.executors.dispatch import Dispatch, Reports
    from isolated_magic.executors.evaluation_options import EvaluationSettings
    from isolated_magic.executors.lifecycle import LiveRun
    from isolated_magic.executors.runner import Watchers
    from isolated_magic.launch.fork_server.launcher import Preload
    from isolated_magic.limits import Limits
    from isolated_magic.models import ProcessLaunchMethod, RunResult
    from isolated_magic.request import RunOptions, RunRequest


class DistributedExecutor(Executor):
    """Runs each piece of code in a new process on a worker of a cluster.

    A run has the environment and the files of its worker, with ``env_vars`` over them. A file of code is read here
    and sent as source. Code and data, variables and results pass the scheduler encrypted.

    Workers need the same minor version of Python, the same version of this package, and what the code imports in
    the versions that are installed here. One that lacks something is named before the first row; one that comes
    later and lacks something is not used.

    Args:
        client: a Dask ``Client``, a cluster or the address of a scheduler, such as ``"tcp://scheduler:8786"``; or
            any ``concurrent.futures.Executor``.
        timeout_secs: default time limit of a run in seconds; infinity for no limit.
        launch: ``"forked"`` or ``"cold"``: each worker process has an :class:`IsolatedSubprocessExecutor`, whose
            setting this is.
        preload: modules that its fork servers import: ``"learned"``, a list of names, or None.
        standby: number of forks that wait for a run on each worker process.
        idle_secs: seconds after which an unused fork server of a worker process ends.
        limits: default limits of a run.

    Raises:
        InvalidRequestError: one of these is invalid.
        MissingLibraryError: a library that it needs is not installed.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from isolated_magic import DistributedExecutor
        >>> rows = [{"tenant": "north", "answer": "yes"}, {"tenant": "south", "answer": "no"}]
        >>> code = "import os; {os.environ['TENANT_ID']: len(data['answer'])}"
        >>> with ThreadPoolExecutor(2) as pool, DistributedExecutor(pool) as executor:
        ...     result = executor.evaluate(code, rows, env_vars=lambda row: {"TENANT_ID": row["tenant"]})
        >>> [row.scores for row in result]
        [(Score('north', 3),), (Score('south', 2),)]
    """

    def __init__(
        self,
        client: object,
        timeout_secs: float = DEFAULT_TIMEOUT_SECS,
        *,
        launch: ProcessLaunchMethod = "forked",
        preload: Preload = "learned",
        standby: int = DEFAULT_STANDBY,
        idle_secs: float = DEFAULT_IDLE_SECS,
        limits: Limits = NO_LIMITS,
    ) -> None:
        check_launch(launch, preload, standby, idle_secs)
        # Workers may be many on one home folder, and go on for long.
        settings = LaunchSettings(
            launch=launch, preload=preload, standby=standby, idle_secs=idle_secs, remember=False
        )
        self._places = Places()
        self._cluster = ClusterLauncher(client, settings)
        super().__init__(self._cluster, "distributed", timeout_secs, limits)
        _made.add(self)
        atexit.unregister(_teardown_at_exit)
        atexit.register(_teardown_at_exit)  # anew, as Dask's own exit functions have to come after it

    refuses_packages = "a run has the packages and the Python of its worker."

    @lists_options
    def prepare(
        self,
        code: str | PathLike[str],
        data: object = None,
        env_vars: Mapping[str, EnvValue] | None = None,
        timeout_secs: float | None = None,
        payload_type: str | None = None,
        **options: Unpack[RunOptions],
    ) -> RunRequest:
        """As :meth:`Executor.prepare`; the run has the environment of its worker, and ``env_vars`` over it.

        Args:
            code: Python source, or the path of a file.
            data: a dict with keys of type str; a list for ``payload_type="trace_thread"``; None for an empty dict.
            env_vars: variables to set over those of the worker; the value None removes a variable.
            timeout_secs: time limit in seconds; None for the executor's default.
            payload_type: also a name in the code; ``"trace_thread"`` passes the data to a metric as one argument.
            options: see :class:`~isolated_magic.request.RunOptions`.

        Returns:
            The frozen run.

        Raises:
            InvalidRequestError: it cannot be run as given; ``packages`` or ``python`` was given.
            TypeError: there is no such option.

        Example:
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> from isolated_magic import DistributedExecutor
            >>> with ThreadPoolExecutor(1) as pool, DistributedExecutor(pool) as executor:
            ...     request = executor.prepare("0.5", env_vars={"TENANT_ID": "t1"})
            >>> sorted(request.environment)
            [b'TENANT_ID']
        """
        inherits = options.get("inherit_env", True)
        names = options.get("secrets", ())
        options["inherit_env"] = False
        request = super().prepare(code, data, env_vars, timeout_secs, payload_type, **options)
        environment, unset = given_variables(request, env_vars)
        request = replace(
            request,
            environment=environment,
            remote=RemoteTarget(unset, inherits, tuple(name for name in names if not isinstance(name, Secret))),
        )
        return with_source(request, "a worker")

    @property
    def workers(self) -> tuple[str, ...]:
        """What the workers that can take runs are called: their addresses, as last seen."""
        engine = self._cluster.current
        return () if engine is None else tuple(worker.name for worker in engine.workers())

    @property
    def gone(self) -> str:
        """Why nothing can be run any more, in one sentence; empty as long as that is not known."""
        return "" if self._cluster.current is None else self._cluster.current.gone

    @property
    def jobs(self) -> int:
        """How many rows an evaluation runs at once: one for each thread of all workers."""
        return sum(worker.threads for worker in self._cluster.engine.workers()) or 1

    def _dispatch(self, request: RunRequest, settings: EvaluationSettings) -> Callable[[Reports], Dispatch]:
        needs, engine = needs_of(request), self._cluster.engine
        try:
            engine.check(needs, WORKER_SECS)
        except InvalidRequestError:
            # Modules that are neither here nor on any worker are for the rows to tell, as on one machine.
            if not needs.absent or (engine.unfit(needs) and engine.workers(needs)):
                raise
            needs = replace(needs, absent=())
            engine.check(needs, WORKER_SECS)
        return partial(ClusterDispatch, self._cluster.engine, needs, settings, self._record_row)

    def _run_one(self, request: RunRequest, watchers: Watchers, live: LiveRun) -> RunResult:
        try:
            engine = self._cluster.engine
        except (InvalidRequestError, LaunchError) as problem:
            return failed_run(problem)
        return run_on(engine, request, watchers, live, self._places)

    @property
    def active_pids(self) -> tuple[int, ...]:
        """The pids of the runs that are going on, each on the machine of its worker, in ascending order."""
        if not self.live_runs:
            return ()
        return tuple(sorted(pid for _, pid in self._pids()))

    def kill_process(self, pid: int, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> bool:
        """Kill one run and everything that it started. Of two with this pid on two machines, one is killed.

        Args:
            pid: one of :attr:`active_pids`.
            timeout: seconds to wait until it is gone.

        Returns:
            True when it is gone; False when no run has that pid, or it was not gone in time.

        Example:
            >>> from concurrent.futures import ThreadPoolExecutor
            >>> from isolated_magic import DistributedExecutor
            >>> with ThreadPoolExecutor(1) as pool, DistributedExecutor(pool) as executor:
            ...     executor.kill_process(1)  # no run has this pid
            False
        """
        if any(live.pid == pid for live in self.live_runs):
            return super().kill_process(pid, timeout)
        worker = next((worker for worker, active in self._pids() if active == pid), None)
        if worker is None:
            return False
        secs = timeout + ANSWER_SECS
        answers = self._cluster.engine.ask_all("kill_process", pid, timeout, timeout_secs=secs, only=worker)
        return answers.get(worker) is True

    def _pids(self) -> list[tuple[str, int]]:
        """Of all runs, each after the name of its worker."""
        answers = self._cluster.engine.ask_all("pids", timeout_secs=ANSWER_SECS)
        return [(worker, pid) for worker, pids in answers.items() if isinstance(pids, tuple) for pid in pids]


_made: weakref.WeakSet[DistributedExecutor] = weakref.WeakSet()


def _teardown_at_exit() -> None:
    """Leave nothing on the workers. In a fork there is nothing to leave."""
    for executor in list(_made):
        executor.teardown()
