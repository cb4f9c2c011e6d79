"""Resolves the words of ``--env`` and ``--data`` to values: notebook variables, expressions, literals and files.

Each value is looked up by itself, never by substitution into text: a value arrives exactly as it is, whatever
spaces, quotes, dollar signs or braces it holds. No message of this module holds a value.
"""

from __future__ import annotations

import ast
import builtins
import difflib
import io
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING

from isolated_magic.errors import OptionError
from isolated_magic.magic import lexer
from isolated_magic.magic.data import merged_data
from isolated_magic.magic.kinds import ROW, ROW_FILES
from isolated_magic.redaction.redactor import TOO_SHORT, is_too_short
from isolated_magic.sanitize import warn
from isolated_magic.syntax import expression_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from isolated_magic.environment import EnvValue
    from isolated_magic.magic.options import Options


VARIABLE = re.compile(r"\$([^\W\d]\w*)")
_REFERENCE_INSIDE = re.compile(r"(?<!\0)(\$[^\W\d]|\{.*\})", re.DOTALL)
_KEY = re.compile(r"([^={\[$\0][^={]*)=")
_WORDS = {"None": None, "True": True, "False": False}
_NAME = re.compile(r"([^\W\d]\w*)\Z")
ROOT = re.compile(r"([^\W\d]\w*)[\[(.]")  # what an expression begins with that is more than a name
NO_ROWS = f" A {ROW} is there with --each, such as --each rows."
UNKNOWN = object()  # a value that only the user's own code could tell
MOST_SUGGESTED, CLOSE = 2, 0.8  # by difflib's measure

_KEY_AT_END = re.compile(r"""(?:\[["']|\.)([^\W\d]\w*)(?:["']\])?\Z""")
_PLAIN = re.compile(r"[\w.]+(\[-?\d+\][\w.]*)*")
_CLOSING = {"[": "]", "(": ")"}
_NAMELESS = ("$", "{", f"{lexer.PROTECTED}{{")
_NO_RECORDS = (str, int, float, list, tuple, type(None))


@dataclass(frozen=True)
class Assignment:
    """The environment variables that one word of the line sets; None as a value removes one."""

    word: str = field(repr=False)
    values: Mapping[str, EnvValue] = field(repr=False)
    is_secret: bool = False


@dataclass(frozen=True)
class Expression:
    """An expression of the line, compiled once."""

    source: str = field(repr=False)
    code: CodeType = field(repr=False)

    @classmethod
    def of(cls, source: str, option: str) -> Expression:
        """Compile it.

        Raises:
            OptionError: it is none.
        """
        try:
            return cls(source, compile(source, "<string>", "eval"))
        except SyntaxError as problem:
            raise OptionError(
                f"{option}: the text in braces is no Python expression ({problem.msg}). "
                "In single quotes, braces have no special meaning."
            ) from None
        except (ValueError, RecursionError, MemoryError) as problem:
            raise OptionError(f"{option}: the text in braces raised {type(problem).__name__}.") from None


