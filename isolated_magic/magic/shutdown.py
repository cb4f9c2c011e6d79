"""Teardown when the kernel is terminated.

On a shutdown request and on a restart Python runs ``atexit``, and with it every teardown. A SIGTERM that
nobody handles ends Python before that. Of a SIGKILL nobody hears: the guardian alone cleans up after it.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

from isolated_magic.executors.base import teardown_all

if TYPE_CHECKING:
    from types import FrameType


def handle_termination() -> None:
    """Tear down on SIGTERM, unless somebody handles it already."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _on_termination)


def leave_termination() -> None:
    """Undo :func:`handle_termination`."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) is _on_termination:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _on_termination(number: int, _frame: FrameType | None) -> None:
    try:
        teardown_all()
    finally:  # and end as without us: by the signal
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
