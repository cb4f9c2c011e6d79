"""What the system grants a process, and how to have what the owner has (see ``launch/spawn.py``)."""

from __future__ import annotations

import os
import resource
import sys
import time
from contextlib import contextmanager, suppress

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


GIVE_WAY, MOST_NICE = 5, 19  # of sched(7): at five steps a process has a third of what one at none has
GROUP_TIMEOUT_SECS, GROUP_RETRY_SECS = 1.0, 0.05
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


@contextmanager
def giving_way() -> Iterator[None]:
    """Other processes have the processors first inside this block, as far as that can be taken back after it."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    may_rise = nice + GIVE_WAY <= MOST_NICE and _may_rise(nice)
    if may_rise:
        os.setpriority(os.PRIO_PROCESS, 0, nice + GIVE_WAY)
    set_group_nice("self", GIVE_WAY)
    try:
        yield
    finally:
        set_group_nice("self", 0)
        if may_rise:
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def _may_rise(nice: int) -> bool:
    """Whether the system would give this process its priority back: not every user's (RLIMIT_NICE)."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice + 1)
            os.setpriority(os.PRIO_PROCESS, 0, nice)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def set_group_nice(process: str | int, nice: int) -> None:
    """Where it has autogroups, the kernel goes by this among sessions (sched(7)); any user may take it back.

    Args:
        process: its number, or ``"self"``.
        nice: zero at least.
    """
    deadline = time.monotonic() + GROUP_TIMEOUT_SECS
    while True:
        try:
            with open(f"/proc/{process}/autogroup", "w", encoding="ascii") as file:  # noqa: PTH123 - a special file
                file.write(str(nice))
        except BlockingIOError:  # ten times a second at most
            if time.monotonic() < deadline:
                time.sleep(GROUP_RETRY_SECS)
                continue
        except OSError:  # there are none
            return
        return


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
