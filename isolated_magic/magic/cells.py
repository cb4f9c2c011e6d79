"""What IPython tells of the cell that runs, and what it does with the value of a magic."""

from __future__ import annotations

import dis
import re
import sys
import threading
from enum import Enum
from typing import TYPE_CHECKING

from IPython.core.interactiveshell import InteractiveShell

from isolated_magic.executors import sigint

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import ExecutionInfo, ExecutionResult

_FIRST_LINE = re.compile(r"%%isolated(\s|$)")
_OUR_CELL = re.compile(r"\s*%%isolated\b")
_ASSIGNMENT = re.compile(r"\s*[^\W\d]\w*\s*=\s*%isolated\b[^\n]*\s*")
_ALL_OURS = re.compile(r"\s*(%%isolated\b|%isolated\b[^\n]*\s*\Z)")


class Cells:
    """Follows the cells of one shell."""

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._current = threading.local()  # a subshell runs its cells in a thread of its own
        self._callbacks: dict[str, Callable[..., None]] = {
            "pre_run_cell": self._before,
            "post_run_cell": self._after,
        }

    @property
    def current_id(self) -> str | None:
        """The id that the front end gave the cell magic that runs in this thread, None without one.

        None in a cell of Python that calls the magic, too: it may do so for many bodies.
        """
        return getattr(self._current, "id", None)

    @property
    def current_prompt(self) -> str:
        """What the user sees beside that cell, such as ``In [7]``."""
        return f"In [{self._shell.displayhook.prompt_count}]"

    @property
    def is_foreign(self) -> bool:
        """Whether a cell runs in this thread that holds more than our magic, such as a loop around it."""
        return getattr(self._current, "is_foreign", False)

    def register(self) -> None:
        """Subscribe to the shell."""
        self._shell.input_transformers_cleanup.append(without_body)
        for event, callback in self._callbacks.items():
            self._shell.events.register(event, callback)

    def unregister(self) -> None:
        """Undo :meth:`register`."""
        self._shell.input_transformers_cleanup.remove(without_body)
        for event, callback in self._callbacks.items():
            self._shell.events.unregister(event, callback)
        sigint.end_cell()

    def _before(self, info: ExecutionInfo) -> None:
        text = info.raw_cell or ""
        self._current.id = getattr(info, "cell_id", None) if _OUR_CELL.match(text) else None
        self._current.is_foreign = not (_ALL_OURS.match(text) or _ASSIGNMENT.fullmatch(text))
        _announce(text)

    def _after(self, _result: ExecutionResult) -> None:
        self._current.id = None
        self._current.is_foreign = False
        # A kernel puts its own handler in place when the request is over (ipykernel/kernelbase.py,
        # post_handler_hook). Until then IPython is at work, and would show the cell if it were interrupted there.
        if not hasattr(self._shell, "kernel"):
            sigint.end_cell()


def without_body(lines: list[str]) -> list[str]:
    """Turn ``%%isolated`` without a body into ``%isolated``.

    IPython would refuse it before we are asked, with an error that nbval and papermill pass over.
    """
    _announce("".join(lines))  # the first that we hear of it
    if lines and _FIRST_LINE.match(lines[0]) and not "".join(lines[1:]).strip():
        return [lines[0].removeprefix("%")]
    return lines


# IPython leaves such a transform out where it only asks whether a cell is complete. In a terminal, a cell magic is
# complete when an empty line ends it; a line magic, which this would make of its first line, is so at once.
without_body.has_side_effects = True  # type: ignore[attr-defined]  # how IPython has it said


def _announce(text: str) -> None:
    if _ALL_OURS.match(text):
        sigint.begin_cell()
    else:
        sigint.end_cell()


class Fate(Enum):
    """What the code that called a magic does with its value."""

    DROPPED = "dropped"  # a statement of its own, in a loop or a function or before the last one of a cell
    SHOWN = "shown"  # the last expression of a cell, which IPython shows
    KEPT = "kept"  # assigned, returned or handed on


_CALLS_OF_MAGICS = {InteractiveShell.run_line_magic.__code__, InteractiveShell.run_cell_magic.__code__}
_PRINTS = {"PRINT_EXPR", "CALL_INTRINSIC_1"}  # in Python 3.11, and since; the other intrinsics follow no call


def fate_of_value() -> Fate:
    """What becomes of the value of the magic that runs in this thread.

    IPython shows the last expression of a cell alone, and tells no magic whether it is that. The instruction that
    follows the call does.
    """
    frame = sys._getframe(1)
    while frame.f_code not in _CALLS_OF_MAGICS:
        if frame.f_back is None:
            return Fate.KEPT
        frame = frame.f_back
    caller = frame.f_back
    if caller is None:
        return Fate.KEPT
    instructions, offset = caller.f_code.co_code, caller.f_lasti + 2
    while offset < len(instructions) and dis.opname[instructions[offset]] == "CACHE":
        offset += 2
    name = dis.opname[instructions[offset]] if offset < len(instructions) else ""
    if name in _PRINTS:
        return Fate.SHOWN
    return Fate.DROPPED if name == "POP_TOP" else Fate.KEPT
