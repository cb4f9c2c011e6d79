"""What a process hands down to its children beside environment and descriptors.

A run's real parent is the guardian, which was started earlier. What the caller changed about itself since then,
the run takes from here, as a child of the caller's would have inherited it.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import TypedDict

from isolated_magic.launch.shortage import is_shortage

_LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_STATUS = "/proc/thread-self/status"


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
    return Attributes(
        umask=_umask(),
        nice=os.getpriority(os.PRIO_PROCESS, 0),
        affinity=sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else None,
        limits=[(number, *resource.getrlimit(number)) for number in _LIMITS],
    )


def fixed(attributes: Attributes) -> tuple[object, ...]:
    """What a process cannot take on any more once it runs: priority, processors, hard limits.

    Args:
        attributes: of a process.
    """
    hard = [(number, limit) for number, _, limit in attributes["limits"]]
    return attributes["nice"], attributes["affinity"], hard


def credentials() -> tuple[object, ...]:
    """The users and groups that this process acts for."""
    if sys.platform == "darwin":
        return (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups())
    return (os.getresuid(), os.getresgid(), os.getgroups())


def _umask() -> int | None:
    # os.umask() tells it only by changing it, for all threads.
    try:
        descriptor = os.open(_STATUS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        if is_shortage(problem):  # to run with another one than the caller's would be wrong
            raise
        return None
    try:
        found = os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
    _, _, rest = found.partition(b"\nUmask:")
    return int(rest[:8].split()[0], 8) if rest else None
