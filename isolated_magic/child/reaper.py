"""The parent of runs: forks them, reaps them, kills all that they started, and dies with its owner.

The owner (the kernel, or whatever program uses the library) keeps one end of a control socket. For each run it
sends one byte and four descriptors: a handle, the run's channel, its stdout and its stderr. The keeper forks; the
fork takes all else that it needs from the channel, so that a run's environment never passes through a process
that outlives it. For a spare, whose run is yet to come, the fork has time: it waits until a run has ended, not to
take the processor from one that goes on, but not for long. A last request asks the keeper to leave when the runs
that go on have ended.

On the handle the keeper writes ``pid N``, with a descriptor of the process where the system has such a thing, then
``exit STATUS CPU_SECS`` when the run and everything that it started are gone, or ``failed ERRNO OPEN_FILES``, with
its own limit of open files. It reads there INTERRUPT, to ask the run to end (see ``reaper.py``), or KILL. The end
of the stream, which the owner's death brings about as well, means KILL too.

On Linux both the keeper and each run are subreapers (prctl(2), PR_SET_CHILD_SUBREAPER): an orphan goes to its run
while that lives, whatever session it made for itself, and to the keeper afterwards. A child of the keeper that is
no live run is therefore always a leftover of a run that ended. All but those that clean up after others are killed
at once; these see their pipe closed then, and have a second for what they are there for.
"""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from io import FileIO
from typing import TYPE_CHECKING, NamedTuple

from . import process_tree, signals, wire

if TYPE_CHECKING:
    from collections.abc import Iterable


SWEEP_TIMEOUT_SECS = 1.5  # a process in uninterruptible sleep cannot be waited for
SWEEP_AGAIN_SECS = 0.2
CLEANUP_TIMEOUT_SECS = 1.0  # an interpreter that was started just now needs some of it
END_TIMEOUT_SECS = 30.0  # for processes that multiply faster than they are killed, at first
DESCRIPTORS_PER_RUN = 4
HAS_SUBREAPERS = sys.platform == "linux"
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SPARE_DELAY_SECS = 0.005
LONGEST_WAIT_SECS = 1e6  # poll(2) takes an int of milliseconds


class Connection(NamedTuple):
    """A fork's ends of what ties it to the owner, as descriptors."""

    channel: int
    stdout: int
    stderr: int


def _load_prctl():  # type: ignore[no-untyped-def]  # noqa: ANN202 - ctypes is loaded on Linux only
    if not HAS_SUBREAPERS:
        return lambda *_: 0
    import ctypes  # noqa: PLC0415 - 5 ms that only Linux has to pay

    return ctypes.CDLL(None, use_errno=True).prctl


_prctl = _load_prctl()  # type: ignore[no-untyped-call]  # a function of C


