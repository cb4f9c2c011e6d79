"""Notebook values as the JSON that a run gets, or the path of what cannot be JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from isolated_magic.conversion import NotJsonError, by_label, convert, has_repeated_keys, plain_key
from isolated_magic.errors import InvalidRequestError
from isolated_magic.packing import encode

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE_THREAD = "trace_thread"
TWICE = "a dict in which two keys become the same text"


def encode_payload(data: object, payload_type: str | None = None) -> bytes:
    """``{"data": ..., "payload_type": ...}`` as UTF-8 JSON, packed where it holds much (see ``child/packed.py``).

    NaN and infinities are written as Python reads them.

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
            return by_label(data)  # a pandas Series given as the data is a row, whatever its labels
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
    """Path and type of each part that JSON cannot hold."""
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
    """What is wrong with the keys of a dict, if anything."""
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
