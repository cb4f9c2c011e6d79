"""What importing a module may change about the process, beside loading modules.

A run has all of that from its own start: the change would be there before the code's ``import``, or be lost when
the fork becomes the run. Warning filters are left out: nearly every large library adds some, for its own warnings.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums: this is asked after each import
import contextvars
import gc
import os
import signal
import sys
import time
from typing import Any

from . import process_state

_SIGNALS = sorted(map(int, _signal.valid_signals()))
_TIMERS = (signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)  # the real one is ours: it ends an import that hangs


def of_process() -> dict[str, object]:
    """What can be had in a moment, by what to say of a module that changes it."""
    return {
        "the working directory": os.getcwd(),  # noqa: PTH109 - as in process_tree
        "sys.path": list(sys.path),
        "sys.excepthook": (sys.excepthook, sys.displayhook, sys.unraisablehook, sys.gettrace(), sys.getprofile()),
        "an interpreter setting": (
            sys.getrecursionlimit(),
            sys.getswitchinterval(),
            gc.isenabled(),
            gc.get_threshold(),
        ),
        "signal handling": (
            [_signal.getsignal(number) for number in _SIGNALS],
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        ),
        "the time zone": time.tzname,
        "a limit": process_state.limits(),
        "the processors that it may use": os.sched_getaffinity(0) if sys.platform == "linux" else 0,
        "the open files": _open_files(),
        "the umask": _umask(),
        "a timer": [signal.getitimer(number) for number in _TIMERS],
        **_of_modules(),
    }


def in_full() -> dict[str, object]:
    """That, and what takes longer to find out."""
    return {
        **of_process(),
        "shared memory": _shared_memory(),
        "the seed of random": _states_of_generators(),
    }


def _open_files() -> dict[str, str]:
    """Where the descriptors lead: what was read from one, or written to it, the next fork would see."""
    found: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - as in process_tree
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - likewise
        except OSError:  # that of the listing itself
            continue
        if target != os.devnull:
            found[name] = target
    return found


def _shared_memory() -> int:
    """How many pieces of memory the forks of this process share for good (proc(5), /proc/PID/maps)."""
    with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123 - a special file
        return maps.read().count(b" rw-s ")


def _umask() -> int:
    umask = os.umask(0)  # the only way to ask; there is one thread
    os.umask(umask)
    return umask


def _states_of_generators() -> list[object]:
    random: Any = sys.modules.get("random")
    # The position aside: what a seed leaves behind differs, what a few numbers drawn leave behind does not.
    return [] if random is None else [random.getstate()[1][:-1]]


def _of_modules() -> dict[str, object]:
    """What modules keep that may or may not be loaded; its absence is no difference."""
    found: dict[str, object] = {}
    faulthandler, decimal, locale = (_finished(name) for name in ("faulthandler", "decimal", "locale"))
    if faulthandler is not None:
        found["faulthandler"] = faulthandler.is_enabled()
    if decimal is not None:
        # Asking for it makes one, which would be there in every fork.
        found["the decimal context"] = contextvars.copy_context().run(lambda: str(decimal.getcontext()))
    if locale is not None:
        found["the locale"] = locale.setlocale(locale.LC_ALL)
    return found


def _finished(name: str) -> Any:  # noqa: ANN401 - a module
    """A module that is there; not one whose import goes on."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if getattr(spec, "_initializing", None) is True else module


def difference(before: dict[str, object], after: dict[str, object]) -> str | None:
    """What to say of a change, None when all is the same.

    Args:
        before: of :func:`of_process`.
        after: likewise, later.
    """
    return next((f"it changes {name}" for name in before if before[name] != after.get(name)), None)
