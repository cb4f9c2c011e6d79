"""Count the system calls of each process of an executor, with strace."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from processes import OWNER, RUNS, roles, settle

if TYPE_CHECKING:
    from collections.abc import Callable

OTHER_THREADS = "other threads of the owner"
BEGIN, END, OVER = (
    f"/no/such/file/{name}" for name in ("begin", "end", "over")
)  # each marks a place in the trace

_ENTRY = re.compile(r"(\d+) +\w")  # not the second half of a call (<...), a signal (---) or an exit (+++)


def tracing_problem() -> str | None:
    """Why system calls cannot be counted here, None if they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not installed"
    tried = subprocess.run([strace, "-o", os.devnull, sys.executable, "-c", ""], capture_output=True, check=False)
    return "ptrace is not permitted" if tried.returncode else None


def counted(command: list[str], runs: int) -> dict[str, float]:
    """The system calls of a run, by role: the owner's median, and the mean of what all others do.

    Args:
        command: of a program that calls :func:`run_marked`.
        runs: how many it makes.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        traced = ["strace", "-f", "-qq", "-s", "64", "-o", str(trace), *command]
        done = subprocess.run(traced, stdout=subprocess.PIPE, text=True, check=True)
        lines = trace.read_text(encoding="utf-8", errors="replace").splitlines()
    known = {int(pid): role for pid, role in json.loads(done.stdout).items()}
    calls = Counter[str]()
    of_runs: list[int] = []
    for line in lines:
        if BEGIN in line:
            of_runs.append(0)
            is_within = True
        elif END in line:
            is_within = False
        elif OVER in line:
            break
        elif of_runs and (entry := _ENTRY.match(line)):
            role = known.get(int(entry[1]), RUNS)
            if role == OWNER:
                of_runs[-1] += is_within
            else:
                calls[role] += 1
    return {OWNER: statistics.median(of_runs)} | {role: count / runs for role, count in calls.items()}


def run_marked(run: Callable[[], object], runs: int) -> None:
    """In the process that is traced: run so often, and print which process has which role, as JSON."""
    threads = _own_threads()
    for _ in range(runs):
        settle()
        _mark(BEGIN)
        run()
        _mark(END)
    settle()
    _mark(OVER)
    threads |= _own_threads()
    known = {**roles(), **dict.fromkeys(threads, OTHER_THREADS), os.getpid(): OWNER}
    print(json.dumps({str(pid): role for pid, role in known.items()}))


def _own_threads() -> set[int]:
    return {int(folder.name) for folder in Path("/proc/self/task").iterdir()}


def _mark(place: str) -> None:
    os.access(place, os.F_OK)
