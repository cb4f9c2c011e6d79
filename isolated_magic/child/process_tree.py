"""All descendants of a process: found, stopped, killed.

A process that forks while it is being killed survives a single pass, and a new session or process group hides from
killpg(2). So everything is stopped first, until nothing new is found, and only then killed: a stopped process
neither forks nor makes room for another one under a limit of processes. On Linux the caller is a subreaper
(``reaper.py``): what escapes becomes its own child, and it calls again.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STOP_TIMEOUT_SECS = 0.5  # processes that replace one another faster than they are found
EXEC_TIMEOUT_SECS = 1.0  # a process can hide its command line for good


def _children_from_proc(pid: int) -> list[int]:
    # proc(5), /proc/PID/task/TID/children: the children of each thread; complete for stopped processes.
    found: list[int] = []
    with suppress(OSError):  # the process ended meanwhile
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib costs the child 5 ms
            with suppress(OSError), open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 - likewise
                found.extend(map(int, file.read().split()))
    return found


class OwnChildren:
    """The children of this process, which has one thread. The file is opened ahead: descriptors may run out."""

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
    import subprocess  # noqa: PLC0415 - it loads threading, which costs each fork of the fork server some work

    with subprocess.Popen(["/bin/ps", "-A", "-o", "pid=,ppid="], stdout=subprocess.PIPE) as listing:
        rows = [tuple(map(int, line.split())) for line in listing.stdout or ()]
    return [child for child, parent in rows if parent == pid and child != listing.pid]


HAS_DESCRIPTORS = hasattr(signal, "pidfd_send_signal")
children = _children_from_proc if sys.platform == "linux" else _children_from_ps


def kill(roots: Iterable[int], descriptor: int | None = None, *, spare_trackers: bool = False) -> None:
    """Kill these processes and everything below them, except other users' (setuid). The parent still has to reap.

    Args:
        roots: children of this process, not reaped; or, with a descriptor, any one process.
        descriptor: of that process, from pidfd_open(2).
        spare_trackers: leave resource trackers below them alone.
    """
    parents = dict.fromkeys(roots, 0)  # each process of the trees and its parent, parents first
    own = tuple(parents)
    for pid in own:
        _send(pid, signal.SIGSTOP, parents, descriptor)
    deadline = time.monotonic() + STOP_TIMEOUT_SECS
    while _stop_below(own, parents, descriptor) and time.monotonic() < deadline:
        continue
    for pid in reversed(parents):  # a parent that is stopped keeps the pids of its children from being used again
        is_spared = spare_trackers and parents[pid] and is_resource_tracker(pid)
        _send(pid, signal.SIGCONT if is_spared else signal.SIGKILL, parents, descriptor)


def _stop_below(roots: Iterable[int], parents: dict[int, int], descriptor: int | None) -> bool:
    """Stop each process as soon as it is found, and then list its children: there will be no others.

    Returns:
        Whether any was new. An orphan turns up below the root.
    """
    waiting, found = list(roots), False
    while waiting:
        parent = waiting.pop()
        below = children(parent)
        if not parents[parent] and descriptor is not None and not _is_there(descriptor):
            continue  # another process has the pid by now, and these children
        for pid in reversed(below):  # the youngest first: it may be about to make way for its child
            if pid not in parents:
                parents[pid], found = parent, True
                _send(pid, signal.SIGSTOP, parents, None)
                waiting.append(pid)
    return found


def _is_there(descriptor: int) -> bool:
    """Whether the process is not reaped: its pid is still its own."""
    try:
        signal.pidfd_send_signal(descriptor, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it became another user
        return True
    return True


def _send(pid: int, number: signal.Signals, parents: dict[int, int], descriptor: int | None) -> None:
    """Signal a process of the tree, and no other that got its pid since it was found."""
    with suppress(ProcessLookupError, PermissionError):
        if parents[pid] and HAS_DESCRIPTORS:
            _send_below(pid, number, parents)
        elif descriptor is not None and not parents[pid]:
            signal.pidfd_send_signal(descriptor, number)
        else:
            os.kill(pid, number)


def _send_below(pid: int, number: signal.Signals, parents: dict[int, int]) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    except OSError:  # no descriptors left, or a sandbox that forbids it
        os.kill(pid, number)
        return
    try:
        # The descriptor stays with the process that has the pid now. That is one of ours if its parent is in the
        # tree, or is this process, which gets the orphans.
        parent = _parent(pid)
        if parent in parents or parent == os.getpid():
            signal.pidfd_send_signal(descriptor, number)
    finally:
        os.close(descriptor)


def _parent(pid: int) -> int:
    _, parent = _status(pid)
    return parent


def _status(pid: int) -> tuple[bytes, int]:
    """The state of a process, as the letter in proc_pid_stat(5), and its parent; nothing when it is reaped."""
    with suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as above
        state, parent = file.read().rpartition(b")")[2].split()[:2]  # the name in parentheses may hold anything
        return state, int(parent)
    return b"", 0


def is_resource_tracker(pid: int) -> bool:
    """Whether an unreaped child is there to remove what others leave behind, and ends by itself after them.

    The resource trackers of multiprocessing and of joblib's loky unlink shared memory, semaphores and folders when
    the last process that holds their pipe has ended; PyTorch's manager does so with its shared memory.
    """
    words = _command_line(pid).split(b"\0")
    return words[0].endswith(b"/torch_shm_manager") or any(
        b"resource_tracker import main" in word for word in words
    )


def _command_line(pid: int) -> bytes:
    """The words of a process, each with a zero byte after it; nothing when it has ended.

    While execve(2) replaces the program the file is empty, and its parent may have ended by then: vfork(2).
    """
    deadline = time.monotonic() + EXEC_TIMEOUT_SECS
    with suppress(OSError):
        while True:
            with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123 - as above
                line = file.read()
            if line or _status(pid)[0] in (b"", b"Z", b"X") or time.monotonic() > deadline:
                return line
            time.sleep(0.001)  # nothing tells when it is done
    return b""


def kill_group(leader: int) -> None:
    """Kill what is left of the group of a leader that ended; its pid is not reused while the group has members."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
