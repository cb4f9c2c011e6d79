"""Resources of the system: what is said when they run out, and what enforces the limits of a run.

Limits are enforced by resource limits of the run's processes, and by a control group if one can be made. Without
a group some limits hold less than their names say. A LimitWarning says so once for each of them: it would be in
the way each time a cell is run again.
"""

from __future__ import annotations

import errno
import mmap
import os
import resource
import sys
import threading
import time
import warnings
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.child.limits import ControlGroup
from isolated_magic.errors import LaunchError, LimitWarning
from isolated_magic.limits import format_size
from isolated_magic.request import Confinement

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.request import RunRequest

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

READ_AGAIN_SECS = 1.0  # one read takes 23 microseconds, a hundredth of a run
_COUNTER = b"\noom_kill "  # proc(5), /proc/vmstat: those for the limit of a cgroup too, since Linux 4.13

_PER_PROCESS = "The memory limit holds for each process of a run by itself, not for all of them together"
_PER_USER = "The process limit counts all processes and threads of this user, not those of the run alone"
_NOT_HELD = "The memory limit may not be held on this system, which has no control groups"

_said: set[str] = set()


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
    if problem.errno in {errno.ENOENT, errno.EACCES} and isinstance(problem.filename, str):
        words += f": {problem.filename}"
    return LaunchError(f"No process could be started: {words}.")


def memory_limit_note() -> str:
    """A sentence about our memory limits, which a process that failed to start has inherited; empty for none."""
    found = map(_soft, ("RLIMIT_AS", "RLIMIT_DATA"))
    soft = min((limit for limit in found if limit != resource.RLIM_INFINITY), default=None)
    return "" if soft is None else f" Its memory is limited to {format_size(soft)} (ulimit -v, ulimit -d)."


def _soft(name: str) -> int:
    return resource.getrlimit(getattr(resource, name))[0] if hasattr(resource, name) else resource.RLIM_INFINITY


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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


def confine(request: RunRequest) -> tuple[RunRequest, ControlGroup | None]:
    """The request with what holds its limits, and its control group if any; the caller closes that.

    Raises LaunchError if nothing can hold them, LimitWarning where the program turns such warnings into errors.
    """
    limits = dict(request.limits.of_resources)
    if not limits:
        return request, None
    if request.container is not None:  # the container holds the sum over its processes
        return replace(request, confinement=Confinement(limits)), None
    group = ControlGroup(limits)
    try:
        if "processes" in limits and "processes" not in group.folders:
            limits["tasks"] = limits["processes"] + _tasks_of_user()
            _say_once(_PER_USER)
        if "memory_bytes" in limits and "memory_bytes" not in group.folders:
            _say_once(_PER_PROCESS if sys.platform == "linux" else _NOT_HELD)
        return replace(request, confinement=Confinement(limits, group.members)), group
    except BaseException:
        group.close()
        raise


def _tasks_of_user() -> int:
    """How many processes and threads this user has: RLIMIT_NPROC counts them all (setrlimit(2))."""
    if os.geteuid() == 0:
        raise LaunchError(
            "A limit of processes cannot be held here: root is exempt from it, and there is no control group for "
            "it that may be written to. Leave it out, or run as another user."
        )
    try:
        names = os.listdir("/proc")  # noqa: PTH208 - hundreds
    except OSError as problem:
        raise launch_error(problem) from problem
    count = 0
    for name in names:
        with suppress(OSError):  # it ended meanwhile
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.geteuid():  # noqa: PTH116 - likewise
                count += os.stat(f"/proc/{name}/task").st_nlink - 2  # noqa: PTH116 - likewise
    return count


def _say_once(what: str) -> None:
    """Warn that a limit holds less than its name says, unless this process was warned already."""
    if what in _said:
        return
    _said.add(what)
    why = "" if sys.platform != "linux" else f": no control group can be made here.{_advice()}"
    # Without a place in the code: the limit may be set anywhere, and a saved notebook must show no path of ours.
    warnings.warn_explicit(f"{what}{why}".rstrip(".") + ".", LimitWarning, "isolated_magic", 1)


def _advice() -> str:
    """What helps where systemd manages a part of the tree for this user, but this program is not in it (ssh)."""
    if os.path.exists(f"/run/user/{os.getuid()}/systemd/private"):  # noqa: PTH110 - likewise
        return " Start this program with `systemd-run --user --scope` in front of its command"
    return ""
