"""Completion on the magic's line, and nowhere else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from IPython.core.completer import SimpleCompletion, context_matcher

from isolated_magic.evaluation.result import EvaluationResult
from isolated_magic.executors import lifecycle
from isolated_magic.magic.clusters import can_run_rows
from isolated_magic.magic.datasets import can_be_rows, field_names
from isolated_magic.magic.kinds import ROW
from isolated_magic.magic.option import ALL, FIRST_WORDS, PRUNE
from isolated_magic.magic.options import TABLE
from isolated_magic.magic.parser import long_flags
from isolated_magic.magic.values import own_variables
from isolated_magic.models import RunResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias

    from IPython.core.completer import CompletionContext, SimpleMatcherResult
    from IPython.core.interactiveshell import InteractiveShell

    from isolated_magic.magic.option import Option

    Offer: TypeAlias = tuple[Iterable[str], str]  # words, and what they are

MOST_OFFERED = 500
MOST_FILES = 2000  # of a folder, looked at

_CELL_MAGIC = re.compile(r"\s*%%isolated\s(.*)", re.DOTALL)
_LINE_MAGIC = re.compile(r"\s*(?:[^\W\d]\w*\s*=\s*)?%isolated\s(.*)", re.DOTALL)
_LAST_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*$|$")
_KEY_OF_ROW = re.compile(r"""([^\W\d]\w*)\[["']([^"']*)$""")
_BY_FLAG = {flag: option for option in TABLE.values() for flag in option.flags}


class Completion:
    """The completions of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell

        @context_matcher(identifier="isolated_magic")  # type: ignore[untyped-decorator]  # IPython has no types here
        def matcher(context: CompletionContext) -> SimpleMatcherResult:
            return self._match(context)

        self._matcher: Callable[[CompletionContext], SimpleMatcherResult] = matcher

    def register(self) -> None:
        """Register with the shell's completer."""
        self._shell.Completer.custom_matchers.append(self._matcher)

    def unregister(self) -> None:
        """Undo :meth:`register`."""
        self._shell.Completer.custom_matchers.remove(self._matcher)

    def _match(self, context: CompletionContext) -> SimpleMatcherResult:
        is_cell, line = _our_line(context)
        if line is None:
            return {"completions": [], "suppress": False}
        before, word = _words(line)
        fragment, words, kind = self._offer(before, word, is_cell=is_cell)
        found = islice((one for one in words if one.startswith(fragment) and one != fragment), MOST_OFFERED)
        completions = [
            SimpleCompletion(text=one, type=self._kind_of(one, kind)) for one in found
        ] or _NothingElse()
        return {"completions": completions, "matched_fragment": fragment, "suppress": True, "ordered": True}

    def _offer(self, before: list[str], word: str, *, is_cell: bool) -> tuple[str, Iterable[str], str]:
        """The text to replace, the words to offer for it, and their kind."""
        last = before[-1] if before else ""
        flag, equals, value = word.partition("=")
        if word.startswith("--") and equals:  # --env=NAME
            last, word = flag, value
        option = _BY_FLAG.get(last)
        if option is not None and (option.repeats or option.offers in {"rows", "field", "cluster"}):
            _, equals, value = word.partition("=")
            if match := _KEY_OF_ROW.search(word):
                return match[2], self._fields(before) if match[1] == _row_name(before) else (), "key"
            if equals and option.repeats and option.offers not in {"file", "folder"}:
                return self._reference(value, before)
            if word.startswith(("$", "{")):
                return self._reference(word, before if option.offers != "cluster" else [])
        if option is not None and not word.startswith("-"):
            return word, *self._values(option, word, before)
        if not is_cell and len(before) <= 1 and (last == "forget" or not word.startswith("-")):
            return word, *self._command(last, word)
        return word, long_flags() if word.startswith("-") or not word else (), "option"

    def _kind_of(self, word: str, kind: str) -> str:
        """The kind of one word among offered words that are mostly of one kind."""
        if word.startswith("--"):
            return "option"
        is_variable = word.removeprefix("$") in self._shell.user_ns
        if kind == "variable" and not is_variable:
            return "file"
        return "variable" if kind == "environment" and is_variable else kind

    def _reference(self, value: str, before: list[str]) -> tuple[str, Iterable[str], str]:
        """``$name`` and names in ``{expressions}``; keys and attributes of variables are left to IPython."""
        row = [_row_name(before)] if _rows_word(before) else []
        if not value:
            return "", [f"${name}" for name in self._variables("")] + [f"{{{name}[" for name in row], "variable"
        name = _LAST_NAME.search(value)[0]  # type: ignore[index]  # it matches the end, if nothing else
        inside_quotes = value.count('"') % 2 or value.count("'") % 2
        is_reference = value.startswith(("$", "{")) and not value.endswith(".") and not inside_quotes
        return name, [*row, *self._variables(name)] if is_reference else (), "variable"

    def _values(self, option: Option, word: str, before: list[str]) -> Offer:
        if option.offers == "rows":
            own = self._variables(word)
            known = [name for name in own if can_be_rows(self._shell.user_ns.get(name))]
            return [*known, *_files(word, option.words)], "variable"
        if option.offers == "cluster":
            own = self._variables(word)
            return [name for name in own if can_run_rows(self._shell.user_ns.get(name))], "variable"
        if option.offers == "field":
            return [name for name in self._fields(before) if name.isidentifier()], "key"
        if option.offers == "environment":
            return sorted({*os.environ, *self._variables(word, str, Mapping)}), "environment"
        if option.offers == "data":
            return [*self._variables(word), *_files(word, option.words)], "variable"
        if option.offers == "result":
            return [
                *self._variables(word, RunResult, EvaluationResult),
                *([] if word else long_flags()),
            ], "variable"
        if option.offers == "folder":
            return _files(word, ()), "file"
        if option.offers == "file":
            return _files(word, option.words), "file"
        return (long_flags(), "option") if not word and not option.kind.metavar else (option.words, "value")

    def _command(self, last: str, word: str) -> Offer:
        if not last:
            return [*FIRST_WORDS, *([] if word else long_flags())], "command"
        if last == "run":
            return _files(word, TABLE["file"].words), "file"
        if last == "stop":
            return [str(pid) for live in lifecycle.live_runs() if (pid := live.pid) is not None], "process"
        if last in {"forget", "packages"}:
            return ((ALL,), "option") if last == "forget" else ((PRUNE,), "command")
        if last == "on-teardown":
            return [name for name in self._variables(word) if callable(self._shell.user_ns.get(name))], "function"
        return (), "command"

    def _fields(self, before: list[str]) -> list[str]:
        """Names of the fields of the rows that the line names."""
        return field_names(self._shell.user_ns.get(_rows_word(before).removeprefix("$")))

    def _variables(self, prefix: str, *kinds: type) -> list[str]:
        """Names of the notebook's own variables."""
        own = own_variables(self._shell.user_ns, self._shell.user_ns_hidden, prefix)
        return sorted(name for name, value in own.items() if not kinds or isinstance(value, kinds))


def _rows_word(before: list[str]) -> str:
    """The word behind --each, empty without one."""
    return _value_of(before, "--each")


def _row_name(before: list[str]) -> str:
    return _value_of(before, TABLE["row_name"].flag) or ROW


def _value_of(before: list[str], flag: str) -> str:
    for word, following in zip(before, [*before, ""][1:], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return ""


class _NothingElse(list[SimpleCompletion]):
    """An empty list that suppresses other completions: IPython asks for its length."""

    def __len__(self) -> int:
        return 1


def _our_line(context: CompletionContext) -> tuple[bool, str | None]:
    """Whether it is a cell magic, and the text between its name and the cursor; None outside of our line."""
    lines = context.full_text.split("\n")
    before = lines[context.cursor_line][: context.cursor_position]
    is_first = not any(line.strip() for line in lines[: context.cursor_line])
    if is_first and (match := _CELL_MAGIC.fullmatch(before)):
        return True, match[1]
    match = _LINE_MAGIC.fullmatch(before)
    return False, match[1] if match else None


def _words(line: str) -> tuple[list[str], str]:
    """The words before the cursor, and the one at the cursor; quotes and braces may be open."""
    words: list[str] = []
    start, quote, depth = 0, "", 0
    for index, one in enumerate(line):
        if quote:
            quote = "" if one == quote else quote
        elif one in "'\"":
            quote = one
        elif one in "{}":
            depth = max(0, depth + (1 if one == "{" else -1))
        elif one.isspace() and not depth:
            words += [line[start:index]] if index > start else []
            start = index + 1
    return words, line[start:]


def _files(word: str, endings: tuple[str, ...]) -> Iterator[str]:
    """Folders and files with these endings that the word begins."""
    folder, slash, _ = word.rpartition("/")
    try:
        with os.scandir(Path(folder + slash or ".").expanduser()) as entries:
            found = sorted(islice(entries, MOST_FILES), key=lambda entry: entry.name)
    except (OSError, ValueError, RuntimeError):  # no such folder, a NUL in its name, or nobody's home
        return
    for entry in found:
        path = f"{folder}{slash}{entry.name}"
        if not entry.name.startswith(".") and _is_folder(entry):
            yield f"{path}/"
        elif entry.name.endswith(endings):
            yield path if " " not in path else f"'{path}'"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False
