"""What a child inherits from its owner beside environment and descriptors: looked at for each run."""

from __future__ import annotations

import os
import re
import resource
import sys
from typing import NamedTuple, TypeAlias

from isolated_magic.child.process_state import LIMITS, credentials
from isolated_magic.launch.resources import is_shortage

FILE_BYTES = 8192  # of the files of proc(5): both are shorter, but for a user of hundreds of groups
# Of the status file: what the attributes are made of, in the order in which it stands there.
_IN_STATUS = re.compile(
    rb"\nUmask:\t(\d+)\n.*\nUid:\t([^\n]*)\nGid:\t([^\n]*)\n.*\nGroups:\t([^\n]*)\n.*\nCpus_allowed:\t(\S+)\n",
    re.DOTALL,
)


class ProcessAttributes(NamedTuple):
    """What a child inherits from its owner, beside environment and descriptors; None if the system does not tell.

    The parent of a run is the guardian, which was started earlier: what the owner has changed about itself since
    then, the run gets from here.
    """

    umask: int | None
    nice: int
    affinity: tuple[int, ...] | None
    limits: tuple[tuple[int, int, int], ...]  # number of the resource, soft and hard limit (-1: none)
    credentials: tuple[object, ...]  # users and groups

    def taken_on(self) -> dict[str, object]:
        """What a process can take on that was started before it changed, for its launch message."""
        return {name: value for name, value in self._asdict().items() if name != "credentials"}

    def fixed(self) -> tuple[object, ...]:
        """What a running process cannot change: priority, processors, hard limits, users and groups."""
        return self.nice, self.affinity, [(number, hard) for number, _, hard in self.limits], self.credentials


_Seen: TypeAlias = "tuple[int, tuple[bytes, ...] | None, bytes | None]"


def current_attributes() -> ProcessAttributes:
    """The attributes of the calling thread; OSError if the system is short of descriptors to look.

    Two files tell whether any has changed since it was last looked, which takes a system call for each limit. They
    are read again after that: another thread may have changed something meanwhile.
    """
    global _known  # noqa: PLW0603 - one for the process: nearly always it is that of the run before
    while True:
        known, seen = _known, _seen()
        if known is not None and known[0] == seen:
            return known[1]
        attributes = _read(seen)
        if None in seen:  # the system does not tell what has changed
            return attributes
        _known = seen, attributes


_known: tuple[_Seen, ProcessAttributes] | None = None


def _seen() -> _Seen:
    """The priority, and what two files say of all the rest; None where they do not."""
    status, limits = _content("/proc/thread-self/status"), _content("/proc/self/limits")
    found = None if status is None else _IN_STATUS.search(status)
    return os.getpriority(os.PRIO_PROCESS, 0), None if found is None else found.groups(), limits


def _read(seen: _Seen) -> ProcessAttributes:
    nice, in_status, _ = seen
    return ProcessAttributes(
        # os.umask() can only tell it by changing it, for all threads.
        umask=None if in_status is None else int(in_status[0], 8),
        nice=nice,
        affinity=tuple(sorted(os.sched_getaffinity(0))) if sys.platform == "linux" else None,
        limits=tuple((number, *resource.getrlimit(number)) for number in LIMITS),
        credentials=credentials(),
    )


def _content(path: str) -> bytes | None:
    """The beginning of a file of proc(5), None if there is none. A run with other attributes would be wrong."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, FILE_BYTES)
        finally:
            os.close(descriptor)
    except OSError as problem:
        if is_shortage(problem):
            raise
        return None
