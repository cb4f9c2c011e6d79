"""Secrets on the magic's line: asked for once, known by their names, and never to be written out there."""

from __future__ import annotations

import ast
import getpass
import warnings
from typing import TYPE_CHECKING

from IPython.core.error import StdinNotImplementedError

from isolated_magic.errors import OptionError
from isolated_magic.magic import lexer
from isolated_magic.magic.values import VARIABLE, checked_secret
from isolated_magic.redaction.redactor import Secret, is_credential, looks_like_credentials
from isolated_magic.sanitize import warn

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from isolated_magic.magic.options import Options
    from isolated_magic.magic.values import Assigned


class Asked:
    """What the user was asked for in this kernel. In no variable of the notebook, and in no repr."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def value(self, name: str) -> str:
        """The value of a secret, asked for the first time.

        Args:
            name: of the variable.

        Raises:
            OptionError: there is nobody to ask, or nothing was entered.
        """
        if name not in self._values:
            self._values[name] = _ask(name)
        return self._values[name]

    def forget(self, name: str) -> bool:
        """Ask for it again next time. Whether there was something to forget.

        Args:
            name: of the variable.
        """
        return self._values.pop(name, None) is not None


def _ask(name: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)  # it would show what is typed
            value = getpass.getpass(f"{name}: ")
    except (StdinNotImplementedError, getpass.GetPassWarning, EOFError, OSError):
        raise OptionError(
            f"--secret {name}: neither the notebook nor the kernel has a variable of that name, and nobody can be "
            f"asked here. Set it where the kernel is started, or write --secret {name}=$variable."
        ) from None
    if not value:
        raise OptionError(f"--secret {name}: nothing was entered.")
    return str(checked_secret(name, value))


def secret_names(assigned: Iterable[Assigned], patterns: Collection[str]) -> list[str]:
    """The variables that the line itself marks as secrets: by --secret, or by where their values come from.

    Args:
        assigned: what the line sets.
        patterns: of names of credentials.
    """
    found: list[str] = []
    for one in assigned:
        if one.is_secret:
            found += one.values
            continue
        sources = [name for name in _sources_in(one.word) if looks_like_credentials(name, patterns)]
        found += [
            name
            for name, value in one.values.items()
            if any(is_credential(source, _text_of(value), patterns) for source in sources)
        ]
    return found


def _sources_in(word: str) -> list[str]:
    """The names of the notebook that the values of a word come from."""
    return [word] if word.isidentifier() else [*_names_in(word), *_names_in(word.partition("=")[2])]


def source_values(options: Options, patterns: Collection[str], names: Mapping[str, object]) -> list[Secret]:
    """The values of the notebook's credentials that --env, --secret and --data are made of.

    Args:
        options: of the line.
        patterns: of names of credentials.
        names: the notebook's variables.
    """
    found = []
    for word in (*options.env, *options.secret, *options.data):
        bare = [(word, ast.Name(word))] if word.isidentifier() else []
        for source, node in (*bare, *_references_in(word), *_references_in(word.partition("=")[2])):
            text = _text_of(_value_of(node, names)) if looks_like_credentials(source, patterns) else ""
            if text and is_credential(source, text, patterns):
                found.append(Secret(text))
    return found


def _text_of(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    return str(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def _value_of(node: ast.expr, names: Mapping[str, object]) -> object:
    """What a chain of names, attributes and keys leads to, None when it leads nowhere."""
    try:
        if isinstance(node, ast.Name):
            return names.get(node.id)
        if isinstance(node, ast.Attribute):
            return getattr(_value_of(node.value, names), node.attr)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return _value_of(node.value, names)[node.slice.value]  # type: ignore[index]  # else nothing is found
    except Exception:  # noqa: BLE001 - the user's own objects; evaluating the line says what is wrong
        return None
    return None


def _names_in(value: str) -> Iterator[str]:
    """The names that a reference to the notebook refers to."""
    return (name for name, _ in _references_in(value))


def _references_in(value: str) -> Iterator[tuple[str, ast.expr]]:
    """The names, attributes and keys, each with the expression whose value it names."""
    if match := VARIABLE.fullmatch(value):
        yield match[1], ast.Name(match[1])
    elif value.startswith("{") and value.endswith("}"):
        tree = _parsed(value[1:-1]) or _parsed(value)
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Name):
                yield node.id, node
            elif isinstance(node, ast.Attribute):
                yield node.attr, node
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                yield str(node.slice.value), node


def _parsed(expression: str) -> ast.expr | None:
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def warn_of_literals(options: Options, patterns: Collection[str]) -> None:
    """Say which secrets stand on the line as they are, and what to write instead.

    Args:
        options: of the line.
        patterns: of names of credentials.
    """
    for option, words in (("--env", options.env), ("--secret", options.secret)):
        for word in words:
            for name, literal in _literals_in(word):
                if not literal or not (option == "--secret" or is_credential(name, literal, patterns)):
                    continue
                warn(
                    f"the value of {name} stands on the magic's line and is saved with the notebook. Write "
                    f"--secret {name} instead: it takes the value from a variable of the notebook or the kernel, "
                    "or asks for it."
                )


def _literals_in(word: str) -> list[tuple[str, str]]:
    """The names and the values that a word writes out, a dict in braces among them."""
    tree = _parsed(lexer.plain(word)) if lexer.plain(word).startswith("{") else None
    if isinstance(tree, ast.Dict):
        pairs = zip(tree.keys, tree.values, strict=True)
        return [
            (str(key.value), str(value.value))
            for key, value in pairs
            if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
        ]
    name, _, value = word.partition("=")
    return [(lexer.plain(name), _literal_in(value))]


def _literal_in(value: str) -> str:
    """The text of a value that is written out; empty when it comes from the notebook."""
    if VARIABLE.fullmatch(value):
        return ""
    if value.startswith("{") and value.endswith("}"):
        tree = _parsed(value[1:-1])
        return str(tree.value) if isinstance(tree, ast.Constant) else ""
    return lexer.plain(value)
