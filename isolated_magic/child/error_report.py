"""An exception of the user's code, as its user should read it."""

from __future__ import annotations

import errno
import os
import sys

from . import code, modules
from .result import LONGEST_LINE, LONGEST_TEXT, SENT, elide_middle
from .wire import CONTAINER_FOLDER

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType


HERE = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs the child 5 ms
CALLED_BY_CODE = f"{HERE}/stdio.py"


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
        line = elide_middle(f"{name}: {said}" if said else name, SENT * LONGEST_LINE)
        return {"text": line, "summary": line, "excerpt": "", "hint": ""}


def _described(problem: BaseException, source: str | None, filename: str) -> dict[str, str]:
    with modules.StandardImports():  # only an error has to pay for these
        import linecache  # noqa: PLC0415
        import traceback  # noqa: PLC0415
        from contextlib import suppress  # noqa: PLC0415

    if source is not None:
        linecache.cache[filename] = code.cache_entry(source, filename)
    try:
        text = "".join(traceback.format_exception(problem)).rstrip("\n")
    except RecursionError:  # thousands of causes
        text = "".join(traceback.format_exception(problem, chain=False)).rstrip("\n")
    last = traceback.format_exception_only(problem)[-1 if isinstance(problem, SyntaxError) else 0]
    first_line = elide_middle(last.strip().split("\n", 1)[0], SENT * LONGEST_LINE)
    lines = linecache.getlines(filename)
    described = {"text": elide_middle(text, SENT * LONGEST_TEXT), "summary": first_line, "excerpt": "", "hint": ""}
    with suppress(Exception):  # a SyntaxError holds whatever the code put there
        place = place_of(problem, filename, lines)
        if place:
            described["excerpt"] = around(lines, place, filename)
            described["summary"] = f"{first_line} (line {place.line})"
    with suppress(Exception):  # likewise an ImportError
        described["hint"] = hint_for(problem)
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


LINES_AROUND = 2
LONGEST_CODE_LINE = 200  # characters; of a line that is longer, the owner hides the half of a secret at its end
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
        shown.append(f"{margin}{text[:LONGEST_CODE_LINE]}".rstrip())
        if here == number and place.columns is not None:
            shown += _marks(lines[here - 1], place.columns, len(margin))
    return "\n".join(shown)


def _marks(line: str, columns: tuple[int, int], margin: int) -> list[str]:
    """A line of marks under the place, none when it is all of the line."""
    start, end = (len(line[:column].expandtabs(TAB_COLUMNS)) for column in columns)
    text = line.rstrip().expandtabs(TAB_COLUMNS)
    is_all = not text[:start].strip() and not text[end:].strip()
    end = min(end, LONGEST_CODE_LINE)
    return [] if is_all or start >= end else [" " * (margin + start) + "^" * (end - start)]


# Modules whose packages have another name. Guessing it is how people install what somebody else put there.
PACKAGES = {
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "dotenv": "python-dotenv",
    "fitz": "PyMuPDF",
    "PIL": "pillow",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


# What notebooks import under names of their own, and by what line.
IMPORTS = {
    "np": "import numpy as np",
    "pd": "import pandas as pd",
    "pl": "import polars as pl",
    "plt": "import matplotlib.pyplot as plt",
    "mpl": "import matplotlib as mpl",
    "sns": "import seaborn as sns",
    "px": "import plotly.express as px",
    "nx": "import networkx as nx",
    "tf": "import tensorflow as tf",
    "jnp": "import jax.numpy as jnp",
    **{
        name: f"import {name}"
        for name in (
            "numpy",
            "pandas",
            "polars",
            "matplotlib",
            "scipy",
            "sklearn",
            "torch",
            "requests",
            "opik",
            "openai",
        )
    },
}
NO_DISPLAY = "display() is IPython's, and the run is plain Python: {remedy}."
NO_SHELL = (
    "get_ipython() is IPython's, and the run is plain Python in a process of its own: what needs the notebook "
    "belongs into a cell without %%isolated."
)


IN_CONTAINER = __file__.startswith(f"{CONTAINER_FOLDER}/")
OF_CONTAINERS = {
    errno.EROFS: "What can be written to is a setting of DockerExecutor: read_only, volumes. /tmp always can.",
    errno.ENOSPC: "How much room there is in /tmp is a setting of DockerExecutor: tmpfs_bytes.",
    errno.EMFILE: "How many files can be open at once is a setting of DockerExecutor: nofile.",
    errno.ENETUNREACH: "Whether there is a network is a setting of DockerExecutor: network (--allow-net).",
}
NO_THREAD = "can't start new thread"
THREADS = "How many processes and threads there can be at once is a setting of DockerExecutor: pids."


def hint_for(problem: BaseException) -> str:
    """What to do; empty text where there is nothing to say.

    Args:
        problem: what was raised.
    """
    if isinstance(problem, NameError):
        return _about_name(problem.name)
    if not isinstance(problem, ImportError):
        return _about_container(problem) if IN_CONTAINER else ""
    used = f"The run used {sys.executable} (Python {sys.version.split()[0]})"
    top = (problem.name or "").partition(".")[0]
    if not isinstance(problem, ModuleNotFoundError) or not top or top in sys.modules:
        version = getattr(sys.modules.get(top), "__version__", None)
        return f"{used}, with {top} {version}." if isinstance(version, str) else f"{used}."
    package = PACKAGES.get(top, top)
    if IN_CONTAINER:
        return f"{used} in a container, which has no module {top}. If it is a package, add {package} to the image."
    where = "the working directory" if sys.path[:1] == [""] else "the folder of the file that runs"
    return (
        f"{used}, which has no module {top}. If it is a package, install it there: {_command(package)} "
        f"(in a notebook: %pip install {package}). A file of yours is looked for in {where} and on PYTHONPATH."
    )


def _about_name(name: object) -> str:
    """What to do about a name that the code has not, where notebooks mostly have it."""
    if name == "display":
        from_ipython = "write from IPython.display import display, which prints the object here, or print()"
        return NO_DISPLAY.format(remedy="write print()" if IN_CONTAINER else from_ipython)
    if name == "get_ipython":
        return NO_SHELL
    return f"{name} is not imported in this code: {IMPORTS[name]}." if name in IMPORTS else ""


def _about_container(problem: BaseException) -> str:
    """Which setting of the executor it comes from."""
    for cause in causes_of(problem):
        number = getattr(cause, "errno", None)
        if type(cause).__name__ == "gaierror" and os.listdir("/sys/class/net") == ["lo"]:  # noqa: PTH208 - no pathlib
            number = errno.ENETUNREACH
        if number in OF_CONTAINERS:
            return OF_CONTAINERS[number]
        if str(cause) == NO_THREAD:
            return THREADS
    return ""


def causes_of(problem: BaseException) -> Iterator[BaseException]:
    """The error, and all that it was made of: a library's mostly has the system's in it.

    Args:
        problem: any.
    """
    waiting: list[object] = [problem]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]


def _command(package: str) -> str:
    finder = sys.modules["_frozen_importlib_external"].PathFinder  # importlib costs each run a millisecond
    if finder.find_spec("pip") is None:  # as in an environment that uv made
        return f"uv pip install --python {sys.executable} {package}"
    return f"{sys.executable} -m pip install {package}"
