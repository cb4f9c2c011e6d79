"""The run's stdin, stdout and stderr."""

from __future__ import annotations

import sys
from _io import _IOBase as IOBase  # that of io asks more than the type

from . import stdin

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def connect(payload: bytes | bytearray, late: Callable[[], bytes] | None = None) -> None:
    """Put the request on stdin; let stdout go out line by line, all as UTF-8 whatever the locale.

    Args:
        payload: the bytes that the code can read from stdin.
        late: makes them when ``sys.stdin`` is read, in place of the payload.

    Raises:
        OSError: there are too few descriptors.
    """
    stdin.offer(payload, late)
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
        if issubclass(type(value), IOBase):  # no isinstance(), which asks the object
            try:
                value.flush()  # type: ignore[attr-defined]
            except Exception:  # noqa: BLE001, S112 - closed, or not for writing
                continue
