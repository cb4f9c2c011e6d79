"""The protocol between the owner and a run: the request goes down, checked messages come up.

The private channel of the child program (``child/channel.py``) is open in the process of the user's code, which
can write to it, too. So only the messages that the program sends are accepted, each one once, in their order and
form. After anything else the conversation is broken: what follows is read and thrown away.
"""

from __future__ import annotations

import fcntl
import select
import socket
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from isolated_magic import strict_json
from isolated_magic.child import wire
from isolated_magic.child.result import LONGEST_LINE, LONGEST_VALUE, SENT, elide_middle
from isolated_magic.launch.process import NO_SIGNAL
from isolated_magic.models import Found

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal, TypeAlias

    from isolated_magic.strict_json import JsonObject, JsonValue

    Question: TypeAlias = "Literal['ask', 'mark'] | Shown"

MOST_NAMES = 20_000  # of modules that one run imported
LONGEST_NAME = 4096  # characters: no path is longer
LAST_PAGE = 1 << 52  # of 64 bits of addresses
LAST_NUMBER = 1 << 16  # of an errno; Linux has some 130
MOST_NOTES = 50
LONGEST_STACK = 1 << 20  # bytes, as of a hundred threads with a hundred calls each
DISPLAY, ROW = b'{"display": ', b'{"row": '  # with which such messages begin
BROKEN = "something else than the run's own program wrote to its private channel, so that its result is not known"
SHOWS = {"started", "ask", "mark"}  # after which they may come
LONGEST_FRAME = 1 << 40  # bytes: the length of any frame of ours begins with three zeros

_FOUND = {kind.value: kind for kind in Found}

_FOLLOWERS = {
    "": {"started", "not_started"},
    "not_started": (),
    "started": {"ask", "mark", "imported", "outcome"},
    "ask": {"mark", "imported", "outcome"},
    "mark": {"imported", "outcome"},
    "imported": {"outcome"},
    "outcome": {"idle", "cut", "memory", "over"},
    "memory": {"over"},
    "idle": (),
    "cut": (),
    "over": (),
}


@dataclass(frozen=True)
class NotStarted:
    """Why the system did not start the interpreter."""

    errno: int
    path: str | None


@dataclass(frozen=True)
class Imported:
    """What a run imported."""

    installed: tuple[str, ...]  # names of installed modules, in their order
    files: tuple[str, ...]  # paths of other modules


@dataclass(frozen=True)
class Raised:
    """An exception that ended the code."""

    text: str  # the traceback
    summary: str  # one line
    excerpt: str = ""  # the lines of code around the place
    hint: str = ""  # what to do about it
    limit: str | None = None  # the name of the limit that caused it
    raised: str = ""  # names of its class and of that one's bases; empty for a refusal of ours


@dataclass(frozen=True)
class Outcome:
    """How the code ended, apart from what it printed. One of the first four is not None."""

    result: JsonObject | None = None  # the scores
    error: Raised | None = None
    found: str | None = None  # what was found instead of a result
    exit_message: str | None = None  # of sys.exit()
    status: int = 0
    found_kind: Found | None = None
    found_repr: str = ""  # of the value of the last line
    notes: tuple[str, ...] = ()  # sentences about the result
    is_bare: bool = False  # the result is a number without a name

    @property
    def rank(self) -> strict_json.Rank | None:
        """How good a result it is; None for none."""
        if self.result is None:
            return None
        return strict_json.Rank.BARE if self.is_bare else strict_json.rank_of(self.result)

    @property
    def is_end(self) -> bool:
        """Whether the code ran to its end, or exited as if it had. What happens after that costs no result."""
        return self.error is None and self.exit_message is None and self.status == 0


@dataclass(frozen=True)
class Shown:
    """Something that the code displays; or, without data, that what it showed so far is to be taken away."""

    data: JsonObject | None
    metadata: JsonObject
    size: int  # bytes of the message
    display_id: str | None = None
    is_update: bool = False  # of what was shown with this id
    is_at_end: bool = False  # the code prints nothing after it
    waits: bool = False  # to be taken away when something else comes


class RowEnd(NamedTuple):
    """How one of many rows ended whose process goes on."""

    outcome: Outcome
    ms: float
    status: int  # the exit status that the process would have had


