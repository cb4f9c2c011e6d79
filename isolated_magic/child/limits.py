"""The limits of a run: put processes under them, and find the one that made the code fail.

Each process has its own (setrlimit(2)). All processes of a run together have them where this process may make
control groups (cgroups(7)). In version 2 the group lies beside our own one, in the nearest group above it that is
writable: for root, and in a systemd user session, whose part of the tree belongs to the user. Our own group cannot
have groups with limits in it while it holds processes ("no internal processes"). Only where nothing above it is
writable (the root of a container, a service with ``Delegate=yes``) do its processes move into one of their own.

A controller that the system has in version 1 (before systemd 258) is used there: it has a tree of its own, mostly
for root alone. Without any, the limits of each process are all there is.
"""

from __future__ import annotations

import errno
import itertools
import os
import resource
import time
from contextlib import suppress

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms

if TYPE_CHECKING:
    from collections.abc import Iterator


# How much the hard limit lies above the soft limit, so that the outcome can be sent when the code has used all.
RESERVE = {"memory_bytes": 32 << 20, "open_files": 8, "cpu_secs": 1, "file_size_bytes": 0, "tasks": 0}
RESOURCES = {
    "memory_bytes": resource.RLIMIT_DATA,  # since Linux 4.7 with private mappings
    "cpu_secs": resource.RLIMIT_CPU,
    "open_files": resource.RLIMIT_NOFILE,
    "file_size_bytes": resource.RLIMIT_FSIZE,
    "tasks": resource.RLIMIT_NPROC,  # counts all processes and threads of the user
}
ERRORS = {
    errno.ENOMEM: "memory_bytes",
    errno.EMFILE: "open_files",
    errno.EFBIG: "file_size_bytes",
    errno.EAGAIN: "processes",
}


class ImposedLimits:
    """Puts this process, and those that it will start, under limits and into control groups.

    Raises:
        OSError: a control group cannot be joined.
    """

    def __init__(self, limits: dict[str, int], members: list[str]) -> None:
        join_groups(members)
        self.breached: str | None = None
        self._limits = limits
        self.impose()

    def impose(self) -> None:
        """Put this process under the limits, for the first time or again after :meth:`lift`."""
        self.breached = None
        for name, limit in self._limits.items():
            if name in RESOURCES:
                _, hard = resource.getrlimit(RESOURCES[name])
                highest = limit + RESERVE[name]
                if hard != resource.RLIM_INFINITY:
                    highest = min(highest, hard)
                _set(name, min(limit, highest), highest)

    def lift(self, problem: BaseException | None = None) -> None:
        """Let our own code use the reserve, and note which limit an exception comes from."""
        for name in self._limits:
            if name in RESOURCES and name != "cpu_secs":
                _, hard = resource.getrlimit(RESOURCES[name])
                _set(name, hard, hard)
        if problem is not None:
            self.breached = _behind(problem, self._limits)


def _set(name: str, soft: int, hard: int) -> None:
    with suppress(ValueError, OSError):  # not every platform allows every value
        resource.setrlimit(RESOURCES[name], (soft, hard))


def _behind(problem: BaseException, limits: dict[str, int]) -> str | None:
    """The limit that an exception or one of its causes comes from; None when it comes from none."""
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


