"""All descendants of a process: found, stopped, killed.

A process that forks while it is being killed wins against a single pass, and a new session or process group
hides from ``killpg``. So everything is stopped first, again and again until a pass finds nothing new, and
only then killed. Whoever calls this is a subreaper on Linux (see ``guardian.py``): what escapes one pass is
then its own child, and the next pass gets it.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def _children_from_proc(pid: int) -> list[int]:
    # proc(5), /proc/PID/task/TID/children: the children of each thread; complete for stopped processes.
    found: list[int] = []
    with suppress(OSError):  # the process ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib costs the child 5 ms
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 - likewise
                found.extend(map(int, file.read().split()))
    return found


class OwnChildren:
    """The children of this process, which has one thread. Opened ahead: descriptors may run out."""

    def __init__(self) -> None:
        pid = os.getpid()
        path = f"/proc/{pid}/task/{pid}/children"
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC) if sys.platform == "linux" else None

    def pids(self) -> list[int]:
        """Their process ids, now."""
        if self._file is None:
            return children(os.getpid())
        found = b""
        while chunk := os.pread(self._file, 1 << 16, len(found)):
            found += chunk
        return [int(pid) for pid in found.split()]


def _children_from_ps(pid: int) -> list[int]:
    import subprocess  # noqa: PLC0415 - it loads threading, which costs each fork of a template some work

    with subprocess.Popen(["/bin/ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE) as listing:
        rows = [tuple(map(int, line.split())) for line in listing.stdout or ()]
    return [child for child, parent in rows if parent == pid and child != listing.pid]


children = _children_from_proc if sys.platform == "linux" else _children_from_ps


def with_descendants(pids: Iterable[int]) -> list[int]:
    """These processes and everything below them, parents first.

    Args:
        pids: process ids.
    """
    found = list(dict.fromkeys(pids))
    seen = set(found)
    for pid in found:  # the list grows while it is walked
        fresh = [child for child in children(pid) if child not in seen]
        found.extend(fresh)
        seen.update(fresh)
    return found


def kill(pids: Iterable[int]) -> None:
    """Kill these processes and everything below them. Does not wait; the parent still has to reap.

    Args:
        pids: process ids. A process of another user (a setuid program) is passed over.
    """
    roots = list(pids)
    stopped: dict[int, None] = {}
    while fresh := [pid for pid in with_descendants(roots) if pid not in stopped]:
        for pid in fresh:
            _send(pid, signal.SIGSTOP)
            stopped[pid] = None
    for pid in stopped:
        _send(pid, signal.SIGKILL)


def kill_group(leader: int) -> None:
    """Kill what is left of the process group of a leader that ended.

    Args:
        leader: the process id of the one that made the group. Nobody else gets it while the group has members.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
