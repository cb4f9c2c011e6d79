"""What a fork server is made of and what its imports read, so that one that is out of date is not used."""

from __future__ import annotations

import fnmatch
import os
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from isolated_magic.child.modules import file_state, is_standard
from isolated_magic.environment import acts_at_start, is_public
from isolated_magic.launch.resources import is_shortage

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from isolated_magic.launch.attributes import ProcessAttributes
    from isolated_magic.packages.interpreters import Interpreter
    from isolated_magic.request import RunRequest

_SUFFIXES = tuple(all_suffixes())
_NATIVE = ".so"  # that of another interpreter's has its version before it
SETTLED_SECS = 2.0  # within one tick of a file system's clock, a folder may change and keep its time
MOST_NAMES = 10_000  # remembered: some programs have variables whose names change from run to run


def first_path_entry(request: RunRequest) -> str:
    """The folder that stands first on the run's ``sys.path``."""
    if request.path is None:
        return request.cwd
    return str(Path(request.cwd, request.path).resolve().parent)


def has_module_named(names: AbstractSet[str], folder: str) -> bool:
    """Whether a folder has a module or package of one of these names; OSError if it could not be looked at."""
    try:
        changed_at = os.stat(folder).st_mtime_ns  # noqa: PTH116 - of every run
    except (OSError, ValueError):
        return False
    settled = time.time() - changed_at / 1e9 > SETTLED_SECS
    files, subfolders = _settled_entries(folder, changed_at) if settled else _entries(folder)
    if not names.isdisjoint(files):
        return True
    return any(Path(folder, name, "__init__.py").exists() for name in names & subfolders)


