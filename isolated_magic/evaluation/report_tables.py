"""What tables of an evaluation's views share: cells of numbers, and rows that are seen after a click."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from isolated_magic.evaluation.figures import figure_text
from isolated_magic.render.blocks import Cell, Fold, Role, Table
from isolated_magic.render.formatting import number_of

if TYPE_CHECKING:
    from isolated_magic.render.blocks import Block


def count_cell(count: int) -> Cell:
    """A number of rows, or of groups of them."""
    return Cell(f"{count:,}", Role.VALUE, number=number_of(count))


def figure_cell(value: float | None) -> Cell:
    """A figure; empty for None and NaN."""
    if value is None or math.isnan(value):
        return Cell("")
    return Cell(figure_text(value), Role.VALUE, number=number_of(value))


def with_fold(table: Table, count: int, most: int, noun: str, where: str) -> list[Block]:
    """A table, the rows of which beyond the first ones are folded.

    Args:
        table: with as many rows as may be seen, after a click or without.
        count: how many rows there would be.
        most: how many are seen without a click.
        noun: what a row is of, as it stands behind several.
        where: what has all of them.
    """
    first, others = (
        Table(table.headers, rows, table.has_headers_in_text) for rows in (table.rows[:most], table.rows[most:])
    )
    if not others.rows:
        return [table]
    more = f"{count - most:,} more {noun}"
    title = f"{more}{first_of(len(others.rows), count - most)}"
    return [first, Fold(title, others, in_text=f"... {more}: {where}")]


def first_of(most: int, count: int) -> str:
    """That so many of them are shown, as it stands behind their number; empty where all are."""
    return f", the first {most:,} of them" if count > most else ""
