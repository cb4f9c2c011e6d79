"""A file of lines that one process at a time appends to, and that a kill or a power cut leaves readable."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.resources import start_thread

if TYPE_CHECKING:
    from collections.abc import Iterator

SYNC_SECS = 1.0  # between two fsync(): what a power cut can take
CHUNK_BYTES = 1 << 20  # read at once
SMALLEST_DISK_BLOCK = 512  # a power cut may leave one of zeros in place of a first line
_NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}


class LockedFile:
    """A file of lines, opened for appending and locked. Thread-safe.

    The lock is one of flock(2): it ends with this process, however that ends. Programs that are started do not
    inherit it, and forks let go of it.

    Args:
        path: of the checkpoint, which is made if there is none; ``~`` is the home folder.
        beginning: of each such file. A file that begins otherwise is left as it is.

    Raises:
        InvalidRequestError: it cannot be opened, another evaluation has it, or it is another file.
    """

    def __init__(self, path: str, beginning: bytes) -> None:
        self._told = f"checkpoint {path}"
        self._beginning = beginning
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._descriptor = -1
        self._is_whole = False  # ends with a complete line
        self._chunk, self._chunk_at = b"", 0
        self._is_synced = True
        self._syncs = False
        self._closed = threading.Event()
        self._path = absolute(path)
        self.is_gone = False  # when it was closed, its name was that of another file, or of none
        if "\0" in path:
            raise InvalidRequestError(f"{self._told!r} has a NUL in it, and is the path of no file.")
        try:
            self._open(self._path)
            self._check()
            self._repair()
        except OSError as problem:
            self.close()
            raise InvalidRequestError(f"{self._told} cannot be opened: {_reason(problem, path)}.") from None
        except BaseException:
            self.close()
            raise
        forget_in_forks(self)

    def _open(self, path: str) -> None:
        is_new = not os.path.exists(path)  # noqa: PTH110 - a link that points nowhere does not count
        if not is_new and not os.path.isfile(path):  # noqa: PTH113 - likewise
            raise InvalidRequestError(f"{self._told} is no file: give the path of a file of its own.")
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o666)
        self.is_locked = self._took_lock()
        if is_new:
            _sync_folder(os.path.dirname(path))  # noqa: PTH120 - likewise

    def _took_lock(self) -> bool:
        """Whether it is locked; False where the file system has no locks."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidRequestError(
                f"{self._told} is being written by another evaluation: wait until that has ended, or give each "
                "a file of its own."
            ) from None
        except OSError as problem:
            if problem.errno in _NO_LOCKS:
                return False
            raise
        return True

    def _check(self) -> None:
        """Refuse a file that something else wrote; empty one that was left before its first line was complete."""
        start = os.pread(self._descriptor, CHUNK_BYTES, 0)
        is_ours = start.startswith(self._beginning)
        if is_ours and b"\n" in start:
            return
        if is_ours or (len(start) <= SMALLEST_DISK_BLOCK and not start.strip(b"\0")):
            os.ftruncate(self._descriptor, 0)
            return
        raise InvalidRequestError(
            f"{self._told} is another file, not a checkpoint: it is left as it is. Give the path of a new file."
        )

    def _repair(self) -> None:
        """Cut off an incomplete last line."""
        size = end = self.size
        found = -1
        while end > 0 and found < 0:
            start = max(0, end - CHUNK_BYTES)
            found = os.pread(self._descriptor, end - start, start).rfind(b"\n")
            end = start + found + 1 if found >= 0 else start
        if end < size:
            os.ftruncate(self._descriptor, end)
        self._is_whole = True

    @property
    def size(self) -> int:
        """Number of bytes in it."""
        return os.fstat(self._descriptor).st_size

    def lines(self) -> Iterator[bytes]:
        """All lines, each with its line end. Linear, whatever their length."""
        at, pieces = 0, list[bytes]()
        while chunk := os.pread(self._descriptor, CHUNK_BYTES, at):
            at += len(chunk)
            first, *rest = chunk.split(b"\n")
            pieces.append(first)
            for line in rest:
                yield b"".join(pieces) + b"\n"
                pieces = [line]

    def read(self, start: int, end: int) -> bytes:
        """The bytes from start to end. Cheap when called for one line after the other."""
        with self._lock:
            if not self._chunk_at <= start <= end <= self._chunk_at + len(self._chunk):
                self._chunk_at = start
                self._chunk = os.pread(self._descriptor, max(end - start, CHUNK_BYTES), start)
            return self._chunk[start - self._chunk_at : end - self._chunk_at]

    def append(self, line: bytes) -> None:
        """Hand a line to the system, which keeps it whatever happens to this process. Nothing once it is closed.

        Raises:
            OSError: not all of it could be written; then none of it was.
        """
        with self._lock:
            if self._descriptor < 0:
                return
            if not self._is_whole:  # an interrupt came while the last one was written
                self._repair()
            self._is_whole = False
            try:
                self._write(line)
            except OSError:
                with suppress(OSError):
                    self._repair()
                raise
            self._is_whole = True
            self._is_synced = False
            if not self._syncs:
                self._syncs = True
                with suppress(LaunchError):  # no thread left: it is synced at the end
                    start_thread(self._sync_until_closed, "isolated_magic checkpoint")

    def _write(self, line: bytes) -> None:
        while line:
            line = line[os.write(self._descriptor, line) :]

    def sync(self) -> None:
        """Have the system put it on the disk.

        Raises:
            OSError: it could not.
        """
        os.fsync(self._descriptor)

    def _sync_until_closed(self) -> None:
        while not self._closed.wait(SYNC_SECS):
            if not self._is_synced:
                self._is_synced = True
                with suppress(OSError):  # tried again with the next line, and at the end
                    self.sync()

    def empty(self, backup: str | None) -> None:
        """Remove all lines.

        Args:
            backup: path of a new file to which they are copied before; None for none.

        Raises:
            InvalidRequestError: they could not be copied; then they are still there.
        """
        try:
            if backup is not None:
                self._copy_to(absolute(backup))
            os.ftruncate(self._descriptor, 0)
        except OSError as problem:
            raise InvalidRequestError(f"{self._told} cannot be copied to {backup}: {problem.strerror}.") from None
        self._chunk = b""

    def _copy_to(self, path: str) -> None:
        with open(path, "xb") as copy:  # noqa: PTH123 - likewise
            try:
                copy.writelines(self.lines())
                copy.flush()
                os.fsync(copy.fileno())
            except OSError:
                os.unlink(path)  # noqa: PTH108 - likewise
                raise
        _sync_folder(os.path.dirname(path))  # noqa: PTH120 - likewise

    def close(self) -> None:
        """Sync and unlock it. It may be called again.

        Raises:
            OSError: it could not be synced; it is closed all the same.
        """
        self._closed.set()
        with self._lock:
            descriptor = self._descriptor
            if descriptor < 0:
                return
            try:
                self.is_gone = not self._has_its_name()
                if self._syncs:
                    self.sync()
            finally:
                self._descriptor = -1
                with suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    def _has_its_name(self) -> bool:
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))  # noqa: PTH116 - likewise
        except OSError:
            return False

    def __del__(self) -> None:
        with suppress(Exception):  # an interrupt came before there was an evaluation to close it
            self.close()

    def forget(self) -> None:
        """Called in a fork of this process: the file and its lock are those of the parent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._lock = threading.RLock()


def absolute(path: str) -> str:
    """The path from the root; ``~`` is the home folder."""
    return os.path.abspath(os.path.expanduser(path))  # noqa: PTH100, PTH111 - of any text


def _sync_folder(folder: str) -> None:
    """Have the name of a new file survive a power cut, where folders can be synced."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(problem: OSError, path: str) -> str:
    folder = os.path.dirname(path)  # noqa: PTH120 - likewise
    if isinstance(problem, FileNotFoundError) and folder and not os.path.isdir(absolute(folder)):  # noqa: PTH112
        return f"there is no folder {folder}"
    return problem.strerror or str(problem)
