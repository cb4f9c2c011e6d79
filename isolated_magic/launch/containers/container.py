"""One container: create it, send it the child program, wait until it is ready, use it once, remove it."""

from __future__ import annotations

import json
import select
import socket
import ssl
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, cast

from isolated_magic import child
from isolated_magic.child import wire
from isolated_magic.child.wire import (
    COLD,
    CONTAINER_FOLDER,
    FORKED,
    NO_ATTRIBUTES,
    PIECE_BYTES,
    READY,
    STDERR,
    STDOUT,
    Packets,
)
from isolated_magic.errors import LaunchError
from isolated_magic.launch.containers.settings import (
    RESERVED_PROCESSES,
    STARTING_PROCESSES,
    processes_of,
)
from isolated_magic.launch.fork_server.freshness import EnvironmentReads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from isolated_magic.launch.containers.client import DaemonClient
    from isolated_magic.launch.containers.settings import ContainerSettings, Shape
    from isolated_magic.launch.fork_server.freshness import ReadyReport
    from isolated_magic.request import RunRequest

READY_TIMEOUT_SECS = 60.0  # for its interpreter and its imports
LOOK_SECS = 1.0  # so often it is looked whether it is still there
MOST_SAID_BYTES = 4096  # kept of its stderr before it is ready
_HEADER_BYTES, _ON_STDOUT = 8, 1  # of the daemon's frames, for containers without a terminal


class _Refusal(TypedDict):
    refused: dict[str, str]


