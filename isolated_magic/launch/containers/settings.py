"""What a container is: the settings of an executor, checked, and what the daemon is told of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isolated_magic.child.wire import CONTAINER_FOLDER
from isolated_magic.errors import InvalidRequestError
from isolated_magic.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isolated_magic.limits import Limits

DEFAULT_IMAGE = "isolated-magic"
FOLDER_BYTES = 8 * MIB  # of the child program
# For whatever runs in the container beside the code: of memory, and of processes while the runtime starts it.
RESERVED_BYTES = 64 * MIB
RESERVED_PROCESSES, STARTING_PROCESSES = 1, 32
_WHOLE = ("memory_bytes", "pids", "nofile", "tmpfs_bytes", "standby")


@dataclass(frozen=True)
class ContainerSettings:
    """See :class:`isolated_magic.executors.docker.DockerExecutor`, whose arguments these are.

    Raises:
        InvalidRequestError: one of them cannot be; the message says which and what to give.
    """

    image: str
    standby: int
    idle_secs: float
    memory_bytes: int
    cpus: float
    pids: int
    nofile: int
    network: bool | str
    user: str
    read_only: bool
    new_privileges: bool
    capabilities: tuple[str, ...]
    tmpfs_bytes: int
    volumes: Mapping[str, str]
    cwd: str
    preload: tuple[str, ...]
    runtime: str | None
    base_url: str | None

    def __post_init__(self) -> None:
        for name in _WHOLE:
            value = getattr(self, name)
            least = 0 if name == "standby" else 1
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise _refused(name, value, f"a whole number, {least} or more")
        for name in ("cpus", "idle_secs"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0:
                raise _refused(name, value, "a number greater than zero")
        for name in ("read_only", "new_privileges"):
            if not isinstance(getattr(self, name), bool):
                raise _refused(name, getattr(self, name), "True or False")
        self._check_texts()
        if self.cpus == math.inf:
            raise _refused("cpus", self.cpus, "a number of processors")

    def _check_texts(self) -> None:
        for name in ("image", "user", "cwd"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise _refused(name, getattr(self, name), "a text")
        for name in ("runtime", "base_url"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise _refused(name, getattr(self, name), "a text or None")
        if not isinstance(self.network, (bool, str)):
            raise _refused("network", self.network, "False, True, or the name of a network")
        for name in ("preload", "capabilities"):
            value = getattr(self, name)
            if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
                raise _refused(name, value, "names")
        if not isinstance(self.volumes, dict) or not all(map(_is_volume, self.volumes.items())):
            raise _refused(
                "volumes",
                self.volumes,
                "paths here and there, such as {'/data': '/data'} or {'/data': '/data:rw'}",
            )


def _is_volume(pair: tuple[object, object]) -> bool:
    here, there = pair
    if not isinstance(here, str) or not isinstance(there, str):
        return False
    target, _, mode = there.partition(":")
    return here.startswith("/") and target.startswith("/") and mode in {"", "ro", "rw"}


def _refused(name: str, value: object, wanted: str) -> InvalidRequestError:
    return InvalidRequestError(f"{name} is {value!r}: give {wanted}.")


@dataclass(frozen=True)
class Shape:
    """How much a container may have, where runs differ."""

    memory_bytes: int  # of memory
    processes: int | None = None  # at once, of the run; None for as many as the settings say


def shape_for(settings: ContainerSettings, limits: Limits) -> Shape:
    """The container for a run with these limits."""
    memory = settings.memory_bytes
    if limits.memory_bytes is not None:
        memory = min(memory, limits.memory_bytes + RESERVED_BYTES)
    return Shape(memory, limits.processes)


def held_by(settings: ContainerSettings, limits: Limits) -> Limits:
    """The limits that a run has there: none is more than its container has."""
    most = {"memory_bytes": settings.memory_bytes, "processes": settings.pids, "open_files": settings.nofile}
    asked = {name: getattr(limits, name) for name in most}
    return replace(limits, **{name: most[name] for name, value in asked.items() if value and value > most[name]})


def processes_of(settings: ContainerSettings, shape: Shape) -> int:
    """How many processes and threads a run in such a container may have at once."""
    return settings.pids if shape.processes is None else min(settings.pids, shape.processes)


def creation(
    settings: ContainerSettings, shape: Shape, labels: Mapping[str, str], stack_bytes: int
) -> ContainerConfig:
    """What the daemon is told of a container. Whoever may inspect it can read that: nothing of a run is in it."""
    scratch = f"rw,nosuid,nodev,size={settings.tmpfs_bytes},mode=1777"
    processes = processes_of(settings, shape)
    host = {
        "network_mode": settings.network if isinstance(settings.network, str) else _network(settings.network),
        "read_only": settings.read_only,
        "cap_drop": ["ALL"],
        "cap_add": list(settings.capabilities),
        "security_opt": [] if settings.new_privileges else ["no-new-privileges"],
        "pids_limit": max(processes + RESERVED_PROCESSES, STARTING_PROCESSES),
        "mem_limit": shape.memory_bytes,
        "memswap_limit": shape.memory_bytes,  # the sum: no swap
        "nano_cpus": int(settings.cpus * 1e9),
        "tmpfs": {
            "/tmp": scratch,  # noqa: S108 - likewise
            CONTAINER_FOLDER: f"rw,nosuid,nodev,size={FOLDER_BYTES},mode=1777",
        },
        "shm_size": settings.tmpfs_bytes,
        "runtime": settings.runtime,
        "ipc_mode": "private",
        "auto_remove": True,
        "init": False,
        "log_config": {"Type": "none"},  # what a run prints is nobody else's
    }
    limits = {
        "nofile": settings.nofile,
        "nproc": 4096,  # the kernel counts all of this user's, in whatever container: pids_limit is what holds
        "stack": stack_bytes,
        "core": 0,
    }
    mounts = tuple(Mount(here, *_target_of(there)) for here, there in settings.volumes.items())
    return ContainerConfig(settings, host, limits, mounts, {**labels})


def _network(is_open: bool) -> str:
    return "default" if is_open else "none"


def _target_of(there: str) -> tuple[str, bool]:
    target, _, mode = there.partition(":")
    return target, mode != "rw"


@dataclass(frozen=True)
class Mount:
    """A folder or file of the daemon's machine, in a container."""

    source: str  # its path there; the daemon refuses one that is not there
    target: str  # its path in the container
    read_only: bool  # whether it cannot be written to


@dataclass(frozen=True)
class ContainerConfig:
    """One container, as it is to be created."""

    settings: ContainerSettings  # of the executor
    host: Mapping[str, object]  # arguments of ``create_host_config``
    ulimits: Mapping[str, int]  # soft and hard, by name
    mounts: Sequence[Mount]  # what it has of the daemon's machine
    labels: Mapping[str, str]  # of the container
