"""Data that holds much: long lists of numbers or texts travel as bytes, tables as columns, the rest as JSON.

A packed payload is a zero byte, with which no JSON begins, and frames (see ``wire.py``): for each part its
description in JSON and its bytes, after all parts the message. In whatever comes after part 3 the number ``0E3``
stands for it: Python writes no number with a capital E.

To write a number as text and to read it again takes a hundred times as long as to copy it.
"""

from __future__ import annotations

from . import stdlib, wire

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

with stdlib.Imports():
    from json import loads

MARK = b"\0"
# What memoryview.cast() calls the kinds of numbers, by what numpy calls them.
CODES: dict[str, Any] = {
    "b1": "?",
    "f4": "f",
    "f8": "d",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
}


def is_packed(payload: bytes | bytearray) -> bool:
    """Whether a payload is packed; else it is JSON.

    Args:
        payload: of a run.
    """
    return payload[:1] == MARK


def pack(parts: Iterable[tuple[str, bytes]], message: str) -> bytes:
    """A packed payload.

    Args:
        parts: description and bytes of each.
        message: JSON that the numbers ``0E0``, ``0E1`` and so on stand in.
    """
    frames = [wire.frame(frame) for text, block in parts for frame in (text.encode(), block)]
    return b"".join([MARK, *frames, wire.frame(message.encode())])


def unpack(payload: bytes | bytearray) -> Any:  # noqa: ANN401 - as json.loads() has it
    """The message of a packed payload, all of its parts in their places.

    Args:
        payload: as :func:`pack` makes it.
    """
    *frames, message = _frames(memoryview(payload)[len(MARK) :])
    parts: list[object] = []

    def read(text: memoryview) -> Any:  # noqa: ANN401 - likewise
        return loads(
            bytes(text), parse_float=lambda number: parts[int(number[2:])] if "E" in number else float(number)
        )

    for description, block in zip(frames[::2], frames[1::2], strict=True):
        parts.append(_built(read(description), block))
    return read(message)


def _frames(rest: memoryview) -> Iterator[memoryview]:
    while rest:
        end = wire.LENGTH_BYTES + int.from_bytes(rest[: wire.LENGTH_BYTES], "big")
        yield rest[wire.LENGTH_BYTES : end]
        rest = rest[end:]


def _built(description: dict[str, Any], block: memoryview) -> list[Any]:
    if "columns" in description:
        names = description["names"]
        return [dict(zip(names, row)) for row in zip(*description["columns"])]  # noqa: B905 - all of one length
    kind, shape = description["kind"], description["shape"]
    if kind != "str":
        return block.cast(CODES[kind], shape).tolist()
    values: list[Any] = str(block, "utf-8", "surrogatepass").split("\0")
    for size in shape[:0:-1]:
        values = [values[n : n + size] for n in range(0, len(values), size)]
    return values
