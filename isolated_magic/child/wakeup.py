"""What wakes a keeper: the end of a child, and the end of its owner."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

PUT_ASIDE = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE)  # a keeper ends with its owner alone


def watch(pid: int) -> int | None:
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
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in PUT_ASIDE:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return readable


def drain(descriptor: int) -> None:
    """Take in what woke us.

    Args:
        descriptor: from :func:`wake_on_child`.
    """
    with suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass
