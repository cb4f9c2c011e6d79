"""Text and JSON that can be shown and saved anywhere."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from isolated_magic.strict_json import JsonObject, JsonValue


WIDTH = 80  # columns of our own messages, where nothing else wraps them

# Never broken, because they are copied: commands, and options with their values.
_UNBROKEN = re.compile(r"(?:\S+ -m |%)?pip install \S+|--?[a-z][a-z-]* \S+|\S+")
LARGEST_INTEGER = (1 << 63) - 1

# Control sequences, and strings up to a string terminator or a bell (ECMA-48, 5.4 and 5.6). Not wcwidth's
# strip_sequences: newer than our minimum, differs in 1 % of random input, and redaction sees through just these.
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x1b\x07]*(?:\x1b\\|\x07)|\x1b[ -/]*[0-~]")

_ADDRESS = re.compile(r"(?<=[\w>]) at 0x[0-9a-fA-F]{6,}(?=>)")  # in a repr, another one each time


def without_addresses(text: str) -> str:
    """The repr of an object without its address, which is another one each time."""
    return _ADDRESS.sub("", text)


def without_ansi(text: str) -> str:
    """The text without terminal escape sequences."""
    return _ANSI.sub("", text) if "\x1b" in text else text


def printable(text: str) -> str:
    """The text with lone surrogates, which UTF-8 cannot hold, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable_json(value: JsonValue) -> JsonValue:
    """The value as any program can read it.

    Strings are :func:`printable`. NaN, infinities and integers over 64 bits become text.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if isinstance(value, int) and not -LARGEST_INTEGER <= value <= LARGEST_INTEGER:
        return str(value)
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(key): printable_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [printable_json(item) for item in value]
    return value


def without_nan(value: JsonObject) -> JsonObject:
    """A copy of the object with None for NaN and infinities, at any depth."""
    copy: JsonObject = dict(value)
    waiting: list[Any] = [copy]  # dicts and lists: each is asked for its own keys or indexes alone
    while waiting:
        container = waiting.pop()
        places = container.items() if isinstance(container, dict) else enumerate(container)
        for place, item in list(places):
            if isinstance(item, float) and not math.isfinite(item):
                container[place] = None
            elif isinstance(item, (dict, list)):
                container[place] = item.copy()
                waiting.append(container[place])
    return copy


def wrapped(text: str) -> str:
    """The text in lines of at most WIDTH columns, unless one piece is longer.

    JupyterLab breaks the text of errors and streams between any two letters.
    """
    return "\n".join(line for long in text.split("\n") for line in _lines_of(long))


def warn(text: str) -> None:
    """Write a warning to stderr, where a cell shows it beside the output of the run."""
    sys.stderr.write(f"{wrapped(f'isolated_magic: {text}')}\n")


def _lines_of(text: str) -> list[str]:
    if len(text) <= WIDTH:
        return [text]
    lines = [""]
    for piece in _UNBROKEN.findall(text):
        if lines[-1] and len(lines[-1]) + 1 + len(piece) > WIDTH:
            lines.append(piece)
        else:
            lines[-1] += f" {piece}" if lines[-1] else piece
    return lines
