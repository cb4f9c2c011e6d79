"""What a run prints, as it comes: decoded across chunks, with the line that may be its result held back."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING

from isolated_magic.limits import size_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from isolated_magic.models import JsonObject

    OnOutput = Callable[[str, str], None]

CHUNK_BYTES = 1 << 20  # at least what a pipe holds: 64 KiB unless somebody enlarged it (pipe(7))


class Decoder:
    """UTF-8 from chunks that may end in the middle of a character; bad bytes are replaced."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, chunk: bytes, *, final: bool = False) -> str:
        """The text that is complete now.

        Args:
            chunk: the next bytes.
            final: True at the end of the stream.
        """
        return self._decoder.decode(chunk, final)


class ResultLine:
    """Parts the last non-empty line, when it is a JSON object, from the output that stands before it.

    A line that begins with ``{`` may be the result, so it waits until another non-empty line begins. All
    other text passes at once, partial lines too. Each chunk is handled as a whole: only where its last
    non-empty line begins and ends matters.
    """

    def __init__(self) -> None:
        self._held: list[str] = []  # the line that may be the result, and blank lines after it
        self._blank: list[str] = []  # white space at the start of a line that is not decided yet
        self._in_line = False  # the current line has text already

    def feed(self, text: str) -> str:
        """Take in text and return what is certain to be ordinary output.

        Args:
            text: the next part of stdout, cut anywhere.
        """
        passed: list[str] = []
        end = len(text.rstrip())
        if end:
            start = text.rfind("\n", 0, end) + 1
            if start or not self._in_line:  # the last non-empty line begins here: what was held is no result
                passed += [*self._held, *self._blank, text[:start]] if start else self._held
                indent = "" if start else "".join(self._blank)
                self._held, self._blank = [], []
                line = indent + text[start:end]
                (self._held if line.lstrip().startswith("{") else passed).append(line)
            else:
                (self._held or passed).append(text[:end])
            self._in_line = True
        self._take_blank(text[end:], passed)
        return "".join(passed)

    def _take_blank(self, text: str, passed: list[str]) -> None:
        """White space, after which nothing else has come yet."""
        where = self._held or passed
        if self._in_line:
            line_end = text.find("\n") + 1
            if not line_end:
                where.append(text)
                return
            where.append(text[:line_end])
            text = text[line_end:]
            self._in_line = False
        lines_end = text.rfind("\n") + 1
        if lines_end:
            where += [*self._blank, text[:lines_end]]
            self._blank = []
        self._blank.append(text[lines_end:])

    def result(self) -> JsonObject | None:
        """The JSON object in the line that is held back, None when it is none."""
        line = "".join(self._held).strip()
        if not line.startswith("{"):
            return None
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def release(self) -> str:
        """What is held back, when it turns out to be ordinary output. Empties it."""
        rest = "".join([*self._held, *self._blank])
        self._held, self._blank = [], []
        return rest


class OutputStream:
    """One of the child's output streams.

    Args:
        name: ``"stdout"`` or ``"stderr"``.
        file: our end of the pipe, non-blocking.
        on_output: called with the name and text as output comes.
        limit: bytes to keep and to pass on; None for all.
    """

    def __init__(self, name: str, file: FileIO, on_output: OnOutput | None, limit: int | None = None) -> None:
        self.name = name
        self.file = file
        self.text: list[str] = []
        self._limit = limit
        self._room = limit
        self._decoder = Decoder()
        self._on_output = on_output

    def read(self) -> bytes | None:
        """The next chunk; empty at the end of the stream, None when there is nothing now."""
        return self.file.read(CHUNK_BYTES)

    def take(self, chunk: bytes, *, final: bool = False) -> None:
        """Decode a chunk and pass on what is certain to be output.

        Args:
            chunk: the next bytes.
            final: True at the end of the stream.
        """
        self.emit(self._sift(self._decoder.feed(chunk, final=final)))

    def emit(self, text: str) -> None:
        """Keep the text and pass it on, as far as there is room; then say that it was cut, once.

        Args:
            text: output; empty text is passed over.
        """
        if not text or (self._room is not None and self._room < 0):
            return
        if self._room is not None:
            size = _size(text)
            if size > self._room:
                text = self._last(text, self._room)
            self._room -= size
        self.text.append(text)
        if self._on_output is not None:
            self._on_output(self.name, text)

    def _last(self, text: str, room: int) -> str:
        """The end of the output: as much as there is room for, and a line that says so."""
        kept = text.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore")
        before = kept or "".join(self.text[-1:]) or "\n"
        notice = f"[{self.name} is cut here: more than {size_text(self._limit or 0)}, the limit of output]\n"
        return kept + ("" if before.endswith("\n") else "\n") + notice

    def drain(self) -> None:
        """Take what is there now, and no more than a pipe can hold: somebody may still be writing."""
        taken = 0
        while taken <= CHUNK_BYTES and (chunk := self.read()):
            self.take(chunk)
            taken += len(chunk)

    def _sift(self, text: str) -> str:
        return text


class Stdout(OutputStream):
    """The stream that holds back the line that may be the result.

    Args:
        file: our end of the pipe, non-blocking.
        on_output: called with ``"stdout"`` and text as output comes.
        limit: bytes to keep and to pass on; None for all.
    """

    def __init__(self, file: FileIO, on_output: OnOutput | None, limit: int | None = None) -> None:
        super().__init__("stdout", file, on_output, limit)
        self.line = ResultLine()

    def _sift(self, text: str) -> str:
        return self.line.feed(text)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
