"""Rows of columns: dicts of lists, arrays, and frames of any library that narwhals knows.

Rows are made some at a time, as dicts of what the code of a run gets: dates as text, missing values as None.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isolated_magic.errors import InvalidRequestError
from isolated_magic.payload.conversion import convert, plain_key, series_to_list

if TYPE_CHECKING:
    from typing import TypeAlias

    Part: TypeAlias = Callable[[int, int], Sequence[object]]  # the values from one position to another

ROWS_AT_ONCE = 256
_PLAIN = {str, int, float, bool, type(None), list, dict}


@dataclass(frozen=True)
class Columns:
    """Columns of equal length.

    Args:
        names: of the columns; empty for one column whose values are the rows.
        parts: gives a part of each column. Without any, as of a frame with only an index, rows are empty dicts.
        count: length of each.
    """

    names: tuple[str, ...]
    parts: tuple[Part, ...]
    count: int

    def rows(self) -> Iterator[object]:
        """The rows, made some at a time."""
        for start in range(0, self.count, ROWS_AT_ONCE):
            yield from self._between(start, min(start + ROWS_AT_ONCE, self.count))

    def at(self, index: int) -> object:
        """One row."""
        return next(iter(self._between(index, index + 1)))

    def _between(self, start: int, stop: int) -> Sequence[object]:
        if not self.parts:
            return [{} for _ in range(start, stop)]
        columns = [part(start, stop) for part in self.parts]
        if not self.names:
            return columns[0]
        return [dict(zip(self.names, row, strict=True)) for row in zip(*columns, strict=True)]


def plain(value: object) -> object:
    """A value as the code of a run gets it; the value itself where it has no such form."""
    if type(value) in _PLAIN:
        return value
    try:
        return convert(value)
    except Exception:  # noqa: BLE001 - conversions of other libraries raise what they like; the row's run will say so
        return value


def plain_row(row: object) -> object:
    """A row of a dataset, with values as the code of a run gets them."""
    return {key: plain(value) for key, value in row.items()} if isinstance(row, Mapping) else row


def columns_of_dict(columns: Mapping[Any, object]) -> Columns:
    """The columns in a dict of lists, arrays or Series.

    Raises:
        InvalidRequestError: they are no columns, or not of one length.
    """
    wrong = next((name for name, column in columns.items() if not _is_column(column)), None)
    if wrong is not None:
        told = f"rows is a dict, and rows[{wrong!r}] is {type(columns[wrong]).__name__}, which is no column"
        if isinstance(columns[wrong], Mapping):
            raise InvalidRequestError(
                f"{told}: give list(rows.values()) for the rows in its values, or to_dict('records') of a frame."
            )
        raise InvalidRequestError(f"{told}: for one row, give [row]; for columns, give lists of equal length.")
    lengths = {name: len(column) for name, column in columns.items()}  # type: ignore[arg-type]  # a column has one
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} has {length:,}" for name, length in lengths.items())
        raise InvalidRequestError(f"The columns in rows have different lengths: {told}.")
    names = _names([*columns])
    parts = tuple(_part(column) for column in columns.values())
    return Columns(names, parts, next(iter(lengths.values()), 0))


def columns_of_array(rows: Any) -> Columns | None:  # noqa: ANN401 - its library is not imported here
    """The columns of a numpy array with named fields, or the one column of an array or a Series; else None.

    Raises:
        InvalidRequestError: its columns have no names.
    """
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and isinstance(rows, numpy.ndarray):
        if rows.ndim == 1 and rows.dtype.names:
            return Columns(rows.dtype.names, tuple(_part(rows[name]) for name in rows.dtype.names), len(rows))
        if rows.ndim != 1:
            raise InvalidRequestError(
                f"rows is an array of {rows.ndim} dimensions, whose columns have no names: "
                "give pandas.DataFrame(rows, columns=[...])."
            )
        return Columns((), (_part(rows),), len(rows))
    if pandas is not None and isinstance(rows, pandas.Series):
        return Columns((), (_part(rows),), len(rows))
    return None


def columns_of_frame(rows: Any) -> Columns | None:  # noqa: ANN401 - likewise
    """The columns of a data frame; None for anything else. A lazy frame is collected.

    Raises:
        InvalidRequestError: two columns have one name, or names are no text.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(rows, pandas.DataFrame):
        return _columns_of_pandas(rows)
    if not hasattr(type(rows), "columns"):
        return None
    import narwhals  # noqa: PLC0415 - for frames alone

    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None and isinstance(rows, (pyarrow.Table, pyarrow.RecordBatch)):
        _names(rows.schema.names)  # which may be repeated
        rows = rows if isinstance(rows, pyarrow.Table) else pyarrow.Table.from_batches([rows])
    frame = narwhals.from_native(rows, pass_through=True)
    if isinstance(frame, narwhals.LazyFrame):
        frame = frame.collect()
    if not isinstance(frame, narwhals.DataFrame):
        return None
    columns = [frame.get_column(name) for name in frame.columns]
    return Columns(_names(frame.columns), tuple(_part(column) for column in columns), len(frame))


