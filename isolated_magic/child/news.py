"""What a keeper and the owner of a run say to each other on the run's handle (see ``keeper.py``)."""

from __future__ import annotations

import os
import resource
import socket
from contextlib import suppress


def orders(handle: socket.socket) -> set[int]:
    """The bytes of what the owner asks for; none when it is gone.

    Args:
        handle: of a run, readable.
    """
    try:
        return set(handle.recv(64))
    except OSError:
        return set()


def tell_pid(handle: socket.socket, pid: int) -> None:
    """Say which process it is. The number alone may be somebody else's by the time that the owner reads it.

    Args:
        handle: of a run.
        pid: of its process.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return tell(handle, f"pid {pid}")
    try:
        with suppress(OSError):
            socket.send_fds(handle, [b"pid %d\n" % pid], [descriptor])
    finally:
        os.close(descriptor)
    return None


def tell_failure(handle: socket.socket, number: int) -> None:
    """Say that there will be no process.

    Args:
        handle: of a run.
        number: of the system's error.
    """
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    tell(handle, f"failed {number} {open_files}")


def tell(handle: socket.socket, line: str) -> None:
    """Say something.

    Args:
        handle: of a run.
        line: without its end.
    """
    with suppress(OSError):  # the owner closed its end: it no longer wants to know
        handle.sendall(line.encode() + b"\n")
