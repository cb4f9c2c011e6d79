"""Hands results to IPython's formatters, and live output to the cell."""

from __future__ import annotations

import math
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from isolated_magic.models import RunResult
from isolated_magic.render.html import to_html
from isolated_magic.render.markdown import to_markdown
from isolated_magic.render.text import to_text
from isolated_magic.render.view import view_of
from isolated_magic.text import printable_json

if TYPE_CHECKING:
    from IPython.core.formatters import BaseFormatter
    from IPython.core.interactiveshell import InteractiveShell

METADATA_KEY = "isolated_magic"  # of the result's own JSON
RUN_METADATA_KEY = "isolated_magic_run"  # of what differs from run to run, and so never stands in the output


def bundle(result: RunResult) -> tuple[dict[str, str], dict[str, object]]:
    """What IPython shows of a result, by MIME type, and the metadata beside it.

    Args:
        result: of a run.
    """
    view = view_of(result)
    shown = {"text/plain": to_text(view), "text/html": to_html(view), "text/markdown": to_markdown(view)}
    run = {"pid": result.pid, "launch": result.launch, "exit_status": result.exit_status, **_timings(result)}
    # The payload goes into the metadata: as application/json it would hide the HTML in JupyterLab and VS Code.
    try:
        return shown, {METADATA_KEY: printable_json(result.to_dict()), RUN_METADATA_KEY: run}
    except RecursionError:
        return shown, {RUN_METADATA_KEY: run}


def _timings(result: RunResult) -> dict[str, float | None]:
    """In milliseconds; None for what did not happen."""
    return {name: None if math.isnan(ms) else round(ms, 3) for name, ms in asdict(result.timings).items()}


def register(shell: InteractiveShell) -> None:
    """Have the shell show results.

    Args:
        shell: an IPython shell.
    """
    _formatter(shell).for_type(RunResult, bundle)  # type: ignore[no-untyped-call]  # IPython has no types here


def unregister(shell: InteractiveShell) -> None:
    """Undo :func:`register`.

    Args:
        shell: the same shell.
    """
    _formatter(shell).pop(RunResult, None)  # type: ignore[no-untyped-call]  # likewise


def _formatter(shell: InteractiveShell) -> BaseFormatter:
    formatter: BaseFormatter = shell.display_formatter.mimebundle_formatter  # type: ignore[union-attr]  # always made
    return formatter


def stream(name: str, text: str) -> None:
    """Write output of a run to the cell.

    A kernel collects what is written for a fifth of a second and sends it as one message, as it does for
    ordinary output. Flushing here would make a message, and in a saved notebook an output, of every chunk that
    happened to arrive by itself.

    Args:
        name: ``"stdout"`` or ``"stderr"``.
        text: what to write.
    """
    file = sys.stdout if name == "stdout" else sys.stderr
    file.write(text)
    if file.isatty():
        file.flush()


def flush() -> None:
    """Have the cell show what was written, stdout first, so that what comes next comes after it."""
    sys.stdout.flush()
    sys.stderr.flush()
