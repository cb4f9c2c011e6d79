"""The limits of a run: put this process under them, and find the one that made the code fail."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress

from . import cgroup

# How much the hard limit lies above the soft limit, so that the outcome can be sent when the code has used all.
RESERVE = {"memory_bytes": 32 << 20, "open_files": 8, "cpu_secs": 1, "file_size_bytes": 0, "tasks": 0}
RESOURCES = {
    "memory_bytes": resource.RLIMIT_DATA,  # since Linux 4.7 with private mappings
    "cpu_secs": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "file_size_bytes": resource.RLIMIT_FSIZE,
    "tasks": resource.RLIMIT_NPROC,  # counts all processes and threads of the user
}
ERRORS = {
    errno.ENOMEM: "memory_bytes",
    errno.EMFILE: "open_files",
    errno.EFBIG: "file_size_bytes",
    errno.EAGAIN: "processes",
}


class ImposedLimits:
    """Puts this process, and those that it will start, under limits and into control groups.

    Raises:
        OSError: a control group cannot be joined.
    """

    def __init__(self, limits: dict[str, int], members: list[str]) -> None:
        cgroup.join(members)
        self.breached: str | None = None
        self._limits = limits
        for name, limit in limits.items():
            if name in RESOURCES:
                _, hard = resource.getrlimit(RESOURCES[name])
                highest = limit + RESERVE[name]
                if hard != resource.RLIM_INFINITY:
                    highest = min(highest, hard)
                _set(name, min(limit, highest), highest)

    def lift(self, problem: BaseException | None = None) -> None:
        """Let our own code use the reserve, and note which limit an exception comes from."""
        for name in self._limits:
            if name in RESOURCES and name != "cpu_secs":
                _, hard = resource.getrlimit(RESOURCES[name])
                _set(name, hard, hard)
        if problem is not None:
            self.breached = _behind(problem, self._limits)


def _set(name: str, soft: int, hard: int) -> None:
    with suppress(ValueError, OSError):  # not every platform allows every value
        resource.setrlimit(RESOURCES[name], (soft, hard))


def _behind(problem: BaseException, limits: dict[str, int]) -> str | None:
    """The limit that an exception or one of its causes comes from; None when it comes from none."""
    current: BaseException | None = problem
    seen: set[int] = set()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        name = _of(current)
        if name in limits:
            return name
        current = current.__cause__ or current.__context__
    return None


def _of(problem: BaseException) -> str | None:
    if isinstance(problem, MemoryError):
        return "memory_bytes"
    if isinstance(problem, OSError):
        return ERRORS.get(problem.errno or 0)
    if isinstance(problem, RuntimeError) and "can't start new thread" in str(problem):
        return "processes"
    return None
