"""The reaper: forks runs, reaps them, kills all that they started, and dies with its owner.

The owner (a kernel, or any program that uses the library) keeps one end of a control socket. For each run it sends
one byte and four descriptors: a handle, the run's channel, its stdout and its stderr. The reaper forks, and the
fork reads everything else from the channel: a run's environment never passes through a process that outlives the
run. A spare is forked ahead of its run. It waits until another run has ended, not to take the processor from one,
but not for long. The last request asks the reaper to end with the runs that still go on.

On the handle the reaper writes ``pid N``, with a pidfd where the system has them, then ``exit STATUS CPU_SECS``
when the run and everything that it started are gone; or ``failed ERRNO OPEN_FILES``, with its own limit of open
files. It reads there INTERRUPT, which asks the run to end (:class:`Escalations`), or KILL. End of file, which the
owner's death causes too, means KILL.

On Linux the reaper and each run are subreapers (PR_SET_CHILD_SUBREAPER(2const)): an orphan goes to its run while
that lives, whatever session it made for itself, and to the reaper afterwards. So a child of the reaper that is no
live run is always a leftover of a run that ended. Leftovers are killed at once, except resource trackers: they see
their pipe close, and have three seconds to clean up.
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
CLEANUP_TIMEOUT_SECS = 3.0  # an interpreter that was started just now needs some of it, on a busy machine all
END_TIMEOUT_SECS = 30.0  # for processes that multiply faster than they are killed, at first
DESCRIPTORS_PER_RUN = 4
HAS_SUBREAPERS = sys.platform == "linux"
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
SPARE_DELAY_SECS = 0.005
LONGEST_WAIT_SECS = 1e6  # poll(2) takes an int of milliseconds
STEPS = ((signal.SIGINT, 0.8), (signal.SIGTERM, 0.4))  # of an escalation, and the seconds to heed each


class Connection(NamedTuple):
    """A fork's ends of what ties it to the owner, as descriptors."""

    channel: int
    stdout: int
    stderr: int


if HAS_SUBREAPERS:
    import ctypes  # 5 ms that only Linux has to pay

    _prctl = ctypes.CDLL(None, use_errno=True).prctl


def become_subreaper() -> None:
    """Have orphans below this process reparented to it, where the system can."""
    if HAS_SUBREAPERS:
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class _Ended(NamedTuple):
    """Runs that ended: the handle of each, its last message, and the resource trackers to wait for before it."""

    runs: list[tuple[socket.socket, str]]
    trackers: set[int]


