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
from isolated_magic.syntax import expression_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from isolated_magic.magic.options import Options
    from isolated_magic.magic.values import Assignment


class AskedSecrets:
    """What the user was asked for in this kernel: in no variable of the notebook, and in no repr."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def value(self, name: str) -> str:
        """The value of a secret, asked for the first time.

        Raises:
            OptionError: there is nobody to ask, or nothing was entered.
        """
        if name not in self._values:
            self._values[name] = _ask(name)
        return self._values[name]

    def forget(self, name: str) -> bool:
        """Ask for it again next time; False if it was not asked for."""
        return self._values.pop(name, None) is not None

    def forget_all(self) -> int:
        """Ask for all of them again next time; their number."""
        count = len(self._values)
        self._values.clear()
        return count


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


def secrets_on_line(
    options: Options, assignments: Iterable[Assignment], patterns: Collection[str], names: Mapping[str, object]
) -> list[str]:
    """The secrets that the line marks: by --secret, or because a value comes from a credential of the notebook.

    Returns:
        Names of variables of the run, and the credentials themselves, each as a Secret.
    """
    return SecretSources(patterns).secrets((*options.env, *options.secret, *options.data), assignments, names)


class SecretSources:
    """Finds the secrets that words of the line mark. What a word refers to is looked for once.

    Args:
        patterns: what names of credentials look like.
    """

    def __init__(self, patterns: Collection[str]) -> None:
        self._patterns = patterns
        self._known: dict[str, list[tuple[str, ast.expr]]] = {}

    def secrets(
        self, words: Iterable[str], assignments: Iterable[Assignment], names: Mapping[str, object]
    ) -> list[str]:
        """See :func:`secrets_on_line`.

        Args:
            words: those that may name credentials.
            assignments: the variables that are set.
            names: the notebook's variables.
        """
        found: list[str] = []
        for assignment in assignments:
            if assignment.is_secret:
                found += assignment.values
                continue
            for source, _ in self._sources(assignment.word):
                values = assignment.values.items()
                found += [name for name, value in values if is_credential(source, _text_of(value), self._patterns)]
        for word in words:
            for source, node in self._sources(word):
                text = _text_of(_value_of(node, names))
                if text and is_credential(source, text, self._patterns):
                    found.append(Secret(text))
        return found

    def _sources(self, word: str) -> list[tuple[str, ast.expr]]:
        """The credentials of the notebook, by their names, that the values of a word come from."""
        if word not in self._known:
            self._known[word] = [
                found for found in _references(word) if looks_like_credentials(found[0], self._patterns)
            ]
        return self._known[word]


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
        if isinstance(node, ast.Subscript):
            key = node.slice.value if isinstance(node.slice, ast.Constant) else _value_of(node.slice, names)
            return _value_of(node.value, names)[key]  # type: ignore[index]  # else nothing is found
    except Exception:  # noqa: BLE001 - the user's own objects; evaluating the line says what is wrong
        return None
    return None


def expressions(word: str) -> list[ast.expr]:
    """The expressions that a word of the line refers to: itself or what follows its first equals sign."""
    if word.isidentifier():
        return [ast.Name(word, ast.Load())]
    found = (_expression(text) for text in (word, word.partition("=")[2]))
    return [tree for tree in found if tree is not None]


def _expression(text: str) -> ast.expr | None:
    if match := VARIABLE.fullmatch(text):
        return ast.Name(match[1], ast.Load())
    if text.startswith("{") and text.endswith("}"):
        return _parsed(text[1:-1]) or _parsed(text)
    return None


def _references(word: str) -> list[tuple[str, ast.expr]]:
    """The names, attributes and keys that a word of the line refers to, each with the expression that it ends."""
    found: list[tuple[str, ast.expr]] = []
    for node in (node for tree in expressions(word) for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            found.append((node.id, node))
        elif isinstance(node, ast.Attribute):
            found.append((node.attr, node))
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            found.append((str(node.slice.value), node))
        elif isinstance(node, ast.Subscript) and isinstance(node.value, (ast.Name, ast.Attribute)):
            # An item of a collection, such as api_keys[row["tenant"]]: the collection's name says what it is.
            found.append((node.value.id if isinstance(node.value, ast.Name) else node.value.attr, node))
    return found


def _parsed(expression: str) -> ast.expr | None:
    try:
        return expression_of(expression.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def warn_of_literals(options: Options, patterns: Collection[str]) -> None:
    """Warn of secrets that are written out on the line, and say what to write instead."""
    for words, is_secret in ((options.env, False), (options.secret, True)):
        for word in words:
            for name, literal in _literals(word):
                if literal and (is_secret or is_credential(name, literal, patterns)):
                    warn(
                        f"the value of {name} stands on the magic's line and is saved with the notebook. Write "
                        f"--secret {name} instead: it takes the value from a variable of the notebook or the "
                        "kernel, or asks for it."
                    )


def _literals(word: str) -> list[tuple[str, str]]:
    """The names and values that a word writes out; a value is empty when it comes from the notebook."""
    text = lexer.plain(word)
    tree = _parsed(text) if text.startswith("{") else None
    if isinstance(tree, ast.Dict):
        pairs = zip(tree.keys, tree.values, strict=True)
        return [
            (str(key.value), str(value.value))
            for key, value in pairs
            if isinstance(key, ast.Constant) and isinstance(value, ast.Constant)
        ]
    name, _, value = word.partition("=")
    if VARIABLE.fullmatch(value):
        value = ""
    elif value.startswith("{") and value.endswith("}"):
        tree = _parsed(value[1:-1])
        value = str(tree.value) if isinstance(tree, ast.Constant) else ""
    return [(lexer.plain(name), lexer.plain(value))]
