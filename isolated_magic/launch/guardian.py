"""The owner's end of the guardian, the process that keeps every run (see ``child/guardian.py``)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path

from isolated_magic import child
from isolated_magic.errors import LaunchError

PROGRAM = str(Path(child.__file__).with_name("start.py"))

REQUEST = b"r"  # one byte a run: a stream never joins two of them when descriptors go along
_LOST = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)

SEND_TIMEOUT_SECS = 10.0  # a guardian that takes no request for so long is stopped or starved
CLOSE_TIMEOUT_SECS = 2.0

# All that the guardian is started with: its environment must not hold a secret of the caller's.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


class Guardian:
    """Starts the guardian when it is first needed, and again when it was lost."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        _instances.add(self)

    def start_run(self, descriptors: list[int]) -> None:
        """Have a process forked around these descriptors.

        Args:
            descriptors: the child's ends of channel, stdout, stderr and handle.

        Raises:
            LaunchError: the guardian cannot be started or does not answer.
        """
        try:
            control = self._connected()
            try:
                socket.send_fds(control, [REQUEST], descriptors)
            except OSError as problem:
                if problem.errno not in _LOST:
                    raise
                self._drop(control)  # it was killed, or another thread closed it: a new one takes its place
                socket.send_fds(self._connected(), [REQUEST], descriptors)
        except OSError as problem:
            raise LaunchError(f"No process could be started: {problem.strerror or problem}.") from problem

    def _connected(self) -> socket.socket:
        with self._lock:
            if self._control is None:
                self._control = self._start()
            return self._control

    def _start(self) -> socket.socket:
        if not sys.executable:
            raise LaunchError("No process could be started: sys.executable does not name a Python interpreter.")
        with contextlib.ExitStack() as on_failure:
            ours, theirs = socket.socketpair()
            on_failure.enter_context(ours).settimeout(SEND_TIMEOUT_SECS)
            with theirs:
                self._process = _spawn(theirs.fileno())
            on_failure.pop_all()
        return ours

    def _drop(self, control: socket.socket) -> None:
        if control is self._control:
            self.close()

    def close(self) -> None:
        """Let the guardian go: it kills what still runs and ends. Waits for that, but not for ever."""
        with self._lock:
            control, process = self._control, self._process
            self._control = self._process = None
        if control is not None:
            control.close()
        if process is not None:
            try:
                process.wait(CLOSE_TIMEOUT_SECS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def forget(self) -> None:
        """In a fork of the owner: the guardian belongs to the original. Close our copies and start afresh."""
        self._lock = threading.RLock()  # another thread may have held it when the process forked
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.returncode = 0  # not our child: there is nothing to wait for
        self._control = self._process = None


def _spawn(control: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own program
        # -S -s: no site-packages, which it does not need and which cost most of an interpreter's start.
        [sys.executable, "-S", "-s", PROGRAM, "guardian", str(control), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _INHERITED if name in os.environ},
        pass_fds=[control],
        start_new_session=True,
    )


_instances: weakref.WeakSet[Guardian] = weakref.WeakSet()


def _forget_all() -> None:
    for guardian in list(_instances):
        guardian.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