@dataclass(frozen=True)
class RunEnd:
    """How a run ended, in the words of its process."""

    status: int  # the exit status that the process will have, or would have if it did not go on
    cpu_secs: float = 0.0  # of a run of a worker; of a fork under limits, its reaper tells it


class Messages:
    """The messages received so far. Never holds more than the largest result and one chunk."""

    def __init__(self) -> None:
        self.started = False
        self.not_started: NotStarted | None = None
        self.imported: Imported | None = None
        self.pages: tuple[int, ...] | None = None
        self.outcome: Outcome | None = None
        self.idle: RunEnd | None = None  # its process is a worker that goes on
        self.over: RunEnd | None = None  # its process is through with everything, and exits
        self.was_cut = False  # the process ended in the middle of a finalizer
        self.broken: str | None = None  # why the conversation is broken, as the start of a sentence
        self.stack = bytearray()
        self._expects_stack = False
        self._received = bytearray()
        self._was_unread = False
        self._last = ""  # the kind of the last message

    def feed(self, chunk: bytes) -> Question | None:
        """Take in the next bytes; the question in them: ``"ask"``, ``"mark"``, or something to show."""
        asked: Question | None = None
        if self.broken is None:
            self._received += chunk
            try:
                while (body := self._next_body()) is not None:
                    question = self._take(body)
                    if question is not None:
                        asked = _only_one(asked, question)
            except strict_json.RefusedError as problem:
                self._break(f"the result {problem}")
            except (ValueError, LookupError):
                self._break(BROKEN)
        return asked

    @classmethod
    def of_next_row(cls) -> Messages:
        """Of a row whose process has run rows before."""
        messages = cls()
        messages.started, messages._last = True, "started"
        return messages

    def take_frame(self, body: bytes) -> Question | RowEnd | None:
        """Take in a frame about a row; the question in it, or how the row ended."""
        if self.broken is None:
            try:
                if body.startswith(ROW) and "outcome" in _FOLLOWERS[self._last]:
                    end = _row_end(body)
                    self.outcome = end.outcome
                    return end
                return self._take(body)
            except strict_json.RefusedError as problem:
                self._break(f"the result {problem}")
            except (ValueError, LookupError):
                self._break(BROKEN)
        return None

    def presume_started(self) -> None:
        """Count the code as started, unless something speaks against it: it says so with what comes next."""
        if not self._last and not self._was_unread:
            self.started = True

    def not_read(self) -> None:
        """The process has not read the whole request: the code has started only if it said so."""
        self._was_unread = True
        self.started = self._last not in {"", "not_started"}

    def expect_stack(self) -> None:
        """From now on, text between frames is the interpreter's report of its stacks."""
        self._expects_stack = True

    def _take_stack(self) -> None:
        if self._received and self._received[0] != 0:  # the first byte of each frame
            end = self._received.find(0)
            text = self._received[: end if end >= 0 else None]
            del self._received[: len(text)]
            self.stack += text[: LONGEST_STACK - len(self.stack)]

    def end(self) -> None:
        """Note that the channel was closed."""
        if self._received:
            self._break("the run's private channel was closed in the middle of a message")

    def _break(self, reason: str) -> None:
        self.broken, self.outcome = reason, None
        self._received.clear()

    def _next_body(self) -> bytes | None:
        """The body of the next frame, if all of it has come."""
        if self._expects_stack:
            self._take_stack()
        if len(self._received) < wire.LENGTH_BYTES:
            return None
        length = int.from_bytes(self._received[: wire.LENGTH_BYTES], "big")
        if length > LONGEST_FRAME:
            raise ValueError(length)
        if length > strict_json.LARGEST_RESULT_BYTES:
            raise strict_json.too_large(length)
        end = wire.LENGTH_BYTES + length
        if len(self._received) < end:
            return None
        body = bytes(self._received[wire.LENGTH_BYTES : end])
        del self._received[:end]
        return body

    def _take(self, body: bytes) -> Question | None:
        if body == wire.STARTED and self._last == "":  # as of every run
            self.started, self._last = True, "started"
            return None
        if body.startswith(DISPLAY) and self._last in SHOWS:
            return _shown(body)
        ((kind, value),) = _object(strict_json.decode(body)).items()
        if kind not in _FOLLOWERS[self._last]:
            raise ValueError(kind)
        self._last = kind
        if kind in {"ask", "mark"}:
            return "ask" if kind == "ask" else "mark"
        said = _object(value)
        if kind == "started":
            self.started = True
        elif kind == "not_started":
            self.started = False
            self.not_started = NotStarted(_number(said["errno"]), _text_or_none(said.get("path")))
        elif kind == "imported":
            self.imported = Imported(_names(said["installed"]), _names(said["files"]))
        elif kind == "memory":
            self.pages = tuple(map(_page, _list(said["pages"])))
        elif kind == "idle":
            self.idle = RunEnd(_number(said["status"]), _secs(said["cpu_secs"]))
        elif kind == "over":
            self.over = RunEnd(_number(said["status"]))
        elif kind == "cut":
            self.was_cut = True
        else:
            self.outcome = _outcome(said)
        return None


