"""What a program says about itself before it runs: what it imports, and what it changes before that.

Read off its syntax tree. A template that has imported something may serve a program only when the program is going
to import it too, and does nothing before that the import would have noticed.
"""

from __future__ import annotations

import ast
import stat
import sys
import warnings
from collections import deque
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.launch.mutations import Mutations
from isolated_magic.launch.shortage import is_shortage

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_SOURCE = 200_000  # characters: walking the tree of more takes longer than most imports

_SETTERS = frozenset({"setdefault", "update", "putenv", "setenv", "unsetenv", "pop"})
_MACHINERY = frozenset({"modules", "meta_path", "path_hooks", "path_importer_cache"})
_HARMLESS_ON_PATH = frozenset({"append", "extend", "copy", "index", "count", "get", "keys", "items", "values"})
_MOVERS = frozenset({"chdir", "fchdir", "addsitedir"})


@dataclass(frozen=True)
class Program:
    """What there is to know.

    Args:
        in_order: dotted names of modules beside the standard library's, wherever the program imports them.
        sets: names of variables that it may set.
        sets_anything: before its last import it may set variables that its text does not name, or change something
            else that an import may see.
        sets_later: it may set such variables after that.
        redirects: it may change where modules come from.
        looks_around: it looks at where modules come from, or at which are loaded.
    """

    in_order: tuple[str, ...] = ()
    sets: frozenset[str] = frozenset()
    sets_anything: bool = False
    sets_later: bool = False
    redirects: bool = False
    looks_around: bool = False

    @cached_property
    def imports(self) -> frozenset[str]:
        """The names of the modules that it imports."""
        return frozenset(self.in_order)

    @cached_property
    def packages(self) -> frozenset[str]:
        """The names of the packages that these are in."""
        return frozenset(name.partition(".")[0] for name in self.in_order)

    def __or__(self, other: Program) -> Program:
        """What two files say that belong to one program; the imports are those of the first."""
        return Program(
            self.in_order,
            self.sets | other.sets,
            self.sets_anything or other.sets_anything or other.sets_later,  # who knows when that one is called
            self.sets_later,
            self.redirects or other.redirects,
            self.looks_around or other.looks_around,
        )


OPAQUE = Program(sets_anything=True, redirects=True, looks_around=True)


@lru_cache(maxsize=256)
def program_of(source: str | bytes) -> Program:
    """What a text says.

    Args:
        source: of a program; one that cannot be compiled says nothing.
    """
    if len(source) > LONGEST_SOURCE:
        return OPAQUE
    try:
        tree = _parsed(source)
        nodes, mutations = list(_as_it_runs(tree)), Mutations(tree)
    except (SyntaxError, ValueError):
        return Program()
    except (RecursionError, MemoryError):
        return OPAQUE
    return Program(
        in_order=tuple(dict.fromkeys(_imports(nodes))),
        sets=frozenset(mutations.named.union(_names_set(nodes))),
        sets_anything=mutations.before,
        sets_later=mutations.after,
        redirects=_redirects(nodes) or any(_imports_from_sys(node) for node in nodes),
        looks_around=_looks_around(nodes),
    )


def _parsed(source: str | bytes) -> ast.AST:
    backslash = "\\" if isinstance(source, str) else b"\\"
    if backslash not in source:  # type: ignore[operator]  # of its own type
        return ast.parse(source)
    with warnings.catch_warnings():  # of an escape that is none the run itself will warn, where that is to be seen
        warnings.simplefilter("ignore")
        return ast.parse(source)


def program_in(path: str) -> Program:
    """What a file says.

    Args:
        path: of the file; one that cannot be read says nothing.

    Raises:
        OSError: the system is short of what it takes to read it.
    """
    try:
        state = Path(path).stat()
        if not stat.S_ISREG(state.st_mode):
            return Program()
        return _program_in(path, state.st_mtime_ns, state.st_size)
    except OSError as problem:
        if is_shortage(problem):
            raise
        return Program()
    except ValueError:  # no file has such a name
        return Program()


@lru_cache(maxsize=256)
def _program_in(path: str, _changed_at: int, size: int) -> Program:
    if size > LONGEST_SOURCE:
        return OPAQUE
    return program_of(Path(path).read_bytes())


def _as_it_runs(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, as they stand in the text; what is in functions comes last."""
    rest: list[ast.AST] = [tree]
    functions: deque[ast.AST] = deque()
    while rest or functions:
        is_called = not rest
        node = functions.popleft() if is_called else rest.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not is_called:
            functions.append(node)
            continue
        yield node
        rest += reversed(list(ast.iter_child_nodes(node)))


def _imports(nodes: list[ast.AST]) -> list[str]:
    found: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if name.partition(".")[0] not in sys.stdlib_module_names]


def _names_set(nodes: list[ast.AST]) -> list[str]:
    found: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            found += _texts(node.slice)
        elif isinstance(node, ast.Call) and _called(node) in _SETTERS:
            found += [text for inner in ast.walk(node) for text in _texts(inner)]
            found += [keyword.arg for keyword in node.keywords if keyword.arg]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.BitOr):
            found += [text for inner in ast.walk(node.value) for text in _texts(inner)]
    if any(_sets_by_variable(node) for node in nodes):  # the names stand somewhere else in the text
        found += [text for node in nodes for text in _texts(node)]
    return found


def _sets_by_variable(node: ast.AST) -> bool:
    if isinstance(node, ast.Subscript):
        return not isinstance(node.ctx, ast.Load | ast.Constant) and _is_environ(node.value)
    return isinstance(node, ast.Call) and _called(node) in _SETTERS and _is_environ(node.func)


def _is_environ(node: ast.AST) -> bool:
    names = {inner.attr for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
    names |= {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
    return not names.isdisjoint({"environ", "environb", "putenv"})


def _texts(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Constant):
        if isinstance(node.value, bytes):
            return [node.value.decode("latin-1")]
        if isinstance(node.value, str):
            return [node.value]
    return []


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _redirects(nodes: list[ast.AST]) -> bool:
    read = set()
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr in _HARMLESS_ON_PATH:
            read.add(id(node.value))
        elif isinstance(node, ast.Call):
            read.update(map(id, node.args))
        elif isinstance(node, ast.Subscript | ast.For | ast.comprehension | ast.Compare | ast.FormattedValue):
            if not isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
                read.update(map(id, ast.iter_child_nodes(node)))
        elif isinstance(node, ast.List | ast.Tuple | ast.Dict | ast.Starred | ast.Expr):
            read.update(map(id, ast.iter_child_nodes(node)))
    if any(isinstance(node, ast.Call) and _called(node) in _MOVERS for node in nodes):
        return True
    machinery = _MACHINERY | {"path"}
    return any(_is_of_sys(node, machinery) and id(node) not in read for node in nodes)


def _looks_around(nodes: list[ast.AST]) -> bool:
    harmless = {
        id(node.value)
        for node in nodes
        if isinstance(node, ast.Attribute) and node.attr in _HARMLESS_ON_PATH and _is_of_sys(node.value, {"path"})
    }
    machinery = _MACHINERY | {"path"}
    return any(
        (_is_of_sys(node, machinery) and id(node) not in harmless) or _imports_from_sys(node) for node in nodes
    )


def _is_of_sys(node: ast.AST, names: set[str] | frozenset[str]) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in names
        and isinstance(node.value, ast.Name)
        and node.value.id == "sys"
    )


def _imports_from_sys(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "sys"
