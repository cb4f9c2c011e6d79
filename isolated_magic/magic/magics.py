"""``%%isolated`` and ``%isolated``: parse the line, run, show. And how a shell loads and unloads them."""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from IPython.display import display as display_now

from isolated_magic.errors import InvalidRequestError, OptionError, RunInterrupted
from isolated_magic.evaluation.progress import INTERRUPTED as INTERRUPTED_EVALUATION
from isolated_magic.evaluation.result import EvaluationInterrupted, EvaluationResult
from isolated_magic.executors import lifecycle, sigint
from isolated_magic.executors.background import BackgroundRun
from isolated_magic.executors.runner import failed_run
from isolated_magic.history import UNNAMED, History, Inputs, differences
from isolated_magic.magic import batches, credentials, display, each, hints, packages, source
from isolated_magic.magic.cells import Cells, Fate, fate_of_value
from isolated_magic.magic.commands import Commands
from isolated_magic.magic.completion import Completion
from isolated_magic.magic.executors import Executors
from isolated_magic.magic.figures import figure_settings
from isolated_magic.magic.kinds import ROW_FILES
from isolated_magic.magic.parser import help_text, parse
from isolated_magic.magic.row_options import RowOptions
from isolated_magic.magic.screen import Screen
from isolated_magic.magic.settings import settings_of
from isolated_magic.magic.values import Resolver
from isolated_magic.models import ErrorKind, RunError, RunFailedError, RunResult
from isolated_magic.redaction.redactor import redactor_for
from isolated_magic.sanitize import warn

if TYPE_CHECKING:
    from pathlib import Path

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Bunch

    from isolated_magic.environment import EnvValue
    from isolated_magic.executors.base import Executor
    from isolated_magic.history import CellKey
    from isolated_magic.magic.options import Options
    from isolated_magic.magic.settings import IsolatedMagic
    from isolated_magic.request import RunRequest


CELL_NAME = "<cell>"  # what tracebacks call a cell: the same on every run, unlike the number of its prompt
INTERRUPTED = "The run was stopped before it ended."
NOTHING_STARTED = "Stopped before anything was started."

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _CellRun:
    """A run, with what the history and the explanations of its errors need to know of its cell."""

    request: RunRequest
    called_at: float  # time.monotonic()
    options: Options
    body: str | None  # None for a file
    key: CellKey
    prompt: str
    name: str
    inputs: Inputs

    def without_secrets(self, text: str) -> str:
        """The text with the secrets of the run hidden."""
        return _without_secrets(self.request, text)


