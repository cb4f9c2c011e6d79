"""An exception of the user's code, as its user should read it."""

from __future__ import annotations

import os
import sys

from . import program, stdlib
from .lengths import LONGEST_LINE, LONGEST_TEXT, SENT, shortened

HERE = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs the child 5 ms
CALLED_BY_CODE = f"{HERE}/stdin.py"


def describe(problem: BaseException, source: str | None, filename: str) -> dict[str, str]:
    """What RunError has of an exception, with the source lines and without our frames.

    Takes our frames off the exception itself, so that whoever looks at it afterwards does not see them either.

    Args:
        problem: what was raised.
        source: the text that ran, None when a file ran.
        filename: what its frames call it.
    """
    try:
        _strip(problem)
        return _described(problem, source, filename)
    except Exception:  # noqa: BLE001 - a chain too long, or an exception that cannot be printed: a line will do
        said = text_of(problem)
        name = type(problem).__name__
        line = shortened(f"{name}: {said}" if said else name, SENT * LONGEST_LINE)
        return {"text": line, "summary": line, "excerpt": "", "hint": ""}


def _described(problem: BaseException, source: str | None, filename: str) -> dict[str, str]:
    with stdlib.Imports():  # only an error has to pay for these
        import linecache  # noqa: PLC0415
        import traceback  # noqa: PLC0415
        from contextlib import suppress  # noqa: PLC0415

        from . import excerpt, hints  # noqa: PLC0415

    if source is not None:
        linecache.cache[filename] = program.cache_entry(source, filename)
    try:
        text = "".join(traceback.format_exception(problem)).rstrip("\n")
    except RecursionError:  # thousands of causes
        text = "".join(traceback.format_exception(problem, chain=False)).rstrip("\n")
    last = traceback.format_exception_only(problem)[-1 if isinstance(problem, SyntaxError) else 0]
    first_line = shortened(last.strip().split("\n", 1)[0], SENT * LONGEST_LINE)
    lines = linecache.getlines(filename)
    described = {"text": shortened(text, SENT * LONGEST_TEXT), "summary": first_line, "excerpt": "", "hint": ""}
    with suppress(Exception):  # a SyntaxError holds whatever the code put there
        place = excerpt.place_of(problem, filename, lines)
        if place:
            described["excerpt"] = excerpt.around(lines, place, filename)
            described["summary"] = f"{first_line} (line {place.line})"
    with suppress(Exception):  # likewise an ImportError
        described["hint"] = hints.about(problem)
    return described


def _strip(problem: BaseException) -> None:
    """Take our frames off this traceback and all that it is chained to: those at its head, and of stand-ins."""
    waiting: list[BaseException | None] = [problem]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        trace, before = current.__traceback__, None
        while trace is not None:
            filename = trace.tb_frame.f_code.co_filename
            if filename == CALLED_BY_CODE and before is not None:
                before.tb_next = trace.tb_next
            elif filename.startswith(HERE):
                current.__traceback__ = trace.tb_next  # with what stands before: asyncio's, for an async metric
            else:
                before = trace
            trace = trace.tb_next
        waiting += [current.__cause__, current.__context__]
        if isinstance(current, BaseExceptionGroup):
            waiting += current.exceptions


def call_users_excepthook(problem: BaseException) -> None:
    """Call what the code put in place of ``sys.excepthook``, as the interpreter would.

    Args:
        problem: what was raised.
    """
    if sys.excepthook is not sys.__excepthook__:
        try:
            sys.excepthook(type(problem), problem, problem.__traceback__)
        except BaseException:  # noqa: BLE001 - the hook is the user's; the exception itself is reported anyway
            return


def text_of(value: object) -> str:
    """``str(value)``, whatever its ``__str__`` does.

    Args:
        value: anything.
    """
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - the user's own
        return f"<{type(value).__name__} that cannot be printed>"


def repr_of(value: object) -> str:
    """``repr(value)``, whatever its ``__repr__`` does.

    Args:
        value: anything.
    """
    try:
        return repr(value)
    except Exception:  # noqa: BLE001 - the user's own
        return f"<{type(value).__name__} that cannot be shown>"