class AttachedStream:
    """The stream to the stdin of a process in a container and from its output, in the daemon's frames.

    Never blocks.
    """

    def __init__(self, end: socket.socket, close: Callable[[], None]) -> None:
        self.socket = end
        self.close = close
        end.setblocking(False)
        self._received = bytearray()

    def receive(self) -> list[tuple[bytes, bytes]]:
        """What has come, as kinds and bodies of packets.

        Raises:
            BlockingIOError: nothing, so far.
            EOFError: the stream has ended.
            OSError: the stream broke.
            ValueError: what came is no packet.
        """
        try:
            chunk = self.socket.recv(PIECE_BYTES)
        except ssl.SSLWantReadError:
            raise BlockingIOError from None
        if not chunk:
            raise EOFError
        unseen = self.socket.pending() if isinstance(self.socket, ssl.SSLSocket) else 0
        if unseen:  # by poll(2)
            chunk += self.socket.recv(unseen)
        self._received += chunk
        found: list[tuple[bytes, bytes]] = []
        while len(self._received) >= _HEADER_BYTES:
            length = int.from_bytes(self._received[4:_HEADER_BYTES], "big")
            part = bytes(self._received[_HEADER_BYTES : _HEADER_BYTES + length])
            is_stdout = self._received[0] == _ON_STDOUT
            # Long parts are taken as they come, with what is left of them in a header of their own.
            del self._received[: _HEADER_BYTES + len(part)]
            found += self._packets_in(part, is_stdout=is_stdout)
            if len(part) < length:
                left = (length - len(part)).to_bytes(4, "big")
                self._received[:0] = bytes([_ON_STDOUT if is_stdout else 2, 0, 0, 0]) + left
                break
        return found

    def _packets_in(self, part: bytes, *, is_stdout: bool) -> list[tuple[bytes, bytes]]:
        """What the process wrote, as packets."""
        return [(STDOUT if is_stdout else STDERR, part)]

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Send some of it; how much. BlockingIOError if the stream takes no more now."""
        try:
            return self.socket.send(data[:PIECE_BYTES])
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None

    def wait(self, mask: int, deadline: float) -> None:
        """Wait for events of poll(2); TimeoutError after the deadline, by time.monotonic()."""
        poll = select.poll()
        poll.register(self.socket, mask)
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError

    def is_quiet(self) -> bool:
        """Whether the stream is open and nothing has come, as while a container waits."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return not poll.poll(0)

    def hang_up(self) -> None:
        """Have the container end. Any thread may call this while another one reads."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # a fork of this process may have copies


class PacketStream(AttachedStream):
    """The stream to and from our own first process of a container, whose stdout carries packets."""

    def __init__(self, end: socket.socket, close: Callable[[], None]) -> None:
        super().__init__(end, close)
        self.stderr = b""
        self._packets = Packets()

    def _packets_in(self, part: bytes, *, is_stdout: bool) -> list[tuple[bytes, bytes]]:
        if is_stdout:
            return self._packets.feed(part)
        self.stderr = (self.stderr + part)[:MOST_SAID_BYTES]
        return []


class Container:
    """One container. When this end hangs up, its first process ends, and everything in it."""

    def __init__(self, client: DaemonClient, settings: ContainerSettings, shape: Shape, label: str) -> None:
        self.client = client
        self.settings = settings
        self.shape = shape
        self.pid = 0
        self.environment: dict[bytes, bytes] = {}
        self.environment_reads = EnvironmentReads()
        self.attached: PacketStream | None = None
        self.id: str | None = None
        self._label = label
        self._is_unwanted = False

    @property
    def stream(self) -> AttachedStream | None:
        """Where the output of its run comes from."""
        return self.attached

    def make(self) -> None:
        """Create and start it, and wait until it is ready. After a LaunchError it still has to be removed."""
        self.id = self.client.create(self.settings, self.shape, COMMAND, self._label, user=self.settings.user)
        self.attached = PacketStream(*self.client.attach(self.id, self.settings))
        self._start(self.id)
        self._prepare(self.attached, self.id)
        self._limit_processes(self.id)

    def _start(self, own_id: str) -> None:
        if self._is_unwanted:
            raise LaunchError("The container was given up before it was ready.")
        self.client.start(own_id, self.settings)

    def _limit_processes(self, own_id: str) -> None:
        processes = processes_of(self.settings, self.shape)
        if processes + RESERVED_PROCESSES < STARTING_PROCESSES:  # too few for the runtime to start it
            self.client.limit_processes(own_id, processes)

    def _prepare(self, attached: PacketStream, own_id: str) -> None:
        settings = self.settings
        idle_secs = None if settings.idle_secs > 1e9 else settings.idle_secs
        wanted = {
            "modules": list(settings.preload),
            "wanted": list(settings.preload),
            "in_detail": True,  # there is one attempt
            "gives_way": False,
            "cwd": settings.cwd,
            "idle_secs": idle_secs,
        }
        unsent = memoryview(program_frame() + wire.frame(json.dumps(wanted).encode()))
        deadline = time.monotonic() + READY_TIMEOUT_SECS
        try:
            while unsent:
                with suppress(BlockingIOError):
                    unsent = unsent[attached.send(unsent) :]
                    continue
                self._wait(attached, select.POLLOUT, own_id, deadline)
            state = self.client.state(own_id)  # it takes the container longer to start than this
            self.pid = int(state["Pid"]) if state is not None else 0
            self._take(self._first_message(attached, own_id, deadline))
        except TimeoutError:
            raise LaunchError(
                f"The container of image {settings.image} was not ready within {READY_TIMEOUT_SECS:g} seconds."
            ) from None
        except (EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise self._ended_early(attached) from None

    def _first_message(self, attached: PacketStream, own_id: str, deadline: float) -> dict[str, object]:
        while True:
            with suppress(BlockingIOError):
                for kind, body in attached.receive():
                    if kind == READY:
                        message: dict[str, object] = json.loads(body)
                        return message
                    raise ValueError("another packet comes first")
                continue
            self._wait(attached, select.POLLIN, own_id, deadline)

    def _wait(self, attached: PacketStream, mask: int, own_id: str, deadline: float) -> None:
        """Wait for the stream; EOFError if the container has ended: Docker may leave the stream open then."""
        while True:
            try:
                return attached.wait(mask, min(deadline, time.monotonic() + LOOK_SECS))
            except TimeoutError:
                if time.monotonic() >= deadline:
                    raise
            state = self.client.state(own_id)
            if state is None or not state["Running"]:
                raise EOFError

    def _take(self, message: dict[str, object]) -> None:
        if "refused" in message:
            reasons = cast("_Refusal", message)["refused"]
            name = next(name for name in (*self.settings.preload, *reasons, "") if name in reasons or not name)
            reason = reasons.get(name, "the image does not say why")
            raise LaunchError(
                f"The module {name} cannot be imported ahead in image {self.settings.image}: {reason}. "
                "Take it out of preload."
            )
        report = cast("ReadyReport", message["ready"])
        missing = [name for name in self.settings.preload if name not in report["modules"]]
        if missing:
            raise LaunchError(
                f"The image {self.settings.image} has no module {missing[0]}: add it, or take it out of preload."
            )
        self.environment_reads = EnvironmentReads(report)
        environment = cast("dict[str, str]", message["environment"])
        self.environment = {name.encode("latin-1"): text.encode("latin-1") for name, text in environment.items()}

    def _ended_early(self, attached: PacketStream) -> LaunchError:
        """The error for a container that ended: what its interpreter said last."""
        with suppress(OSError, EOFError, ValueError):
            while True:
                attached.receive()
        lines = [line.strip() for line in attached.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        for line in lines:  # Podman adds a line of its own
            if line.startswith(("Python 3.", "Python 2.")):
                return LaunchError(
                    f"The image {self.settings.image} has {line[:30]}: give one with Python 3.11 or later."
                )
        said = lines[-1][:300] if lines else "it said nothing"
        return LaunchError(f"The container of image {self.settings.image} ended before it was ready: {said}.")

    def is_waiting(self) -> bool:
        """Whether it waits for a run, and can be used."""
        return self.attached is not None and self.attached.is_quiet()

    def why_ended(self) -> str:
        """Why the stream has ended, if this process did not end it."""
        try:
            state = self.client.state(self.id or "")
        except LaunchError as problem:
            return str(problem).rstrip(".")
        if state is not None and state.get("OOMKilled"):
            return "its container ran out of memory"
        return "its container was killed from outside"

    def hang_up(self) -> None:
        """Have it end; any thread may call this."""
        self._is_unwanted = True
        if self.attached is not None:
            self.attached.hang_up()

    def close(self) -> None:
        """Hang up and close the stream; no other thread may use it any more."""
        if self.attached is not None:
            self.attached.hang_up()
            self.attached.close()

    def remove(self) -> bool:
        """Remove it; whether it is gone."""
        return self.id is None or self.client.remove(self.id)

    def forget(self) -> None:
        """In a fork of the owner: close our copies; the container belongs to the original."""
        if self.attached is not None:
            self.attached.close()


# The command of the container, so that no image needs the child program: it reads the program from stdin, writes
# it to files, and executes it. Anybody who may inspect the container can read this.
BOOTSTRAP = f"""\
import os, sys, time
if sys.version_info < (3, 11):
    os.write(2, b"Python " + sys.version.split()[0].encode() + b"\\n")
    time.sleep(0.5)  # Podman loses the last words of what ends before it is attached
    os._exit(1)
