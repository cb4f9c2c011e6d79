"""Row results from the table of ``table.py``, as files hold it.

What the other columns do not hold of a row, such as a traceback or what it printed, stands in ``details`` as JSON,
but neither displays nor the row itself. That of the first row also tells what is known of the whole.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.errors import InvalidRequestError
from isolated_magic.evaluation.row_json import NotARowError, row_from_json, row_to_json
from isolated_magic.evaluation.row_result import RowResult
from isolated_magic.evaluation.table import (
    BEFORE_ROW,
    ERRORS,
    FIXED,
    LAST,
    OF_ROW,
    OF_SCORE,
    PASSED,
    REASON,
    columns_beside,
    without_prefixes,
)
from isolated_magic.models import ErrorKind, RunError, Score, Timings
from isolated_magic.strict_json import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from isolated_magic.evaluation.evaluated import Evaluated
    from isolated_magic.strict_json import JsonObject

DETAILS = LAST[-1]
OF_ALL = "evaluation"  # in the details of the first row
_FACTS: dict[str, tuple[type, ...]] = {
    "not_run": (int, type(None)),
    "stopped": (str,),
    "repeat": (int,),
    "notes": (list,),
    "label": (str,),
}
_NUMBER_COLUMNS = {"attempts", "ms"}
_TEXT_COLUMNS = {"key", "cluster", *ERRORS, *LAST} - _NUMBER_COLUMNS


class Loaded(NamedTuple):
    """What a file says of an evaluation: the arguments of an :class:`EvaluationResult`."""

    rows: tuple[RowResult, ...]
    not_run: int | None = 0
    stopped: str = ""
    repeat: int = 1
    notes: tuple[str, ...] = ()
    label: str = ""


def text_columns(names: Sequence[str]) -> set[str]:
    """The columns of a table of text whose cells are not to be taken for numbers: keys, errors and metrics."""
    after = names[names.index(ERRORS[-1]) :] if ERRORS[-1] in names else ()
    return {*_TEXT_COLUMNS, *after} - _NUMBER_COLUMNS


class Layout:
    """Which columns of a table are what, by where they stand.

    Args:
        names: of the columns.
        source: the file that they are in.

    Raises:
        InvalidRequestError: they are not those of an evaluation.
    """

    def __init__(self, names: Sequence[str], source: str) -> None:
        missing = [name for name in ("key", *ERRORS) if name not in names]
        if missing or not names.index("key") < names.index("error_kind") < names.index("error"):
            raise InvalidRequestError(
                f"{source} is no saved evaluation: it has no column {missing[0]!r}."
                if missing
                else f"{source} is no saved evaluation: its columns are in another order."
            )
        before, last = names.index("error_kind"), names.index("error")
        self._fields = [name for name in names[:before] if name not in BEFORE_ROW]
        self._has_worker = "worker" in names[last + 1 :]  # else it is a field of the rows
        scores = [name for name in names[last + 1 :] if name not in LAST]
        self._not_metrics = {*FIXED, *columns_beside(scores), ""}
        self._metrics = [name for name in scores if name not in self._not_metrics]
        self._taken = {*scores, *FIXED}

    def row_result(self, row: Mapping[str, object], number: int) -> RowResult:
        """One row of the table, of which the number is given."""
        index, repetition, ms = (_number(row.get(name)) for name in ("index", "repetition", "ms"))
        cluster, worker = row.get("cluster"), row.get("worker") if self._has_worker else None
        fields = {self._field_name(name): row[name] for name in self._fields}
        with suppress(NotARowError):
            return row_from_json(_details(row), fields)
        return RowResult(
            index=number if index is None else int(index),
            key=str(row["key"]),
            row=fields,
            scores=tuple(score for name in self._metrics if (score := self._score(row, name)) is not None),
            error=_error(row),
            repetition=int(repetition or 0),
            cluster=None if cluster is None or cluster == "" else str(cluster),
            timings=Timings(execution_ms=math.nan if ms is None else ms),
            worker=None if _is_missing(worker) else str(worker),
        )

    def _field_name(self, column: str) -> str:
        return column.removeprefix(OF_ROW) if without_prefixes(column, OF_ROW) in self._taken else column

    def _score(self, row: Mapping[str, object], name: str) -> Score | None:
        value, reason, passed = (row.get(f"{name}{suffix}") for suffix in ("", REASON, PASSED))
        value = _as_number(value)
        told = str(reason) if reason is not None and reason != "" else None
        if _is_missing(value) and told is None:
            return None
        has_prefix = without_prefixes(name, OF_SCORE) in self._not_metrics
        return Score(
            name.removeprefix(OF_SCORE) if has_prefix else name,
            None if _is_missing(value) else value,  # type: ignore[arg-type]  # a number or text
            told,
            scoring_failed=_is_missing(value),
            passed={"True": True, "False": False}.get(str(passed)),
        )


def details_of(result: Evaluated, table: Iterable[Mapping[str, object]], names: Sequence[str]) -> list[str | None]:
    """The details that each row needs, so that all of the evaluation is loaded again.

    Args:
        result: the evaluation.
        table: its rows as they will be read from the file.
        names: of the columns.
    """
    layout = Layout(names, "")
    details: list[JsonObject] = []
    for number, (row, cells) in enumerate(zip(result.rows, table, strict=True)):
        loaded = layout.row_result(cells, number)
        is_all = loaded == row and row.cluster == loaded.cluster and row.payload is None
        details.append({} if is_all and not row.failed_attempts else _without_displays(row))
    facts = _facts(result)
    if facts and details:
        details[0] = {**details[0], OF_ALL: facts}
    return [_json(told) if told else None for told in details]


def _without_displays(row: RowResult) -> JsonObject:
    return {name: value for name, value in row_to_json(row).items() if name != "displays"}


def _json(told: JsonObject) -> str:
    try:
        return json.dumps(told)
    except RecursionError:
        return json.dumps({**told, "payload": None})


def _facts(result: Evaluated) -> JsonObject:
    """What is known of the whole, where it is not what one expects of a table."""
    usual = Loaded(result.rows, repeat=_repeat_of(result.rows))._asdict()
    facts = {name: getattr(result, name) for name in Loaded._fields[1:]}
    return {name: value for name, value in facts.items() if value != usual[name]}


def evaluation_in(table: Iterator[Mapping[str, object]], source: str) -> Loaded:
    """The evaluation that a table holds.

    Args:
        table: its rows.
        source: the file that it is in.

    Raises:
        InvalidRequestError: it holds none.
    """
    layout: Layout | None = None
    rows: list[RowResult] = []
    facts: JsonObject = {}
    for number, row in enumerate(table):
        if layout is None:
            layout = Layout([*row], source)
            told = _details(row).get(OF_ALL)
            facts = told if isinstance(told, dict) else {}
        rows.append(layout.row_result(row, number))
    return with_facts(Loaded(tuple(rows), repeat=_repeat_of(rows)), facts)


def with_facts(loaded: Loaded, facts: JsonObject) -> Loaded:
    """What is told of the whole, too; a fact that is not of its type is left out: somebody has edited it."""
    known: dict[str, object] = {
        name: facts[name] for name, kinds in _FACTS.items() if name in facts and isinstance(facts[name], kinds)
    }
    if isinstance(notes := known.get("notes"), list):
        known["notes"] = tuple(map(str, notes))
    return loaded._replace(**known)  # type: ignore[arg-type]  # of their types


def _repeat_of(rows: Sequence[RowResult]) -> int:
    return 1 + max((row.repetition for row in rows), default=0)


def _details(row: Mapping[str, object]) -> JsonObject:
    text = row.get(DETAILS)
    with suppress(ValueError):  # somebody has edited it
        told = decode(text) if isinstance(text, str) and text else None
        return told if isinstance(told, dict) else {}
    return {}


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
