"""What a program imports, and what it changes before that: from its syntax tree.

A fork server that has imported something may serve a program only if the program is going to import it too, and
does nothing before that the import would have noticed.
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

from isolated_magic.launch.fork_server.mutations import Mutations
from isolated_magic.launch.resources import is_shortage
from isolated_magic.syntax import module_of

if TYPE_CHECKING:
    from collections.abc import Iterator

LONGEST_SOURCE = 200_000  # characters: to walk the tree of more takes longer than most imports

_SETTERS = frozenset({"setdefault", "update", "putenv", "setenv", "unsetenv", "pop"})
_MACHINERY = frozenset({"modules", "meta_path", "path_hooks", "path_importer_cache"})
_HARMLESS_ON_PATH = frozenset({"append", "extend", "copy", "index", "count", "get", "keys", "items", "values"})
_MOVERS = frozenset({"chdir", "fchdir", "addsitedir"})


@dataclass(frozen=True)
class SourceScan:
    """What the text of a program says that matters to a fork server."""

    in_order: tuple[str, ...] = ()  # dotted names of the modules that it imports, without the standard library's
    sets: frozenset[str] = frozenset()  # names of environment variables that it may set
    # Before its last import it may set variables whose names are not in the text, or change what imports see.
    sets_anything: bool = False
    sets_later: bool = False  # it may set such variables after its last import
    redirects: bool = False  # it may change where modules come from
    looks_around: bool = False  # it looks at where modules come from, or at those that are loaded
    of_files: frozenset[str] = frozenset()  # names of the modules that its other files import

    @cached_property
    def imports(self) -> frozenset[str]:
        """The names of the modules that it imports."""
        return frozenset(self.in_order)

    @cached_property
    def all_imports(self) -> frozenset[str]:
        """The names of the modules that it or its other files import."""
        return self.imports | self.of_files if self.of_files else self.imports

    def __or__(self, other: SourceScan) -> SourceScan:
        """The scan of two files of one program; the imports are those of the first."""
        return SourceScan(
            self.in_order,
            self.sets | other.sets,
            self.sets_anything or other.sets_anything or other.sets_later,  # it may be called at any time
            self.sets_later,
            self.redirects or other.redirects,
            self.looks_around or other.looks_around,
            self.of_files | other.all_imports,
        )


OPAQUE = SourceScan(sets_anything=True, redirects=True, looks_around=True)
NO_CODE = SourceScan()  # it cannot be compiled


@lru_cache(maxsize=256)
def scan_source(source: str | bytes) -> SourceScan:
    """Scan a program. One that cannot be compiled imports nothing."""
    if len(source) > LONGEST_SOURCE:
        return OPAQUE
    try:
        tree = _parsed(source)
        nodes, mutations = list(_as_it_runs(tree)), Mutations(tree)
    except (SyntaxError, ValueError):
        return NO_CODE
    except (RecursionError, MemoryError):
        return OPAQUE
    return SourceScan(
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
        return module_of(source)
    with warnings.catch_warnings():  # the run itself will warn of invalid escapes
        warnings.simplefilter("ignore")
        return module_of(source)


def scan_file(path: str) -> SourceScan:
    """Scan a file. One that cannot be read imports nothing; OSError if the system is short of descriptors."""
    try:
        state = Path(path).stat()
        if not stat.S_ISREG(state.st_mode):
            return SourceScan()
        return _scan_unchanged_file(path, state.st_mtime_ns, state.st_size)
    except OSError as problem:
        if is_shortage(problem):
            raise
        return SourceScan()
    except ValueError:  # no file has such a name
        return SourceScan()


@lru_cache(maxsize=256)
def _scan_unchanged_file(path: str, _changed_at: int, size: int) -> SourceScan:
    if size > LONGEST_SOURCE:
        return OPAQUE
    return scan_source(Path(path).read_bytes())


def _as_it_runs(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes in their order, except that the bodies of functions come last."""
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
    if any(map(_replaces_import, nodes)):
        return True
    machinery = _MACHINERY | {"path"}
    return any(_is_of_sys(node, machinery) and id(node) not in read for node in nodes)


def _replaces_import(node: ast.AST) -> bool:
    """Whether it may replace the builtin, which Python asks for ``_io`` where it reads the file of a module."""
    if isinstance(node, ast.Attribute):
        return node.attr == "__import__" and isinstance(node.ctx, ast.Store)
    return isinstance(node, ast.Constant) and node.value == "__import__"


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
