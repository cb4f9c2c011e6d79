"""What a run prints, written to the cell as it comes."""

from __future__ import annotations

import sys

from isolated_magic.render.terminal import GOES_BACK, Terminal

NAMES = ("stdout", "stderr")


class Streams:
    """Stdout and stderr of the cell that runs.

    A front end that is watched draws progress bars itself, and saves what is left of them. Where nobody is
    watching, each of the frames would be saved: so a line that is written over is held back to the end, with what
    follows it, and written once.

    Args:
        is_watched: somebody may be looking.
    """

    def __init__(self, *, is_watched: bool) -> None:
        self._is_watched = is_watched
        self._unfinished = dict.fromkeys(NAMES, "")  # the last line of each, so far
        self._terminals: dict[str, Terminal] = {}  # of those that have gone back
        self._has_written = False  # what is not sent yet; a kernel takes 0.2 ms to send nothing

    def write(self, name: str, text: str) -> None:
        """Write output of a run to the cell; the name is ``"stdout"`` or ``"stderr"``."""
        if self._is_watched:
            self._write(name, text)
        elif name in self._terminals:
            self._terminals[name].feed(text)
        else:
            self._write_lines(name, text)

    def _write_lines(self, name: str, text: str) -> None:
        text = self._unfinished[name] + text
        going_back = GOES_BACK.search(text)
        line_start = text.rfind("\n", 0, None if going_back is None else going_back.start()) + 1
        self._write(name, text[:line_start])
        self._unfinished[name] = text[line_start:]
        if going_back is not None:
            self._terminals[name] = terminal = Terminal()
            terminal.feed(self._unfinished[name])
            self._unfinished[name] = ""

    def _write(self, name: str, text: str) -> None:
        if text:
            self._has_written = True
            write(name, text)

    def flush(self) -> None:
        """Send what was written, stdout first, so that what follows is shown after it."""
        for name in NAMES:
            self._write(name, self._unfinished[name])
            self._unfinished[name] = ""
        if self._has_written:
            self._has_written = False
            flush()

    def end(self) -> None:
        """Nothing more will be written: send everything."""
        for name, terminal in self._terminals.items():
            self._unfinished[name] = terminal.text()
        self._terminals.clear()
        self.flush()


def write(name: str, text: str) -> None:
    """Write text to a stream of the cell.

    A kernel collects what is written for a fifth of a second and sends it as one message, as it does for
    ordinary output. Flushing here would make a message, and in a saved notebook an output, of every chunk that
    happened to arrive by itself.
    """
    if text:
        file = sys.stdout if name == "stdout" else sys.stderr
        file.write(text)
        if file.isatty():
            file.flush()


def flush() -> None:
    """Send what was written to the cell, stdout first, so that what follows is shown after it."""
    sys.stdout.flush()
    sys.stderr.flush()
