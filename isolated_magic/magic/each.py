"""``--each``: the rows of a line, and the evaluation of its code for each of them."""

from __future__ import annotations

import ast
import itertools
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from isolated_magic.errors import InvalidRequestError, IsolatedError, OptionError
from isolated_magic.evaluation.result import EvaluationInterrupted
from isolated_magic.evaluation.rows import row_source
from isolated_magic.history import Inputs, digest
from isolated_magic.magic import hints, lexer
from isolated_magic.magic.kinds import ROW_FILES
from isolated_magic.magic.values import ROOT, Resolver, did_you_mean, expanded, is_data, own_variables
from isolated_magic.models import ErrorKind, RunResult
from isolated_magic.payload.encode import encode_payload
from isolated_magic.redaction.redactor import redactor_for
from isolated_magic.request import working_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from isolated_magic.evaluation.result import EvaluationResult
    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.rows import RowSource
    from isolated_magic.executors.base import Executor
    from isolated_magic.executors.evaluation_options import EvaluateOptions
    from isolated_magic.executors.progress import OnProgress
    from isolated_magic.magic.options import Options
    from isolated_magic.magic.packages import Needs
    from isolated_magic.magic.row_options import RowOptions
    from isolated_magic.models import RunError
    from isolated_magic.request import RunRequest


ALL_THE_SAME = (
    "every run gets the same: --data says what data is, and neither it nor the environment depends on {row}. For "
    "the row beside what --data adds, write -d {row}, too."
)


class Rows:
    """The rows that a line names, the first of which is known.

    Args:
        word: of the line.
        names: the notebook's variables.
        hidden: those among them that IPython put there, with their values.
        first_rows: of iterators that have given their first row to a line which was refused then.

    Raises:
        OptionError: it names none.
    """

    def __init__(
        self, word: str, names: dict[str, object], hidden: Mapping[str, object], first_rows: FirstRows
    ) -> None:
        told = f"--each {lexer.plain(word)}"
        rows = _value(word, names, hidden)
        try:
            source = row_source(rows)
            self.first = first_rows.of(rows, source.rows)
        except InvalidRequestError as problem:
            raise OptionError(f"{told}: {problem}") from None
        except IsolatedError:
            raise
        except Exception as problem:  # noqa: BLE001 - of the user's own iterator
            text = f": {problem}" if isinstance(problem, OSError) else ""
            raise OptionError(f"{told}: reading the first row raised {type(problem).__name__}{text}.") from None
        begun = () if self.first is ... else (self.first,)
        self.source: RowSource = replace(source, rows=itertools.chain(begun, source.rows))
        self.are_taken = partial(first_rows.forget, rows)