def _entries(folder: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names of possible modules, and of possible packages."""
    files, subfolders = set(), set()
    try:
        for entry in os.listdir(folder):  # noqa: PTH208 - of every run
            name, _, rest = entry.partition(".")
            if not rest:
                subfolders.add(name)
            elif f".{rest}" in _SUFFIXES or rest.endswith(_NATIVE):
                files.add(name)
    except OSError as problem:
        if is_shortage(problem):  # the folder is not known to be empty
            raise
    return frozenset(files), frozenset(subfolders)


@lru_cache(maxsize=64)
def _settled_entries(folder: str, _changed_at: int) -> tuple[frozenset[str], frozenset[str]]:
    return _entries(folder)


def package_folders(interpreter: Interpreter | None = None) -> list[str]:
    """The folders with installed packages that are on an interpreter's path; None for that of this process."""
    if interpreter is not None:
        return [*interpreter.folders]
    return [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]


def is_unchanged(states: Mapping[str, list[int] | None]) -> bool:
    """Whether files and folders are in these states, by path (see ``child/modules.py``)."""
    for path, before in states.items():  # noqa: SIM110 - of every run: a generator takes twice the calls
        if file_state(path) != before:
            return False
    return True


class ReadyReport(TypedDict):
    """What a fork server says when it is ready."""

    names: list[str]  # environment variables that its imports looked at
    patterns: list[str]  # of names of more such variables, in lower case
    exempt: list[str]  # names that match a pattern and do not count
    folder: bool  # whether its imports looked at the working directory
    missing: list[str]  # modules that its imports looked for and did not find
    roots: list[str]  # third-party modules with which all others came, in the order in which they were imported
    late: list[str]  # third-party modules that are imported by functions, not by the programs themselves
    not_there: list[str]  # modules that it was to import and did not find
    files: dict[str, list[int] | None]  # states of what its imports looked at outside of packages; None: missing
    packages: dict[str, list[int] | None]  # states of the folders with installed packages, and of the interpreter
    modules: list[str]  # all that it has imported
    places: list[str]  # folders of the packages that it has imported
    in_front: list[str]  # folders in front of the libraries on its path


def without(refused: Container[str], modules: Iterable[str]) -> Iterator[str]:
    """Those modules that can be imported without importing any of the refused ones."""
    for name in modules:
        parts = name.split(".")
        if not any(".".join(parts[:count]) in refused for count in range(1, len(parts) + 1)):
            yield name


@dataclass(frozen=True)
class PreloadFailure:
    """Why a fork server has ended instead of becoming ready."""

    reasons: Mapping[str, str]  # why a module cannot be imported ahead, by its name; empty if none is to blame
    kept: tuple[str, ...] = ()  # modules that can be imported ahead, in their order
    is_unclear: bool = False  # only a start with ``in_detail`` can tell which module is to blame


@dataclass(frozen=True)
class ForkServerSpec:
    """What a fork server is made of."""

    executable: str
    modules: tuple[str, ...]  # to import, in this order
    wanted: frozenset[str]  # those modules that a program asks for itself
    imports: frozenset[str]  # it may serve programs that import all of these
    environment: Mapping[bytes, bytes] = field(repr=False)
    cwd: str
    stack_bytes: int  # of its main thread, and of the threads of its forks
    attributes: ProcessAttributes
    in_detail: bool = False  # whether it checks its process after each import

    def refusal_of(self, name: str, reason: str) -> PreloadFailure:
        """Blame a module. It is not known what that imports: modules that no program asks for itself go, too."""
        if not name:
            return PreloadFailure({})
        kept = [one for one in self.modules if is_standard(one) or one in self.wanted]
        return PreloadFailure({name: reason}, tuple(without({name}, kept)))

    def is_for(self, attributes: ProcessAttributes) -> bool:
        """Whether a child of this process, which has these attributes, would inherit the same."""
        return attributes is self.attributes or attributes.fixed() == self.attributes.fixed()


def environment_for(
    environment: Mapping[bytes, bytes], reads: EnvironmentReads | None = None
) -> dict[bytes, bytes]:
    """The part of a run's environment that its fork server is started with."""

    def matters(name: bytes) -> bool:
        return acts_at_start(name) or is_public(name) or (reads is not None and reads[name])

    return {name: value for name, value in environment.items() if matters(name)}


class EnvironmentReads(dict[bytes, bool]):
    """Whether the imports of a fork server looked at a variable, by its name."""

    def __init__(self, report: ReadyReport | None = None) -> None:
        super().__init__()
        self._names = frozenset(report["names"] if report else ())
        self._patterns = tuple(report["patterns"] if report else ())
        self._exempt = frozenset(report["exempt"] if report else ())

    def __missing__(self, name: bytes) -> bool:
        if len(self) >= MOST_NAMES:
            self.clear()
        self[name] = looked_at = self._looked_at(os.fsdecode(name))
        return looked_at

    def _looked_at(self, name: str) -> bool:
        if name in self._names:
            return True
        if name in self._exempt:
            return False
        return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in self._patterns)


IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x4, 0x8, 0x40, 0x80
IN_DELETE, IN_ONLYDIR = 0x200, 0x1000000
CHANGES = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB


class Watch:
    """Hears of changes in folders since a time in nanoseconds (inotify(7)); of none if there are no watches."""

    def __init__(self, folders: list[str], since: int) -> None:
        self._descriptor: int | None = None
        self._changed = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        if sys.platform != "linux" or not folders:
            return
        import ctypes  # noqa: PLC0415 - only needed where there is something to watch

        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            return
        self._descriptor = descriptor
        for folder in folders:
            libc.inotify_add_watch(descriptor, os.fsencode(folder), CHANGES | IN_ONLYDIR)
        self._changed = any(_has_newer(folder, since) for folder in folders)

    def has_changed(self) -> bool:
        """Whether anything has changed."""
        with self._lock:
            if not self._changed and self._descriptor is not None:
                with suppress(BlockingIOError):
                    self._changed = bool(os.read(self._descriptor, 4096))
            return self._changed

    def forget(self) -> None:
        """In a fork of the owner: close our copy."""
        self._lock = threading.RLock()
        self.close()

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None


def _has_newer(folder: str, since: int) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.stat().st_mtime_ns > since for entry in entries if entry.name.endswith(".py"))
    except OSError:
        return True
