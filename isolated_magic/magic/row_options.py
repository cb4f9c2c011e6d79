"""What the options of a line are for each row: an expression that has ``row`` in it is evaluated row by row.

Those without are evaluated once, before the first row. Expressions are compiled once, so that a row costs little.
"""

from __future__ import annotations

import ast
import builtins
import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.magic import lexer
from isolated_magic.magic.clusters import can_run_rows
from isolated_magic.magic.credentials import SecretSources, expressions
from isolated_magic.magic.data import merged_data
from isolated_magic.magic.options import TABLE
from isolated_magic.magic.values import (
    VARIABLE,
    Assignment,
    Expression,
    Resolver,
    did_you_mean,
    expanded,
    is_expression,
    own_variables,
)
from isolated_magic.syntax import expression_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path
    from typing import TypeAlias

    from isolated_magic.environment import EnvValue
    from isolated_magic.magic.options import Options

    OfRow: TypeAlias = Callable[[object], object]
    Environment: TypeAlias = "Mapping[str, EnvValue] | Callable[[object], Mapping[str, EnvValue]]"
    Secrets: TypeAlias = "Collection[str] | Callable[[object], Collection[str]]"

T = TypeVar("T")

CLOSE_TO_ROW = 0.6  # by difflib's measure
MOST_NAMED = 8  # fields of a row that a message lists


class RowResolver(Resolver):
    """Looks up what words refer to where one of the notebook's names is the row.

    Args:
        names: the notebook's variables, as they are now.
        hidden: those among them that IPython put there, with their values.
        row_name: what the row is called.
        first: the first row; ``...`` where there is none.
    """

    def __init__(
        self, names: Mapping[str, object], hidden: Mapping[str, object], row_name: str, first: object
    ) -> None:
        self.row_name = row_name
        self.first = first
        self.names = dict(names)
        self.names[row_name] = None
        super().__init__(self.names, hidden)

        self._files: dict[str, Mapping[str, EnvValue]] = {}

    def _read_env_file(self, path: str) -> Mapping[str, EnvValue]:
        """Read once, however many rows name it."""
        if path not in self._files:
            self._files[path] = super()._read_env_file(path)
        return self._files[path]

    def see(self, row: object) -> None:
        """Have the name of the row stand for this one."""
        self.names[self.row_name] = row

    def mentions_row(self, word: str) -> bool:
        """Whether what a word of the line stands for depends on the row."""
        return any(
            isinstance(part, ast.Name) and part.id == self.row_name
            for tree in expressions(word)
            for part in ast.walk(tree)
        )

    def check_names(self, word: str, flag: str, advice: str = "") -> None:
        """Refuse an expression with a name that is nowhere: it would fail for every row.

        Args:
            word: of the line.
            flag: of its option.
            advice: what else may be wrong, with a space before it.

        Raises:
            OptionError: it has one.
        """
        if "{" not in word:  # a name alone, which is told of where it is looked up
            return
        self._check_attributes(expressions(word), flag)
        for name in dict.fromkeys(_free_names(expressions(word))):
            if name in self.names or hasattr(builtins, name):
                continue
            own = own_variables(self.names, self._hidden)
            is_row = difflib.SequenceMatcher(None, name, self.row_name).ratio() >= CLOSE_TO_ROW
            if has_field(self.first, name):
                hint = f' The field of the row is {self.row_name}["{name}"].'
            else:
                hint = f" Did you mean {self.row_name}?" if is_row else did_you_mean(name, list(own))
            raise OptionError(f"{flag}: the notebook has no variable {name}.{hint}{advice}")

    def _check_attributes(self, trees: Iterable[ast.expr], flag: str) -> None:
        """Refuse ``row.field`` where a row is a dict."""
        row, first = self.row_name, self.first
        for node in (part for tree in trees for part in ast.walk(tree) if isinstance(part, ast.Attribute)):
            is_of_row = isinstance(node.value, ast.Name) and node.value.id == row
            if is_of_row and isinstance(first, Mapping) and node.attr in first and not hasattr(first, node.attr):
                raise OptionError(
                    f'{flag}: the row is a dict, so write {row}["{node.attr}"] for {row}.{node.attr}.'
                )

    def _told(self, problem: Exception, expression: Expression) -> str:
        """As of any expression, but without values of the row."""
        if isinstance(problem, KeyError):
            key = problem.args[0] if problem.args else None
            return f": {key!r}" if _has_constant(expression.source, key) else ""
        name = getattr(problem, "name", None)
        is_written = isinstance(name, str) and name in expression.source
        return f": {problem}" if isinstance(problem, (NameError, AttributeError)) and is_written else ""


def _free_names(trees: Iterable[ast.expr]) -> Iterable[str]:
    """The names that expressions use and do not make themselves."""
    parts = [part for tree in trees for part in ast.walk(tree)]
    made = {part.id for part in parts if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)}
    made |= {part.arg for part in parts if isinstance(part, ast.arg)}
    return [
        part.id
        for part in parts
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id not in made
    ]