def _only_one(first: Question | None, second: Question) -> Question:
    if first is not None:
        raise ValueError("two questions")  # the program waits for each answer
    return second


def _shown(body: bytes) -> Shown:
    """What a message says to show. One that no JSON parser of ours takes breaks nothing: it is no result."""
    try:
        said = _object(_object(strict_json.decode(body))["display"])
    except strict_json.RefusedError as problem:
        return Shown({"text/plain": f"[not shown: it {problem}]"}, {}, len(body))
    if said.get("clear") is True:
        return Shown(None, {}, len(body), waits=said.get("wait") is True)
    display_id, is_update = _text_or_none(said.get("id")), said.get("update") is True
    data, metadata = _object(said["data"]), _object(said["metadata"])
    return Shown(data, metadata, len(body), display_id, is_update, said.get("is_at_end") is True)


def _row_end(body: bytes) -> RowEnd:
    said = _object(_object(strict_json.decode(body))["row"])
    return RowEnd(_outcome(_object(said["outcome"])), _secs(said["ms"]), _number(said["status"]))


def _outcome(said: JsonObject) -> Outcome:
    if len(said) == 1:  # nothing but how it ended
        return Outcome(**_ending(said))
    notes = [elide_middle(_text(note), SENT * LONGEST_LINE) for note in _list(said.pop("notes", []))[:MOST_NOTES]]
    found_kind = said.pop("found_kind", None)
    found_repr = elide_middle(_text(said.pop("found_repr", "")), SENT * LONGEST_VALUE)
    is_bare = said.pop("is_bare", False) is True
    status = _number(said.pop("status", 0))
    return Outcome(
        **_ending(said),
        notes=tuple(notes),
        found_kind=None if found_kind is None else _FOUND[_text(found_kind)],
        found_repr=found_repr,
        is_bare=is_bare,
        status=status,
    )


class _Ending(TypedDict, total=False):
    """Which of the first fields of an Outcome is not None."""

    result: JsonObject
    error: Raised
    found: str
    exit_message: str


def _ending(said: JsonObject) -> _Ending:
    ((kind, value),) = said.items()
    if kind == "result":
        return {"result": _result(_object(value))}
    if kind == "error":
        return {"error": _raised(_object(value))}
    if kind == "found":
        return {"found": _text(value)}
    if kind == "exit_message":
        return {"exit_message": _text(value)}
    raise ValueError(kind)


def _raised(said: JsonObject) -> Raised:
    if not said["text"]:
        raise ValueError("no text")
    excerpt, hint, classes = (_text(said.get(name, "")) for name in ("excerpt", "hint", "raised"))
    return Raised(
        _text(said["text"]), _text(said["summary"]), excerpt, hint, _text_or_none(said.get("limit")), classes
    )


def _result(payload: JsonObject) -> JsonObject:
    for score in map(_object, _list(payload["scores"])):
        _text(score["name"])
    return payload


def _object(value: JsonValue) -> JsonObject:
    if not isinstance(value, dict):
        raise ValueError("no object")  # noqa: TRY004 - of one kind with all else that makes a message none of ours
    return value


def _list(value: JsonValue) -> list[JsonValue]:
    if not isinstance(value, list):
        raise ValueError("no list")  # noqa: TRY004 - likewise
    return value


