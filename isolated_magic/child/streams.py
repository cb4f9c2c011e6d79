"""The run's stdin, stdout and stderr."""

from __future__ import annotations

import os
import sys
from io import FileIO, IOBase

from . import stdlib, wire

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterable

PIPE_BYTES = 4096  # any pipe holds so much: pipe(7)


def connect(payload: bytes | bytearray) -> None:
    """Put the request on stdin; let stdout go out line by line, all as UTF-8 whatever the locale.

    Args:
        payload: the bytes that the code can read from stdin.

    Raises:
        OSError: there are too few descriptors.
    """
    stdin = _descriptor_to_read(payload)
    os.dup2(stdin, 0)
    os.close(stdin)
    for stream, by_line in ((sys.stdin, False), (sys.stdout, True), (sys.stderr, True)):
        if stream is not None and (stream.encoding != "utf-8" or stream.line_buffering != by_line):
            # errors: as the interpreter chose them; a new encoding alone would make them strict
            stream.reconfigure(encoding="utf-8", errors=stream.errors, line_buffering=by_line)  # type: ignore[union-attr]  # a file


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
