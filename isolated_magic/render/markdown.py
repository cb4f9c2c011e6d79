"""Markdown of GitHub's kind, for where a notebook is turned into text, or a result is pasted into an issue."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from isolated_magic.render.blocks import Code, Fold, Line, Role, Table
from isolated_magic.render.formatting import LONGEST_NAME, LONGEST_PROSE, is_right_to_left, shortened

if TYPE_CHECKING:
    from isolated_magic.render.blocks import Block, Cell, View

_SPECIAL = re.compile(r"[\\`*_\[\]|~]")
# A backslash before these does not stop every reader: HTML in GitHub's tables, formulas in GitHub and JupyterLab.
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "$": "&#36;"}
_ENTITY = re.compile("[&<>$]")
# What begins a heading, a list or a rule at the start of a line.
_BLOCK = re.compile(
    r"^(\s*)(#{1,6}(?=\s|$)|[-+](?=\s|$)|-(?=--)|=(?==*\s*$)|\d{1,9}(?=[.)](?:\s|$)))", re.MULTILINE
)
_BACKTICKS = re.compile("`+")


def to_markdown(view: View) -> str:
    """The view as Markdown.

    Args:
        view: what there is to see.
    """
    parts = [_block(block) for block in view]
    return "\n\n".join(part for part in parts if part)


def _block(block: Block) -> str:
    if isinstance(block, Line):
        text = _BLOCK.sub(_escaped_beginning, _escaped(block.text)).replace("\n", "  \n")
        return f"**{text}**" if block.role is Role.HEADLINE and "\n" not in text else text
    if isinstance(block, Code):
        return _fenced(block.text)
    if isinstance(block, Fold):
        if block.in_text is not None:
            return _escaped(block.in_text)
        title = _escaped(block.title)
        return f"<details>\n<summary>{title}</summary>\n\n{_block(block.inside)}\n\n</details>"
    return _table(block)


def _escaped_beginning(match: re.Match[str]) -> str:
    mark = match[2]
    return f"{match[1]}{mark}\\" if mark.isdigit() else f"{match[1]}\\{mark}"


def _table(table: Table) -> str:
    rows = [[_cell_text(cell) for cell in row] for row in table.rows]
    rule = ["---"] * len(table.headers)
    return "\n".join(f"| {' | '.join(row)} |" for row in ([*map(_escaped, table.headers)], rule, *rows))


def _cell_text(cell: Cell) -> str:
    most = LONGEST_PROSE if cell.role is Role.PROSE else LONGEST_NAME
    text = _escaped(shortened(cell.text, most))
    if is_right_to_left(text):
        text = f"<bdi>{text}</bdi>"
    return f"**{text}**" if cell.role is Role.FAILED else text


def _fenced(text: str) -> str:
    longest = max(map(len, _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _escaped(text: str) -> str:
    with_backslashes = _SPECIAL.sub(lambda match: f"\\{match[0]}", text)
    return _ENTITY.sub(lambda match: _ENTITIES[match[0]], with_backslashes)