def _columns_of_pandas(frame: Any) -> Columns:  # noqa: ANN401 - likewise
    """The columns, and those that the index has names for."""
    index = frame.index
    levels = [(name, index.get_level_values(n)) for n, name in enumerate(index.names) if name is not None]
    levels = [(name, values) for name, values in levels if name not in frame.columns]
    names = _names([*(name for name, _ in levels), *frame.columns])
    columns = [*(values for _, values in levels), *(frame.iloc[:, n] for n in range(frame.shape[1]))]
    return Columns(names, tuple(map(_part, columns)), len(frame))


def _names(labels: Sequence[object]) -> tuple[str, ...]:
    """Labels of columns as keys of JSON, which is what the code of a run gets."""
    names: list[str] = []
    for label in labels:
        key = plain_key(label)
        if key is not None and not isinstance(key, (str, int, float)):
            raise InvalidRequestError(
                f"rows has a column called {label!r}, which is no name: rename its columns, such as "
                'rows.columns = ["_".join(map(str, name)) for name in rows.columns].'
            )
        names.append(key if isinstance(key, str) else next(iter(json.loads(json.dumps({key: 0})))))
    check_differ(names, "rows")
    return tuple(names)


def check_differ(names: Sequence[str], what: str) -> None:
    """Refuse columns of one name.

    Raises:
        InvalidRequestError: there are some; it says which, and that ``what`` has them.
    """
    repeated = next((name for name, count in Counter(names).items() if count > 1), None)
    if repeated is not None:
        raise InvalidRequestError(f"{what} has several columns called {repeated!r}: rename all but one.")


def _is_column(value: object) -> bool:
    """Whether it has a length and parts."""
    if isinstance(value, (str, bytes, bytearray, Mapping)) or getattr(value, "ndim", 1) == 0:
        return False
    return hasattr(value, "__len__") and hasattr(value, "__getitem__")


def _part(column: Any) -> Part:  # noqa: ANN401 - likewise
    """How to get a part of a column, by what the column is."""
    pandas = sys.modules.get("pandas")
    if isinstance(column, (list, tuple, range)):
        return lambda start, stop: [*map(plain, column[start:stop])]
    if pandas is not None and isinstance(column, pandas.Index):
        column = column.to_series()
    if pandas is not None and isinstance(column, pandas.Series):
        return lambda start, stop: [*map(plain, series_to_list(column.iloc[start:stop]))]

    def part(start: int, stop: int) -> list[object]:
        values = column[start:stop]
        for method in ("to_list", "to_pylist"):  # of narwhals, polars, pyarrow
            if hasattr(values, method):
                return [*map(plain, getattr(values, method)())]
        converted = plain(values)  # of numpy, torch
        return [*map(plain, converted if isinstance(converted, list) else values)]

    return part
