"""A run's end of the private channel.

The channel is a private descriptor, so nothing that the code prints can be taken for the outcome. The owner sends
the program as JSON and then the payload; this end sends

- ``{"started": {}}`` once, before the code runs;
- ``{"ask": "metric"}`` when the code defines a metric class and nothing else came of it: only the owner sees
  all that was printed, through whatever way to descriptor 1, and answers whether that is the result already;
- ``{"imported": {...}}`` at most once: the modules that the code imported, and the files among them that are not
  installed;
- ``{"outcome": {...}}`` once, before the interpreter shuts down (threads, atexit).
"""

from __future__ import annotations

import os
from io import FileIO

from . import descriptors, stdlib, streams, wire

with stdlib.Imports():
    from json import dumps


class Owner:
    """The other end of the channel.

    Args:
        descriptor: the one that this process was started with.
    """

    def __init__(self, descriptor: int) -> None:
        self.stream = FileIO(descriptors.moved(descriptor, descriptors.CHANNEL), "r+")
        self._pid = os.getpid()

    def receive(self) -> bytes | bytearray:
        """The next frame."""
        return wire.read_frame(self.stream)

    def send(self, message: dict[str, object]) -> bool:
        """Send a message; False when the code closed the channel.

        Args:
            message: what JSON can hold.

        Raises:
            ValueError: it holds something that JSON, or this interpreter's limits, cannot.
        """
        body = dumps(message).encode()
        try:
            wire.write_frame(self.stream, body)
        except OSError:
            return False
        return True

    @property
    def is_mine(self) -> bool:
        """False in a fork of the run: it has nothing to tell."""
        return os.getpid() == self._pid

    def close(self) -> None:
        """Hang up."""
        try:
            self.stream.close()
        except OSError:  # the code closed the descriptor
            return

    def prints_the_result(self) -> bool:
        """Ask whether the last line printed so far is the result."""
        streams.flush()
        if not self.is_mine:
            return True  # nobody would hear of the metric's scores
        try:
            return self.send({"ask": "metric"}) and self.receive() == b"printed"
        except (OSError, EOFError):
            return True
