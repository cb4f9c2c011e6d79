"""Connects the four local streams of a child with the one stream of its container."""

from __future__ import annotations

import math
import os
import re
import select
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from isolated_magic.child import wire
from isolated_magic.child.wire import (
    CHANNEL,
    DEADLINE,
    ENOUGH_BYTES,
    HANG_UP,
    NEWS,
    ORDER,
    PIECE_BYTES,
    STACK,
    STDERR,
    STDOUT,
    packet,
)
from isolated_magic.launch.process import ProcessHandle
from isolated_magic.launch.spawn import make_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isolated_magic.launch.base import Child
    from isolated_magic.launch.containers.container import Container

KILL_TIMEOUT_SECS = 2.0  # then a container that does not obey is cut off
GRACE_SECS = 10.0
RENEWED_SECS = 60.0  # after which a container of rows ends whose owner is not heard of
MARGIN_BYTES = 1 << 20
_EXIT = re.compile(r"exit -?\d{1,3} \d{1,9}\.\d{3}\n")
_PEAK = re.compile(r"peak \d{1,18}\n")


class ContainerHandle(ProcessHandle):
    """The handle of a run in a container; ``cut`` ends the container. No process here is ever signalled for it."""

    def __init__(self, end: socket.socket, cut: Callable[[], None]) -> None:
        super().__init__(end)
        self._cut = cut

    def ask_for_stack(self) -> bool:
        """Have the run write its stacks to its channel; see :class:`ProcessHandle`."""
        if self.is_over:
            return False
        self._order(STACK)
        return True

    def kill_without_reaper(self) -> None:
        """End the container; see :class:`ProcessHandle`."""
        self._cut()

    def _on_word(self, word: str, rest: str, on_created: Callable[[int], None]) -> None:
        if word == "memory":
            self.memory_exceeded = True
        elif word == "peak":
            self.peak_memory_bytes = int(rest)
        elif word == "lost":
            self.lost, self.is_over = rest, True
        elif word == "refused":
            self.failure, self.is_over = rest, True
        else:
            super()._on_word(word, rest, on_created)