GROUP_PREFIX = "isolated_magic"
OWN_LEAF = f"{GROUP_PREFIX}.main"  # where the processes of our own group move to
CONTROLLERS = {"memory_bytes": "memory", "processes": "pids"}
# What to write by version and limit, None standing for the limit. A kernel without swap has no file for it.
GROUP_SETTINGS: dict[int, dict[str, dict[str, int | None]]] = {
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

MOVE_ATTEMPTS = 20  # while the processes fork
DEATH_TIMEOUT_SECS = 5.0  # for killed processes; one in uninterruptible sleep takes longer

_numbers = itertools.count(1)
_stuck: set[str] = set()  # groups with a process that did not die in time


class ControlGroup:
    """The control group of one run; in version 1, one for each limit. Close it when the run is gone.

    Args:
        limits: by name; those that control groups do not have are ignored.
    """

    def __init__(self, limits: dict[str, int]) -> None:
        self.folders: dict[str, str] = {}
        wanted = {limit: value for limit, value in limits.items() if limit in CONTROLLERS}
        if not wanted:
            return
        number = next(_numbers)
        if number == 1:
            remove_groups_left_by()
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
            for file, setting in GROUP_SETTINGS[version][limit].items():
                if file != OPTIONAL or os.path.exists(f"{folder}/{file}"):  # noqa: PTH110 - likewise
                    _write(f"{folder}/{file}", value if setting is None else setting)
        except OSError:
            if is_new:
                os.rmdir(folder)  # noqa: PTH106 - likewise
            raise
        self.folders[limit] = folder

    @property
    def members(self) -> list[str]:
        """The files to which a process writes its pid to join."""
        return [f"{folder}/cgroup.procs" for folder in dict.fromkeys(self.folders.values())]

    def exceeded(self, limit: str) -> bool:
        """Whether this limit made the kernel refuse something to a process, or kill one."""
        return self.events(limit) > 0

    def events(self, limit: str) -> int:
        """How often this limit made the kernel refuse something to a process, or kill one."""
        if limit not in self.folders:
            return 0
        counter, files = EVENTS[limit]
        lines = (line for file in files for line in _read(f"{self.folders[limit]}/{file}").splitlines())
        return sum(int(line.split()[1]) for line in lines if line.startswith(f"{counter} "))

    def peak_memory_bytes(self) -> int | None:
        """The most memory that its processes had together; None where the kernel does not tell."""
        files = (f"{folder}/{file}" for folder in self.folders.values() for file in PEAKS)
        return next((int(text) for file in files if (text := _read(file))), None)

    def close(self) -> None:
        """Remove the group and kill what is in it; try again to remove those that could not be."""
        for folder in list(_stuck):
            if _remove(folder, 0):
                _stuck.discard(folder)
        _stuck.update(folder for folder in set(self.folders.values()) if not _remove(folder))


def join_groups(members: list[str]) -> None:
    """Move this process into a group; what it starts from now on is born there.

    Args:
        members: of the :class:`ControlGroup`.

    Raises:
        OSError: the group was removed.
    """
    for file in members:
        _write(file, 0)


def remove_groups_left_by(owner: int | None = None) -> None:
    """Remove the groups of owners that ended, and kill what is in them.

    Args:
        owner: the pid of one that is known to have ended, though it may not be reaped.
    """
    for folder, pid in _all():
        if pid == owner or not _exists(pid):
            _remove(folder)


def groups_left_by(owner: int) -> bool:
    """Whether there are groups of the owner with this pid."""
    return any(pid == owner for _, pid in _all())


def _name(number: int) -> str:
    return f"{GROUP_PREFIX}-{os.getpid()}-{number}-{_pid_namespace()}"


def _pid_namespace() -> int:
    """Two containers may share a tree of groups, but not their pids."""
    with suppress(OSError):
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - likewise
    return 0


def _all() -> Iterator[tuple[str, int]]:
    """The folder of each group that any owner made, and the pid of that owner."""
    for home in {home for _, home in _homes(prepare=False).values()}:
        for name in os.listdir(home):  # noqa: PTH208 - likewise
            prefix, pid, *_, namespace = name.split("-") if name.count("-") == 3 else ("", "", "")
            if prefix == GROUP_PREFIX and pid.isdecimal() and namespace == str(_pid_namespace()):
                yield os.path.join(home, name), int(pid)  # noqa: PTH118 - likewise


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError as problem:
        return not isinstance(problem, ProcessLookupError)  # it may belong to another user
    return True


def _remove(folder: str, timeout_secs: float = DEATH_TIMEOUT_SECS) -> bool:
    """Remove a group, and kill all that is in it where the kernel can (version 2, Linux 5.14); whether it is gone.

    After a run it is empty, and goes at once; only the processes of an owner that was killed have to be waited
    for.
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
    """For each limit that groups can have here: their version, and the folder to make them in.

    Args:
        prepare: whether to make that possible: enable controllers, move processes.
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
    """The folder of a group; None if this mount shows a part of the tree without it."""
    root = root.rstrip("/")
    if not f"{group}/".startswith(f"{root}/") or group.startswith("/.."):  # it is outside of our namespace
        return None
    folder = mount + group[len(root) :].rstrip("/")
    return folder if os.path.isdir(folder) else None  # noqa: PTH112 - likewise


def _unified_home(own: str, mount: str, *, prepare: bool) -> tuple[str, set[str]]:
    """The group in which to make those of runs, in version 2, and the controllers that they have there."""
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
    """The groups that may hold both processes and groups with limits, the nearest first."""
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
    """The controllers that groups in this one have; ``prepare`` enables what is missing."""
    if not (os.access(folder, os.W_OK) and os.access(f"{folder}/cgroup.procs", os.W_OK)):
        return set()
    available, file = _available(folder), f"{folder}/cgroup.subtree_control"
    if prepare:
        for controller in available.difference(_read(file).split()):
            with suppress(OSError):  # it holds processes, or the file belongs to somebody else
                _write(file, f"+{controller}")
    return available.intersection(_read(file).split())


def _vacate(own: str) -> bool:
    """Move the processes of our own group into one below it, without limits; whether all have moved."""
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
    """Each controller of version 1 and the path of our group; version 2 has the empty name."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        yield from ((name, path) for name in names.split(","))


def _mounts() -> Iterator[tuple[str, list[str], str, str]]:
    """Of each mount: file system type, options, root and mount point (proc_pid_mountinfo(5))."""
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ")[:3]
        root, mount = before.split(" ")[3:5]
        yield kind, options.split(","), root, mount


def _read(path: str) -> str:
    """The text of the file, empty if it cannot be read."""
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as file:  # noqa: PTH123 - likewise
        return file.read()
    return ""


def _write(path: str, value: int | str) -> None:
    with open(path, "w", encoding="ascii") as file:  # noqa: PTH123 - likewise
        file.write(str(value))
