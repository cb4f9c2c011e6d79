"""A run's end of the private channel.

The channel is a private descriptor, so nothing that the code prints can be taken for the outcome. The owner sends
the program as JSON and then the payload; this end sends, in this order, or the owner believes none of it,

- ``{"started": {}}`` once, before the code runs; from the second run of a worker on, with what comes next;
- ``{"ask": {}}`` when the code defines a metric class and nothing else came of it: only the owner sees all that
  was printed, through whatever way to descriptor 1, and answers whether there are scores in it;
- ``{"mark": {}}`` when the code came to scores and may still print others, at its exit: the owner notes what was
  printed until then;
- ``{"imported": {...}}`` at most once: the modules that the code imported, and the files among them that are not
  installed;
- ``{"memory": {...}}`` when the owner wants to know which pages the run has written to;
- ``{"outcome": {...}}`` once, before the interpreter shuts down (threads, atexit);
- ``{"idle": {...}}`` in a worker that is ready for the next request;
- ``{"cut": {}}`` in a fork whose objects took too long over their last words (see ``shutdown.py``).

When the owner sends the signal of ``signals.py``, text comes between two of these.
"""

from __future__ import annotations

import errno
import os
from io import BufferedReader, FileIO

from . import descriptors, modules, stdio, wire

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any


with modules.StandardImports():
    from json import dumps, loads
    from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]  # None without C


def _make_encoder() -> Callable[[object], str]:
    """What ``json.dumps`` does, whatever the code puts in place of json's parts later: to round floats, say."""
    if c_make_encoder is None:
        return dumps
    in_c = c_make_encoder(None, None, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return lambda message: "".join(in_c(message, 0))


encode = _make_encoder()

LAST_WORDS = wire.frame(
    encode({"outcome": {"exit_message": "the code took apart what Python needs to tell its result"}}).encode()
)
CUT = wire.frame(b'{"cut": {}}')
_HELD = {"imported", "outcome"}
_write, _pid = os.write, os.getpid


def _identity_of(descriptor: int) -> tuple[int, int]:
    state = os.fstat(descriptor)
    return state.st_dev, state.st_ino


class Channel:
    """The other end of the channel.

    Args:
        descriptor: the one that this process was started with.
    """

    def __init__(self, descriptor: int) -> None:
        self.stream = FileIO(descriptors.moved(descriptor, descriptors.CHANNEL), "r+")
        self.descriptor = self.stream.fileno()
        self._frames = BufferedReader(self.stream)
        self._pid = _pid()
        self._identity = _identity_of(self.descriptor)
        self.has_given_up = False
        self.holds_outcome = False  # until the last message, or the end: the owner wakes up once for all
        self.holds_start = False  # likewise
        self._start = b""
        self._held = b""

    def receive(self) -> bytes | bytearray:
        """The next frame."""
        return wire.read_frame(self._frames)

    def start(self) -> None:
        """Say that the code is about to run."""
        self._start = wire.frame(wire.STARTED)
        if not self.holds_start:
            self._write_out(b"")

    def send(self, message: dict[str, object]) -> bool:
        """Send a message; False when the code closed the channel.

        Args:
            message: what JSON can hold.

        Raises:
            ValueError: it holds something that JSON, or this interpreter's limits, cannot.
        """
        framed = self._held + wire.frame(encode(message).encode())
        self._held = b""
        if not self.holds_outcome or _HELD.isdisjoint(message):
            return self._write_out(framed)
        if not self.is_connected:
            return False
        self._held = framed
        return True

    @property
    def is_connected(self) -> bool:
        """Whether the code has left the channel where it is."""
        try:
            return _identity_of(self.descriptor) == self._identity
        except OSError:
            return False

    def refuse(self, number: int = errno.ENOTRECOVERABLE) -> None:
        """Say that the request cannot be run.

        Args:
            number: of the system's error that it comes from. The usual one: an earlier run took us apart.
        """
        self.has_given_up = True
        try:
            _write(self.descriptor, wire.frame(encode({"not_started": {"errno": number}}).encode()))
        except OSError:
            return

    def _write_out(self, framed: bytes) -> bool:
        start, self._start = self._start, b""
        try:
            wire.write_all(self.stream, start + framed)
        except (OSError, ValueError):  # ValueError: the code closed the stream itself
            return False
        return True

    def give_up(self) -> None:
        """Say that nothing will be said: the code took apart what :meth:`send` is made of."""
        self.has_given_up = True
        self._held = b""
        try:
            if self._pid == _pid():
                _write(self.descriptor, self._start + LAST_WORDS)
        except OSError:  # it closed the channel, too
            return

    @property
    def is_mine(self) -> bool:
        """False in a fork of the run: it has nothing to tell."""
        return self._pid == _pid()

    def tell_cut(self) -> None:
        """Say that this process ends in the middle of a finalizer, in whatever state it is."""
        if self.is_mine and self.is_connected:
            _write(self.descriptor, CUT)

    def close(self) -> None:
        """Hang up."""
        try:
            if self._held and self.is_mine:
                self._write_out(self._held)
            self.stream.close()
        except (OSError, ValueError, AttributeError):  # the code closed the descriptor, or took the stream away
            return

    def printed_scores(self) -> bool:
        """Ask whether there are scores in what was printed so far."""
        return not self.is_mine or self._asked("ask", b"nothing") != b"nothing"  # a fork's scores reach nobody

    def mark(self) -> None:
        """Have the owner tell what was printed so far from what will be."""
        if self.is_mine:
            self._asked("mark", b"")

    def _asked(self, question: str, otherwise: bytes) -> bytes | bytearray:
        """The answer.

        Args:
            question: one of those above.
            otherwise: the answer when the code closed the channel.
        """
        stdio.flush()
        try:
            return self.receive() if self.send({question: {}}) else otherwise
        except (OSError, EOFError):
            return b""


# Data that holds much is packed: long lists of numbers or texts travel as bytes, tables as columns, the rest as
# JSON. A packed payload is a zero byte, with which no JSON begins, and frames: for each part its description in
# JSON and its bytes, after all parts the message. In whatever comes after part 3 the number ``0E3`` stands for it:
# Python writes no number with a capital E. To write a number as text and to read it again takes a hundred times as
# long as to copy it.
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
