"""Signals: interrupts of a run, the signal for its stacks, and what wakes a process that waits for children.

An interrupt may only reach the user's code: in our own it would show a traceback of this program.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums, whose import costs each run 7 ms
import faulthandler
import os
import sys

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from types import TracebackType


_SIGINT = (_signal.SIGINT,)


def hold_interrupts() -> None:
    """Block interrupts until ``users_code`` is entered. For a process that has one thread."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGINT)


class _UsersCode:
    """In this block an interrupt raises KeyboardInterrupt, even one that came before it; after it none does."""

    def __init__(self) -> None:
        self._handler: object = None

    def __enter__(self) -> None:
        self.resume()
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _SIGINT)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        handler = _signal.getsignal(_signal.SIGINT)
        if handler is not None:  # otherwise it was not set by Python, which could not set it again
            # Ignored, not blocked: the main thread handles also what a thread of the code's receives.
            _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
            self._handler = handler

    def resume(self) -> None:
        """Install the handler again that the code has left, until the process ends."""
        if self._handler is not None:
            _signal.signal(_signal.SIGINT, self._handler)
            self._handler = None

    def forget(self) -> None:
        """Do not install that handler again."""
        self._handler = None


users_code = _UsersCode()


# What a guardian, a fork server or a container's first process ignores: they end with their owner alone.
IGNORED_WHILE_WAITING = (_signal.SIGINT, _signal.SIGHUP, _signal.SIGTERM, _signal.SIGPIPE)


def watch_process(pid: int) -> int | None:
    """A descriptor that becomes readable when the owner ends; None where the system has no such thing.

    The control socket alone is not enough: a fork that outlives the owner keeps its end open.
    """
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        sys.exit(0)
    except OSError:  # an old kernel, or a sandbox that forbids it
        return None


def wake_on_child() -> int:
    """A descriptor that becomes readable when a child changes state. Stray signals are ignored from now on."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if sys.platform == "linux" else os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    _signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    for number in IGNORED_WHILE_WAITING:
        _signal.signal(number, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    return readable


def drain(descriptor: int) -> None:
    """Read what made the descriptor of :func:`wake_on_child` readable."""
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        return


# On this signal faulthandler (Modules/faulthandler.c) writes the stacks to the channel. Its handler is in C and
# needs neither the interpreter's lock nor memory, so it works in the middle of a long call too, and no code of the
# user's can be in its way. What it writes is text and no frame: the owner asks for it when time is up, after which
# no frame is of interest. Hardly anybody uses this signal. macOS has no numbered ones, but one for this purpose.
STACK_SIGNAL: int | None = getattr(_signal, "SIGRTMAX", None) or getattr(_signal, "SIGINFO", None)


def write_stacks_on_signal(channel: int) -> None:
    """Have the stacks written to this descriptor whenever the signal comes."""
    if STACK_SIGNAL is None:
        return
    try:
        faulthandler.register(STACK_SIGNAL, file=channel, all_threads=True)
    except (RuntimeError, OSError, ValueError):  # then there will be no stacks
        return
