"""What a run prints, as it comes: decoded across chunks, with the line that may be its result held back."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Protocol

from isolated_magic import strict_json
from isolated_magic.limits import format_size
from isolated_magic.redaction.redactor import StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.redaction.redactor import Redactor

    OnOutput = Callable[[str, str], None]


MOST_BEHIND = 1 << 20  # characters
CHUNK_BYTES = 1 << 20  # at least what a pipe holds: 64 KiB unless somebody enlarged it (pipe(7))

# UTF-8 from chunks that may end in the middle of a character; Decoder("replace") replaces bad bytes.
Decoder = codecs.getincrementaldecoder("utf-8")


class Readable(Protocol):
    """What a stream of output is read from, without waiting."""

    def fileno(self) -> int: ...  # noqa: D102
    def read(self, size: int = ..., /) -> bytes | None: ...  # noqa: D102


class _HeldText:
    """Text that is held back. Of more than so many bytes, the beginning and how much there was.

    Args:
        most: bytes.
        redactor: hides a secret that is cut off with the rest, None when there are none.
    """

    def __init__(self, most: int, redactor: Redactor | None) -> None:
        self.size = 0
        self.is_cut = False  # there was too much
        self._redactor = redactor
        self._most = most
        self._parts: list[str] = []

    def add(self, text: str) -> None:
        """Hold back what follows."""
        self.size += _size(text)
        if self.is_cut:
            return
        self._parts.append(text)
        if self.size > self._most:
            self.is_cut = True
            beginning = "".join(self._parts)[: min(strict_json.LONGEST_QUOTE, self._most)]
            self._parts = [self._redactor.cut_text(beginning) if self._redactor is not None else beginning]

    def text(self) -> str:
        """What is held back, as far as it is kept."""
        return "".join(self._parts)

    def take(self) -> str:
        """What is held back, and a word about what is not kept. Empties it."""
        if not self.size:
            return ""
        text = f"{self.text()}... [{self.size:,} bytes; not kept]\n" if self.is_cut else self.text()
        self.size, self.is_cut, self._parts = 0, False, []
        return text


class ResultLine:
    """Parts the printed line that may be the result from the output that stands before and after it.

    That is the last non-empty line, when it is a JSON object, or an earlier one that has scores, when nothing but
    JSON objects without scores stands behind it. A line that begins with ``{`` waits until another non-empty line
    begins; one with scores, and what stands behind it, until something takes its place. All other text passes at
    once, partial lines too. Each chunk is handled as a whole, unless there are scores in it: only where its last
    non-empty line begins and ends matters.

    Args:
        most: bytes of a line that are held back.
        redactor: hides secrets in what is said of the line, None when there are none.
    """

    def __init__(self, most: int = strict_json.LARGEST_RESULT_BYTES, redactor: Redactor | None = None) -> None:
        self._redactor = redactor
        self._best = _HeldText(most, redactor)  # an earlier line that has scores, and blank lines after it
        self._best_is_late = False
        self._behind = ""  # JSON objects that came after it
        self._held = _HeldText(
            most, redactor
        )  # the last line, if it begins with a brace, and blank lines after it
        self._held_is_late = False
        self._blank = _HeldText(most, redactor)  # white space at the start of a line that is not decided yet
        self._passed: strict_json.Printed | None = None  # the last line, passed on before something was displayed
        self._in_line = False  # the current line has text already
        self._is_marked = False

    def mark(self) -> None:
        """Lines that begin from now on are late."""
        self._is_marked = True

    def before_display(self) -> str:
        """The last line, if nothing but its being the last speaks for it: what is displayed comes after it.

        It may still be the result, which then stands in the output, too.
        """
        if not self._held.size or self._in_line or self._best.size:
            return ""
        printed = self._printed(self._held, is_late=self._held_is_late)
        if printed is not None and printed.rank is strict_json.Rank.SCORED:
            return ""
        self._passed = printed
        return self._held.take()

    def feed(self, text: str) -> str:
        """Take in the next part of stdout, cut anywhere, and return what is certain to be ordinary output."""
        passed: list[str] = []
        if self._held.size:  # it may be complete after this line
            line_end = text.find("\n") + 1 or len(text)
            self._feed(text[:line_end], passed)
            text = text[line_end:]
        if text and (
            self._best.size
            or strict_json.SCORES_KEY in text
            or (self._held.size and strict_json.SCORES_KEY in self._held.text())
        ):
            start = 0
            while start < len(text):
                line_end = text.find("\n", start) + 1 or len(text)
                self._feed(text[start:line_end], passed)
                start = line_end
        elif text:
            self._feed(text, passed)
        return "".join(passed)

    def _feed(self, text: str, passed: list[str]) -> None:
        """Take in text of which all lines but the last have no scores."""
        end = len(text.rstrip())
        if end:
            start = text.rfind("\n", 0, end) + 1
            if start or not self._in_line:  # the last non-empty line begins here
                line_end = text.find("\n") + 1 if start and self._in_line else 0
                if line_end:
                    self._add(text[:line_end], passed)
                if self._held.size:
                    self._settle(passed)
                if start:
                    passed += [self._blank.take(), text[line_end:start]]
                self._begin(text[start:end], passed)
            else:
                self._add(text[:end], passed)
            self._in_line = True
        if end < len(text):
            self._take_blank(text[end:], passed)

    def _begin(self, line: str, passed: list[str]) -> None:
        self._passed = None
        if line.lstrip().startswith("{"):
            self._held, self._blank = self._blank, self._held
            self._held.add(line)
            self._held_is_late = self._is_marked
        else:
            passed += [self._take_best(), self._blank.take(), line]

    def _settle(self, passed: list[str]) -> None:
        """Say what the line is that was held back, now that another one follows: the best so far, or output."""
        printed = None
        if self._best.size or strict_json.SCORES_KEY in self._held.text():
            printed = self._printed(self._held, is_late=self._held_is_late)
        if printed is None or not printed.counts:
            passed += [self._take_best(), self._held.take()]
        elif printed.rank is strict_json.Rank.SCORED:
            passed.append(self._take_best())
            self._best, self._held = self._held, self._best
            self._best_is_late = printed.is_late
        else:
            self._behind += self._held.take()
            if len(self._behind) > MOST_BEHIND:  # rather out of order than never
                passed.append(self._behind)
                self._behind = ""

    def _take_best(self) -> str:
        """It is ordinary output, and so is what stands behind it. Empties both."""
        text, self._behind = self._best.take() + self._behind, ""
        return text

    def _add(self, text: str, passed: list[str]) -> None:
        if self._held.size:
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
        if lines_end < len(text):
            self._blank.add(text[lines_end:])

    def result(self) -> strict_json.Printed | None:
        """What may be the result: a line that is held back, None when there is none."""
        last = self._printed(self._held, is_late=self._held_is_late)
        if self._is_best(last):
            return self._printed(self._best, is_late=self._best_is_late)
        return self._passed if last is None else last

    def _is_best(self, last: strict_json.Printed | None) -> bool:
        """Whether an earlier line counts for more than the last one."""
        return self._best.size > 0 and last is not None and last.counts and last.rank < strict_json.Rank.SCORED

    def _printed(self, kept: _HeldText, *, is_late: bool) -> strict_json.Printed | None:
        text = kept.text()
        if kept.is_cut:
            problem = f"the last line printed {strict_json.too_large(kept.size)}"
            rank = strict_json.presumed_rank(text)
            return strict_json.Printed(None, problem, is_refused=True, rank=rank, is_late=is_late)
        line = text.partition("\n")[0].strip()
        if not line:
            return None
        if self._redactor is None:
            return strict_json.read_line(line, is_late=is_late)
        if self._redactor.is_secret(line):
            return strict_json.Printed(None, "the last line printed is a secret, which is no result")
        return strict_json.read_line(line, self._redactor.text, is_late=is_late)

    def release(self, *, without_result: bool = False) -> str:
        """What is held back and is ordinary output after all: without the line of :meth:`result`, or with it."""
        if not without_result:
            return self._take_best() + self._held.take() + self._blank.take()
        if self._best.size and self._is_best(self._printed(self._held, is_late=False)):
            return self._behind + self._held.take()
        return self._take_best()


class OutputStream:
    """One of the child's output streams.

    Args:
        file: our end of the pipe, non-blocking.
        on_output: called with the name and text as output comes.
        limit: bytes to keep and to pass on; None for all.
        redactor: hides secrets, None when there are none.
    """

    def __init__(
        self,
        name: str,
        file: Readable,
        on_output: OnOutput | None,
        limit: int | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.name = name
        self.file = file
        self.text: list[str] = []
        self.length = 0  # characters in it
        self._limit = limit
        self._room = limit
        self._decoder: codecs.IncrementalDecoder | None = None  # made for the first chunk that is not the last
        self._redactor = StreamRedactor(redactor) if redactor is not None else None
        self._on_output = on_output

    def read(self) -> bytes | None:
        """The next chunk; empty at the end of the stream, None when there is nothing now."""
        return self.file.read(CHUNK_BYTES)

    def take(self, chunk: bytes, *, final: bool = False) -> None:
        """Decode a chunk and pass on what is certain to be output; the last one of a stream is final."""
        if self._decoder is None:
            if final:  # as of most runs: all that it printed came at once
                text = chunk.decode("utf-8", "replace")
            else:
                self._decoder = Decoder("replace")
                text = self._decoder.decode(chunk)
        else:
            text = self._decoder.decode(chunk, final)
        if text:
            self.emit(self._sift(text))

    def emit(self, text: str) -> None:
        """Keep the text and pass it on without secrets, as far as there is room."""
        self._pass_on(text if self._redactor is None else self._redactor.feed(text))

    def end(self) -> None:
        """Nothing more will be emitted."""
        if self._redactor is not None:
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
        self.length += len(text)
        if self._on_output is not None:
            self._on_output(self.name, text)

    def _last(self, text: str, room: int) -> str:
        """The end of the output: as much as there is room for, and a line that says so."""
        kept = text.encode("utf-8", "surrogatepass")[:room].decode("utf-8", "ignore")
        before = kept or "".join(self.text[-1:]) or "\n"
        notice = f"[{self.name} is cut here: more than {format_size(self._limit or 0)}, the limit of output]\n"
        return kept + ("" if before.endswith("\n") else "\n") + notice

    def drain(self, *, final: bool = False) -> None:
        """Take what is there now, and no more than a pipe can hold: somebody may still be writing.

        Args:
            final: what comes later is not taken.
        """
        for is_last in (False, True):
            chunk = self.read() or b""
            is_empty = len(chunk) < CHUNK_BYTES  # now the pipe is
            if chunk or final:
                self.take(chunk, final=final and (is_last or is_empty))
            if is_empty:
                return

    def _sift(self, text: str) -> str:
        return text


class Stdout(OutputStream):
    """The stream that holds back the line that may be the result. Arguments as for :class:`OutputStream`."""

    def __init__(
        self,
        file: Readable,
        on_output: OnOutput | None,
        limit: int | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        super().__init__("stdout", file, on_output, limit, redactor)
        self.line = ResultLine(redactor=redactor)

    def before_display(self) -> None:
        """Take and pass on what was printed before something that is displayed."""
        self.drain()
        self.emit(self.line.before_display())

    def answer(self, question: str) -> bytes:
        """Answer ``"ask"`` or ``"mark"``: what was printed until now (see ``launch/protocol.py``)."""
        self.drain()
        if question == "mark":
            self.line.mark()
            return b"marked"
        printed = self.line.result()
        return b"scores" if printed is not None and printed.rank is strict_json.Rank.SCORED else b"nothing"

    def _sift(self, text: str) -> str:
        return self.line.feed(text)


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
