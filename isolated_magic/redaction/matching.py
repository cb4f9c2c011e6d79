"""The forms in which programs write a secret (needles), and where any of them stands in a text.

A secret has up to 30 forms, a private key of 400 lines some thousands, so texts are sampled: the time grows with
their length alone. On 5 MB, with 11, 132, 1,100 and 3,000 needles (1, 12, 100, 100 secrets):

- sampling: 0.06 to 0.09 s; 3 microseconds for 100 characters, the usual size of a write;
- a loop of ``str.find``: 0.004, 0.05, 0.4 and 1.3 s; 2, 14, 120 and 420 microseconds;
- ``pyahocorasick``: 0.03, 0.06, 0.08 and 0.16 s; it does not tell what is undecided at the end of a piece.
"""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Span = tuple[int, int]

LONG = 8  # characters; shorter needles are looked for by themselves, so that they do not slow down the others
BLOCK = 8  # characters of a sample of the text
STRIDE = 8  # characters from one sample to the next, at most
HEAD = 3  # characters by which most of what begins no needle is told

# Terminal escapes that the display strips (see sanitize.py), complete or not, and line ends within wrapped Base64,
# also written as escapes.
_LETTERS = "[A-Za-z0-9+/_-]{60}"
_SEEN_THROUGH = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)|\x1b[\]PX^_][^\x1b\x07]*(?:\x1b\\|\x07|\x1b?\Z)|\x1b[ -/]*(?:[0-~]|\Z)"
    rf"|\n(?<={_LETTERS}\n)[ \t]*|\r\n(?<={_LETTERS}\r\n)[ \t]*|\\n(?<={_LETTERS}\\n)"
)


class Needles:
    """Texts to look for, sorted: bisection tells which of them begin at a place. At least one, none empty."""

    def __init__(self, needles: Iterable[str]) -> None:
        self.sorted = sorted(needles)
        self._longest = max(map(len, self.sorted))
        self._heads = frozenset(needle[:length] for needle in self.sorted for length in range(1, HEAD + 1))
        self._prefixes: list[int] = []  # the index of the longest other needle that each begins with, or -1
        for index, needle in enumerate(self.sorted):
            shorter = index - 1
            while shorter >= 0 and not needle.startswith(self.sorted[shorter]):
                shorter = self._prefixes[shorter]
            self._prefixes.append(shorter)

    def end_at(self, text: str, begin: int) -> int:
        """Where the longest needle that begins here ends; -1 for none."""
        window = text[begin : begin + self._longest]
        index = bisect_right(self.sorted, window) - 1
        # What stands in order between the longest needle here and the window begins with that needle, too.
        while index >= 0:
            needle = self.sorted[index]
            if window.startswith(needle):
                return begin + len(needle)
            index = self._prefixes[index]
        return -1

    def undecided_from(self, text: str) -> int:
        """The first index from which on the text is the beginning of a needle, but none; its length for none."""
        for index in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[index : index + HEAD] in self._heads:
                tail = text[index:]
                following = bisect_right(self.sorted, tail)  # all that begin with it come right after it
                if following < len(self.sorted) and self.sorted[following].startswith(tail):
                    return index
        return len(text)


