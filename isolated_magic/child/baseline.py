"""What a worker is before its first run, and is made again after each one.

What a run leaves in the modules that it imported stays there: that is what a worker is for. What belongs to the
process is put back, or the worker ends (see ``worker.py``).
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums, whose import costs each run 7 ms
import builtins
import faulthandler
import gc
import os
import sys
from io import BufferedReader, FileIO, TextIOWrapper

from . import descriptors
from .signals import users_code
from .standing import Standing
from .variables import Variables

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TextIO

_SIGNALS = sorted(map(int, _signal.valid_signals()))
_TIMERS = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)
_HOOKS = ("excepthook", "displayhook", "unraisablehook", "breakpointhook")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Baseline:
    """This process as it is now."""

    def __init__(self) -> None:
        self._outputs = [_Output(number, name) for number, name in ((1, "stdout"), (2, "stderr"))]
        self._folder = os.getcwd()  # noqa: PTH109 - pathlib costs the child 5 ms
        self._umask = os.umask(0)
        os.umask(self._umask)
        self._variables = Variables()
        self._standing = Standing()
        self._has_stdin = sys.stdin is not None
        self._handlers = {number: _signal.getsignal(number) for number in _SIGNALS}
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
        self._path = list(sys.path)
        self._hooks = {name: getattr(sys, name) for name in _HOOKS}
        self._recursion_limit, self._switch_interval = sys.getrecursionlimit(), sys.getswitchinterval()
        self._collects, self._threshold = gc.isenabled(), gc.get_threshold()
        self._builtins = dict(vars(builtins))
        self._size: int | None = None
        if sys.platform == "linux":
            opened = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)
            self._size = descriptors.moved(opened, descriptors.PLUMBING)

    def resident_bytes(self) -> int:
        """How much memory this process has, 0 where the system does not tell."""
        if self._size is None:
            return 0
        return int(os.pread(self._size, 100, 0).split()[1]) * PAGE_BYTES

    def restore(self) -> bool:
        """Be what it was. False when that is not possible: the process is no worker any more.

        Raises:
            Exception: likewise.
        """
        if _has_children() or _has_threads_to_wait_for():
            return False
        if not self._standing.restore():
            return False
        self._restore_interpreter()
        self._restore_signals()
        os.chdir(self._folder)
        os.umask(self._umask)
        self._variables.restore()
        if self._has_stdin:
            _new_stdin()
        restored = [output.restore() for output in self._outputs]
        return all(restored)

    def _restore_interpreter(self) -> None:
        sys.settrace(None)
        sys.setprofile(None)
        for name, hook in self._hooks.items():
            setattr(sys, name, hook)
        sys.path[:] = self._path
        if sys.getrecursionlimit() != self._recursion_limit:
            sys.setrecursionlimit(self._recursion_limit)
        sys.setswitchinterval(self._switch_interval)
        (gc.enable if self._collects else gc.disable)()
        gc.set_threshold(*self._threshold)
        self._restore_builtins()
        linecache: Any = sys.modules.get("linecache")
        if linecache is not None:  # the source of this run is not that of the next
            linecache.clearcache()

    def _restore_builtins(self) -> None:
        names = vars(builtins)
        if names != self._builtins:
            for name in names.keys() - self._builtins.keys():
                del names[name]
            names.update(self._builtins)

    def _restore_signals(self) -> None:
        users_code.forget()
        faulthandler.cancel_dump_traceback_later()
        faulthandler.disable()
        for number in (_signal.SIGUSR1, _signal.SIGUSR2):
            faulthandler.unregister(number)
        for timer in _TIMERS:
            _signal.setitimer(timer, 0)
        _signal.set_wakeup_fd(-1)
        for number in _signal.sigpending():  # of that run: it is over
            _signal.signal(number, _signal.SIG_IGN)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, self._mask)
        for number, handler in self._handlers.items():
            # What is None was not set by Python, and Python could not set it again.
            if handler is not None and _signal.getsignal(number) is not handler:
                _signal.signal(number, handler)


class _Output:
    """One of stdout and stderr: the descriptor, and the object that writes to it.

    Args:
        number: of the descriptor.
        name: in ``sys``.
    """

    def __init__(self, number: int, name: str) -> None:
        self._number = number
        self._name = name
        self._copy = descriptors.moved(os.dup(number), descriptors.PLUMBING)
        self._stream: TextIO | None = getattr(sys, name)
        self._errors = getattr(self._stream, "errors", None)
        self._write_through = getattr(self._stream, "write_through", False)  # PYTHONUNBUFFERED

    def restore(self) -> bool:
        """Have both again; False when the object can no longer be used."""
        os.dup2(self._copy, self._number)
        os.set_blocking(self._number, True)
        stream = self._stream
        setattr(sys, self._name, stream)
        setattr(sys, f"__{self._name}__", stream)
        if stream is None:
            return True
        stream.reconfigure(errors=self._errors, newline="\n", write_through=self._write_through)  # type: ignore[attr-defined]
        stream.flush()
        return stream.fileno() == self._number


def _new_stdin() -> None:
    """What a run did not read of its input is not for the next one."""
    raw: Any = FileIO(0, closefd=False)
    raw.name = "<stdin>"  # as create_stdio() in Python/pylifecycle.c has it
    text: Any = TextIOWrapper(BufferedReader(raw), encoding="utf-8", errors="surrogateescape")
    text.mode = "r"
    sys.stdin = sys.__stdin__ = text  # type: ignore[misc]


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _has_threads_to_wait_for() -> bool:
    """Whether there are threads that an interpreter waits for before it ends."""
    threading: Any = sys.modules.get("threading")
    if threading is None or threading.active_count() == 1:
        return False
    main = threading.main_thread()
    is_waited_for: Callable[[Any], bool] = lambda thread: thread is not main and not thread.daemon  # noqa: E731 - named
    return any(map(is_waited_for, threading.enumerate()))