def _has_constant(source: str, value: object) -> bool:
    """Whether an expression has this value written out."""
    return any(
        isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value
        for node in ast.walk(expression_of(source.strip()))
    )


class RowOptions:
    """The options of one line, for each row. Made before the first row, and used in one thread.

    Args:
        options: of the line.
        first: the first row; ``...`` where there is none.
        names: the notebook's variables, as they are now.
        hidden: those among them that IPython put there, with their values.
        ask: asks the user for a secret.
        patterns: what names of credentials look like.

    Raises:
        OptionError: what is wrong with an option for every row.
    """

    def __init__(
        self,
        options: Options,
        first: object,
        names: dict[str, object],
        hidden: Mapping[str, object],
        ask: Callable[[str], str],
        patterns: Collection[str],
    ) -> None:
        self._options = options
        self._ask = ask
        self._rows = RowResolver(names, hidden, options.row, first)
        self._once = Resolver(names, hidden)
        self._sources = SecretSources(patterns)
        self._row_words: list[str] = []  # those that may name a credential of the row
        self._latest: tuple[object, list[Assignment]] | None = None
        words = (("env_file", options.env_file), ("env", options.env), ("secret", options.secret))
        self._parts = [self._part(option, word) for option, several in words for word in several]
        static = [part for part in self._parts if isinstance(part, Assignment)]
        self._told_of_data: list[object] = []
        self.data = self._data()
        once = [word for word in (*options.env, *options.secret, *options.data) if word not in self._row_words]
        self._secrets = [*self._sources.secrets(once, static, names), *patterns]

    @property
    def data_is_row(self) -> bool:
        """Whether the data is the row, or made of it."""
        return self.data is None or callable(self.data)

    @property
    def depends_on_row(self) -> bool:
        """Whether anything that a run gets does."""
        return self.data_is_row or any(not isinstance(part, Assignment) for part in self._parts)

    @property
    def same_for_all(self) -> dict[str, EnvValue]:
        """The variables that are the same for every row."""
        return _variables(part for part in self._parts if isinstance(part, Assignment))

    @property
    def secrets_of_all(self) -> list[str]:
        """What to hide in every row."""
        return self._secrets

    @property
    def checkpoint(self) -> Path | None:
        """The file of the checkpoint, one for all rows; None for none."""
        word = self._options.checkpoint
        return None if word is None else expanded(self._once.path(word, "--checkpoint"))

    @property
    def told_of_rows(self) -> dict[str, str]:
        """The variables that depend on the row, each with the word of the line that it comes from."""
        words = [part[1] for part in self._parts if not isinstance(part, Assignment)]
        named = ((lexer.plain(word.partition("=")[0]), word) for word in words)
        return {name if name.isidentifier() else "of each row": word for name, word in named}

    @property
    def told_of_data(self) -> tuple[object, ...]:
        """What the data is made of: words that depend on the row, and values of others."""
        return tuple(self._told_of_data)

    def _part(self, option: str, word: str) -> Assignment | tuple[str, str]:
        """What one word sets, or the option and the word where that depends on the row."""
        if not self._depends_on_row(word, TABLE[option].flag):
            return self._once.assignment(option, word, self._ask)
        return option, word

    def _depends_on_row(self, word: str, flag: str) -> bool:
        name, equals, _ = lexer.plain(word).partition("=")
        has_name = equals and not word.startswith(("{", "$"))
        self._rows.check_names(word, f"{flag} {name}" if has_name else flag)
        if not self._rows.mentions_row(word):
            return False
        if flag != "--env-file":
            self._row_words.append(word)
        return True

    def _data(self) -> object:
        """The data of every row, or a function of the row; None for the row itself."""
        options = self._options
        if not options.data:
            return None
        parts = [
            None if self._depends_on_row(word, "--data") else (self._once.data_part(word),)
            for word in options.data
        ]
        self._told_of_data = [
            word if part is None else part[0] for word, part in zip(options.data, parts, strict=True)
        ]
        if None not in parts:
            value = merged_data(options, [part[0] for part in parts if part is not None])
            return {} if value is None else value

        def data_of(row: object) -> object:
            self._rows.see(row)
            values = [
                self._rows.data_part(word) if part is None else part[0]
                for word, part in zip(options.data, parts, strict=True)
            ]
            return merged_data(options, values)

        return _of_row(data_of)

    @property
    def env_vars(self) -> Environment:
        """The variables to set for every row, or a function of the row."""
        static = [part for part in self._parts if isinstance(part, Assignment)]
        if len(static) == len(self._parts):
            return _variables(static)
        return _of_row(lambda row: _variables(self._assignments(row)))

    @property
    def secrets(self) -> Secrets:
        """What to hide in every row, or a function of the row."""
        if not self._row_words:
            return self._secrets
        return _of_row(self._secrets_of)

    def _assignments(self, row: object) -> list[Assignment]:
        self._rows.see(row)
        found = [
            part if isinstance(part, Assignment) else self._rows.assignment(*part, self._ask)
            for part in self._parts
        ]
        self._latest = row, found
        return found

    def _secrets_of(self, row: object) -> Collection[str]:
        # What env_vars has just found for this row; not kept, as the next row may be the same object, changed.
        latest, self._latest = self._latest, None
        found = latest[1] if latest is not None and latest[0] is row else self._assignments(row)
        self._latest = None
        of_row = [made for made, part in zip(found, self._parts, strict=True) if made is not part]
        return [*self._sources.secrets(self._row_words, of_row, self._rows.names), *self._secrets]

    def field(self, name: str) -> OfRow | None:
        """The function of the row that ``per``, ``key`` or ``cluster`` stands for; None where it is not given.

        Raises:
            OptionError: it stands for none.
        """
        word: str | None = getattr(self._options, name)
        return None if word is None else _of_row(_FieldOption(word, TABLE[name].flag, self._rows).function())


