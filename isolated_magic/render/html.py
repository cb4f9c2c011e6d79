"""HTML that survives where notebooks are shown.

JupyterLab drops style elements, scripts, SVG, ``aria-*`` and CSS variables from untrusted output, and GitHub drops
inline styles too. So all styles are inline, colours read on light and on dark, and what a style says is said in
text as well: bars are made of text, too, which is hidden where styles work. Wide tables scroll by themselves.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from isolated_magic.render.blocks import Code, Line, Role, Table
from isolated_magic.render.formatting import (
    in_one_format,
    is_right_to_left,
    longest,
    shortened,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolated_magic.render.blocks import Block, Cell, View

SIZE = "font-size:small"  # of all that is shown, as front ends differ in what is larger: table, summary or text
SAME_SIZE = "font-size:100%"
CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"
RULE = "border-bottom:1px solid rgba(128,128,128,0.35)"
MONO = "font-family:monospace,monospace"  # once more, or browsers make it smaller
LINE = f"{MONO};white-space:pre"
RIGHT = "text-align:right;vertical-align:top;padding:2px 12px 2px 0"
NUMBER = f"{RIGHT};{LINE}"
WRAP = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"  # JupyterLab breaks inside words otherwise
WRAP_WORDS = "white-space:pre-wrap;overflow-wrap:break-word"  # a column is as wide as its longest word
BLOCK = "margin:4px 8px"
BOX = f"{BLOCK};overflow-x:auto;max-width:100%"

# No colour of text has a contrast of 4.5 both on white and on the greys of dark themes (WCAG 2.2, 1.4.3): coloured
# words stand on a ground of their own.
CHIP = "color:#ffffff;border-radius:3px;padding:0 4px"
RED, GREEN = f"{CHIP};background-color:#c62828", f"{CHIP};background-color:#1b7a3d"
CHIPS = {Role.FAILED: RED, Role.WORSE: RED, Role.PASSED: GREEN, Role.BETTER: GREEN}
TINT = "background-color:rgba(198,40,40,0.2)"  # behind text in the colour of the theme
# A bar has a contrast of 3 and more on white and on black (1.4.11).
TRACK = "display:inline-block;vertical-align:middle;width:100px;height:8px;background-color:rgba(128,128,128,0.25)"
FILLED = "display:block;height:8px;background-color:#3b82f6;width:"
HIDDEN = "display:none"

STYLES = {
    Role.NAME: f"{CELL};font-weight:600;min-width:6em;{WRAP}",
    Role.VALUE: f"{CELL};{MONO};{WRAP_WORDS}",
    Role.FAILED: f"{CELL};{LINE}",
    Role.PASSED: f"{CELL};{LINE}",
    Role.BAR: f"{CELL};{LINE}",
    Role.LINE: f"{CELL};{LINE}",
    Role.CHANGE: f"{CELL};{MONO};{WRAP_WORDS}",
    Role.BETTER: f"{CELL};{MONO};{WRAP_WORDS}",
    Role.WORSE: f"{CELL};{MONO};{WRAP_WORDS}",
    Role.PROSE: f"{CELL};{WRAP};min-width:12em;max-width:60em",
}
CHANGES = {Role.CHANGE, Role.BETTER, Role.WORSE}
LONGEST_UNBROKEN = 60  # characters of a change
LONGEST_BESIDE_NUMBERS = 20  # characters of a value, or the numbers of its column stand far from their names
LONGEST_FOLDED = 20_000  # characters, after a click


def to_html(view: View) -> str:
    """The view as an HTML fragment."""
    inside = "\n".join(map(_block, view))
    return f'<div style="{SIZE}">\n{inside}\n</div>' if inside else ""


def progress_html(text: str, share: float | None) -> str:
    """One line on how far something is, behind a bar if that is known."""
    bar = "" if share is None else f"{_track(min(int(share * 100), 100))} "
    return f'<div style="{SIZE}"><div style="{BLOCK};{WRAP}">{bar}{_escaped(text)}</div></div>'


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Line):
        return f'<div style="{BLOCK};{WRAP}">{_line(block)}</div>'
    if isinstance(block, Code):
        return f'<pre style="{BLOCK};{MONO};{WRAP}">{_code(block)}</pre>'
    inside = _block(block.inside)
    title = f"<summary>{_escaped(block.title)}</summary>"
    return f'<details style="{BLOCK};{SAME_SIZE}">\n{title}\n{inside}\n</details>'


def _line(line: Line) -> str:
    text = _escaped(line.text)
    if line.role is Role.ERROR:
        return f'<span style="{RED}"><strong>{text}</strong></span>'
    return f"<strong>{text}</strong>" if line.role is Role.HEADLINE else text


def _code(code: Code) -> str:
    if not code.mark:
        return _escaped(code.text)
    lines = [(line, _escaped(line)) for line in code.text.split("\n")]
    wrong = f'<strong style="{TINT}">'
    return "\n".join(f"{wrong}{text}</strong>" if line.startswith(code.mark) else text for line, text in lines)


def _table(table: Table) -> str:
    columns = _columns(table)
    head = f"<thead><tr>{''.join(_head(table, index) for index in columns)}</tr></thead>"
    drawn = [_drawn_column([row[index] for row in table.rows]) for index in columns]
    body = "\n".join(f"<tr>{''.join(cells)}</tr>" for cells in zip(*drawn, strict=True))
    style = f"{SAME_SIZE};margin:0;border-collapse:collapse"
    inside = f'<table style="{style}">\n{head}\n<tbody>\n{body}\n</tbody>\n</table>'
    return f'<div style="{BOX}">\n{inside}\n</div>'


def _columns(table: Table) -> list[int]:
    """The columns in the order in which they are shown: bars stand beside the values."""
    columns = list(range(len(table.headers)))
    bars = [index for index in columns if not table.headers[index]]
    others = [index for index in columns if table.headers[index]]
    return [*others[:2], *bars, *others[2:]]


def _head(table: Table, index: int) -> str:
    if not table.headers[index]:
        return ""
    span = ' colspan="2"' if index == 1 and "" in table.headers else ""
    is_of_numbers = any(row[index].number is not None for row in table.rows) and not span
    style = f"{RIGHT if is_of_numbers else CELL};{RULE}"
    return f'<th scope="col"{span} style="{style}">{_escaped(table.headers[index])}</th>'


def _drawn_column(cells: Sequence[Cell]) -> list[str]:
    """The cells of one column, its numbers in one format."""
    if cells[0].role is Role.NAME:
        return [f'<th scope="row" style="{STYLES[cell.role]}">{_cell(cell)}</th>' for cell in cells]
    if cells[0].role is Role.BAR:
        return [
            f'<td style="{STYLES[Role.BAR]}">{_bar(cell)}</td>' if cell.text else "<td></td>" for cell in cells
        ]
    numbers = [(cell.text, cell.number) for cell in cells if cell.number is not None]
    texts = iter(in_one_format([text for text, _ in numbers], [number for _, number in numbers]))
    return [_drawn(cell) if cell.number is None else _number(next(texts)) for cell in cells]


def _drawn(cell: Cell) -> str:
    if not cell.text:
        return "<td></td>"
    style = STYLES[cell.role]
    if cell.role in CHANGES and len(cell.text) <= LONGEST_UNBROKEN:
        style = f"{CELL};{LINE}"
    inside = _cell(cell)
    if cell.role is Role.VALUE and len(cell.text) > LONGEST_BESIDE_NUMBERS:
        inside = f'<div style="width:16em">{inside}</div>'
    return f'<td style="{style}">{inside}</td>'


def _number(text: str) -> str:
    return f'<td align="right" style="{NUMBER}">{text}</td>'


def _bar(cell: Cell) -> str:
    """The bar in text, and as a block that is smooth to a hundredth."""
    if cell.number is None:
        return cell.text
    percent = 100 if cell.number == 1 else min(round(cell.number * 100), 99)
    return f'<span style="{HIDDEN}">{cell.text}</span>{_track(percent)}'


def _track(percent: int) -> str:
    return f'<span style="{TRACK}"><span style="{FILLED}{percent}%"></span></span>'


def _cell(cell: Cell) -> str:
    if cell.role in CHIPS and cell.text:
        mark = cell.mark or cell.text
        chip = f'<span style="{CHIPS[cell.role]};white-space:nowrap"><strong>{_escaped(mark)}</strong></span>'
        return chip + _isolated(cell.text.removeprefix(mark))
    text = _isolated(cell.text)
    most = longest(cell)
    if len(cell.text) <= most:
        return text
    summary, inside = (_isolated(shortened(cell.text, length)) for length in (most, LONGEST_FOLDED))
    style = f"{WRAP};{SAME_SIZE}"
    return f'<details style="{style}"><summary>{summary}</summary>{inside}</details>'


def _isolated(text: str) -> str:
    """Escaped, and kept from reversing what stands beside it."""
    return f"<bdi>{_escaped(text)}</bdi>" if is_right_to_left(text) else _escaped(text)


def _escaped(text: str) -> str:
    # A pair of dollar signs in one text node would be set as a formula; MathJax does not reach across elements.
    return escape(text).replace("$", "<span>$</span>")
