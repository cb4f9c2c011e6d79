"""Where the code is, told from outside: on a signal the interpreter itself writes its stacks to the channel.

The signal's handler is in C (Modules/faulthandler.c) and needs neither the interpreter's lock nor memory, so it
works in the middle of a long call too, and no code of the user's can be in its way. What it writes is text and
no frame; the owner asks for it when time is up, after which no frame is of interest.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums, whose import costs each run 7 ms
import faulthandler

# One that hardly anybody uses. macOS has none of the numbered ones, but one for this very purpose.
SIGNAL: int | None = getattr(_signal, "SIGRTMAX", None) or getattr(_signal, "SIGINFO", None)


def tell_on_signal(channel: int) -> None:
    """Have the stacks written there whenever the signal comes.

    Args:
        channel: a descriptor.
    """
    if SIGNAL is None:
        return
    try:
        faulthandler.register(SIGNAL, file=channel, all_threads=True)
    except (RuntimeError, OSError, ValueError):  # then nobody will be told
        return