@magics_class
class IsolatedMagics(Magics):
    """The magics of one shell, and the executors behind them."""

    def __init__(self, shell: InteractiveShell, settings: IsolatedMagic) -> None:
        super().__init__(shell)
        self._shell = shell
        self.settings = settings
        self.executors = Executors(settings)
        self.history = History()
        self.cells = Cells(shell)
        self.display = display.Display(shell, settings)
        self._asked = credentials.AskedSecrets()
        self._lock = threading.Lock()
        self._batches = batches.Batches()
        self._first_rows = each.FirstRows()
        self._commands = Commands(self.executors, shell, lambda: self.history, self._asked)
        self.completion = Completion(shell)
        settings.observe(self._configure, list(settings.launch_settings))

    def _configure(self, _change: Bunch) -> None:
        self.executors.configure()

    @no_var_expand
    @needs_local_scope
    @line_cell_magic
    def isolated(  # noqa: D102 - set below
        self, line: str, cell: str | None = None, local_ns: dict[str, object] | None = None
    ) -> RunResult | EvaluationResult | BackgroundRun | History | None:
        names = self._shell.user_ns
        if local_ns is not None and local_ns is not names:  # the magic stands in a function
            names = {**names, **local_ns}
        is_silent = False
        if cell is None:  # IPython looks for a semicolon behind the call it made of the line
            line = line.rstrip()
            is_silent = line.endswith(";")
            line = line.removesuffix(";")
        try:
            with sigint.without_traceback():
                answer = self._commands.obey(line) if cell is None else None
                value = self._run_line(line, cell, names) if answer is None else answer
                if isinstance(value, str):
                    print(value)  # noqa: T201 - what the user asked for
                    return None
                return self._shown(value, is_silent=is_silent)
        except RunInterrupted:
            raise
        except KeyboardInterrupt:
            raise RunInterrupted from None
        finally:
            self.display.end_progress()

    isolated.__doc__ = f"{help_text()}"

    def _shown(self, value: _Value, *, is_silent: bool) -> _Value | None:
        """The value for IPython to show; displayed here where IPython would not, as in a loop."""
        fate = fate_of_value()
        if value is None or fate is Fate.KEPT:
            return value
        if is_silent or self.display.is_empty(value):
            return None
        shows_values = self._shell.ast_node_interactivity != "none"
        if shows_values and self.display.takes_place(value, is_shown_again=fate is Fate.SHOWN):
            return value
        if fate is Fate.DROPPED and shows_values:
            display_now(value)  # type: ignore[no-untyped-call]  # IPython has no types here
        return value

    def _run_line(
        self, line: str, body: str | None, names: dict[str, object]
    ) -> RunResult | EvaluationResult | BackgroundRun | str | None:
        """Run what the line and the body of a cell say; a text is to be printed."""
        line = line if body is not None else source.without_run(line)
        options = parse(line, self.settings.defaults, is_cell=body is not None)
        if options.help:
            return help_text()
        executor = self.executors.executor_for(options, names, self._shell.user_ns_hidden)
        packages.check_saving(options, body)
        to_save = source.saving(options.save, body) if options.save is not None and body is not None else None
        result: RunResult | BackgroundRun | EvaluationResult | None = None
        if options.each is not None:
            code = source.code_of(options, body)
            if options.is_python and (problem := each.problem_of_compiling(code)):
                # One run says why, and not as many as there are rows. On a worker it fails alike.
                runs_here = self.executors.isolated if options.on is not None else executor
                result = self._broken(runs_here, each.without_rows(options), body, names, problem)
            if result is None:
                result = self._evaluate(executor, code, options, body, names)
        else:
            result = self._run_once(executor, options, body, names)
        if options.out is not None:
            self._shell.user_ns[options.out] = result
        if isinstance(result, BackgroundRun):
            return result
        if isinstance(result, EvaluationResult):
            if result.stopped == INTERRUPTED_EVALUATION and self.cells.is_foreign:
                raise EvaluationInterrupted(result)  # a loop goes no further, for example
            if to_save is not None:
                why_not = "" if any(row.ok for row in result) else "no row was scored"
                to_save = to_save.with_block(packages.block_to_save(options, body or "", executor))
                print(to_save.after(why_not))  # noqa: T201 - what the user asked for
            return result
        if to_save is not None:
            to_save = to_save.with_block(packages.block_to_save(options, body or "", executor))
            print(to_save.after("" if result.ok else "the run failed"))  # noqa: T201 - likewise
        if result.error is not None and options.raises:
            raise self._exception_for(result, result.error)
        return result

    def _run_once(
        self, executor: Executor, options: Options, body: str | None, names: dict[str, object]
    ) -> RunResult | BackgroundRun:
        earlier = self._earlier_result(options.compare) if isinstance(options.compare, str) else None
        try:
            run = self._prepared(executor, options, body, names)
        except InvalidRequestError as problem:
            if options.bg:
                raise OptionError(str(problem)) from None
            return failed_run(problem)
        return self._start(executor, run) if options.bg else self._run(executor, run, earlier)

    def _broken(
        self, executor: Executor, options: Options, body: str | None, names: dict[str, object], problem: str
    ) -> RunResult | None:
        """The failed run of code that does not compile; None where it does, in the Python of a container."""
        result = self._run_once(executor, options, body, names)
        if not isinstance(result, RunResult) or result.error is None:
            return None
        return result if result.error.summary.startswith(problem) else None

    def _evaluate(
        self,
        executor: Executor,
        code: str | Path,
        options: Options,
        body: str | None,
        names: dict[str, object],
    ) -> EvaluationResult:
        """Run the code for each row of the line. Interrupted, that is a result, too: what was done until then."""
        assert options.each is not None  # noqa: S101 - others do not come here
        called_at = time.monotonic()
        patterns, hidden = self.settings.secret_names, self._shell.user_ns_hidden
        credentials.warn_of_literals(options, patterns)
        named = options.compare if isinstance(options.compare, str) else None
        earlier = None if named is None else batches.earlier_evaluation(named, self._shell.user_ns)
        rows = each.Rows(options.each, names, hidden, self._first_rows)
        of_rows = RowOptions(options, rows.first, names, hidden, self._ask, patterns)
        if not of_rows.depends_on_row:
            warn(each.ALL_THE_SAME.format(row=options.row))
        try:
            needs = packages.install(options, code, executor, self.display)
        except InvalidRequestError as problem:
            raise OptionError(str(problem)) from None
        batch = each.Batch(executor, code, options, rows, of_rows, needs)
        inputs = batch.inputs  # before the first row, while the code is what it is
        result = batch.evaluated(CELL_NAME, self.display.progress_line())
        if options.out is not None:  # before anything else: it may have taken hours
            self._shell.user_ns[options.out] = result
        with suppress(KeyboardInterrupt), sigint.HeldBack(lambda: None):  # there is nothing left to interrupt
            result = each.with_hints(result, batch, body, names, hidden)
            result = replace(result, label=source.label_of(options) or "")
            key = source.key_of(options, body, self.cells.current_id)
            if options.compare:
                result = self._batches.compared(result, options, key, inputs, earlier)
            self._batches.remember(result, options, key, inputs)
            name, prompt = source.name_of(options, body, batch.without_secrets), self.cells.current_prompt
            means, ms = batches.mean_scores(result), (time.monotonic() - called_at) * 1000
            with self._lock:
                listed = self.history.with_evaluation(name, prompt, key, means, batches.told(result), inputs, ms)
                self.history = listed
        return result

    def _prepared(
        self, executor: Executor, options: Options, body: str | None, names: dict[str, object]
    ) -> _CellRun:
        """The run that the line asks for: its environment, secrets and data are looked up here, once.

        Raises:
            OptionError: the line names something that is not there.
            InvalidRequestError: it cannot be run as given.
        """
        code = source.code_of(options, body)
        needs = packages.install(options, code, executor, self.display)
        called_at = time.monotonic()
        patterns = self.settings.secret_names
        credentials.warn_of_literals(options, patterns)
        resolver = Resolver(names, self._shell.user_ns_hidden)
        assignments = resolver.environment(options, self._ask)
        environment: dict[str, EnvValue] = {}
        for assignment in assignments:
            environment.update(assignment.values)
        request = executor.prepare(
            code,
            resolver.data(options),
            environment,
            options.timeout,
            options.payload_type,
            inherit_env=not options.clean_env,
            source_name=CELL_NAME,
            fresh=options.fresh,
            limits=options.limits,
            secrets=[*credentials.secrets_on_line(options, assignments, patterns, names), *patterns],
            strict=options.strict,
            data_name=source.data_name(options),
            figures=figure_settings(self._shell, colors=options.rich and self.display.shows_colors),
            packages=needs.packages,
            python=needs.python,
        )
        return _CellRun(
            request=request,
            called_at=called_at,
            options=options,
            body=body,
            key=source.key_of(options, body, self.cells.current_id),
            prompt=self.cells.current_prompt,
            name=source.name_of(options, body, partial(_without_secrets, request)),
            inputs=Inputs.of(request),
        )

    def _ask(self, name: str) -> str:
        try:
            return self._asked.value(name)
        except KeyboardInterrupt:
            if sys.stdin is not None and sys.stdin.isatty():
                sys.stderr.write("\n")  # the prompt is a line without an end
            raise RunInterrupted(NOTHING_STARTED) from None

    def _earlier_result(self, name: str) -> RunResult:
        """The result of this name, for --compare."""
        earlier = self._shell.user_ns.get(name)
        if isinstance(earlier, BackgroundRun):
            earlier = earlier.peek()
            if earlier is None:
                raise OptionError(f"--compare {name}: {name} is still running: {name}.result() waits for it.")
        if isinstance(earlier, EvaluationResult) or name.endswith(ROW_FILES):
            raise OptionError(
                f"--compare {name}: {name} is an evaluation of rows, and this is one run: add --each, or give a "
                "result that one run kept with -o."
            )
        if not isinstance(earlier, RunResult):
            found = (
                f"it is {type(earlier).__name__}" if name in self._shell.user_ns else "there is no such variable"
            )
            raise OptionError(
                f"--compare {name}: {found}: give a result that an earlier cell kept with -o {name}."
            )
        if not earlier.scores:
            found = "is a failed run and" if earlier.error is not None else "is a result that"
            raise OptionError(f"--compare {name}: {name} {found} has no scores to compare with.")
        return earlier

    def _run(self, executor: Executor, run: _CellRun, earlier: RunResult | None) -> RunResult:
        screen = Screen(self._shell, is_rich=run.options.rich)
        try:
            result = executor.run_request(
                run.request, on_output=screen.stream, on_display=screen.display, called_at=run.called_at
            )
            if result.error is not None:
                result, printed = self._explained(run, result)
                screen.stream("stdout", printed)
        except KeyboardInterrupt:
            self._remember(run, RunResult(error=RunError.from_text(ErrorKind.INTERRUPTED, INTERRUPTED)))
            raise
        finally:
            screen.end()
        result = replace(result, score_label=source.score_label_of(run.options))
        if run.options.compare and result.ok:
            result = self._compared(run, result, earlier)
        self._remember(run, result)
        return result

    def _compared(self, run: _CellRun, result: RunResult, earlier: RunResult | None) -> RunResult:
        before = self.history.run_with_scores(run.key) if earlier is None else self.history.run_of(earlier)
        scores = earlier.scores if earlier is not None else before.scores if before is not None else ()
        # A setting holds for first runs too, which have nothing to be told of.
        compared_with = scores if scores or run.options.asks_to_compare else None
        return replace(result, compared_with=compared_with, differs_in=differences(run.inputs, before))

    def _explained(self, run: _CellRun, result: RunResult) -> tuple[RunResult, str]:
        """The failed result with hints, or as a success if no score was missed; and the value to print then."""
        if result.error is not None:
            error = hints.with_hint(result.error, run.body, self._shell.user_ns, self._shell.user_ns_hidden)
            result = replace(result, error=error)
        meant = hints.as_meant(result, run.options, run.body, run.without_secrets)
        # With anything displayed, the value is displayed too.
        tells_value = result.error is not None and meant.ok and not result.displays
        value = result.error.found_repr if result.error is not None and tells_value else ""
        return meant, f"{value}\n" if value else ""

    def _explained_in_background(self, run: _CellRun, result: RunResult) -> RunResult:
        result = replace(result, score_label=source.score_label_of(run.options))
        if result.error is None:
            return result
        result, printed = self._explained(run, result)
        return replace(result, stdout=result.stdout + printed)

    def _start(self, executor: Executor, run: _CellRun) -> BackgroundRun:
        label = source.label_of(run.options) or UNNAMED
        handle = executor.start_request(run.request, label=label, called_at=run.called_at)
        handle.amend(partial(self._explained_in_background, run))
        handle.add_done_callback(partial(self._remember, run))
        handle.add_done_callback(partial(self._commands.ended, label))
        self.display.begun(handle, is_rich=run.options.rich)
        return handle

    def _remember(self, run: _CellRun, result: RunResult) -> None:
        if result.error is not None and result.error.kind is ErrorKind.INVALID_REQUEST:
            return
        with self._lock:  # a run in the background ends in a thread of its own
            self.history = self.history.with_result(run.name, run.prompt, run.key, result, run.inputs)

    def _exception_for(self, result: RunResult, error: RunError) -> BaseException:
        if error.kind is ErrorKind.INVALID_REQUEST:
            return OptionError(error.text)
        if error.kind is ErrorKind.INTERRUPTED:  # from another thread: the cell ends as with the stop button
            return RunInterrupted()
        return RunFailedError(result, *self.display.error_texts(result))


