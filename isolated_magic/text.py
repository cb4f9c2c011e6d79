"""Text that can be shown and saved anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isolated_magic.models import JsonValue


def printable(text: str) -> str:
    """The text with what UTF-8 cannot hold (lone surrogates) written as escapes.

    Args:
        text: any string.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def printable_json(value: JsonValue) -> JsonValue:
    """The value with every string in it made :func:`printable`.

    Args:
        value: any JSON value.
    """
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): printable_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable_json(item) for item in value]
    return value
