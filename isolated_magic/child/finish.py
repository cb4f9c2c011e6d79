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
from typing import TYPE_CHECKING, Any, NoReturn

from . import streams

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from types import ModuleType

_libc = ctypes.PyDLL(None)
_run_exit_functions: Any = atexit._run_exitfuncs


def end(status: int, modules: Collection[str]) -> NoReturn:
    """End this process.

    Args:
        status: of its exit.
        modules: names of those that were there before the run.
    """
    _wait_for_threads()
    with suppress(BaseException):  # it reports by itself what they raise
        _run_exit_functions()
    streams.flush()
    sys.stdin, sys.stdout, sys.stderr = sys.__stdin__, sys.__stdout__, sys.__stderr__  # as finalize_modules has it
    _drop_modules(modules)
    _flush_files()
    streams.flush()
    _libc.fflush(None)
    os._exit(status)


def _wait_for_threads() -> None:
    threading: Any = sys.modules.get("threading")
    if threading is None:
        return
    try:
        threading._shutdown()  # as Py_FinalizeEx does
    except BaseException:  # noqa: BLE001 - an interrupt, or an exit function of a thread pool's
        _report_unraisable(threading)


def _report_unraisable(where: object) -> None:
    with suppress(BaseException):
        _, problem, _ = sys.exc_info()
        sys.unraisablehook(_Unraisable(problem, where))  # type: ignore[arg-type]  # has what it needs


class _Unraisable:
    err_msg = None

    def __init__(self, problem: BaseException | None, where: object) -> None:
        self.exc_type, self.exc_value = type(problem), problem
        self.exc_traceback = problem.__traceback__ if problem else None
        self.object = where


def _drop_modules(modules: Collection[str]) -> None:
    """Drop what the run imported and its ``__main__``, as finalize_modules (Python/pylifecycle.c) drops all."""
    names = ["__main__"] if "__main__" in sys.modules else []
    if len(sys.modules) != len(modules):  # the walk would write to many pages that the template has, too
        names += [name for name in sys.modules if name not in modules]
    dropped = [_weak(sys.modules.pop(name)) for name in names]
    gc.collect()
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
    for thing in gc.get_objects():
        if isinstance(thing, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            with suppress(Exception):
                if not thing.closed:
                    thing.flush()
