"""What the system grants a process, and how to have what the owner has (see ``launch/attributes.py``)."""

from __future__ import annotations

import os
import resource
import sys
from contextlib import suppress

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from typing import Any


LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})


def limits() -> list[tuple[int, int]]:
    """Soft and hard limit of each resource, in the order of :data:`LIMITS`."""
    return list(map(resource.getrlimit, LIMITS))


def credentials() -> tuple[object, ...]:
    """The users and groups that this process acts for."""
    if sys.platform == "darwin":
        return (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), os.getgroups())
    return (os.getresuid(), os.getresgid(), os.getgroups())


def take_on(attributes: dict[str, Any]) -> None:
    """Become as the owner's thread was when it asked for the run.

    Args:
        attributes: umask, nice, affinity and limits.
    """
    if attributes["umask"] is not None:
        os.umask(attributes["umask"])
    for number, soft, hard in attributes["limits"]:
        if resource.getrlimit(number) != (soft, hard):
            with suppress(ValueError, OSError):  # the owner may do more than we can, and some are fixed
                resource.setrlimit(number, (soft, hard))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, attributes["nice"])
    if attributes["affinity"] is not None and sys.platform == "linux":
        with suppress(OSError):
            os.sched_setaffinity(0, attributes["affinity"])


def limit_stack(stack_bytes: int) -> None:
    """Limit the stack of the main thread.

    Args:
        stack_bytes: size. Best before exec: the kernel lays the address space out by the limit that it finds then
            (setrlimit(2)), and the C library takes it for the stacks of threads.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY:
        stack_bytes = min(stack_bytes, hard)
    with suppress(ValueError, OSError):  # macOS refuses some sizes: the run then has the inherited limit
        resource.setrlimit(resource.RLIMIT_STACK, (stack_bytes, stack_bytes))
