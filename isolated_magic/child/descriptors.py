"""Descriptors of ours, out of the way of those that code opens."""

from __future__ import annotations

import os

from . import modules

with modules.StandardImports():
    import fcntl

# Above what code expects to be handed by open(), below common limits.
CHANNEL = 500
PLUMBING = 600


def moved(descriptor: int, lowest: int) -> int:
    """The same at another number, closed in a child that execs; at its own where the limit of open files is lower.

    Args:
        descriptor: closed afterwards.
        lowest: number that it may get.
    """
    try:
        new = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    except OSError:
        os.set_inheritable(descriptor, False)
        return descriptor
    os.close(descriptor)
    return new
