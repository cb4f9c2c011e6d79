"""The owner's end of the guardian, the process that forks, watches and ends every run (``child/guardian.py``)."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic import child
from isolated_magic.child import wire
from isolated_magic.child.process_state import credentials
from isolated_magic.errors import LaunchError
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.process import send_descriptors
from isolated_magic.launch.resources import launch_error, memory_limit_note

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = str(Path(child.__file__).with_name("start.py"))

LOST = (errno.EPIPE, errno.ECONNRESET, errno.EBADF)

START_TIMEOUT_SECS = 30.0
SEND_TIMEOUT_SECS = 10.0  # a guardian that takes no request for so long is stopped or starved
CLOSE_TIMEOUT_SECS = 2.0

# Its whole environment: any process of this user can read it, so no secret of the caller's may be in it.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "PYTHONHOME")


class Guardian:
    """Starts the guardian process when it is first needed, and again when it is lost."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._running: _GuardianProcess | None = None
        forget_in_forks(self)

    def start(self) -> None:
        """Start it ahead of what needs it; LaunchError if it fails or does not answer, OSError for a shortage."""
        self._ensure_running()

    def start_run(self, descriptors: list[int]) -> None:
        """Have a process forked around these descriptors; LaunchError if the guardian fails or does not answer."""
        try:
            running = self._ensure_running()
            try:
                running.send(descriptors)
            except OSError as problem:
                if problem.errno not in LOST:
                    raise
                self._drop(running)  # it was killed, or another thread closed it: a new one takes its place
                self._ensure_running().send(descriptors)
        except OSError as problem:
            raise launch_error(problem) from problem

    def _ensure_running(self) -> _GuardianProcess:
        with self._lock:
            running = self._running
            if running is not None and running.credentials != credentials():
                self._drop(running)  # this process has become another user
            if self._running is None:
                self._running = _start()
            return self._running

    def _drop(self, running: _GuardianProcess) -> None:
        with self._lock:
            if running is not self._running:  # another thread replaced it, and closes it
                return
            self._running = None
        running.close()

    def release(self) -> Callable[[], None]:
        """Start a new guardian from now on; the function returned ends the old one and what still runs on it."""
        with self._lock:
            running, self._running = self._running, None
        return running.close if running is not None else lambda: None

    def close(self) -> None:
        """End the guardian, which kills what still runs. Waits for that, but not for ever."""
        self.release()()

    def forget(self) -> None:
        """In a fork of the owner: close our copies and start afresh; the guardian belongs to the original."""
        self._lock = threading.RLock()
        if self._running is not None:
            self._running.control.close()
            self._running.process.returncode = 0  # not our child: there is nothing to wait for
        self._running = None


@dataclass(frozen=True)
class _GuardianProcess:
    """A running guardian: its process, our end of its control socket, and its credentials."""

    process: subprocess.Popen[bytes]
    control: socket.socket
    credentials: tuple[object, ...]
    sending: threading.RLock = field(default_factory=threading.RLock)  # re-entered by a signal handler, too

    def send(self, descriptors: list[int]) -> None:
        with self.sending:
            send_descriptors(self.control, wire.RUN, descriptors)

    def close(self) -> None:
        with suppress(OSError):  # it is gone
            self.control.shutdown(socket.SHUT_RDWR)  # another thread may be sending
        with self.sending:  # the descriptor's number may be reused at once
            self.control.close()
        try:
            self.process.wait(CLOSE_TIMEOUT_SECS)
        except BaseException as problem:  # it hangs, or we were interrupted: leave no zombie
            self.process.kill()
            self.process.wait()
            if not isinstance(problem, subprocess.TimeoutExpired):
                raise


def _start() -> _GuardianProcess:
    if not sys.executable:
        raise LaunchError("No process could be started: sys.executable does not name a Python interpreter.")
    with contextlib.ExitStack() as on_failure:
        ours, theirs = socket.socketpair()
        on_failure.enter_context(ours).settimeout(START_TIMEOUT_SECS)
        with theirs:
            process = _spawn(theirs.fileno())
        running = _GuardianProcess(process, ours, credentials())
        on_failure.callback(running.close)
        with process.stderr or contextlib.nullcontext() as stderr:
            try:
                is_ready = bool(ours.recv(len(wire.GUARDIAN_READY)))
            except TimeoutError:
                raise _not_started(f"it took more than {START_TIMEOUT_SECS:g} seconds", "") from None
            if not is_ready:
                said = stderr.read().decode(errors="replace").strip() if stderr else ""
                running.close()
                raise _not_started(f"exit status {process.returncode}", said)
        ours.settimeout(SEND_TIMEOUT_SECS)
        on_failure.pop_all()
    return running


def _not_started(how: str, said: str) -> LaunchError:
    lines = said.splitlines()
    fatal = next((line for line in lines if line.startswith("Fatal Python error")), lines[-1] if lines else "")
    because = f": {fatal.strip()}" if fatal else ""
    return LaunchError(f"The guardian process failed to start ({how}{because}).{memory_limit_note()}")


def _spawn(control: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own program
        # -S -s: no site-packages, which it does not need and which cost most of an interpreter's start.
        [sys.executable, "-S", "-s", PROGRAM, "guardian", str(control), str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,  # until it is ready
        env={name: os.environ[name] for name in _INHERITED if name in os.environ},
        pass_fds=[control],
        start_new_session=True,
    )
