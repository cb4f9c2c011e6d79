"""What a terminal shows in the end of text that goes back and writes over itself, as progress bars do."""

from __future__ import annotations

import re

# Text, line ends, and what moves the cursor; of the other escape sequences, colours stay.
_PIECE = re.compile(r"[\r\n\b]|\x1b\[([\d;:]*)([A-Za-z])|\x1b\][^\x1b\x07]*(?:\x1b\\|\x07)|[^\r\n\b\x1b]+|\x1b")
GOES_BACK = re.compile(r"\r(?!\n)|\x08|\x1b\[\d*[ABCDFGJK]")
MOST_ABOVE = 100  # lines that a bar can be drawn in, from the last one upwards


def settled(text: str) -> str:
    """The text without what it has written over, and with colours."""
    if not GOES_BACK.search(text):
        return text
    terminal = Terminal()
    terminal.feed(text)
    return terminal.text()


class Terminal:
    """Takes in text, and has what is seen of it."""

    def __init__(self) -> None:
        self._above: list[str] = []  # lines that the cursor does not reach any more
        self._lines: list[list[str]] = [[]]  # characters, each with the colours that change before it
        self._row = self._column = 0
        self._colors = ""  # that changed since the last character

    def feed(self, text: str) -> None:
        """Take in what follows."""
        for match in _PIECE.finditer(text.replace("\r\n", "\n")):
            piece, command = match[0], match[2]
            if command == "m":
                self._colors += piece
                continue
            if command is not None or piece in "\r\n\b":
                self._end_colors()
            if command is not None:
                self._move(command, int(match[1]) if match[1].isdecimal() else None)
            elif piece == "\n":
                self._next_line()
            elif piece == "\r":
                self._column = 0
            elif piece == "\b":
                self._column = max(self._column - 1, 0)
            elif piece[0] != "\x1b":
                self._write(piece)

    def text(self) -> str:
        """What is seen; the last line has no end if it had none."""
        lines = [*self._above, *map(_joined, self._lines)]
        return "\n".join(lines) + self._colors

    def _write(self, text: str) -> None:
        line = self._lines[self._row]
        line += " " * (self._column - len(line))
        written = list(text)
        written[0] = self._colors + written[0]
        self._colors = ""
        line[self._column : self._column + len(written)] = written
        self._column += len(written)

    def _end_colors(self) -> None:
        """Colours that change after a character, and not before another one, go with it."""
        line = self._lines[self._row]
        if self._colors and 0 < self._column <= len(line):
            line[self._column - 1] += self._colors
            self._colors = ""

    def _next_line(self) -> None:
        self._row, self._column = self._row + 1, 0
        if self._row == len(self._lines):
            self._lines.append([])
        while len(self._lines) > MOST_ABOVE:
            self._above.append(_joined(self._lines.pop(0)))
            self._row -= 1

    def _move(self, command: str, count: int | None) -> None:
        line, steps = self._lines[self._row], count or 1
        if command in "AF":
            self._row = max(self._row - steps, 0)
        elif command == "B":
            self._row = min(self._row + steps, len(self._lines) - 1)
        elif command == "C":
            self._column += min(steps, 1000)
        elif command == "D":
            self._column = max(self._column - steps, 0)
        elif command == "G":
            self._column = min(steps, 1000) - 1
        elif command == "K" and not count:
            del line[self._column :]
        elif command == "K":
            line[:] = [] if count == 2 else [" "] * min(self._column, len(line)) + line[self._column :]
        elif command == "J" and not count:
            del line[self._column :], self._lines[self._row + 1 :]
        if command == "F":
            self._column = 0


def _joined(line: list[str]) -> str:
    return "".join(line).rstrip(" ") if line and line[-1] == " " else "".join(line)
