"""From the words of ``--env`` and ``--data`` to values: notebook variables, expressions, literals and files.

Each value is looked up by itself, never by substitution into text: a value arrives exactly as it is, whatever
spaces, quotes, dollar signs or braces it holds. No message of this module holds a value.
"""

from __future__ import annotations

import difflib
import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.errors import OptionError
from isolated_magic.magic import tokens
from isolated_magic.payload import TRACE_THREAD, as_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from isolated_magic.environment import EnvValue
    from isolated_magic.magic.options import Options

VARIABLE = re.compile(r"\$([^\W\d]\w*)")
_REFERENCE_INSIDE = re.compile(r"(?<!\0)(\$[^\W\d]|\{.*\})", re.DOTALL)
_KEY = re.compile(r"([^={\[$\0][^={]*)=")
_WORDS = {"None": None, "True": True, "False": False}


class Namespace:
    """What the words of the magic's line can refer to.

    Args:
        names: the notebook's variables.
    """

    def __init__(self, names: dict[str, object]) -> None:
        self._names = names

    def environment(self, options: Options, ask: Callable[[str], str]) -> dict[str, EnvValue]:
        """The variables that the options set; --secret goes over --env, --env over --env-file, later over earlier.

        Args:
            options: of the line.
            ask: called with the name of a secret that is nowhere; asks the user for its value.

        Raises:
            OptionError: a name, an expression or a file that leads nowhere.
        """
        found: dict[str, EnvValue] = {}
        for path in options.env_files:
            found.update(_read_env_file(path))
        for word in options.env:
            name, equals, value = word.partition("=")
            name = tokens.plain(name)
            if equals:
                found[name] = self._value(  # type: ignore[assignment]  # checked where the environment is made
                    value, f"--env {name}", literal=tokens.plain
                )
            else:
                found.update(self._bare_env(name))
        for word in options.secrets:
            name, equals, value = word.partition("=")
            name = tokens.plain(name)
            found[name] = self._secret(name, value if equals else None, ask)
        return found

    def data(self, options: Options) -> object:
        """The data that the options describe: one value as it is, several ones merged.

        Args:
            options: of the line.

        Raises:
            OptionError: a name, an expression or a file that leads nowhere, or parts that cannot be merged.
        """
        parts = [(word, self._data_part(word)) for word in options.data]
        if not parts:
            return {}
        if len(parts) == 1:
            _check_alone(*parts[0], payload_type=options.payload_type)
            return parts[0][1]
        merged: dict[object, object] = {}
        for word, part in parts:
            record = as_record(part)
            if not isinstance(record, Mapping):
                shown = tokens.plain(word).partition("=")[0]
                raise OptionError(
                    f"--data {shown}: {type(part).__name__} cannot be merged with the other --data; "
                    "only dicts can. Give it a key: --data KEY=$variable."
                )
            merged.update(record)
        return merged

    def _bare_env(self, name: str) -> Mapping[str, EnvValue]:
        if name in self._names:
            value = self._names[name]
            if isinstance(value, Mapping):
                return value
            return {name: value}  # type: ignore[dict-item]  # checked where the environment is made
        if name in os.environ:
            return {name: os.environ[name]}
        near = self._near(name, os.environ)
        raise OptionError(f"--env {name}: neither the notebook nor the kernel has a variable of that name.{near}")

    def _secret(self, name: str, value: str | None, ask: Callable[[str], str]) -> EnvValue:
        option = f"--secret {name}"
        if value is not None:
            found = self._value(value, option, literal=tokens.plain)
        elif name in self._names:
            found = self._names[name]
        else:
            found = os.environ[name] if name in os.environ else ask(name)
        if not isinstance(found, (str, int, float)) or isinstance(found, bool):
            raise OptionError(f"{option}: its value is {type(found).__name__}: give a string.")
        return found

    def _data_part(self, word: str) -> object:
        if match := _KEY.match(word):
            key = tokens.plain(match[1])
            return {key: self._value(word[match.end() :], f"--data {key}", literal=_data_literal)}
        text = tokens.plain(word)
        if text.startswith("["):
            return _json_literal(text)
        if text.startswith("{"):
            return _json_literal(text) if word.startswith(tokens.PROTECTED) else self._braces(text, "--data")
        if word.startswith("$"):
            return self._value(word, f"--data {text}", literal=tokens.plain)
        if text in self._names:
            return self._names[text]
        if text.endswith(".json"):
            return _read_json_file(text)
        near = self._near(text, ())
        raise OptionError(f"--data {text}: the notebook has no variable of that name.{near}")

    def _braces(self, text: str, option: str) -> object:
        """``{...}``: JSON, or an expression in braces, or the dict display that it looks like."""
        with suppress(ValueError, RecursionError):
            return json.loads(text)
        inner = text[1:-1].strip()
        return self._evaluate(inner if _is_expression(inner) or not _is_expression(text) else text, option)

    def _value(self, text: str, option: str, *, literal: Callable[[str], object]) -> object:
        if match := VARIABLE.fullmatch(text):
            if match[1] not in self._names:
                near = self._near(match[1], ())
                raise OptionError(
                    f"{option}: the notebook has no variable {match[1]}.{near} "
                    "In single quotes, $ stands for itself."
                )
            return self._names[match[1]]
        if text.startswith("{") and text.endswith("}"):
            return self._braces(text, option)
        if _REFERENCE_INSIDE.search(text):
            raise OptionError(
                f"{option}: a $variable or {{expression}} has to be the whole value, and something stands around "
                "it. Write the whole as an expression, such as {row['answer']} or {'https://' + host}. "
                "In single quotes, $ and braces stand for themselves."
            )
        return literal(text)

    def _evaluate(self, expression: str, option: str) -> object:
        try:
            return eval(expression, self._names)  # noqa: S307 - the user's own expression, in the user's own notebook
        except SyntaxError as problem:
            raise OptionError(
                f"{option}: what stands in braces is no Python expression ({problem.msg}). "
                "In single quotes, braces stand for themselves."
            ) from None
        except Exception as problem:  # noqa: BLE001 - whatever the expression raises
            # The text of most exceptions repeats the value that they are about; the names in these do not.
            told = f": {problem}" if isinstance(problem, (NameError, AttributeError, LookupError)) else ""
            raise OptionError(
                f"{option}: the expression in braces raised {type(problem).__name__}{told}."
            ) from None

    def _near(self, name: str, more: Iterable[str]) -> str:
        own = (known for known in self._names if not known.startswith("_"))
        near = difflib.get_close_matches(name, [*own, *more], n=3)
        return f" Did you mean {' or '.join(near)}?" if near else ""