class FirstRows:
    """The first rows of iterators, which give each row once: none is lost when a line is refused."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[object, object] = WeakKeyDictionary()

    def of(self, rows: object, iterator: Iterator[object]) -> object:
        """The first row; ``...`` where there is none."""
        with suppress(TypeError):  # it cannot be hashed, or not be referred to weakly
            if rows in self._known:
                return self._known[rows]
        first = next(iterator, ...)
        if first is not ... and isinstance(rows, Iterator):
            with suppress(TypeError):
                self._known[rows] = first
        return first

    def forget(self, rows: object) -> None:
        """An evaluation has it now."""
        with suppress(TypeError):
            self._known.pop(rows, None)


def _value(word: str, names: dict[str, object], hidden: Mapping[str, object]) -> object:
    """What stands behind ``--each``: an object of the notebook, or the path of a file."""
    text = lexer.plain(word)
    if word.startswith(("$", "{")):
        return Resolver(names, hidden).reference(word, "--each")
    if text in names:
        return names[text]
    if text.endswith(ROW_FILES) and not expanded(text).is_file():
        raise OptionError(
            f"--each {text}: file not found (looked for from the working directory {working_directory()})."
        )
    if expanded(text).is_file():
        return expanded(text)
    if (root := ROOT.match(text)) and root[1] in names:
        raise OptionError(f"--each {text}: put an expression in braces. Write --each {{{text}}}.")
    own = own_variables(names, hidden)
    near = did_you_mean(text, [name for name, value in own.items() if is_data(value)])
    raise OptionError(
        f"--each {text}: the notebook has no variable of that name, and it is no {', '.join(ROW_FILES[:-1])} or "
        f"{ROW_FILES[-1]} file.{near}"
    )


@dataclass(frozen=True)
class Batch:
    """The evaluation that a line asks for."""

    executor: Executor
    code: str | Path
    options: Options
    rows: Rows
    of_rows: RowOptions
    needs: Needs

    @cached_property
    def base(self) -> RunRequest:
        """A run without a row: what is the same for all.

        Raises:
            OptionError: it cannot be run as given.
        """
        variables, secrets = self.of_rows.same_for_all, self.of_rows.secrets_of_all
        is_whole = not self.options.clean_env
        try:
            return self.executor.prepare(
                self.code,
                None,
                variables,
                inherit_env=is_whole,
                secrets=secrets,
                packages=self.needs.packages,
                python=self.needs.python,
            )
        except InvalidRequestError as problem:
            raise OptionError(str(problem)) from None

    @property
    def inputs(self) -> Inputs:
        """Digests of the code, of the environment, and of what --data adds to the rows; not of the rows."""
        inputs = Inputs.of(self.base)
        varying = {name: digest(word) for name, word in self.of_rows.told_of_rows.items()}
        try:
            data = encode_payload({"parts": self.of_rows.told_of_data})
        except InvalidRequestError:
            data = b""
        return replace(inputs, data=digest(data), environment={**inputs.environment, **varying})

    def without_secrets(self, text: str) -> str:
        """The text without the secrets of all rows."""
        redactor = redactor_for(self.base.secrets)
        return text if redactor is None else redactor.text(text)

    def evaluated(self, source_name: str, progress: OnProgress) -> EvaluationResult:
        """Run the code for each row; what was done, if that is interrupted.

        Args:
            source_name: what tracebacks call the code.
            progress: called with how far it is.

        Raises:
            OptionError: an option is wrong for every row.
        """
        options, of_rows = self.options, self.of_rows
        given: EvaluateOptions = {
            "data": of_rows.data,
            "jobs": options.jobs,
            "per": of_rows.field("per"),
            "key": of_rows.field("key"),
            "cluster": of_rows.field("cluster"),
            "repeat": options.repeat or 1,
            "limit": options.limit,
            "sample": options.sample,
            "retries": options.retries or 0,
            "retry_on": options.retry_on,
            "rate": options.rate,
            "fail_on_error": options.fail_on_error,
            "checkpoint": of_rows.checkpoint,
            "checkpoint_mode": options.checkpoint_mode,
            "timeout_secs": options.timeout,
            "payload_type": options.payload_type,
            "secrets": of_rows.secrets,
            "inherit_env": not options.clean_env,
            "source_name": source_name,
            "data_name": options.row,
            "fresh": options.fresh,
            "limits": options.limits,
            "strict": options.strict,
            "packages": self.needs.packages,
            "python": self.needs.python,
        }
        rows, env_vars = self.rows.source, of_rows.env_vars
        try:
            result = self.executor.evaluate(self.code, rows, env_vars=env_vars, progress=progress, **given)
        except EvaluationInterrupted as interrupted:
            result = interrupted.result
        except InvalidRequestError as problem:
            raise OptionError(str(problem)) from None
        self.rows.are_taken()
        return result


def problem_of_compiling(code: str | Path) -> str:
    """The name of the exception that compiling the code raises; empty if it is code, or cannot be read."""
    try:
        text = code if isinstance(code, str) else code.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the run has them, too
            compile(text, "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except OSError:
        return ""
    except Exception as problem:  # noqa: BLE001 - whatever the compiler raises
        return type(problem).__name__
    return ""


def without_rows(options: Options) -> Options:
    """The options for one run without a row."""
    return replace(options, each=None, env=(), secret=(), env_file=(), data=(), compare=False)


def with_hints(
    result: EvaluationResult,
    batch: Batch,
    body: str | None,
    names: Mapping[str, object],
    hidden: Mapping[str, object],
) -> EvaluationResult:
    """The result with hints in the errors of its rows, as the errors of single runs have them."""
    options, hide = batch.options, batch.without_secrets
    known: dict[RunError, RunError] = {}  # many rows fail in the same way, and share one error

    def explained(row: RowResult) -> RowResult:
        if row.error is None:
            return row
        if row.error not in known:
            hinted = hints.with_hint(row.error, body, names, hidden, options.row)
            known[row.error] = hints.with_hint_about_data(
                hinted, row.row, options, data_is_row=batch.of_rows.data_is_row
            )
        error: RunError | None = known[row.error]
        if row.error.kind is ErrorKind.NO_RESULT:
            run = RunResult(
                error=error, stdout=row.stdout, stderr=row.stderr, notes=row.notes, displays=row.displays
            )
            error = hints.as_meant(run, options, body, hide).error
            error = None if error is None else known.setdefault(error, error)
        return replace(row, error=error)

    return replace(result, rows=tuple(map(explained, result.rows))) if result.failures else result
