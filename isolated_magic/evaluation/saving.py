"""Save an evaluation in a file, and load it again.

JSON lines hold all of it: a first line about the whole, and one for each row. CSV and Parquet hold the table of
``table.py``, HTML is the report.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from isolated_magic.errors import InvalidRequestError, MissingLibraryError
from isolated_magic.evaluation.checkpoint import HEADER as CHECKPOINT_HEADER
from isolated_magic.evaluation.columns import plain
from isolated_magic.evaluation.row_files import (
    SAVED_HEADER,
    decoded_lines,
    existing_file,
    library,
    read_csv,
    read_parquet,
    reason_of,
)
from isolated_magic.evaluation.row_json import NotARowError, row_from_json, row_to_json
from isolated_magic.evaluation.table import columns_of
from isolated_magic.evaluation.table_rows import (
    DETAILS,
    Loaded,
    details_of,
    evaluation_in,
    text_columns,
    with_facts,
)
from isolated_magic.new_file import replacing
from isolated_magic.strict_json import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from isolated_magic.evaluation.evaluated import Evaluated
    from isolated_magic.evaluation.row_result import RowResult

FORMAT = 1
ENDINGS = ".jsonl, .csv, .parquet or .html"
LARGEST_WHOLE = 1 << 63
DEEPEST = 200  # levels of a row


def save(result: Evaluated, path: str | os.PathLike[str]) -> Path:
    """Write an evaluation into a file; one that is there is replaced when the new one is complete.

    Returns:
        The path, with ``~`` expanded.

    Raises:
        InvalidRequestError: the path ends in something else than a known format, or cannot be written.
        MissingLibraryError: the format needs a library that is not installed.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidRequestError(f"path is {type(path).__name__}: give the path of a {ENDINGS} file.")
    target = _expanded(path)
    write = {
        ".jsonl": _write_lines,
        ".csv": _write_csv,
        ".parquet": _write_parquet,
        ".html": _write_html,
    }.get(target.suffix.lower())
    if write is None:
        ending = repr(target.suffix) if target.suffix else "no ending"
        raise InvalidRequestError(f"{target} has {ending}: an evaluation is saved as {ENDINGS}.")
    try:
        with replacing(target) as new:
            write(result, new)
    except OSError as problem:
        raise InvalidRequestError(f"{target} cannot be written: {reason_of(problem)}.") from None
    return target


def _expanded(path: str | os.PathLike[str]) -> Path:
    with suppress(RuntimeError):  # an unknown user after ~
        return Path(path).expanduser()
    return Path(path)