def _check_alone(word: str, value: object, *, payload_type: str | None) -> None:
    """A value that is all of the data has to stand for a dict, or for a list where the payload type says so."""
    record = None if value is None else as_record(value)
    if record is None or isinstance(record, dict):
        return
    is_list = isinstance(record, (list, tuple)) and not isinstance(value, str)
    if is_list and payload_type == TRACE_THREAD:
        return
    name = tokens.plain(word).removeprefix("$")
    has_name = name.isidentifier()
    key = "rows" if is_list else "value"
    told = f"--data {name}: {name}" if has_name else "--data: what it leads to"
    listed = f"; or, for a list that the code takes whole, add --payload-type {TRACE_THREAD}" if is_list else ""
    raise OptionError(
        f"{told} is {type(value).__name__}, and data is a dict. Give it a key, such as "
        f"-d {key}={f'${name}' if has_name else '{...}'}{listed}."
    )


def _is_expression(text: str) -> bool:
    try:
        compile(text, "<magic>", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _data_literal(text: str) -> object:
    """A literal of ``--data KEY=literal``: JSON where it is JSON, Python's three words, else text."""
    text = tokens.plain(text)
    if text in _WORDS:
        return _WORDS[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json_literal(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise OptionError(f"--data: the literal that begins with {text[0]} is no JSON: {problem}.") from None


def _read_json_file(path: str) -> object:
    text = _read_text(path, f"--data {path}")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise OptionError(f"--data {path}: the file holds no JSON: {problem}.") from None


def _read_text(path: str, option: str) -> str:
    try:
        return expanded(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise OptionError(f"{option}: file not found.") from None
    except (OSError, ValueError) as problem:  # ValueError: not UTF-8, or a NUL in the name
        reason = getattr(problem, "strerror", None) or problem
        raise OptionError(f"{option}: the file cannot be read: {reason}.") from None


def expanded(path: str) -> Path:
    """The path with ``~`` put in its place, where it stands for somebody's home.

    Args:
        path: as it was given.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def _read_env_file(path: str) -> dict[str, EnvValue]:
    from dotenv import dotenv_values  # noqa: PLC0415 - only --env-file needs it
    from dotenv.parser import parse_stream  # noqa: PLC0415 - likewise

    text = _read_text(path, f"--env-file {path}")
    bad = [binding.original.line for binding in parse_stream(io.StringIO(text)) if binding.error]
    if bad:
        raise OptionError(f"--env-file {path}: line {bad[0]} is not of the form NAME=value.")
    values = dotenv_values(stream=io.StringIO(text))
    # A bare NAME means the kernel's own variable, as docker and podman read it.
    return {name: os.environ.get(name) if value is None else value for name, value in values.items()}
