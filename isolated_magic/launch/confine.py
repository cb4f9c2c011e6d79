"""What holds the limits of a run: resource limits of its processes, and control groups where there are any."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.child.cgroup import Group
from isolated_magic.errors import LaunchError
from isolated_magic.launch.shortage import refused
from isolated_magic.run_request import Confinement

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated_magic.run_request import RunRequest

NO_GROUP = Group({})


@contextmanager
def confined(request: RunRequest) -> Iterator[tuple[RunRequest, Group]]:
    """Inside this block the request says how its limits are held, by a group that is there as long.

    Args:
        request: the run.

    Raises:
        LaunchError: nothing here could hold them.
    """
    limits = dict(request.limits.of_resources)
    if not limits:
        yield request, NO_GROUP
        return
    if request.elsewhere is not None:  # whatever runs there holds what its processes have together
        yield replace(request, confinement=Confinement(limits)), NO_GROUP
        return
    group = Group(limits)
    try:
        if "processes" in limits and "processes" not in group.folders:
            limits["tasks"] = limits["processes"] + _tasks_of_user()
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
        raise refused(problem) from problem
    count = 0
    for name in names:
        with suppress(OSError):  # it ended meanwhile
            if name.isdigit() and os.stat(f"/proc/{name}").st_uid == os.geteuid():  # noqa: PTH116 - likewise
                count += os.stat(f"/proc/{name}/task").st_nlink - 2  # noqa: PTH116 - likewise
    return count
