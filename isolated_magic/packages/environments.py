"""The environments that runs have: made by uv, locked, kept in the user's cache folder, shared between processes.

An environment never changes once it is there. For each thing that is asked for, a file says which one that is,
which is written last: what has none was never finished. One process makes an environment, others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError
from isolated_magic.new_file import replacing
from isolated_magic.packages import index_settings, interpreters, uv
from isolated_magic.packages.requirements import MASK, masked, normalized
from isolated_magic.user_cache import cache_folder, make_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from isolated_magic.packages.interpreters import Interpreter
    from isolated_magic.packages.requirements import Wanted
    from isolated_magic.packages.uv import OnProgress

FORMAT = 1
UNUSED_SECS = 30 * 86_400.0
NOTED_SECS = 3600.0  # a use is noted so often at most
WAIT_SECS = 0.05  # between two looks at a lock
BELOW = "_isolated_magic_below.pth"
NO_FOLDER = (
    "Environments of packages have no folder: {why}. Set XDG_CACHE_HOME to one that belongs to this user alone."
)

_known: dict[str, Interpreter] = {}  # by key


@dataclass(frozen=True)
class KeptEnvironment:
    """An environment in the cache.

    Args:
        requirements: that it was made for, as they were written.
        python: the version of its interpreter.
        packages: names and versions of what is installed in it.
        size_bytes: of its files; those that it shares with uv's cache count, too.
        used_at: when it was last used, in seconds since the epoch; the time is right to an hour.
    """

    requirements: tuple[str, ...]
    python: str
    packages: tuple[tuple[str, str], ...]
    size_bytes: int
    used_at: float


def interpreter_for(
    wanted: Wanted, *, upgrade: bool = False, on_progress: OnProgress | None = None
) -> Interpreter | None:
    """The interpreter with the packages of a run, which are installed first if they are not there yet.

    Args:
        wanted: by the run.
        upgrade: whether versions are chosen anew.
        on_progress: called with what is being done, a few times a second.

    Returns:
        The interpreter; None for the caller's own, as it is.

    Raises:
        InvalidRequestError: it cannot be had; the message says why.
        KeyboardInterrupt: this thread was interrupted; the cache is as it was.
    """
    requires = wanted.script.requires_python if wanted.script is not None else ""
    base = interpreters.chosen(wanted.python, requires)
    if not wanted.needs_environment:
        return None if base is interpreters.own() else base
    key = _key(wanted, base)
    known = None if upgrade else _known.get(key)
    pointer = _folder() / f"{key}.json"
    if known is None or not _is_there(pointer, known):
        known = _Maker(wanted, base, pointer, on_progress).interpreter(upgrade=upgrade)
        _known[key] = known
    return known


def _key(wanted: Wanted, base: Interpreter) -> str:
    """Tells apart what has to have an environment of its own. Nothing secret is in it."""
    below = () if wanted.alone else base.folders
    files = [(file, *_state(file)) for file in wanted.files]
    script = wanted.script.text if wanted.script is not None else ""
    parts = (
        *(FORMAT, list(map(masked, wanted.lines)), files, masked(script), wanted.alone, wanted.allow_build),
        *(base.executable, base.version, below, index_settings.fingerprint()),
    )
    return hashlib.blake2b(repr(parts).encode(errors="surrogateescape"), digest_size=10).hexdigest()


def _state(path: str) -> tuple[int, int]:
    try:
        state = os.stat(path)  # noqa: PTH116 - of every run
    except OSError:
        return (0, 0)
    return (state.st_mtime_ns, state.st_size)


def _is_there(pointer: Path, interpreter: Interpreter) -> bool:
    """Whether an environment that was there still is; notes its use."""
    try:
        used_at = os.stat(pointer).st_mtime  # noqa: PTH116 - of every run
        os.stat(interpreter.executable)  # noqa: PTH116 - likewise; of the base, if that was removed
    except OSError:
        return False
    _note_use(pointer, used_at)
    return True


def _note_use(pointer: Path, used_at: float) -> None:
    if time.time() - used_at > NOTED_SECS:
        with suppress(OSError):
            os.utime(pointer)


def _folder() -> Path:
    cache = cache_folder()
    if cache is None:
        raise InvalidRequestError(NO_FOLDER.format(why="this user has no home"))
    return cache / "environments"


class _Maker:
    """Finds or makes the environment for one thing that is asked for.

    Args:
        wanted: by the run.
        base: the interpreter that it is made from.
        pointer: the file that says which one it is.
        on_progress: called with what is being done.
    """

    def __init__(self, wanted: Wanted, base: Interpreter, pointer: Path, on_progress: OnProgress | None) -> None:
        self._wanted, self._base, self._pointer = wanted, base, pointer
        self._on_progress = on_progress

    def interpreter(self, *, upgrade: bool) -> Interpreter:
        """The interpreter of the environment."""
        try:
            make_folder(self._pointer.parent)  # refuses one from which somebody else's programs might be run
        except OSError as problem:
            why = f"{self._pointer.parent} cannot be used ({problem.strerror or 'it may be written by others'})"
            raise InvalidRequestError(NO_FOLDER.format(why=why)) from None
        found = None if upgrade else self._kept()
        if found is not None:
            return found
        try:
            with _locked(self._pointer.with_suffix(".lock"), self._tell):
                return (None if upgrade else self._kept()) or self._made(upgrade=upgrade)
        except uv.UvError as problem:
            raise InvalidRequestError(self._explained(problem)) from None
        except OSError as problem:
            why = problem.strerror or type(problem).__name__
            raise InvalidRequestError(f"The environment of the run could not be made: {why}.") from None

    def _tell(self, text: str) -> None:
        if self._on_progress is not None:
            self._on_progress(text)

    def _uv(self, *arguments: str, meanwhile: str) -> str:
        self._tell(meanwhile)
        return uv.run(arguments, lambda line: self._tell(line or meanwhile))

    def _kept(self) -> Interpreter | None:
        """The environment that is there; None if there is none."""
        entry = _entry(self._pointer)
        if entry is None:
            return None
        found = self._interpreter_in(self._pointer.parent / entry["folder"], entry["packages"])
        if not _is_there(self._pointer, found):
            return None
        return found

    def _interpreter_in(self, folder: Path, packages: list[list[str]]) -> Interpreter:
        site = str(_site_packages(folder, self._base.version))
        below = () if self._wanted.alone else self._base.folders
        return replace(
            self._base,
            executable=str(folder / "bin" / "python"),
            folders=(site, *below),
            packages=tuple((name, version) for name, version in packages),
        )

    def _made(self, *, upgrade: bool) -> Interpreter:
        """Make it. Whoever calls this has the lock."""
        lock = None if upgrade else _lock_of(self._pointer)
        lock = lock if lock is not None else self._resolved()
        digest = hashlib.blake2b(lock.encode(), digest_size=6).hexdigest()
        folder = self._pointer.parent / f"{self._pointer.stem}-{digest}"
        entry = _entry(self._pointer)
        if entry is None or entry["folder"] != folder.name or not (folder / "bin" / "python").exists():
            packages = self._installed(folder, lock)
        else:  # an upgrade that has found nothing newer
            packages = entry["packages"]
        content = {
            "format": FORMAT,
            "folder": folder.name,
            "requirements": self._wanted.requirements,
            "python": self._base.version_text,
            "packages": packages,
            "size_bytes": _size(folder),
            "lock": masked(lock),
        }
        _write(self._pointer, json.dumps(content, indent=1))
        return self._interpreter_in(folder, packages)

    def _resolved(self) -> str:
        """The exact versions to install, as lines of a requirements file."""
        with _scratch(self._pointer) as folder:
            sources = [folder / "requirements.in"]
            sources[0].write_text("".join(f"{line}\n" for line in self._wanted.lines), encoding="utf-8")
            if self._wanted.script is not None:
                sources.append(folder / "script.py")
                sources[1].write_text(self._wanted.script.text, encoding="utf-8")
            output = folder / "lock.txt"
            arguments = [
                *("pip", "compile", *map(str, sources), "--output-file", str(output), "--no-header"),
                *("--no-annotate", "--python", self._base.executable, *self._builds()),
            ]
            try:
                self._uv(*arguments, meanwhile=f"Looking for {_listed(self._wanted.requirements)}")
            except uv.UvError as problem:
                if problem.is_network:
                    raise InvalidRequestError(self._explained(problem) + self._cached(arguments, output)) from None
                raise
            return output.read_text(encoding="utf-8")

    def _cached(self, arguments: list[str], output: Path) -> str:
        """What uv's cache has of it, for a message."""
        with suppress(uv.UvError, OSError):
            uv.run([*arguments, "--offline"])
            cached = _listed(tuple(output.read_text(encoding="utf-8").split()))
            return (
                f" In uv's cache there is {cached}: with UV_OFFLINE=1 in the kernel's environment, that is used."
            )
        return f" uv's cache has not all of {_listed(self._wanted.requirements)}."

    def _builds(self) -> tuple[str, ...]:
        return () if self._wanted.allow_build else ("--only-binary", ":all:")

    def _installed(self, folder: Path, lock: str) -> list[list[str]]:
        """Install these versions into a new environment; what is in it then."""
        shutil.rmtree(folder, ignore_errors=True)  # of somebody who was killed in the middle
        try:
            uv.run(["venv", "--quiet", "--no-project", "--python", self._base.executable, str(folder)])
            python, site = folder / "bin" / "python", _site_packages(folder, self._base.version)
            with _scratch(self._pointer) as scratch:
                file = scratch / "lock.txt"
                file.write_text(lock, encoding="utf-8")
                arguments = ["pip", "sync", str(file), "--python", str(python), "--compile-bytecode"]
                names = tuple(line for line in lock.splitlines() if not line.startswith(("#", " ")))
                if names:
                    self._uv(*arguments, *self._builds(), meanwhile=f"Installing {_listed(names)}")
            if not self._wanted.alone:
                (site / BELOW).write_text(_below(self._base.folders), encoding="utf-8")
            found = metadata.distributions(path=[str(site)])
            return sorted([normalized(one.metadata["Name"]), one.version] for one in found)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _explained(self, problem: uv.UvError) -> str:
        return uv.explained(problem, self._wanted.requirements, self._base.version_text)


