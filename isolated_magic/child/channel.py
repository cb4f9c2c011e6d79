"""A run's end of its private channel to the owner, the process that asked for the run.

The channel is a descriptor of its own, so nothing that the code prints can be taken for the outcome. The owner
sends the request as JSON and then the payload. This end sends the following, in this order, or the owner believes
none of it:

- ``{"started": {}}`` once, before the code runs; from a fork, and from the second run of a worker on, together
  with what comes next;
- ``{"display": {...}}`` for each thing that the code displays: the owner answers when it has taken it in, and what
  was printed before it. Any number of them, anywhere before ``imported``;
- ``{"ask": {}}`` when the code defines a metric class and has no other result: only the owner sees all that was
  printed, however it reached descriptor 1, and answers whether there are scores in it;
- ``{"mark": {}}`` when the code has scores and may still print others at its exit: the owner notes how much was
  printed so far;
- ``{"imported": {...}}`` at most once: the modules that the code imported, and the files among them that are not
  installed;
- ``{"outcome": {...}}`` once, before the interpreter shuts down (threads, atexit);
- ``{"memory": {...}}`` when the request asks which pages the run has written to, once it has shut down;
- ``{"idle": {...}}`` from a worker that is ready for the next request;
- ``{"over": {...}}`` with its exit status, from a fork without limits that has shut down and leaves no process
  behind;
- ``{"cut": {}}`` from a fork whose finalizers took too long (see ``shutdown.py``);
- ``{"row": {...}}`` in place of the outcome from a process that runs one row after the other (see ``rows.py``).

On the signal of ``signals.py`` the interpreter writes its stacks between two of these, as plain text.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from io import BufferedReader, FileIO

from . import modules, stdio, wire
from .signals import STACK_SIGNAL

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

with modules.StandardImports():
    import _signal  # type: ignore[import-not-found]  # what signal wraps in enums
    import _thread
    import fcntl
    from json import JSONDecoder, dumps, loads
    from json.encoder import c_make_encoder, encode_basestring_ascii  # type: ignore[attr-defined]  # None without C


# Where our own descriptors are: above what code expects to be handed by open(), below common limits.
CHANNEL_FD, PLUMBING_FD = 500, 600


def move_descriptor(descriptor: int, lowest: int = PLUMBING_FD) -> int:
    """Move one of ours out of the way, if the limit of open files allows; a child that execs does not get it."""
    try:
        new = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    except OSError:
        os.set_inheritable(descriptor, False)
        return descriptor
    os.close(descriptor)
    return new


def _make_encoder() -> Callable[[object], str]:
    """``json.dumps``, but out of reach of code that replaces parts of json later, to round floats for example."""
    if c_make_encoder is None:
        return dumps
    in_c = c_make_encoder(None, None, encode_basestring_ascii, None, ": ", ", ", False, False, True)
    return lambda message: "".join(in_c(message, 0))


encode, decode = _make_encoder(), loads
_scan = JSONDecoder().scan_once  # type: ignore[attr-defined]  # in C; the owner sends no white space around JSON

LAST_WORDS = wire.frame(
    encode({"outcome": {"exit_message": "the code took apart what Python needs to tell its result"}}).encode()
)
CUT = wire.frame(b'{"cut": {}}')
_HELD = {"imported", "outcome"}
# What comes between the halves of an exchange would leave an answer to be taken for that to another question.
_HELD_BACK = _signal.valid_signals() - {STACK_SIGNAL}
_write, _pid = os.write, os.getpid


def _identity_of(descriptor: int) -> tuple[int, int]:
    state = os.fstat(descriptor)
    return state.st_dev, state.st_ino


class Channel:
    """The channel that this process was started with, as a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.stream = FileIO(move_descriptor(descriptor, CHANNEL_FD), "r+")
        self.descriptor = self.stream.fileno()
        self._reader = BufferedReader(self.stream)
        self._pid = _pid()
        self._identity = _identity_of(self.descriptor)
        self.has_given_up = False
        # A worker sends "outcome" together with "idle", and forks and workers "started" with what comes next: the
        # owner wakes up once.
        self.holds_outcome = False
        self.holds_start = False
        self._start = b""
        self._held = b""
        self._request_text = b""
        self._request: dict[str, Any] = {}
        self._lock = _thread.RLock()  # threads of the code display things, too
        self.takes_displays = False  # the code runs
        self.may_tell_over = False
        self.tells_pages = False
        self.ahead: list[bytes | bytearray] = []  # payloads of further rows that came before an answer

    @classmethod
    def unconnected(cls) -> Channel:
        """One that each fork of this process connects: it has less to do than to make one."""
        import socket  # noqa: PLC0415 - those that fork have it

        ours, theirs = socket.socketpair()
        theirs.close()
        return cls(ours.detach())

    def connect(self, descriptor: int) -> None:
        """In a fork: put this descriptor in the place that is kept for it."""
        os.dup2(descriptor, self.descriptor, inheritable=False)
        self._pid = _pid()
        self._identity = _identity_of(self.descriptor)

    def receive(self) -> bytes:
        """The next frame.

        Raises:
            EOFError: the owner hung up.
        """
        head = self._reader.read(wire.LENGTH_BYTES) or b""  # waits for all of it, unless the code forbids that
        length = int.from_bytes(head, "big")
        body = self._reader.read(length) or b""
        if len(head) < wire.LENGTH_BYTES or len(body) < length:
            raise EOFError("the channel was closed")
        return body

    def receive_request(self) -> dict[str, Any]:
        """What to run. Its payload follows in the next frame. Most requests to a worker repeat the one before."""
        text = self.receive()
        if text != self._request_text:
            self._request, self._request_text = _scan(text.decode(), 0)[0], text
        return self._request

    def start(self) -> None:
        """Say that the code is about to run."""
        self._start = wire.frame(wire.STARTED)
        if not self.holds_start:
            self._write_out(b"")

    def send(self, message: dict[str, object]) -> bool:
        """Send a message; False when the code closed the channel.

        Raises:
            ValueError: the message holds something that JSON, or this interpreter's limits, do not allow.
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

    @property
    def is_mine(self) -> bool:
        """False in a process that the code forked: only the run itself may report."""
        return self._pid == _pid()

    def refuse(self, number: int = errno.ENOTRECOVERABLE) -> None:
        """Say that the request cannot be run, because of this errno or because an earlier run broke the worker."""
        self.has_given_up = True
        try:
            _write(self.descriptor, wire.frame(encode({"not_started": {"errno": number}}).encode()))
        except OSError:
            return

    def give_up(self) -> None:
        """Say that there will be no outcome: the code took apart what :meth:`send` is made of."""
        self.has_given_up = True
        self._held = b""
        try:
            if self._pid == _pid():
                _write(self.descriptor, self._start + LAST_WORDS)
        except OSError:  # the code closed the channel, too
            return

    def tell_cut(self) -> None:
        """Say that this process ends in the middle of a finalizer."""
        if self.is_mine and self.is_connected:
            _write(self.descriptor, CUT)

    def tell_over(self, status: int) -> None:
        """Say that this process has done everything, and exits with this status."""
        if self.is_mine and self.is_connected:
            _write(self.descriptor, wire.frame(b'{"over": {"status": %d}}' % status))

    def close(self) -> None:
        """Send what is held back, and hang up."""
        try:
            if self._held and self.is_mine:
                self._write_out(self._held)
            self.stream.close()
        except (OSError, ValueError, AttributeError):  # the code closed the descriptor, or took the stream away
            return

    def printed_scores(self) -> bool:
        """Ask whether there are scores in what was printed so far."""
        return not self.is_mine or self._ask("ask", b"nothing") != b"nothing"  # a fork's scores reach nobody

    def mark(self) -> None:
        """Have the owner note how much was printed so far."""
        if self.is_mine:
            self._ask("mark", b"")

    def display(self, message: dict[str, object]) -> bool:
        """Have the owner show something, after what was printed so far; False when nobody will see it.

        Raises:
            ValueError: as for :meth:`send`.
        """
        if not (self.is_mine and self.takes_displays) or self._lock._is_owned():  # type: ignore[attr-defined]  # in the middle of another one
            return False
        with self._lock:
            return self.takes_displays and bool(self._ask("display", b"", message))

    def end_displays(self) -> None:
        """The outcome follows: what threads and exit functions display from now on comes too late."""
        if self.is_mine:
            with self._lock:
                self.takes_displays = False

    def _ask(self, question: str, if_closed: bytes, message: dict[str, object] | None = None) -> bytes | bytearray:
        stdio.flush()
        with self._lock:
            before = _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
            try:
                # It runs handlers of signals that came just before, and they may raise: then nothing is sent yet.
                _signal.pthread_sigmask(_signal.SIG_BLOCK, _HELD_BACK)
                return self._receive_answer() if self.send({question: message or {}}) else if_closed
            except (OSError, EOFError):
                return b""
            finally:
                _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def _receive_answer(self) -> bytes | bytearray:
        while True:
            frame = self.receive()
            if frame[:1] not in _PAYLOADS:
                return frame
            self.ahead.append(frame)

    def _write_out(self, framed: bytes) -> bool:
        start, self._start = self._start, b""
        try:
            wire.write_all(self.stream, start + framed)
        except (OSError, ValueError):  # ValueError: the code closed the stream itself
            return False
        return True


# A payload is JSON, or packed where it holds much: long lists of numbers or texts travel as bytes, tables as
# columns. To write a number as text and to read it again takes a hundred times as long as to copy it. A packed
# payload is a zero byte, with which no JSON begins, and frames: for each part its description in JSON and its
# bytes, and after all parts the message. In whatever comes after part 3 the number ``0E3`` stands for it: Python
# writes no number with a capital E.
MARK = b"\0"
LEAST_DIGITS = sys.int_info.str_digits_check_threshold  # which every limit allows
_PAYLOADS = (b"{", MARK)  # how they begin; no answer does
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
    """Whether a payload is packed; otherwise it is JSON."""
    return payload[:1] == MARK


def pack(parts: Iterable[tuple[str, bytes]], message: str) -> bytes:
    """A packed payload.

    Args:
        parts: description and bytes of each.
        message: JSON in which the numbers ``0E0``, ``0E1`` and so on stand for the parts.
    """
    frames = [wire.frame(frame) for text, block in parts for frame in (text.encode(), block)]
    return b"".join([MARK, *frames, wire.frame(message.encode())])


def decode_payload(payload: bytes | bytearray) -> dict[str, object]:
    """The message of a payload.

    What the owner could write, this end can read, whatever its limit of digits; and nothing is garbage meanwhile.
    """
    if len(payload) <= LEAST_DIGITS and not is_packed(payload):  # no number in it has more digits than any limit
        short: dict[str, object] = _scan(payload.decode("utf-8", "surrogatepass"), 0)[0]
        return short
    message: dict[str, object] = _without_limits(
        lambda: _unpack(payload) if is_packed(payload) else loads(payload)
    )
    return message


def payload_as_json(payload: bytes | bytearray) -> bytes | bytearray:
    """A payload as JSON, packed or not."""
    if not is_packed(payload):
        return payload
    message = decode_payload(payload)
    text: str = _without_limits(lambda: encode(message))
    return text.encode()


def _without_limits(convert: Callable[[], Any]) -> Any:  # noqa: ANN401 - of whatever type the conversion has
    limit, collects = sys.get_int_max_str_digits(), gc.isenabled()
    sys.set_int_max_str_digits(0)
    gc.disable()
    try:
        return convert()
    finally:
        sys.set_int_max_str_digits(limit)
        if collects:
            gc.enable()


def _unpack(payload: bytes | bytearray) -> Any:  # noqa: ANN401 - as json.loads() has it
    *frames, message = _frames(memoryview(payload)[len(MARK) :])
    parts: list[object] = []

    def read(text: memoryview) -> Any:  # noqa: ANN401 - likewise
        return loads(
            bytes(text), parse_float=lambda number: parts[int(number[2:])] if "E" in number else float(number)
        )

    for description, block in zip(frames[::2], frames[1::2], strict=True):
        parts.append(_part(read(description), block))
    return read(message)


def _frames(rest: memoryview) -> Iterator[memoryview]:
    while rest:
        end = wire.LENGTH_BYTES + int.from_bytes(rest[: wire.LENGTH_BYTES], "big")
        yield rest[wire.LENGTH_BYTES : end]
        rest = rest[end:]


def _part(description: dict[str, Any], block: memoryview) -> list[Any]:
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