class Resolver:
    """Looks up what the words of a line refer to.

    Args:
        names: the notebook's variables.
        hidden: those among them that IPython put there, with their values.
    """

    def __init__(self, names: dict[str, object], hidden: Mapping[str, object] | None = None) -> None:
        self._names = names
        self._hidden = hidden or {}
        self._expressions: dict[str, Expression] = {}  # by the text in braces

    def environment(self, options: Options, ask: Callable[[str], str]) -> list[Assignment]:
        """What the options set; later ones go over earlier ones, --secret over --env, --env over --env-file.

        Args:
            options: of the line.
            ask: called with the name of a secret that is nowhere; asks the user for its value.

        Raises:
            OptionError: a name, an expression or a file that leads nowhere.
        """
        words = (("env_file", options.env_file), ("env", options.env), ("secret", options.secret))
        return [self.assignment(option, word, ask) for option, several in words for word in several]

    def assignment(self, option: str, word: str, ask: Callable[[str], str]) -> Assignment:
        """What one word of ``env_file``, ``env`` or ``secret`` sets. As :meth:`environment`."""
        if option == "env_file":
            return Assignment(word, self._read_env_file(self.path(word, "--env-file")))
        if option == "env":
            return Assignment(word, self._env(word))
        return Assignment(word, self._secrets(word, ask), is_secret=True)

    def _read_env_file(self, path: str) -> Mapping[str, EnvValue]:
        return _read_env_file(path)

    def data(self, options: Options) -> object:
        """The data that the options describe: one value as it is, several ones merged.

        Raises:
            OptionError: a name, an expression or a file that leads nowhere, or parts that cannot be merged.
        """
        return merged_data(options, list(map(self.data_part, options.data)))

    def reference(self, word: str, option: str) -> object:
        """The value of a ``$variable`` or an ``{expression}``."""
        return self._value(word, option, literal=lexer.plain)

    def _env(self, word: str) -> Mapping[str, EnvValue]:
        if word.startswith(_NAMELESS):
            return self._items(word, "--env")  # type: ignore[return-value]  # checked where the environment is made
        name, equals, value = word.partition("=")
        name = lexer.plain(name)
        if equals:
            return {name: self._value(value, f"--env {name}", literal=lexer.plain)}  # type: ignore[dict-item]  # likewise
        if name in self._names:
            return _items_or_itself(name, self._names[name])  # type: ignore[return-value]  # likewise
        if name in os.environ:
            return {name: os.environ[name]}
        near = self._near(name, _is_env_value, os.environ)
        raise OptionError(f"--env {name}: neither the notebook nor the kernel has a variable of that name.{near}")

    def _secrets(self, word: str, ask: Callable[[str], str]) -> Mapping[str, EnvValue]:
        if word.startswith(_NAMELESS):
            return {name: checked_secret(name, value) for name, value in self._items(word, "--secret").items()}
        name, equals, text = word.partition("=")
        name = lexer.plain(name)
        if equals:
            value = self._value(text, f"--secret {name}", literal=lexer.plain)
        elif name in self._names:
            value = self._names[name]
        else:
            value = os.environ[name] if name in os.environ else ask(name)
        return {name: checked_secret(name, value)}

    def _items(self, word: str, option: str) -> Mapping[str, object]:
        """The items of the dict that a word without a name refers to, or a variable by its own name."""
        text = lexer.plain(word)
        if word.startswith(lexer.PROTECTED):
            value = _json_literal(text, option)
        else:
            value = self._value(word, option, literal=lexer.plain)
        name = text.removeprefix("$") if word.startswith("$") else text[1:-1].strip()
        if name.isidentifier():
            return _items_or_itself(name, value)
        if not isinstance(value, Mapping):
            raise OptionError(
                f"{option}: the expression in braces is {type(value).__name__}, and only a dict sets variables by "
                f"itself. Give it a name: {option} NAME={{...}}."
            )
        return value

    def path(self, word: str, option: str) -> str:
        """The path that a word is or refers to."""
        if not word.startswith(("$", "{")):
            return lexer.plain(word)
        value = self._value(word, option, literal=lexer.plain)
        if not isinstance(value, (str, os.PathLike)):
            what = "variable" if word[0] == "$" else "expression"
            raise OptionError(f"{option}: the value of the {what} is {type(value).__name__}: give a path.")
        return os.fsdecode(value)

    def data_part(self, word: str) -> object:
        """What one word of ``--data`` stands for."""
        if (match := _KEY.match(word)) and not self._is_cut_expression(match[1]):
            key = lexer.plain(match[1])
            return {key: self._value(word[match.end() :], f"--data {key}", literal=_data_literal)}
        text = lexer.plain(word)
        if text.startswith("["):
            return _json_literal(text)
        if text.startswith("{"):
            return _json_literal(text) if word.startswith(lexer.PROTECTED) else self._braces(text, "--data")
        if word.startswith("$"):
            return self._value(word, f"--data {text}", literal=lexer.plain)
        if text in self._names:
            return self._names[text]
        if text.endswith(".json"):
            return _read_json_file(text)
        raise OptionError(self._about_data(text))

    def _is_cut_expression(self, key: str) -> bool:
        """Whether a key is half an expression with an equals sign in it, such as ``rows[n==1]``."""
        root = ROOT.match(key)
        is_open = any(key.count(opening) > key.count(closing) for opening, closing in ("()", "[]"))
        return root is not None and is_open and self._is_known(root[1])

    def _is_known(self, name: str) -> bool:
        return name in self._names or hasattr(builtins, name)

    def _about_data(self, text: str) -> str:
        """What to write in place of a word that is neither a variable nor a .json file."""
        if expanded(text).is_file():
            if text.endswith(ROW_FILES):
                instead = f"To run the code once for each of its rows, write --each {text}."
            else:
                instead = "Read it in the notebook, and hand over what the run needs, such as --data row."
            return f"--data {text}: only .json files are read. {instead}"
        root = ROOT.match(text)
        if not (self._is_known(root[1]) if root else is_about(text, self._is_known)):
            what = f"variable {root[1]}" if root else "variable of that name"
            near = self._near(root[1] if root else text, is_data)
            return f"--data {text}: the notebook has no {what}.{near}"
        expression, key, value = followed(text, self._names)
        if not isinstance(value, _NO_RECORDS):
            return f"--data {text}: put an expression in braces. Write --data {{{expression}}}."
        return (
            f"--data {text}: put an expression in braces, and give a value that is no dict a key. "
            f"Write -d {key}={{{expression}}}."
        )

    def _braces(self, text: str, option: str) -> object:
        """The value of ``{...}``: JSON, or an expression in braces, or a dict display."""
        if text not in self._expressions:
            with suppress(ValueError, RecursionError):
                return json.loads(text)
            inner = text[1:-1].strip()
            source = inner if is_expression(inner) or not is_expression(text) else text
            self._expressions[text] = Expression.of(source, option)
        return self._evaluate(self._expressions[text], option)

    def _value(self, text: str, option: str, *, literal: Callable[[str], object]) -> object:
        if match := VARIABLE.fullmatch(text):
            if match[1] not in self._names:
                near = self._near(match[1], is_data)
                raise OptionError(
                    f"{option}: the notebook has no variable {match[1]}.{near} "
                    "In single quotes, $ has no special meaning."
                )
            return self._names[match[1]]
        if text.startswith("{") and text.endswith("}"):
            return self._braces(text, option)
        if _REFERENCE_INSIDE.search(text):
            raise OptionError(
                f"{option}: a $variable or {{expression}} has to be the whole value, and here there is more "
                "around it. Write all of it as an expression, such as {row['answer']} or {'https://' + host}. "
                "In single quotes, $ and braces have no special meaning."
            )
        self._warn_of_names(text, option)
        return literal(text)

    def _warn_of_names(self, text: str, option: str) -> None:
        """Warn of a literal text that names a variable of the notebook."""
        root = ROOT.match(text) or _NAME.match(text)
        name = root[1] if root else ""
        if name not in self._names or (name in self._hidden and self._hidden[name] is self._names[name]):
            return  # no variable that the notebook itself has set
        if not is_data(self._names[name]) or not is_expression(text):
            return
        if not (
            text.isidentifier() or "[" in text or "(" in text or followed(text, self._names)[2] is not UNKNOWN
        ):
            return  # rows.csv is a file's name more often than an attribute
        reference = f"${text}" if text.isidentifier() else f"{{{in_short(text)}}}"
        warn(f"{option} is the text {text!r}. For the value in the notebook write {option}={reference}.")

    def _evaluate(self, expression: Expression, option: str) -> object:
        try:
            return eval(expression.code, self._names)  # noqa: S307 - the user's own expression, in the user's own notebook
        except Exception as problem:  # noqa: BLE001 - whatever the expression raises
            is_row = isinstance(problem, NameError) and problem.name == ROW
            raise OptionError(
                f"{option}: the expression in braces raised {type(problem).__name__}"
                f"{self._told(problem, expression)}.{NO_ROWS if is_row else ''}"
            ) from None

    def _told(self, problem: Exception, _expression: Expression) -> str:
        """What an error may say of what an expression raised."""
        # The text of most exceptions repeats the value that they are about; the names in these do not.
        return f": {problem}" if isinstance(problem, (NameError, AttributeError, LookupError)) else ""

    def _near(self, name: str, fits: Callable[[object], bool], more: Iterable[str] = ()) -> str:
        own = own_variables(self._names, self._hidden)
        return did_you_mean(name, [*(known for known, value in own.items() if fits(value)), *more])


