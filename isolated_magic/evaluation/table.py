"""An evaluation as a table with a row for each row result, and back.

Columns, in this order: ``index``, ``key``, ``repetition`` and ``cluster`` where there are any; the fields of the
row; ``error_kind`` and ``error``; for each metric its value, ``NAME.reason`` and ``NAME.passed`` where there are
any; ``attempts``, ``ms``. A field of the row that has the name of another column is called ``row.NAME``, and a
metric that has one of these fixed names is called ``score.NAME``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from isolated_magic.errors import InvalidRequestError
from isolated_magic.evaluation.row_result import RowResult
from isolated_magic.evaluation.values import values_of
from isolated_magic.models import ErrorKind, RunError, Score, Timings, to_data_frame
from isolated_magic.payload.encode import as_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import pandas

    from isolated_magic.evaluation.values import Value

BEFORE_ROW = ("index", "key", "repetition", "cluster")
ERRORS = ("error_kind", "error")
LAST = ("attempts", "ms")
FIXED = {*BEFORE_ROW, *ERRORS, *LAST}
REASON, PASSED = ".reason", ".passed"
OF_ROW, OF_SCORE = "row.", "score."
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
    columns = [Column("index", lambda row: row.index), Column("key", lambda row: row.key)]
    if any(row.repetition for row in rows):
        columns.append(Column("repetition", lambda row: row.repetition))
    if any(row.cluster is not None for row in rows):
        columns.append(Column("cluster", lambda row: row.cluster))
    for field in dict.fromkeys(field for row in rows for field in fields_of(row.row)):
        name = f"{OF_ROW}{field}" if str(field) in taken else str(field)
        taken.add(name)
        columns.append(Column(name, _field(field)))
    columns.append(Column("error_kind", lambda row: None if row.error is None else str(row.error.kind)))
    columns.append(Column("error", lambda row: None if row.error is None else row.error.summary))
    columns += metrics
    columns.append(Column("attempts", lambda row: len(row.attempts)))
    columns.append(Column("ms", lambda row: row.timings.execution_ms))
    return columns


def to_pandas(rows: Sequence[RowResult]) -> pandas.DataFrame:
    """A data frame of these rows.

    Raises:
        MissingLibraryError: pandas is not installed.
    """
    columns = columns_of(rows)
    names = [column.name for column in columns]
    return to_data_frame([{column.name: column.value(row) for column in columns} for row in rows], names)


def _field(name: object) -> Callable[[RowResult], object]:
    return lambda row: fields_of(row.row).get(name)


def _metric_columns(rows: Sequence[RowResult]) -> list[Column]:
    columns: list[Column] = []
    metrics = values_of(rows)
    taken = {*FIXED, *_beside(metrics), ""}
    for name, metric in metrics.items():
        shown = f"{OF_SCORE}{name}" if name in taken else name
        scores = [[score for score in row.scores if score.name == name] for row in metric.rows]
        of_rows = [*zip(metric.rows, metric.values, scores, strict=True)]
        columns.append(Column(shown, _by_row((row, _told(value, some)) for row, value, some in of_rows)))
        reasons = [(row, _reason(value, some)) for row, value, some in of_rows]
        if any(reason for _, reason in reasons):
            columns.append(Column(f"{shown}{REASON}", _by_row(reasons)))
        if any(value.passed is not None for value in metric.values):
            columns.append(Column(f"{shown}{PASSED}", _by_row((row, value.passed) for row, value, _ in of_rows)))
    return columns


def _beside(names: Iterable[str]) -> set[str]:
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


def rows_from_table(table: Iterable[Mapping[str, object]], source: str) -> Iterator[RowResult]:
    """The row results in a table that has the columns of :func:`columns_of`.

    Args:
        table: its rows.
        source: the file that it is in.

    Raises:
        InvalidRequestError: it has not.
    """
    layout: _Layout | None = None
    for number, row in enumerate(table):
        layout = layout or _Layout([*row], source)
        yield layout.row_result(row, number)


class _Layout:
    """Which columns of a table are what, by where they stand."""

    def __init__(self, names: list[str], source: str) -> None:
        missing = [name for name in ("key", *ERRORS) if name not in names]
        if missing or not names.index("key") < names.index("error_kind") < names.index("error"):
            raise InvalidRequestError(
                f"{source} is no saved evaluation: it has no column {missing[0]!r}."
                if missing
                else f"{source} is no saved evaluation: its columns are in another order."
            )
        before, last = names.index("error_kind"), names.index("error")
        self.fields = [name for name in names[:before] if name not in BEFORE_ROW]
        scores = [name for name in names[last + 1 :] if name not in LAST]
        self._not_metrics = {*FIXED, *_beside(scores), ""}
        self.metrics = [name for name in scores if name not in self._not_metrics]
        self._taken = {*scores, *FIXED}

    def row_result(self, row: Mapping[str, object], number: int) -> RowResult:
        """One row of the table."""
        index, repetition, ms = (_number(row.get(name)) for name in ("index", "repetition", "ms"))
        cluster = row.get("cluster")
        return RowResult(
            index=number if index is None else int(index),
            key=str(row["key"]),
            row={self._field_name(name): row[name] for name in self.fields},
            scores=tuple(score for name in self.metrics if (score := self._score(row, name)) is not None),
            error=_error(row),
            repetition=int(repetition or 0),
            cluster=None if cluster in {None, ""} else str(cluster),
            timings=Timings(execution_ms=math.nan if ms is None else ms),
        )

    def _field_name(self, column: str) -> str:
        name = column.removeprefix(OF_ROW)
        return name if name in self._taken else column

    def _score(self, row: Mapping[str, object], name: str) -> Score | None:
        value, reason, passed = (row.get(f"{name}{suffix}") for suffix in ("", REASON, PASSED))
        value = _as_number(value)
        told = str(reason) if reason is not None and reason != "" else None
        if _is_missing(value) and told is None:
            return None
        own = name.removeprefix(OF_SCORE)
        return Score(
            own if own in self._not_metrics else name,
            None if _is_missing(value) else value,  # type: ignore[arg-type]  # a number or text
            told,
            scoring_failed=_is_missing(value),
            passed=passed if isinstance(passed, bool) else None,
        )


def _error(row: Mapping[str, object]) -> RunError | None:
    kind, summary = row["error_kind"], str(row["error"])
    if _is_missing(kind):
        return None
    known = kind if kind in {*ErrorKind} else ErrorKind.USER_CODE
    return RunError(ErrorKind(str(known)), summary, summary)


def _as_number(value: object) -> object:
    """The number that a text stands for: some text in a column makes text of its numbers, too."""
    if isinstance(value, str) and "_" not in value:
        for kind in (int, float):
            with suppress(ValueError):
                return kind(value)
    return value


def _is_missing(value: object) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: object) -> float | None:
    return value if isinstance(value, (int, float)) and not _is_missing(value) else None
