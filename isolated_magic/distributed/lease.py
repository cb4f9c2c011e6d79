"""What an executor holds while its runs may go on in other processes of this machine.

The processes of a pool take tasks and give results, and cannot be told anything while a task runs. So each
connects to a socket of the executor when it gets its first chunk. It is told there which chunks to stop. When the
connection ends, as the executor was torn down or its process died, it kills all that it runs for that executor.
It tells which chunks it runs, as not all futures know that: some can be cancelled while their task runs. It tells
what a run shows, and can be asked to call a method of its executor.
"""

from __future__ import annotations

import base64
import itertools
import os
import pickle
import secrets
import selectors
import socket
import struct
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from isolated_magic.distributed.news import News

SEND_SECS = 1.0  # for a process that does not read, once its buffer is full
BACKLOG = 128
MOST_BYTES = 1 << 16  # that are read at once
MOST_STOPPED = 4096  # chunks that may still come to a process
MOST_RELEASED = 16
# First words of lines. What the executor tells: stop a chunk, go on, call a method.
STOP, GO, CALL = "stop", "go", "call"
# What a process tells: the token, a chunk has begun or ended, what a followed one shows, the answer to a call.
HELLO, BEGUN, ENDED, NEWS, ANSWER = "hello", "begun", "ended", "news", "answer"
WELCOME = ""  # what a process waits for before it begins: it has been told of all chunks stopped so far


class LeaseAddress(NamedTuple):
    """Where processes of the same machine connect to.

    Args:
        machine: the one whose processes can, as :func:`this_machine` has it.
        socket: a path, or a name that is in no folder: it begins with a null character.
        token: what they say first. Others of this user can find the socket, such as the code of a run.
    """

    machine: str
    socket: str
    token: str


def this_machine() -> str:
    """What processes have in common that can connect to each other's sockets, and others have not."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.stat('/proc/self/ns/net').st_ino}"  # noqa: PTH116 - of what the link means
    except OSError:
        return socket.gethostname()


def packed(value: object) -> str:
    """A value as a word of a line."""
    return base64.b64encode(pickle.dumps(value)).decode()


def unpacked(word: str) -> Any:  # noqa: ANN401 - what was packed
    """See :func:`packed`."""
    return pickle.loads(base64.b64decode(word))  # noqa: S301 - of this user's executor or pool, which exchange pickles anyway


@dataclass(eq=False)
class _Holder:
    """A process that runs chunks."""

    socket: socket.socket
    name: str
    is_known: bool = False  # it has said the token; until then, nothing else counts
    unread: bytearray = field(default_factory=bytearray)  # the beginning of a line
    chunks: set[str] = field(default_factory=set)

    def tell(self, orders: Collection[tuple[str, str]]) -> None:
        """Give it orders. One that does not read them is left: to it, the executor has ended."""
        try:
            self.socket.sendall("".join(f"{order} {name}\n" for order, name in orders).encode())
        except OSError:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)

    def hang_up(self) -> None:
        """The executor ends. What the process still has to say is read."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    def read(self) -> list[list[str]] | None:
        """The words of the lines that have come; None if it has gone."""
        try:
            received = self.socket.recv(MOST_BYTES)
        except OSError:
            return None
        self.unread += received
        if b"\n" not in received:
            return [] if received else None
        *lines, self.unread = self.unread.split(b"\n")
        return [line.decode().split(" ") for line in lines]


@dataclass(eq=False)
class _Question:
    """A call that has not been answered by all."""

    waits_for: set[_Holder]
    until: float
    answered: Callable[[dict[str, object]], object]
    answers: dict[str, object] = field(default_factory=dict)


