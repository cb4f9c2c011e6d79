"""What the processes of an executor have used so far, by their roles. Linux only."""

from __future__ import annotations

import os
import resource
import time
from contextlib import suppress
from operator import add, sub
from pathlib import Path
from typing import NamedTuple

import psutil

OWNER, SERVER, RUNS, GUARDIAN = "owner", "fork server", "runs", "guardian"
MS_PER_TICK = 1000 / os.sysconf("SC_CLK_TCK")
CHECK_SECS = 0.02
CHECKS = 3  # in a row: a fork server waits for a moment before it forks ahead
SETTLE_TIMEOUT_SECS = 60.0


class Usage(NamedTuple):
    """What processes have used.

    Args:
        processor_ms: milliseconds of processor time.
        faults: page faults that read nothing from a disk.
        waits: voluntary context switches; each waits for a wake-up. Of processes that ended, nobody knows them.
        preemptions: involuntary context switches, likewise.
    """

    processor_ms: float = 0
    faults: float = 0
    waits: float = 0
    preemptions: float = 0

    def with_more(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(*map(add, self, other))

    def since(self, before: Usage) -> Usage:
        """The difference."""
        return Usage(*map(sub, self, before))

    def per_run(self, runs: int) -> Usage:
        """The mean of so many runs."""
        return Usage(*(value / runs for value in self))


def roles() -> dict[int, str]:
    """The role of each descendant of this process, by pid.

    A child of a fork server has the command line of its parent, and is a run, a worker, or waits to be one.
    """
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            found[process.pid] = process.ppid(), process.cmdline()
    servers = {pid for pid, (_, command) in found.items() if "fork_server" in command}

    def role(pid: int, parent: int, command: list[str]) -> str:
        if pid in servers and parent not in servers:
            return SERVER
        return GUARDIAN if "guardian" in command else RUNS

    return {pid: role(pid, parent, command) for pid, (parent, command) in found.items()}


def settle() -> None:
    """Wait until no process below this one has anything to do: the child of the next run is ready then.

    Raises:
        RuntimeError: they do not come to rest.
    """
    deadline, checks = time.monotonic() + SETTLE_TIMEOUT_SECS, 0
    while checks < CHECKS:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"The processes of the executor are still busy after {SETTLE_TIMEOUT_SECS:g} seconds."
            )
        time.sleep(CHECK_SECS)
        checks = checks + 1 if _all_sleep() else 0


def _all_sleep() -> bool:
    with suppress(psutil.NoSuchProcess):
        return all(one.status() == psutil.STATUS_SLEEPING for one in psutil.Process().children(recursive=True))
    return False


def own_usage() -> Usage:
    """What this process has used; of faults and context switches, those of this thread."""
    thread = resource.getrusage(resource.RUSAGE_THREAD)
    return Usage(time.process_time() * 1000, thread.ru_minflt, thread.ru_nvcsw, thread.ru_nivcsw)


def usage_below() -> dict[str, Usage]:
    """What the descendants of this process have used, by role. A run that ended counts as one."""
    found = {SERVER: Usage(), RUNS: Usage(), GUARDIAN: Usage()}
    for pid, role in roles().items():
        with suppress(OSError):  # it has ended
            own, ended = usage_of(pid)
            found[role] = found[role].with_more(own)
            found[RUNS] = found[RUNS].with_more(ended)
    return found


def usage_of(pid: int) -> tuple[Usage, Usage]:
    """What a process has used, and what its children that ended have (proc_pid_stat(5), proc_pid_status(5))."""
    fields = [b"", b"", b"", *Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()]  # counted from 1
    faults, faults_of_ended, *ticks = (int(fields[number]) for number in (10, 11, 14, 15, 16, 17))
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    *_, waits, preemptions = (int(line.split()[1]) for line in lines if "ctxt_switches" in line)
    own = Usage(sum(ticks[:2]) * MS_PER_TICK, faults, waits, preemptions)
    return own, Usage(sum(ticks[2:]) * MS_PER_TICK, faults_of_ended)
