"""Text that can be shown and saved anywhere."""

from __future__ import annotations

import math
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from isolated_magic.strict_json import JsonObject, JsonValue


WIDTH = 80  # columns of our own sentences, where nothing else wraps them

# What is copied as a whole: a command, or an option and its value.
_UNBROKEN = re.compile(r"(?:\S+ -m |%)?pip install \S+|--?[a-z][a-z-]* \S+|\S+")
LARGEST_INTEGER = (1 << 63) - 1

# Control sequences, and the strings that end with a string terminator or a bell (ECMA-48, 5.4 and 5.6).
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x1b\x07]*(?:\x1b\\|\x07)|\x1b[ -/]*[0-~]")


def without_ansi(text: str) -> str:
    """The text without what colours it or steers a terminal.

    Args:
        text: any string.
    """
    return _ANSI.sub("", text) if "\x1b" in text else text


def printable(text: str) -> str:
    """The text with what UTF-8 cannot hold (lone surrogates) written as escapes.

    Args:
        text: any string.
    """
    return text.encode("utf-8", "backslashreplace").decode()


def printable_json(value: JsonValue) -> JsonValue:
    """The value as any program can read it: strings :func:`printable`, and what only Python's JSON has as text.

    That is NaN and infinities, and integers that other programs make infinite, and null when they save them.

    Args:
        value: any JSON value.
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
    """A copy of the object with None in the place of NaN and infinities, however deep they are.

    Args:
        value: any JSON object.
    """
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
    """Sentences in lines of at most WIDTH columns, but for what is longer in one piece.

    JupyterLab breaks the text of errors and streams between any two letters.

    Args:
        text: of any number of lines.
    """
    return "\n".join(line for long in text.split("\n") for line in _lines_of(long))


def warn(text: str) -> None:
    """Tell the user something on stderr, where a cell shows it beside what the run prints.

    Args:
        text: sentences.
    """
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
