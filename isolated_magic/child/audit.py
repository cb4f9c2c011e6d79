"""What a module must not do while it is imported in a template, and who does it."""

from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING

from . import libraries, state
from .process_tree import children

if TYPE_CHECKING:
    from collections.abc import Callable

    from .imports import Imports
    from .observe import Observed

_fork = os.fork


class Judge:
    """Blames a module for what it does that nothing in a template must do.

    Args:
        imports: know whose code runs.
        observed: what they look at.
        has_written: whether anything was printed since it was last called.
        in_detail: whether to look at the process each time.
    """

    def __init__(
        self, imports: Imports, observed: Observed, has_written: Callable[[], bool], *, in_detail: bool
    ) -> None:
        self._imports = imports
        self._observed = observed
        self._has_written = has_written
        self._in_detail = in_detail
        self._state = state.of_process()

    def look(self) -> None:
        """Another module's code has its turn: see what the one has done that had it until now."""
        if not self._observed.listens:  # it is we who import something
            return
        self._observed.listens = False
        reason = "it prints" if self._has_written() else None
        if self._in_detail:
            before, self._state = self._state, state.of_process()
            reason = reason or state.difference(before, self._state) or company()
        if reason:
            self._imports.blame(reason)
        self._observed.listens = True

    def look_at_origins(self) -> None:
        """What is no package, and what has noted the number of this process."""
        for name in self._imports.loaded:
            reason = _foreign_origin(name) or (_kept_pid(name) if name in self._observed.asked_for_pid else None)
            if reason:
                self._imports.reasons.setdefault(name, reason)


def references_to_main() -> int:
    """How many there are to ``__main__``."""
    return sys.getrefcount(sys.modules["__main__"])


def is_main_kept(references: int) -> bool:
    """Whether there are more references to ``__main__`` now, beside those of frames that nobody has.

    Args:
        references: that there were before.
    """
    if "__mp_main__" in sys.modules:  # of multiprocessing; each fork gives it its own (program.py)
        references += 1
    if references_to_main() > references:
        gc.collect()
    return references_to_main() > references


def _foreign_origin(name: str) -> str | None:
    module = sys.modules.get(name)
    if module is not None and not libraries.is_installed(module):
        return "it lies in a folder of the user's"
    return None


def _kept_pid(name: str) -> str | None:
    pid = os.getpid()
    if any(type(value) is int and value == pid for value in vars(sys.modules[name]).values()):
        return "it keeps the number of the process"
    return None


def company() -> str | None:
    """What this process has beside its one thread, None when there is nothing."""
    if children(os.getpid()):
        return "it starts a process"
    if _threads() > 1:
        pid = _fork()  # takes down the threads of a library that handles forks itself
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        if _threads() > 1:
            return "it starts a thread"
    return None


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))  # noqa: PTH208 - as in process_tree