import json
def take(count):
    got = b""
    while len(got) < count:
        more = os.read(0, count - len(got))
        if not more:
            os._exit(0)
        got += more
    return got
files = json.loads(take(int.from_bytes(take({wire.LENGTH_BYTES}), "big")))
for name in files:
    with open("{CONTAINER_FOLDER}/" + name, "w", encoding="utf-8") as file:
        file.write(files[name])
os.execv(sys.executable, [sys.executable, "{CONTAINER_FOLDER}/start.py", "container"])
"""
COMMAND = ("python3", "-I", "-S", "-c", BOOTSTRAP)


@cache
def program_frame() -> bytes:
    """The files of the child program, as the bootstrap reads them."""
    folder = Path(child.__file__).parent
    files = {file.name: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.py"))}
    return wire.frame(json.dumps(files).encode())


def container_messages(
    request: RunRequest, environment: Mapping[bytes, bytes], *, cold: bool, role: str = "run"
) -> bytes:
    """The messages that turn the process that waits in a container into one with a role."""
    launch = {
        "role": role,
        "cwd": request.cwd,
        "stack_bytes": request.limits.stack_bytes,
        "attributes": NO_ATTRIBUTES,
    }
    return (
        wire.frame(COLD if cold else FORKED)
        + wire.frame(json.dumps(launch).encode())
        + wire.frame(wire.environment_block(environment))
    )
