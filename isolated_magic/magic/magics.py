"""``%%isolated`` and ``%isolated``: parse the line, run, show."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypedDict, TypeVar

from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from IPython.display import display as display_now

from isolated_magic.environment import environment_for_run
from isolated_magic.errors import InvalidRequestError, OptionError, RunInterrupted
from isolated_magic.executors import sigint
from isolated_magic.executors.background import BackgroundRun
from isolated_magic.history import UNNAMED, CellKey, History, Inputs, differences
from isolated_magic.magic import credentials, display, no_score
from isolated_magic.magic.cells import Cells, Fate, fate_of_value
from isolated_magic.magic.commands import Commands
from isolated_magic.magic.completion import Completion
from isolated_magic.magic.display import with_hint
from isolated_magic.magic.executors import Strategies
from isolated_magic.magic.parser import help_text, parse
from isolated_magic.magic.source import code_of, data_name, key_of, label_of, name_of, saving, without_run
from isolated_magic.magic.values import Namespace
from isolated_magic.models import ErrorKind, RunError, RunFailedError, RunResult
from isolated_magic.redaction.redactor import redactor_for, secret_values

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import TypeAlias

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Bunch

    from isolated_magic.environment import EnvValue
    from isolated_magic.limits import Limits
    from isolated_magic.magic.options import Options
    from isolated_magic.magic.settings import IsolatedMagic
    from isolated_magic.request import RunRequest

    _Inputs: TypeAlias = tuple[str | Path, object, dict[str, EnvValue], float | None, str | None]

CELL_NAME = "<cell>"  # what tracebacks call a cell: the same on every run, unlike the number of its prompt
INTERRUPTED = "The run was stopped before it ended."
NOTHING_STARTED = "Stopped before anything was started."

_Value = TypeVar("_Value")


class _Settings(TypedDict):
    inherit_env: bool
    source_name: str
    fresh: bool
    limits: Limits
    secrets: list[str]
    strict: bool
    data_name: str


class _Given:
    """What a run was given, as soon as that is known."""

    inputs: Inputs | None = None

    def take(self, request: RunRequest) -> None:
        self.inputs = Inputs.of(request)


@magics_class
class IsolatedMagics(Magics):
    """The magics of one shell, and the executors behind them.

    Args:
        shell: an IPython shell.
        settings: of the shell.
    """

    def __init__(self, shell: InteractiveShell, settings: IsolatedMagic) -> None:
        super().__init__(shell)
        self._shell = shell
        self.settings = settings
        self.strategies = Strategies(settings)
        self.history = History()
        self.cells = Cells(shell)
        self.display = display.Display(shell, settings)
        self._asked = credentials.Asked()
        self._lock = threading.Lock()
        self._commands = Commands(self.strategies, shell, lambda: self.history, self._asked)
        self.completion = Completion(shell)
        settings.observe(self._configure, list(settings.launch_settings))

    def _configure(self, _change: Bunch) -> None:
        self.strategies.configure()

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def isolated(  # noqa: D102 - set below
        self, line: str, cell: str | None = None, local_ns: dict[str, object] | None = None
    ) -> RunResult | BackgroundRun | History | None:
        names = self._shell.user_ns
        if local_ns is not None and local_ns is not names:  # the magic stands in a function
            names = {**names, **local_ns}
        words = line.rstrip() if cell is None else line
        try:
            with sigint.without_traceback():
                value = self._value_of(words.removesuffix(";") if cell is None else words, cell, names)
                return self._shown(value, is_silent=cell is None and words.endswith(";"))
        except RunInterrupted:
            raise
        except KeyboardInterrupt:
            raise RunInterrupted from None

    isolated.__doc__ = f"{help_text()}"

    def _value_of(
        self, line: str, cell: str | None, names: dict[str, object]
    ) -> RunResult | BackgroundRun | History | None:
        answer = self._commands.obey(line) if cell is None else None
        if answer is None:
            is_cell = cell is not None
            chosen = parse(line if is_cell else without_run(line), self.settings.defaults, is_cell=is_cell)
            return self._obey(chosen, cell, names)
        if isinstance(answer, History):
            return answer
        print(answer)  # noqa: T201 - what the user asked for
        return None

    def _shown(self, value: _Value, *, is_silent: bool) -> _Value | None:
        """The value for IPython to show; shown here where IPython would not, as in a loop."""
        fate = fate_of_value()
        if value is None or fate is Fate.KEPT:
            return value
        if is_silent or self.display.is_empty(
            value
        ):  # IPython looks for a semicolon behind the call it made of it
            return None
        if fate is Fate.DROPPED and self._shell.ast_node_interactivity != "none":
            display_now(value)  # type: ignore[no-untyped-call]  # IPython has no types here
        return value

    def _obey(
        self, chosen: Options, cell: str | None, names: dict[str, object]
    ) -> RunResult | BackgroundRun | None:
        if chosen.help:
            print(help_text())  # noqa: T201 - what the user asked for
            return None
        credentials.warn_of_literals(chosen, self.settings.secret_names)
        inputs, settings = self._inputs(chosen, cell, names)
        kept = self._kept_result(chosen)
        to_save = saving(chosen, cell)
        if chosen.bg:
            return self._kept(chosen, self._start(chosen, cell, inputs, settings))
        result = self._run(chosen, cell, inputs, settings, kept)
        self._kept(chosen, result)
        if to_save is not None:
            print(to_save.after(is_ok=result.ok))  # noqa: T201 - likewise
        if result.error is not None and chosen.raises:
            raise self._exception_for(result, result.error)
        return result

    def _inputs(self, chosen: Options, cell: str | None, names: dict[str, object]) -> tuple[_Inputs, _Settings]:
        namespace, patterns = Namespace(names, self._shell.user_ns_hidden), self.settings.secret_names
        assigned = namespace.environment(chosen, self._ask)
        environment = {name: value for one in assigned for name, value in one.values.items()}
        code, data = code_of(chosen, cell), namespace.data(chosen)
        secrets = [
            *credentials.secret_names(assigned, patterns),
            *credentials.source_values(chosen, patterns, names),
            *patterns,
        ]
        settings = self._run_settings(chosen, secrets)
        return (code, data, environment, chosen.timeout, chosen.payload_type), settings

    def _ask(self, name: str) -> str:
        try:
            return self._asked.value(name)
        except KeyboardInterrupt:
            if sys.stdin is not None and sys.stdin.isatty():
                sys.stderr.write("\n")  # the prompt is a line without an end
            raise RunInterrupted(NOTHING_STARTED) from None

    def _kept_result(self, chosen: Options) -> RunResult | None:
        """The result that the line names to compare with, None when it names none."""
        name = chosen.compared_with
        if name is None:
            return None
        kept = self._shell.user_ns.get(name)
        if isinstance(kept, BackgroundRun):
            kept = kept.peek()
            if kept is None:
                raise OptionError(f"--compare {name}: {name} is still running: {name}.result() waits for it.")
        if not isinstance(kept, RunResult):
            found = f"it is {type(kept).__name__}" if name in self._shell.user_ns else "there is no such variable"
            raise OptionError(
                f"--compare {name}: {found}: give a result that an earlier cell kept with -o {name}."
            )
        if not kept.scores:
            found = "is a failed run and" if kept.error is not None else "is a result that"
            raise OptionError(f"--compare {name}: {name} {found} has no scores to compare with.")
        return kept

    def _kept(self, chosen: Options, value: _Value) -> _Value:
        """The value, in the variable that the user wants it in, too."""
        if chosen.out is not None:
            self._shell.user_ns[chosen.out] = value
        return value

    def _run(
        self,
        chosen: Options,
        cell: str | None,
        inputs: _Inputs,
        settings: _Settings,
        kept: RunResult | None,
    ) -> RunResult:
        key = key_of(chosen, cell, self.cells.current_id)
        hide = _hiding(inputs, settings)
        name = name_of(chosen, cell, hide)
        prompt, given = self.cells.current_prompt, _Given()
        try:
            executor = self.strategies.executor_for(chosen)
            result = executor.run(*inputs, **settings, on_output=display.stream, on_request=given.take)
            result, looked_at = self._as_meant(chosen, cell, hide, result)
            display.stream("stdout", looked_at)
        except KeyboardInterrupt:
            stopped = RunResult(error=RunError.of(ErrorKind.INTERRUPTED, INTERRUPTED))
            self._remember(name, prompt, key, given, stopped)
            raise
        finally:
            display.flush()
        if chosen.compare and result.ok:
            result = self._compared(result, key, given, kept, asks=chosen.asks_to_compare)
        self._remember(name, prompt, key, given, result)
        return result

    def _compared(
        self, result: RunResult, key: CellKey, given: _Given, kept: RunResult | None, *, asks: bool
    ) -> RunResult:
        earlier = self.history.run_with_scores(key) if kept is None else self.history.run_of(kept)
        scores = kept.scores if kept is not None else earlier.scores if earlier is not None else ()
        # A setting holds for first runs too, which have nothing to be told of.
        compared_with = scores if scores or asks else None
        return replace(result, compared_with=compared_with, differs_in=differences(given.inputs, earlier))

    def _as_meant(
        self, chosen: Options, cell: str | None, hide: Callable[[str], str], result: RunResult
    ) -> tuple[RunResult, str]:
        """The result with hints, or without an error where no score is missed; and the value to show then."""
        result = with_hint(result, cell, self._shell.user_ns, self._shell.user_ns_hidden)
        meant = no_score.as_meant(result, chosen, cell, hide)
        value = result.error.found_repr if result.error is not None and meant.ok else ""
        return meant, f"{value}\n" if value else ""

    def _as_meant_in_background(
        self, chosen: Options, cell: str | None, hide: Callable[[str], str], result: RunResult
    ) -> RunResult:
        meant, looked_at = self._as_meant(chosen, cell, hide, result)
        return replace(meant, stdout=meant.stdout + looked_at)

    def _start(self, chosen: Options, cell: str | None, inputs: _Inputs, settings: _Settings) -> BackgroundRun:
        key, prompt = key_of(chosen, cell, self.cells.current_id), self.cells.current_prompt
        hide, given = _hiding(inputs, settings), _Given()
        name = name_of(chosen, cell, hide)
        label = label_of(chosen) or UNNAMED
        try:
            executor = self.strategies.executor_for(chosen)
            run = executor.start(*inputs, **settings, label=label, on_request=given.take)
        except InvalidRequestError as problem:
            raise OptionError(str(problem)) from None
        run.amend(partial(self._as_meant_in_background, chosen, cell, hide))
        run.add_done_callback(partial(self._remember, name, prompt, key, given))
        run.add_done_callback(partial(self._commands.ended, run.label))
        self.display.begun(run)
        return run

    def _run_settings(self, chosen: Options, secrets: list[str]) -> _Settings:
        return {
            "inherit_env": not chosen.clean_env,
            "source_name": CELL_NAME,
            "fresh": chosen.fresh,
            "strict": chosen.strict,
            "data_name": data_name(chosen),
            "limits": chosen.limits,
            "secrets": secrets,
        }

    def _remember(self, name: str, prompt: str, key: CellKey, given: _Given, result: RunResult) -> None:
        if result.error is None or result.error.kind is not ErrorKind.INVALID_REQUEST:
            with self._lock:  # a run in the background ends in a thread of its own
                self.history = self.history.with_result(name, prompt, key, result, given.inputs)

    def _exception_for(self, result: RunResult, error: RunError) -> BaseException:
        if error.kind is ErrorKind.INVALID_REQUEST:
            return OptionError(error.text)
        if error.kind is ErrorKind.INTERRUPTED:  # from another thread: the cell ends as with the stop button
            return RunInterrupted()
        return RunFailedError(result, *self.display.error_texts(result))


def _hiding(inputs: _Inputs, settings: _Settings) -> Callable[[str], str]:
    """What hides the secrets of a run: its code may begin with one of them."""
    try:
        environment = environment_for_run(inputs[2], inherit=settings["inherit_env"])
    except InvalidRequestError:  # as the run will say
        return str
    redactor = redactor_for(secret_values(environment, settings["secrets"]))
    return redactor.text if redactor is not None else str
