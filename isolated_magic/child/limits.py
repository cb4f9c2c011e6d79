"""The limits that the system holds for each process, and whether one of them is why the code failed."""

from __future__ import annotations

import errno
import resource
from contextlib import suppress

from . import cgroup

# Above the soft limit, which the code gets, for telling the owner what came of it.
RESERVE = {"memory_bytes": 32 << 20, "open_files": 8, "cpu_secs": 1, "file_size_bytes": 0, "tasks": 0}
RESOURCES = {
    "memory_bytes": resource.RLIMIT_DATA,  # since Linux 4.7 with private mappings
    "cpu_secs": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "file_size_bytes": resource.RLIMIT_FSIZE,
    "tasks": resource.RLIMIT_NPROC,  # of the user, whatever they belong to
}
ERRORS = {
    errno.ENOMEM: "memory_bytes",
    errno.EMFILE: "open_files",
    errno.EFBIG: "file_size_bytes",
    errno.EAGAIN: "processes",
}


class Imposed:
    """Limits of this process and of those that it starts.

    Args:
        limits: by name.
        members: of the control groups that hold more of them.

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
        """Let our own part use the reserve.

        Args:
            problem: what the code raised; which limit it comes from is noted.
        """
        for name in self._limits:
            if name in RESOURCES and name != "cpu_secs":
                _, hard = resource.getrlimit(RESOURCES[name])
                _set(name, hard, hard)
        if problem is not None:
            self.breached = _behind(problem, self._limits)


def _set(name: str, soft: int, hard: int) -> None:
    with suppress(ValueError, OSError):  # the platform has its own idea of what is possible
        resource.setrlimit(RESOURCES[name], (soft, hard))


def _behind(problem: BaseException, limits: dict[str, int]) -> str | None:
    """The limit that an exception comes from, itself or what it was raised for; None when it comes from none."""
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
