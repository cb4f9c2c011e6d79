"""The parent of every run: forks it, reaps it, kills all that it started, and dies with its owner.

The owner (the kernel, or whatever program uses the library) starts one guardian and keeps one end of a
control socket. For each run it sends one byte and four descriptors: the run's channel, its stdout, its
stderr and a handle. The guardian forks; the fork reads what to start from the channel, so that a run's
environment never passes through a process that outlives it, and becomes that interpreter.

On the handle the guardian writes ``pid N``, then ``exit STATUS`` when the run and everything that it started
are gone, or ``failed MESSAGE``. Anything it reads there means: kill. So does the end of the stream, which the
owner's death brings about as well.

On Linux both the guardian and each run are subreapers (prctl(2), PR_SET_CHILD_SUBREAPER): an orphan goes to
its run while that lives, whatever session it made for itself, and to the guardian afterwards. A child of the
guardian that is no live run is therefore always a leftover of a run that ended.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from io import FileIO
from typing import Any

from . import process_tree, wire

SWEEP_TIMEOUT_SECS = 1.5  # a process in uninterruptible sleep cannot be waited for
DESCRIPTORS_PER_RUN = 4
HAS_SUBREAPERS = sys.platform == "linux"
PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def _load_prctl():  # type: ignore[no-untyped-def]  # noqa: ANN202 - ctypes is loaded on Linux only
    if not HAS_SUBREAPERS:
        return lambda *_: 0
    import ctypes  # noqa: PLC0415 - 5 ms that only Linux has to pay

    return ctypes.CDLL(None, use_errno=True).prctl


_ignored = {number for number in signal.valid_signals() if signal.getsignal(number) is signal.SIG_IGN}
_prctl = _load_prctl()  # type: ignore[no-untyped-call]  # a function of C


class Guardian:
    """The loop and what it knows.

    Args:
        control: the socket on which the owner asks for runs.
        owner_pid: whose death ends everything.
    """

    def __init__(self, control: socket.socket, owner_pid: int) -> None:
        self.control = control
        self.runs: dict[int, socket.socket] = {}
        self.ended: list[tuple[int, socket.socket, int]] = []
        self.poll = select.poll()
        self.poll.register(control, select.POLLIN)
        self.owner = _watch(owner_pid)
        if self.owner is not None:
            self.poll.register(self.owner, select.POLLIN)
        self.wakeup = _wake_on_child()
        self.poll.register(self.wakeup, select.POLLIN)

    def serve(self) -> None:
        """Work until the owner is gone or lets go; then kill what still runs."""
        while self._owner_lives():
            for descriptor, _ in self.poll.poll():
                if descriptor == self.control.fileno():
                    if not self._accept():
                        return self._end()
                elif descriptor == self.wakeup:
                    _drain(self.wakeup)
                elif descriptor != self.owner:
                    self._kill_run_of(descriptor)
            self._settle()
        return self._end()

    def _owner_lives(self) -> bool:
        return self.owner is None or not select.select([self.owner], [], [], 0)[0]

    def _accept(self) -> bool:
        """Start the run that the owner asks for; False when the owner has let go."""
        byte, descriptors, _, _ = socket.recv_fds(self.control, 1, DESCRIPTORS_PER_RUN)
        if not byte:
            return False
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if len(descriptors) == DESCRIPTORS_PER_RUN:
            self._fork(*descriptors)
        else:  # the kernel drops what does not fit under the limit of open files
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _fork(self, channel: int, stdout: int, stderr: int, handle_fd: int) -> None:
        handle = socket.socket(fileno=handle_fd)
        try:
            pid = os.fork()
        except OSError as problem:
            _tell(handle, f"failed the system refused a new process: {os.strerror(problem.errno or 0)}")
            handle.close()
            return
        else:
            if pid == 0:
                try:
                    _become_run(channel, stdout, stderr)
                finally:
                    os._exit(127)
        finally:
            for descriptor in (channel, stdout, stderr):
                os.close(descriptor)
        self.runs[pid] = handle
        self.poll.register(handle, select.POLLIN)
        _tell(handle, f"pid {pid}")

    def _kill_run_of(self, descriptor: int) -> None:
        for pid, handle in self.runs.items():
            if handle.fileno() == descriptor:
                self.poll.unregister(handle)  # it stays readable: once is enough
                process_tree.kill([pid])
                return

    def _settle(self) -> None:
        """Reap what ended, leave nothing of it behind, and only then tell the owner."""
        self._reap()
        if not self.ended:
            return
        if not HAS_SUBREAPERS:  # orphans are not handed to us: of those, what stayed in its group is all we find
            for pid, _, _ in self.ended:
                process_tree.kill_group(pid)
        self._sweep()
        for _, handle, status in self.ended:
            with suppress(KeyError):
                self.poll.unregister(handle)
            _tell(handle, f"exit {status}")
            handle.close()
        self.ended.clear()

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid in self.runs:
                    self.ended.append((pid, self.runs.pop(pid), os.waitstatus_to_exitcode(status)))

    def _sweep(self) -> None:
        """Kill every child that is no live run, until there is none."""
        deadline = time.monotonic() + SWEEP_TIMEOUT_SECS
        while orphans := [pid for pid in process_tree.children(os.getpid()) if pid not in self.runs]:
            process_tree.kill(orphans)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            select.select([self.wakeup], [], [], min(left, 0.05))
            _drain(self.wakeup)
            self._reap()

    def _end(self) -> None:
        process_tree.kill(self.runs)
        deadline = time.monotonic() + SWEEP_TIMEOUT_SECS
        while self.runs and time.monotonic() < deadline:
            self._settle()
            select.select([self.wakeup], [], [], 0.05)
            _drain(self.wakeup)
        self._sweep()


def _watch(pid: int) -> int | None:
    """A descriptor that becomes readable when that process ends, where the system has such a thing.

    The control socket alone is not enough: a fork of the owner that lives on keeps its end open.
    """
    if sys.platform != "linux":
        return None
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        sys.exit(0)
    except OSError:  # an old kernel, or a sandbox that forbids it
        return None
    if os.getppid() != pid:  # it ended before the line above and the pid went to somebody else
        sys.exit(0)
    return descriptor


def _wake_on_child() -> int:
    """A descriptor that becomes readable when a child changes state; stray signals are put aside."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if sys.platform == "linux" else os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
        _ignored.add(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return readable


def _drain(descriptor: int) -> None:
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def _tell(handle: socket.socket, line: str) -> None:
    with suppress(OSError):  # the owner closed its end: it no longer wants to know
        handle.sendall(line.encode() + b"\n")


def _become_run(channel: int, stdout: int, stderr: int) -> None:
    """In the fork: read what to start, then become it. Never returns."""
    stream = FileIO(channel, "r+", closefd=False)
    try:
        launch = json.loads(wire.read_frame(stream))
        os.setsid()
        _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _reset_signals()
        os.chdir(launch["cwd"])
        _take_on(launch["attributes"])
        _limit_stack(launch["stack_bytes"])
        _connect(channel, stdout, stderr)
        environment = {
            name.encode("latin-1"): value.encode("latin-1") for name, value in launch["environment"].items()
        }
        argv = [launch["executable"], launch["program"], "run", str(channel)]
        os.execve(launch["executable"], argv, environment)  # noqa: S606 - starting it is what we are for
    except OSError as problem:
        failure = {"errno": errno.errorcode.get(problem.errno or 0), "path": problem.filename}
        failure["reason"] = os.strerror(problem.errno or 0)
        wire.write_frame(stream, json.dumps({"not_started": failure}).encode())


def _reset_signals() -> None:
    # exec resets every signal but those that are ignored. A guardian that was started from a kernel's subshell
    # inherits SIGINT ignored, and it ignores more by itself.
    for number in _ignored:
        signal.signal(number, signal.SIG_DFL)


def _take_on(attributes: dict[str, Any]) -> None:
    """Have what a child of the owner's would have inherited from it (see ``launch/attributes.py``)."""
    if attributes["umask"] is not None:
        os.umask(attributes["umask"])
    for number, soft, hard in attributes["limits"]:
        if resource.getrlimit(number) != (soft, hard):
            with suppress(ValueError, OSError):  # the owner may do more than we can, and some are fixed
                resource.setrlimit(number, (soft, hard))
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, attributes["nice"])
    if attributes["affinity"] is not None and sys.platform == "linux":
        with suppress(OSError):
            os.sched_setaffinity(0, attributes["affinity"])


def _limit_stack(stack_bytes: int) -> None:
    # Before exec: the kernel lays the address space out by the limit it finds then (setrlimit(2)).
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY:
        stack_bytes = min(stack_bytes, hard)
    with suppress(ValueError, OSError):  # macOS refuses some sizes: the run then has the inherited limit
        resource.setrlimit(resource.RLIMIT_STACK, (stack_bytes, stack_bytes))


def _connect(channel: int, stdout: int, stderr: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    for descriptor, target in ((null, 0), (stdout, 1), (stderr, 2)):
        os.dup2(descriptor, target)  # inheritable, unlike its source
    os.set_inheritable(channel, True)


def main(args: list[str]) -> int:
    """Be the guardian.

    Args:
        args: the descriptor of the control socket and the pid of the owner.
    """
    _prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.chdir("/")  # not to hold a file system that the user wants to unmount
    control = socket.socket(fileno=int(args[0]))
    control.set_inheritable(False)
    Guardian(control, int(args[1])).serve()
    return 0
