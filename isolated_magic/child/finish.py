"""The end of a fork: what an interpreter does when it ends, but for taking itself apart.

Taking apart what the template imported would copy most of its memory, to no effect that anybody could see. What
the run itself made is taken apart as in Py_FinalizeEx (Python/pylifecycle.c): threads are waited for, exit
functions called, the modules of the run dropped so that finalizers run, and everything buffered is written.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import io
import os
import sys
import weakref
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

from . import streams
from .interrupts import users_code

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

LOST_OUTPUT_STATUS = 120  # Py_RunMain (Modules/main.c)

_libc = ctypes.PyDLL(None)
# As they are before any code of a user's can replace them.
_exit, _collect, _objects, _fflush = os._exit, gc.collect, gc.get_objects, _libc.fflush
_run_exit_functions: Any = atexit._run_exitfuncs


def end(status: int, modules: Collection[str]) -> NoReturn:
    """End this process.

    Args:
        status: of its exit.
        modules: names of those that were there before the run.
    """
    try:
        status = _wind_up(status, modules)
    finally:
        leave(status)


def leave(status: int) -> NoReturn:
    """End this process at once.

    Args:
        status: of its exit.
    """
    _exit(status)
    raise SystemExit(status)  # not reached


def _wind_up(status: int, modules: Collection[str]) -> int:
    with suppress(BaseException):
        if _has_threads():
            with users_code:  # there is something to interrupt
                _wait_for_threads()
        else:
            _wait_for_threads()
    hook = sys.unraisablehook
    sys.unraisablehook = _WithoutOurFrames(hook)
    with suppress(
        BaseException
    ):  # it reports by itself what they raise; an interrupt in one would be such a report
        _run_exit_functions()
    if isinstance(sys.unraisablehook, _WithoutOurFrames):
        sys.unraisablehook = hook
    if not _flush_standard_streams():
        status = LOST_OUTPUT_STATUS
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__  # as finalize_modules has it
    sys.is_finalizing = _is_finalizing
    for step in (
        _flush_files,
        partial(_drop_modules, modules),
        _flush_files,
        streams.flush,
        partial(_fflush, None),
    ):
        with suppress(Exception):  # the code may have taken anything apart
            step()
    return status


def _is_finalizing() -> bool:
    return True


def _flush_standard_streams() -> bool:
    """Write what is left; False when it cannot be (flush_std_files)."""
    done = True
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name, None)
        try:
            if stream is not None and not _is_closed(stream):
                stream.flush()
        except BaseException:  # noqa: BLE001 - the stream may be anything that the code put there
            if name == "stdout":
                _report_unraisable(stream, "on flushing sys.stdout" if sys.version_info >= (3, 13) else None)
            done = False
    return done


def _is_closed(stream: Any) -> bool:  # noqa: ANN401 - whatever the code put there
    try:
        return bool(stream.closed)
    except Exception:  # noqa: BLE001 - likewise
        return False


class _WithoutOurFrames:
    """A hook for what exit functions raise: they are called by an interpreter that has no frames any more.

    Args:
        hook: that gets it.
    """

    def __init__(self, hook: Callable[[Any], object]) -> None:
        self._hook = hook

    def __call__(self, found: Any) -> object:  # noqa: ANN401 - of a type that has no name
        trace = found.exc_traceback
        if trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            found = type(found)((found.exc_type, found.exc_value, trace.tb_next, found.err_msg, found.object))
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
        _report_unraisable(threading)


def _report_unraisable(where: object, text: str | None = None) -> None:
    """Report the exception at hand as the interpreter reports one that it cannot raise.

    Args:
        where: the object that is at fault.
        text: what to say in its place.
    """
    with suppress(BaseException):
        kind, problem, trace = sys.exc_info()
        if sys.unraisablehook is sys.__unraisablehook__:  # which takes nothing that Python code could make
            import traceback  # noqa: PLC0415 - a template has it

            lines = traceback.format_exception(kind, problem, trace.tb_next if trace else None)
            subject = f"{text}:" if text else f"in: {where!r}"
            sys.stderr.write(f"Exception ignored {subject}\n{''.join(lines)}")
        else:
            found = SimpleNamespace(
                exc_type=kind, exc_value=problem, exc_traceback=trace, err_msg=None, object=where
            )
            sys.unraisablehook(found)  # has all that the hook may ask for


def _drop_modules(modules: Collection[str]) -> None:
    """Drop what the run imported and its ``__main__``, as finalize_modules (Python/pylifecycle.c) drops all."""
    names = ["__main__"] if "__main__" in sys.modules else []
    if len(sys.modules) != len(modules):  # the walk would write to many pages that the template has, too
        names += [name for name in sys.modules if name not in modules]
    dropped = [_weak(sys.modules.pop(name)) for name in names]
    _collect()
    for reference in reversed(dropped):
        module = reference()
        if module is not None:  # somebody holds it: then its names go, those with an underscore first
            _clear(module)


def _weak(module: ModuleType) -> Callable[[], ModuleType | None]:
    try:
        return weakref.ref(module)
    except TypeError:  # None, or something else that the code put there
        return lambda: None


def _clear(module: ModuleType) -> None:
    names: Any = getattr(module, "__dict__", None)
    if not isinstance(names, dict):
        return
    for private in (True, False):
        for name in list(names):
            if name != "__builtins__" and isinstance(name, str) and name.startswith("_") == private:
                names[name] = None


def _flush_files() -> None:
    """Write what is left in the buffers of files that nobody closed."""
    for thing in _objects():
        if isinstance(thing, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with suppress(Exception):
                if not thing.closed:
                    thing.flush()
