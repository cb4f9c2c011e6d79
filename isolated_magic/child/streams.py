"""The run's stdin, stdout and stderr."""

from __future__ import annotations

import os
import sys
from io import BufferedReader, FileIO, IOBase, RawIOBase, TextIOWrapper

from . import stdlib, wire

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

PIPE_BYTES = 4096  # any pipe holds so much: pipe(7)


def connect(payload: bytes | bytearray, late: Callable[[], bytes] | None = None) -> None:
    """Put the request on stdin; let stdout go out line by line, all as UTF-8 whatever the locale.

    Args:
        payload: the bytes that the code can read from stdin.
        late: makes them when ``sys.stdin`` is read, in place of the payload.

    Raises:
        OSError: there are too few descriptors.
    """
    stdin = _descriptor_to_read(payload)
    os.dup2(stdin, 0)
    os.close(stdin)
    if late is not None and sys.stdin is not None:
        sys.stdin = sys.__stdin__ = _late_stdin(late, sys.stdin.errors)  # type: ignore[misc]  # as a new process has it
    for stream, by_line in ((sys.stdin, False), (sys.stdout, True), (sys.stderr, True)):
        if stream is not None and (stream.encoding != "utf-8" or stream.line_buffering != by_line):
            # errors: as the interpreter chose them; a new encoding alone would make them strict
            stream.reconfigure(encoding="utf-8", errors=stream.errors, line_buffering=by_line)  # type: ignore[union-attr]  # a file


class _Late(RawIOBase):
    """Descriptor 0, to which the text comes when it is asked for.

    Args:
        make: the text.
    """

    name = "<stdin>"

    def __init__(self, make: Callable[[], bytes]) -> None:
        self._make: Callable[[], bytes] | None = make
        self._identity = os.fstat(0).st_ino

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        self._fill()
        return 0

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - whatever can be written to
        self._fill()
        return os.readv(0, [buffer])

    def _fill(self) -> None:
        make, self._make = self._make, None
        if make is not None and os.fstat(0).st_ino == self._identity:  # else the code put something else there
            stdin = _descriptor_to_read(make())
            os.dup2(stdin, 0)
            os.close(stdin)


def _late_stdin(make: Callable[[], bytes], errors: str | None) -> TextIOWrapper:
    stdin: Any = TextIOWrapper(BufferedReader(_Late(make)), encoding="utf-8", errors=errors)
    stdin.mode = "r"  # as that of the interpreter
    return stdin  # type: ignore[no-any-return]  # whose mode is none of its attributes to a type checker


def flush() -> None:
    """Hand everything printed so far to descriptors 1 and 2."""
    for name in ("stdout", "__stdout__", "stderr", "__stderr__"):
        try:
            getattr(sys, name).flush()
        except Exception:  # noqa: BLE001, S112 - closed, gone, or something that the code put in its place
            continue


def flush_all(values: Iterable[object]) -> None:
    """Hand on what was written to those among these that are files.

    Args:
        values: any.
    """
    for value in list(values):
        if isinstance(value, IOBase):
            try:
                value.flush()
            except Exception:  # noqa: BLE001, S112 - closed, or not for writing
                continue


def _descriptor_to_read(payload: bytes | bytearray) -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("stdin", os.MFD_CLOEXEC)
        if _fill(descriptor, payload):
            return descriptor
        os.close(descriptor)
    readable, writable = os.pipe()
    if len(payload) <= PIPE_BYTES:
        os.write(writable, payload)
        os.close(writable)
    else:
        _feed_in_background(writable, bytes(payload))
    return readable


def _fill(descriptor: int, payload: bytes | bytearray) -> bool:
    """Write all of it, to be read from the start, unless the limit of the size of files forbids that."""
    rest, at = memoryview(payload), 0
    try:
        while at < len(payload):
            at += os.pwrite(descriptor, rest[at:], at)
    except OSError:  # RLIMIT_FSIZE
        return False
    return True


def _feed_in_background(writable: int, payload: bytes) -> None:
    # Where a pipe is all there is, code that never reads stdin must not be held up by it.
    with stdlib.Imports():
        import threading  # noqa: PLC0415 - only there

    def feed() -> None:
        with FileIO(writable, "w") as file:
            try:
                wire.write_all(file, payload)
            except OSError:  # nobody reads it any more
                return

    threading.Thread(target=feed, daemon=True).start()
