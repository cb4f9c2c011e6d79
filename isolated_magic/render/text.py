"""Plain text: a line a score, in columns; in colour where a terminal takes it."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from isolated_magic.render.blocks import Code, Fold, Line, Role, Table
from isolated_magic.render.formatting import (
    DOWN,
    EMPTY,
    FULL,
    LONGEST_NAME,
    LONGEST_PROSE,
    UP,
    is_right_to_left,
    shortened,
)
from isolated_magic.sanitize import wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isolated_magic.render.blocks import Block, Cell, View

GAP = "  "
# Around text that is written from right to left, so that it turns nothing else around (Unicode, UAX 9).
ISOLATE, END_OF_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"

_ALL_NARROW = re.compile(f"[ -~{FULL}{EMPTY}{UP}{DOWN}]*")

# Codes of "select graphic rendition" (ECMA-48, 8.3.117) from the sixteen colours that each terminal theme defines.
COLORS: Mapping[Role, str] = {
    Role.NAME: "1",
    Role.FAILED: "1;31",
    Role.BAR: "34",
    Role.CHANGE: "36",
    Role.HEADLINE: "1",
    Role.NOTE: "2",
}


def to_text(view: View, colors: Mapping[Role, str] | None = None, *, wraps: bool = False) -> str:
    """The view as plain text.

    Args:
        view: what there is to see.
        colors: codes for a terminal, by role; None for text without any.
        wraps: whether sentences are wrapped, for readers that would break them inside words.
    """
    shown = [_wrapped(block) if wraps else block for block in view]
    parts = [(block, _block(block, colors or {})) for block in shown]
    parts = [(block, text) for block, text in parts if text]
    gaps = [""] + ["\n\n" if _are_apart(*pair) else "\n" for pair in pairwise(block for block, _ in parts)]
    return "".join(gap + text for gap, (_, text) in zip(gaps, parts, strict=False))


def _wrapped(block: Block) -> Block:
    if isinstance(block, Line) and block.role is not Role.HEADLINE:  # which may be the user's own
        return replace(block, text=wrapped(block.text))
    return block


def _are_apart(above: Block, below: Block) -> bool:
    """Whether a blank line stands between them: below a headline or code, above what is folded, between tables."""
    if isinstance(below, (Line, Code)) and isinstance(above, Code):
        return True
    if isinstance(below, Line):
        return False
    is_headline = isinstance(above, Line) and above.role is Role.HEADLINE
    if isinstance(above, Table) and isinstance(below, Table):
        return True
    return is_headline or (isinstance(below, Fold) and below.in_text is None)


def _block(block: Block, colors: Mapping[Role, str]) -> str:
    if isinstance(block, Line):
        return _painted(block.text, block.role, colors)
    if isinstance(block, Code):
        return _code_text(block, colors)
    if isinstance(block, Fold):
        return _block(block.inside, colors) if block.in_text is None else block.in_text
    return "\n".join(_table_lines(block, colors))


def _code_text(code: Code, colors: Mapping[Role, str]) -> str:
    if not code.mark or not colors:
        return code.text
    lines = code.text.split("\n")
    return "\n".join(_painted(line, Role.FAILED, colors) if line.startswith(code.mark) else line for line in lines)


def _table_lines(table: Table, colors: Mapping[Role, str]) -> list[str]:
    rows = [[_cell_text(cell) for cell in row] for row in table.rows]
    if table.has_headers_in_text:
        rows.insert(0, list(table.headers))
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    roles = [[cell.role for cell in row] for row in table.rows]
    if table.has_headers_in_text:
        roles.insert(0, [Role.NOTE] * len(table.headers))
    return [_line(row, widths, line_roles, colors) for row, line_roles in zip(rows, roles, strict=True)]


def _line(cells: Sequence[str], widths: Sequence[int], roles: Sequence[Role], colors: Mapping[Role, str]) -> str:
    filled = max((index for index, cell in enumerate(cells) if cell), default=-1) + 1
    parts = [
        _painted(cell, role, colors) + " " * (wide - width(cell) if index < filled - 1 else 0)
        for index, (cell, wide, role) in enumerate(zip(cells, widths, roles, strict=True))
    ]
    return GAP.join(parts[:filled])


def _cell_text(cell: Cell) -> str:
    most = LONGEST_PROSE if cell.role is Role.PROSE else LONGEST_NAME
    text = shortened(cell.text, most)
    return f"{ISOLATE}{text}{END_OF_ISOLATE}" if is_right_to_left(text) else text


def width(text: str) -> int:
    """How many columns the text takes: two for a Chinese character, none for an accent that joins a letter.

    Args:
        text: on one line.
    """
    if _ALL_NARROW.fullmatch(text):
        return len(text)
    from wcwidth import wcswidth  # noqa: PLC0415 - 10 ms that most results need not pay

    return max(wcswidth(text), 0)


def _painted(text: str, role: Role, colors: Mapping[Role, str]) -> str:
    code = colors.get(role)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text
