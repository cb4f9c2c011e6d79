"""``%%isolated`` and ``%isolated``: parse the line, run, show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

from isolated_magic import interrupts
from isolated_magic.errors import InvalidRequestError, OptionError, RunFailedError, RunInterrupted
from isolated_magic.executors import registry
from isolated_magic.executors.isolated import IsolatedSubprocessExecutor
from isolated_magic.magic import display, options
from isolated_magic.magic.commands import Commands
from isolated_magic.magic.namespace import Namespace, expanded
from isolated_magic.models import ErrorKind
from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of

if TYPE_CHECKING:
    from typing import TypeAlias

    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult, InteractiveShell

    from isolated_magic.environment import EnvValue
    from isolated_magic.executors.background import BackgroundRun
    from isolated_magic.limits import Limits
    from isolated_magic.magic.options import Options
    from isolated_magic.models import RunError, RunResult

    _Inputs: TypeAlias = tuple[str | Path, object, dict[str, EnvValue], float | None, str | None]

_FIRST_LINE = re.compile(r"%%isolated(\s|$)")
_ALL_OURS = re.compile(r"\s*(%%isolated\b|%isolated\b[^\n]*\s*\Z)")
CELL_NAME = "<cell>"  # what tracebacks call a cell: the same on every run, unlike the number of its prompt

_Value = TypeVar("_Value")


class _Settings(TypedDict):
    inherit_env: bool
    source_name: str
    fresh: bool
    limits: Limits


@magics_class
class IsolatedMagics(Magics):
    """The magics of one shell, and the executor behind them.

    Args:
        shell: an IPython shell.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell)
        self._shell = shell
        self.executor = IsolatedSubprocessExecutor()
        self._commands = Commands(self.executor, shell.user_ns)

    @no_var_expand
    @line_cell_magic
    def isolated(  # noqa: D102 - set below
        self, line: str, cell: str | None = None
    ) -> RunResult | BackgroundRun | None:
        try:
            with interrupts.without_traceback():
                said = self._commands.obey(line) if cell is None else None
                if said is None:
                    return self._obey(options.parse(line), cell)
                print(said)  # noqa: T201 - what the user asked for
        except KeyboardInterrupt:
            raise RunInterrupted from None
        return None

    isolated.__doc__ = f"{options.help_text()}"

    def _obey(self, chosen: Options, cell: str | None) -> RunResult | BackgroundRun | None:
        if chosen.wants_help:
            print(options.help_text())  # noqa: T201 - what the user asked for
            return None
        if chosen.in_background:
            return self._kept(chosen, self._start(chosen, cell))
        try:
            result = self._run(chosen, cell)
        finally:
            display.flush()
        self._kept(chosen, result)
        if result.error is not None and chosen.raises:
            raise _exception_for(result, result.error)
        return result

    def _kept(self, chosen: Options, value: _Value) -> _Value:
        """The value, in the variable that the user wants it in, too."""
        if chosen.out is not None:
            self._shell.user_ns[chosen.out] = value
        return value

    def _run(self, chosen: Options, cell: str | None) -> RunResult:
        return self.executor.run(*self._inputs(chosen, cell), **_settings(chosen), on_output=display.stream)

    def _start(self, chosen: Options, cell: str | None) -> BackgroundRun:
        label = chosen.out or (Path(chosen.file).name if chosen.file else "cell")
        try:
            return self.executor.start(*self._inputs(chosen, cell), **_settings(chosen), label=label)
        except InvalidRequestError as problem:
            raise OptionError(str(problem)) from None

    def _inputs(self, chosen: Options, cell: str | None) -> _Inputs:
        names = Namespace(self._shell.user_ns)
        environment = names.environment(chosen)
        return _code(chosen, cell), names.data(chosen), environment, chosen.timeout_secs, chosen.payload_type


def _settings(chosen: Options) -> _Settings:
    return {
        "inherit_env": chosen.inherits_env,
        "source_name": CELL_NAME,
        "fresh": chosen.fresh,
        "limits": chosen.limits,
    }


def _exception_for(result: RunResult, error: RunError) -> BaseException:
    if error.kind is ErrorKind.INVALID_REQUEST:
        return OptionError(error.text)
    if error.kind is ErrorKind.INTERRUPTED:  # from another thread: the cell ends as with the stop button
        return RunInterrupted()
    return RunFailedError(result, to_text(view_of(result)))


def _code(chosen: Options, cell: str | None) -> str | Path:
    if chosen.file is not None:
        return expanded(chosen.file)
    if cell is None:
        raise OptionError(
            "There is nothing to run: write the code below %%isolated, or name a file with --file PATH. "
            "`%isolated --help` shows the options."
        )
    # The magic's own line counts as line 1, so that the line numbers of errors match the cell. And text of
    # more than one line is never taken for a path.
    return f"\n{cell}"


def without_body(lines: list[str]) -> list[str]:
    """Turn ``%%isolated`` without a body into ``%isolated``.

    IPython would refuse it before we are asked, with an error that nbval and papermill pass over.

    Args:
        lines: of a cell.
    """
    _on_cell_text("".join(lines))  # the first that we hear of it
    if lines and _FIRST_LINE.match(lines[0]) and not any(line.strip() for line in lines[1:]):
        return [lines[0].removeprefix("%")]
    return lines


def _on_cell(info: ExecutionInfo) -> None:
    _on_cell_text(info.raw_cell or "")


def _on_cell_text(text: str) -> None:
    if _ALL_OURS.match(text):
        interrupts.announce()
    else:
        interrupts.retract()


def _after_cell(_result: ExecutionResult) -> None:
    interrupts.retract()


def load(shell: InteractiveShell) -> None:
    """Register the magics, once, and have the kernel's end tear down what they started.

    Args:
        shell: an IPython shell.
    """
    if _registered(shell) is not None:
        return
    shell.register_magics(IsolatedMagics(shell))
    display.register(shell)
    registry.handle_termination()
    shell.input_transformers_cleanup.append(without_body)
    shell.events.register("pre_run_cell", _on_cell)
    shell.events.register("post_run_cell", _after_cell)


def unload(shell: InteractiveShell) -> None:
    """Take the magics away and stop what they started.

    Args:
        shell: the shell they were registered with.
    """
    magics = _registered(shell)
    if magics is None:
        return
    magics.executor.teardown()
    display.unregister(shell)
    registry.leave_termination()
    shell.input_transformers_cleanup.remove(without_body)
    shell.events.unregister("pre_run_cell", _on_cell)
    shell.events.unregister("post_run_cell", _after_cell)
    for kind in ("line", "cell"):
        shell.magics_manager.magics[kind].pop("isolated", None)
    shell.magics_manager.registry.pop(IsolatedMagics.__name__, None)


def _registered(shell: InteractiveShell) -> IsolatedMagics | None:
    magics = shell.magics_manager.registry.get(IsolatedMagics.__name__)
    return magics if isinstance(magics, IsolatedMagics) else None
