"""An exception of the user's code as its user should read it: traceback, excerpt of the source, hint."""

from __future__ import annotations

import errno
import os
import sys

from . import code, modules
from .result import LONGEST_LINE, LONGEST_TEXT, SENT, elide_middle
from .wire import CONTAINER_FOLDER

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType

HERE = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs the child 5 ms
# Stand-ins, such as those of input() and display().
CALLED_BY_CODE = {f"{HERE}/{name}.py" for name in ("stdio", "display", "display_hooks", "figures")}

LINES_AROUND = 2
MOST_CLASSES = 20  # of an exception
LONGEST_CODE_LINE = 200  # characters; the owner hides the half of a secret at the end of a line that is cut here
TAB_COLUMNS = 4
ARROW = "---->"
CELL = "<cell>"  # the file name of a cell's code


def describe(problem: BaseException, source: str | None, filename: str) -> dict[str, str]:
    """Text, summary, excerpt and hint of an exception, without our own frames.

    Takes our frames off the exception itself: no ``sys.excepthook`` is to see them either. ``source`` is None when
    a file ran.
    """
    try:
        _strip(problem)
        return {**_described(problem, source, filename), "raised": _classes_of(problem)}
    except Exception:  # noqa: BLE001 - a chain too long, or an exception that cannot be printed: a line will do
        said = text_of(problem)
        name = type(problem).__name__
        line = elide_middle(f"{name}: {said}" if said else name, SENT * LONGEST_LINE)
        return {"text": line, "summary": line, "excerpt": "", "hint": "", "raised": _classes_of(problem)}


def _described(problem: BaseException, source: str | None, filename: str) -> dict[str, str]:
    with modules.StandardImports():  # only an error has to pay for these
        import linecache  # noqa: PLC0415
        import traceback  # noqa: PLC0415
        from contextlib import suppress  # noqa: PLC0415

    if source is not None:
        linecache.cache[filename] = code.linecache_entry(source, filename)
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
    with suppress(Exception):  # so does an ImportError
        described["hint"] = hint_for(problem)
    return described


def _classes_of(problem: BaseException) -> str:
    """The names of its class and of that one's bases, such as ``"httpx.ReadTimeout Exception"``."""
    try:
        kinds = [(kind.__module__, kind.__qualname__) for kind in type(problem).__mro__[:-2]]  # which all have
        names = [name if home in {"builtins", "__main__"} else f"{home}.{name}" for home, name in kinds]
        return " ".join(names[:MOST_CLASSES])[:LONGEST_LINE]
    except Exception:  # noqa: BLE001 - the code gave its class names of its own
        return ""


def _strip(problem: BaseException) -> None:
    """Take our frames, the outermost ones and those of stand-ins, off the tracebacks of it and all causes."""
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
            if filename in CALLED_BY_CODE and before is not None:
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
    """Call what the code put in place of ``sys.excepthook``, as the interpreter would."""
    if sys.excepthook is not sys.__excepthook__:
        try:
            sys.excepthook(type(problem), problem, problem.__traceback__)
        except BaseException:  # noqa: BLE001 - the hook is the user's; the exception itself is reported anyway
            return


def text_of(value: object, convert: Callable[[object], str] = str) -> str:
    """``str(value)`` or ``repr(value)``, whatever the code's own ``__str__`` or ``__repr__`` does."""
    try:
        return convert(value)
    except Exception:  # noqa: BLE001 - the user's own
        return f"<{type(value).__name__} that cannot be printed>"


class Place:
    """A place in a source.

    Args:
        line: its number, from 1.
        function: the one that it is in; empty for none.
        columns: where in the line it begins and ends, in characters from 0; None for all of the line.
    """

    def __init__(self, line: int, function: str = "", columns: tuple[int, int] | None = None) -> None:
        self.line = line
        self.function = "" if function == "<module>" else function
        self.columns = columns


def place_of(problem: BaseException, filename: str, lines: Sequence[str]) -> Place | None:
    """Where an exception was raised: in the innermost frame of this source; None when it was in none."""
    if isinstance(problem, SyntaxError) and problem.filename == filename and problem.lineno:
        return Place(problem.lineno, columns=_columns_of_syntax(problem))
    trace, innermost = problem.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == filename:
            innermost = trace
        trace = trace.tb_next
    if innermost is None:
        return None
    return Place(innermost.tb_lineno, innermost.tb_frame.f_code.co_name, _columns_of_call(innermost, lines))


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
    """A heading and the lines around a place, marked as by IPython; empty if there is no such line."""
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


