"""Notebook values as JSON: numpy, pandas, pydantic, dataclasses, dates and the like, or the path of what can't.

Libraries are recognised by what their objects can do, so none of them is imported.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import numbers
import pathlib
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from isolated_magic.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE_THREAD = "trace_thread"
_CONTAINERS = (dict, list, tuple)

_WRITTEN_OUT = (
    pathlib.PurePath,
    uuid.UUID,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)


def encode_payload(data: object, payload_type: str | None = None) -> bytes:
    """``{"data": ..., "payload_type": ...}`` as UTF-8 JSON. NaN and infinities are written as Python reads them.

    Args:
        data: a dict, or something that stands for one (a pandas row, a dataclass, a pydantic model); None
            for none. A list as well when ``payload_type`` is ``"trace_thread"``.
        payload_type: what the data is.

    Raises:
        InvalidRequestError: something in it cannot be JSON; the message gives its path and type.
    """
    if payload_type is not None and not isinstance(payload_type, str):
        raise InvalidRequestError(f"payload_type is {type(payload_type).__name__}: give a string or None.")
    top = _top_level(data, payload_type)
    try:
        text = json.dumps({"data": top, "payload_type": payload_type}, default=_converted)
    except Exception:  # noqa: BLE001 - conversions of other libraries raise what they like
        raise InvalidRequestError(_diagnosis(top)) from None
    if (path := _repeated_key(top)) is not None:
        raise InvalidRequestError(f"{path}: two keys of this dict are the same key in JSON. Rename one of them.")
    return text.encode()


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
    """A dict or list where the value stands for one (a pandas row, a dataclass, a model), else the value.

    Args:
        data: anything.
    """
    try:
        if hasattr(data, "_asdict"):  # a row of DataFrame.itertuples()
            return data._asdict()
        if isinstance(data, (dict, list, tuple)):
            return data
        if hasattr(data, "to_dict") and hasattr(data, "iloc") and getattr(data, "ndim", 0) == 1:
            return _by_label(data)  # a pandas Series given as the data is a row, whatever its labels
        return _converted(data)
    except Exception:  # noqa: BLE001 - whatever a conversion of someone else's raises: then it stands for none
        return data


class _NotJsonError(TypeError):
    """What json.dumps() is told when a value has no conversion."""


def _by_label(series: Any) -> object:  # noqa: ANN401 - pandas is not imported here
    if not series.index.is_unique:
        raise _NotJsonError("repeated labels")
    return series.to_dict()


def _converted(value: object) -> object:
    """One step towards JSON, as ``default`` of :func:`json.dumps` has to do it."""
    for convert in (_from_standard_library, _from_array, _from_number, _from_model, _from_collection):
        converted = convert(value)
        if converted is not value:
            return converted
    raise _NotJsonError(type(value).__name__)


def _from_standard_library(value: object) -> object:
    if _is_missing(value):
        return None
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, _WRITTEN_OUT):
        return str(value)
    return value


def _from_number(value: object) -> object:
    # A Decimal becomes a number, not text: arithmetic on it in the code has to stay arithmetic.
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return value


def _from_array(value: object) -> object:
    """Arrays of numpy and what follows its protocol, and pandas frames, columns and rows."""
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        if not getattr(value.columns, "is_unique", True):
            raise _NotJsonError("repeated columns")
        return value.to_dict(orient="records")
    if hasattr(value, "to_list") and hasattr(value, "index") and hasattr(value, "to_dict"):
        by_label = len(value.index) and all(isinstance(label, str) for label in value.index)
        return _by_label(value) if by_label else value.to_list()
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind == "m" and hasattr(value, "astype"):  # seconds, as of every other duration
        return _missing_as_none(value, value.astype("timedelta64[ns]").astype("int64") / 1e9)
    if kind == "M" and hasattr(value, "astype"):  # tolist() would give nanoseconds as bare integers
        return _missing_as_none(value, value.astype(str))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _missing_as_none(value: object, converted: object) -> object:
    numpy: Any = sys.modules["numpy"]
    return numpy.where(numpy.isnat(numpy.asarray(value)), None, converted).tolist()


def _from_model(value: object) -> object:
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return _dumped(value)
    return value


def _dumped(model: Any) -> object:  # noqa: ANN401 - pydantic is not imported here
    """A pydantic model as a dict; what we cannot convert in it, such as sets and URLs, as pydantic does."""
    fields = model.model_dump()
    for name, value in fields.items():
        try:
            json.dumps(value, default=_converted)
        except TypeError:
            as_json = model.model_dump(mode="json", include={name})[name]
            if not _is_masked(as_json):
                fields[name] = as_json
    return fields


def _is_masked(value: object) -> bool:
    """Whether pydantic put asterisks in place of a secret: to send those would be silently wrong."""
    return "**********" in json.dumps(value)


def _from_collection(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    return value


def _is_missing(value: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


def _repeated_key(data: object) -> str | None:
    """The path of a dict in which two keys become the same text, such as 1 and "1"."""
    waiting: list[tuple[object, str]] = [(data, "data")]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, dict):
            odd = [key for key in value if type(key) is not str]
            if odd and len({json.dumps({key: 0}) for key in value}) < len(value):
                return path
            waiting += [
                (item, f"{path}[{_shown(key)}]") for key, item in value.items() if type(item) in _CONTAINERS
            ]
        elif isinstance(value, (list, tuple)):
            waiting += [(item, f"{path}[{n}]") for n, item in enumerate(value) if type(item) in _CONTAINERS]
    return None


def _diagnosis(data: object) -> str:
    try:
        path, found = next(_unsendable(data, "data"))
    except (RecursionError, StopIteration):
        return "data is nested too deeply, or holds itself, and cannot be sent as JSON."
    return f"{path}: {found} cannot be sent as JSON. Convert it to text, numbers, lists or dicts first."


def _unsendable(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Path and type of each part that JSON cannot hold."""
    if value is None or isinstance(value, (str, bool, float)):
        return
    if isinstance(value, int):
        try:
            str(value)
        except ValueError:  # beyond sys.get_int_max_str_digits()
            yield path, "an integer of so many digits"
    elif isinstance(value, dict):
        for key, item in value.items():
            if key is not None and not isinstance(key, (str, int, float)):
                yield path, f"a dict with a key of type {type(key).__name__}"
            yield from _unsendable(item, f"{path}[{_shown(key)}]")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _unsendable(item, f"{path}[{index}]")
    else:
        try:
            converted = _converted(value)
        except Exception as problem:  # noqa: BLE001 - a conversion of someone else's failed: that is the finding
            told = isinstance(problem, _NotJsonError) and "repeated" in str(problem)
            yield path, f"{type(value).__name__} with {problem}" if told else type(value).__name__
        else:
            yield from _unsendable(converted, path)


def _shown(key: object) -> str:
    return json.dumps(key) if isinstance(key, str) else repr(key)
