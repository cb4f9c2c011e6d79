"""The model of what a reader sees, before it is text, HTML or Markdown: lines, code, tables and folds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from itertools import compress, repeat
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from decimal import Decimal


class Role(Enum):
    """What a piece of text is: each renderer styles it by this. A role adds no meaning that the words lack."""

    NAME = "name"
    VALUE = "value"
    FAILED = "failed"
    PASSED = "passed"
    BAR = "bar"
    CHANGE = "change"
    LINE = "line"
    BETTER = "better"
    WORSE = "worse"
    PROSE = "prose"
    HEADLINE = "headline"
    ERROR = "error"
    PLACE = "place"
    NOTE = "note"


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Args:
        text: one line, of any length.
        role: how it is styled.
        mark: the words at its beginning that carry the colour of the role; empty for the whole text.
        number: what the text says, or where a bar ends between 0 and 1, if that is a number.
    """

    text: str
    role: Role = Role.PROSE
    mark: str = ""
    number: Decimal | None = None


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows. Plain text shows the headers only if ``has_headers_in_text``.

    A column of bars has no header of its own: it belongs to the values.
    """

    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    has_headers_in_text: bool = False

    def without_empty_columns(self) -> Table:
        """The table without columns in which no cell has text; the first one stays."""
        is_used = [True] + [False] * (len(self.headers) - 1)
        for row in self.rows:
            for column, cell in enumerate(row):
                is_used[column] |= bool(cell.text)
        rows = tuple(map(tuple, map(compress, self.rows, repeat(is_used))))
        return Table(tuple(compress(self.headers, is_used)), rows, self.has_headers_in_text)


@dataclass(frozen=True)
class Line:
    """A sentence of any length. Its role is HEADLINE, ERROR, NOTE or PROSE."""

    text: str
    role: Role = Role.PROSE


@dataclass(frozen=True)
class Code:
    """Lines in a font of fixed width. Those that begin with ``mark`` are what went wrong; an empty mark: none."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Fold:
    """Details that the reader opens. In plain text ``in_text`` stands for them; with None they are shown whole."""

    title: str
    inside: Table | Code
    in_text: str | None = None


Block: TypeAlias = Line | Code | Table | Fold
View: TypeAlias = tuple[Block, ...]
