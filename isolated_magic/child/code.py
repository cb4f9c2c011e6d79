"""The user's code, and the ``__main__`` that it runs as."""

from __future__ import annotations

import _ast  # built in; the ast module around it costs 5 ms
import builtins
import gc
import os
import sys
from io import FileIO

from . import modules, stdio

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from typing import Any

    from .event_loop import EventLoop

with modules.StandardImports():
    import __future__

    import linecache
    import warnings  # without it the compiler prints its warnings in another way, without the line
    from functools import lru_cache

AST_ONLY = 0x400  # PyCF_ONLY_AST (Include/cpython/compile.h)
TOP_LEVEL_AWAIT = 0x2000  # PyCF_ALLOW_TOP_LEVEL_AWAIT; changes nothing about code that has no such await
IS_COROUTINE = 0x80  # CO_COROUTINE (Include/cpython/code.h)
MOST_COMPILED = 64
LONGEST_COMPILED = 1 << 18  # characters of a source
READS_DESCRIPTOR = ("open(0", "read(0", "readv(0", "dup(0", "dup2(0", "FileIO(0", "mmap(0", "/dev/stdin", "/fd/0")
ONLY_OURS = 2  # references: the name, and the argument of sys.getrefcount()


class Code:
    """The user's code, compiled: all but the last expression, and that.

    Raises:
        Exception: whatever compile() raises; mostly SyntaxError.
    """

    def __init__(self, source: str | bytes, filename: str) -> None:
        tree = compile(source, filename, "exec", AST_ONLY, dont_inherit=True)
        last = tree.body.pop() if tree.body and _has_value(tree.body[-1]) else None
        self.body = compile(tree, filename, "exec", TOP_LEVEL_AWAIT, dont_inherit=True)
        self.last = None
        if last is not None:
            # The features that `from __future__` switched on in the body hold for the last expression too.
            features = self.body.co_flags & _future_flags() | TOP_LEVEL_AWAIT
            self.last = compile(_ast.Expression(last.value), filename, "eval", features, dont_inherit=True)
        self._awaits = bool((self.body.co_flags | (self.last.co_flags if self.last else 0)) & IS_COROUTINE)

    def run(self, names: dict[str, object], loop: EventLoop) -> object:
        """Run it with these globals; return the value of the last expression, None when there is none.

        Args:
            names: the globals.
            loop: for code that awaits at top level. All of it runs there, as in a notebook.
        """
        if self._awaits:
            return loop.run(self._run_in_loop(names))
        exec(self.body, names)  # noqa: S102 - running the user's code is what we are for
        return eval(self.last, names) if self.last is not None else None  # noqa: S307 - likewise

    async def _run_in_loop(self, names: dict[str, object]) -> object:
        value = None
        for part in filter(None, (self.body, self.last)):
            value = eval(part, names)  # noqa: S307 - likewise
            if part.co_flags & IS_COROUTINE:
                value = await value
        return value


def _has_value(statement: object) -> bool:
    """Whether it is an expression whose value may be a result; the count that ``write()`` returns is none."""
    if not isinstance(statement, _ast.Expr):
        return False
    called = statement.value.func if isinstance(statement.value, _ast.Call) else None
    return not (isinstance(called, _ast.Attribute) and called.attr in {"write", "writelines"})


def _future_flags() -> int:
    return sum(getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)


class CodeCache:
    """What this process has compiled: half of a short run in a worker is compiling what it has run before."""

    def __init__(self) -> None:
        self._known: dict[tuple[str | bytes, str], Code | None] = {}

    def get(self, source: str | bytes, filename: str) -> Code:
        """The code of this source, compiled anew the first two times: most sources run only once.

        Raises:
            Exception: as for :class:`Code`.
        """
        key = source, filename
        if key not in self._known:
            self._keep(key, None)
            return Code(source, filename)
        found = self._known[key]
        if found is None:
            found = Code(source, filename)
            if not _warns(source, filename):
                self._keep(key, found)
        return found

    def _keep(self, key: tuple[str | bytes, str], code: Code | None) -> None:
        if len(self._known) >= MOST_COMPILED:
            self._known.clear()
        if len(key[0]) <= LONGEST_COMPILED:
            self._known[key] = code


compiled = CodeCache()


def _warns(source: str | bytes, filename: str) -> bool:
    """Whether the compiler has warnings for it: every run has to print them, so each compiles it anew."""
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            compile(source, filename, "exec", TOP_LEVEL_AWAIT, dont_inherit=True)
    except Exception:  # noqa: BLE001 - the code took the module apart
        return True
    return bool(caught)


def publish_source(source: str, filename: str) -> None:
    """Put the source where tracebacks, warnings and ``inspect`` look for the lines of a file."""
    try:
        linecache.cache[filename] = linecache_entry(source, filename)
    except Exception:  # noqa: BLE001 - an earlier run of a worker took it apart
        return


def linecache_entry(source: str, filename: str) -> tuple[int, None, list[str], str]:
    """The entry of a source in ``linecache.cache``; without a time, ``linecache.checkcache()`` leaves it there."""
    return len(source), None, list(_lines_of(source)), filename


@lru_cache(maxsize=1)  # in a worker it is nearly always that of the run before
def _lines_of(source: str) -> tuple[str, ...]:
    # Lines as the compiler counts them: str.splitlines() knows other ends of lines. Each ends with a newline:
    # without it, traceback draws its carets one column off.
    return tuple([line + "\n" for line in source.replace("\r\n", "\n").replace("\r", "\n").split("\n")])


def new_main() -> dict[str, object]:
    """Put an empty ``__main__`` in place of our own: a module that imports it has to find the user's.

    Returns:
        Its names.
    """
    module = type(sys)("__main__")
    vars(module).update(__builtins__=builtins, __annotations__={})
    sys.modules["__main__"] = module
    if "__mp_main__" in sys.modules:  # the name that multiprocessing gives it, if it was preloaded
        sys.modules["__mp_main__"] = module
    sys.argv = ["-c"]
    return vars(module)


class WorkerMain:
    """The ``__main__`` of one run of a worker after the other."""

    def __init__(self) -> None:
        self._names = new_main()

    def renew(self) -> None:
        """Replace it by an empty one. Finalizers of the old one run now, while its run is still theirs."""
        finished, self._names = self._names, new_main()
        is_held = sys.getrefcount(finished) > ONLY_OURS  # functions and their globals keep one another alive
        if is_held:
            stdio.flush_all(finished.values())  # the collector closes a file before what writes to it
        del finished
        if is_held:
            gc.collect()


def prepare_main(request: dict[str, Any]) -> dict[str, object]:
    """Give ``__main__`` the attributes, arguments and path that ``python -c`` or ``python FILE`` would have.

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


def path_in(request: dict[str, Any]) -> str | None:
    """The file to run, None for source. It is sent as bytes: the owner may encode file names in another way."""
    path = request["path"]
    return None if path is None else os.fsdecode(path.encode("latin-1"))


def read_file(path: str) -> bytes:
    """The bytes of a file."""
    with FileIO(path) as file:
        return file.readall()


def may_read_descriptor(request: dict[str, Any]) -> bool:
    """Whether the code may read descriptor 0 itself, past ``sys.stdin``."""
    path = path_in(request)
    try:
        source: str | bytes = request["source"] if path is None else read_file(path)
    except OSError:  # the run itself will report it
        return False
    text = source if isinstance(source, str) else source.decode("latin-1")
    return any(sign in text for sign in READS_DESCRIPTOR)
