"""Signals: when a run can be interrupted, what wakes a keeper, and how a run tells where its code is.

Interrupts are held back while our own code runs: Python would show a traceback of its start, or of our program.
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
    """Have an interrupt wait for :class:`UsersCode`. For a process that has one thread."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, _SIGINT)


class _UsersCode:
    """Inside this block an interrupt raises KeyboardInterrupt, one that came before it too; after it none does."""

    def __init__(self) -> None:
        self._handler: object = None

    def __enter__(self) -> None:
        self.resume()
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, _SIGINT)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        handler = _signal.getsignal(_signal.SIGINT)
        if handler is not None:  # else it was not set by Python, and Python could not set it again
            # Not blocked: the code may have threads, and what one of them is sent the main thread handles.
            _signal.signal(_signal.SIGINT, _signal.SIG_IGN)
            self._handler = handler

    def resume(self) -> None:
        """Have interrupts do what the code wanted, for as long as the process lasts."""
        if self._handler is not None:
            _signal.signal(_signal.SIGINT, self._handler)
            self._handler = None

    def forget(self) -> None:
        """What the code wanted is over."""
        self._handler = None


users_code = _UsersCode()


PUT_ASIDE = (
    _signal.SIGINT,
    _signal.SIGHUP,
    _signal.SIGTERM,
    _signal.SIGPIPE,
)  # a keeper ends with its owner alone


def watch_process(pid: int) -> int | None:
    """A descriptor that becomes readable when that process ends, where the system has such a thing.

    The control socket alone is not enough: a fork of the owner that lives on keeps its end open.

    Args:
        pid: of the owner.
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
    """A descriptor that becomes readable when a child changes state; stray signals are put aside."""
    readable, writable = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) if sys.platform == "linux" else os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    _signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    for number in PUT_ASIDE:
        _signal.signal(number, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    return readable


def drain(descriptor: int) -> None:
    """Take in what woke us.

    Args:
        descriptor: from :func:`wake_on_child`.
    """
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
    """Have the stacks written there whenever the signal comes.

    Args:
        channel: a descriptor.
    """
    if STACK_SIGNAL is None:
        return
    try:
        faulthandler.register(STACK_SIGNAL, file=channel, all_threads=True)
    except (RuntimeError, OSError, ValueError):  # then nobody will be told
        return
