"""What the values of options are: how each is written, and what it becomes."""

from __future__ import annotations

import keyword
import math
import re
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError
from isolated_magic.executors.evaluation_options import EvaluationSettings
from isolated_magic.executors.factory import HOMES
from isolated_magic.limits import MIB, parse_size
from isolated_magic.magic import lexer

if TYPE_CHECKING:
    from collections.abc import Callable

NO_LIMIT = "none"
ROW = "row"  # what a row is called where --as does not say
ROW_FILES = (".jsonl", ".csv", ".parquet")  # that hold rows
EXECUTORS = tuple(name for name in HOMES if name != "distributed")  # that --executor and its setting take
_MOUNT = re.compile(r"(.+):(/[^:]*(?::r[ow])?)")
_EXECUTORS = ", ".join(map(repr, EXECUTORS))
LEAST_MEMORY_BYTES = 16 * MIB  # an interpreter needs about ten


@dataclass(frozen=True)
class Kind:
    """What the value of an option is.

    Args:
        metavar: stands for it in the help; empty for a switch, which has no value.
        convert: text to value. Raises ValueError, or InvalidRequestError with a sentence of its own.
        wants: what the text on the line has to be, as in "give a number".
        types: of the setting, before it is converted.
        setting_wants: what the setting has to be.
        no_limit: what the words for no limit mean as a setting; ``...`` where they mean nothing.
    """

    metavar: str
    convert: Callable[[str], object] = lexer.plain
    wants: str = ""
    types: tuple[type, ...] = (str,)
    setting_wants: str = ""
    no_limit: object = ...


def _size(text: str) -> int | None:
    return None if text == NO_LIMIT else parse_size(text)


def _memory(text: str) -> int | None:
    size = _size(text)
    if size is None or size >= LEAST_MEMORY_BYTES:
        return size
    meant = f"did you mean {text}M?" if text.isdecimal() and size >= 16 else "give at least 16M."
    raise InvalidRequestError(f"no interpreter starts with so little memory; {meant}")


def _seconds(text: str) -> float:
    if not (seconds := float(text)) > 0:  # not less: NaN, too
        raise ValueError
    return seconds


def _cpu_seconds(text: str) -> float | None:
    return None if text == NO_LIMIT or (seconds := _seconds(text)) == math.inf else seconds


def _count(text: str) -> int | None:
    if text == NO_LIMIT:
        return None
    if not (text.isdecimal() and text.isascii() and int(text) > 0):
        raise ValueError
    return int(text)


def _number(text: str) -> int:
    if text == NO_LIMIT or (number := _count(text)) is None:
        raise ValueError
    return number


def _failures(text: str) -> float:
    if text.isdecimal() and text.isascii():
        return int(text)
    if not 0 < (share := float(text)) < 1:
        raise ValueError
    return share


def _rate(text: str) -> str:
    EvaluationSettings(rate=text)  # which refuses what is none
    return text


def _exception(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise ValueError
    return text


def _checkpoint_mode(text: str) -> str:
    if text not in CHECKPOINT_MODES:
        raise ValueError
    return text


def _variable(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise ValueError
    return text


def _earlier(text: str) -> str:
    return text if text.endswith(ROW_FILES) else _variable(text)


def _executor(text: str) -> str:
    if text == "distributed":
        raise InvalidRequestError("--on says where rows run on other machines, such as --each rows --on client.")
    if text not in EXECUTORS:
        raise ValueError
    return text


def _volume(text: str) -> tuple[str, str]:
    """What stands for a path of this machine, which is looked up later, and the path in the container."""
    found = _MOUNT.fullmatch(text)
    if found is None:
        raise ValueError
    return found[1], lexer.plain(found[2])


def _command(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(lexer.plain(text)))
    except ValueError as problem:  # quotes that are not closed
        raise InvalidRequestError(f"it is no command: {str(problem).lower()}.") from None
    if not words or not words[0]:
        raise ValueError
    return words


SWITCH = Kind("", types=(bool,), setting_wants="True or False")
TEXT, PATH, REFERENCE = Kind("TYPE"), Kind("PATH"), Kind("NAME")
# What is in single quotes is told apart later.
ROWS, FIELD, FILE, CLUSTER = Kind("ROWS", str), Kind("EXPR", str), Kind("PATH", str), Kind("CLUSTER", str)
FAILURES = Kind("N", _failures, "a number of rows, or a share of them between 0 and 1")
RATE = Kind("RATE", _rate)
RETRY_ON = Kind("NAME", _exception, "the name of an exception, or timeout")
CHECKPOINT_MODES = ("resume", "restart")
CHECKPOINT_MODE = Kind("MODE", _checkpoint_mode, " or ".join(CHECKPOINT_MODES))
VARIABLE = Kind("NAME", _variable, "the name of a variable")
_EARLIER = "the name of a variable, or of a file that an evaluation was saved to"
EARLIER = Kind("NAME", _earlier, _EARLIER, (bool,), "True or False")
REQUIREMENT = Kind("REQUIREMENT", types=(list,), setting_wants="a list of requirements, such as ['rapidfuzz>=3']")
PYTHON = Kind("PYTHON", setting_wants="a version such as '3.13', a path, or None for the kernel's own")
IMAGE = Kind("NAME", setting_wants="the name of an image, or None for the default")
NETWORK = Kind("NAME", setting_wants="the name of a network, or None for no network")
_VOLUMES = "paths here and in the container, such as ./data:/data, or ./data:/data:rw to write there"
VOLUME = Kind("HOST:THERE", _volume, _VOLUMES, (list,), f"a list of {_VOLUMES}")
_COMMAND = "a program of the image with its arguments, such as"
COMMAND = Kind(
    "COMMAND", _command, f'{_COMMAND} "node -"', setting_wants=f"{_COMMAND} 'node -', or None for Python"
)
CPUS = Kind("N", _seconds, "a number of processors, such as 0.5", (float,), "a number of processors, such as 0.5")
EXECUTOR = Kind("NAME", _executor, f"one of {', '.join(EXECUTORS)}", setting_wants=f"one of {_EXECUTORS}")
_OF_SIZES = ("a size, such as 512M or 2G", (int, str), "a size, such as '512M', or a number of bytes", None)
SIZE, MEMORY = Kind("SIZE", _size, *_OF_SIZES), Kind("SIZE", _memory, *_OF_SIZES)
_OF_TIMES = ("a number of seconds greater than zero", (float,))
TIME_WANTS = "a number of seconds greater than zero, or 'inf' for no limit"
TIMEOUT = Kind("SECONDS", _seconds, *_OF_TIMES, TIME_WANTS, math.inf)
CPU = Kind("SECONDS", _cpu_seconds, *_OF_TIMES, TIME_WANTS, None)
_WHOLE = "a whole number greater than zero"
NUMBER = Kind("N", _number, _WHOLE)
WORKERS = Kind("N", _number, _WHOLE, (int,), f"{_WHOLE}, or None for one for each processor")
COUNT = Kind("N", _count, _WHOLE, (int,), f"{_WHOLE}, or 'none' for no limit", None)
SIZES = ("256M", "512M", "1G", "2G", "4G", NO_LIMIT)
