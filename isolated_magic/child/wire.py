"""What goes over the sockets: single bytes as orders, and frames.

A frame is eight bytes of length, most significant first, then that many bytes.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import BufferedReader, FileIO

# What the owner asks of a keeper; the first two go with descriptors, which a stream never joins with what follows.
RUN, SPARE, RETIRE, PAGES = b"r", b"s", b"q", b"p"
READY = b"!"  # what a guardian says first
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
    return b"".join(b"%b=%b\0" % item for item in environment.items())


def environment_in(block: bytes) -> dict[bytes, bytes]:
    """The environment in a block.

    Args:
        block: as :func:`environment_block` makes it.
    """
    return {name: value for name, _, value in (entry.partition(b"=") for entry in block.split(b"\0")[:-1])}