def _below(folders: tuple[str, ...]) -> str:
    """A path file that puts the packages of the interpreter behind those of the environment.

    ``addsitedir()`` reads the path files that lie there, too, so that editable installs are found.
    """
    return "".join(f"import site; site.addsitedir({folder!r})\n" for folder in folders)


def _site_packages(folder: Path, version: tuple[int, int, int]) -> Path:
    return folder / "lib" / f"python{version[0]}.{version[1]}" / "site-packages"


def _listed(names: tuple[str, ...]) -> str:
    """The first few of these."""
    more = len(names) - 3
    return f"{', '.join(names[:3])} and {more} more" if more > 0 else ", ".join(names)


def _entry(pointer: Path) -> dict[str, Any] | None:
    """What the file says that is written last; None if there is none, or none of ours."""
    try:
        found = json.loads(pointer.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("format") == FORMAT else None


def _lock_of(pointer: Path) -> str | None:
    """The versions that were chosen for an environment that is gone by now; None if a password was among them."""
    entry = _entry(pointer)
    lock = entry["lock"] if entry is not None else None
    return lock if isinstance(lock, str) and MASK not in lock else None


def _write(path: Path, text: str) -> None:
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8")


def _size(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())


@contextmanager
def _scratch(pointer: Path) -> Iterator[Path]:
    """A folder for files that uv reads and writes."""
    folder = pointer.with_suffix(f".{os.urandom(4).hex()}.tmp")
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(path: Path, tell: Callable[[str], object]) -> Iterator[None]:
    """Let one process after the other make it. The system lets go of the lock of one that is killed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while not _try_lock(descriptor):
            tell("Waiting for another process that installs the same")
            time.sleep(WAIT_SECS)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # the file system has no locks
        return True
    return True


def kept() -> tuple[KeptEnvironment, ...]:
    """The environments in the cache, the one that was used last first."""
    found = []
    for pointer, entry in _entries():
        if (pointer.parent / entry["folder"]).is_dir():
            packages = tuple((name, version) for name, version in entry["packages"])
            used_at = pointer.stat().st_mtime
            told = tuple(entry["requirements"]), str(entry["python"]), packages, int(entry["size_bytes"]), used_at
            found.append(KeptEnvironment(*told))
    return tuple(sorted(found, key=lambda one: one.used_at, reverse=True))


def _entries() -> Iterator[tuple[Path, dict[str, Any]]]:
    with suppress(OSError, InvalidRequestError):
        for pointer in sorted(_folder().glob("*.json")):
            if (entry := _entry(pointer)) is not None:
                yield pointer, entry


def prune(unused_secs: float = UNUSED_SECS) -> tuple[int, int]:
    """Remove environments that were not used for so long, and what was never finished.

    The versions that were chosen stay known: if one is asked for again, it becomes what it was.

    Returns:
        The number of environments that were removed, and their size in bytes.
    """
    count = size = 0
    in_use = set()
    for pointer, entry in _entries():
        folder = pointer.parent / entry["folder"]
        if time.time() - pointer.stat().st_mtime < unused_secs:
            in_use.add(folder.name)
        elif folder.is_dir():
            count, size = count + 1, size + int(entry["size_bytes"])
    with suppress(OSError, InvalidRequestError):
        for folder in _folder().iterdir():
            if folder.is_dir() and folder.name not in in_use:
                _remove(folder)
    return count, size


def _remove(folder: Path) -> None:
    """Remove an environment, unless one for the same thing is being made now."""
    key = folder.name.partition("-")[0].partition(".")[0]
    descriptor = os.open(folder.with_name(f"{key}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if _try_lock(descriptor):
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(descriptor)
