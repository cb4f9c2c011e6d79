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

THREAD_BYTES = 16 << 20  # address space for a stack and for the interpreter's first allocations

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
    """Whether the system lacked descriptors or memory to look, so that nothing is known about what is there."""
    return problem.errno in _SHORTAGES


def explain_errno(number: int, whose: str = "this process", open_files: int | None = None) -> str:
    """Why no process could be made, in words, given the errno of process ``whose``."""
    if number == errno.EMFILE:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] if open_files is None else open_files
        return f"no file descriptors left ({whose} may open {limit}: close some, or raise the limit: ulimit -n)"
    if number in _WORDS:
        return _WORDS[number]
    return os.strerror(number) if number in errno.errorcode else "the system gave no reason"


def launch_error(problem: OSError) -> LaunchError:
    """The LaunchError for an error of the operating system."""
    words = explain_errno(problem.errno) if problem.errno else str(problem)
    return LaunchError(f"No process could be started: {words}.")


def memory_limit_note() -> str:
    """A sentence about our memory limits, which a process that failed to start has inherited; empty for none."""
    found = map(_soft, ("RLIMIT_AS", "RLIMIT_DATA"))
    soft = min((limit for limit in found if limit != resource.RLIM_INFINITY), default=None)
    return "" if soft is None else f" Its memory is limited to {size_text(soft)} (ulimit -v, ulimit -d)."


def _soft(name: str) -> int:
    return resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else resource.RLIM_INFINITY


def start_thread(work: Callable[[], object], name: str) -> None:
    """Start a daemon thread; LaunchError if there can be none."""
    try:
        # Thread.start() waits for ever for a thread that finds no memory to begin with.
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
    """Tells whether the kernel's OOM killer, which kills without saying so, was at work during a run."""

    def __init__(self) -> None:
        self._before: int | None = None
        self._read_at = -READ_AGAIN_SECS

    def note(self) -> None:
        """A run begins: what was killed before, give or take a second, does not count."""
        if time.monotonic() - self._read_at >= READ_AGAIN_SECS:
            self._before, self._read_at = _count(), time.monotonic()

    def came(self) -> bool:
        """Whether it killed any process since; False if the system does not tell."""
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
