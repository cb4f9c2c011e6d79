"""HTML that survives where notebooks are shown.

JupyterLab drops style elements, scripts, SVG, ``aria-*`` and CSS variables from untrusted output, and GitHub
drops inline styles too; so it is a plain table with headers, greys that read on light and on dark, bars made of
text, and ``details`` for what is folded. Nothing has a fixed width: it wraps when it is enlarged.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from isolated_magic.render.blocks import Code, Line, Role, Table
from isolated_magic.render.formatting import LONGEST_NAME, LONGEST_PROSE, is_right_to_left, shortened

if TYPE_CHECKING:
    from isolated_magic.render.blocks import Block, Cell, View

CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"
RULE = "border-bottom:1px solid rgba(128,128,128,0.35)"
MONO = "font-family:monospace"
LINE = f"{MONO};white-space:pre"
WRAP = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"  # JupyterLab breaks inside words otherwise
WRAP_WORDS = "white-space:pre-wrap;overflow-wrap:break-word"  # a column is as wide as its longest word
BLOCK = "margin:4px 8px"
TINT = "color:#3b82f6"  # a contrast of 3 and more on white and on black (WCAG 2.2, 1.4.11)

STYLES = {
    Role.NAME: f"{CELL};font-weight:600;min-width:6em;{WRAP}",
    Role.VALUE: f"{CELL};{MONO};{WRAP_WORDS}",
    Role.FAILED: f"{CELL};{LINE}",
    Role.BAR: f"{CELL};{LINE};{TINT}",
    Role.CHANGE: f"{CELL};{MONO};{WRAP_WORDS}",
    Role.PROSE: f"{CELL};{WRAP}",
}
LONGEST_FOLDED = 20_000  # characters, after a click


def to_html(view: View) -> str:
    """The view as an HTML fragment."""
    return "\n".join(map(_block, view))


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Line):
        text = _escaped(block.text)
        text = f"<strong>{text}</strong>" if block.role is Role.HEADLINE else text
        return f'<div style="{BLOCK};{WRAP}">{text}</div>'
    if isinstance(block, Code):
        return f'<pre style="{BLOCK};{WRAP}">{_code(block)}</pre>'
    inside = _block(block.inside)
    return f'<details style="{BLOCK}">\n<summary>{_escaped(block.title)}</summary>\n{inside}\n</details>'


def _code(code: Code) -> str:
    if not code.mark:
        return _escaped(code.text)
    lines = [(line, _escaped(line)) for line in code.text.split("\n")]
    return "\n".join(f"<strong>{text}</strong>" if line.startswith(code.mark) else text for line, text in lines)


def _table(table: Table) -> str:
    heads = [f'<th scope="col" style="{CELL};{RULE}">{_escaped(header)}</th>' for header in table.headers]
    head = f"<thead><tr>{''.join(heads)}</tr></thead>"
    body = "\n".join(map(_row, table.rows))
    return f'<table style="{BLOCK};border-collapse:collapse">\n{head}\n<tbody>\n{body}\n</tbody>\n</table>'


def _row(row: tuple[Cell, ...]) -> str:
    first, *rest = row
    cells = [f'<td style="{STYLES[cell.role]}">{_cell(cell)}</td>' for cell in rest]
    return f'<tr><th scope="row" style="{STYLES[first.role]}">{_cell(first)}</th>{"".join(cells)}</tr>'


def _cell(cell: Cell) -> str:
    text = _isolated(cell.text)
    if cell.role is Role.FAILED:
        return f"<strong>{text}</strong>"
    most = LONGEST_PROSE if cell.role is Role.PROSE else LONGEST_NAME
    if len(cell.text) <= most:
        return text
    summary, inside = (_isolated(shortened(cell.text, length)) for length in (most, LONGEST_FOLDED))
    return f'<details style="{WRAP}"><summary>{summary}</summary>{inside}</details>'


def _isolated(text: str) -> str:
    """Escaped, and kept from reversing what stands beside it."""
    return f"<bdi>{_escaped(text)}</bdi>" if is_right_to_left(text) else _escaped(text)


def _escaped(text: str) -> str:
    # A pair of dollar signs in one text node would be set as a formula; MathJax does not reach across elements.
    return escape(text).replace("$", "<span>$</span>")
