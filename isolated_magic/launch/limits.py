"""Enforces the limits of a run: resource limits of its processes, and a control group if one can be made.

Without a group some limits hold less than their names say. A LimitWarning says so once for each of them: it holds
for every run of this process, and would be in the way each time a cell is run again.
"""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.child.cgroup import Group
from isolated_magic.errors import LaunchError, LimitWarning
from isolated_magic.launch.resources import launch_error
from isolated_magic.request import Confinement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated_magic.request import RunRequest

NO_GROUP = Group({})

_PER_PROCESS = "The memory limit holds for each process of a run by itself, not for all of them together"
_PER_USER = "The process limit counts all processes and threads of this user, not those of the run alone"
_NOT_HELD = "The memory limit may not be held on this system, which has no control groups"

_said: set[str] = set()


@contextmanager
def confined(request: RunRequest) -> Iterator[tuple[RunRequest, Group]]:
    """Inside this block the request carries the confinement that holds its limits, and its group exists.

    Raises LaunchError if nothing can hold them, LimitWarning where the program turns such warnings into errors.
    """
    limits = dict(request.limits.of_resources)
    if not limits:
        yield request, NO_GROUP
        return
    if request.elsewhere is not None:  # the container holds the sum over its processes
        yield replace(request, confinement=Confinement(limits)), NO_GROUP
        return
    group = Group(limits)
    try:
        if "processes" in limits and "processes" not in group.folders:
            limits["tasks"] = limits["processes"] + _tasks_of_user()
            _say_once(_PER_USER)
        if "memory_bytes" in limits and "memory_bytes" not in group.folders:
            _say_once(_PER_PROCESS if sys.platform == "linux" else _NOT_HELD)
        yield replace(request, confinement=Confinement(limits, group.members)), group
    finally:
        group.close()


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
