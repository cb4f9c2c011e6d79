"""What a template imports before it forks, and what it found out about that.

A module stays only where a fork of this process cannot be told from an interpreter that imports it itself. One
that prints, starts a thread or a process, or comes from a file that a user may be editing, is refused: the
template says so and ends, and the next one does without. A native thread may stay when its library takes it down
for a fork by itself, as OpenBLAS does (pthread_atfork(3)): after a fork the template is then single-threaded.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import descriptors, libraries, state, stdlib
from .observe import UNWATCHED, Observed, observing
from .process_tree import children

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

IMPORT_TIMEOUT_SECS = 60  # for one module; what needs longer hangs

OURS = ("json", "inspect", "traceback", "linecache", "ctypes")

WANTS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
)

WORD = r"[A-Z][A-Z0-9_]{2,}"


_fork = os.fork


def import_ours() -> None:
    """Import what our own part of a run uses."""
    for name in OURS:
        importlib.import_module(name)


class RefusedError(Exception):
    """A module cannot be preloaded; the text says why."""


def import_all(names: Sequence[str], announce: Callable[[str], None]) -> Observed:
    """Import these modules, in their order.

    Args:
        names: of modules.
        announce: called with the name of each before it is imported: an import may never come back.

    Returns:
        What they looked at.

    Raises:
        RefusedError: one of them cannot be preloaded; ``args`` are its name, empty when it is not to blame, and
            the reason.
    """
    observed = _import_observed(names, announce) if names else Observed()
    observed.files = _watched(observed.files)
    _add_start_hooks(observed)
    return observed


def _import_observed(names: Sequence[str], announce: Callable[[str], None]) -> Observed:
    references = _references_to_main()
    with observing(names) as observed, _output_watched() as has_written:
        for name in _with_parents(names):
            if name in sys.modules:
                continue
            loaded, before = set(sys.modules), state.of_process()
            announce(name)
            observed.listens = True
            _import(name)
            observed.listens = False
            new = [module for module in sys.modules if module not in loaded]
            reason = (
                observed.effects.prevented
                or ("it prints" if has_written() else None)
                or _foreign_origin(new)
                or ("it draws secrets" if observed.secrets else None)
                or _kept_pid(new, observed.asked_for_pid)
                or state.difference(before, state.of_process())
                or _company()
                or ("it keeps __main__" if _is_main_kept(references) else None)
            )
            if reason:
                raise RefusedError(name, reason)
    return observed


def _with_parents(names: Iterable[str]) -> Iterator[str]:
    """Each after the packages that it is in: what those do is their fault, and that of all that is in them."""
    for name in names:
        parts = name.split(".")
        yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _references_to_main() -> int:
    return sys.getrefcount(sys.modules["__main__"])


def _is_main_kept(references: int) -> bool:
    """Whether there are more references to ``__main__`` than so many, beside those of frames that nobody has."""
    if _references_to_main() > references:
        gc.collect()
    return _references_to_main() > references


def _import(name: str) -> None:
    signal.alarm(IMPORT_TIMEOUT_SECS)  # nobody handles it: it ends the process, whatever the import is stuck in
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name != name:  # otherwise it is gone, and nothing was imported in its place
            raise RefusedError(name, f"{problem.name} is missing") from None
    except BaseException as problem:  # noqa: BLE001 - whatever the module does
        if _is_for_want(problem):
            raise RefusedError("", "the system is short of something") from None
        raise RefusedError(name, f"{type(problem).__name__} while it was imported") from None
    finally:
        signal.alarm(0)


def _is_for_want(problem: BaseException) -> bool:
    """Whether an import failed for what may be there the next time: descriptors, processes, memory, room."""
    text = str(problem).lower()
    return (
        isinstance(problem, MemoryError)
        or getattr(problem, "errno", None) in WANTS
        or any(words in text for words in ("new thread", "allocate memory", "failed to map segment"))
    )


def _foreign_origin(new: Iterable[str]) -> str | None:
    for name in new:
        module = sys.modules.get(name)
        if module is not None and not libraries.is_installed(module):
            return f"{name} lies in a folder of the user's"
    return None


def _kept_pid(new: Iterable[str], asked: set[str]) -> str | None:
    pid = os.getpid()
    for name in asked.intersection(new):
        if any(type(value) is int and value == pid for value in vars(sys.modules[name]).values()):
            return f"{name} keeps the number of the process"
    return None


def _company() -> str | None:
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


@contextmanager
def _output_watched() -> Iterator[Callable[[], bool]]:
    """Descriptors 1 and 2 go to a file in memory inside this block; yields what says whether anything is there."""
    kept = [descriptors.moved(os.dup(target), descriptors.PLUMBING) for target in (1, 2)]
    file = descriptors.moved(os.memfd_create("output"), descriptors.PLUMBING)
    for target in (1, 2):
        os.dup2(file, target)

    def has_written() -> bool:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        return os.fstat(file).st_size > 0

    try:
        yield has_written
    finally:
        for target, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.close(file)


def _watched(files: set[str]) -> set[str]:
    """Those that may change while packages stay as they are."""
    unwatched = (*UNWATCHED, stdlib.FOLDER, *libraries.site_folders())
    # Folders come and go in: what matters there is looked at by name.
    return {path for path in files if not path.startswith(unwatched) and not os.path.isdir(path)}  # noqa: PTH112 - as in process_tree


def _add_start_hooks(observed: Observed) -> None:
    """Variables that the hooks of site-packages mention: those ran before anybody could watch them (site.py)."""
    import re  # noqa: PLC0415 - loaded by now

    texts = [line for folder in libraries.site_folders() for line in _hook_lines(folder)]
    for name in ("sitecustomize", "usercustomize"):
        path = getattr(sys.modules.get(name), "__file__", None)
        texts += _lines(path) if path else []
    for text in texts:
        observed.names.update(re.findall(WORD, text))
    site: Any = sys.modules.get("site")
    if site is not None and site.ENABLE_USER_SITE:
        observed.names.add("HOME")  # where the user's own packages are


def _hook_lines(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - as in process_tree
    except OSError:
        return []
    lines = [line for name in names if name.endswith(".pth") for line in _lines(f"{folder}/{name}")]
    return [line for line in lines if line.startswith(("import ", "import\t"))]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is not loaded
            return file.readlines()
    except OSError:
        return []
