"""What the system has run out of: processes, descriptors, threads, memory, and what the user can do about it."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import threading
import time
from typing import TYPE_CHECKING

from isolated_magic.errors import LaunchError
from isolated_magic.limits import size_text

if TYPE_CHECKING:
    from collections.abc import Callable


THREAD_BYTES = 16 << 20  # address space for a stack, and for what the interpreter takes to begin with

NO_MEMORY = "no memory left (free some, or raise the limit: ulimit -v, or the container's)"
_NO_THREADS = (
    "no threads left (they count as processes: end some, or raise the limit: ulimit -u, or the container's)"
)

_WORDS = {
    errno.ENFILE: "no file descriptors left in the whole system (close some)",
    errno.EAGAIN: "no processes left (end some, or raise the limit: ulimit -u, or the container's)",
    errno.ENOMEM: NO_MEMORY,
    errno.ETOOMANYREFS: "too many file descriptors on their way to new processes (start fewer runs at once)",
}


_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def is_shortage(problem: OSError) -> bool:
    """Whether the system could not look, which says nothing about what there is to be seen."""
    return problem.errno in _SHORTAGES


def explain_errno(number: int, whose: str = "this process", open_files: int | None = None) -> str:
    """What an error of the system's means for somebody who wants a process."""
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if open_files is None else open_files
        return f"no file descriptors left ({whose} may open {limit}: close some, or raise the limit: ulimit -n)"
    if number in _WORDS:
        return _WORDS[number]
    return os.strerror(number) if number in errno.errorcode else "the system gave no reason"


def launch_error(problem: OSError) -> LaunchError:
    """The error to raise for one of the system's."""
    words = explain_errno(problem.errno) if problem.errno else str(problem)
    return LaunchError(f"No process could be started: {words}.")


def memory_limit_note() -> str:
    """How much memory a process has that inherits our limits, to be added to why it could not start."""
    found = map(_soft, ("RLIMIT_AS", "RLIMIT_DATA"))
    soft = min((limit for limit in found if limit != resource.RLIM_INFINITY), default=None)
    return "" if soft is None else f" Its memory is limited to {size_text(soft)} (ulimit -v, ulimit -d)."


def _soft(name: str) -> int:
    return resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else resource.RLIM_INFINITY


def start_thread(work: Callable[[], object], name: str) -> None:
    """Have the work done in a thread of its own that keeps no program from ending.

    Raises:
        LaunchError: there can be no thread.
    """
    try:
        # A thread that finds no memory to begin with is waited for by Thread.start() for ever.
        mmap.mmap(-1, THREAD_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS).close()
        threading.Thread(target=work, daemon=True, name=name).start()
    except (OSError, MemoryError):
        raise LaunchError(f"No thread could be started: {NO_MEMORY}.") from None
    except RuntimeError as problem:
        ending = "shutdown" in str(problem)
        raise LaunchError(
            f"No thread could be started: {'the program is ending' if ending else _NO_THREADS}."
        ) from None


READ_AGAIN_SECS = 1.0  # one read takes 23 microseconds, a hundredth of a run
_COUNTER = b"\noom_kill "  # proc(5), /proc/vmstat: those for the limit of a cgroup too, since Linux 4.13


class OutOfMemoryKills:
    """The count of processes that it killed, anywhere in the system."""

    def __init__(self) -> None:
        self._before: int | None = None
        self._read_at = -READ_AGAIN_SECS

    def note(self) -> None:
        """A run begins: what was killed before, give or take a second, is no concern of it."""
        if time.monotonic() - self._read_at >= READ_AGAIN_SECS:
            self._before, self._read_at = _count(), time.monotonic()

    def came(self) -> bool:
        """Whether it killed anything since; False where the system does not tell."""
        now = _count()
        return now is not None and self._before is not None and now > self._before


def _count() -> int | None:
    try:
        descriptor = os.open("/proc/vmstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        found = os.read(descriptor, 1 << 16)
    finally:
        os.close(descriptor)
    _, _, rest = found.partition(_COUNTER)
    return int(rest.split(None, 1)[0]) if rest else None
