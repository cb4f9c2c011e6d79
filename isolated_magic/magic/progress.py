"""The line that tells how far an evaluation is, in a notebook or a terminal, and becomes its summary."""

from __future__ import annotations

import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from IPython.core.displaypub import CapturingDisplayPublisher

from isolated_magic.errors import OptionError
from isolated_magic.executors.progress import BEGINS_AFTER_SECS, Pacing, TerminalProgress, progress_text
from isolated_magic.magic.screen import is_watched
from isolated_magic.render.html import progress_html

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from isolated_magic.evaluation.progress import Progress
    from isolated_magic.magic.settings import IsolatedMagic

VARIABLE = "ISOLATED_MAGIC_PROGRESS"
MODES = {"auto": "auto", "on": "on", "1": "on", "true": "on", "yes": "on"} | dict.fromkeys(
    ("off", "0", "false", "no"), "off"
)


class ProgressLine:
    """The line of one evaluation.

    Front ends that are told to change a display keep it in its place: the summary takes the place of the line, and
    a saved notebook has no trace of it. Where nobody watches there is no line: programs that run notebooks compare
    or keep what a cell sends (nbval fails on a display that changes).

    Args:
        shell: whose cell it is shown in.
        settings: of the magic.

    Raises:
        OptionError: the environment variable that switches it is invalid.
    """

    def __init__(self, shell: InteractiveShell, settings: IsolatedMagic) -> None:
        self._shell = shell
        self._pacing = Pacing()
        self._display_id = ""  # of the line, while there is one
        is_kernel, is_wanted = hasattr(shell, "kernel"), _is_wanted(shell, str(settings.progress))
        self._is_display = is_kernel and is_wanted
        self._terminal = TerminalProgress() if is_wanted and not is_kernel else None

    def __call__(self, progress: Progress) -> None:
        """Show it, if it is time for that."""
        if self._terminal is not None:
            self._terminal(progress)
        elif self._is_display and self._pacing.is_due(progress):
            text = progress_text(progress, self._pacing.rows_per_sec)
            share = progress.done / progress.total if progress.total else None
            self._publish({"text/plain": text, "text/html": progress_html(text, share)}, {})

    def become(self, data: Mapping[str, str], metadata: Mapping[str, object]) -> None:
        """Show the summary: in the place of the line, if there is one."""
        if self._display_id and _keeps_places(self._shell):
            self._publish(data, metadata)
            self._display_id = ""
        else:
            self.end()
            self._shell.display_pub.publish({**data}, {**metadata})
        self._is_display = False

    def end(self) -> None:
        """Take the line away, unless it has become the summary."""
        if self._terminal is not None:
            self._terminal.end()
        elif self._display_id:
            self._publish({}, {})
            self._display_id = ""

    def _publish(self, data: Mapping[str, str], metadata: Mapping[str, object]) -> None:
        display_id = self._display_id or uuid4().hex
        self._shell.display_pub.publish(
            {**data}, {**metadata}, transient={"display_id": display_id}, update=bool(self._display_id)
        )
        # Not before: after an interrupt, the summary must not change a display that was never shown.
        self._display_id = display_id


class InstallLine:
    """The line that tells what is being installed, and is gone in the end.

    It is there where the line of an evaluation would be, and not before a second has passed.

    Args:
        shell: whose cell it is shown in.
        settings: of the magic.
    """

    def __init__(self, shell: InteractiveShell, settings: IsolatedMagic) -> None:
        self._shell = shell
        self._is_wanted = partial(_is_wanted, shell, str(settings.progress))
        self._begun_at = time.monotonic()
        self._said = self._display_id = ""

    def say(self, text: str) -> None:
        """Show this, if it is time for that."""
        if text == self._said or time.monotonic() - self._begun_at < BEGINS_AFTER_SECS or not self._is_wanted():
            return
        self._show(text)

    def _show(self, text: str) -> None:
        is_first, self._said = not self._said, text
        if not hasattr(self._shell, "kernel"):
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()
            return
        self._display_id = self._display_id or uuid4().hex
        data = {"text/plain": text, "text/html": progress_html(text, None)} if text else {}
        self._shell.display_pub.publish(data, {}, transient={"display_id": self._display_id}, update=not is_first)

    def end(self) -> None:
        """Take it away."""
        if self._said:
            self._show("")


def is_captured(shell: InteractiveShell) -> bool:
    """Whether what is displayed now is kept for later, as ``%%capture`` does."""
    return isinstance(shell.display_pub, CapturingDisplayPublisher)


def _is_wanted(shell: InteractiveShell, setting: str) -> bool:
    """Whether there is to be a line: the environment variable goes over the setting."""
    if is_captured(shell):
        return False
    text = os.environ.get(VARIABLE, "").strip().lower()
    if text and text not in MODES:
        raise OptionError(f"The environment variable {VARIABLE} is {text!r}: give auto, on or off.")
    mode = MODES[text] if text else setting
    if mode != "auto":
        return mode == "on"
    if os.environ.get("CI", "").strip().lower() not in {"", "0", "false"}:
        return False
    if hasattr(shell, "kernel"):
        return is_watched(shell)
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _keeps_places(shell: InteractiveShell) -> bool:
    """Whether the front end surely changes displays in their places: notebooks do, which tell the id of a cell.

    Consoles such as qtconsole leave a display as it was first.
    """
    ask: Callable[[], object] = getattr(shell, "get_parent", dict)
    parent = ask()
    metadata = parent.get("metadata") if isinstance(parent, dict) else None
    return isinstance(metadata, dict) and bool(metadata.get("cellId"))
