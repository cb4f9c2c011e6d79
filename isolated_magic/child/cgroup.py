"""Limits for all processes of a run together, where we may make control groups (cgroups(7), version 1).

Most systems let nobody but root. The limits of each process (see ``limits.py``) hold everywhere.
"""

from __future__ import annotations

import itertools
import os
from contextlib import suppress

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "isolated_magic"
SETTINGS = {"memory_bytes": ("memory", "memory.limit_in_bytes"), "processes": ("pids", "pids.max")}

_numbers = itertools.count(1)


class Group:
    """The control groups of one run. Close it when the run is gone.

    Args:
        limits: by name; those that no control group holds are passed over.
    """

    def __init__(self, limits: dict[str, int]) -> None:
        self.folders: dict[str, str] = {}
        if not limits:
            return
        number = next(_numbers)
        if number == 1:
            remove_left()
        name = f"{PREFIX}-{os.getpid()}-{number}"
        for limit, (controller, setting) in SETTINGS.items():
            parent = _home_of(controller) if limit in limits else None
            if parent is not None:
                with suppress(OSError):
                    self._make(limit, os.path.join(parent, name), setting, limits[limit])  # noqa: PTH118 - as in process_tree

    def _make(self, limit: str, folder: str, setting: str, value: int) -> None:
        os.mkdir(folder)  # noqa: PTH102 - as in process_tree
        try:
            _write(os.path.join(folder, setting), value)  # noqa: PTH118 - likewise
        except OSError:
            os.rmdir(folder)  # noqa: PTH106 - likewise
            raise
        self.folders[limit] = folder

    @property
    def members(self) -> list[str]:
        """The files in which a process writes itself down to belong to it."""
        return [f"{folder}/cgroup.procs" for folder in self.folders.values()]

    def ran_out_of_memory(self) -> bool:
        """Whether one of its processes was killed for the memory that all had."""
        folder = self.folders.get("memory_bytes")
        if folder is None:
            return False
        with suppress(OSError), open(f"{folder}/memory.oom_control", "rb") as file:  # noqa: PTH123 - likewise
            return any(line.startswith(b"oom_kill ") and line != b"oom_kill 0\n" for line in file)
        return False

    def close(self) -> None:
        """Take it away."""
        for folder in self.folders.values():
            with suppress(OSError):  # a process that the system does not let go is still in it
                os.rmdir(folder)  # noqa: PTH106 - likewise


def join(members: list[str]) -> None:
    """Have this process, and all that it starts from now on, belong to a group.

    Args:
        members: of the group.

    Raises:
        OSError: the group was taken away.
    """
    for file in members:
        _write(file, 0)


def remove_left(owner: int | None = None) -> None:
    """Take away what owners that ended left behind.

    Args:
        owner: the pid of one that is known to have ended, though it may not be reaped.
    """
    for folder, pid in _all():
        if pid == owner or not _exists(pid):
            with suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 - likewise


def left_by(owner: int) -> bool:
    """Whether there are groups of this owner.

    Args:
        owner: its pid.
    """
    return any(pid == owner for _, pid in _all())


def _all() -> Iterator[tuple[str, int]]:
    """The folders of all groups of ours, whoever made them, and the pids of those who did."""
    for controller, _ in SETTINGS.values():
        home = _home_of(controller)
        for name in os.listdir(home) if home is not None else ():  # noqa: PTH208 - likewise
            prefix, _, rest = name.partition("-")
            pid = rest.partition("-")[0]
            if prefix == PREFIX and pid.isdecimal():
                yield os.path.join(home or "", name), int(pid)  # noqa: PTH118 - likewise


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _home_of(controller: str) -> str | None:
    """The folder of this process's own group, where this process may make others; None where it may not."""
    with suppress(OSError):
        own = next((path for names, path in _memberships() if controller in names), None)
        for kind, options, mount in _mounts():
            if own is not None and kind == "cgroup" and controller in options:
                folders = [mount + own.rstrip("/"), mount]  # in a container, its own group may be the mount itself
                return next((folder for folder in folders if os.access(folder, os.W_OK)), None)
    return None


def _memberships() -> Iterator[tuple[list[str], str]]:
    with open("/proc/self/cgroup", encoding="utf-8") as file:  # noqa: PTH123 - likewise
        for line in file:
            _, names, path = line.rstrip("\n").split(":", 2)
            yield names.split(","), path


def _mounts() -> Iterator[tuple[str, list[str], str]]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:  # noqa: PTH123 - likewise
        for line in file:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split()[:3]
            yield kind, options.split(","), before.split()[4]


def _write(path: str, value: int) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - likewise
        file.write(str(value))
