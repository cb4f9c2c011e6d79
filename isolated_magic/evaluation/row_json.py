"""RowResult as JSON, and back: all of it but the row itself. Fields with their default values are left out.

NaN and infinities are written as Python's json reads them, so that what is read is equal to what was written.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, TypeVar

from isolated_magic.evaluation.row_result import Attempt, RowResult
from isolated_magic.models import DisplayData, ErrorKind, Found, RunError, Score, Timings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.strict_json import JsonObject, JsonValue

T = TypeVar("T")

_TIMINGS = fields(Timings)
_SCORE_DEFAULTS = {each.name: each.default for each in fields(Score)}
_ERROR_DEFAULTS = {each.name: each.default for each in fields(RunError)}
_SHOWN_DEFAULTS: dict[str, object] = {"stdout_at": 0, "stderr_at": 0, "display_id": None}


class NotARowError(ValueError):
    """JSON that is no row result; the text says why: ``it has no key``."""


def row_to_json(row: RowResult) -> JsonObject:
    """The row result as a JSON object, without the row."""
    told: JsonObject = {"index": row.index, "key": row.key}
    if row.repetition:
        told["repetition"] = row.repetition
    if row.cluster is not None:
        told["cluster"] = row.cluster
    if row.scores:
        told["scores"] = [_differing(score, _SCORE_DEFAULTS) for score in row.scores]
    if row.error is not None:
        told["error"] = _differing(row.error, _ERROR_DEFAULTS)
    if row.notes:
        told["notes"] = list(row.notes)
    if row.stdout:
        told["stdout"] = row.stdout
    if row.stderr:
        told["stderr"] = row.stderr
    if row.payload is not None:
        told["payload"] = row.payload
    if row.displays:
        told["displays"] = [_display_to_json(display) for display in row.displays]
    if row.failed_attempts:
        told["failed_attempts"] = [_attempt_to_json(attempt) for attempt in row.failed_attempts]
    told["timings"] = _timings_to_json(row.timings)
    if row.worker is not None:
        told["worker"] = row.worker
    return told


def row_from_json(told: JsonValue, row: object = None) -> RowResult:
    """The row result that :func:`row_to_json` wrote.

    Args:
        told: the JSON object.
        row: the row that it is the result of.

    Raises:
        NotARowError: it is none; the text says what is wrong with it.
    """
    if not isinstance(told, dict):
        raise NotARowError("it is not a JSON object")
    error = told.get("error")
    payload = _of_type(told, "payload", dict, None)
    return RowResult(
        index=_of_type(told, "index", int, 0),
        key=_of_type(told, "key", str),
        row=row,
        scores=tuple(map(_score, _objects(told, "scores"))),
        error=None if error is None else _error(error),
        notes=tuple(str(note) for note in _of_type(told, "notes", list, [])),
        stdout=_of_type(told, "stdout", str, ""),
        stderr=_of_type(told, "stderr", str, ""),
        payload=payload,
        displays=tuple(map(_display, _objects(told, "displays"))),
        repetition=_of_type(told, "repetition", int, 0),
        cluster=_of_type(told, "cluster", str, None),
        failed_attempts=tuple(map(_attempt, _objects(told, "failed_attempts"))),
        timings=_timings(told.get("timings")),
        worker=_of_type(told, "worker", str, None),
    )


def _differing(value: Score | RunError, defaults: Mapping[str, object]) -> JsonObject:
    """The fields that differ from their defaults."""
    told: JsonObject = {}
    for name, default in defaults.items():
        item = getattr(value, name)
        if item is not default and item != default:
            told[name] = item
    return told


def _display_to_json(display: DisplayData) -> JsonObject:
    told: JsonObject = {"data": dict(display.data)}
    if display.metadata:
        told["metadata"] = dict(display.metadata)
    for name, default in _SHOWN_DEFAULTS.items():
        if (value := getattr(display, name)) != default:
            told[name] = value
    return told


def _attempt_to_json(attempt: Attempt) -> JsonObject:
    error = None if attempt.error is None else _differing(attempt.error, _ERROR_DEFAULTS)
    return {"error": error, "timings": _timings_to_json(attempt.timings)}


def _timings_to_json(timings: Timings) -> list[JsonValue]:
    """Milliseconds; null where unknown."""
    both = timings.creation_ms, timings.execution_ms
    return [None if math.isnan(value) else value for value in both]


def _score(told: JsonObject) -> Score:
    _of_type(told, "name", str)
    if not told.keys() <= _SCORE_DEFAULTS.keys():  # of another version
        told = {key: value for key, value in told.items() if key in _SCORE_DEFAULTS}
    return Score(**{"value": None, **told})  # type: ignore[arg-type]  # as they were written


def _error(told: JsonValue) -> RunError:
    if not isinstance(told, dict):
        raise NotARowError("its error is not a JSON object")
    kind = _of_type(told, "kind", str)
    found_kind = _of_type(told, "found_kind", str, None)
    texts = {name: _of_type(told, name, str, "") for name, default in _ERROR_DEFAULTS.items() if default == ""}
    try:
        return RunError(
            ErrorKind(kind),
            _of_type(told, "text", str),
            _of_type(told, "summary", str),
            found_kind=None if found_kind is None else Found(found_kind),
            **texts,
        )
    except ValueError as problem:  # of another version
        raise NotARowError(f"its error is of no kind that there is: {problem}") from None


def _display(told: JsonObject) -> DisplayData:
    return DisplayData(
        _of_type(told, "data", dict),
        _of_type(told, "metadata", dict, {}),
        _of_type(told, "stdout_at", int, 0),
        _of_type(told, "stderr_at", int, 0),
        _of_type(told, "display_id", str, None),
    )


def _attempt(told: JsonObject) -> Attempt:
    error = told.get("error")
    return Attempt(None if error is None else _error(error), _timings(told.get("timings")))


def _timings(told: JsonValue) -> Timings:
    if told is None:
        return Timings()
    both = told if isinstance(told, list) and len(told) == len(_TIMINGS) else [""]
    if not all(value is None or isinstance(value, (int, float)) for value in both):
        raise NotARowError("its timings are not two numbers")
    return Timings(*(math.nan if value is None else value for value in both))  # type: ignore[arg-type]  # numbers


def _objects(told: JsonObject, name: str) -> list[JsonObject]:
    if name not in told:
        return []
    items = _of_type(told, name, list)
    if not all(isinstance(item, dict) for item in items):
        raise NotARowError(f"an element of its {name} is not a JSON object")
    return items


def _of_type(told: JsonObject, name: str, kind: type[T], default: object = MISSING) -> T:
    """A field of the JSON object, the default where it is missing.

    Raises:
        NotARowError: it is of another type, or missing without a default.
    """
    value = told.get(name, default)
    if value is MISSING:
        raise NotARowError(f"it has no {name}")
    if type(value) is not kind and value is not default:  # JSON has no subclasses, and a bool is no int
        raise NotARowError(f"its {name} is {type(value).__name__}, not {kind.__name__}")
    return value  # type: ignore[return-value]  # the default is the caller's