class _Sampling:
    """Finds where needles of similar length may begin: each holds at least one sample of the text."""

    def __init__(self, needles: list[str]) -> None:
        shortest = min(map(len, needles))
        self.longest = max(map(len, needles))
        self._block = min(BLOCK, shortest // 2 + 1)
        self._stride = min(STRIDE, shortest - self._block + 1)
        grams: dict[str, set[int]] = defaultdict(set)
        for needle in needles:
            for offset in range(self._stride):
                grams[needle[offset : offset + self._block]].add(offset)
        self._offsets = {gram: sorted(offsets, reverse=True) for gram, offsets in grams.items()}

    def candidates(self, text: str) -> Iterator[int]:
        """Each index once, in order."""
        block, offsets = self._block, self._offsets
        samples = range(0, len(text) - block + 1, self._stride)
        for sample in [at for at in samples if text[at : at + block] in offsets]:
            for offset in offsets[text[sample : sample + block]]:
                if sample >= offset:
                    yield sample - offset


class Finder:
    """Finds needles."""

    def __init__(self, needles: Needles) -> None:
        self._needles = needles
        parted = (
            [needle for needle in needles.sorted if len(needle) < LONG],
            [needle for needle in needles.sorted if len(needle) >= LONG],
        )
        self._samplings = [_Sampling(part) for part in parted if part]

    def spans(self, text: str) -> list[Span]:
        """The places of needles, sorted; those that overlap or touch are one span."""
        return merged(chain.from_iterable(self._spans_by(sampling, text) for sampling in self._samplings))

    def _spans_by(self, sampling: _Sampling, text: str) -> list[Span]:
        found: list[Span] = []
        start = end = -1
        for begin in sampling.candidates(text):
            if begin + sampling.longest <= end or (stop := self._needles.end_at(text, begin)) <= end:
                continue
            if begin > end:
                found.append((start, end))
                start = begin
            end = stop
        return [*found[1:], (start, end)] if end > 0 else []


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans sorted, with those that overlap or touch joined."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


class View:
    """A text without terminal escapes and wrapped line ends; maps its indexes back to the original."""

    def __init__(self, text: str) -> None:
        parts: list[str] = []
        self._at: list[int] = []
        self._shift: list[int] = []
        length = done = 0
        for start, end in [*(match.span() for match in _SEEN_THROUGH.finditer(text)), (len(text), len(text))]:
            parts.append(text[done:start])
            self._at.append(length)
            self._shift.append(done - length)
            length += start - done
            done = end
        self.text = "".join(parts)
        self.is_other = length < len(text)

    def original(self, index: int) -> int:
        """The index in the original text."""
        return index + self._shift[bisect_right(self._at, index) - 1]

    def span(self, span: Span) -> Span:
        """The span in the original text; not for empty spans."""
        return self.original(span[0]), self.original(span[1] - 1) + 1


# All in characters.
SHORTEST_LINE = 8  # of a multi-line secret, to be hidden by itself
SHORTEST_LEAF = 6  # text within a secret that is JSON, to be hidden by itself
SHORTEST_ENCODED = 4  # the encodings of a shorter value, such as "a", are everywhere
SHORTEST_BASE64 = 6
# Longer texts are looked for in pieces, masked as one where they touch. So a stream never holds back more
# than this, and the remains of a long secret that was cut are hidden, too.
PIECE = 256


def needles_of(value: str) -> set[str]:
    """The texts to look for, none longer than PIECE.

    The whole value in all encodings; each line of a multi-line value, plain and quoted for JSON and Python; each
    string in a value that is JSON, and that JSON as ``json.dumps`` writes it.
    """
    found = {piece for whole in _wholes(value) for text in _written(whole) for piece in _pieces(text)}
    for whole in {value, *_leaves(value)}:
        for line in _lines(whole):
            for text in _quoted(line):
                found.update(_pieces(text))
    found.discard("")
    return found


def _wholes(value: str) -> Iterator[str]:
    decoded = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # as output is
    yield from {value, value.strip(), decoded}
    parsed = _parsed(value)
    if parsed is not None:
        for separators in (None, (",", ":")):
            for ascii_only in (True, False):
                yield json.dumps(parsed, separators=separators, ensure_ascii=ascii_only)
        yield from _leaves(value)


def _parsed(value: str) -> object:
    """The JSON object or array in the value, or None."""
    if not value.lstrip().startswith(("{", "[")):
        return None
    try:
        parsed: object = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return parsed


def _leaves(value: str) -> Iterator[str]:
    waiting = [_parsed(value)]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            waiting += current.values()
        elif isinstance(current, list):
            waiting += current
        elif isinstance(current, str) and len(current.strip()) >= SHORTEST_LEAF:
            yield current


def _lines(value: str) -> Iterator[str]:
    if "\n" in value.strip():
        for line in value.splitlines():
            text = line.strip()
            if len(text) >= SHORTEST_LINE and not text.startswith("-----"):
                yield text


def _pieces(text: str) -> Iterator[str]:
    if len(text) <= PIECE:
        yield text
        return
    for start in range(0, len(text) - PIECE, PIECE):
        yield text[start : start + PIECE]
    yield text[-PIECE:]


def _written(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    if len(value) >= SHORTEST_ENCODED:
        yield from _encodings(value)


def _quoted(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]


def _encodings(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogateescape")
    # A string with both kinds of quote escapes the single ones.
    quoted = {*_quoted(value), repr('"' + value)[2:-1]}
    yield from quoted
    for once in quoted:
        yield json.dumps(once)[1:-1]
        yield json.dumps(once, ensure_ascii=False)[1:-1]
    yield repr(raw)[2:-1]
    yield repr(b'"' + raw)[3:-1]
    yield html.escape(value, quote=False)
    escaped = html.escape(value)
    yield escaped
    for double in ("&quot;", "&#34;"):
        for single in ("&#x27;", "&#39;", "&apos;"):
            yield escaped.replace("&quot;", double).replace("&#x27;", single)
    for digits in (raw.hex(), raw.hex(":"), raw.hex(" ")):
        yield digits
        yield digits.upper()
    for quoted_url in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted_url
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted_url)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _base64_parts(raw, encode)


def _base64_parts(raw: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """The encoded value, and the part of it that is the same at any offset in a longer text (RFC 4648, 4)."""
    yield encode(raw).decode()
    for before in range(3):
        # Six bits a character: the first characters depend on the bytes before, the last one on those after.
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        part = encode(bytes(before) + raw).decode()[first:last]
        if len(part) >= SHORTEST_BASE64:
            yield part