def become_subreaper() -> None:
    """Have the orphans below this process handed to it, where the system can."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Ended(NamedTuple):
    """Runs that ended, whose owners are told when nothing is left of them.

    Args:
        runs: the handle of each and what to say on it.
        cleaners: pids of processes that still clean up after them.
    """

    runs: list[tuple[socket.socket, str]]
    cleaners: set[int]


class Reaper:
    """The loop and what it knows.

    Args:
        control: the socket on which the owner asks for runs.
        owner: a descriptor that becomes readable when the owner ends, None where the system has no such thing.
        idle_secs: seconds without a run and without a request for one, after which the keeper ends by itself.
    """

    def __init__(self, control: socket.socket, owner: int | None, idle_secs: float = math.inf) -> None:
        self.control = control
        self.runs: dict[int, socket.socket] = {}
        self.ended: list[tuple[int, socket.socket, str]] = []
        self.owner = owner
        self.idle_secs = idle_secs
        self.retired = False
        self.pages: list[int] = []
        self.stubborn: set[int] = set()
        self.cleaners: dict[int, float] = {}  # by pid, until when
        self.new_cleaners: set[int] = set()  # of the runs in `ended`
        self.untold: list[Ended] = []
        self.children = process_tree.OwnChildren()
        self.ladders = Ladders()
        self.spares: deque[list[int]] = deque()
        self.poll = select.poll()
        self.wakeup = signals.wake_on_child()
        self.room: int | None = None
        self._make_room()
        for descriptor in (control, owner, self.wakeup):
            if descriptor is not None:
                self.poll.register(descriptor, select.POLLIN)

    def serve(self) -> Connection | None:
        """Work until the owner is gone, lets go, or asks for nothing any more; then kill what still runs.

        Returns:
            None when the work is over; in each fork its connection, at once.
        """
        while not self._is_over():
            ready = self.poll.poll(self._timeout_ms())
            if not ready and not (self.spares or self.runs or self.stubborn or self.cleaners):
                break
            connection = None
            for descriptor, _ in ready:
                if descriptor == self.control.fileno():
                    connection = self._accept()
                elif descriptor == self.wakeup:
                    signals.drain(self.wakeup)
                elif descriptor != self.owner:
                    self._obey(descriptor)
                if connection is not None:
                    return connection
            _kill(self.ladders.climb())
            if self.stubborn and not ready:
                self._sweep()
            if (self._settle() or not ready) and self.spares:
                connection = self._fork(*self.spares.popleft())
                if connection is not None:
                    return connection
        self._end()
        return None

    def _timeout_ms(self) -> float | None:
        waits = [self.ladders.secs_to_next_step()]
        if self.spares:
            waits.append(SPARE_DELAY_SECS)
        elif self.stubborn or self.cleaners:
            waits.append(SWEEP_AGAIN_SECS)
        elif not self.runs:
            waits.append(self.idle_secs)
        secs = min(waits)
        return None if secs > LONGEST_WAIT_SECS else secs * 1000

    def forget(self) -> None:
        """In a fork: what the keeper has open is not the fork's to close through these objects."""
        signal.set_wakeup_fd(-1)
        self.control.detach()
        for handle in self.runs.values():
            handle.detach()
        self.spares.clear()

    def _is_over(self) -> bool:
        if self.retired and not (self.runs or self.untold):
            return True
        return self.owner is not None and bool(select.select([self.owner], [], [], 0)[0])

    def _accept(self) -> Connection | None:
        """Start the run that the owner asks for; in the fork, its connection."""
        if self.room is not None:
            os.close(self.room)
        byte, descriptors, _, _ = socket.recv_fds(self.control, 1, DESCRIPTORS_PER_RUN)
        self._make_room()
        if not byte:  # the owner has let go
            self._end()
            self.retired = True
        elif byte == wire.RETIRE:
            self.retired = True
        elif byte == wire.PAGES:
            self.pages = json.loads(wire.read_frame(FileIO(self.control.fileno(), "r", closefd=False)))
        elif len(descriptors) == DESCRIPTORS_PER_RUN:
            for descriptor in descriptors:
                os.set_inheritable(descriptor, False)
            if byte == wire.RUN:
                return self._fork(*descriptors)
            self.spares.append(descriptors)
            if len(self.spares) > 1:  # the one before may be in use by now
                return self._fork(*self.spares.popleft())
        else:
            self._refuse(descriptors)
        return None

    def _make_room(self) -> None:
        """Hold a descriptor that can be given up for the handle of a run: on it we say why there is none."""
        try:
            self.room = os.dup(self.wakeup)
        except OSError:
            self.room = None

    def _refuse(self, descriptors: list[int]) -> None:
        """Say that there are too few descriptors: the kernel drops those that do not fit under the limit."""
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        for descriptor in descriptors[:1]:
            with socket.socket(fileno=descriptor) as handle:
                tell_failure(handle, errno.EMFILE)
        if self.room is None:
            self._make_room()

    def _fork(self, handle_fd: int, channel: int, stdout: int, stderr: int) -> Connection | None:
        connection = Connection(channel, stdout, stderr)
        handle = socket.socket(fileno=handle_fd)
        try:
            pid = os.fork()
        except OSError as problem:
            tell_failure(handle, problem.errno or 0)
            handle.close()
            pid = -1
        if pid == 0:
            handle.detach()
            return connection
        for descriptor in connection:
            os.close(descriptor)
        if pid > 0:
            self.runs[pid] = handle
            self.poll.register(handle, select.POLLIN)
            tell_pid(handle, pid)
        return None

    def _obey(self, descriptor: int) -> None:
        """Do to a run what its owner asks for on its handle."""
        for pid, handle in self.runs.items():
            if handle.fileno() == descriptor:
                if orders(handle) == {*wire.INTERRUPT}:
                    self.ladders.begin(pid)
                else:
                    self.poll.unregister(handle)  # it may stay readable: once is enough
                    self.ladders.end(pid)
                    _kill([pid])
                return

    def _settle(self) -> bool:
        """Reap what ended, leave nothing of it behind, and only then tell the owner. Whether anybody was told."""
        self._reap()
        if not (self.ended or self.untold):
            return False
        if not HAS_SUBREAPERS:  # orphans are not handed to us: of those, what stayed in its group is all we find
            for pid, _, _ in self.ended:
                process_tree.kill_group(pid)
        self._sweep()
        if self.ended:
            self.untold.append(Ended([run[1:] for run in self.ended], self.new_cleaners))
            self.ended, self.new_cleaners = [], set()
        there = self.cleaners.keys() - self.stubborn
        done = [batch for batch in self.untold if there.isdisjoint(batch.cleaners)]
        for batch in done:
            self.untold.remove(batch)
            for handle, end in batch.runs:
                tell(handle, f"exit {end}")
                handle.close()
        return bool(done)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.ladders.end(pid)
                self.cleaners.pop(pid, None)
                if pid in self.runs:
                    with suppress(KeyError):
                        self.poll.unregister(self.runs[pid])
                    end = f"{os.waitstatus_to_exitcode(status)} {used.ru_utime + used.ru_stime:.3f}"
                    self.ended.append((pid, self.runs.pop(pid), end))

    def _sweep(self) -> None:
        """Kill every child that is no live run, until there is none. What is left after a while is tried again."""
        deadline = time.monotonic() + SWEEP_TIMEOUT_SECS
        while orphans := self._orphans():
            process_tree.kill(orphans, spares=bool(self.ended))
            left = deadline - time.monotonic()
            if left <= 0 or self.stubborn.issuperset(orphans):  # one that cannot be killed holds up one run alone
                self.stubborn.update(orphans)
                return
            select.select([self.wakeup], [], [], min(left, 0.05))
            signals.drain(self.wakeup)
            self._reap()
        self.stubborn.clear()

    def _orphans(self) -> list[int]:
        """Children that are no live run, but for those that clean up after one and still have time for it."""
        found = [pid for pid in self.children.pids() if pid not in self.runs]
        if not found:
            return found
        self._reap()  # a run that has ended by now may have left what cleans up; what comes later may not stay
        there = set(self.children.pids())
        for pid in there.intersection(found) - self.cleaners.keys() if self.ended else ():
            if process_tree.cleans_up(pid):
                self.cleaners[pid] = time.monotonic() + CLEANUP_TIMEOUT_SECS
                self.new_cleaners.add(pid)
        now = time.monotonic()
        return [pid for pid in found if pid in there and self.cleaners.get(pid, 0.0) <= now]

    def _end(self) -> None:
        _kill(self.runs)
        deadline = time.monotonic() + END_TIMEOUT_SECS
        while (self.runs or self.children.pids()) and time.monotonic() < deadline:
            self._settle()
            self._sweep()
            select.select([self.wakeup], [], [], 0.05)
            signals.drain(self.wakeup)
            self._reap()
        self._settle()


