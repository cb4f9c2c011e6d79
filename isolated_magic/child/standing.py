"""What the system grants a worker, and what Python has set for the whole process, put back after each run."""

from __future__ import annotations

import _locale
import _thread
import gc
import os
import sys

from . import modules, process_state

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from typing import Any

with modules.StandardImports():
    import resource

_HAS_AFFINITY = hasattr(os, "sched_getaffinity")


class Standing:
    """That of this process now."""

    def __init__(self) -> None:
        self._limits = process_state.limits()
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._processors = os.sched_getaffinity(0) if _HAS_AFFINITY else None
        self._credentials = process_state.credentials()
        self._locale = _locale.setlocale(_locale.LC_ALL)
        self._stack_bytes = _thread.stack_size()
        self._digits = sys.get_int_max_str_digits()
        self._collections = gc.get_debug()
        self._finders: list[tuple[list[Any], list[object]]] = [
            (found, list(found)) for found in (sys.meta_path, sys.path_hooks)
        ]

    def restore(self) -> bool:
        """Have it again. False when the system does not allow that.

        Raises:
            OSError: likewise.
            ValueError: likewise.
        """
        if process_state.credentials() != self._credentials:
            return False
        if (limits := process_state.limits()) != self._limits:
            for number, before, now in zip(process_state.LIMITS, self._limits, limits, strict=True):
                if now != before:
                    resource.setrlimit(number, before)
        if os.getpriority(os.PRIO_PROCESS, 0) != self._nice:
            os.setpriority(os.PRIO_PROCESS, 0, self._nice)
        if self._processors is not None and os.sched_getaffinity(0) != self._processors:
            os.sched_setaffinity(0, self._processors)
        self._restore_pythons()
        return True

    def _restore_pythons(self) -> None:
        if _locale.setlocale(_locale.LC_ALL) != self._locale:
            _locale.setlocale(_locale.LC_ALL, self._locale)
        if _thread.stack_size() != self._stack_bytes:
            _thread.stack_size(self._stack_bytes)
        if sys.get_int_max_str_digits() != self._digits:
            sys.set_int_max_str_digits(self._digits)
        gc.set_debug(self._collections)
        vars(sys).pop("tracebacklimit", None)
        sys.set_asyncgen_hooks(None, None)
        sys.set_coroutine_origin_tracking_depth(0)
        for found, before in self._finders:  # what modules have added, they need for as long as they are there
            found[:0] = [finder for finder in before if finder not in found]
        _restore_modules()


def _restore_modules() -> None:
    """Settings of modules that are loaded, if they are."""
    threading: Any = sys.modules.get("threading")
    if threading is not None:
        threading.excepthook = threading.__excepthook__
        threading.settrace(None)
        threading.setprofile(None)
    socket: Any = sys.modules.get("_socket")
    if socket is not None:
        socket.setdefaulttimeout(None)
    tracemalloc: Any = sys.modules.get("_tracemalloc")
    if tracemalloc is not None and tracemalloc.is_tracing():
        tracemalloc.stop()
