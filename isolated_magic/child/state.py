"""What importing a module may change about the process, beside loading modules.

A run has all of that from its own start: the change would be there before the code's ``import``, or be lost when
the fork becomes the run. Warning filters are left out: nearly every large library adds some, for its own warnings.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from typing import Any

from . import attributes

_TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


def of_process() -> dict[str, object]:
    """The state, by what to call it."""
    return {
        "the environment": dict(os.environ),
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
            [signal.getsignal(number) for number in signal.valid_signals()],
            signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        ),
        "the time zone": time.tzname,
        "a limit": attributes.limits(),
        "its priority": (
            os.getpriority(os.PRIO_PROCESS, 0),
            os.sched_getaffinity(0) if sys.platform == "linux" else 0,
        ),
        "the open files": _open_files(),
        "shared memory": _shared_memory(),
        "the umask": _umask(),
        "a timer": [signal.getitimer(number) for number in _TIMERS],
        "the seed of random": _states_of_generators(),
        **_of_modules(),
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
    faulthandler: Any = sys.modules.get("faulthandler")
    if faulthandler is not None:
        found["faulthandler"] = faulthandler.is_enabled()
    decimal: Any = sys.modules.get("decimal")
    if decimal is not None:
        import contextvars  # noqa: PLC0415 - a template that has no decimal numbers does without

        # Asking for it makes one, which would be there in every fork.
        found["the decimal context"] = contextvars.copy_context().run(lambda: str(decimal.getcontext()))
    locale: Any = sys.modules.get("locale")
    if locale is not None:
        found["the locale"] = locale.setlocale(locale.LC_ALL)
    return found


def difference(before: dict[str, object], after: dict[str, object]) -> str | None:
    """What is no longer the same, None when all is.

    Args:
        before: of :func:`of_process`.
        after: likewise, later.
    """
    return next((name for name in before if before[name] != after[name]), None)