class Bridge:
    """Carries one run, or many rows. The container is told when to end by itself, as it may lose the daemon.

    Args:
        container: that waits.
        timeout_secs: of the run; None to tell it again and again, for as long as there may be rows.
    """

    handle_type: type[ContainerHandle] = ContainerHandle

    def __init__(self, container: Container, timeout_secs: float | None) -> None:
        self._container = container
        ends: list[int] = []
        self.child: Child = make_child(lambda theirs: ends.extend(map(os.dup, theirs)))
        handle, channel, stdout, stderr = ends
        self.child.handle = self.handle_type(self.child.handle.socket, container.hang_up)
        self._handle, self._channel = socket.socket(fileno=handle), socket.socket(fileno=channel)
        self._outputs = {STDOUT: stdout, STDERR: stderr}
        self._descriptors = {CHANNEL: channel, STDOUT: stdout, STDERR: stderr}
        self._unread = {kind: bytearray() for kind in self._descriptors}  # by the supervisor
        # Unread bytes of each stream that came before what is unread of the channel.
        self._printed_before = {STDOUT: 0, STDERR: 0}
        self._unsent = bytearray()  # by the container
        self._renew_at = math.inf
        self._set_deadline(timeout_secs)
        self._news = b""
        self._listens = {CHANNEL, NEWS}  # those of our ends whose other end is open
        self._kill_by: float | None = None
        self._is_over = False
        for descriptor in ends:
            os.set_blocking(descriptor, False)
        self._tell(f"pid {container.pid}\n")

    def _set_deadline(self, timeout_secs: float | None) -> None:
        if timeout_secs is None:
            self._renew_deadline()
        else:
            self._unsent += packet(DEADLINE, repr(timeout_secs + GRACE_SECS).encode())

    def _renew_deadline(self) -> None:
        self._unsent += packet(DEADLINE, repr(RENEWED_SECS).encode())
        self._renew_at = time.monotonic() + RENEWED_SECS / 3

    def run(self) -> None:
        """Work until the run is over and the supervisor was told, or has gone."""
        try:
            while not self._is_over or any(self._unread.values()):
                if not self._step():
                    break
            if self._news:
                self._tell(self._news.decode())
        finally:
            self._container.close()
            self._handle.close()
            self._channel.close()
            for descriptor in self._outputs.values():
                os.close(descriptor)

    def _step(self) -> bool:
        """Handle the next events; False when the supervisor is gone."""
        wanted = self._wanted()
        poll = select.poll()
        for descriptor, mask in wanted.items():
            poll.register(descriptor, mask)
        at = self._wakes_at() if self._kill_by is None else self._kill_by
        ready = dict(poll.poll(None if at == math.inf else max(0.0, at - time.monotonic()) * 1000))
        if self._kill_by is None and not self._is_over and time.monotonic() >= self._wakes_at():
            self._on_time()
        if not ready and self._kill_by is not None and time.monotonic() >= self._kill_by:
            self._be_over("exit -9 0\n")
            return not any(self._unread.values())
        if self._handle.fileno() in ready and not self._take_orders():
            return False
        self._flush(ready)
        if self._channel.fileno() in ready:
            self._take_from_supervisor()
        attached = self._container.stream
        if attached is not None and not self._is_over and attached.socket.fileno() in ready:
            self._send()
            self._receive()
        return True

    def _wakes_at(self) -> float:
        """When there is something to do though nothing happens, by time.monotonic()."""
        return self._renew_at

    def _on_time(self) -> None:
        """It is that time."""
        self._renew_deadline()

    def _wanted(self) -> dict[int, int]:
        wanted: dict[int, int] = {}
        for kind, descriptor in self._descriptors.items():
            if self._unread[kind] and not (kind == CHANNEL and any(self._printed_before.values())):
                wanted[descriptor] = select.POLLOUT
        if CHANNEL in self._listens and len(self._unsent) < ENOUGH_BYTES:
            channel = self._channel.fileno()
            wanted[channel] = wanted.get(channel, 0) | select.POLLIN
        if NEWS in self._listens:
            wanted[self._handle.fileno()] = select.POLLIN
        attached = self._container.stream
        if attached is not None and not self._is_over and attached.socket.fileno() >= 0:
            mask = select.POLLOUT if self._unsent else 0
            if self._kill_by is not None or all(len(each) < ENOUGH_BYTES for each in self._unread.values()):
                mask |= select.POLLIN
            if mask:
                wanted[attached.socket.fileno()] = mask
        elif not self._is_over:
            self._be_over("exit -9 0\n")  # it was cut
        return wanted

    def _take_orders(self) -> bool:
        try:
            orders = self._handle.recv(64)
        except BlockingIOError:
            return True
        except OSError:
            orders = b""
        if not orders:
            self._listens.discard(NEWS)
            return False
        for order in (wire.INTERRUPT, STACK, wire.KILL):
            if order in orders and not self._is_over:
                self._obey(order)
        return True

    def _obey(self, order: bytes) -> None:
        self._unsent += packet(ORDER, order)
        if order == wire.KILL and self._kill_by is None:
            self._kill_by = time.monotonic() + KILL_TIMEOUT_SECS

    def _flush(self, ready: dict[int, int]) -> None:
        for kind, descriptor in self._descriptors.items():
            unread = self._unread[kind]
            if unread and descriptor in ready:
                size = len(unread)
                try:
                    while unread:
                        del unread[: os.write(descriptor, unread[:PIECE_BYTES])]
                except BlockingIOError:
                    pass
                except OSError:  # the supervisor closed it
                    unread.clear()
                if kind in self._printed_before:
                    self._printed_before[kind] = max(0, self._printed_before[kind] - (size - len(unread)))

    def _take_from_supervisor(self) -> None:
        try:
            piece = self._channel.recv(PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        if not piece:
            self._listens.discard(CHANNEL)  # the supervisor hung up: there will be no answer, and no further row
        self._pass_on(piece)

    def _pass_on(self, piece: bytes) -> None:
        """Send what the supervisor sent; nothing when it hung up."""
        self._unsent += packet(CHANNEL, piece) if piece else packet(ORDER, HANG_UP)

    def _send(self) -> None:
        attached = self._container.stream
        if self._unsent and attached is not None:
            with suppress(OSError):  # reading will tell that it is gone
                del self._unsent[: attached.send(self._unsent)]

    def _receive(self) -> None:
        attached = self._container.stream
        if attached is None:
            return None
        try:
            packets = attached.receive()
        except BlockingIOError:
            return None
        except (EOFError, OSError):
            return self._on_end_of_stream()
        except ValueError:
            return self._be_over("lost what came from its container was no answer\n")
        self._take(packets)
        return None

    def _take(self, packets: Sequence[tuple[bytes, bytes]]) -> None:
        for kind, body in packets:
            if kind == NEWS:
                self._on_news(body)
            elif kind in self._unread and self._has_room(kind):
                self._unread[kind] += body
                if kind == CHANNEL:  # a question in it may be about what was printed until now
                    self._printed_before = {one: len(self._unread[one]) for one in (STDOUT, STDERR)}

    def _on_end_of_stream(self) -> None:
        self._be_over("exit -9 0\n" if self._kill_by else f"lost {self._container.why_ended()}\n")

    def _has_room(self, kind: bytes) -> bool:
        """A supervisor that kills may have stopped reading: what it has no room for is dropped then."""
        return self._kill_by is None or len(self._unread[kind]) < MARGIN_BYTES

    def _on_news(self, body: bytes) -> None:
        line = body.decode("ascii", "replace")
        if _EXIT.fullmatch(line):
            self._be_over(line)
        elif line == "memory\n" or _PEAK.fullmatch(line):
            self._news += body

    def _be_over(self, line: str) -> None:
        """The news is told after all that was written before it."""
        if self._is_over:
            return
        self._is_over = True
        self._news += line.replace("\n", " ").rstrip().encode() + b"\n"
        self._container.hang_up()

    def _tell(self, line: str) -> None:
        with suppress(OSError):
            self._handle.sendall(line.encode())
