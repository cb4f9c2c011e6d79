"""The end of a fork: what Py_FinalizeEx does (Python/pylifecycle.c), but only for what the run itself has made.

Threads are waited for, exit functions are called, imports are closed, the modules of the run are dropped so that
finalizers run, and all buffers are flushed. What the fork server imported is left alone: to take it apart would
copy most of its memory, without any visible effect. The outcome was sent before all this. Of the code's objects
only the type is looked at: a proxy may load or connect something when it is asked for anything.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what signal wraps in enums
import atexit
import builtins
import ctypes
import gc
import io
import os
import sys
import weakref
from contextlib import contextmanager, suppress
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from . import stdio
from .error_report import HERE
from .reaper import HAS_SUBREAPERS
from .signals import users_code
from .wire import LOST_OUTPUT_STATUS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType

    from .channel import Channel


# sys_deletes in Python/pylifecycle.c
ENDED_WITH_IMPORTS = ("path", "argv", "ps1", "ps2", "last_type", "last_value", "last_traceback") + (
    ("last_exc",) if sys.version_info >= (3, 12) else ()
)
ENDED_WITH_IMPORTS += ("path_hooks", "path_importer_cache", "meta_path", "__interactivehook__")
NO_IMPORTS = "sys.meta_path is None, Python is likely shutting down"  # _find_spec in Lib/importlib/_bootstrap.py
MAIN_NAMES = ("__main__", "__mp_main__")  # the second is multiprocessing's name for it
LOOK_SECS = 0.2  # how often to look which finalizer runs; one that is seen twice is cut off
MOST_LOOKS = 4  # in all

_libc = ctypes.PyDLL(None)
# Taken before any code of the user's can replace them.
_exit, _collect, _objects, _fflush = os._exit, gc.collect, gc.get_objects, _libc.fflush
_waitid, _sched_yield = os.waitid, os.sched_yield
_run_exit_functions: Any = atexit._run_exitfuncs
_dict_of: Any = vars(ModuleType)["__dict__"]
_FILES = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)


def end(
    status: int, modules: Collection[str], channel: Channel, own_pages: Callable[[], list[int]] | None = None
) -> NoReturn:
    """End this process.

    Args:
        status: its exit status.
        modules: names of the modules that it had before, which are not taken apart.
        channel: to the owner.
        own_pages: lists the pages of memory that this process has written to, if the owner can ask for them.
    """
    try:
        status = _wind_up(status, modules, channel)
        if channel.tells_pages and own_pages is not None:
            with suppress(Exception):  # hidden from us, or taken apart by the code: the next run will tell
                channel.send({"memory": {"pages": own_pages()}})
        if channel.may_tell_over and _is_childless():
            channel.tell_over(status)
            _sched_yield()  # to the owner, which may wait for this processor: else the exit would come first
    finally:
        leave(status)


def leave(status: int) -> NoReturn:
    """End this process at once, with this exit status."""
    _exit(status)
    raise SystemExit(status)  # not reached


def _is_childless() -> bool:
    """Whether nothing that the run has started is left: orphans, too, are children of this process."""
    if not HAS_SUBREAPERS:
        return False
    try:
        _waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def _wind_up(status: int, modules: Collection[str], channel: Channel) -> int:
    with suppress(BaseException):
        if _has_threads():
            with users_code:  # there is something to interrupt
                _wait_for_threads()
        else:
            _wait_for_threads()
    with suppress(BaseException), _unraisable_without_our_frames():
        _run_exit_functions()  # reports what they raise; an interrupt in one would be such a report
    sys.is_finalizing = lambda: True
    if not _flush_standard_streams():
        status = LOST_OUTPUT_STATUS
    for step in (
        _flush_files,
        partial(_take_apart, status, modules, channel),
        _flush_files,
        stdio.flush,
        partial(_fflush, None),
    ):
        with suppress(Exception):  # the code may have taken anything apart
            step()
    return status


def _flush_standard_streams() -> bool:
    """As flush_std_files in Python/pylifecycle.c; False when something could not be written."""
    done = True
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            if stream is not None and not _is_closed(stream):
                stream.flush()
        except BaseException:  # noqa: BLE001 - the stream may be anything that the code put there
            if name == "stdout":
                _report_unraisable(stream, _flushing())
            done = False
    return done


def _is_closed(stream: Any) -> bool:  # noqa: ANN401 - whatever the code put there
    try:
        return bool(stream.closed)
    except Exception:  # noqa: BLE001 - likewise
        return False


@contextmanager
def _unraisable_without_our_frames() -> Iterator[None]:
    hook = sys.unraisablehook
    sys.unraisablehook = _WithoutOurFrames(hook)
    try:
        yield
    finally:
        if type(sys.unraisablehook) is _WithoutOurFrames:  # otherwise the code has replaced it
            sys.unraisablehook = hook


class _WithoutOurFrames:
    """Passes what exit functions and finalizers raise to a hook, without our frames."""

    def __init__(self, hook: Callable[[Any], object]) -> None:
        self._hook = hook

    def __call__(self, found: Any) -> object:  # noqa: ANN401 - of a type that has no name
        trace = found.exc_traceback
        if trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            found = type(found)((found.exc_type, found.exc_value, trace.tb_next, found.err_msg, found.object))
        while trace is not None:
            if trace.tb_next is not None and trace.tb_next.tb_frame.f_code is _refuse_import.__code__:
                trace.tb_next = None
            trace = trace.tb_next
        return self._hook(found)


def _has_threads() -> bool:
    threading: Any = sys.modules.get("threading")
    if threading is None:
        return False
    return threading.active_count() > 1 or bool(getattr(threading, "_threading_atexits", None))


def _wait_for_threads() -> None:
    threading: Any = sys.modules.get("threading")
    if threading is None:
        return
    try:
        threading._shutdown()  # as Py_FinalizeEx does
    except BaseException:  # noqa: BLE001 - an interrupt, or an exit function of a thread pool's
        _report_unraisable(threading, "on threading shutdown" if sys.version_info >= (3, 13) else None)


def _flushing() -> str | None:
    """What the versions of Python call it."""
    if sys.version_info >= (3, 14):
        return "while flushing sys.stdout"
    return "on flushing sys.stdout" if sys.version_info >= (3, 13) else None


def _report_unraisable(where: object, text: str | None = None) -> None:
    """Report the current exception, which cannot be raised, as the interpreter does."""
    with suppress(BaseException):
        kind, problem, trace = sys.exc_info()
        if sys.unraisablehook is sys.__unraisablehook__:  # which takes nothing that Python code could make
            import traceback  # noqa: PLC0415 - the fork server has it

            lines = traceback.format_exception(kind, problem, trace.tb_next if trace else None)
            subject = f"{text}:" if text else f"in: {where!r}"
            sys.stderr.write(f"Exception ignored {subject}\n{''.join(lines)}")
        else:
            found = SimpleNamespace(
                exc_type=kind, exc_value=problem, exc_traceback=trace, err_msg=None, object=where
            )
            sys.unraisablehook(found)


def _take_apart(status: int, modules: Collection[str], channel: Channel) -> None:
    """Run the finalizers of what the run has made, as finalize_modules (Python/pylifecycle.c) runs all."""
    watchdog = _Watchdog(status, channel)
    with _unraisable_without_our_frames():
        for step in (_collect, _close_imports, partial(_drop_modules, modules)):
            with suppress(Exception):  # the code may have taken anything apart
                step()
    watchdog.stop()


def _close_imports() -> None:
    """Refuse imports from now on: a finalizer would otherwise load packages again."""
    names = vars(sys)
    for name in ENDED_WITH_IMPORTS:
        names[name] = None
    for name in ("stdin", "stdout", "stderr"):
        names[name] = names.get(f"__{name}__")


def _refuse_import(*_: object, **__: object) -> NoReturn:
    raise ImportError(NO_IMPORTS)


def _drop_modules(modules: Collection[str]) -> None:
    """Drop what the run imported and its ``__main__``."""
    loaded = sys.modules
    names = [name for name in MAIN_NAMES if name in loaded]
    if len(loaded) != len(modules):  # the walk would write to many pages shared with the fork server
        names += [name for name in loaded if name not in modules and name not in MAIN_NAMES]
    dropped = [_weak(loaded[name]) for name in names]
    for name in names:
        loaded[name] = None  # type: ignore[assignment]  # as finalize_modules does: an import of it is refused
    for name in names:
        del loaded[name]
    vars(builtins)["__import__"] = _refuse_import
    _collect()
    for reference in reversed(dropped):
        module = reference()
        if module is not None:  # still referenced: its names are cleared, those with an underscore first
            _clear(_dict_of.__get__(module))


def _weak(module: object) -> Callable[[], ModuleType | None]:
    # By type() alone: the code may have put any object in place of a module.
    return weakref.ref(module) if issubclass(type(module), ModuleType) else lambda: None  # type: ignore[return-value]


def _clear(names: dict[str, object]) -> None:
    for private in (True, False):
        for name in list(names):
            if type(name) is str and name != "__builtins__" and name.startswith("_") == private:
                names[name] = None


class _Watchdog:
    """Ends this process when a finalizer takes too long, and tells the owner.

    The time that our own code takes to drop objects is not counted, nor that of threads and exit functions, which
    are over by now.
    """

    def __init__(self, status: int, channel: Channel) -> None:
        self._status = status
        self._channel = channel
        self._frame: FrameType | None = None
        self._count = 0
        _signal.signal(_signal.SIGALRM, self._look)
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGALRM,))
        _signal.setitimer(_signal.ITIMER_REAL, LOOK_SECS, LOOK_SECS)

    def stop(self) -> None:
        """All finalizers have run."""
        _signal.setitimer(_signal.ITIMER_REAL, 0)

    def _look(self, _number: int, frame: FrameType | None) -> None:
        first = None  # the outermost frame of the code's
        while frame is not None:
            if not frame.f_code.co_filename.startswith(HERE):
                first = frame
            frame = frame.f_back
        if first is None:
            return
        self._count += 1
        if first is self._frame or self._count >= MOST_LOOKS:
            self._cut_off()
        self._frame = first

    def _cut_off(self) -> None:
        for step in (_flush_files, stdio.flush, partial(_fflush, None), self._channel.tell_cut):
            with suppress(Exception):  # a finalizer was interrupted anywhere
                step()
        leave(self._status)


def _flush_files() -> None:
    """Flush all files that were not closed."""
    for thing in _objects():
        kind = type(thing)  # and no isinstance(), which asks the object
        if issubclass(kind, _FILES):
            with suppress(Exception):  # it is closed
                next(base for base in _FILES if issubclass(kind, base)).flush(thing)
