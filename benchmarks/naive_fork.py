"""Naive forks: the least that a fresh process with everything imported costs.

A loop of ``os.fork()``, ``exec()`` of the code, reading what it prints, and ``os.waitpid()``. Nothing is isolated,
supervised or limited. It runs in a process of its own (``naive_process.py``), whose memory is not that of the
benchmark.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from measure import Milliseconds
from workloads import DATA, QUIET, Workload, check

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path(__file__).with_name("naive_process.py")


@contextmanager
def naive_forks(workload: Workload, processes: int | None = None) -> Iterator[NaiveForks]:
    """Naive forks of a workload, from one process for each processor; closed at the end of the block."""
    with ExitStack() as stack:
        started = [stack.enter_context(_process()) for _ in range(processes or os.cpu_count() or 1)]
        yield NaiveForks(started, workload)


@contextmanager
def _process() -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, **QUIET}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, PROGRAM], env=environment, text=True, **pipes) as process:
        yield process  # Popen closes its stdin, which ends it, and waits for it


class NaiveForks:
    """Processes that fork for each run, ready to do so.

    Args:
        processes: just started.
        workload: what each fork runs.
    """

    def __init__(self, processes: list[subprocess.Popen[str]], workload: Workload) -> None:
        self._processes = processes
        self._ask({"code": workload.script, "data": DATA}, processes)

    @property
    def pid(self) -> int:
        """Of the process that :meth:`run` uses."""
        return self._processes[0].pid

    def run(self) -> Milliseconds:
        """Make one fork; returns what it took."""
        [milliseconds] = self.repeat(1)
        return Milliseconds(milliseconds)

    def repeat(self, forks: int) -> list[float]:
        """Make so many, one after the other; returns the milliseconds of each."""
        return self._ask({"forks": forks}, self._processes[:1])

    def on_all_processors(self, seconds: float) -> list[float]:
        """Fork in all processes at once, for so long; returns the milliseconds of each fork."""
        return self._ask({"seconds": seconds}, self._processes)

    def _ask(self, request: dict[str, object], processes: list[subprocess.Popen[str]]) -> list[float]:
        for process in processes:
            process.stdin.write(f"{json.dumps(request)}\n")
            process.stdin.flush()
        taken = []
        for process in processes:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError("The process of naive forks ended; its stderr, above, says why.")
            answer = json.loads(line)
            for output in answer["outputs"]:
                check(json.loads(output.strip().split("\n")[-1]))
            taken += answer["milliseconds"]
        return taken
