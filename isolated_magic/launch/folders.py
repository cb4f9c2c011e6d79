"""What the file system has now, as far as it decides whether a template may be used."""

from __future__ import annotations

import os
import sys
import time
from functools import lru_cache
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.launch.calls import state_of
from isolated_magic.launch.shortage import is_shortage

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from isolated_magic.run_request import RunRequest

_SUFFIXES = tuple(all_suffixes())
SETTLED_SECS = 2.0  # within one tick of a file system's clock, a folder may change and keep its time


def home_of(request: RunRequest) -> str:
    """The folder that stands first on the path of a run.

    Args:
        request: the run.
    """
    if request.path is None:
        return request.cwd
    return str(Path(request.cwd, request.path).resolve().parent)


def has_module_named(names: Container[str], folder: str) -> bool:
    """Whether a module or package of one of these names lies in a folder.

    Args:
        names: without suffix.
        folder: its path; one that cannot be read holds none.

    Raises:
        OSError: the system is short of what it takes to look.
    """
    try:
        changed_at = os.stat(folder).st_mtime_ns  # noqa: PTH116 - of every run
    except (OSError, ValueError):
        return False
    settled = time.time() - changed_at / 1e9 > SETTLED_SECS
    files, subfolders = _settled_entries(folder, changed_at) if settled else _entries(folder)
    if any(name in names for name in files):
        return True
    return any(name in names and Path(folder, name, "__init__.py").exists() for name in subfolders)


def _entries(folder: str) -> tuple[frozenset[str], frozenset[str]]:
    """The names of what may be modules, and of what may be packages."""
    files, subfolders = set(), set()
    try:
        for entry in os.listdir(folder):  # noqa: PTH208 - of every run
            name, _, rest = entry.partition(".")
            if not rest:
                subfolders.add(name)
            elif f".{rest}" in _SUFFIXES:
                files.add(name)
    except OSError as problem:
        if is_shortage(problem):  # what is in there is not known, and must not be taken for nothing
            raise
    return frozenset(files), frozenset(subfolders)


@lru_cache(maxsize=64)
def _settled_entries(folder: str, _changed_at: int) -> tuple[frozenset[str], frozenset[str]]:
    return _entries(folder)


def package_folders() -> list[str]:
    """The folders that packages are installed into, as far as this interpreter looks there."""
    return [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]


def is_unchanged(states: Mapping[str, list[int] | None]) -> bool:
    """Whether files and folders are as they were.

    Args:
        states: by path, as ``child/fingerprint.py`` has them.
    """
    return all(state_of(path) == before for path, before in states.items())
