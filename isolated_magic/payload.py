"""Notebook values as the JSON that a run gets, or the path of what cannot be JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from isolated_magic.conversion import (
    NotJsonError,
    by_label,
    convert,
    has_repeated_keys,
    plain_key,
    with_plain_keys,
)
from isolated_magic.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE_THREAD = "trace_thread"
PIECE_LENGTH = 1 << 18  # items or characters: some tens of milliseconds
_CONTAINERS = (dict, list, tuple)


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
        text = _dumps(top, payload_type)
    except Exception:  # noqa: BLE001 - conversions of other libraries raise what they like
        raise InvalidRequestError(_diagnosis(top)) from None
    if (path := _repeated_key(top)) is not None:
        raise InvalidRequestError(f"{path}: a dict in which two keys become the same text. Rename one of them.")
    return text.encode()


def _dumps(top: object, payload_type: str | None) -> str:
    try:
        if isinstance(top, dict) and all(type(key) is str for key in top) and any(map(_is_large, top.values())):
            items = ", ".join(f"{json.dumps(key)}: {_in_pieces(value)}" for key, value in top.items())
            return f'{{"data": {{{items}}}, "payload_type": {json.dumps(payload_type)}}}'
        return json.dumps({"data": top, "payload_type": payload_type}, default=convert)
    except TypeError:  # most often for a key: json asks nobody how to convert one
        return json.dumps({"data": _rekeyed(top), "payload_type": payload_type}, default=_converted_and_rekeyed)


def _is_large(value: object) -> bool:
    return isinstance(value, (str, list)) and len(value) > PIECE_LENGTH


def _in_pieces(value: object) -> str:
    """The value as JSON, written in pieces: between two of them an interrupt is heard."""
    if not isinstance(value, (str, list)) or not _is_large(value):
        return json.dumps(value, default=convert)
    starts = range(0, len(value), PIECE_LENGTH)
    pieces = [json.dumps(value[i : i + PIECE_LENGTH], default=convert)[1:-1] for i in starts]
    return f'"{"".join(pieces)}"' if isinstance(value, str) else f"[{', '.join(pieces)}]"


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


def _converted_and_rekeyed(value: object) -> object:
    return _rekeyed(convert(value))


def _rekeyed(value: object) -> object:
    """The value with plain keys at every depth."""
    if isinstance(value, dict):
        return {key: _rekeyed(item) for key, item in with_plain_keys(value).items()}
    if isinstance(value, (list, tuple)):
        return [_rekeyed(item) for item in value]
    return value


def _repeated_key(data: object) -> str | None:
    """The path of a dict in which two keys become the same text."""
    waiting: list[tuple[object, str]] = [(data, "data")]
    while waiting:
        value, path = waiting.pop()
        if isinstance(value, dict):
            if any(type(key) is not str for key in value) and has_repeated_keys(value):
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
    return "a dict in which two keys become the same text" if has_repeated_keys(mapping) else None


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