# Modules whose packages have another name: people who guess it install what somebody else put there.
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
# What notebooks import under another name, and by its own.
ALIASES = {
    "np": "numpy",
    "pd": "pandas",
    "pl": "polars",
    "plt": "matplotlib.pyplot",
    "mpl": "matplotlib",
    "sns": "seaborn",
    "px": "plotly.express",
    "nx": "networkx",
    "tf": "tensorflow",
    "jnp": "jax.numpy",
}
IMPORTED = ("numpy", "pandas", "polars", "matplotlib", "scipy", "sklearn", "torch", "requests", "opik", "openai")
NO_SHELL = (
    "get_ipython() is IPython's, and the run is plain Python in a process of its own: "
    "move what needs the notebook to a cell without %%isolated."
)

IN_CONTAINER = __file__.startswith(f"{CONTAINER_FOLDER}/")
IN_ENVIRONMENT = "/isolated_magic/environments/" in sys.prefix  # shared, and never changed
CONTAINER_HINTS = {
    errno.EROFS: "Settings of DockerExecutor decide what can be written to: read_only, volumes. /tmp always can.",
    errno.ENOSPC: "A setting of DockerExecutor decides how much room /tmp has: tmpfs_bytes.",
    errno.EMFILE: "A setting of DockerExecutor limits how many files can be open at once: nofile.",
    errno.ENETUNREACH: "A setting of DockerExecutor gives a container a network: network (--allow-net).",
}
NO_THREAD = "can't start new thread"
NO_SECOND_LOOP = (
    "An event loop runs this code already, as it has an await outside a function: write await in place of "
    "asyncio.run()."
)
IN_A_LOOP = ("asyncio.run() cannot be called from a running event loop", "This event loop is already running")
THREADS_HINT = "A setting of DockerExecutor limits how many processes and threads there can be at once: pids."


def hint_for(problem: BaseException) -> str:
    """What to do about a failed or forgotten import, a second event loop or a limit of a container, or nothing."""
    if isinstance(problem, NameError):
        return _hint_for_name(problem.name)
    if isinstance(problem, ImportError):
        return _hint_for_import(problem)
    if isinstance(problem, RuntimeError) and str(problem) in IN_A_LOOP:
        _close_unused(problem.__traceback__)
        return NO_SECOND_LOOP
    return _hint_in_container(problem) if IN_CONTAINER else ""


def _close_unused(trace: TracebackType | None) -> None:
    """Close the coroutine that asyncio refused to run: the warning about it would name a line of ours."""
    while trace is not None:
        if "asyncio" in trace.tb_frame.f_code.co_filename:
            for value in trace.tb_frame.f_locals.values():
                if type(value).__name__ == "coroutine":
                    value.close()
        trace = trace.tb_next


def _hint_for_name(name: object) -> str:
    if name == "get_ipython":
        return NO_SHELL
    if name in ALIASES:
        return f"{name} is not imported in this code: import {ALIASES[name]} as {name}."
    return f"{name} is not imported in this code: import {name}." if name in IMPORTED else ""


def _hint_for_import(problem: ImportError) -> str:
    used = f"The run used {sys.executable} (Python {sys.version.split()[0]})"
    top = (problem.name or "").partition(".")[0]
    if not isinstance(problem, ModuleNotFoundError) or not top or top in sys.modules:
        version = getattr(sys.modules.get(top), "__version__", None)
        return f"{used}, with {top} {version}." if isinstance(version, str) else f"{used}."
    package = PACKAGES.get(top, top)
    if IN_CONTAINER:
        return f"{used} in a container, which has no module {top}. If it is a package, add {package} to the image."
    if IN_ENVIRONMENT:
        return f"{used}, which has no module {top}. If it is a package, add it: --with {package}."
    where = "the working directory" if sys.path[:1] == [""] else "the folder of the file that runs"
    return (
        f"{used}, which has no module {top}. If it is a package, install it there: {_install_command(package)} "
        f"(in a notebook: %pip install {package}), or for this run alone, --with {package}. A file of yours has "
        f"to be in {where} or on PYTHONPATH."
    )


def _install_command(package: str) -> str:
    finder = sys.modules["_frozen_importlib_external"].PathFinder  # importlib costs each run a millisecond
    if finder.find_spec("pip") is None:  # as in an environment that uv made
        return f"uv pip install --python {sys.executable} {package}"
    return f"{sys.executable} -m pip install {package}"


def _hint_in_container(problem: BaseException) -> str:
    for cause in causes_of(problem):
        number = getattr(cause, "errno", None)
        if type(cause).__name__ == "gaierror" and os.listdir("/sys/class/net") == ["lo"]:  # noqa: PTH208 - no pathlib
            number = errno.ENETUNREACH
        if number in CONTAINER_HINTS:
            return CONTAINER_HINTS[number]
        if str(cause) == NO_THREAD:
            return THREADS_HINT
    return ""


def causes_of(problem: BaseException) -> Iterator[BaseException]:
    """The error and all that it was made of: a library's error mostly holds the system's."""
    waiting: list[object] = [problem]
    seen: set[int] = set()
    while waiting:
        current = waiting.pop()
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [*current.args, getattr(current, "reason", None), current.__cause__, current.__context__]
