"""The bytes between the processes: orders of one byte, frames, and the packets of a container.

A frame is eight bytes of length, most significant first, then that many bytes.

Of a container there are stdin and stdout alone, and one stream each way has to do for all: it is cut into packets,
one byte that says what it is, four bytes of length, most significant first, and that many bytes.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedReader, FileIO


# What the owner asks of a keeper; the first two go with descriptors, which a stream never joins with what follows.
RUN, SPARE, RETIRE, PAGES = b"r", b"s", b"q", b"p"
GUARDIAN_READY = b"!"  # what a guardian says first
# What the owner asks on the handle of a run.
INTERRUPT, KILL = b"i", b"k"

STARTED = b'{"started": {}}'  # what a run says first

LOST_OUTPUT_STATUS = 120  # of a process that could not write what it had printed: Py_RunMain (Modules/main.c)

LENGTH_BYTES = 8


def frame(body: bytes) -> bytes:
    """The frame that carries these bytes.

    Args:
        body: any bytes, any length.
    """
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def read_frame(stream: FileIO | BufferedReader[FileIO]) -> bytes | bytearray:
    """The body of the next frame.

    Args:
        stream: a binary stream in blocking mode; an unbuffered one where somebody else reads on.

    Raises:
        EOFError: the other end was closed before the frame was complete.
    """
    length = int.from_bytes(_read_exactly(stream, LENGTH_BYTES), "big")
    return _read_exactly(stream, length)


def write_frame(stream: FileIO, body: bytes) -> None:
    """Send one frame, whole.

    Args:
        stream: an unbuffered binary stream in blocking mode.
        body: any bytes.

    Raises:
        OSError: the other end was closed.
    """
    write_all(stream, frame(body))


def write_all(stream: FileIO, framed: bytes) -> None:
    """Send frames, whole.

    Args:
        stream: as for :func:`write_frame`.
        framed: one or more.

    Raises:
        OSError: the other end was closed.
    """
    rest = memoryview(framed)
    while rest:
        rest = rest[stream.write(rest) :]


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
    """An environment as the system lays it out: ``NAME=VALUE``, each with a closing NUL.

    Args:
        environment: no name holds ``=``, nothing a NUL.
    """
    return b"".join([b"%b=%b\0" % item for item in environment.items()])


def environment_in(block: bytes) -> dict[bytes, bytes]:
    """The environment in a block.

    Args:
        block: as :func:`environment_block` makes it.
    """
    return {name: value for name, _, value in (entry.partition(b"=") for entry in block.split(b"\0")[:-1])}


CONTAINER_FOLDER = "/run/isolated_magic"  # of a container, in memory: where the child program lies

# Both ways: bytes of the run's channel. Up: what it prints, news of it (see ``reaper.py``), and once what the
# container is. Down: an order, and the seconds after which the container ends by itself.
CHANNEL, STDOUT, STDERR, NEWS, READY, ORDER, DEADLINE = b"c", b"o", b"e", b"n", b"r", b"x", b"d"
STACK = b"s"  # an order, beside those that a keeper takes: to have the run say where it is

# What a run's channel begins with: whether a fork will do or a new interpreter has to take its place.
FORKED, COLD = b"forked", b"cold"
# In a container nothing is inherited from the owner (see ``launch/spawn.py``).
NO_ATTRIBUTES: dict[str, object] = {"umask": None, "nice": 0, "affinity": None, "limits": []}

HEADER_BYTES = 5
PIECE_BYTES = 1 << 16  # of a stream
ENOUGH_BYTES = 4 * PIECE_BYTES  # waiting to go on: then the source has to wait
LARGEST_READY_BYTES = 4 << 20  # what the imports looked at is in it
_LARGEST = dict.fromkeys((CHANNEL, STDOUT, STDERR, NEWS, ORDER, DEADLINE), PIECE_BYTES) | {
    READY: LARGEST_READY_BYTES
}


def packet(kind: bytes, body: bytes) -> bytes:
    """The packet that carries these bytes.

    Args:
        kind: one of those above.
        body: no more than a piece, unless it is READY.
    """
    return kind + len(body).to_bytes(4, "big") + body


class Packets:
    """Takes a stream apart. Holds no more than one packet and one chunk."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """The packets that are complete now, as kind and body.

        Args:
            chunk: the next bytes.

        Raises:
            ValueError: this is no such stream.
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
