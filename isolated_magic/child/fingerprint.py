"""Whether files and folders are still as they were."""

from __future__ import annotations

import os

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterable


def fingerprint(paths: Iterable[str]) -> dict[str, list[int] | None]:
    """What tells whether files are still the same: the state of each by its path.

    Args:
        paths: of files, and of folders.
    """
    return {path: state_of(path) for path in paths}


def state_of(path: str) -> list[int] | None:
    """Time of the last change in nanoseconds and size; None when missing.

    Args:
        path: of a file, or of a folder.
    """
    try:
        state = os.stat(path)  # noqa: PTH116 - as in process_tree
    except (OSError, ValueError):
        return None
    return [state.st_mtime_ns, state.st_size]
