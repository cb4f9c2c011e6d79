"""What goes over the stdin and the stdout of a container, where one stream each way has to do for all.

A packet is one byte that says what it is, four bytes of length, most significant first, and that many bytes.
"""

from __future__ import annotations

FOLDER = "/run/isolated_magic"  # of a container, in memory: where the child program lies

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