class Reaper:
    """The loop of a reaper.

    Args:
        control: the socket on which the owner asks for runs.
        owner: a descriptor that becomes readable when the owner ends, None where the system has no such thing.
        idle_secs: seconds without a run or a request after which the reaper ends by itself.
    """

    def __init__(self, control: socket.socket, owner: int | None, idle_secs: float = math.inf) -> None:
        self.control = control
        self.runs: dict[int, socket.socket] = {}
        self.ended: list[tuple[int, socket.socket, str]] = []
        self.owner = owner
        self.idle_secs = idle_secs
        self.retired = False
        self.pages: list[int] = []
        self.unkillable: set[int] = set()
        self.trackers: dict[int, float] = {}  # resource trackers of ended runs, by pid: when they are killed
        self.new_trackers: set[int] = set()  # of the runs in `ended`
        self.unreported: list[_Ended] = []
        self.children = process_tree.OwnChildren()
        self.escalations = Escalations()
        self.spares: deque[list[int]] = deque()
        self.poll = select.poll()
        self.wakeup = signals.wake_on_child()
        self.reserve: int | None = None
        self._hold_reserve()
        for descriptor in (control, owner, self.wakeup):
            if descriptor is not None:
                self.poll.register(descriptor, select.POLLIN)

    def serve(self) -> Connection | None:
        """Serve until the owner is gone, closes the socket, or has been idle too long; then kill what still runs.

        Returns:
            In each fork, at once: its connection. In the reaper: None, when all is over.
        """
        while not self._is_over():
            ready = self.poll.poll(self._timeout_ms())
            if not ready and not (self.spares or self.runs or self.unkillable or self.trackers):
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
            _kill(self.escalations.take_steps())
            if self.unkillable and not ready:
                self._sweep()
            if (self._settle() or not ready) and self.spares:
                connection = self._fork(*self.spares.popleft())
                if connection is not None:
                    return connection
        self._end()
        return None

    def _timeout_ms(self) -> float | None:
        waits = [self.escalations.secs_to_next_step()]
        if self.spares:
            waits.append(SPARE_DELAY_SECS)
        elif self.unkillable or self.trackers:
            waits.append(SWEEP_AGAIN_SECS)
        elif not self.runs:
            waits.append(self.idle_secs)
        secs = min(waits)
        return None if secs > LONGEST_WAIT_SECS else secs * 1000

    def forget(self) -> None:
        """In a fork: let go of the sockets without closing them; their numbers may be somebody else's by now."""
        signal.set_wakeup_fd(-1)
        self.control.detach()
        for handle in self.runs.values():
            handle.detach()
        self.spares.clear()

    def _is_over(self) -> bool:
        if self.retired and not (self.runs or self.unreported):
            return True
        return self.owner is not None and bool(select.select([self.owner], [], [], 0)[0])

    def _accept(self) -> Connection | None:
        """Do what the owner asks for; in a fork that it makes, the connection of that."""
        if self.reserve is not None:
            os.close(self.reserve)
        byte, descriptors, _, _ = socket.recv_fds(self.control, 1, DESCRIPTORS_PER_RUN)
        self._hold_reserve()
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

    def _hold_reserve(self) -> None:
        """Hold a descriptor to give up when there are too few for a run: its handle takes the report."""
        try:
            self.reserve = os.dup(self.wakeup)
        except OSError:
            self.reserve = None

    def _refuse(self, descriptors: list[int]) -> None:
        """Report too few descriptors: the kernel drops those that exceed the limit (unix(7), SCM_RIGHTS)."""
        for descriptor in descriptors[1:]:
            os.close(descriptor)
        for descriptor in descriptors[:1]:
            with socket.socket(fileno=descriptor) as handle:
                _report_failure(handle, errno.EMFILE)
        if self.reserve is None:
            self._hold_reserve()

    def _fork(self, handle_fd: int, channel: int, stdout: int, stderr: int) -> Connection | None:
        connection = Connection(channel, stdout, stderr)
        handle = socket.socket(fileno=handle_fd)
        try:
            pid = os.fork()
        except OSError as problem:
            _report_failure(handle, problem.errno)
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
            _report_pid(handle, pid)
        return None

    def _obey(self, descriptor: int) -> None:
        """Interrupt or kill a run, as the owner asks on its handle."""
        for pid, handle in self.runs.items():
            if handle.fileno() == descriptor:
                if _read_orders(handle) == {*wire.INTERRUPT}:
                    self.escalations.begin(pid)
                else:
                    self.poll.unregister(handle)  # it may stay readable: once is enough
                    self.escalations.end(pid)
                    _kill([pid])
                return

    def _settle(self) -> bool:
        """Reap what ended, kill what it left behind, and only then report it. Whether anything was reported."""
        self._reap()
        if not (self.ended or self.unreported):
            return False
        if not HAS_SUBREAPERS:  # orphans are not reparented to us: we find only those in the run's group
            for pid, _, _ in self.ended:
                process_tree.kill_group(pid)
        self._sweep()
        if self.ended:
            self.unreported.append(_Ended([run[1:] for run in self.ended], self.new_trackers))
            self.ended, self.new_trackers = [], set()
        there = self.trackers.keys() - self.unkillable
        done = [batch for batch in self.unreported if there.isdisjoint(batch.trackers)]
        for batch in done:
            self.unreported.remove(batch)
            for handle, end in batch.runs:
                _report(handle, f"exit {end}")
                handle.close()
        return bool(done)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                self.escalations.end(pid)
                self.trackers.pop(pid, None)
                if pid in self.runs:
                    with suppress(KeyError):
                        self.poll.unregister(self.runs[pid])
                    end = f"{os.waitstatus_to_exitcode(status)} {used.ru_utime + used.ru_stime:.3f}"
                    self.ended.append((pid, self.runs.pop(pid), end))

    def _sweep(self) -> None:
        """Kill leftovers until there are none. What survives for too long is tried again later."""
        deadline = time.monotonic() + SWEEP_TIMEOUT_SECS
        while orphans := self._orphans():
            process_tree.kill(orphans, spare_trackers=bool(self.ended))
            left = deadline - time.monotonic()
            if left <= 0 or self.unkillable.issuperset(orphans):  # an unkillable one delays one report
                self.unkillable.update(orphans)
                return
            select.select([self.wakeup], [], [], min(left, 0.05))
            signals.drain(self.wakeup)
            self._reap()
        self.unkillable.clear()

    def _orphans(self) -> list[int]:
        """Children that are no live run, except resource trackers that still have time."""
        found = [pid for pid in self.children.pids() if pid not in self.runs]
        if not found:
            return found
        self._reap()  # a run that has ended by now may have left a tracker; one that comes later may not stay
        there = set(self.children.pids())
        for pid in there.intersection(found) - self.trackers.keys() if self.ended else ():
            if process_tree.is_resource_tracker(pid):
                self.trackers[pid] = time.monotonic() + CLEANUP_TIMEOUT_SECS
                self.new_trackers.add(pid)
        now = time.monotonic()
        return [pid for pid in found if pid in there and self.trackers.get(pid, 0.0) <= now]

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
    """Kill children of this process that it has not reaped, and with them what is below."""
    if not HAS_SUBREAPERS:
        return process_tree.kill(pids)
    for pid in pids:  # their children are reparented to us, and swept
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    return None


