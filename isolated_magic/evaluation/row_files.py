"""Rows in files: JSON lines, JSON, CSV and Parquet.

A file is read twice: once to count its rows, and to find what is wrong with it before the first one is run; and
once more, some rows at a time, to run them.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import itertools
import json
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isolated_magic.errors import InvalidRequestError, MissingLibraryError
from isolated_magic.evaluation.checkpoint import HEADER as CHECKPOINT_HEADER
from isolated_magic.evaluation.columns import ROWS_AT_ONCE, check_differ, columns_of_dict, columns_of_frame
from isolated_magic.strict_json import RefusedError, decode

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager
    from typing import BinaryIO, TypeAlias

    TextColumns: TypeAlias = Callable[[Sequence[str]], Collection[str]]

LONGEST_SHOWN = 80  # characters of text that is no path
JSON_LINES, CSV, PARQUET = {".jsonl", ".ndjson"}, {".csv", ".tsv"}, {".parquet", ".pq"}
ENDINGS = ".jsonl, .json, .csv or .parquet"
SAVED_HEADER = "isolated_magic evaluation"  # the first key of a saved evaluation's first line
DELIMITERS = (",", "\t", ";")
# Text that is not the usual way to write its number, such as a postcode with a leading zero, stays text.
_WHOLE_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,300})\Z", re.ASCII)
_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)?(?:\.\d*)?(?:[eE][+-]?\d+)?\Z", re.ASCII)
_NOT_FINITE = {"nan", "inf", "-inf", "infinity", "-infinity"}
_TRUTHS = {"true": True, "false": False}


def read_file(path: str | os.PathLike[str]) -> tuple[int, Iterator[object]]:
    """The number of rows in a file, and the rows.

    Raises:
        InvalidRequestError: there is no such file, or something is wrong with it.
        MissingLibraryError: it needs a library that is not installed.
    """
    found = existing_file(path, "rows")
    ending = (found.suffix if found.suffix.lower() != ".gz" else found.with_suffix("").suffix).lower()
    try:
        if ending in PARQUET:
            return read_parquet(found)
        if ending in CSV:
            return read_csv(found)
        if ending == ".json":
            return _read_json(found)
        if ending in JSON_LINES:
            return _read_lines(found)
    except UnicodeDecodeError:
        raise InvalidRequestError(f"{found} is not UTF-8 text: read it yourself, and give its rows.") from None
    except (OSError, EOFError) as problem:
        raise InvalidRequestError(f"{found} cannot be read: {reason_of(problem)}.") from None
    raise InvalidRequestError(
        f"{found} ends in {found.suffix!r}: rows are read from {ENDINGS} files. Read it, and give its rows."
    )


def existing_file(path: str | os.PathLike[str], what: str) -> Path:
    """The path of a file that is there, with ``~`` expanded.

    Raises:
        InvalidRequestError: there is none.
    """
    text = str(path)
    shown = text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
    found, is_folder = Path(path), False
    with suppress(OSError, ValueError, RuntimeError):  # a name too long, a NUL in it, an unknown user after ~
        found = found.expanduser()
        is_folder = found.is_dir()
        if found.is_file():
            return found
    if is_folder:
        raise InvalidRequestError(f"{shown!r} is a folder: give the path of a file in it.")
    if (
        what == "rows"
        and isinstance(path, str)
        and found.suffix.lower() not in {*JSON_LINES, *CSV, *PARQUET, ".json"}
    ):
        told = f"give the path of a {ENDINGS} file, or the rows"
        raise InvalidRequestError(f"rows is text, and there is no file {shown!r}: {told}.")
    raise InvalidRequestError(f"There is no file {shown!r}.")


def reason_of(problem: BaseException) -> str:
    """Why a file could not be read or written, without its path."""
    return getattr(problem, "strerror", None) or str(problem) or type(problem).__name__


def opened(path: Path) -> AbstractContextManager[BinaryIO]:
    """The file, decompressed where its name ends in ``.gz``."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]  # it is read


