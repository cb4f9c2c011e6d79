"""What a reader sees, before it is text, HTML or Markdown: lines, code, tables and folds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import compress
from typing import TypeAlias


class Role(Enum):
    """What a piece of text is, from which each renderer takes its looks. It says nothing that no word says."""

    NAME = "name"
    VALUE = "value"
    FAILED = "failed"
    BAR = "bar"
    CHANGE = "change"
    PROSE = "prose"
    HEADLINE = "headline"
    NOTE = "note"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: on one line, of any length.
        role: of the text.
    """

    text: str
    role: Role = Role.PROSE


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Args:
        headers: one for each column.
        rows: as many cells each.
        has_headers_in_text: whether plain text shows the headers too.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    has_headers_in_text: bool = False

    def without_empty_columns(self) -> Table:
        """The table without columns in which no cell has text."""
        is_used = [any(cell.text for cell in column) for column in zip(*self.rows, strict=True)]
        rows = tuple(tuple(compress(row, is_used)) for row in self.rows)
        return Table(tuple(compress(self.headers, is_used)), rows, self.has_headers_in_text)


@dataclass(frozen=True)
class Line:
    """A sentence.

    Args:
        text: of any length.
        role: HEADLINE, NOTE or PROSE.
    """

    text: str
    role: Role = Role.PROSE


@dataclass(frozen=True)
class Code:
    """Lines that are shown as they stand, in a font of fixed width.

    Args:
        text: the lines.
        mark: what the lines begin with that matter most; empty for none.
    """

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Fold:
    """Something that few want to see at once; closed where a reader can open it.

    Args:
        title: what is inside.
        inside: shown when it is opened.
        in_text: what stands for it where nothing can be opened; None for all of it.
    """

    title: str
    inside: Table | Code
    in_text: str | None = None


Block: TypeAlias = Line | Code | Table | Fold
View: TypeAlias = tuple[Block, ...]
