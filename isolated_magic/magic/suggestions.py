"""Suggestions for a word of the line that leads nowhere: a similar name, or an expression in braces."""

from __future__ import annotations

import ast
import difflib
import re
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

ROOT = re.compile(r"([^\W\d]\w*)[\[(.]")  # what an expression begins with that is more than a name
UNKNOWN = object()  # a value that only the user's own code could tell
MOST_SUGGESTED, CLOSE = 2, 0.8  # by difflib's measure

_KEY_AT_END = re.compile(r"""(?:\[["']|\.)([^\W\d]\w*)(?:["']\])?\Z""")
_PLAIN = re.compile(r"[\w.]+(\[-?\d+\][\w.]*)*")
_CLOSING = {"[": "]", "(": ")"}


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
        tree = ast.parse(text, mode="eval")
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
        node = ast.parse(text, mode="eval").body
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


def about_file(path: str, value: object) -> str:
    """What to do with a JSON file whose value is no object."""
    kind, is_list = type(value).__name__, isinstance(value, list)
    key = "rows" if is_list else "value"
    several = f" Or one of its rows: --data {{{key}[0]}}." if is_list else ""
    return (
        f"--data {path}: the file holds a {kind}, and data is a dict. Read it in the notebook, "
        f'{key} = json.load(open("{path}")), and hand it over under a key: -d {key}=${key}.{several}'
    )
