"""The data of a run, made of the values that the words of ``--data`` stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from isolated_magic.errors import OptionError
from isolated_magic.magic import lexer
from isolated_magic.magic.datasets import are_rows
from isolated_magic.payload.encode import TRACE_THREAD, as_record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolated_magic.magic.options import Options


def merged_data(options: Options, parts: Sequence[object]) -> object:
    """The data of which each word of ``--data`` is a part.

    Raises:
        OptionError: they cannot be merged.
    """
    if len(parts) == 1:
        if not isinstance(parts[0], dict):
            _check_alone(options.data[0], parts[0], options)
        return parts[0]
    merged: dict[object, object] = {}
    for word, part in zip(options.data, parts, strict=True):
        record = as_record(part)
        if not isinstance(record, Mapping):
            shown = lexer.plain(word).partition("=")[0]
            if word.endswith(".json"):
                raise OptionError(_about_file(shown, part))
            raise OptionError(
                f"--data {shown}: {type(part).__name__} cannot be merged with the other --data; "
                "only dicts can. Give it a key: --data KEY=$variable."
            )
        merged.update(record)
    return merged


def _check_alone(word: str, value: object, options: Options) -> None:
    """Refuse data that is one value and no dict, unless the payload type takes a list."""
    record = None if value is None else as_record(value)
    if record is None or isinstance(record, dict):
        return
    is_list = isinstance(record, (list, tuple)) and not isinstance(value, str)
    if is_list and options.payload_type == TRACE_THREAD:
        return
    name = lexer.plain(word).removeprefix("$")
    has_name = name.isidentifier()
    key = "rows" if is_list else "value"
    if word.endswith(".json"):
        listed = f" For a list that the code takes whole, add --payload-type {TRACE_THREAD}." if is_list else ""
        raise OptionError(_about_file(name, value) + listed)
    told = f"--data {name}: {name}" if has_name else "--data: the value"
    listed = f"; or, for a list that the code takes whole, add --payload-type {TRACE_THREAD}" if is_list else ""
    if are_rows(value) and options.each is None:
        rows = word if has_name else "{...}"
        listed = f"; or write --each {rows} in its place, to run the code once for each of its rows{listed}"
    raise OptionError(
        f"{told} is {type(value).__name__}, and data is a dict. Give it a key, such as "
        f"-d {key}={f'${name}' if has_name else '{...}'}{listed}."
    )


def _about_file(path: str, value: object) -> str:
    """What to do with a JSON file whose value is no object."""
    kind, is_list = type(value).__name__, isinstance(value, list)
    key = "rows" if is_list else "value"
    several = f" Or one of its rows: --data {{{key}[0]}}." if is_list else ""
    return (
        f"--data {path}: the file holds a {kind}, and data is a dict. Read it in the notebook, "
        f'{key} = json.load(open("{path}")), and hand it over under a key: -d {key}=${key}.{several}'
    )
