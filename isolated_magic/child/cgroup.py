"""Limits for all processes of a run together, where this process may make control groups (cgroups(7)).

Version 2 comes first: a group beside our own one, in the nearest group above it that may be written to. That is so
for root, and for the programs of a systemd user session, whose part of the tree belongs to the user. Our own group
cannot have groups with limits in it while it holds processes; only where nothing above it may be written to (the
root of a container, a service with ``Delegate=yes``) its processes move into a group of their own.

A controller that the system has in version 1 (before systemd 258) is used there: it has a tree of its own, mostly
for root alone. Elsewhere the limits of each process (see ``limits.py``) are all there is.
"""

from __future__ import annotations

import itertools
import os
import time
from contextlib import suppress

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "isolated_magic"
OWN_LEAF = f"{PREFIX}.main"  # where the processes of our own group move to
CONTROLLERS = {"memory_bytes": "memory", "processes": "pids"}
# What to write by version and limit, None standing for the limit. A kernel without swap has no file for it.
SETTINGS: dict[int, dict[str, dict[str, int | None]]] = {
    1: {"memory_bytes": {"memory.limit_in_bytes": None}, "processes": {"pids.max": None}},
    2: {
        "memory_bytes": {"memory.max": None, "memory.swap.max": 0, "memory.oom.group": 1},
        "processes": {"pids.max": None},
    },
}
OPTIONAL = "memory.swap.max"
# Where the kernel counts what a limit refused, in version 2 and 1.
EVENTS = {
    "memory_bytes": ("oom_kill", ["memory.events", "memory.oom_control"]),
    "processes": ("max", ["pids.events"]),
}
PEAKS = ["memory.peak", "memory.max_usage_in_bytes"]  # likewise; the first one since Linux 5.19

MOVE_ATTEMPTS = 20  # of processes that fork meanwhile
DEATH_TIMEOUT_SECS = 5.0  # for killed processes; one in uninterruptible sleep takes longer

_numbers = itertools.count(1)
_stuck: set[str] = set()  # groups with a process that the system did not let go in time


class Group:
    """The control group of one run; in version 1, one for each limit. Close it when the run is gone.

    Args:
        limits: by name; those that no control group holds are passed over.
    """

    def __init__(self, limits: dict[str, int]) -> None:
        self.folders: dict[str, str] = {}
        wanted = {limit: value for limit, value in limits.items() if limit in CONTROLLERS}
        if not wanted:
            return
        number = next(_numbers)
        if number == 1:
            remove_left()
        homes = _homes(prepare=True)
        for limit, value in wanted.items():
            if limit in homes:
                version, home = homes[limit]
                with suppress(OSError):
                    self._limit(limit, value, version, os.path.join(home, _name(number)))  # noqa: PTH118 - as in process_tree

    def _limit(self, limit: str, value: int, version: int, folder: str) -> None:
        is_new = folder not in self.folders.values()
        if is_new:
            os.mkdir(folder)  # noqa: PTH102 - likewise
        try:
            for file, setting in SETTINGS[version][limit].items():
                if file != OPTIONAL or os.path.exists(f"{folder}/{file}"):  # noqa: PTH110 - likewise
                    _write(f"{folder}/{file}", value if setting is None else setting)
        except OSError:
            if is_new:
                os.rmdir(folder)  # noqa: PTH106 - likewise
            raise
        self.folders[limit] = folder

    @property
    def members(self) -> list[str]:
        """The files in which a process writes itself down to belong to it."""
        return [f"{folder}/cgroup.procs" for folder in dict.fromkeys(self.folders.values())]

    def exceeded(self, limit: str) -> bool:
        """Whether a process was refused something, or killed, for what all of them had.

        Args:
            limit: its name.
        """
        if limit not in self.folders:
            return False
        counter, files = EVENTS[limit]
        lines = (line for file in files for line in _read(f"{self.folders[limit]}/{file}").splitlines())
        return any(line.startswith(f"{counter} ") and line != f"{counter} 0" for line in lines)

    def peak_memory_bytes(self) -> int | None:
        """The most memory that its processes had together; None where the kernel does not tell."""
        files = (f"{folder}/{file}" for folder in self.folders.values() for file in PEAKS)
        return next((int(text) for file in files if (text := _read(file))), None)

    def close(self) -> None:
        """Take it away, with whatever is still in it; and what could not be taken away before."""
        for folder in list(_stuck):
            if _remove(folder, 0):
                _stuck.discard(folder)
        _stuck.update(folder for folder in set(self.folders.values()) if not _remove(folder))


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
    """Take away what owners that ended left behind, and kill what is in it.

    Args:
        owner: the pid of one that is known to have ended, though it may not be reaped.
    """
    for folder, pid in _all():
        if pid == owner or not _exists(pid):
            _remove(folder)


def left_by(owner: int) -> bool:
    """Whether there are groups of this owner.

    Args:
        owner: its pid.
    """
    return any(pid == owner for _, pid in _all())


def _name(number: int) -> str:
    return f"{PREFIX}-{os.getpid()}-{number}-{_pid_namespace()}"


def _pid_namespace() -> int:
    """Two containers may share a tree of groups, and pids mean something else in each."""
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - likewise
    return 0


