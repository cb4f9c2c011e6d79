"""Where any of many texts stands in a long one, in a time that grows with its length alone."""

from __future__ import annotations

import base64
import html
import json
import re
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    Span = tuple[int, int]
    from collections.abc import Callable, Iterator


LONG = 8  # characters; shorter needles are looked for by themselves, so that they do not slow down the others
BLOCK = 8  # characters of a sample of the text
STRIDE = 8  # characters from one sample to the next, at most
HEAD = 3  # characters by which most of what begins no needle is told

# What the display leaves out (see sanitize.py), also where it is not complete yet, and the ends of lines within
# encoded text that was wrapped, also where they were written as escapes.
_LETTERS = "[A-Za-z0-9+/_-]{60}"
_SEEN_THROUGH = re.compile(
    r"\x1b\[[0-?]*[ -/]*(?:[@-~]|\Z)|\x1b[\]PX^_][^\x1b\x07]*(?:\x1b\\|\x07|\x1b?\Z)|\x1b[ -/]*(?:[0-~]|\Z)"
    rf"|\n(?<={_LETTERS}\n)[ \t]*|\r\n(?<={_LETTERS}\r\n)[ \t]*|\\n(?<={_LETTERS}\\n)"
)


class _Node:
    """Needles that begin alike: whether one ends here, and how those that are longer go on."""

    __slots__ = ("children", "ends", "width")

    def __init__(self, tails: Sequence[str]) -> None:
        rest = [tail for tail in tails if tail]
        self.ends = len(rest) < len(tails)
        self.width = len(rest[0]) if len(rest) == 1 else min((BLOCK, *map(len, rest)))
        groups: dict[str, list[str]] = defaultdict(list)
        for tail in rest:
            groups[tail[: self.width]].append(tail[self.width :])
        self.children = {head: _Node(more) for head, more in groups.items()}


class _Group:
    """Needles of similar length, found by samples of the text: each holds one sample at least.

    Args:
        needles: at least one.
    """

    def __init__(self, needles: Sequence[str]) -> None:
        shortest = min(map(len, needles))
        self._block = min(BLOCK, shortest // 2 + 1)
        self._stride = min(STRIDE, shortest - self._block + 1)
        self._longest = max(map(len, needles))
        self._root = _Node(needles)
        grams: dict[str, set[int]] = defaultdict(set)
        for needle in needles:
            for offset in range(self._stride):
                grams[needle[offset : offset + self._block]].add(offset)
        self._offsets = {gram: sorted(offsets, reverse=True) for gram, offsets in grams.items()}

    def spans(self, text: str) -> list[Span]:
        block, offsets, found = self._block, self._offsets, []
        samples = range(0, len(text) - block + 1, self._stride)
        start = end = -1
        for sample in [at for at in samples if text[at : at + block] in offsets]:
            for offset in offsets[text[sample : sample + block]]:  # so that what they lead to comes in order
                begin = sample - offset
                if begin < 0 or begin + self._longest <= end:
                    continue
                stop = self._end_at(text, begin)
                if stop <= end:
                    continue
                if begin > end:
                    if end > 0:
                        found.append((start, end))
                    start = begin
                end = stop
        if end > 0:
            found.append((start, end))
        return found

    def _end_at(self, text: str, position: int) -> int:
        """Where the longest needle that begins here ends; -1 for none."""
        found, node = -1, self._root
        while node.children:
            after = position + node.width
            following = node.children.get(text[position:after])
            if following is None:
                break
            node, position = following, after
            if node.ends:
                found = position
        return found


class Beginnings:
    """Tells what may be the beginning of a needle.

    Args:
        needles: at least one.
    """

    def __init__(self, needles: Iterable[str]) -> None:
        self._sorted = sorted(needles)
        self._longest = max(map(len, self._sorted))
        self._heads = frozenset(needle[:length] for needle in self._sorted for length in range(1, HEAD + 1))

    def undecided_from(self, text: str) -> int:
        """The first index from which on the text is the beginning of a needle, but none; its length for none.

        Args:
            text: any.
        """
        for index in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[index : index + HEAD] in self._heads:
                tail = text[index:]
                following = bisect_right(self._sorted, tail)  # all that begin with it come right after it
                if following < len(self._sorted) and self._sorted[following].startswith(tail):
                    return index
        return len(text)


class Finder:
    """Finds needles.

    Args:
        needles: at least one, none of them empty.
    """

    def __init__(self, needles: Collection[str]) -> None:
        parted = (
            [needle for needle in needles if len(needle) < LONG],
            [needle for needle in needles if len(needle) >= LONG],
        )
        self._groups = [_Group(group) for group in parted if group]

    def spans(self, text: str) -> list[Span]:
        """Where needles are; those that overlap or follow one another as one.

        Args:
            text: any.
        """
        return merged(span for group in self._groups for span in group.spans(text))


def merged(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that touch as one.

    Args:
        spans: any.
    """
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


class View:
    """A text without what neither a reader nor a decoder sees, and the way back to the text itself.

    Args:
        text: any.
    """

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
        """Where a character of the view stands in the text.

        Args:
            index: in the view.
        """
        return index + self._shift[bisect_right(self._at, index) - 1]

    def span(self, span: Span) -> Span:
        """Where a part of the view stands in the text.

        Args:
            span: not empty.
        """
        return self.original(span[0]), self.original(span[1] - 1) + 1


SHORTEST_LINE = 8  # of a secret of several lines, to be hidden by itself
SHORTEST_LEAF = 6  # text within a secret that is JSON, to be hidden by itself
SHORTEST_ENCODED = 4  # characters of a value whose encodings are hidden, too: those of "a" are everywhere
SHORTEST_BASE64 = 6  # characters
# A longer text is looked for in pieces, which are hidden as one where they follow one another. So no more than
# this is ever held back, and what is left of a long secret that was cut is hidden, too.
PIECE = 256


def needles_of(value: str) -> set[str]:
    """The texts to look for, none longer than PIECE.

    The whole value in all encodings; of a value of several lines each line, plain and quoted for JSON and Python;
    of one that is JSON each text in it, and what it looks like when it was read and written again.

    Args:
        value: a secret.
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
    """What JSON holds, None when it is none that holds anything."""
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
    """The value by itself, and what is the same of it wherever it stands in a longer text (RFC 4648, 4)."""
    yield encode(raw).decode()
    for before in range(3):
        # Six bits a character: the first characters depend on the bytes before, the last one on those after.
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        part = encode(bytes(before) + raw).decode()[first:last]
        if len(part) >= SHORTEST_BASE64:
            yield part
