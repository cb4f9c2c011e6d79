"""Secrets on the magic's line: asked for once, known by their names, and never to be written out there."""

from __future__ import annotations

import ast
import getpass
import sys
import warnings
from typing import TYPE_CHECKING

from IPython.core.error import StdinNotImplementedError

from isolated_magic.errors import OptionError
from isolated_magic.magic import tokens
from isolated_magic.magic.namespace import VARIABLE
from isolated_magic.redaction import SecretText, is_credential, looks_like_credentials

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from isolated_magic.magic.options import Options


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
    return value


def secrets_of(options: Options, patterns: Collection[str], notebook: Mapping[str, object]) -> list[str]:
    """What the line itself marks as secrets: by --secret, or by where a value comes from.

    Args:
        options: of the line.
        patterns: of names of credentials.
        notebook: its variables.

    Returns:
        Names of variables of the run, and values of variables of the notebook that others are made of.
    """
    found = [tokens.plain(word).partition("=")[0] for word in options.secrets]
    for words in (options.env, options.data):
        for word in words:
            name, _, value = word.partition("=")
            sources = [source for source in _names_in(value) if looks_like_credentials(source, patterns)]
            if sources and words is options.env:
                found.append(tokens.plain(name))
            found += _texts_of(sources, patterns, notebook)
    return found


def _texts_of(
    names: Iterable[str], patterns: Collection[str], notebook: Mapping[str, object]
) -> Iterator[SecretText]:
    for name in names:
        value = notebook.get(name)
        if isinstance(value, str) and is_credential(name, value, patterns):
            yield SecretText(value)


def _names_in(value: str) -> Iterator[str]:
    """The names that a reference to the notebook refers to."""
    if match := VARIABLE.fullmatch(value):
        yield match[1]
    elif value.startswith("{") and value.endswith("}"):
        tree = _parsed(value[1:-1])
        for node in ast.walk(tree) if tree is not None else ():
            if isinstance(node, ast.Name):
                yield node.id
            elif isinstance(node, ast.Attribute):
                yield node.attr


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
    for option, words in (("--env", options.env), ("--secret", options.secrets)):
        for word in words:
            name, _, value = word.partition("=")
            name, literal = tokens.plain(name), _literal_in(value)
            if literal and (option == "--secret" or is_credential(name, literal, patterns)):
                sys.stderr.write(
                    f"isolated_magic: the value of {name} stands on the magic's line and is saved with the "
                    f"notebook. Write --secret {name} instead: it takes the value from a variable of the notebook "
                    "or the kernel, or asks for it.\n"
                )


def _literal_in(value: str) -> str:
    """The text of a value that is written out; empty when it comes from the notebook."""
    if VARIABLE.fullmatch(value):
        return ""
    if value.startswith("{") and value.endswith("}"):
        tree = _parsed(value[1:-1])
        return str(tree.value) if isinstance(tree, ast.Constant) else ""
    return tokens.plain(value)