def _is_env_value(value: object) -> bool:
    return issubclass(type(value), (str, int, float, Mapping))


def _items_or_itself(name: str, value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {name: value}


def checked_secret(name: str, value: object) -> str | int | float:
    """The value, which has to be one that can be hidden.

    Raises:
        OptionError: it is no text or number, or too short.
    """
    if not isinstance(value, (str, int, float)) or isinstance(value, bool):
        several = " (a dict sets all its items with --secret $DICT alone)" if isinstance(value, Mapping) else ""
        raise OptionError(f"--secret {name}: its value is {type(value).__name__}: give a string{several}.")
    if is_too_short(str(value)):
        raise OptionError(f"--secret {name}: {TOO_SHORT} If it is no secret, set it with -e.")
    return value


def _data_literal(text: str) -> object:
    """A literal of ``--data KEY=literal``: JSON where it is JSON, Python's three words, else text."""
    text = lexer.plain(text)
    if text in _WORDS:
        return _WORDS[text]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _json_literal(text: str, option: str = "--data") -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as problem:
        raise OptionError(f"{option}: the literal that begins with {text[0]} is no JSON: {problem}.") from None


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
    """The path with ``~`` expanded, where it stands for a home."""
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


def own_variables(
    names: Mapping[str, object], hidden: Mapping[str, object], prefix: str = ""
) -> dict[str, object]:
    """The variables that the user has set, not IPython; those that begin with an underscore only with a prefix."""
    return {
        name: value
        for name, value in list(names.items())
        if (name.startswith(prefix) if prefix else not name.startswith("_"))
        and not (name in hidden and hidden[name] is value)
    }


def did_you_mean(name: str, known: Collection[str]) -> str:
    """A question that begins with a space, about the one or two known names most like this one; else empty."""
    turned = [one for one in known if one[:1] == name[:1] and sorted(one) == sorted(name)]
    cased = [one for one in known if one.casefold() == name.casefold()]
    near = [*cased, *turned, *difflib.get_close_matches(name, known, n=MOST_SUGGESTED, cutoff=CLOSE)]
    return f" Did you mean {' or '.join(list(dict.fromkeys(near))[:MOST_SUGGESTED])}?" if near else ""


def is_data(value: object) -> bool:
    """Whether data can be made of it. Asks the value nothing."""
    return not callable(value) and not issubclass(type(value), ModuleType)


def is_expression(text: str) -> bool:
    """Whether a text is a Python expression."""
    try:
        compile(text, "<magic>", "eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def is_about(text: str, is_known: Callable[[str], bool]) -> bool:
    """Whether a text is an expression, and more than a name, in which all names are known."""
    try:
        tree = expression_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    used = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)]
    return bool(used) and not text.isidentifier() and all(map(is_known, used))


