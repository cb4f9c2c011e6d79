"""A table that a notebook shows with headers, and a terminal as lined-up text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text under a header.

    Args:
        header: a word for each column.
        rows: as many words each.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def _repr_markdown_(self) -> str:
        lines = [self.header, ("---",) * len(self.header), *self.rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)

    def __repr__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = [[word.ljust(width) for word, width in zip(line, widths, strict=True)] for line in lines]
        return "\n".join("  ".join(words).rstrip() for words in padded)
