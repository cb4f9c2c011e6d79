"""In a process of a pool: the executors that run the chunks which come to it as tasks."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.distributed.chunk import Cancelled, Failed
from isolated_magic.distributed.lease import (
    ANSWER,
    BEGUN,
    CALL,
    ENDED,
    GO,
    HELLO,
    NEWS,
    STOP,
    WELCOME,
    LeaseAddress,
    packed,
    this_machine,
    unpacked,
)
from isolated_magic.distributed.worker import WorkerExecutor
from isolated_magic.errors import IsolatedError, LaunchError
from isolated_magic.executors.row_values import exception_text
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from types import FrameType

    from isolated_magic.distributed.chunk import Chunk, Outcome
    from isolated_magic.executors.isolated import LaunchSettings

NEWS_SECS = 0.002, 0.05  # between two looks for something new: they get longer
LONGEST_GATHERING_SECS = 60.0  # the executor's word comes before that


class Home(NamedTuple):
    """Whose chunks they are.

    Args:
        executor: id.
        pid: of its process.
        settings: how runs start.
        lease: see :class:`Lease`; None if there is none.
    """

    executor: str
    pid: int
    settings: LaunchSettings
    lease: LeaseAddress | None


class _Post:
    """What this process does for one executor.

    Raises:
        OSError: that executor is gone.
    """

    def __init__(self, home: Home) -> None:
        self._home = home
        self._runner = WorkerExecutor(home.settings, None, f"{socket.gethostname()}:{os.getpid()}")
        self._chunks: set[str] = set()  # that run now
        self._heard: set[str] = set()  # what those who waited for it may go on with
        self._is_ended = False
        self._lock = threading.RLock()
        self._sending = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._socket: socket.socket | None = None
        if home.lease is not None and home.lease.machine == this_machine():
            self._socket = socket.socket(socket.AF_UNIX)
            try:
                self._socket.connect(home.lease.socket)
                self._socket.sendall(f"{HELLO} {home.lease.token}\n".encode())
                start_thread(self._listen, "isolated_magic lease")
            except BaseException:
                self._socket.close()
                raise
            self.wait_for(WELCOME)
            if self._is_ended:
                raise ConnectionResetError

    def run(self, chunk: Chunk) -> Outcome:
        with self._lock:
            if self._is_ended:
                return Cancelled()
            self._chunks.add(chunk.id)
        self._tell(BEGUN, chunk.id)
        try:
            if chunk.is_followed and self._socket is not None:
                with suppress(LaunchError):  # it all comes with the results
                    start_thread(lambda: self._tell_news(chunk.id), "isolated_magic news")
            return self._runner.run_chunk(chunk)
        finally:
            with self._lock:
                self._chunks.discard(chunk.id)
            self._tell(ENDED, chunk.id)

    def wait_for(self, name: str) -> None:
        with self._lock:
            if self._socket is not None:
                self._changed.wait_for(lambda: name in self._heard or self._is_ended, LONGEST_GATHERING_SECS)

    def _tell(self, word: str, *words: str) -> None:
        if self._socket is not None:
            # Without an executor there is nobody to tell, which the other thread sees, too.
            with self._sending, suppress(OSError):
                self._socket.sendall(f"{' '.join((word, *words))}\n".encode())

    def _tell_news(self, chunk_id: str) -> None:
        """Tell what a chunk shows, as long as it runs. The rest comes with its results."""
        number = 0
        wait_secs, longest_secs = NEWS_SECS
        while chunk_id in self._chunks:
            news = self._runner.news_of(chunk_id, number)
            if news:
                self._tell(NEWS, chunk_id, str(number), packed(news))
                number += len(news)
                wait_secs = NEWS_SECS[0]
            time.sleep(wait_secs)
            wait_secs = min(wait_secs * 1.5, longest_secs)

    def _call(self, number: str, packed_call: str) -> None:
        method, args = unpacked(packed_call)
        self._tell(ANSWER, number, packed(getattr(self._runner, method)(*args)))

    def warm_up(self, timeout_secs: float) -> bool:
        return self._runner.warm_up(timeout_secs)

    def _listen(self) -> None:
        assert self._socket is not None  # noqa: S101 - else there is nothing to listen to
        with suppress(OSError), self._socket.makefile(encoding="ascii") as lines:
            for line in lines:
                order, _, name = line.rstrip("\n").partition(" ")
                if order == STOP:
                    self._runner.stop_chunk(name)
                elif order == GO:
                    with self._lock:
                        self._heard.add(name)
                        self._changed.notify_all()
                elif order == CALL:
                    number, _, call = name.partition(" ")
                    with suppress(LaunchError):  # it is not answered
                        start_thread(partial(self._call, number, call), "isolated_magic call")
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._is_ended = True
            self._changed.notify_all()
            chunks = [*self._chunks]
        _posts.pop(self._home.executor)
        for chunk_id in chunks:
            self._runner.stop_chunk(chunk_id)
        self._runner.teardown()
        self.close()

    def close(self) -> None:
        """Tell the executor that nothing runs here any more."""
        if self._socket is not None:
            self._socket.close()


class _Posts:
    """Those of this process, by the id of the executor."""

    def __init__(self) -> None:
        self._posts: dict[str, _Post] = {}
        self._lock = threading.RLock()
        forget_in_forks(self)

    def of(self, home: Home) -> _Post:
        """Raises OSError if the executor is gone."""
        with self._lock:
            post = self._posts.get(home.executor)
            if post is None:
                post = self._posts[home.executor] = _Post(home)
            return post

    def pop(self, executor_id: str) -> None:
        with self._lock:
            self._posts.pop(executor_id, None)

    def __len__(self) -> int:
        return len(self._posts)

    def forget(self) -> None:
        self._lock = threading.RLock()
        for post in self._posts.values():
            post.close()
        self._posts = {}


_posts = _Posts()


def run_chunk(chunk: Chunk, home: Home) -> Outcome:
    """The task: run a chunk."""
    outlive_interrupts(home)
    try:
        return _posts.of(home).run(chunk)
    except OSError:
        return Cancelled()  # nobody waits for it
    except IsolatedError as problem:
        return Failed(exception_text(problem))


def gather(name: str, warm_up_secs: float, home: Home) -> bool:
    """The task: wait for the other processes of the pool, then make runs fast; whether they are."""
    outlive_interrupts(home)
    try:
        post = _posts.of(home)
    except OSError:
        return False
    post.wait_for(name)
    return not warm_up_secs or post.warm_up(warm_up_secs)


def outlive_interrupts(home: Home) -> None:
    """Have this process outlive a SIGINT as long as it runs chunks for somebody.

    Ctrl-C in a terminal and a notebook's stop go to all processes of their group, those of a pool among them; an
    idle one ends, and breaks the pool. What runs is stopped by the executor that it runs for.
    """
    is_own = os.getpid() != home.pid and threading.current_thread() is threading.main_thread()
    if is_own and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    if not _posts:
        signal.default_int_handler(number, frame)
