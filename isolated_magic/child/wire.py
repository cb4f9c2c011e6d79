"""The bytes between the processes: orders of one byte, frames, and the packets of a container.

A frame is eight bytes of length, most significant first, then that many bytes.

A container has only its stdin and its stdout: what would be several streams travels there as packets, each one
byte for its kind, four bytes of length, most significant first, and that many bytes.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedReader, FileIO


# Orders to a guardian or a fork server. The first two go with descriptors: a stream never joins such a message
# with what follows.
RUN, SPARE, RETIRE, PAGES = b"r", b"s", b"q", b"p"
GUARDIAN_READY = b"!"  # the first byte from a guardian
# Orders on the handle of a run.
INTERRUPT, KILL = b"i", b"k"

STARTED = b'{"started": {}}'  # the first message of a run

LOST_OUTPUT_STATUS = 120  # exit status of a process that could not flush stdout: Py_RunMain (Modules/main.c)

LENGTH_BYTES = 8


def frame(body: bytes) -> bytes:
    """The frame that carries these bytes."""
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_frame(stream: FileIO | BufferedReader[FileIO]) -> bytes | bytearray:
    """The body of the next frame of a blocking stream; an unbuffered one, where other code reads what follows.

    Raises:
        EOFError: the other end was closed before the frame was complete.
    """
    length = int.from_bytes(_read_exactly(stream, LENGTH_BYTES), "big")
    return _read_exactly(stream, length)


def write_frame(stream: FileIO, body: bytes) -> None:
    """Send these bytes as a frame; see :func:`write_all`."""
    write_all(stream, frame(body))


def write_all(stream: FileIO, framed: bytes) -> None:
    """Send all of these bytes over an unbuffered blocking stream.

    Raises:
        OSError: the other end was closed.
    """
    sent = stream.write(framed) or 0
    while sent < len(framed):  # a signal came, or the code has made the stream a non-blocking one
        sent += stream.write(memoryview(framed)[sent:]) or 0


def _read_exactly(stream: FileIO | BufferedReader[FileIO], count: int) -> bytearray:
    body = bytearray(count)
    rest = memoryview(body)
    while rest:
        got = stream.readinto(rest)
        if not got:
            raise EOFError("the channel was closed in the middle of a frame")
        rest = rest[got:]
    return body


def environment_block(environment: Mapping[bytes, bytes]) -> bytes:
    """An environment as the system lays it out: ``NAME=VALUE``, each with a closing NUL."""
    return b"".join([b"%b=%b\0" % item for item in environment.items()])


def environment_in(block: bytes) -> dict[bytes, bytes]:
    """The environment in such a block."""
    return {name: value for name, _, value in (entry.partition(b"=") for entry in block.split(b"\0")[:-1])}


# Whether the owner can see if its request was read: then a fork need not wake it up to say that the code begins.
SHOWS_UNREAD = sys.platform == "linux"

CONTAINER_FOLDER = "/run/isolated_magic"  # where a container has these files, in memory

# Kinds of packets. Both ways: bytes of the run's channel. From the container: what the run prints, news of it (see
# ``reaper.py``), and once READY with facts about the container. To the container: an order, and the seconds after
# which it ends by itself.
CHANNEL, STDOUT, STDERR, NEWS, READY, ORDER, DEADLINE = b"c", b"o", b"e", b"n", b"r", b"x", b"d"
# Orders to a container, beside INTERRUPT and KILL: have the run write its stacks; the owner sends it nothing more.
STACK, HANG_UP = b"s", b"h"

# The first frame on a run's channel in a container: whether a fork will do, or a new interpreter has to replace
# it.
FORKED, COLD = b"forked", b"cold"
# In a container nothing is inherited from the owner (see ``launch/spawn.py``).
NO_ATTRIBUTES: dict[str, object] = {"umask": None, "nice": 0, "affinity": None, "limits": []}

HEADER_BYTES = 5
PIECE_BYTES = 1 << 16  # of a stream
ENOUGH_BYTES = 4 * PIECE_BYTES  # when so much is still to be written, no more is read
LARGEST_READY_BYTES = 4 << 20  # it lists what the imports have looked at
_LARGEST = dict.fromkeys((CHANNEL, STDOUT, STDERR, NEWS, ORDER, DEADLINE), PIECE_BYTES) | {
    READY: LARGEST_READY_BYTES
}


def packet(kind: bytes, body: bytes) -> bytes:
    """The packet that carries these bytes: PIECE_BYTES at most, unless it is READY."""
    return kind + len(body).to_bytes(4, "big") + body


class Packets:
    """Splits a stream into packets. Holds no more than one packet and one chunk."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Take the next bytes; return the packets that are complete now, as kind and body.

        Raises:
            ValueError: this is no stream of packets.
        """
        self._received += chunk
        found = []
        start = 0
        while len(self._received) - start >= HEADER_BYTES:
            kind = bytes(self._received[start : start + 1])
            length = int.from_bytes(self._received[start + 1 : start + HEADER_BYTES], "big")
            if length > _LARGEST.get(kind, -1):
                raise ValueError("no packet of ours")
            end = start + HEADER_BYTES + length
            if len(self._received) < end:
                break
            found.append((kind, bytes(self._received[start + HEADER_BYTES : end])))
            start = end
        del self._received[:start]
        return found