def _text(value: JsonValue) -> str:
    if not isinstance(value, str):
        raise ValueError("no text")  # noqa: TRY004 - likewise
    return value


def _text_or_none(value: JsonValue) -> str | None:
    return None if value is None else _text(value)


def _number(value: JsonValue) -> int:
    if type(value) is not int or not 0 <= value < LAST_NUMBER:
        raise ValueError("no number of an error")
    return value


def _secs(value: JsonValue) -> float:
    if not isinstance(value, float) or not value >= 0:
        raise ValueError("no time")
    return value


def _names(value: JsonValue) -> tuple[str, ...]:
    """Names that may be of modules or files; anything else that the code put into ``sys.modules`` is dropped."""
    names = map(_text, _list(value)[:MOST_NAMES])
    return tuple(name for name in names if len(name) <= LONGEST_NAME and "\0" not in name)


def _page(value: JsonValue) -> int:
    if type(value) is not int or not 0 <= value < LAST_PAGE:
        raise ValueError("no page")
    return value


CHUNK_BYTES = 1 << 20
BRIEF_SECS = 0.005  # most runs of a worker or a fork take less


def _unread_bytes(channel: socket.socket) -> int:
    """How much of what was sent the other end has not read; 0 where the system does not tell."""
    if not wire.SHOWS_UNREAD:
        return 0
    return int.from_bytes(fcntl.ioctl(channel, termios.TIOCOUTQ, bytes(4)), sys.byteorder)  # unix(7): SIOCOUTQ


class Conversation:
    """Sends what is left of a request, receives the messages, and answers questions (``child/channel.py``)."""

    def __init__(self, channel: socket.socket, request: bytes, answer: Callable[[Question], bytes]) -> None:
        self.channel = channel
        self.messages = Messages()
        self._unsent = memoryview(request)
        self._answer = answer

    @property
    def has_all(self) -> bool:
        """Whether everything was sent."""
        return not self._unsent

    @property
    def events(self) -> int:
        """What to wait for, as ``select.poll()`` has it."""
        return select.POLLIN | select.POLLOUT if self._unsent else select.POLLIN

    def go_on(self, event: int) -> None:
        """Send and receive without waiting, after this event of ``select.poll()``.

        Raises:
            ConnectionError: nothing more will come.
        """
        try:
            if self._unsent and event & ~select.POLLIN:
                self._send()
            if event & ~select.POLLOUT:
                self.receive()
        except BlockingIOError:
            return

    def wait_briefly(self, is_over: Callable[[], bool]) -> None:
        """Wait a moment for the end of the run: most take less, and each wake-up before it makes it longer."""
        readable = select.poll()
        readable.register(self.channel, select.POLLIN)
        deadline = time.monotonic() + BRIEF_SECS
        with suppress(BlockingIOError, ConnectionError):
            while (left := deadline - time.monotonic()) > 0 and readable.poll(left * 1000):
                self.receive()
                if self._unsent:  # an answer
                    self._send()
                if is_over():
                    return

    def see_whether_read(self) -> None:
        """Note if the child has not read its request by now."""
        if self._unsent or _unread_bytes(self.channel):
            self.messages.not_read()

    def _send(self) -> None:
        sent = self.channel.send(self._unsent[:CHUNK_BYTES], NO_SIGNAL)
        self._unsent = self._unsent[sent:]
        self._hang_up_when_broken()

    def receive(self) -> None:
        """Take in what has come: BlockingIOError if nothing has, ConnectionError if nothing will."""
        try:
            chunk = self.channel.recv(CHUNK_BYTES)
        except ConnectionResetError:  # unix_release_sock() in net/unix/af_unix.c: there was more for it to read
            self.messages.not_read()
            raise
        if not chunk:
            if self._unsent:
                self.messages.not_read()
            raise ConnectionResetError
        question = self.messages.feed(chunk)
        if question is not None:
            self._unsent = memoryview(bytes(self._unsent) + wire.frame(self._answer(question)))
        self._hang_up_when_broken()

    def _hang_up_when_broken(self) -> None:
        """Let a child that waits for an answer not wait for ever. What it sends is still read, and dropped."""
        if self.messages.broken and not self._unsent:
            with suppress(OSError):
                self.channel.shutdown(socket.SHUT_WR)
