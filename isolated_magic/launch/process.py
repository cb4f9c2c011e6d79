"""What ties the owner to the process that keeps a run (see ``child/reaper.py``): orders down, news up."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING

from isolated_magic.child import process_tree, signals, wire
from isolated_magic.launch.resources import explain_errno

if TYPE_CHECKING:
    from collections.abc import Callable


# A program may have SIGPIPE at its default, which would kill it where a process of ours has ended. macOS has no
# such flag; Python itself ignores the signal unless the program says otherwise.
NO_SIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))
CHUNK_BYTES = 4096
DEATH_TIMEOUT_SECS = 2.0  # a process in uninterruptible sleep takes longer


def send_descriptors(channel: socket.socket, word: bytes, descriptors: list[int]) -> None:
    """Send a word with descriptors; socket.send_fds() would pass no flags on.

    Raises:
        OSError: the other end was closed, or takes no more.
    """
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    channel.sendmsg([word], [rights], NO_SIGNAL)


class ProcessHandle:
    """Our end of the handle of one run. Orders may be given from any thread; one thread takes in the news.

    Args:
        end: of the socket pair, whose other end the keeper has.
    """

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.killed = False
        self.interrupted = False
        self.pid: int | None = None
        self.created_at: float | None = None
        self.exit_status: int | None = None
        self.cpu_secs = 0.0
        self.failure: str | None = None
        self.lost: str | None = None  # why nobody could say how it ended, where that is known
        self.memory_exceeded = False  # as its keeper says
        self.peak_memory_bytes: int | None = None  # likewise
        self.is_over = False
        self._descriptor: int | None = None
        self._said = b""

    def kill(self) -> None:
        """Ask for the end of the process and of all below it: at once, any number of times."""
        self.killed = True
        self._order(wire.KILL)

    def interrupt(self) -> None:
        """Ask the process to end as Ctrl-C does, and see to it that it does (see ``child/reaper.py``)."""
        self.interrupted = True
        self._order(wire.INTERRUPT)

    def ask_for_stack(self) -> bool:
        """Have the process write its stacks to its channel (see ``child/signals.py``). Whether it was asked."""
        if signals.STACK_SIGNAL is None or self.is_over:
            return False
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, signals.STACK_SIGNAL)
                return True
            if self.pid is not None and sys.platform == "darwin":  # where it does nothing to anybody else
                os.kill(self.pid, signals.STACK_SIGNAL)
                return True
        except OSError:  # it has ended, or became another user
            pass
        return False

    def _order(self, word: bytes) -> None:
        with suppress(OSError):  # it has ended already
            self.socket.send(word, NO_SIGNAL)

    def lives(self) -> bool:
        """Whether the process lives, as far as its keeper has said and nobody has taken in."""
        try:
            said = self.socket.recv(CHUNK_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(said) and b"exit" not in said and b"failed" not in said

    def take_news(self, on_created: Callable[[int], None]) -> None:
        """Take in what the keeper has said.

        Raises:
            BlockingIOError: nothing, so far.
            TimeoutError: likewise, for a socket with a timeout.
        """
        try:
            said, descriptors, _, _ = socket.recv_fds(self.socket, CHUNK_BYTES, 1)
        except ConnectionError:
            said, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
            self._descriptor = descriptor
        if not said:
            self.is_over = True  # its keeper was lost
            self.kill_without_keeper()
            return
        self._said += said
        while b"\n" in self._said:
            line, _, self._said = self._said.partition(b"\n")
            word, _, rest = line.decode().partition(" ")
            self._on_word(word, rest, on_created)

    def _on_word(self, word: str, rest: str, on_created: Callable[[int], None]) -> None:
        if word == "pid":
            self.pid, self.created_at = int(rest), time.monotonic()
            on_created(self.pid)
        elif word == "exit":
            status, _, cpu_secs = rest.partition(" ")
            self.exit_status, self.cpu_secs, self.is_over = int(status), float(cpu_secs), True
        else:
            number, _, open_files = rest.partition(" ")
            self.failure = explain_errno(int(number), "the process that keeps runs", int(open_files))
            self.is_over = True

    def kill_without_keeper(self) -> None:
        """Kill the process and all below it ourselves: whatever keeps it was lost, or does not obey.

        Waits for the end of the process, where the system says when that is, but not for long.
        """
        if self.pid is None:
            return
        if self._descriptor is not None:
            process_tree.kill([self.pid], self._descriptor)
            ended = select.poll()  # unlike select(), it takes descriptors of any number
            ended.register(self._descriptor, select.POLLIN)
            ended.poll(DEATH_TIMEOUT_SECS * 1000)
            return
        with suppress(OSError):
            # A run leads a session: somebody else who has its pid by now hardly ever does.
            if os.getsid(self.pid) == self.pid:
                process_tree.kill([self.pid])

    def close(self) -> None:
        """Let go. What still runs is killed by whatever keeps it."""
        self.socket.close()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
