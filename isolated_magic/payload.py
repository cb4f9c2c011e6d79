"""Notebook values as JSON: numpy, pandas, pydantic, dataclasses, dates and the like, or the path of what can't.

Libraries are recognised by what their objects can do, so none of them is imported.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import numbers
import pathlib
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE_THREAD = "trace_thread"


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
    message = {"data": _top_level(data, payload_type), "payload_type": payload_type}
    try:
        return json.dumps(message, default=_converted).encode()
    except (TypeError, ValueError, OverflowError, RecursionError):
        raise InvalidRequestError(_diagnosis(message["data"])) from None


def _top_level(data: object, payload_type: str | None) -> object:
    if data is None:
        return {}
    value = _as_record(data)
    if isinstance(value, dict):
        return value
    if isinstance(value, (list, tuple)):
        if payload_type == TRACE_THREAD:
            return list(value)
        raise InvalidRequestError(
            f"data is {type(data).__name__}: give a dict, or a list together with payload_type='trace_thread'."
        )
    raise InvalidRequestError(f"data is {type(data).__name__}: give a dict, whose keys are names in the code.")


def _as_record(data: object) -> object:
    """A dict or list where the value stands for one, else the value."""
    if hasattr(data, "_asdict"):  # a row of DataFrame.itertuples()
        return data._asdict()
    if hasattr(data, "to_dict") and hasattr(data, "iloc") and getattr(data, "ndim", 0) == 1:
        return data.to_dict()  # a pandas Series given as the data is a row, whatever its labels
    if isinstance(data, (dict, list, tuple)):
        return data
    try:
        return _converted(data)
    except TypeError:
        return data


class _NotJsonError(TypeError):
    """What json.dumps() is told when a value has no conversion."""


def _converted(value: object) -> object:
    """One step towards JSON, as ``default`` of :func:`json.dumps` has to do it."""
    for convert in (_from_standard_library, _from_number, _from_array, _from_model, _from_collection):
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
    if isinstance(value, (pathlib.PurePath, uuid.UUID)):
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
        return value.to_dict(orient="records")
    if hasattr(value, "to_list") and hasattr(value, "index") and hasattr(value, "to_dict"):
        by_label = len(value.index) and all(isinstance(label, str) for label in value.index)
        return value.to_dict() if by_label else value.to_list()
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind in ("m", "M") and hasattr(value, "astype"):  # nanoseconds would come out as bare integers
        texts = value.astype(str).tolist()
        return json.loads(json.dumps(texts).replace('"NaT"', "null"))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    return value


def _from_model(value: object) -> object:
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return value.model_dump()
    return value


def _from_collection(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    return value


def _is_missing(value: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


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
        except Exception:  # noqa: BLE001 - a conversion of someone else's failed: that is the finding
            yield path, type(value).__name__
        else:
            yield from _unsendable(converted, path)


def _shown(key: object) -> str:
    return json.dumps(key) if isinstance(key, str) else repr(key)
