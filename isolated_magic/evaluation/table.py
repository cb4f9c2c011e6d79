"""An evaluation as a table with a row for each row result.

Columns, in this order: ``index``, ``key``, ``repetition`` and ``cluster`` where there are any; the fields of the
row; ``error_kind`` and ``error``; for each metric its value, ``NAME.reason`` and ``NAME.passed`` where there are
any; ``attempts``, ``ms``, and ``worker`` where rows ran on a cluster. A field of the row that has the name of
another column is called ``row.NAME``, and a metric that has one of these fixed names is called ``score.NAME``. In
files, ``details`` follows where there is more: see ``table_rows.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from isolated_magic.data_frame import to_data_frame
from isolated_magic.evaluation.values import values_of
from isolated_magic.payload.encode import as_record

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    import pandas

    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.values import Value
    from isolated_magic.models import Score

BEFORE_ROW = ("index", "key", "repetition", "cluster")
ERRORS = ("error_kind", "error")
LAST = ("attempts", "ms", "worker", "details")
FIXED = {*BEFORE_ROW, *ERRORS, *LAST}
REASON, PASSED = ".reason", ".passed"
OF_ROW, OF_SCORE = "row.", "score."
MOST_BITS = 1000
WHOLE_ROW = "row"  # the field of a row that has none


class Column(NamedTuple):
    """A column: its name, and what it has of a row result."""

    name: str
    value: Callable[[RowResult], object]


def fields_of(row: object) -> Mapping[Any, object]:
    """The fields of a row: of a mapping, a dataclass, a model; the whole row as one field where it has none."""
    record = row if isinstance(row, Mapping) else as_record(row)
    if type(record) is dict:
        return record
    if isinstance(record, Mapping):
        with suppress(Exception):  # of a class that only calls itself a mapping
            return {key: record[key] for key in record}
    return {} if row is None else {WHOLE_ROW: row}


def columns_of(rows: Sequence[RowResult]) -> list[Column]:
    """The columns of a table of these rows."""
    metrics = _metric_columns(rows)
    taken = {column.name for column in metrics} | FIXED
    names: set[str] = set()  # of the columns of fields
    columns = [Column("index", lambda row: row.index), Column("key", lambda row: row.key)]
    if any(row.repetition for row in rows):
        columns.append(Column("repetition", lambda row: row.repetition))
    if any(row.cluster is not None for row in rows):
        columns.append(Column("cluster", lambda row: row.cluster))
    for field in dict.fromkeys(field for row in rows for field in fields_of(row.row)):
        name = column_name(str(field), OF_ROW, taken)
        while name in names:  # 1 and "1"
            name = f"{OF_ROW}{name}"
        names.add(name)
        columns.append(Column(name, _field(field)))
    columns.append(Column("error_kind", lambda row: None if row.error is None else str(row.error.kind)))
    columns.append(Column("error", lambda row: None if row.error is None else row.error.summary))
    columns += metrics
    columns.append(Column("attempts", lambda row: len(row.attempts)))
    columns.append(Column("ms", lambda row: row.timings.execution_ms))
    if any(row.worker is not None for row in rows):
        columns.append(Column("worker", lambda row: row.worker))
    return columns


def column_name(name: str, prefix: str, taken: Collection[str]) -> str:
    """The column of a field or a metric: with a prefix where its name, with or without prefixes, is taken."""
    return f"{prefix}{name}" if without_prefixes(name, prefix) in taken else name


def without_prefixes(name: str, prefix: str) -> str:
    """The name without all prefixes."""
    while name.startswith(prefix):
        name = name.removeprefix(prefix)
    return name


def to_pandas(rows: Sequence[RowResult]) -> pandas.DataFrame:
    """A data frame of these rows.

    Raises:
        MissingLibraryError: pandas is not installed.
    """
    columns = columns_of(rows)
    names = [column.name for column in columns]
    return to_data_frame([{column.name: _cell(column.value(row)) for column in columns} for row in rows], names)


def _cell(value: object) -> object:
    """The value, if pandas can take it: it converts whole numbers, and fails at those beyond the floats."""
    return "<int>" if isinstance(value, int) and value.bit_length() > MOST_BITS else value


def _field(name: object) -> Callable[[RowResult], object]:
    return lambda row: fields_of(row.row).get(name)


def _metric_columns(rows: Sequence[RowResult]) -> list[Column]:
    columns: list[Column] = []
    metrics = values_of(rows)
    taken = {*FIXED, *columns_beside(metrics), ""}
    for name, metric in metrics.items():
        shown = column_name(name, OF_SCORE, taken)
        scores = [[score for score in row.scores if score.name == name] for row in metric.rows]
        of_rows = [*zip(metric.rows, metric.values, scores, strict=True)]
        columns.append(Column(shown, _by_row((row, _told(value, some)) for row, value, some in of_rows)))
        reasons = [(row, _reason(value, some)) for row, value, some in of_rows]
        if any(reason for _, reason in reasons):
            columns.append(Column(f"{shown}{REASON}", _by_row(reasons)))
        if any(value.passed is not None for value in metric.values):
            columns.append(Column(f"{shown}{PASSED}", _by_row((row, value.passed) for row, value, _ in of_rows)))
    return columns


def columns_beside(names: Iterable[str]) -> set[str]:
    """The columns that there may be beside those of metrics."""
    return {f"{name}{suffix}" for name in names for suffix in (REASON, PASSED)}


def _by_row(values: Iterable[tuple[RowResult, object]]) -> Callable[[RowResult], object]:
    found = {id(row): value for row, value in values}
    return lambda row: found.get(id(row))


def _told(value: Value, scores: Sequence[Score]) -> object:
    """The number, of several the mean; else the text; None without either."""
    if value.number is not None:
        return scores[0].value if len(scores) == 1 else value.number
    texts = (score.value for score in scores if isinstance(score.value, str) and not score.scoring_failed)
    return next(texts, None)


def _reason(value: Value, scores: Sequence[Score]) -> str | None:
    return next((score.reason for score in scores if score.reason), None) or value.problem or None
