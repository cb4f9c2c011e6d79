"""Makes a child: its four streams and its first messages; and the cold launcher."""

from __future__ import annotations

import _socket  # socket.socketpair() looks at both ends once more
import json
import os
import socket
import weakref
from functools import lru_cache
from io import FileIO
from typing import TYPE_CHECKING

from isolated_magic.child import wire
from isolated_magic.launch.attributes import current_attributes
from isolated_magic.launch.base import Attach, Child, ProcessLauncher, StartedWorker, require_processes, to_nobody
from isolated_magic.launch.guardian import PROGRAM, Guardian
from isolated_magic.launch.process import NO_SIGNAL, ProcessHandle
from isolated_magic.launch.resources import launch_error

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic.launch.attributes import ProcessAttributes
    from isolated_magic.request import RunRequest


def make_child(hand_over: Callable[[list[int]], None]) -> Child:
    """A child; ``hand_over`` has its process made around the other ends of handle, channel, stdout and stderr."""
    child, theirs = _streams()
    try:
        hand_over(theirs)
    except BaseException:
        child.close()
        raise
    finally:
        for descriptor in theirs:
            os.close(descriptor)
    return child


def _streams() -> tuple[Child, list[int]]:
    """Four new streams: our ends as a Child, the other ends as descriptors."""
    sockets: list[socket.socket] = []
    pipes: list[FileIO] = []
    theirs: list[int] = []
    try:
        for _ in range(2):
            mine, its = _socket_pair()
            sockets.append(mine)
            theirs.append(its.detach())
            mine.setblocking(False)
        for _ in range(2):
            readable, writable = os.pipe()
            theirs.append(writable)
            pipes.append(FileIO(readable, "r"))
            os.set_blocking(readable, False)
    except BaseException as problem:
        for mine in sockets:
            mine.close()
        for pipe in pipes:
            pipe.close()
        for descriptor in theirs:
            os.close(descriptor)
        if isinstance(problem, OSError):
            raise launch_error(problem) from problem
        raise
    (handle, channel), (stdout, stderr) = sockets, pipes
    return Child(channel, stdout, stderr, ProcessHandle(handle)), theirs


def _socket_pair() -> tuple[socket.socket, _socket.socket]:
    """Our end as a socket, and the other one, which nobody here uses, as it comes."""
    mine, its = _socket.socketpair()
    return socket.socket(mine.family, mine.type, mine.proto, mine.detach()), its


def receive_frame(channel: socket.socket) -> bytes:
    """The body of the next frame on a blocking channel; EOFError if the other end was closed."""
    length = int.from_bytes(_receive(channel, wire.LENGTH_BYTES), "big")
    return _receive(channel, length)


def _receive(channel: socket.socket, count: int) -> bytes:
    body = bytearray()
    while len(body) < count:
        chunk = channel.recv(count - len(body))
        if not chunk:
            raise EOFError
        body += chunk
    return bytes(body)


def start_messages(
    executable: str,
    role: str,
    cwd: str,
    stack_bytes: int,
    attributes: ProcessAttributes,
    environment: Mapping[bytes, bytes],
) -> bytes:
    """The messages that turn a fork of the guardian into a process with a role, a module of ``child/``."""
    launch = _launch_frame(executable, role, cwd, stack_bytes, attributes)
    return launch + wire.frame(wire.environment_block(environment))


@lru_cache(maxsize=16)  # nearly always it is that of the run before
def _launch_frame(executable: str, role: str, cwd: str, stack_bytes: int, attributes: ProcessAttributes) -> bytes:
    launch = {
        "executable": executable,
        "program": PROGRAM,
        "role": role,
        "cwd": cwd,
        "stack_bytes": stack_bytes,
        "attributes": attributes.taken_on(),
    }
    return wire.frame(json.dumps(launch).encode())


def run_messages(request: RunRequest, attributes: ProcessAttributes, *, reports_pages: bool = False) -> bytes:
    """The messages that make a run of a fork: the process, the program, and its data."""
    return role_messages("run", request, attributes) + program_messages(request, reports_pages=reports_pages)


def role_messages(role: str, request: RunRequest, attributes: ProcessAttributes) -> bytes:
    """The messages that make a process for such runs."""
    return start_messages(
        request.executable, role, request.cwd, request.limits.stack_bytes, attributes, request.environment
    )


def program_messages(
    request: RunRequest, *, reports_pages: bool = False, is_last: bool = True, largest_bytes: int | None = None
) -> bytes:
    """The messages with the program of a run, and its data."""
    options = reports_pages, is_last, largest_bytes, ""
    return _program_of(request, *options) + wire.frame(request.payload)


def rows_message(request: RunRequest, marker: bytes) -> bytes:
    """The message with the program of many rows, without data.

    Args:
        request: of any of them.
        marker: which the child program writes behind what each row prints.
    """
    return _program_of(request, reports_pages=False, is_last=True, largest_bytes=None, marker=marker.hex())


def _program_of(
    request: RunRequest, reports_pages: bool, is_last: bool, largest_bytes: int | None, marker: str
) -> bytes:
    limits, groups = tuple(request.confinement.limits.items()), tuple(request.confinement.groups)
    names = request.source, request.path, request.source_name, request.data_name
    figures = None if request.figures is None else json.dumps(request.figures.to_dict())
    return _program_frame(names, figures, limits, groups, reports_pages, is_last, largest_bytes, marker)


@lru_cache(maxsize=16)  # the same code runs with one set of data after the other
def _program_frame(
    names: tuple[str | None, str | None, str, str | None],
    figures: str | None,
    limits: tuple[tuple[str, int], ...],
    groups: tuple[str, ...],
    reports_pages: bool,
    is_last: bool,
    largest_bytes: int | None,
    marker: str,
) -> bytes:
    source, path, filename, row = names
    program = {
        "source": source,
        "path": None if path is None else os.fsencode(path).decode("latin-1"),
        "filename": filename,
        "row": row,
        "figures": None if figures is None else json.loads(figures),
        "reports_pages": reports_pages,
        "is_last": is_last,
        "largest_bytes": largest_bytes,
        "marker": marker,
        "limits": dict(limits),
        "groups": groups,
    }
    return wire.frame(json.dumps(program).encode())


def send_at_once(child: Child, messages: bytes) -> bytes:
    """Send as much as goes out without waiting; the rest."""
    try:
        return messages[child.channel.send(messages, NO_SIGNAL) :]
    except OSError:  # it would block, or the child has ended: the supervisor will see
        return messages


class ColdLauncher(ProcessLauncher):
    """Starts an interpreter for each run, all under one guardian."""

    def __init__(self) -> None:
        require_processes()
        self._guardian = Guardian()
        weakref.finalize(self, self._guardian.close)  # for a launcher that is dropped without release()

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:  # noqa: ARG002 - never waits
        """Start a child for this request; see :class:`Launcher`."""
        messages = run_messages(request, current_attributes())
        return make_child(self._guardian.start_run), messages

    def start_worker(self, request: RunRequest) -> StartedWorker:
        """Start a child for many runs such as this one; see :class:`ProcessLauncher`."""
        messages = role_messages("worker", request, current_attributes())
        child = make_child(self._guardian.start_run)
        return StartedWorker(child, send_at_once(child, messages), frozenset())

    def start_rows(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:  # noqa: ARG002 - likewise
        """Start a child for many rows; see :class:`Launcher`."""
        messages = role_messages("rows", request, current_attributes())
        return make_child(self._guardian.start_run), messages

    def release(self) -> Callable[[], None]:
        """Start afresh; see :class:`Launcher`."""
        return self._guardian.release()