def decoded_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """The value of each line of JSON with the line's number. Blank lines are left out.

    Raises:
        InvalidRequestError: a line is broken.
    """
    with opened(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            try:
                yield number, decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            except (ValueError, RefusedError) as problem:
                raise InvalidRequestError(f"{path}, line {number:,}: {_told(problem)}.") from None


def _told(problem: ValueError) -> str:
    """What is wrong with a text that should be JSON, without the text itself: secrets may be in it."""
    if isinstance(problem, json.JSONDecodeError):
        return f"this is no JSON ({problem.msg.removesuffix(' at')} at column {problem.colno:,})"
    if isinstance(problem, UnicodeDecodeError):
        return "this is not UTF-8 text"
    return f"its JSON {problem}"


def _counted(rows: Callable[[], Iterator[object]]) -> tuple[int, Iterator[object]]:
    """The number of rows, from reading all once, and the rows."""
    return sum(1 for _ in rows()), rows()


def _read_lines(path: Path) -> tuple[int, Iterator[object]]:
    first = next(decoded_lines(path), (0, None))[1]
    if isinstance(first, dict) and not first.keys().isdisjoint((SAVED_HEADER, CHECKPOINT_HEADER)):
        raise InvalidRequestError(
            f"{path} holds results, not rows: give the rows of a saved evaluation as "
            "[each.row for each in EvaluationResult.load(path)]."
        )
    return _counted(lambda: (value for _, value in decoded_lines(path)))


def _read_json(path: Path) -> tuple[int, Iterator[object]]:
    """A list of objects, an object of columns, or lines of JSON under the wrong name."""
    with opened(path) as file:
        text = file.read().decode("utf-8-sig")
    try:
        value = decode(text)
    except json.JSONDecodeError as problem:
        if problem.msg == "Extra data":
            return _read_lines(path)
        where = f"line {problem.lineno:,}, column {problem.colno:,}"
        raise InvalidRequestError(f"{path} is no JSON: {problem.msg.removesuffix(' at')} at {where}.") from None
    except RefusedError as problem:
        raise InvalidRequestError(f"The JSON in {path} {problem}.") from None
    if isinstance(value, list):
        return len(value), iter(value)
    if isinstance(value, dict) and value and all(isinstance(column, list) for column in value.values()):
        columns = columns_of_dict(value)
        return columns.count, columns.rows()
    raise InvalidRequestError(f"{path} holds one {type(value).__name__}: it should be a list of the rows.")


def read_csv(path: Path, as_text: TextColumns | None = None) -> tuple[int, Iterator[object]]:
    """Rows of text; a column in which all cells are numbers, or true and false, holds these.

    Args:
        path: of the file. A column without a name is left out: it is the index that pandas writes.
        as_text: says which columns stay text, by the names of all.
    """
    lines = _csv_rows(path)
    header = next(lines, None)
    if header is None:
        raise InvalidRequestError(f"{path} is empty: its first line should be the names of its columns.")
    names = header[1]
    check_differ(names, str(path))
    texts = () if as_text is None else as_text(names)
    kinds = [_Kind(is_text=name in texts) for name in names]
    count = 0
    for number, cells in lines:
        if len(cells) != len(names):
            raise InvalidRequestError(
                f"{path}, line {number:,}: its cells are {len(cells):,}, and there are {len(names):,} columns."
            )
        for kind, cell in zip(kinds, cells, strict=True):
            if cell and not kind.is_text:
                kind.see(cell)
        count += 1
    readers = [kind.reader() for kind in kinds]

    def rows() -> Iterator[object]:
        for _, cells in itertools.islice(_csv_rows(path), 1, None):
            yield {name: read(cell) for name, read, cell in zip(names, readers, cells, strict=False) if name}

    return count, rows()


class _Kind:
    """What the cells of a column of CSV are, as far as they were seen."""

    def __init__(self, *, is_text: bool) -> None:
        self.is_text = is_text
        self._is_whole = self._is_number = self._is_truth = False
        self._is_first = True

    def see(self, cell: str) -> None:
        """Take a cell that is not empty into account."""
        if self._is_first:
            self._is_whole = self._is_number = self._is_truth = True
            self._is_first = False
        self._is_whole = self._is_whole and _WHOLE_NUMBER.match(cell) is not None
        self._is_number = self._is_number and (_is_number(cell) or cell.lower() in _NOT_FINITE)
        self._is_truth = self._is_truth and cell.lower() in _TRUTHS
        self.is_text = not (self._is_whole or self._is_number or self._is_truth)

    def reader(self) -> Callable[[str], object]:
        """What makes a value of a cell. An empty one among numbers is None, and "" among text."""
        if self._is_whole:
            return lambda cell: int(cell) if cell else None
        if self._is_number:
            return lambda cell: float(cell) if cell else None
        if self._is_truth:
            return lambda cell: _TRUTHS[cell.lower()] if cell else None
        return str


def _is_number(cell: str) -> bool:
    return _NUMBER.match(cell) is not None and any(map(str.isdigit, cell.lower().partition("e")[0]))


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row with the number of its last line, the header first. Blank lines are left out."""
    with opened(path) as file:
        text = (line.decode("utf-8-sig" if n == 0 else "utf-8") for n, line in enumerate(file))
        first = next(text, "")
        found = csv.reader(itertools.chain([first], text), delimiter=_delimiter(path, first), strict=True)
        while True:
            try:
                rows = [*itertools.islice(_with_large_cells(found), ROWS_AT_ONCE)]
            except csv.Error as problem:
                raise InvalidRequestError(f"{path}, line {found.line_num:,}: {problem}.") from None
            except UnicodeDecodeError:
                raise InvalidRequestError(
                    f"{path}, line {found.line_num + 1:,}: this is not UTF-8 text. Save the file as UTF-8, or "
                    "give pandas.read_csv(path, encoding=...)."
                ) from None
            if not rows:
                return
            yield from rows


def _delimiter(path: Path, header: str) -> str:
    if ".tsv" in path.name.lower():
        return "\t"
    return max(DELIMITERS, key=header.count)  # the first of them where none is in it


def _with_large_cells(rows: Any) -> Iterator[tuple[int, list[str]]]:  # noqa: ANN401 - the csv module does not name its type
    """The rows that are not blank, while cells may have any length: that limit is one for all readers."""
    most = csv.field_size_limit(sys.maxsize)
    try:
        while True:
            row = next(rows, None)
            if row is None:
                return
            if row:
                yield rows.line_num, row
    finally:
        csv.field_size_limit(most)


def read_parquet(path: Path) -> tuple[int, Iterator[object]]:
    """The number of rows, and the rows, read with pyarrow or polars."""
    parquet = library("pyarrow.parquet")
    if parquet is None:
        return _read_parquet_with_polars(path)
    try:
        file = parquet.ParquetFile(path)
    except ValueError as problem:
        raise InvalidRequestError(f"{path} is no Parquet file: {problem}") from None
    names = [name for name in file.schema_arrow.names if not name.startswith("__index_level_")]  # of pandas

    def rows() -> Iterator[object]:
        with file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=names):
                columns = columns_of_frame(batch)
                assert columns is not None  # noqa: S101 - it is a frame
                yield from columns.rows()

    return file.metadata.num_rows, rows()


def _read_parquet_with_polars(path: Path) -> tuple[int, Iterator[object]]:
    polars = library("polars")
    if polars is None:
        raise MissingLibraryError(
            f"Reading {path.name} needs pyarrow or polars, and neither is installed: pip install pyarrow"
        )
    lazy = polars.scan_parquet(path)
    try:
        count = lazy.select(polars.len()).collect().item()
    except polars.exceptions.PolarsError as problem:
        raise InvalidRequestError(f"{path} is no Parquet file: {problem}") from None

    def rows() -> Iterator[object]:
        for start in range(0, count, ROWS_AT_ONCE):
            columns = columns_of_frame(lazy.slice(start, ROWS_AT_ONCE).collect())
            assert columns is not None  # noqa: S101 - it is a frame
            yield from columns.rows()

    return count, rows()


def library(name: str) -> Any:  # noqa: ANN401 - it need not be installed, so no type checker knows it
    """A module, or None where its library is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None
