"""Plain text: a line a score, in columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolated_magic.render.view import Row, View

GAP = "  "


def to_text(view: View) -> str:
    """The view as plain text, without colour.

    Args:
        view: of a result.
    """
    if view.error:
        return view.error
    return "\n".join(part for part in ("\n".join(_lines(view.rows)), view.json) if part)


def _lines(rows: tuple[Row, ...]) -> list[str]:
    columns = [[row.name, row.value, row.bar, row.reason] for row in rows]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)] if columns else []
    return [
        GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True) if width).rstrip()
        for cells in columns
    ]
