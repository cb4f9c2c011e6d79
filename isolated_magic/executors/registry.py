"""All executors of this process, and what a fork and a SIGTERM mean to them.

On a shutdown request and on a restart, a kernel runs ``atexit``, and with it every teardown. A SIGTERM that
nobody handles ends Python before that. Of a SIGKILL nobody hears: the guardian alone cleans up after it.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from types import MappingProxyType
from typing import TYPE_CHECKING

from isolated_magic.launch.base import Preloaded

if TYPE_CHECKING:
    from types import FrameType

    from isolated_magic.executors.lifetime import Lifetime
    from isolated_magic.executors.live import LiveRun

_executors: weakref.WeakSet[Lifetime] = weakref.WeakSet()


def add(executor: Lifetime) -> None:
    """Make an executor known.

    Args:
        executor: just made.
    """
    _executors.add(executor)


def live_runs() -> list[LiveRun]:
    """The runs of all executors that are going on, the oldest first."""
    return sorted((live for one in list(_executors) for live in one.live_runs), key=lambda live: live.begun_at)


def preloaded() -> Preloaded:
    """What is imported ahead of the runs of any executor."""
    found = [one.preloaded for one in list(_executors)]
    packages = {name for each in found for name in each.packages}
    refused = {name: reason for each in found for name, reason in each.refused.items() if name not in packages}
    return Preloaded(tuple(sorted(packages)), MappingProxyType(dict(sorted(refused.items()))))


def handle_termination() -> None:
    """Tear every executor down on SIGTERM, unless somebody handles that already."""
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
        for executor in list(_executors):
            executor.teardown()
    finally:  # and end as without us: by the signal
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _forget_all() -> None:
    for executor in list(_executors):
        executor.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