def _kill(pids: Iterable[int]) -> None:
    """Kill children of this process, which it has not reaped, and see to what is below them."""
    if not HAS_SUBREAPERS:
        return process_tree.kill(pids)
    for pid in pids:  # their children become ours, and the sweep gets them
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return None


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


INTERRUPT_GRACE_SECS = 0.8  # for `finally` blocks, after what Ctrl-C sends in a terminal
TERMINATE_GRACE_SECS = 0.4

STEPS = ((signal.SIGINT, INTERRUPT_GRACE_SECS), (signal.SIGTERM, TERMINATE_GRACE_SECS))


class Ladders:
    """The runs that were asked to end and have not ended yet.

    Each leads a process group, which its parent, who uses this, has not reaped: the signals go to nobody else.
    """

    def __init__(self) -> None:
        self._next: dict[int, tuple[float, int]] = {}  # by pid: when to take the next step, and which

    def begin(self, pid: int) -> None:
        """Ask a run to end; once more changes nothing.

        Args:
            pid: of its process.
        """
        if pid not in self._next:
            self._take(pid, 0)

    def end(self, pid: int) -> None:
        """The run has ended, or is being killed.

        Args:
            pid: of its process.
        """
        self._next.pop(pid, None)

    def secs_to_next_step(self) -> float:
        """How long until :meth:`climb` has something to do; infinity when it will not have."""
        due = min((when for when, _ in self._next.values()), default=math.inf)
        return max(0.0, due - time.monotonic())

    def climb(self) -> list[int]:
        """Take the steps that are due.

        Returns:
            The pids of the runs for which there is none left: they have to be killed.
        """
        now = time.monotonic()
        due = [(pid, step) for pid, (when, step) in self._next.items() if when <= now]
        for pid, step in due:
            if step < len(STEPS):
                self._take(pid, step)
            else:
                self.end(pid)
        return [pid for pid, step in due if step == len(STEPS)]

    def _take(self, pid: int, step: int) -> None:
        number, grace_secs = STEPS[step]
        try:
            os.killpg(pid, number)
        except ProcessLookupError:  # it has not made its group yet
            os.kill(pid, number)
        except PermissionError:  # it became another user
            return
        finally:
            self._next[pid] = time.monotonic() + grace_secs, step + 1
