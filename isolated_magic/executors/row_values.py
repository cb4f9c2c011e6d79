"""What depends on a row: values of options that are functions of it, its key, and the row without secrets."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from isolated_magic.child.error_report import text_of
from isolated_magic.errors import InvalidRequestError
from isolated_magic.payload.conversion import convert
from isolated_magic.payload.encode import as_record, encode_payload
from isolated_magic.payload.packing import encode
from isolated_magic.redaction.redactor import secret_values

if TYPE_CHECKING:
    from isolated_magic.redaction.redactor import Redactor

KEY_DIGITS = 16  # of a hash that stands for the content of a row
LONGEST_NAME = 200  # characters of a key or a cluster
MOST_FIELDS = 10  # named in a message
NO_ROW = "give rows that are dicts, or data=, a function of the row that gives a dict"


def of_row(option: str, value: object, row: object) -> object:
    """The value of an option for a row.

    Raises:
        InvalidRequestError: it is a function of the row, and raised something.
    """
    if not callable(value):
        return value
    try:
        return value(row)
    except InvalidRequestError:  # which says it all
        raise
    except Exception as problem:  # noqa: BLE001 - of the user's function
        raise InvalidRequestError(f"{option}: the function of the row raised {exception_text(problem)}") from None


def exception_text(problem: BaseException) -> str:
    """The class of an exception and what it says, as the last line of a traceback."""
    return f"{type(problem).__name__}: {text_of(problem)}".rstrip(": ")


def field_or_function(option: str, value: object, row: object) -> object:
    """The value of an option that is a function of the row, or the name of one of its fields.

    Raises:
        InvalidRequestError: there is no such field, or the function raised something.
    """
    if not isinstance(value, str):
        return of_row(option, value, row)
    record = as_record(row)
    if not isinstance(record, dict):
        raise InvalidRequestError(f"{option} is {value!r}, and the row has no fields: it is {type(row).__name__}.")
    if value not in record:
        names = [repr(name) for name in record if isinstance(name, str)]
        told = ", ".join(names[:MOST_FIELDS]) + ", ..." * (len(names) > MOST_FIELDS)
        raise InvalidRequestError(f"{option}: the row has no {value!r}; it has {told or 'no fields'}.")
    return record[value]


def name_of(option: str, value: object) -> str:
    """The text of a key or a cluster: the same one for the same value in every program.

    Raises:
        InvalidRequestError: the value cannot name anything.
    """
    kind = type(value)
    if value is None or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        raise InvalidRequestError(f"{option}: the function of the row gave {value}: give each row a {option}.")
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        raise InvalidRequestError(
            f"{option}: the function of the row gave {kind.__name__}, whose text differs in every program: "
            "give text or a number."
        )
    text = text_of(value)
    if not text.strip():
        raise InvalidRequestError(f"{option}: the function of the row gave no text: give each row a {option}.")
    if len(text) > LONGEST_NAME:
        return f"{text[: LONGEST_NAME - KEY_DIGITS - 1]}-{_digest(text.encode('utf-8', 'surrogatepass'))}"
    return text


def group_of(value: object) -> object:
    """The value, by which rows are grouped.

    Raises:
        InvalidRequestError: it cannot be told apart from other values.
    """
    try:
        hash(value)
        is_itself = bool(value == value)  # noqa: PLR0124 - NaN is not
    except Exception:  # noqa: BLE001 - a class of the user's may raise what it likes
        raise InvalidRequestError(
            f"per: the function of the row gave {type(value).__name__}, by which rows cannot be grouped: "
            "give text or a number."
        ) from None
    return value if is_itself else None  # as of rows without a value


def secrets_among(variables: object, names: object) -> tuple[str, ...]:
    """The secrets in what options give for a row, as far as they are what they should be."""
    try:
        given = dict(variables) if isinstance(variables, Mapping) else {}
        texts = {os.fsencode(name): os.fsencode(value) for name, value in given.items() if isinstance(value, str)}
        return secret_values(texts, names) if isinstance(names, (list, tuple, set, frozenset)) else ()
    except Exception:  # noqa: BLE001 - the request will say what is wrong
        return ()


def identity_of(variables: object, names: object) -> object:
    """A value that is the same for the same variables and names of secrets; None where that cannot be told.

    1, 1.0 and True are not the same here, and neither are a name and a secret.
    """
    if not (isinstance(variables, Mapping) and isinstance(names, (list, tuple))):
        return None
    try:
        items = tuple((name, type(value), value) for name, value in variables.items())
        identity = items, tuple((type(name), name) for name in names)
        hash(identity)
    except Exception:  # noqa: BLE001 - of the user's own types: the request will say what is wrong
        return None
    return identity


def payload_of(data: object, payload_type: str | None, *, is_row: bool) -> bytes:
    """The payload of a run, where ``is_row`` tells whether the data is the row itself.

    Raises:
        InvalidRequestError: it cannot be sent to a run.
    """
    if is_row and (
        data is None
        or isinstance(data, (str, bytes, bytearray))
        or not isinstance(as_record(data), (dict, list, tuple))
    ):
        raise InvalidRequestError(f"The row is {type(data).__name__}: {NO_ROW}.")
    return encode_payload(data, payload_type)


def content_key(row: object, payload: bytes, *, is_row: bool) -> str:
    """A key made of the content of a row; of its payload where it has none that can be written down."""
    if is_row:
        return _digest(payload)
    try:
        return _digest(encode({"row": as_record(row)}))
    except Exception:  # noqa: BLE001 - conversions of other libraries raise what they like
        return _digest(payload)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:KEY_DIGITS]


def without_secrets(row: object, redactor: Redactor) -> object:
    """The row itself if it holds no secret; else a copy without. What cannot be copied is told by its type."""
    hidden = _without_secrets(row, redactor)
    if hidden is not None:
        return hidden[0]
    if not isinstance(row, dict):
        return _told(row)
    fields: dict[str, object] = {}
    for name, value in row.items():
        copied = _without_secrets(value, redactor)
        fields[redactor.text(str(name))] = _told(value) if copied is None else copied[0]
    return fields


def _without_secrets(value: object, redactor: Redactor) -> tuple[object] | None:
    """The value itself if it holds no secret, else a copy without; None if it cannot be copied."""
    try:
        record = value if isinstance(value, str) else as_record(value)  # which takes text for its characters
        copy = json.loads(json.dumps({"row": record}, default=convert))
        hidden = redactor.object(copy)
    except Exception:  # noqa: BLE001 - conversions of other libraries raise what they like
        return None
    return (value if hidden is copy else hidden["row"],)


def _told(value: object) -> str:
    return f"<{type(value).__name__} that may hold a secret>"
