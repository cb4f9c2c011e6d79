"""The private channel to a child program: the request goes down, what the run says comes up."""

from __future__ import annotations

import selectors
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

from isolated_magic.child import wire
from isolated_magic.launch import calls
from isolated_magic.launch.handle import NO_SIGNAL
from isolated_magic.messages import Messages
from isolated_magic.output import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

BRIEF_SECS = 0.005  # most runs of a worker take less


def let_wait(channel: socket.socket) -> None:
    """Have each receive wait, unless it says otherwise, for :data:`BRIEF_SECS`.

    Args:
        channel: of a worker.
    """
    # socket(7): unlike settimeout(), it takes no second system call.
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, int(BRIEF_SECS * 1e6)))
    channel.setblocking(True)


def _received(channel: socket.socket) -> bytes:
    return channel.recv(CHUNK_BYTES, calls.DO_NOT_WAIT)


class Conversation:
    """What is said about one run.

    Args:
        channel: of its child.
        request: what is still to be sent.
        answer: to a question of the child's (see ``child/owner.py``).
    """

    def __init__(self, channel: socket.socket, request: bytes, answer: Callable[[str], bytes]) -> None:
        self.channel = channel
        self.messages = Messages()
        self._unsent = memoryview(request)
        self._answer = answer

    @property
    def has_all(self) -> bool:
        """Whether all is sent that was to be sent."""
        return not self._unsent

    @property
    def events(self) -> int:
        """What to wait for, as :mod:`selectors` has it."""
        return selectors.EVENT_READ | (selectors.EVENT_WRITE if self._unsent else 0)

    def go_on(self, events: int) -> None:
        """Send and receive without waiting.

        Args:
            events: that came.

        Raises:
            ConnectionError: nothing more will come.
        """
        with suppress(BlockingIOError):
            if events & selectors.EVENT_WRITE:
                self._send()
            if events & selectors.EVENT_READ:
                self.receive()

    def wait_briefly(self) -> None:
        """Receive, and wait a moment for it; of a channel that was let wait.

        Most runs of a worker are over by then, and to be woken for each thing that they do takes longer.
        """
        with suppress(BlockingIOError, InterruptedError, ConnectionError):
            self._receive(calls.receive_briefly)
            if self._unsent:  # an answer
                self._send()
                self._receive(calls.receive_briefly)
            if self.messages.idle is None:  # that was not all
                self.receive()

    def _send(self) -> None:
        sent = self.channel.send(self._unsent[:CHUNK_BYTES], NO_SIGNAL | calls.DO_NOT_WAIT)
        self._unsent = self._unsent[sent:]
        self._hang_up_when_broken()

    def receive(self) -> None:
        """Take in what has come.

        Raises:
            BlockingIOError: nothing has.
            ConnectionError: nothing will.
        """
        self._receive(_received)

    def _receive(self, receive: Callable[[socket.socket], bytes]) -> None:
        try:
            chunk = receive(self.channel)
        except ConnectionResetError:  # unix_release_sock() in net/unix/af_unix.c: there was more for it to read
            self.messages.not_read()
            raise
        if not chunk:
            if self._unsent:
                self.messages.not_read()
            raise ConnectionResetError
        if question := self.messages.feed(chunk):
            self._unsent = memoryview(bytes(self._unsent) + wire.frame(self._answer(question)))
        self._hang_up_when_broken()

    def _hang_up_when_broken(self) -> None:
        """Whoever waits for an answer is not to wait for ever; what comes is still read, and thrown away."""
        if self.messages.broken and not self._unsent:
            with suppress(OSError):
                self.channel.shutdown(socket.SHUT_WR)
