"""What programs of a folder import, kept in the user's cache folder for the processes that come after this one.

Names of installed modules, and nothing else: neither code nor data, neither values nor paths. One file for a
working directory, an interpreter and its installed packages. Whatever cannot be read, or may have been written by
somebody else, counts as missing; whatever cannot be written is not kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from isolated_magic.child.modules import fingerprint
from isolated_magic.launch.fork_server.freshness import package_folders
from isolated_magic.user_cache import cache_folder, is_ours, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from isolated_magic.packages.interpreters import Interpreter

FORMAT = 1
MOST_PROGRAMS = 8  # kept for a folder
MOST_NAMES = 2000  # in one list of a program
LONGEST_NAME = 200  # characters
LARGEST_FILE = 1 << 20  # bytes
MOST_FILES = 100
LOCK_SECS = 1.0  # another process holds it for a millisecond


@dataclass(frozen=True)
class ProgramImports:
    """What programs that ask for the same modules import.

    Args:
        asked_for: installed modules that the programs and their files ask for, in order; none for programs that
            import from the standard library alone.
        standard: modules of the standard library.
        refused: modules that cannot be imported ahead. What is in one of these packages cannot be, either.
    """

    asked_for: tuple[str, ...] = ()
    standard: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @cached_property
    def names(self) -> frozenset[str]:
        """The installed modules that the programs ask for."""
        return frozenset(self.asked_for)


class ImportCache:
    """The file for one working directory and one interpreter.

    Args:
        folder: of all files, which is made when the first one is written.
        directory: the working directory.
        interpreter: of the runs; None for that of this process.
    """

    def __init__(self, folder: Path, directory: str, interpreter: Interpreter | None = None) -> None:
        self.folder = folder
        self._interpreter = interpreter
        self._project = _digest(directory)

    @property
    def path(self) -> Path:
        """The file for the packages that are installed now."""
        other = self._interpreter
        executable = sys.executable if other is None else other.executable
        installed = sorted(fingerprint([executable, *package_folders(other)]).items())
        version = sys.version if other is None else other.version_text
        return self.folder / f"{self._project}-{_digest(executable, version, installed)}.json"

    def load(self) -> tuple[ProgramImports, ...]:
        """What is kept, the programs that were used last first."""
        try:
            if not is_ours(self.folder.lstat(), stat.S_ISDIR):
                return ()
            return _parsed(_read(self.path))
        except (OSError, ValueError, RecursionError):
            return ()

    def save(
        self, programs: Sequence[ProgramImports], loaded: Mapping[tuple[str, ...], frozenset[str]] | None = None
    ) -> None:
        """Keep these programs, in front of those that are there.

        Args:
            programs: the last used one first.
            loaded: by what programs ask for, all that importing it imports, as far as that is known.
        """
        with suppress(OSError, MemoryError), _locked(make_folder(self.folder)):
            path, before = self.path, self.load()
            merged = _without_covered(_merged([*programs, *before]), loaded or {})[:MOST_PROGRAMS]
            if merged != before:
                _write(path, _text_of(merged))
                _prune(self.folder)

    def forget(self) -> int:
        """Remove what is kept for this working directory, whatever packages it is for; the number of folders."""
        return _remove(self.folder, f"{self._project}-")


def cache_for(directory: str, interpreter: Interpreter | None = None) -> ImportCache | None:
    """The file for this working directory; None where there can be none."""
    folder = cache_folder()
    return None if folder is None else ImportCache(folder, directory, interpreter)


def forget_all() -> int:
    """Remove what is kept for all working directories; their number.

    Raises:
        OSError: it cannot be removed.
    """
    folder = cache_folder()
    if folder is None:
        return 0
    count = _remove(folder, "")
    with suppress(OSError):  # something else is in it, or it never was there
        folder.rmdir()
    return count


def _remove(folder: Path, beginning: str) -> int:
    try:
        if not is_ours(folder.lstat(), stat.S_ISDIR):
            return 0
    except FileNotFoundError:
        return 0
    files = [file for file in _files(folder) if file.name.startswith(beginning)]
    for file in files:
        file.unlink(missing_ok=True)
    return len({file.name.partition("-")[0] for file in files})


def _files(folder: Path) -> list[Path]:
    """All of ours: other things have folders of their own there."""
    return [file for file in folder.iterdir() if not file.is_dir()]


def _digest(*parts: object) -> str:
    return hashlib.blake2b(repr(parts).encode(errors="surrogateescape"), digest_size=10).hexdigest()


def _read(path: Path) -> bytes:
    """The content of a file of ours; OSError for any other."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - no path
        if not is_ours(os.fstat(descriptor), stat.S_ISREG):
            raise PermissionError
        return file.read(LARGEST_FILE)  # what is longer is no JSON any more


def _parsed(content: bytes) -> tuple[ProgramImports, ...]:
    """The programs of a file; ValueError if it is none of ours."""
    found = json.loads(content)
    if not isinstance(found, dict) or found.get("format") != FORMAT or not isinstance(found.get("programs"), list):
        raise ValueError
    return tuple(_program(one) for one in found["programs"][:MOST_PROGRAMS])


def _program(found: object) -> ProgramImports:
    if not isinstance(found, dict):
        raise ValueError  # noqa: TRY004 - a file that is not ours
    return ProgramImports(*(_names(found.get(name)) for name in ProgramImports.__dataclass_fields__))


def _names(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not all(isinstance(name, str) and is_module_name(name) for name in found):
        raise ValueError
    return tuple(found[:MOST_NAMES])


def is_module_name(name: str) -> bool:
    """Whether a module may have this name."""
    return len(name) <= LONGEST_NAME and all(part.isidentifier() for part in name.split("."))


def _text_of(programs: Iterable[ProgramImports]) -> bytes:
    lists = [{name: list(getattr(one, name)) for name in one.__dataclass_fields__} for one in programs]
    return json.dumps({"format": FORMAT, "programs": lists}).encode()


def _merged(programs: Iterable[ProgramImports]) -> tuple[ProgramImports, ...]:
    """One for all that ask for the same modules; what is refused is as the first one says."""
    found: dict[frozenset[str], ProgramImports] = {}
    for one in programs:
        known = found.setdefault(one.names, one)
        standard = tuple(dict.fromkeys([*known.standard, *one.standard]))[:MOST_NAMES]
        found[one.names] = replace(known, standard=standard)
    return tuple(found.values())


def _without_covered(
    programs: tuple[ProgramImports, ...], loaded: Mapping[tuple[str, ...], frozenset[str]]
) -> tuple[ProgramImports, ...]:
    """Without those that another one imports all for, and that ask for all that the other one does."""

    def covers(one: ProgramImports, other: ProgramImports) -> bool:
        return bool(one.names) and one.names < other.names <= loaded.get(one.asked_for, frozenset())

    return tuple(one for one in programs if not any(covers(other, one) for other in programs))


def _write(path: Path, content: bytes) -> None:
    """Put the file in place of the one before, once it is complete."""
    new = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(descriptor, "wb") as file:  # noqa: PTH123 - no path
            file.write(content)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def _prune(folder: Path) -> None:
    """Remove the oldest files: of folders and packages that are gone, and what a crash left half written."""
    files = sorted(_files(folder), key=lambda file: file.lstat().st_mtime_ns)
    for file in files[:-MOST_FILES]:
        file.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process after the other read and write. One that waits too long goes on: the last one then wins."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + LOCK_SECS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(0.01)
                    continue
            except OSError:  # the file system has no locks
                pass
            break
        yield
    finally:
        os.close(descriptor)