class Lease:
    """The executor's end. Thread-safe; a fork of this process does not hold it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._folder = ""
        if sys.platform == "linux":
            name = f"\0isolated_magic-{secrets.token_hex(16)}"
        else:
            self._folder = tempfile.mkdtemp(prefix="isolated_magic-")  # for this user alone
            name = str(Path(self._folder, "lease"))
        self.address = LeaseAddress(this_machine(), name, secrets.token_hex(16))
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(name)
        self._listener.listen(BACKLOG)
        self._listener.settimeout(0)
        self._woken, self._waker = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        for each in (self._listener, self._woken):
            self._selector.register(each, selectors.EVENT_READ)
        self._holders: dict[socket.socket, _Holder] = {}  # one for each process
        self._stopped: dict[str, None] = {}  # chunks that have not ended, for those who connect later
        self._released: deque[str] = deque(maxlen=MOST_RELEASED)  # for those who connect later, too
        self._followers: dict[str, Callable[[int, Sequence[News]], object]] = {}  # by chunk
        self._questions: dict[str, _Question] = {}  # by their numbers
        self._numbers = itertools.count()
        self._is_closed = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        forget_in_forks(self)
        start_thread(self._serve, "isolated_magic lease")

    def stop(self, chunk_ids: Collection[str]) -> None:
        """Have these chunks stopped, wherever they run or are about to."""
        with self._lock:
            self._stopped.update(dict.fromkeys(chunk_ids))
            while len(self._stopped) > MOST_STOPPED:
                del self._stopped[next(iter(self._stopped))]
            for holder in self._holders.values():
                holder.tell([(STOP, chunk_id) for chunk_id in chunk_ids])

    def has_ended(self, chunk_id: str, *, may_come: bool) -> None:
        """The future of this chunk has ended; its task may come to a process nevertheless."""
        with self._lock:
            self._followers.pop(chunk_id, None)
            if not may_come:
                self._stopped.pop(chunk_id, None)

    def runs(self, chunk_id: str) -> bool:
        """Whether a process has begun with this chunk."""
        with self._lock:
            return any(chunk_id in holder.chunks for holder in self._holders.values())

    def follow(self, chunk_id: str, told: Callable[[int, Sequence[News]], object]) -> None:
        """Tell news of a followed chunk until it has ended."""
        with self._lock:
            self._followers[chunk_id] = told

    def ask(
        self,
        method: str,
        args: tuple[object, ...],
        timeout_secs: float,
        answered: Callable[[dict[str, object]], object],
        only: str = "",
    ) -> None:
        """Have all processes, or one, call a method of their executor. Does not wait.

        Args:
            method: its name.
            args: its arguments.
            timeout_secs: to wait for answers.
            answered: called, from any thread, with those that came, by the names of the processes.
            only: name of the one process.
        """
        number = str(next(self._numbers))
        with self._lock:
            holders = {holder for holder in self._holders.values() if only in {"", holder.name}}
            if holders and not self._is_closed:
                self._questions[number] = _Question(holders, time.monotonic() + timeout_secs, answered)
                for holder in holders:
                    holder.tell([(CALL, f"{number} {packed((method, args))}")])
                self._waker.send(b"\0")  # for the time to wait
                return
        answered({})

    def settle(self, dispatch: str, timeout_secs: float) -> None:
        """Wait until no chunk of an evaluation runs."""
        with self._lock:
            self._changed.wait_for(lambda: not self._runs(dispatch), timeout_secs)

    def _runs(self, dispatch: str) -> bool:
        chunks = (chunk_id for holder in self._holders.values() for chunk_id in holder.chunks)
        return any(chunk_id.startswith(dispatch) for chunk_id in chunks)

    def gather(self, count: int, quiet_secs: float, timeout_secs: float) -> None:
        """Wait until so many processes hold it, or none has come for a while.

        Args:
            count: of processes.
            quiet_secs: to wait for the next one.
            timeout_secs: to wait for the first one.
        """
        with self._lock:
            there = len(self._holders)
            while there < count:
                wait_secs = quiet_secs if there else timeout_secs
                if not self._changed.wait_for(lambda there=there: len(self._holders) > there, wait_secs):  # type: ignore[misc]
                    return
                there = len(self._holders)

    def release(self, name: str) -> None:
        """Let those go on who wait for this."""
        with self._lock:
            self._released.append(name)
            for holder in self._holders.values():
                holder.tell([(GO, name)])

    def close(self, timeout_secs: float) -> None:
        """End it, and wait until nothing runs any more in those who held it."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            for holder in self._holders.values():
                holder.hang_up()
            self._changed.wait_for(lambda: not self._holders, timeout_secs)
            self._waker.close()

    def forget(self) -> None:
        """In a fork: its processes wait for the end of this process, not of all its forks."""
        self._lock = threading.RLock()
        self._is_closed = True
        self._close_all()

    def _close_all(self) -> None:
        for each in (*self._holders, self._listener, self._woken, self._waker):
            each.close()
        self._holders.clear()
        self._selector.close()
        if self._folder and os.getpid() == self._pid:
            with suppress(OSError):
                Path(self.address.socket).unlink()
                Path(self._folder).rmdir()

    # In its thread.

    def _serve(self) -> None:
        while True:
            with self._lock:
                until = min((each.until for each in self._questions.values()), default=None)
            wait_secs = None if until is None else max(0.0, until - time.monotonic())
            for key, _ in self._selector.select(wait_secs):
                found = key.fileobj
                assert isinstance(found, socket.socket)  # noqa: S101 - nothing else is registered
                if found is self._woken:
                    if self._woken.recv(MOST_BYTES):
                        continue
                    with self._lock:
                        self._close_all()
                    self._answer_all()
                    return
                if found is self._listener:
                    self._accept()
                else:
                    self._read(found)
            self._answer_all()

    def _answer_all(self) -> None:
        """End the questions that have been answered, or will not be."""
        now = time.monotonic()
        with self._lock:
            there = {*self._holders.values()}
            ended = [
                number
                for number, question in self._questions.items()
                if not question.waits_for & there or question.until <= now
            ]
            questions = [self._questions.pop(number) for number in ended]
        for question in questions:
            question.answered(question.answers)

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it has left, or there are no descriptors
            return
        if not _is_ours(connection):
            connection.close()
            return
        connection.settimeout(SEND_SECS)
        holder = _Holder(connection, f"process {next(self._numbers)}")
        with self._lock:
            self._holders[connection] = holder
            self._selector.register(connection, selectors.EVENT_READ)
            stops = [(STOP, chunk_id) for chunk_id in self._stopped]
            holder.tell([*stops, *((GO, name) for name in (*self._released, WELCOME))])
            if self._is_closed:
                holder.hang_up()
            self._changed.notify_all()

    def _read(self, connection: socket.socket) -> None:
        with self._lock:
            holder = self._holders[connection]
            lines = holder.read()
            if lines is None:
                self._selector.unregister(connection)
                del self._holders[connection]
                connection.close()
            for line in lines or ():
                self._take(holder, *line)
            self._changed.notify_all()

    def _take(self, holder: _Holder, first: str, *words: str) -> None:
        """A process has told something."""
        if not holder.is_known:
            holder.is_known = [first, *words] == [HELLO, self.address.token]
            return
        match first, *words:
            case word, chunk_id if word == BEGUN:
                holder.chunks.add(chunk_id)
            case word, chunk_id if word == ENDED:
                holder.chunks.discard(chunk_id)
            case word, chunk_id, number, news if word == NEWS and chunk_id in self._followers:
                self._followers[chunk_id](int(number), unpacked(news))
            case word, number, answer if word == ANSWER and number in self._questions:
                question = self._questions[number]
                question.waits_for.discard(holder)
                question.answers[holder.name] = unpacked(answer)


def _is_ours(connection: socket.socket) -> bool:
    """Whether it belongs to this user; elsewhere than on Linux, nobody else can open the folder."""
    if sys.platform != "linux":
        return True
    size = struct.calcsize("3i")
    _pid, user, _group = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return bool(user == os.geteuid())