def _all() -> Iterator[tuple[str, int]]:
    """The folders of all groups of ours, whoever made them, and the pids of those who did."""
    for home in {home for _, home in _homes(prepare=False).values()}:
        for name in os.listdir(home):  # noqa: PTH208 - likewise
            prefix, pid, *_, namespace = name.split("-") if name.count("-") == 3 else ("", "", "")
            if prefix == PREFIX and pid.isdecimal() and namespace == str(_pid_namespace()):
                yield os.path.join(home, name), int(pid)  # noqa: PTH118 - likewise


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _remove(folder: str, timeout_secs: float = DEATH_TIMEOUT_SECS) -> bool:
    """Take a group away, and kill all that is in it at once where the kernel can (version 2, Linux 5.14).

    Returns:
        Whether it is gone.
    """
    deadline = time.monotonic() + timeout_secs
    is_killed = False
    while True:
        try:
            os.rmdir(folder)  # noqa: PTH106 - likewise
        except FileNotFoundError:
            return True
        except OSError:  # there are processes in it
            if not is_killed:
                try:
                    _write(f"{folder}/cgroup.kill", 1)
                except OSError:
                    return False
                is_killed = True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.001)
        else:
            return True


def _homes(*, prepare: bool) -> dict[str, tuple[int, str]]:
    """For each limit that a group can hold, the version of that group and the folder in which it is made.

    Args:
        prepare: whether to change what keeps groups from being made there.
    """
    homes: dict[str, tuple[int, str]] = {}
    groups, mounts = dict(_memberships()), list(_mounts())
    for limit, controller in CONTROLLERS.items():
        for kind, options, root, mount in mounts:
            if kind == "cgroup" and controller in options and controller in groups:
                nearest = _folder_of(groups[controller], root, mount) or mount
                folder = next((folder for folder in (nearest, mount) if os.access(folder, os.W_OK)), None)
                if folder is not None:
                    homes[limit] = (1, folder)
    for kind, _, root, mount in mounts:
        own = _folder_of(groups.get("", "/.."), root, mount) if kind == "cgroup2" else None
        if own is not None and len(homes) < len(CONTROLLERS):
            home, enabled = _unified_home(own, mount, prepare=prepare)
            homes.update((limit, (2, home)) for limit, controller in CONTROLLERS.items() if controller in enabled)
    return homes


def _folder_of(group: str, root: str, mount: str) -> str | None:
    """Where a group lies in the file system; None where the mount shows a part of the tree without it."""
    root = root.rstrip("/")
    if not f"{group}/".startswith(f"{root}/") or group.startswith("/.."):  # the namespace does not reach so far
        return None
    folder = mount + group[len(root) :].rstrip("/")
    return folder if os.path.isdir(folder) else None  # noqa: PTH112 - likewise


def _unified_home(own: str, mount: str, *, prepare: bool) -> tuple[str, set[str]]:
    """The group in which to make those of runs, in version 2, and the controllers that they then have."""
    best: tuple[str, set[str]] = (own, set())
    for folder in _above(own, mount):
        enabled = _enabled(folder, prepare=prepare)
        if len(enabled) > len(best[1]):
            best = (folder, enabled)
        if len(enabled) == len(CONTROLLERS):
            break
    if prepare and not best[1] and _available(own) and _vacate(own):
        best = (own, _enabled(own, prepare=True))
    return best


def _above(own: str, mount: str) -> Iterator[str]:
    """The groups that may have processes beside groups with limits, the nearest first."""
    if not os.path.exists(f"{own}/cgroup.type"):  # noqa: PTH110 - likewise
        yield own  # the root of them all
    while own.startswith(f"{mount}/") and _read(f"{own}/memory.max").strip() in {
        "",
        "max",
    }:  # no run escapes such a limit
        own = os.path.dirname(own)  # noqa: PTH120 - likewise
        yield own


def _available(folder: str) -> set[str]:
    return set(CONTROLLERS.values()) & set(_read(f"{folder}/cgroup.controllers").split())


def _enabled(folder: str, *, prepare: bool) -> set[str]:
    """The controllers that groups made in this one have; to prepare it, those that are missing are enabled."""
    if not (os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK)):
        return set()
    available, file = _available(folder), f"{folder}/cgroup.subtree_control"
    if prepare:
        for controller in available.difference(_read(file).split()):
            with suppress(OSError):  # it holds processes, or the file belongs to somebody else
                _write(file, f"+{controller}")
    return available.intersection(_read(file).split())


def _vacate(own: str) -> bool:
    """Move the processes of our own group into one below it, which limits nothing. Whether all are there."""
    if not (os.access(own, os.W_OK) and os.access(f"{own}/cgroup.subtree_control", os.W_OK)):
        return False
    leaf = f"{own}/{OWN_LEAF}"
    with suppress(FileExistsError):
        os.mkdir(leaf)  # noqa: PTH102 - likewise
    for _ in range(MOVE_ATTEMPTS):
        pids = _read(f"{own}/cgroup.procs").split()
        if not pids:
            return True
        for pid in pids:
            with suppress(ProcessLookupError):
                _write(f"{leaf}/cgroup.procs", pid)
    return False


def _memberships() -> Iterator[tuple[str, str]]:
    """The path of our own group for each controller of version 1, and for version 2 under an empty name."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        yield from ((name, path) for name in names.split(","))


def _mounts() -> Iterator[tuple[str, list[str], str, str]]:
    """Of each mount the kind of file system, its options, which part of it is shown, and where."""
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        root, mount = before.split(" ")[3:5]
        yield kind, options.split(","), root, mount


def _read(path: str) -> str:
    """What the file holds, nothing when it cannot be read."""
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - likewise
        return file.read()
    return ""


def _write(path: str, value: int | str) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - likewise
        file.write(str(value))
