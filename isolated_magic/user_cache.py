"""The folder of this user's that is kept between processes, and who may have written what is in it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def cache_folder() -> Path | None:
    """Where everything is that is kept; None for a user without a home."""
    import platformdirs  # noqa: PLC0415 - takes longer to import than all that most callers need

    if not (os.environ.get("XDG_CACHE_HOME") or os.environ.get("HOME")):
        return None
    folder = platformdirs.user_cache_path("isolated_magic", appauthor=False)
    return folder if folder.is_absolute() else None


def is_ours(state: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    """Whether it is of this kind, and nobody else can have written it."""
    return is_kind(state.st_mode) and state.st_uid == os.geteuid() and not state.st_mode & _WRITABLE_BY_OTHERS


def make_folder(folder: Path) -> Path:
    """The folder, made for this user alone if there is none.

    Raises:
        OSError: it cannot be used.
    """
    if not folder.exists():
        place = next(parent for parent in folder.parents if parent.exists())
        if os.geteuid() == 0 and place.stat().st_uid != 0:  # somebody's home, who could not use it later
            raise PermissionError
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_ours(folder.lstat(), stat.S_ISDIR):
        raise PermissionError
    return folder
