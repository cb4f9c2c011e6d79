"""The settings of the containers of an executor, checked, and how they go with the limits of a run."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError
from isolated_magic.limits import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.limits import Limits

DEFAULT_IMAGE = "isolated-magic"
PROGRAM_BYTES = 8 * MIB  # room for the child program
# For what runs in the container beside the code: memory, and processes while the runtime starts it.
RESERVED_BYTES = 64 * MIB
RESERVED_PROCESSES, STARTING_PROCESSES = 1, 32
FILE_WORD = re.compile(r"\{file\}(\.\w+)?")  # in a command, the path of the file that holds the program
_WHOLE = ("memory_bytes", "pids", "nofile", "tmpfs_bytes", "standby")


@dataclass(frozen=True)
class ContainerSettings:
    """The arguments of :class:`isolated_magic.executors.docker.DockerExecutor`, checked."""

    image: str = DEFAULT_IMAGE
    command: tuple[str, ...] = ()
    standby: int = 2
    idle_secs: float = 600.0
    memory_bytes: int = 512 * MIB
    cpus: float = 1.0
    pids: int = 64
    nofile: int = 1024
    network: bool | str = False
    user: str = "65534:65534"
    read_only: bool = True
    new_privileges: bool = False
    capabilities: tuple[str, ...] = ()
    tmpfs_bytes: int = 64 * MIB
    volumes: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/tmp"  # noqa: S108 - of the container, which nobody else has
    preload: tuple[str, ...] = ()
    runtime: str | None = None
    base_url: str | None = None

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
        self._check_command()
        if self.cpus == math.inf:
            raise _refused("cpus", self.cpus, "a number of processors")

    @property
    def network_mode(self) -> str:
        """The network, as the daemon has it."""
        if isinstance(self.network, str):
            return self.network
        return "default" if self.network else "none"

    @property
    def needs(self) -> str:
        """What the image has to have, and what to do if it has not, as a part of a sentence."""
        if self.command:
            return "sh on its PATH, with which a command is started: give one that has it"
        return "python3 on its PATH: give one with Python 3.11 or later"

    @property
    def program_bytes(self) -> int:
        """Room for what is sent into the container."""
        return PROGRAM_BYTES + self.tmpfs_bytes if self.command else PROGRAM_BYTES

    def _check_command(self) -> None:
        if not self.command:
            return
        if not self.command[0].strip() or any("\0" in word for word in self.command):
            raise _refused("command", list(self.command), "a program and its arguments, such as ['node', '-']")
        if self.preload:
            raise _refused("preload", list(self.preload), "none with a command: it is for Python")

    def _check_texts(self) -> None:
        for name in ("image", "user", "cwd"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise _refused(name, getattr(self, name), "a text")
        for name in ("runtime", "base_url"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise _refused(name, getattr(self, name), "a text or None")
        if not isinstance(self.network, (bool, str)):
            raise _refused("network", self.network, "False, True, or the name of a network")
        for name in ("preload", "capabilities", "command"):
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
    """The resources of a container that depend on the limits of the run."""

    memory_bytes: int
    processes: int | None = None  # None for as many as the settings say


def shape_for(settings: ContainerSettings, limits: Limits) -> Shape:
    """The shape of a container for a run with these limits."""
    memory = settings.memory_bytes
    if limits.memory_bytes is not None:
        memory = min(memory, limits.memory_bytes + RESERVED_BYTES)
    return Shape(memory, limits.processes)


def held_by(settings: ContainerSettings, limits: Limits) -> Limits:
    """The limits of a run, none of them more than its container has."""
    most = {"memory_bytes": settings.memory_bytes, "processes": settings.pids, "open_files": settings.nofile}
    asked = {name: getattr(limits, name) for name in most}
    return replace(limits, **{name: most[name] for name, value in asked.items() if value and value > most[name]})


def processes_of(settings: ContainerSettings, shape: Shape) -> int:
    """How many processes and threads a run in such a container may have."""
    return settings.pids if shape.processes is None else min(settings.pids, shape.processes)
