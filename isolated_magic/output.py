"""What a run prints, as it comes: decoded across chunks, with the line that may be its result held back."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from isolated_magic import results
from isolated_magic.limits import size_text
from isolated_magic.redaction import StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from isolated_magic.redaction import Redactor

    OnOutput = Callable[[str, str], None]

CHUNK_BYTES = 1 << 20  # at least what a pipe holds: 64 KiB unless somebody enlarged it (pipe(7))

_IncrementalDecoder = codecs.getincrementaldecoder("utf-8")


class Decoder:
    """UTF-8 from chunks that may end in the middle of a character; bad bytes are replaced."""

    def __init__(self) -> None:
        self._decoder = _IncrementalDecoder("replace")

    def feed(self, chunk: bytes, *, final: bool = False) -> str:
        """The text that is complete now.

        Args:
            chunk: the next bytes.
            final: True at the end of the stream.
        """
        return self._decoder.decode(chunk, final)


class _Kept:
    """Text that waits. Of more than so many bytes, the beginning and how much there was.

    Args:
        most: bytes.
        redactor: hides a secret that is cut off with the rest, None when there are none.
    """

    def __init__(self, most: int, redactor: Redactor | None) -> None:
        self.size = 0
        self._redactor = redactor
        self._most = most
        self._parts: list[str] = []

    def __bool__(self) -> bool:
        return self.size > 0

    @property
    def is_cut(self) -> bool:
        """Whether there was too much."""
        return self.size > self._most

    def add(self, text: str) -> None:
        """Keep it too.

        Args:
            text: that follows.
        """
        was_cut = self.is_cut
        self.size += _size(text)
        if not self.is_cut:
            self._parts.append(text)
        elif not was_cut:
            beginning = "".join([*self._parts, text])[: min(results.LONGEST_QUOTE, self._most)]
            self._parts = [self._redactor.cut_text(beginning) if self._redactor is not None else beginning]

    def text(self) -> str:
        """What is kept."""
        return "".join(self._parts)

    def take(self) -> str:
        """What is kept, and a word about what is not. Empties it."""
        text = f"{self.text()}... [{self.size:,} bytes; not kept]\n" if self.is_cut else self.text()
        self.size, self._parts = 0, []
        return text


class ResultLine:
    """Parts the last non-empty line, when it is a JSON object, from the output that stands before it.

    A line that begins with ``{`` may be the result, so it waits until another non-empty line begins. All
    other text passes at once, partial lines too. Each chunk is handled as a whole: only where its last
    non-empty line begins and ends matters.

    Args:
        most: bytes that are held back.
        redactor: hides secrets in what is said of the line, None when there are none.
    """

    def __init__(self, most: int = results.LARGEST_RESULT_BYTES, redactor: Redactor | None = None) -> None:
        self._most = most
        self._redactor = redactor
        self._held = _Kept(most, redactor)  # the line that may be the result, and blank lines after it
        self._blank = _Kept(most, redactor)  # white space at the start of a line that is not decided yet
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
                line_end = text.find("\n") + 1 if start and self._in_line else 0
                self._add(text[:line_end], passed)
                passed.append(self._held.take())
                if start:
                    passed += [self._blank.take(), text[line_end:start]]
                line = text[start:end]
                if line.lstrip().startswith("{"):
                    self._held, self._blank = self._blank, self._held
                    self._held.add(line)
                else:
                    passed += [self._blank.take(), line]
            else:
                self._add(text[:end], passed)
            self._in_line = True
        self._take_blank(text[end:], passed)
        return "".join(passed)

    def _add(self, text: str, passed: list[str]) -> None:
        if self._held:
            self._held.add(text)
        else:
            passed.append(text)

    def _take_blank(self, text: str, passed: list[str]) -> None:
        """White space, after which nothing else has come yet."""
        if self._in_line:
            line_end = text.find("\n") + 1
            self._add(text[:line_end] if line_end else text, passed)
            if not line_end:
                return
            text = text[line_end:]
            self._in_line = False
        lines_end = text.rfind("\n") + 1
        if lines_end:
            self._add(self._blank.take() + text[:lines_end], passed)
        self._blank.add(text[lines_end:])

    def result(self) -> results.Printed | None:
        """What the line that is held back is, None when there is none."""
        if self._held.is_cut:
            return results.Printed(
                None, f"the last line printed {results.too_large(self._held.size)}", is_refused=True
            )
        line = self._held.text().partition("\n")[0].strip()
        if not line:
            return None
        if self._redactor is None:
            return results.read_line(line)
        if self._redactor.is_secret(line):
            return results.Printed(None, "the last line printed is a secret, which is no result")
        return results.read_line(line, self._redactor.text)

    def release(self) -> str:
        """What is held back, when it turns out to be ordinary output. Empties it."""
        return self._held.take() + self._blank.take()


class OutputStream:
    """One of the child's output streams.

    Args:
        name: ``"stdout"`` or ``"stderr"``.
        file: our end of the pipe, non-blocking.
        on_output: called with the name and text as output comes.
        limit: bytes to keep and to pass on; None for all.
        redactor: hides secrets, None when there are none.
    """

    def __init__(
        self,
        name: str,
        file: FileIO,
        on_output: OnOutput | None,
        limit: int | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.name = name
        self.file = file
        self.text: list[str] = []
        self._limit = limit
        self._room = limit
        self._decoder = Decoder()
        self._redactor = StreamRedactor(redactor)
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
        """Keep the text and pass it on without secrets, as far as there is room.

        Args:
            text: output; empty text is passed over.
        """
        self._pass_on(self._redactor.feed(text))

    def end(self) -> None:
        """Nothing more will be emitted."""
        self._pass_on(self._redactor.end())

    def _pass_on(self, text: str) -> None:
        """Keep it and pass it on; when there is no more room, say so, once."""
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
        for _ in range(2):
            chunk = self.read()
            if chunk:
                self.take(chunk)
            if not chunk or len(chunk) < CHUNK_BYTES:  # the pipe was empty
                return

    def _sift(self, text: str) -> str:
        return text


class Stdout(OutputStream):
    """The stream that holds back the line that may be the result.

    Args:
        file: our end of the pipe, non-blocking.
        on_output: called with ``"stdout"`` and text as output comes.
        limit: bytes to keep and to pass on; None for all.
        redactor: hides secrets, None when there are none.
    """

    def __init__(
        self,
        file: FileIO,
        on_output: OnOutput | None,
        limit: int | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        super().__init__("stdout", file, on_output, limit, redactor)
        self.line = ResultLine(redactor=redactor)

    def has_result(self) -> bool:
        """Whether what was printed until now is the result already."""
        self.drain()
        printed = self.line.result()
        return printed is not None and printed.counts

    def _sift(self, text: str) -> str:
        return self.line.feed(text)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
