"""The owner's handle on one run's process: orders go down to its reaper, news comes up (``child/reaper.py``)."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from array import array
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

from isolated_magic.child import process_tree, signals, wire
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.resources import explain_errno

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# A program may have set SIGPIPE to its default: to write to a process of ours that has ended would kill it. macOS
# has no such flag; Python ignores the signal unless the program says otherwise.
NO_SIGNAL = int(getattr(socket, "MSG_NOSIGNAL", 0))
CLOSE_ON_EXEC = int(getattr(socket, "MSG_CMSG_CLOEXEC", 0))  # which socket.recv_fds() does not pass on
CHUNK_BYTES = 4096
INT_BYTES = array("i").itemsize
DEATH_TIMEOUT_SECS = 2.0  # a process in uninterruptible sleep takes longer
MOST_LEAVING = 16  # processes whose descriptors are kept before it is looked which of them are gone


def send_descriptors(channel: socket.socket, word: bytes, descriptors: list[int]) -> None:
    """Send a word with descriptors, of which the other end gets copies; socket.send_fds() passes no flags on."""
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
    channel.sendmsg([word], [rights], NO_SIGNAL)


class Leaving:
    """The processes of runs that are over, but for the system's part; their reapers see them gone."""

    def __init__(self) -> None:
        self._descriptors: deque[int] = deque()
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        forget_in_forks(self)

    def add(self, descriptor: int) -> None:
        """Take over a pidfd."""
        with self._lock:
            self._descriptors.append(descriptor)
            if len(self._descriptors) > MOST_LEAVING:
                self._close(_ended(self._descriptors, 0))

    def wait(self, timeout_secs: float) -> None:
        """Wait until all of them are gone, or for so many seconds."""
        deadline = time.monotonic() + timeout_secs
        while self._descriptors:
            ended = _ended([*self._descriptors], deadline - time.monotonic())  # without the lock: others add
            with self._lock:
                self._close(ended)
            if time.monotonic() > deadline:
                return

    def _close(self, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            if descriptor in self._descriptors:  # otherwise another thread has closed it
                self._descriptors.remove(descriptor)
                os.close(descriptor)

    def forget(self) -> None:
        """In a fork of the owner: they are processes of the original."""
        self._lock = threading.RLock()
        self._close(list(self._descriptors))


def _ended(descriptors: Iterable[int], timeout_secs: float) -> list[int]:
    """Those of these pidfds whose processes have ended, as soon as there is one."""
    poll = select.poll()  # unlike select(), it takes any descriptor number
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0.0, timeout_secs) * 1000)]


leaving = Leaving()


class ProcessHandle:
    """Our end of a socket pair with the reaper of one run. Any thread may give orders; one takes in the news."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.killed = False
        self.interrupted = False
        self.pid: int | None = None
        self.created_at: float | None = None
        self.exit_status: int | None = None
        self.cpu_secs = 0.0
        self.failure: str | None = None
        self.lost: str | None = None  # why it is not known how it ended
        self.memory_exceeded = False  # as its reaper says, as the next
        self.peak_memory_bytes: int | None = None
        self.is_over = False
        self.is_leaving = False  # its run is over, and it has nothing more to do
        self._descriptor: int | None = None
        self._said = b""

    def kill(self) -> None:
        """Have the process and all its descendants killed; may be called any number of times."""
        self.killed = True
        self._order(wire.KILL)

    def interrupt(self) -> None:
        """Have the process interrupted as by Ctrl-C, and killed if it does not heed that (``child/reaper.py``)."""
        self.interrupted = True
        self._order(wire.INTERRUPT)

    def ask_for_stack(self) -> bool:
        """Have the process write its stacks to its channel (``child/signals.py``); False if it cannot be asked."""
        if signals.STACK_SIGNAL is None or self.is_over:
            return False
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, signals.STACK_SIGNAL)
                return True
            if (
                self.pid is not None and sys.platform == "darwin"
            ):  # where the signal does no harm to another process
                os.kill(self.pid, signals.STACK_SIGNAL)
                return True
        except OSError:  # it has ended, or has become another user
            pass
        return False

    @property
    def can_leave(self) -> bool:
        """Whether it may be left to its reaper once it says that it is through: nobody has ended it."""
        return self._descriptor is not None and not (self.killed or self.interrupted)

    def _order(self, word: bytes) -> None:
        with suppress(OSError):  # it has ended already
            self.socket.send(word, NO_SIGNAL)

    def lives(self) -> bool:
        """Whether the process lives, according to the news that is not taken in yet."""
        try:
            said = self.socket.recv(CHUNK_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(said) and b"exit" not in said and b"failed" not in said

    def take_news(self, on_created: Callable[[int], None]) -> None:
        """Take in what the reaper has said. If that is nothing: BlockingIOError, TimeoutError with a timeout."""
        try:
            said, ancillary, _, _ = self.socket.recvmsg(CHUNK_BYTES, socket.CMSG_LEN(INT_BYTES), CLOSE_ON_EXEC)
        except ConnectionError:
            said, ancillary = b"", []
        for _, _, descriptor in ancillary:
            self._descriptor = int.from_bytes(descriptor, sys.byteorder)
            if not CLOSE_ON_EXEC:
                os.set_inheritable(self._descriptor, False)
        if not said:
            self.is_over = True  # its reaper was lost
            self.kill_without_reaper()
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
            self.failure = explain_errno(int(number), "the guardian process", int(open_files))
            self.is_over = True

    def kill_without_reaper(self) -> None:
        """Kill the process and all its descendants ourselves, and wait a moment for that if the system can."""
        if self.pid is None:
            return
        if self._descriptor is not None:
            process_tree.kill([self.pid], self._descriptor)
            _ended([self._descriptor], DEATH_TIMEOUT_SECS)
            return
        with suppress(OSError):
            # A run leads a session; a process that got its pid since hardly ever does.
            if os.getsid(self.pid) == self.pid:
                process_tree.kill([self.pid])

    def kill_and_wait(self, on_created: Callable[[int], None], timeout_secs: float) -> None:
        """Have the process killed; wait until its reaper says that nothing is left, or is silent for so long."""
        self.kill()
        self.socket.settimeout(timeout_secs)
        try:
            while not self.is_over:
                self.take_news(on_created)
        except OSError:
            self.kill_without_reaper()

    def close(self) -> None:
        """Close our ends. The reaper kills what still runs."""
        self.socket.close()
        if self._descriptor is not None:
            if self.is_leaving:
                leaving.add(self._descriptor)
            else:
                os.close(self._descriptor)
            self._descriptor = None
