"""The candidates of the benchmark: ways of running code, each prepared before it is measured."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pool_worker
from naive_fork import naive_forks
from workloads import DATA, QUIET, Workload, check

from isolated_magic import IsolatedSubprocessExecutor, ProcessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

THREADS = 4
WARM_UP_SECS = 120.0
RUNS_TO_KNOW = 20  # of each worker, after which all have run the code
TRUE = "/bin/true" if Path("/bin/true").exists() else "/usr/bin/true"

FORKED, COLD, WORKERS, PLAIN = "forked", "cold", "workers", "plain"
POOL, POOL_APART, NAIVE, FLOOR = "pool", "pool, runs apart", "naive", "true"

LABELS = {
    FORKED: "`IsolatedSubprocessExecutor`, forked",
    COLD: '`IsolatedSubprocessExecutor`, `launch="cold"`',
    WORKERS: "`ProcessExecutor`: reused workers; streams, time limit and state per run",
    PLAIN: 'plain recipe: `Popen([sys.executable, "-c", ...])`, JSON over its pipes',
    POOL_APART: "`ProcessPoolExecutor` doing the same, without the time limit",
    POOL: "`ProcessPoolExecutor`: `exec()` and `redirect_stdout()`, nothing restored",
    NAIVE: "a naive fork: `os.fork()`, `exec()`, `os.waitpid()`, nothing isolated: the floor",
    FLOOR: "spawning `true`",
}


@dataclass(frozen=True)
class Candidate:
    """One way of running a workload.

    Args:
        key: a key of :data:`LABELS`.
        call: performs one run; raises for a wrong result.
        slow: whether it gets fewer rounds than the others.
        on_all_processors: for what is not called from threads: performs runs on every processor for so many
            seconds; returns the milliseconds of each.
    """

    key: str
    call: Callable[[], object]
    slow: bool = False
    on_all_processors: Callable[[float], list[float]] | None = None


@contextmanager
def all_of(workload: Workload) -> Iterator[dict[str, Candidate]]:
    """All candidates, prepared; closed at the end of the block."""
    with (
        forked_executor(workload) as executor,
        cold_executor() as cold,
        worker_executor(workload) as own_workers,
        pool(workload) as workers,
        naive_forks(workload) as naive,
    ):
        made = (
            Candidate(FORKED, lambda: run_ours(executor, workload, "forked")),
            Candidate(COLD, lambda: run_ours(cold, workload, "cold"), workload.slow),
            Candidate(WORKERS, lambda: check(own_workers.run(workload.cell, DATA).to_dict())),
            Candidate(PLAIN, lambda: _run_plain(workload), workload.slow),
            Candidate(POOL_APART, lambda: check(_apart(workers, workload))),
            Candidate(POOL, lambda: check(workers.submit(pool_worker.run, workload.script, DATA).result())),
            Candidate(NAIVE, naive.run, on_all_processors=naive.on_all_processors),
            Candidate(FLOOR, lambda: subprocess.run([TRUE], check=True)),
        )
        yield {candidate.key: candidate for candidate in made}


@contextmanager
def forked_executor(workload: Workload, data: dict[str, object] = DATA) -> Iterator[IsolatedSubprocessExecutor]:
    """An executor that has run the workload once, with forks ready.

    Raises:
        RuntimeError: the fork servers did not get ready.
    """
    with IsolatedSubprocessExecutor(60) as executor:
        run_ours(executor, workload, None, data)
        if not executor.warm_up(WARM_UP_SECS):
            raise RuntimeError(f"No fork server was ready within {WARM_UP_SECS:g} seconds.")
        yield executor


@contextmanager
def worker_executor(workload: Workload, workers: int = THREADS) -> Iterator[ProcessExecutor]:
    """A ProcessExecutor whose workers have all run the workload, in the environment of this process."""
    with ProcessExecutor(60, workers=workers, max_runs=None) as executor, ThreadPoolExecutor(workers) as threads:
        rest = f"import time\ntime.sleep(0.5)\n{workload.cell}"
        list(threads.map(lambda _: check(executor.run(rest, DATA).to_dict()), range(workers)))
        list(
            threads.map(
                lambda _: check(executor.run(workload.cell, DATA).to_dict()), range(RUNS_TO_KNOW * workers)
            )
        )
        yield executor


def cold_executor() -> IsolatedSubprocessExecutor:
    """An executor that starts a new interpreter for each run."""
    return IsolatedSubprocessExecutor(60, launch="cold")


def run_ours(
    executor: IsolatedSubprocessExecutor,
    workload: Workload,
    launch: str | None,
    data: dict[str, object] = DATA,
) -> str:
    """Perform one run with an executor of ours, launched as given (None for either way).

    Returns:
        The launch method.

    Raises:
        RuntimeError: the run failed, or was launched differently.
    """
    result = executor.run(workload.cell, data, QUIET)
    check(result.to_dict())
    if launch is not None and result.launch != launch:
        raise RuntimeError(f"A run that was to be {launch} was {result.launch}.")
    return result.launch


def _apart(workers: ProcessPoolExecutor, workload: Workload) -> object:
    result, _, _ = workers.submit(pool_worker.run_apart, workload.script, DATA).result()
    return result


def plain_process(workload: Workload) -> subprocess.Popen[str]:
    """Start a process by the plain recipe, without sending the data."""
    code = f"import json, sys\ndata = json.load(sys.stdin)['data']\n{workload.script}"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **QUIET}, text=True, **pipes)


def _run_plain(workload: Workload) -> None:
    with plain_process(workload) as process:
        stdout, stderr = process.communicate(json.dumps({"data": DATA}), timeout=60)
    if process.returncode:
        raise RuntimeError(stderr)
    check(json.loads(stdout.strip().split("\n")[-1]))


@contextmanager
def pool(
    workload: Workload, data: dict[str, object] = DATA, workers: int = THREADS
) -> Iterator[ProcessPoolExecutor]:
    """A process pool whose workers have all run the workload once. They inherit this environment."""
    spawn = multiprocessing.get_context("spawn")
    first_run = (workload.script, data)
    with ProcessPoolExecutor(workers, spawn, initializer=pool_worker.run, initargs=first_run) as executor:
        # A worker is started when a task comes and none is idle: these sleep until there are enough.
        list(executor.map(time.sleep, [0.5] * workers))
        yield executor