def in_short(text: str) -> str:
    """An expression cut at its first bracket: splitting the line may have removed the quotes in it."""
    root = ROOT.match(text)
    if root is None or _PLAIN.fullmatch(text):
        return text
    return f"{root[0]}...{_CLOSING.get(root[0][-1], '')}"


def followed(text: str, names: Mapping[str, object]) -> tuple[str, str, object]:
    """Follow an expression as far as possible without running the user's code.

    Returns:
        The expression as it has to be written, a key for its value, and the value, which may be UNKNOWN.
    """
    try:
        node = expression_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return in_short(text), "value", UNKNOWN
    expression, value = _followed(node, names)
    last = _KEY_AT_END.search(expression)
    return (expression if expression != ast.unparse(node) else text), last[1] if last else "value", value


def _followed(node: ast.expr, names: Mapping[str, object]) -> tuple[str, object]:
    if isinstance(node, ast.Name):
        return node.id, names.get(node.id, UNKNOWN)
    if isinstance(node, ast.Attribute):
        before, owner = _followed(node.value, names)
        if type(owner) is dict and node.attr in owner:
            return f'{before}["{node.attr}"]', owner[node.attr]
        return f"{before}.{node.attr}", UNKNOWN
    if isinstance(node, ast.Subscript):
        before, owner = _followed(node.value, names)
        try:
            key = ast.literal_eval(node.slice)
            value = owner[key] if type(owner) in {dict, list, tuple} else UNKNOWN  # type: ignore[index]  # those can be
        except (LookupError, TypeError, ValueError, RecursionError, MemoryError):
            value = UNKNOWN
        return f"{before}[{ast.unparse(node.slice)}]", value
    return ast.unparse(node), UNKNOWN
