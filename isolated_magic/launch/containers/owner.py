"""Who a container belongs to, written on it, so that what an owner left behind can be told from what is in use."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass

LABEL = "isolated_magic.owner"


@dataclass(frozen=True)
class OwnerId:
    """A process, on whatever machine shares the daemon.

    Args:
        host: name of its machine.
        boot: of that machine, empty where the system does not tell.
        namespace: that its pid is of, likewise.
        pid: of the process.
        started: when it began, in ticks since the boot; 0 where the system does not tell.
    """

    host: str
    boot: str
    namespace: str
    pid: int
    started: int

    @property
    def labels(self) -> dict[str, str]:
        """What its containers carry."""
        return {LABEL: json.dumps(asdict(self))}


def this_process() -> OwnerId:
    """The one that asks."""
    return OwnerId(socket.gethostname(), _boot(), _namespace(), os.getpid(), _started(os.getpid()))


def is_gone(label: str) -> bool:
    """Whether the owner of a container has ended, as far as this process can tell.

    Args:
        label: of the container.
    """
    try:
        owner = OwnerId(**json.loads(label))
    except (ValueError, TypeError):  # of another version: leave it alone
        return False
    here = this_process()
    if owner.host != here.host:
        return False
    if owner.boot != here.boot:
        return True
    if owner.namespace != here.namespace:  # its pid is somebody else's here
        return False
    return not _is_alive(owner)


def _is_alive(owner: OwnerId) -> bool:
    try:
        os.kill(owner.pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return _started(owner.pid) == owner.started


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:  # noqa: PTH123 - a special file
            return file.read().strip()
    except OSError:
        return ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - likewise
    except OSError:
        return ""


def _started(pid: int) -> int:
    """As proc(5) has it, /proc/PID/stat; a zombie has ended."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - likewise
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0
    return -1 if fields[0] == b"Z" else int(fields[19])