def _read_orders(handle: socket.socket) -> set[int]:
    """The bytes of what the owner asks for; none when it is gone."""
    try:
        return set(handle.recv(64))
    except OSError:
        return set()


def _report_pid(handle: socket.socket, pid: int) -> None:
    """Report the process, with a pidfd: the number may belong to another by the time that the owner reads it."""
    try:
        descriptor = os.pidfd_open(pid)
    except (OSError, AttributeError):
        return _report(handle, f"pid {pid}")
    try:
        with suppress(OSError):
            socket.send_fds(handle, [b"pid %d\n" % pid], [descriptor])
    finally:
        os.close(descriptor)
    return None


def _report_failure(handle: socket.socket, number: int | None) -> None:
    open_files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    _report(handle, f"failed {number or 0} {open_files}")


def _report(handle: socket.socket, line: str) -> None:
    with suppress(OSError):  # the owner closed its end: it no longer wants to know
        handle.sendall(line.encode() + b"\n")


class Escalations:
    """Runs that were asked to end: by SIGINT, then by SIGTERM, and last they have to be killed.

    Each leads a process group, and its parent, who uses this, has not reaped it: nobody else gets the signals.
    """

    def __init__(self) -> None:
        self._next: dict[int, tuple[float, int]] = {}  # by pid: when to take the next step, and which

    def begin(self, pid: int) -> None:
        """Ask a run to end; again changes nothing."""
        if pid not in self._next:
            self._take(pid, 0)

    def end(self, pid: int) -> None:
        """The run has ended, or is being killed."""
        self._next.pop(pid, None)

    def secs_to_next_step(self) -> float:
        """How long until :meth:`take_steps` has something to do; infinity for never."""
        due = min((when for when, _ in self._next.values()), default=math.inf)
        return max(0.0, due - time.monotonic())

    def take_steps(self) -> list[int]:
        """Take the steps that are due; the pids of the runs that have had all of them."""
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
