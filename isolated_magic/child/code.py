"""The user's code, and the ``__main__`` that it runs as."""

from __future__ import annotations

import _ast  # built in; the ast module around it costs 5 ms
import builtins
import gc
import os
import sys
from io import FileIO

from . import modules, stdio

with modules.StandardImports():
    import __future__

    import linecache
    import warnings  # without it the compiler shows its own ones another way, without the line

ONLY_OURS = 2  # the name, and the argument of sys.getrefcount()
MOST_PROGRAMS = 64
LONGEST_SOURCE = 1 << 18  # characters of what is kept
READS_DESCRIPTOR = ("open(0", "read(0", "readv(0", "dup(0", "dup2(0", "FileIO(0", "mmap(0", "/dev/stdin", "/fd/0")
AST_ONLY = 0x400  # PyCF_ONLY_AST (Include/cpython/compile.h): importing ast for it costs 5 ms


class Program:
    """The user's code, ready to run: all but the last expression, and that.

    Args:
        source: text, or the bytes of a file.
        filename: what tracebacks call it.

    Raises:
        Exception: whatever compile() raises; mostly SyntaxError.
    """

    def __init__(self, source: str | bytes, filename: str) -> None:
        tree = compile(source, filename, "exec", AST_ONLY, dont_inherit=True)
        last = tree.body.pop() if tree.body and _has_value(tree.body[-1]) else None
        self.body = compile(tree, filename, "exec", dont_inherit=True)
        self.last = None
        if last is not None:
            # The features that `from __future__` switched on in the body hold for the last expression too.
            features = self.body.co_flags & _future_flags()
            self.last = compile(_ast.Expression(last.value), filename, "eval", features, dont_inherit=True)

    def execute(self, names: dict[str, object]) -> object:
        """Run it and return the value of the last expression, None when there is none.

        Args:
            names: the globals to run in.
        """
        exec(self.body, names)  # noqa: S102 - running the user's code is what we are for
        return eval(self.last, names) if self.last is not None else None  # noqa: S307 - likewise


def _has_value(statement: object) -> bool:
    """Whether it is an expression whose value somebody may mean: a count of what was written is none."""
    if not isinstance(statement, _ast.Expr):
        return False
    called = statement.value.func if isinstance(statement.value, _ast.Call) else None
    return not (isinstance(called, _ast.Attribute) and called.attr in {"write", "writelines"})


class Programs:
    """What this process has compiled. A worker may run the same again and again: half of a short run is this."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | bytes, str], Program | None] = {}

    def of(self, source: str | bytes, filename: str) -> Program:
        """The program of this source, made when it is run for the first time and for the second.

        Args:
            source: text, or the bytes of a file.
            filename: what tracebacks call it.

        Raises:
            Exception: as for :class:`Program`.
        """
        key = source, filename
        if key not in self._known:
            self._note(key, None)
            return Program(source, filename)
        program = self._known[key]
        if program is None:
            program = Program(source, filename)
            if not _warns(source, filename):
                self._note(key, program)
        return program

    def _note(self, key: tuple[str | bytes, str], program: Program | None) -> None:
        if len(self._known) >= MOST_PROGRAMS:
            self._known.clear()
        if len(key[0]) <= LONGEST_SOURCE:
            self._known[key] = program


programs = Programs()


def _warns(source: str | bytes, filename: str) -> bool:
    """Whether the compiler has warnings for it, which every run of it is to print."""
    try:
        with warnings.catch_warnings(record=True) as came:
            warnings.simplefilter("always")
            compile(source, filename, "exec", dont_inherit=True)
    except Exception:  # noqa: BLE001 - the code took the module apart
        return True
    return bool(came)


def _future_flags() -> int:
    return sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


def publish(source: str, filename: str) -> None:
    """Put the source where tracebacks, warnings and ``inspect`` look for the lines of a file.

    Args:
        source: text.
        filename: what it is compiled as.
    """
    try:
        linecache.cache[filename] = cache_entry(source, filename)
    except Exception:  # noqa: BLE001 - an earlier run of a worker took it apart
        return


def cache_entry(source: str, filename: str) -> tuple[int, None, list[str], str]:
    """What ``linecache.cache`` holds of a file; without a time, it stays there when files are looked at again.

    Args:
        source: text.
        filename: what it is compiled as.
    """
    return len(source), None, _lines(source), filename


def _lines(source: str) -> list[str]:
    """Its lines as the compiler counts them; str.splitlines() knows other ends of lines.

    Each ends with a newline: without it, traceback draws its carets one column off.
    """
    return [line + "\n" for line in source.replace("\r\n", "\n").replace("\r", "\n").split("\n")]


def new_main() -> dict[str, object]:
    """Put an empty ``__main__`` in place of our own: a module that imports it has to find the user's.

    Returns:
        Its names.
    """
    module = type(sys)("__main__")
    vars(module).update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = module
    if "__mp_main__" in sys.modules:  # as multiprocessing calls it that was imported ahead
        sys.modules["__mp_main__"] = module
    sys.argv = ["-c"]
    return vars(module)


class Main:
    """The ``__main__`` of one run after the other."""

    def __init__(self) -> None:
        self._names = new_main()

    def renew(self) -> None:
        """Have an empty one. What the code made ends, and says its last words, now that it is still its run."""
        finished, self._names = self._names, new_main()
        is_held = sys.getrefcount(finished) > ONLY_OURS  # functions and their globals keep one another alive
        if is_held:
            stdio.flush_all(finished.values())  # the collector closes a file before what writes to it
        del finished
        if is_held:
            gc.collect()


def become_main(request: dict[str, str]) -> dict[str, object]:
    """Give it the attributes, arguments and path that ``python -c`` or ``python FILE`` would have.

    Args:
        request: what to run.

    Returns:
        The globals of the code.
    """
    module = sys.modules["__main__"]
    names = vars(module)
    path = path_in(request)
    if path is None:
        first, argv, folder = "-c", ["-c", request["source"]], ""
        module.__loader__ = sys.__spec__.loader  # as python -c has it
    else:
        first, argv = path, [path]
        folder = os.path.dirname(os.path.realpath(path))  # noqa: PTH120 - pathlib costs the child 5 ms
        module.__file__ = os.path.abspath(path)  # noqa: PTH100 - likewise
        names["__cached__"] = None
        module.__loader__ = sys.modules["_frozen_importlib_external"].SourceFileLoader("__main__", path)
    sys.argv = [first]
    sys.orig_argv = [sys.executable, *argv]
    if not sys.flags.safe_path:  # otherwise start.py's folder was not put there either
        sys.path[0] = folder
    return names


def path_in(request: dict[str, str]) -> str | None:
    """The file to run, None for source.

    Args:
        request: what to run. Bytes, one a character: this interpreter may encode file names in another way than
            the owner's.
    """
    path = request["path"]
    return None if path is None else os.fsdecode(path.encode("latin-1"))


def may_read_descriptor(request: dict[str, str]) -> bool:
    """Whether the code may read descriptor 0 itself, past ``sys.stdin``.

    Args:
        request: what to run.
    """
    path = path_in(request)
    try:
        source: str | bytes = request["source"] if path is None else read(path)
    except OSError:  # which its run will tell
        return False
    text = source if isinstance(source, str) else source.decode("latin-1")
    return any(sign in text for sign in READS_DESCRIPTOR)


def read(path: str) -> bytes:
    """The bytes of a file.

    Args:
        path: of the file.
    """
    with FileIO(path) as file:
        return file.readall()
