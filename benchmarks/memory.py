"""Measure the memory of a process of each candidate, waiting and running a sleep. Linux only."""

from __future__ import annotations

import json
import multiprocessing
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import candidates
import psutil
from pool_worker import run as run_in_worker
from workloads import DATA, QUIET, RESTING, Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic import IsolatedSubprocessExecutor

MEASURABLE = Path("/proc/self/smaps_rollup").exists()
SETTLE_SECS = 0.5
REST_SECS = 5.0
NO_REST = {**DATA, "seconds": 0}
REST = {**DATA, "seconds": REST_SECS}


@dataclass(frozen=True)
class Usage:
    """The memory of one process, or of several, in MB of 1024 KB.

    Args:
        pss: proportional set size.
        private: memory shared with no other process, which its end would free.
    """

    pss: float
    private: float


@dataclass(frozen=True)
class Footprint:
    """The memory of one candidate.

    Args:
        waiting: a process that waits for a run; None if there is none.
        running: a process with a sleeping run.
        idle: all processes kept between runs; None if there are none.
    """

    waiting: Usage | None
    running: Usage
    idle: Usage | None = None


def footprints(workload: Workload, samples: int) -> dict[str, Footprint]:
    """The memory of each candidate by key: medians over ``samples`` processes."""
    resting = workload.resting()
    ways = {
        candidates.FORKED: _of_forked,
        candidates.COLD: _of_cold,
        candidates.PLAIN: _of_plain,
        candidates.POOL: _of_pool,
    }
    return {key: _typical([way(resting) for _ in range(samples)]) for key, way in ways.items()}


def _of_forked(resting: Workload) -> Footprint:
    """The waiting process becomes the run, so it is looked up once the pid is known."""
    others = _below()
    with candidates.forked_executor(resting, NO_REST) as executor:
        time.sleep(SETTLE_SECS)
        kept = {pid: usage for pid, usage in _below().items() if pid not in others}
        pid, running = _while_running(executor, resting, "forked")
    return Footprint(kept.get(pid), running, _sum(kept))


def _of_cold(resting: Workload) -> Footprint:
    others = _below()
    with candidates.cold_executor() as executor:
        candidates.run_ours(executor, resting, "cold", NO_REST)
        kept = {pid: usage for pid, usage in _below().items() if pid not in others}
        _, running = _while_running(executor, resting, "cold")
    return Footprint(None, running, _sum(kept))


def _while_running(executor: IsolatedSubprocessExecutor, resting: Workload, launch: str) -> tuple[int, Usage]:
    """The pid and the memory of a sleeping run, which is then killed."""
    sleeps = threading.Event()

    def on_output(_stream: str, text: str) -> None:
        if RESTING in text:
            sleeps.set()

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(executor.run, resting.cell, REST, QUIET, on_output=on_output)
        while not sleeps.wait(0.05):
            if future.done():
                raise RuntimeError(f"The run did not come to its sleep: {future.result()}")
        time.sleep(SETTLE_SECS)
        [pid] = executor.active_pids
        usage = _usage(pid)
        executor.kill_process(pid)
        launched = future.result().launch
    if launched != launch:
        raise RuntimeError(f"A run that was to be {launch} was {launched}.")
    return pid, usage


def _of_plain(resting: Workload) -> Footprint:
    with candidates.plain_process(resting) as process:
        process.stdin.write(json.dumps({"data": REST}))
        process.stdin.close()
        while RESTING not in (line := process.stdout.readline()):
            if not line:
                raise RuntimeError(process.stderr.read())
        time.sleep(SETTLE_SECS)
        usage = _usage(process.pid)
        process.kill()
    return Footprint(None, usage)


def _of_pool(resting: Workload) -> Footprint:
    with candidates.pool(resting, NO_REST, workers=1) as pool:
        [worker] = multiprocessing.active_children()
        time.sleep(SETTLE_SECS)
        waiting = _usage(worker.pid)
        future = pool.submit(run_in_worker, resting.script, {**DATA, "seconds": 4 * SETTLE_SECS})
        time.sleep(2 * SETTLE_SECS)
        running = _usage(worker.pid)
        future.result()
    return Footprint(waiting, running, waiting)


def _usage(pid: int) -> Usage:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()[1:]
    kilobytes = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in rollup)}
    return Usage(kilobytes["Pss"] / 1024, (kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]) / 1024)


def _below() -> dict[int, Usage]:
    """The memory of every descendant of this process, by pid."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError):  # it has ended
            found[process.pid] = _usage(process.pid)
    return found


def _sum(kept: Mapping[int, Usage]) -> Usage:
    return Usage(sum(usage.pss for usage in kept.values()), sum(usage.private for usage in kept.values()))


def _typical(samples: list[Footprint]) -> Footprint:
    """The median of each number; ``waiting`` is None unless it was found every time."""

    def median(part: Callable[[Footprint], Usage | None]) -> Usage | None:
        usages = [usage for sample in samples if (usage := part(sample)) is not None]
        if len(usages) < len(samples):
            return None
        return Usage(
            statistics.median(usage.pss for usage in usages), statistics.median(usage.private for usage in usages)
        )

    return Footprint(
        median(lambda sample: sample.waiting),
        median(lambda sample: sample.running),
        median(lambda sample: sample.idle),
    )