def _without_secrets(request: RunRequest, text: str) -> str:
    redactor = redactor_for(request.secrets)
    return text if redactor is None else redactor.text(text)


def load(shell: InteractiveShell) -> None:
    """``%load_ext isolated_magic``: register the magics, once, and tear down what they started with the kernel.

    Raises:
        SettingError: a setting in the profile or in ``pyproject.toml`` is invalid.
    """
    if _registered(shell) is not None:
        return
    magics = IsolatedMagics(shell, settings_of(shell))
    shell.register_magics(magics)
    shell.configurables.append(magics.settings)  # type: ignore[arg-type]  # its list is typed as of shells
    magics.display.register()
    magics.cells.register()
    magics.completion.register()
    lifecycle.handle_termination()
    magics.executors.start_ahead()


def unload(shell: InteractiveShell) -> None:
    """``%unload_ext isolated_magic``: take the magics away and stop what they started."""
    magics = _registered(shell)
    if magics is None:
        return
    magics.executors.teardown()
    lifecycle.leave_termination()
    magics.completion.unregister()
    magics.cells.unregister()
    magics.display.unregister()
    # IPython puts the magics there by itself, and has no way to take them out.
    ours = {id(magics), id(magics.settings)}
    shell.configurables[:] = [one for one in shell.configurables if id(one) not in ours]
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("isolated", None)
    shell.magics_manager.registry.pop(IsolatedMagics.__name__, None)


def _registered(shell: InteractiveShell) -> IsolatedMagics | None:
    magics = shell.magics_manager.registry.get(IsolatedMagics.__name__)
    return magics if isinstance(magics, IsolatedMagics) else None