class _FieldOption:
    """An option whose value is an expression or the name of a field."""

    def __init__(self, word: str, flag: str, rows: RowResolver) -> None:
        self._word = word
        self._text = lexer.plain(word).strip()
        self._flag = flag
        self._rows = rows

    def function(self) -> OfRow:
        """The function of the row that it stands for."""
        text, row_name, first = self._text, self._rows.row_name, self._rows.first
        if not text:
            raise OptionError(f'{self._flag} is empty: write an expression, such as {row_name}["id"].')
        if text == f"${row_name}" or (text == row_name and not has_field(first, text)):
            return lambda row: row
        if text.startswith("{") and text.endswith("}"):
            return self._expression(text)
        if VARIABLE.fullmatch(text):
            return self._variable(text[1:])
        if text.isidentifier() and callable(self._rows.names.get(text)) and not has_field(first, text):
            return self._variable(text)
        if text.isidentifier() or has_field(first, text):
            return self._field()
        in_braces = f" Or put all of it in braces, {self._flag} {{...}}: without them, quotes may be lost."
        return self._expression(f"{{{text}}}", in_braces)

    def _variable(self, name: str) -> OfRow:
        function = self._rows.names.get(name)
        if not callable(function):
            raise self._same_for_all()
        return self._raising(function)

    def _field(self) -> OfRow:
        name, first = self._text, self._rows.first
        if first is not ... and not has_field(first, name):
            fields = list(map(str, first)) if isinstance(first, Mapping) else []
            shown = ", ".join(fields[:MOST_NAMED]) + (", ..." if len(fields) > MOST_NAMED else "")
            listed = f"the first row has {shown}." if fields else f"the first row is {type(first).__name__}."
            if can_run_rows(self._rows.names.get(name)):
                listed = f"to run rows on it, write --on {name}."
            raise OptionError(
                f"{self._flag} {name}: neither is that a field of the row nor a function of the notebook; "
                f"{listed}{did_you_mean(name, fields)}"
            )

        def value(row: object) -> object:
            if isinstance(row, Mapping) and name in row:
                return row[name]
            if not isinstance(row, Mapping) and hasattr(row, name):
                return getattr(row, name)
            raise OptionError(f"{self._flag} {name}: the row has no field of that name.")

        return value

    def _expression(self, text: str, advice: str = "") -> OfRow:
        rows, flag = self._rows, self._flag
        if not is_expression(text[1:-1].strip()):
            raise OptionError(
                f"{flag}: {text[1:-1].strip()!r} is no expression. Put it in braces, such as "
                f'{flag} {{{rows.row_name}["id"]}}.'
            )
        rows.check_names(text, flag, advice)
        if not rows.mentions_row(text):
            raise self._same_for_all()

        def value(row: object) -> object:
            rows.see(row)
            return rows.reference(text, flag)

        return value

    def _raising(self, function: OfRow) -> OfRow:
        def value(row: object) -> object:
            try:
                return function(row)
            except Exception as problem:  # noqa: BLE001 - of the user's function
                raise OptionError(f"{self._flag}: {self._text} raised {type(problem).__name__}.") from None

        return value

    def _same_for_all(self) -> OptionError:
        row = self._rows.row_name
        return OptionError(
            f"{self._flag} {self._text}: that is the same for every row. Write an expression with {row} in it, "
            f'such as {row}["id"], or the name of a field.'
        )


def has_field(row: object, name: str) -> bool:
    """Whether a row has a field of this name."""
    return name in row if isinstance(row, Mapping) else row is not ... and hasattr(row, name)


def _variables(assignments: Iterable[Assignment]) -> dict[str, EnvValue]:
    found: dict[str, EnvValue] = {}
    for assignment in assignments:
        found.update(assignment.values)
    return found


def _of_row(function: Callable[[object], T]) -> Callable[[object], T]:
    """The function with errors that an evaluation takes for those of the row."""

    def of_row(row: object) -> T:
        try:
            return function(row)
        except OptionError as problem:
            raise InvalidRequestError(str(problem)) from None

    return of_row
