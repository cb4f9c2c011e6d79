"""Encode notebook values as the JSON that a run receives, or name the path of what cannot be JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from isolated_magic.child.error_report import ARROW
from isolated_magic.errors import InvalidRequestError
from isolated_magic.payload.conversion import (
    NotJsonError,
    convert,
    has_repeated_keys,
    is_row,
    plain_key,
    series_to_dict,
)
from isolated_magic.payload.packing import encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from isolated_magic.models import RunError

TRACE_THREAD = "trace_thread"
TWICE = "a dict in which two keys become the same text"

# Types that arrive in a run as lists: what they arrive as, and the expression that restores them.
_ARRIVALS = {
    ("pandas", "DataFrame"): ("a list of its rows, each a dict", "pd.DataFrame({})"),
    ("pandas", "Series"): ("a list", "pd.Series({})"),
    ("pandas", "Index"): ("a list", "pd.Index({})"),
    ("numpy", "ndarray"): ("a list", "np.array({})"),
    ("polars", "DataFrame"): ("a list of its rows, each a dict", "pl.DataFrame({})"),
    ("polars", "Series"): ("a list", "pl.Series({})"),
    ("pyarrow", "Table"): ("a list of its rows, each a dict", "pa.Table.from_pylist({})"),
    ("torch", "Tensor"): ("a list", "torch.tensor({})"),
}
_ARRIVE_AS_THEY_ARE = frozenset({str, int, float, bool, type(None), dict, list})
_LACKS = re.compile(r"AttributeError: '(list|dict)' object has no attribute '(\w+)'")
_DOES_NOT_FIT = re.compile(
    r"TypeError: (?:list indices must be|can't multiply sequence by|can only concatenate list"
    r"|must be real number, not list"
    r"|(?:bad operand type for|unsupported operand type|.{1,4} not supported between).*'(?:list|dict)')"
)
MOST_TOLD = 3


def encode_payload(data: object, payload_type: str | None = None) -> bytes:
    """``{"data": ..., "payload_type": ...}`` as UTF-8 JSON, large values packed (see ``child/channel.py``).

    ``data`` is a dict or convertible to one (a pandas row, a dataclass, a pydantic model), None for an empty one,
    or a list with ``payload_type="trace_thread"``. NaN and infinities are written as Python reads them.

    Raises:
        InvalidRequestError: something in it cannot be JSON; the message gives its path and type.
    """
    if payload_type is not None and not isinstance(payload_type, str):
        raise InvalidRequestError(f"payload_type is {type(payload_type).__name__}: give a string or None.")
    top = _top_level(data, payload_type)
    try:
        return encode({"data": top, "payload_type": payload_type})
    except Exception:  # noqa: BLE001 - conversions of other libraries raise what they like
        raise InvalidRequestError(_diagnosis(top)) from None


def _top_level(data: object, payload_type: str | None) -> object:
    if data is None:
        return {}
    value = as_record(data)
    if isinstance(value, dict):
        return value
    if isinstance(value, (list, tuple)):
        if payload_type == TRACE_THREAD:
            return list(value)
        raise InvalidRequestError(
            f"data is {type(data).__name__}: give a dict, or a list together with payload_type='trace_thread'."
        )
    raise InvalidRequestError(f"data is {type(data).__name__}: give a dict, whose keys are names in the code.")


def as_record(data: object) -> object:
    """The dict or list that a pandas row, a dataclass or a model stands for; other values unchanged."""
    try:
        if hasattr(data, "_asdict"):  # a row of DataFrame.itertuples()
            return data._asdict()
        if isinstance(data, (dict, list, tuple)):
            return data
        if hasattr(data, "to_dict") and hasattr(data, "iloc") and getattr(data, "ndim", 0) == 1:
            return series_to_dict(data)  # a pandas Series given as the data is a row, whatever its labels
        return convert(data)
    except Exception:  # noqa: BLE001 - whatever a conversion of someone else's raises: then it stands for none
        return data


def _diagnosis(data: object) -> str:
    try:
        path, found = next(_unsendable(data, "data"))
    except (RecursionError, StopIteration):
        return "data is nested too deeply, or holds itself, and cannot be sent as JSON."
    if found == TWICE:
        return f"{path}: {found}. Rename one of them."
    return f"{path}: {found} cannot be sent as JSON. Convert it to text, numbers, lists or dicts first."


def _unsendable(value: object, path: str) -> Iterator[tuple[str, str]]:
    """The path and type of each part that JSON cannot hold."""
    if value is None or isinstance(value, (str, bool, float)):
        return
    if isinstance(value, int):
        if _has_too_many_digits(value):
            yield path, "an integer of so many digits"
    elif isinstance(value, dict):
        if (found := _unsendable_key(value)) is not None:
            yield path, found
        for key, item in value.items():
            yield from _unsendable(item, f"{path}[{_shown(key)}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _unsendable(item, f"{path}[{index}]")
    else:
        try:
            converted = convert(value)
        except Exception as problem:  # noqa: BLE001 - a conversion of someone else's failed: that is the finding
            told = isinstance(problem, NotJsonError) and "repeated" in str(problem)
            yield path, f"{type(value).__name__} with {problem}" if told else type(value).__name__
        else:
            yield from _unsendable(converted, path)


def _unsendable_key(mapping: dict[object, object]) -> str | None:
    """The problem with the keys of a dict, or None."""
    for key in mapping:
        plain = plain_key(key)
        if not (plain is None or isinstance(plain, (str, int, float))):
            return f"a dict with a key of type {type(key).__name__}"
        if _has_too_many_digits(plain):
            return "a dict with a key of so many digits"
    return TWICE if has_repeated_keys(mapping) else None


def _has_too_many_digits(value: object) -> bool:
    try:
        return isinstance(value, int) and not int.__repr__(value)
    except ValueError:  # beyond sys.get_int_max_str_digits()
        return True


def _shown(key: object) -> str:
    plain = plain_key(key)
    if isinstance(plain, str):
        return json.dumps(plain)
    return repr(plain) if plain is None or isinstance(plain, (int, float)) else f"<{type(key).__name__}>"


class Arrival(NamedTuple):
    """A part of the data whose type changes on its way into the run."""

    name: str  # the expression for it in the code, such as data["df"]
    key: str  # in the data, empty for all of it
    was: type
    form: str  # its type in the run: "list" or "dict"
    told: str  # the same in words
    remedy: str  # the expression that restores it


def arrivals_in(data: object) -> tuple[Arrival, ...]:
    """The frames, columns and arrays at the top level of the data."""
    arrivals: list[Arrival] = []
    for key, value in data.items() if isinstance(data, dict) else ((None, data),):
        if type(value) not in _ARRIVE_AS_THEY_ARE and (key is None or isinstance(key, str)):
            arrival = _arrival(key, value)
            if arrival is not None:
                arrivals.append(arrival)
    return tuple(arrivals)


def _arrival(key: str | None, value: Any) -> Arrival | None:  # noqa: ANN401 - of a library that is not imported here
    for base in type(value).__mro__:
        told, remedy = _ARRIVALS.get((str(base.__module__).partition(".")[0], base.__name__), ("", ""))
        if not told:
            continue
        name = "data" if key is None else f"data[{json.dumps(key, ensure_ascii=False)}]"
        if base.__name__ == "Series" and hasattr(value, "index") and is_row(value):
            return Arrival(name, key or "", base, "dict", "a dict", remedy.format(name))
        return Arrival(name, key or "", base, "list", told, remedy.format(name))
    return None


def hint_about(error: RunError, arrivals: Sequence[Arrival]) -> str:
    """A hint for code that failed because a frame or array arrived as a list or dict; else empty."""
    lacks = _LACKS.match(error.summary)
    if not arrivals or not (lacks or _DOES_NOT_FIT.match(error.summary)):
        return ""
    marked = next((line for line in error.excerpt.split("\n") if line.startswith(ARROW)), "")
    here, near = _named_in(marked, arrivals), _named_in(error.excerpt, arrivals)
    if "data[" in marked and not here:  # another part of the data
        return ""
    if lacks is None:
        meant = here or near or (() if error.excerpt else arrivals)
        meant = [one for one in meant if re.search(rf"\b{one.form}\b|sequence", error.summary)]
    else:
        form, attribute = lacks.groups()
        meant = [one for one in here or near or arrivals if one.form == form]
        meant = [one for one in meant if one in here or hasattr(one.was, attribute)]
    return " ".join(
        f"{one.name} was a {one.was.__name__} and arrived as {one.told}: make one of it with {one.remedy}."
        for one in meant[:MOST_TOLD]
    )


def _named_in(text: str, arrivals: Sequence[Arrival]) -> list[Arrival]:
    return [one for one in arrivals if re.search(rf"(?<!\w){re.escape(one.key or 'data')}(?!\w)", text)]
