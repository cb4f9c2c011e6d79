"""A file that takes the place of another one when it is complete."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """The path of a new file, which takes the place of the target if nothing is raised; if not, it is removed.

    Nobody who may not read the target may read it. Where that is a link, what it points to is replaced.

    Raises:
        OSError: it cannot be made, or the target is a folder.
    """
    target = target.resolve()
    if target.is_dir():
        raise IsADirectoryError(None, "it is a folder")
    mode = target.stat().st_mode & 0o777 if target.exists() else None
    new = target.with_name(f".{os.urandom(8).hex()}.new")
    try:
        new.touch(exist_ok=False)
        if mode is not None:
            new.chmod(mode | stat.S_IWUSR)
        yield new
        if mode is not None:
            new.chmod(mode)
        new.replace(target)
    finally:
        new.unlink(missing_ok=True)
