"""Where the rows of an evaluation come from (lists, columns, frames, datasets, files), and which are taken."""

from __future__ import annotations

import inspect
import io
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from isolated_magic.errors import InvalidRequestError
from isolated_magic.evaluation.columns import (
    Columns,
    columns_of_array,
    columns_of_dict,
    columns_of_frame,
    plain_row,
)

if TYPE_CHECKING:
    from typing import TypeAlias

    RowAt: TypeAlias = Callable[[int], object]
    Numbered: TypeAlias = tuple[int, object]

# Classes of datasets that are recognised without an import, by library.
DATASETS = {"datasets": {"Dataset", "IterableDataset", "DatasetDict", "IterableDatasetDict"}, "opik": {"Dataset"}}
WHAT_TO_GIVE = (
    "give a list of dicts, an iterable of them, a dict of columns, a data frame, a Dataset, "
    "or the path of a .jsonl, .csv or .parquet file"
)


@dataclass(frozen=True)
class RowSource:
    """Rows that are read lazily, once.

    Args:
        rows: yields them in order.
        count: how many there are; None if nobody knows before they are read.
        at: reads one row by its position without reading the others; None where that is not possible.
    """

    rows: Iterator[object]
    count: int | None = None
    at: RowAt | None = None


def row_source(rows: object) -> RowSource:
    """The rows that an object stands for. Those of frames and columns are dicts of what JSON can hold.

    Raises:
        InvalidRequestError: it stands for none, or its file is not as it should be.
        MissingLibraryError: its file needs a library that is not installed.
    """
    if isinstance(rows, RowSource):
        return rows
    if isinstance(rows, (str, os.PathLike)):
        from isolated_magic.evaluation.row_files import read_file  # noqa: PLC0415 - most rows are no file

        count, read = read_file(rows)
        return RowSource(read, count)
    for find in (_from_dataset, _from_builtins, _from_table, _from_iterable):
        source = find(rows)
        if source is not None:
            return source
    raise InvalidRequestError(f"rows is {_told(rows)}{WHAT_TO_GIVE}.")


def _from_dataset(rows: Any) -> RowSource | None:  # noqa: ANN401 - its library is not imported here
    """The rows of a dataset of Hugging Face or Opik."""
    library, name = _library_of(rows), type(rows).__name__
    if library == "datasets" and isinstance(rows, dict):  # a DatasetDict
        splits = [*rows]
        raise InvalidRequestError(
            f"rows is a {name} of {len(splits)} splits: choose one, such as rows[{splits[0]!r}] "
            f"(there are {', '.join(map(str, splits))})."
            if splits
            else f"rows is a {name} without splits: give a Dataset."
        )
    if library == "datasets" and hasattr(rows, "column_names"):
        kind = (getattr(rows, "format", None) or {}).get("type")
        plain = rows if kind in {None, "custom"} else rows.with_format(None)  # not tensors, arrays or frames
        if not hasattr(plain, "__len__"):  # an IterableDataset
            return RowSource(map(plain_row, plain))
        return RowSource(map(plain_row, plain), len(plain), lambda index: plain_row(plain[index]))
    if library == "opik" and hasattr(rows, "get_items"):
        return _from_builtins(rows.get_items())
    return None


def _from_builtins(rows: object) -> RowSource | None:
    if isinstance(rows, (list, tuple, range)):
        return RowSource(iter(rows), len(rows), rows.__getitem__)
    if isinstance(rows, Mapping):
        return _of(columns_of_dict(rows))
    return None


def _from_table(rows: object) -> RowSource | None:
    """The rows of arrays, columns and frames of pandas, polars, pyarrow and others."""
    if isinstance(rows, Iterable) and hasattr(rows, "read_next_batch"):  # of pyarrow
        return RowSource(row for batch in rows for row in row_source(batch).rows)
    columns = columns_of_array(rows)
    if columns is None and not isinstance(rows, Iterator):
        columns = columns_of_frame(rows)
    return None if columns is None else _of(columns)


def _from_iterable(rows: Any) -> RowSource | None:  # noqa: ANN401 - likewise
    if isinstance(rows, (bytes, bytearray, memoryview, io.IOBase, type)):
        return None
    if isinstance(rows, Sequence):
        return RowSource(iter(rows), len(rows), rows.__getitem__)
    if isinstance(rows, Iterable):
        return RowSource(iter(rows), len(rows) if isinstance(rows, Sized) else None)
    if hasattr(rows, "__getitem__") and hasattr(rows, "__len__"):  # such as a Dataset of torch
        return RowSource((rows[index] for index in range(len(rows))), len(rows), rows.__getitem__)
    return None


def _of(columns: Columns) -> RowSource:
    return RowSource(columns.rows(), columns.count, columns.at)


def _library_of(value: object) -> str:
    """The library that a dataset or its base class is of; empty for others."""
    for base in type(value).__mro__:
        library = str(base.__module__).partition(".")[0]
        if base.__name__ in DATASETS.get(library, ()):
            return library
    return ""


def _told(rows: object) -> str:
    """What somebody gave instead of rows, up to what to give."""
    if hasattr(rows, "__aiter__"):
        return "an asynchronous iterable: collect it into a list, or "
    if inspect.isfunction(rows):
        return "a function: call it, or "
    if isinstance(rows, io.IOBase):
        return "an open file: give its path, or "
    return "a class: " if isinstance(rows, type) else f"{type(rows).__name__}: "


@dataclass(frozen=True)
class Taken:
    """Rows with their positions in the input, in its order.

    Args:
        rows: read lazily, once.
        count: how many there are; None if nobody knows.
    """

    rows: Iterator[Numbered]
    count: int | None


def taken(source: RowSource, limit: int | None, sample: int | None, seed: int) -> Taken:
    """The first ``limit`` rows, and of those ``sample`` at random; None for all.

    No row after the last one that is taken is read. For a sample of a source whose length is unknown, all are.
    """
    count = source.count
    rows: Iterator[Numbered] = enumerate(source.rows)
    if limit is not None:
        rows = islice(rows, limit)
        count = None if count is None else min(count, limit)
    if sample is None:
        return Taken(rows, count)
    if count is None:
        return Taken(_reservoir(rows, sample, seed), None)
    chosen = random.Random(seed).sample(range(count), min(sample, count))  # noqa: S311 - no secret is made of it
    if source.at is not None:
        return Taken(_read_at(source.at, sorted(chosen)), len(chosen))
    return Taken(_at(rows, sorted(chosen)), len(chosen))


def _read_at(read: RowAt, chosen: list[int]) -> Iterator[Numbered]:
    for index in chosen:
        yield index, read(index)


def _at(rows: Iterator[Numbered], chosen: list[int]) -> Iterator[Numbered]:
    position = 0
    for index in chosen:
        yield from islice(rows, index - position, index - position + 1)
        position = index + 1


def _reservoir(rows: Iterator[Numbered], size: int, seed: int) -> Iterator[Numbered]:
    """So many of the rows, each with the same probability, in their order (algorithm R)."""
    kept = list(islice(rows, size))
    generator = random.Random(seed)  # noqa: S311 - likewise
    for read, row in enumerate(rows, size + 1):
        place = generator.randrange(read)
        if place < size:
            kept[place] = row
    yield from sorted(kept, key=lambda numbered: numbered[0])