def _synced(file: TextIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _write_lines(result: Evaluated, path: Path) -> None:
    header: dict[str, object] = {SAVED_HEADER: FORMAT, "rows": len(result.rows), "not_run": result.not_run}
    header |= {"stopped": result.stopped, "repeat": result.repeat, "notes": result.notes, "label": result.label}
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{json.dumps(header)}\n")
        for row in result.rows:
            told = row_to_json(row)
            try:
                text = json.dumps(told)
            except RecursionError:
                text = json.dumps({**told, "payload": None, "displays": []})
            file.write(f'{text[:-1]}, "row": {_row_text(row.row)}}}\n')
        _synced(file)


def _row_text(row: object) -> str:
    """A row as JSON, as the code of a run gets it; for a field that has no such form, the type of its value."""
    with suppress(Exception):  # what is wrong is its run's error
        return _json_text(row)
    if not isinstance(row, Mapping):
        return json.dumps(f"<{type(row).__name__}>")
    told = {}
    with suppress(Exception):
        for name, value in row.items():
            told[str(name)] = f"<{type(value).__name__}>"
            with suppress(Exception):
                told[str(name)] = json.loads(_json_text(value))
    return json.dumps(told)


def _json_text(value: object) -> str:
    return json.dumps(_with_plain_keys(value, DEEPEST))


def _with_plain_keys(value: object, levels: int) -> object:
    """The value as JSON can hold it.

    Raises:
        ValueError: it is nested too deeply.
    """
    if not levels:
        raise ValueError("nested too deeply")
    value = plain(value)
    if isinstance(value, dict):
        return {_plain_key(key): _with_plain_keys(item, levels - 1) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_plain_keys(item, levels - 1) for item in value]
    return value


def _plain_key(key: object) -> object:
    return key if isinstance(key, str) else plain(key)


def _write_csv(result: Evaluated, path: Path) -> None:
    columns = columns_of(result.rows)
    names = [column.name for column in columns]

    def table() -> Iterator[list[object]]:
        return ([_cell(column.value(row)) for column in columns] for row in result.rows)

    details = details_of(result, (dict(zip(names, cells, strict=True)) for cells in table()), names)
    has_details = any(details)
    with path.open("w", encoding="utf-8", newline="", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(names + [DETAILS] * has_details)
        writer.writerows(
            [*cells, more] if has_details else cells for cells, more in zip(table(), details, strict=True)
        )
        _synced(file)


def _cell(value: object) -> object:
    """What CSV can hold of a value: numbers, truth, text; JSON of all others."""
    value = plain(value)
    if isinstance(value, float) and math.isnan(value):
        return ""
    is_cell = value is None or isinstance(value, (str, float)) or (isinstance(value, int) and _is_64_bit(value))
    return value if is_cell else _row_text(value)


def _write_parquet(result: Evaluated, path: Path) -> None:
    columns = {
        _encodable(column.name): _of_one_type([*map(column.value, result.rows)])
        for column in columns_of(result.rows)
    }
    table = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
    details = details_of(result, table, [*columns])
    if any(details):
        columns[DETAILS] = [*details]
    pyarrow, polars = library("pyarrow"), library("polars")
    if pyarrow is not None:
        library("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    elif polars is not None:
        polars.DataFrame(columns, strict=False).write_parquet(path)
    else:
        raise MissingLibraryError(
            "Saving as .parquet needs pyarrow or polars, and neither is installed: pip install pyarrow"
        )


def _of_one_type(values: Sequence[object]) -> list[object]:
    """The values of a column as one type: truth, whole numbers, numbers, or else text."""
    values = [*map(plain, values)]
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool} or (kinds <= {int} and all(map(_is_64_bit, values))):
        return values
    if float in kinds and kinds <= {int, float}:
        return [value if value is None else float(value) for value in values]  # type: ignore[arg-type]  # a number
    texts = [value if value is None or isinstance(value, str) else _row_text(value) for value in values]
    return [text if text is None else _encodable(text) for text in texts]


def _encodable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _is_64_bit(value: object) -> bool:
    return not isinstance(value, int) or -LARGEST_WHOLE <= value < LARGEST_WHOLE


def _write_html(result: Evaluated, path: Path) -> None:
    from isolated_magic.evaluation.html_report import to_html_report  # noqa: PLC0415 - for this format alone

    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(to_html_report(result))
        _synced(file)


def load(path: str | os.PathLike[str]) -> Loaded:
    """What a file holds of an evaluation.

    Raises:
        InvalidRequestError: there is no such file, or it holds none.
        MissingLibraryError: it needs a library that is not installed.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise InvalidRequestError(f"path is {type(path).__name__}: give the path of a saved evaluation.")
    found = existing_file(path, "path")
    ending = found.suffix.lower()
    if ending in {".html", ".htm"}:
        raise InvalidRequestError(f"{found} is a report, which cannot be loaded: save a .jsonl file beside it.")
    try:
        if ending == ".csv":
            return evaluation_in(_mappings(read_csv(found, text_columns)[1]), str(found))
        if ending == ".parquet":
            return evaluation_in(_mappings(read_parquet(found)[1]), str(found))
        return _from_lines(found)
    except OSError as problem:
        raise InvalidRequestError(f"{found} cannot be read: {reason_of(problem)}.") from None


def _mappings(table: Iterator[object]) -> Iterator[Mapping[str, object]]:
    return (row for row in table if isinstance(row, dict))


def _from_lines(path: Path) -> Loaded:
    lines = decoded_lines(path)
    try:
        _, header = next(lines, (0, None))
    except InvalidRequestError:
        header = None
    if isinstance(header, dict) and CHECKPOINT_HEADER in header:
        return _from_checkpoint(path)
    if not isinstance(header, dict) or SAVED_HEADER not in header:
        raise InvalidRequestError(
            f"{path} is no saved evaluation: give a .jsonl, .csv or .parquet file of save(), or a checkpoint."
        )
    if header[SAVED_HEADER] != FORMAT:
        raise InvalidRequestError(f"{path} was saved by a newer version of isolated_magic: upgrade it.")
    rows = tuple(_row(told, path, number) for number, told in lines)
    if len(rows) != header.get("rows"):
        raise InvalidRequestError(f"{path} is incomplete: it has {len(rows):,} of {header.get('rows')} rows.")
    return with_facts(Loaded(rows), header)


def _from_checkpoint(path: Path) -> Loaded:
    """The rows that were run so far: of each its last score, or else its last error."""
    found: dict[object, RowResult] = {}
    total: int | None = None
    repeat = 1
    unreadable = 0
    with path.open("rb") as file:
        for line in file:
            try:
                told = decode(line)
                if isinstance(told, dict) and CHECKPOINT_HEADER in told:
                    rows, times = told.get("rows"), told.get("repeat")
                    total, repeat = rows if isinstance(rows, int) else None, times if isinstance(times, int) else 1
                    continue
                row = row_from_json(told)
            except ValueError:
                unreadable += 1
                continue
            place = (str(told.get("id", row.index)) if isinstance(told, dict) else row.index, row.repetition)
            if row.ok or place not in found or not found[place].ok:
                found[place] = row
    ordered = tuple(sorted(found.values(), key=lambda row: (row.index, row.repetition)))
    not_run = None if total is None else max(0, total * repeat - len(ordered))
    lines = f"{unreadable:,} line{'' if unreadable == 1 else 's'}"
    notes = (f"{lines} of {path.name} could not be read.",) * bool(unreadable)
    return Loaded(ordered, not_run, repeat=repeat, notes=notes)


def _row(told: Any, path: Path, number: int) -> RowResult:  # noqa: ANN401 - any JSON
    try:
        return row_from_json(told, told.get("row") if isinstance(told, dict) else None)
    except NotARowError as problem:
        raise InvalidRequestError(f"{path}, line {number:,}: {problem}.") from None
