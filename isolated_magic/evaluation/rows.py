"""Where the rows of an evaluation come from: anything that can be read one row after the other."""

from __future__ import annotations

from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class RowSource:
    """Rows that are read lazily, once.

    Args:
        rows: yields them in order.
        count: how many there are; None if nobody knows before they are read.
    """

    rows: Iterator[object]
    count: int | None = None


def row_source(rows: object) -> RowSource:
    """The rows that an object stands for.

    Raises:
        InvalidRequestError: it stands for none.
    """
    if isinstance(rows, (str, bytes)) or not isinstance(rows, Iterable):
        raise InvalidRequestError(
            f"rows is {type(rows).__name__}: give a list of dicts, or anything to iterate over."
        )
    return RowSource(iter(rows), len(rows) if isinstance(rows, Sized) else None)
