"""What a process hands down to its children beside environment and descriptors.

A run's real parent is the guardian, which was started earlier. What the caller changed about itself since then,
the run takes from here, as a child of the caller's would have inherited it.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
from typing import TypedDict

from isolated_magic.child.attributes import LIMITS, limits
from isolated_magic.launch import calls
from isolated_magic.launch.shortage import is_shortage


class Attributes(TypedDict):
    """The attributes of this thread and process, None where the system does not tell.

    Args:
        umask: of new files.
        nice: scheduling priority.
        affinity: the processors that may be used.
        limits: soft and hard limit by the number of the resource; -1 for none.
    """

    umask: int | None
    nice: int
    affinity: list[int] | None
    limits: list[tuple[int, int, int]]


def current_attributes() -> Attributes:
    """Those of the calling thread, now.

    Raises:
        OSError: the system is short of what it takes to look.
    """
    umask, nice = _umask(), os.getpriority(os.PRIO_PROCESS, 0)
    affinity = frozenset(os.sched_getaffinity(0)) if sys.platform == "linux" else None
    return _as_messages_have_them(umask, nice, affinity, tuple(limits()))


@lru_cache(maxsize=4)  # nearly always they are those of the run before
def _as_messages_have_them(
    umask: int | None, nice: int, affinity: frozenset[int] | None, limits: tuple[tuple[int, int], ...]
) -> Attributes:
    numbered = [(number, *limit) for number, limit in zip(LIMITS, limits, strict=True)]
    return Attributes(
        umask=umask, nice=nice, affinity=None if affinity is None else sorted(affinity), limits=numbered
    )


def fixed(attributes: Attributes) -> tuple[object, ...]:
    """What a process cannot take on any more once it runs: priority, processors, hard limits.

    Args:
        attributes: of a process.
    """
    hard = [(number, limit) for number, _, limit in attributes["limits"]]
    return attributes["nice"], attributes["affinity"], hard


def _umask() -> int | None:
    # os.umask() tells it only by changing it, for all threads.
    try:
        found = _status.read()
    except OSError as problem:
        if is_shortage(problem):  # to run with another one than the caller's would be wrong
            raise
        return None
    _, _, rest = found.partition(b"\nUmask:")
    return int(rest[:8].split()[0], 8) if rest else None


class _Status:
    """What the system says of this process (proc(5)). Kept open: to open it takes longer than to read it."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._opened_by = 0
        self._pid_line = b""  # of another number where /proc is of another namespace

    def read(self) -> bytes:
        """All of it, as of now.

        Raises:
            OSError: there is none, or the system is short of descriptors.
        """
        found = self._read_again()
        if found is None:
            self._descriptor = os.open("/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
            found = calls.beginning_of(self._descriptor)
            self._opened_by, self._pid_line = os.getpid(), _pid_line_in(found)
        return found

    def _read_again(self) -> bytes | None:
        """None where the descriptor is of a process that we are a fork of, or was closed behind our back."""
        if self._descriptor is None or self._opened_by != os.getpid():
            return None
        try:
            found = calls.beginning_of(self._descriptor)
        except OSError:
            return None
        return found if _pid_line_in(found) == self._pid_line else None


def _pid_line_in(status: bytes) -> bytes:
    return status.partition(b"\nPid:")[2].partition(b"\n")[0]


_status = _Status()
