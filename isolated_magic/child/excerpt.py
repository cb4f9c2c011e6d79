"""The lines around a place in source code, the place marked: as IPython shows them, and numbered like the cell."""

from __future__ import annotations

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

LINES_AROUND = 2
LONGEST_LINE = 200  # characters; of a line that is longer, the owner hides the half of a secret at its end
TAB_COLUMNS = 4
ARROW = "---->"
CELL = "<cell>"  # what a cell's code is called (see magic/magics.py)


class Place:
    """A place in a source.

    Args:
        line: its number, from 1.
        function: that it is in; empty for none.
        columns: where in the line it begins and ends, in characters from 0; None for all of the line.
    """

    def __init__(self, line: int, function: str = "", columns: tuple[int, int] | None = None) -> None:
        self.line = line
        self.function = "" if function == "<module>" else function
        self.columns = columns


def place_of(problem: BaseException, filename: str, lines: Sequence[str]) -> Place | None:
    """Where an exception was raised: in the innermost frame of this source; None when it was in none.

    Args:
        problem: what was raised.
        filename: of the source.
        lines: of the source.
    """
    if isinstance(problem, SyntaxError) and problem.filename == filename and problem.lineno:
        return Place(problem.lineno, columns=_columns_of_syntax(problem))
    trace, innermost = problem.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            innermost = trace
        trace = trace.tb_next
    if innermost is None:
        return None
    code = innermost.tb_frame.f_code
    return Place(innermost.tb_lineno, code.co_name, _columns_of_call(innermost, lines))


def _columns_of_syntax(problem: SyntaxError) -> tuple[int, int] | None:
    start, end = problem.offset or 0, problem.end_offset or 0
    if start <= 0:
        return None
    is_on_one_line = problem.end_lineno in {None, problem.lineno}
    return start - 1, end - 1 if is_on_one_line and end > start else start


def _columns_of_call(trace: TracebackType, lines: Sequence[str]) -> tuple[int, int] | None:
    positions = list(trace.tb_frame.f_code.co_positions())
    line, last_line, start, end = positions[trace.tb_lasti // 2]  # two bytes an instruction
    if line != last_line or line is None or start is None or end is None or line > len(lines):
        return None
    raw = lines[line - 1].encode("utf-8", "replace")  # the compiler counts bytes
    return len(raw[:start].decode("utf-8", "replace")), len(raw[:end].decode("utf-8", "replace"))


def around(lines: Sequence[str], place: Place, filename: str) -> str:
    """A heading, and the lines around a place.

    Args:
        lines: of the source.
        place: in it.
        filename: of the source.

    Returns:
        Empty text when the source has no such line.
    """
    number = place.line
    if not 1 <= number <= len(lines):
        return ""
    first, last = max(1, number - LINES_AROUND), min(len(lines), number + LINES_AROUND)
    while first < number and not lines[first - 1].strip():  # a cell's first line is the magic's own
        first += 1
    while last > number and not lines[last - 1].strip():
        last -= 1
    within = f", in {place.function}" if place.function else ""
    shown = [f"{'Cell' if filename == CELL else filename}, line {number}{within}"]
    for here in range(first, last + 1):
        margin = f"{ARROW if here == number else ' ' * len(ARROW)} {here:>{len(str(last))}} "
        text = lines[here - 1].rstrip().expandtabs(TAB_COLUMNS)
        shown.append(f"{margin}{text[:LONGEST_LINE]}".rstrip())
        if here == number and place.columns is not None:
            shown += _marks(lines[here - 1], place.columns, len(margin))
    return "\n".join(shown)


def _marks(line: str, columns: tuple[int, int], margin: int) -> list[str]:
    """A line of marks under the place, none when it is all of the line."""
    start, end = (len(line[:column].expandtabs(TAB_COLUMNS)) for column in columns)
    text = line.rstrip().expandtabs(TAB_COLUMNS)
    is_all = not text[:start].strip() and not text[end:].strip()
    end = min(end, LONGEST_LINE)
    return [] if is_all or start >= end else [" " * (margin + start) + "^" * (end - start)]
