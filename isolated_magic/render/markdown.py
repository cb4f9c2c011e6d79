"""Markdown of GitHub's kind, for where a notebook is turned into text, or a result is pasted into an issue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from isolated_magic.render.blocks import Code, Line, Role, Table
from isolated_magic.render.formatting import is_right_to_left, longest, shortened

if TYPE_CHECKING:
    from isolated_magic.render.blocks import Block, Cell, View

_SPECIAL = re.compile(r"[\\`*_\[\]|~]")
# A backslash before these does not stop every reader: HTML in GitHub's tables, formulas in GitHub and JupyterLab.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"})
# What begins a heading, a list or a rule at the start of a line.
_BLOCK = re.compile(
    r"^(\s*)(#{1,6}(?=\s|$)|[-+](?=\s|$)|-(?=--)|=(?==*\s*$)|\d{1,9}(?=[.)](?:\s|$)))", re.MULTILINE
)
_BACKTICKS = re.compile("`+")


def to_markdown(view: View) -> str:
    """The view as Markdown."""
    return "\n\n".join(filter(None, map(_block, view)))


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Line):
        text = _BLOCK.sub(_escaped_beginning, _escaped(block.text)).replace("\n", "  \n")
        return f"**{text}**" if block.role in {Role.HEADLINE, Role.ERROR} and "\n" not in text else text
    if isinstance(block, Code):
        return _fenced(block.text)
    if block.in_text is not None:
        return _escaped(block.in_text)
    title = _escaped(block.title)
    return f"<details>\n<summary>{title}</summary>\n\n{_block(block.inside)}\n\n</details>"


def _escaped_beginning(match: re.Match[str]) -> str:
    mark = match[2]
    return f"{match[1]}{mark}\\" if mark.isdigit() else f"{match[1]}\\{mark}"


def _table(table: Table) -> str:
    rows = [map(_escaped, table.headers), ["---"] * len(table.headers), *(map(_cell, row) for row in table.rows)]
    return "\n".join(map("| {} |".format, map(" | ".join, rows)))


def _cell(cell: Cell) -> str:
    text = _escaped(shortened(cell.text, longest(cell)))
    if is_right_to_left(text):
        text = f"<bdi>{text}</bdi>"
    if cell.role is not Role.FAILED or not cell.text:
        return text
    mark = _escaped(cell.mark)
    return f"**{mark}**{text.removeprefix(mark)}" if mark and text.startswith(mark) else f"**{text}**"


def _fenced(text: str) -> str:
    longest = max(map(len, _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text).translate(_ENTITIES)
