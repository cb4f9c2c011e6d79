"""HTML that survives where notebooks are shown.

JupyterLab drops style elements, scripts, SVG, ``aria-*`` and CSS variables from untrusted output, and GitHub
drops inline styles too; so it is a plain table with headers, greys that read on light and on dark, and bars
made of text.
"""

from __future__ import annotations

from html import escape
from itertools import compress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolated_magic.render.view import Row, View

HEADERS = ("score", "value", "bar", "reason")
CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0"
RULE = "border-bottom:1px solid rgba(128,128,128,0.35)"
MONO = "font-family:monospace;white-space:pre"
WRAP = "white-space:pre-wrap;word-break:normal;overflow-wrap:anywhere"  # JupyterLab breaks inside words otherwise
BLOCK = "margin:4px 8px"


def to_html(view: View) -> str:
    """The view as an HTML fragment.

    Args:
        view: of a result.
    """
    if view.error:
        return f'<pre style="{BLOCK};{WRAP}">{_escaped(view.error)}</pre>'
    return "\n".join(part for part in (_table(view.rows), _json(view.json)) if part)


def _table(rows: tuple[Row, ...]) -> str:
    if not rows:
        return ""
    shown = [True, True, any(row.bar for row in rows), any(row.reason for row in rows)]
    heads = (f'<th scope="col" style="{CELL};{RULE}">{header}</th>' for header in HEADERS)
    head = "".join(compress(heads, shown))
    body = "\n".join(f"<tr>{''.join(compress(_cells(row), shown))}</tr>" for row in rows)
    head = f"<thead><tr>{head}</tr></thead>"
    return f'<table style="{BLOCK};border-collapse:collapse">\n{head}\n<tbody>\n{body}\n</tbody>\n</table>'


def _cells(row: Row) -> tuple[str, ...]:
    value = f"<strong>{row.value}</strong>" if row.failed else _escaped(row.value)
    return (
        f'<th scope="row" style="{CELL};font-weight:600">{_escaped(row.name)}</th>',
        f'<td style="{CELL};{MONO}">{value}</td>',
        f'<td style="{CELL};{MONO}">{row.bar}</td>',
        f'<td style="{CELL};{WRAP}">{_escaped(row.reason)}</td>',
    )


def _json(text: str) -> str:
    return f'<pre style="{BLOCK};{WRAP}">{_escaped(text)}</pre>' if text else ""


def _escaped(text: str) -> str:
    # A pair of dollar signs in one text node would be set as a formula; MathJax does not reach across elements.
    return escape(text).replace("$", "<span>$</span>")
