"""Hands results to IPython's formatters, and live output to the cell."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import weakref
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, cast

from isolated_magic.evaluation.compare import Comparison
from isolated_magic.evaluation.comparison_report import view_of_comparison
from isolated_magic.evaluation.groups import Groups
from isolated_magic.evaluation.groups_report import view_of_groups
from isolated_magic.evaluation.report import view_of_evaluation
from isolated_magic.evaluation.result import EvaluationResult
from isolated_magic.evaluation.row_report import view_of_row
from isolated_magic.evaluation.row_result import RowResult
from isolated_magic.executors.background import BackgroundRun
from isolated_magic.executors.progress import use_in_notebooks
from isolated_magic.history import History
from isolated_magic.magic.progress import InstallLine, ProgressLine, is_captured
from isolated_magic.magic.screen import Screen, bundle_of_display
from isolated_magic.models import DisplayData, RunResult
from isolated_magic.render.html import to_html
from isolated_magic.render.markdown import to_markdown
from isolated_magic.render.text import COLORS, ERROR_COLORS, NO_COLORS, to_text
from isolated_magic.render.view import MOST_ROWS, view_of, view_of_background, view_of_history
from isolated_magic.sanitize import printable_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from IPython.core.formatters import BaseFormatter
    from IPython.core.interactiveshell import ExecutionResult, InteractiveShell
    from IPython.lib.pretty import PrettyPrinter

    from isolated_magic.magic.settings import IsolatedMagic
    from isolated_magic.render.blocks import View
    from isolated_magic.strict_json import JsonObject

    Shown: TypeAlias = (
        RunResult | BackgroundRun | History | EvaluationResult | Comparison | Groups[EvaluationResult] | RowResult
    )
    Bundle: TypeAlias = tuple[dict[str, str], dict[str, object]]


METADATA_KEY = "isolated_magic"  # of the result's own JSON
NOTES_METADATA_KEY = "isolated_magic_notes"  # what stands beside its scores
RUN_METADATA_KEY = "isolated_magic_run"  # of what differs from run to run, and so never stands in the output
KINDS = (RunResult, BackgroundRun, History, EvaluationResult, Comparison, Groups, RowResult)
LARGEST_METADATA = 1 << 20  # characters of JSON, which are saved with the notebook


class _Cell(threading.local):
    """What is shown of the cell that runs in this thread: subshells have threads of their own."""

    line: ProgressLine | None = None  # of the evaluation that runs, or has just ended
    displayed: object = None  # already, and not to be shown again as the value of the cell


class Display:
    """How one shell shows results, handles of runs, histories and evaluations."""

    def __init__(self, shell: InteractiveShell, settings: IsolatedMagic) -> None:
        self._shell = shell
        self._settings = settings
        self._begun: weakref.WeakSet[BackgroundRun] = weakref.WeakSet()  # in the cell that runs
        self._as_text: weakref.WeakSet[BackgroundRun] = weakref.WeakSet()  # what they display is shown as text
        self._cell = _Cell()

    def begun(self, run: BackgroundRun, *, is_rich: bool = True) -> None:
        """Show the run as running in this cell, until the user has seen its end.

        It may end before it is shown, or after, and what is saved of the cell has to be the same.

        Args:
            run: the run.
            is_rich: what it displays is shown in its other forms than text, too.
        """
        self._begun.add(run)
        if not is_rich:
            self._as_text.add(run)

    def _after_cell(self, _result: ExecutionResult) -> None:
        self._begun.clear()
        self._cell.displayed = None

    def progress_line(self) -> ProgressLine:
        """A new line for the progress of an evaluation; its result takes the place of the line."""
        self.end_progress()
        self._cell.line = line = ProgressLine(self._shell, self._settings)
        return line

    def install_line(self) -> InstallLine:
        """A line for what is being installed."""
        return InstallLine(self._shell, self._settings)

    def end_progress(self) -> None:
        """Take away the line, unless a result has taken its place."""
        line, self._cell.line = self._cell.line, None
        if line is not None:
            line.end()

    def takes_place(self, value: object, *, is_shown_again: bool) -> bool:
        """Display an evaluation in the place of its line; False for what is displayed as anything else.

        It is displayed in the same way where there was no line: what is saved must not depend on its speed.

        Args:
            value: the value of a magic.
            is_shown_again: IPython will show it as the value of the cell, which is left out then.
        """
        if not (isinstance(value, EvaluationResult) and self._is_kernel()) or is_captured(self._shell):
            return False
        if is_shown_again and self._shell.displayhook.quiet():  # type: ignore[no-untyped-call]  # likewise
            return False
        line, self._cell.line = self._cell.line or ProgressLine(self._shell, self._settings), None
        line.become(*self._bundle(value))
        if is_shown_again:
            self._cell.displayed = value
        return True

    def register(self) -> None:
        """Register the formatters with the shell."""
        self._shell.events.register("post_run_cell", self._after_cell)
        if self._is_kernel():
            use_in_notebooks(partial(ProgressLine, self._shell, self._settings))
        for kind in KINDS:
            self._rich.for_type(kind, self._bundle)  # type: ignore[no-untyped-call]  # IPython has no types here
            self._direct.for_type(kind, self._show_in_terminal)  # type: ignore[no-untyped-call]  # likewise
        self._rich.for_type(DisplayData, bundle_of_display)  # type: ignore[no-untyped-call]  # likewise
        self._text.for_type(DisplayData, _print_display)  # type: ignore[no-untyped-call]  # likewise

    def unregister(self) -> None:
        """Undo :meth:`register`."""
        self._shell.events.unregister("post_run_cell", self._after_cell)
        use_in_notebooks(None)
        for kind in KINDS:
            self._rich.pop(kind, None)  # type: ignore[no-untyped-call]  # likewise
            self._direct.pop(kind, None)  # type: ignore[no-untyped-call]  # likewise
        self._rich.pop(DisplayData, None)  # type: ignore[no-untyped-call]  # likewise
        self._text.pop(DisplayData, None)  # type: ignore[no-untyped-call]  # likewise

    def is_empty(self, value: object) -> bool:
        """Whether there is nothing to see: a result without scores that was to have none."""
        return isinstance(value, RunResult) and value.payload is None and not view_of(value)

    def error_texts(self, result: RunResult) -> tuple[str, str]:
        """What is shown of a failed run: without colours, and with those that can be seen now.

        A front end of a kernel shows colours in a traceback, where IPython has its own, but not in other text.
        """
        view = view_of(result)
        plain = to_text(view, wraps=True)
        return plain, to_text(view, ERROR_COLORS, wraps=True) if self._has_color_in_errors() else plain

    @property
    def _rich(self) -> BaseFormatter:
        formatter: BaseFormatter = self._shell.display_formatter.mimebundle_formatter  # type: ignore[union-attr]  # always made
        return formatter

    @property
    def _text(self) -> BaseFormatter:
        formatter: BaseFormatter = self._shell.display_formatter.formatters["text/plain"]  # type: ignore[union-attr]  # likewise
        return formatter

    @property
    def _direct(self) -> BaseFormatter:
        formatter: BaseFormatter = self._shell.display_formatter.ipython_display_formatter  # type: ignore[union-attr]  # likewise
        return formatter

    def _bundle(self, shown: Shown) -> Bundle:
        return bundle(
            shown,
            self._settings.most_scores,
            has_run_metadata=self._settings.run_metadata,
            is_just_begun=self._is_just_begun(shown),
        )

    def _ended_with_displays(self, run: BackgroundRun) -> RunResult | None:
        result = None if self._is_just_begun(run) else run.peek()
        return result if result is not None and result.displays else None

    def _is_just_begun(self, shown: Shown) -> bool:
        return isinstance(shown, BackgroundRun) and shown in self._begun and not shown.end_was_seen

    def _show_in_terminal(self, shown: Shown) -> None:
        """Print it as a terminal shows it, in colour and with times, and leave what IPython keeps without them.

        Before a run in the background that has displayed something, that is shown in order with its output.
        """
        if shown is self._cell.displayed:
            self._cell.displayed = None
            return
        if isinstance(shown, BackgroundRun) and (result := self._ended_with_displays(shown)) is not None:
            Screen(self._shell, is_rich=shown not in self._as_text).replay(result)
        has_color = self._has_color()
        if not has_color and not (isinstance(shown, (History, EvaluationResult)) and self._is_terminal()):
            raise NotImplementedError  # IPython then formats it as anything else
        is_just_begun, hook = self._is_just_begun(shown), self._shell.displayhook
        view = _view_of(shown, self._settings.most_scores, is_just_begun=is_just_begun)
        seen = _view_with_times(shown, view)
        text = to_text(seen, COLORS if has_color else NO_COLORS)
        sys.stdout.write(f"\n{text}\n" if "\n" in text else f"{text}\n")  # as IPython does, below its prompt
        if getattr(hook, "is_active", True):  # not what display() was called with (IPython 9)
            hook.log_output({"text/plain": to_text(view)})  # type: ignore[no-untyped-call]  # likewise

    @property
    def shows_colors(self) -> bool:
        """Whether colours in what is printed now are seen: notebooks show those of a terminal."""
        return hasattr(self._shell, "kernel") or self._has_color()

    def _has_color(self) -> bool:
        """Whether what is printed now is seen in a terminal that shows colour, and saved nowhere."""
        return self._is_terminal() and self._wants_color() and os.environ.get("TERM") != "dumb"

    def _has_color_in_errors(self) -> bool:
        return self._has_color() or (self._is_kernel() and self._wants_color())

    def _is_kernel(self) -> bool:
        return hasattr(self._shell, "kernel")

    def _is_terminal(self) -> bool:
        return not self._is_kernel() and sys.stdout.isatty()

    def _wants_color(self) -> bool:
        return str(self._shell.colors).lower() != "nocolor" and "NO_COLOR" not in os.environ  # no-color.org


def bundle(
    shown: Shown, most_scores: int = MOST_ROWS, *, has_run_metadata: bool = True, is_just_begun: bool = False
) -> Bundle:
    """What IPython shows, by MIME type, and the metadata beside it.

    Args:
        shown: a result, the handle of a run, or a history.
        most_scores: those beyond this many are folded.
        has_run_metadata: the metadata of a result include what differs from run to run.
        is_just_begun: a handle is shown as running, even if it has ended.
    """
    view = _view_of(shown, most_scores, is_just_begun=is_just_begun)
    formats = {"text/plain": to_text(view), "text/html": to_html(view), "text/markdown": to_markdown(view)}
    if isinstance(shown, (History, Comparison, Groups)) or is_just_begun:
        return formats, {}
    if isinstance(shown, RowResult):
        return formats, {RUN_METADATA_KEY: {"worker": shown.worker}} if has_run_metadata and shown.worker else {}
    if isinstance(shown, EvaluationResult):
        return formats, _evaluation_metadata(shown, has_run_metadata=has_run_metadata)
    metadata: dict[str, object] = {}
    if isinstance(shown, RunResult) and has_run_metadata:
        metadata[RUN_METADATA_KEY] = _run_metadata(shown)
    result = shown.peek() if isinstance(shown, BackgroundRun) else shown
    if result is not None:
        metadata.update(_result_metadata(result))
    return formats, metadata


def _print_display(shown: DisplayData, printer: PrettyPrinter, _is_cycle: object) -> None:
    printer.text(shown.text)  # type: ignore[no-untyped-call]  # IPython has no types here


def _result_metadata(result: RunResult) -> dict[str, object]:
    metadata: dict[str, object] = {NOTES_METADATA_KEY: list(result.notes)} if result.notes else {}
    return metadata | _json_metadata(result.to_dict, "result.to_dict()")


def _evaluation_metadata(result: EvaluationResult, *, has_run_metadata: bool) -> dict[str, object]:
    """The summary, and beside it what differs from run to run."""
    summary = cast("JsonObject", {**result.summary})
    slowest = summary.pop("slowest", [])
    metadata: dict[str, object] = {NOTES_METADATA_KEY: list(result.notes)} if result.notes else {}
    metadata |= _json_metadata(lambda: summary, "result.summary")
    if has_run_metadata:
        resumed = sum(row.is_resumed for row in result.rows)
        workers = Counter(row.worker for row in result.rows if row.worker is not None and not row.is_resumed)
        told: JsonObject = {"slowest": slowest, "resumed": resumed}
        if workers:
            told["workers"] = {**workers}
        metadata[RUN_METADATA_KEY] = printable_json(told)
    return metadata


def _json_metadata(content: Callable[[], JsonObject], where: str) -> dict[str, object]:
    # It goes into the metadata: as application/json it would hide the HTML in JupyterLab and VS Code.
    try:
        payload = printable_json(content())
        size = len(json.dumps(payload))
    except RecursionError:
        return {}
    left_out: JsonObject = {"left_out": f"{size:,} characters of JSON: {where} has them"}
    return {METADATA_KEY: payload if size <= LARGEST_METADATA else left_out}


def _view_of(shown: Shown, most_scores: int, *, is_just_begun: bool) -> View:
    if isinstance(shown, BackgroundRun):
        result = shown.peek()
        has_output = result is None or not result.displays  # otherwise it stands before, with its displays
        return view_of_background(shown, most_scores, is_just_begun=is_just_begun, has_output=has_output)
    if isinstance(shown, EvaluationResult):
        return view_of_evaluation(shown)
    if isinstance(shown, Comparison):
        return view_of_comparison(shown)
    if isinstance(shown, RowResult):
        return view_of_row(shown)
    if isinstance(shown, Groups):
        return view_of_groups(shown)
    return view_of_history(shown) if isinstance(shown, History) else view_of(shown, most_scores)


def _view_with_times(shown: Shown, view: View) -> View:
    """The view with what differs from run to run, for a terminal, of which nothing is saved."""
    if isinstance(shown, EvaluationResult):
        return view_of_evaluation(shown, has_times=True)
    return view_of_history(shown, datetime.now(UTC)) if isinstance(shown, History) else view


def _run_metadata(result: RunResult) -> dict[str, object]:
    metadata: dict[str, object] = {"pid": result.pid, "launch": result.launch, "exit_status": result.exit_status}
    metadata["peak_memory_bytes"] = result.peak_memory_bytes
    if result.worker is not None:
        metadata["worker"] = result.worker
    if result.packages:
        metadata["packages"] = {**result.packages}
    for name, ms in asdict(result.timings).items():
        metadata[name] = None if math.isnan(ms) else round(ms, 3)
    return metadata
