"""Where any of many texts stands in a long one, in a time that grows with its length alone."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    Span = tuple[int, int]

LONG = 8  # characters; shorter needles are looked for by themselves, so that they do not slow down the others
BLOCK = 8  # characters of a sample of the text
STRIDE = 8  # characters from one sample to the next, at most
HEAD = 3  # characters by which most of what begins no needle is told

# What the display leaves out (see text.py), also where it is not complete yet, and the ends of lines within
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
