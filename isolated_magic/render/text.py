"""Plain text: a line a score, in columns; in colour where a terminal takes it."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.models import FAIL, PASS
from isolated_magic.render.blocks import Cell, Code, Fold, Line, Role, Table
from isolated_magic.render.formatting import (
    AT_LEAST,
    AT_MOST,
    DOWN,
    EIGHTHS,
    EMPTY,
    UP,
    is_right_to_left,
    longest,
    shortened,
)
from isolated_magic.sanitize import wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from isolated_magic.render.blocks import Block, View

GAP = "  "
# Around text that is written from right to left, so that it turns nothing else around (Unicode, UAX 9).
ISOLATE, END_OF_ISOLATE = "\N{FIRST STRONG ISOLATE}", "\N{POP DIRECTIONAL ISOLATE}"

_PLACE = re.compile(r"\s*(?:Cell|File .+), line \d+")  # of a line of code
_ALL_NARROW = re.compile(f"[ -~{EIGHTHS}{EMPTY}\N{PLUS-MINUS SIGN}{UP}{DOWN}{PASS}{FAIL}{AT_LEAST}{AT_MOST}]*")

# Codes of "select graphic rendition" (ECMA-48, 8.3.117) from the sixteen colours that each terminal theme defines.
COLORS: Mapping[Role, str] = {
    Role.NAME: "1",
    Role.FAILED: "1;31",
    Role.PASSED: "32",
    Role.BAR: "34",
    Role.BETTER: "32",
    Role.WORSE: "31",
    Role.HEADLINE: "1",
    Role.ERROR: "31",
    Role.PLACE: "32",
    Role.NOTE: "2",
}
HEADLINES = {Role.HEADLINE, Role.ERROR}
# JupyterLab shows bold red so dark that it can hardly be read on the ground of an error in its dark theme.
ERROR_COLORS: Mapping[Role, str] = {**COLORS, Role.FAILED: "31"}
NO_COLORS: Mapping[Role, str] = {}


def to_text(view: View, colors: Mapping[Role, str] = NO_COLORS, *, wraps: bool = False) -> str:
    """The view as plain text.

    Args:
        view: what there is to see.
        colors: codes for a terminal, by role.
        wraps: True wraps sentences, for readers that would break them inside words.
    """
    parts: list[str] = []
    above: Block | None = None
    for block in view:
        if wraps and isinstance(block, Line) and block.role not in HEADLINES:  # which may be the user's own
            block = replace(block, text=wrapped(block.text))  # noqa: PLW2901 - the same block, wrapped
        if not (text := _block(block, colors)):
            continue
        if above is not None:
            parts.append("\n\n" if _are_apart(above, block) else "\n")
        parts.append(text)
        above = block
    return "".join(parts)


def _are_apart(above: Block, below: Block) -> bool:
    """Whether a blank line separates them: below a headline or code, above what is folded, between sections."""
    if isinstance(below, (Line, Code)) and isinstance(above, Code):
        return True
    if isinstance(below, Line):
        return below.role is Role.HEADLINE and not (isinstance(above, Line) and above.role in HEADLINES)
    if isinstance(above, Table) and isinstance(below, Table):
        return True
    is_headline = isinstance(above, Line) and above.role in HEADLINES
    return is_headline or (isinstance(below, Fold) and below.in_text is None)


def _block(block: Block, colors: Mapping[Role, str]) -> str:
    if isinstance(block, Table):
        return _table(block, colors)
    if isinstance(block, Line):
        return _painted(block.text, block.role, colors)
    if isinstance(block, Fold):
        return _block(block.inside, colors) if block.in_text is None else block.in_text
    return _code(block, colors) if colors else block.text


def _code(code: Code, colors: Mapping[Role, str]) -> str:
    """The code with what went wrong in red, and its places as IPython has them."""
    lines = []
    for line in code.text.split("\n"):
        is_wrong = bool(code.mark) and line.startswith(code.mark)
        role = Role.ERROR if is_wrong else Role.PLACE if _PLACE.match(line) else Role.PROSE
        lines.append(_painted(line, role, colors))
    return "\n".join(lines)


def _table(table: Table, colors: Mapping[Role, str]) -> str:
    rows: list[tuple[Sequence[str], Sequence[Cell]]] = []
    if table.has_headers_in_text:
        rows.append((table.headers, [Cell(header, Role.NOTE) for header in table.headers]))
    rows += [(list(map(_cell, row)), row) for row in table.rows]
    widths = [0] * len(table.headers)
    for texts, _ in rows:
        widths = list(map(max, widths, map(width, texts)))
    lines = []
    for texts, cells in rows:
        parts = []
        for text, wide, cell in zip(texts, widths, cells, strict=True):
            parts += [_painted_cell(text, cell, colors), " " * (wide - width(text)), GAP]
        while parts and not parts[-1].strip():  # no spaces at the end of a line
            parts.pop()
        lines.append("".join(parts))
    return "\n".join(lines)


def _cell(cell: Cell) -> str:
    text = shortened(cell.text, longest(cell))
    return f"{ISOLATE}{text}{END_OF_ISOLATE}" if is_right_to_left(text) else text


def width(text: str) -> int:
    """How many columns the text takes: two for a Chinese character, none for an accent that joins a letter."""
    if _ALL_NARROW.fullmatch(text):
        return len(text)
    from wcwidth import wcswidth  # noqa: PLC0415 - 10 ms that most results need not pay

    return max(wcswidth(text), 0)


def _painted_cell(text: str, cell: Cell, colors: Mapping[Role, str]) -> str:
    if not cell.mark or not text.startswith(cell.mark):
        return _painted(text, cell.role, colors)
    return _painted(cell.mark, cell.role, colors) + text.removeprefix(cell.mark)


def _painted(text: str, role: Role, colors: Mapping[Role, str]) -> str:
    code = colors.get(role)
    return f"\x1b[{code}m{text}\x1b[0m" if code and text else text
