"""Hears of every change to files in some folders (inotify(7)), without looking at each of them."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress

IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO = 0x4, 0x8, 0x40, 0x80
IN_DELETE, IN_ONLYDIR = 0x200, 0x1000000
CHANGES = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_DELETE | IN_ATTRIB


class Watch:
    """A watch on folders. Where the system has none, or no more of them, it hears nothing.

    Args:
        folders: that hold the files.
        since: nanoseconds since the epoch: what changed after that has changed.
    """

    def __init__(self, folders: list[str], since: int) -> None:
        self._descriptor: int | None = None
        self._changed = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        if sys.platform != "linux" or not folders:
            return
        import ctypes  # noqa: PLC0415 - only those who have something to watch need it

        libc = ctypes.CDLL(None, use_errno=True)
        descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if descriptor < 0:
            return
        self._descriptor = descriptor
        for folder in folders:
            libc.inotify_add_watch(descriptor, os.fsencode(folder), CHANGES | IN_ONLYDIR)
        self._changed = any(_has_newer(folder, since) for folder in folders)

    def has_changed(self) -> bool:
        """Whether anything did."""
        with self._lock:
            if not self._changed and self._descriptor is not None:
                with suppress(BlockingIOError):
                    self._changed = bool(os.read(self._descriptor, 4096))
            return self._changed

    def forget(self) -> None:
        """In a fork of the process that watches: another thread may have held the lock."""
        self._lock = threading.RLock()
        self.close()

    def close(self) -> None:
        """Hear of no more."""
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
