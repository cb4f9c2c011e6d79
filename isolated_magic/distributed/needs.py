"""What code needs of a worker, as this process has it: the modules that it imports, and where they come from."""

from __future__ import annotations

import ast
import os
import site
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.distributed import probe
from isolated_magic.launch.fork_server.source_scan import scan_source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from importlib.machinery import ModuleSpec

    from isolated_magic.request import RunRequest

MOST_FILES = 500  # of the user's own modules, whose imports are followed

_GUARDS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})
_ELSEWHERE = frozenset({*sys.stdlib_module_names, "isolated_magic", "__main__"})


class Module(NamedTuple):
    """A top-level module that the code imports.

    Args:
        name: its own.
        place: its file or folder here.
        is_required: False if the code does without it where it is not there.
        distributions: that what is imported of it comes from, with their versions.
        files: those that are imported of it, where it is the user's own; paths from the folder that it lies in.
        digest: of these files.
    """

    name: str
    place: str
    is_required: bool
    distributions: tuple[tuple[str, str], ...] = ()
    files: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Needs:
    """What code needs beside Python and this package.

    Args:
        modules: that it imports and this process has.
        absent: names of those that it has not: all workers may have them.
        folder: where runs start.
        search: entries of PYTHONPATH; None for those of the worker.
    """

    modules: tuple[Module, ...] = ()
    absent: tuple[str, ...] = ()
    folder: str = ""
    search: tuple[str, ...] | None = None


NOTHING = Needs()


def needs_of(request: RunRequest) -> Needs:
    """What runs of this request need. The request is one that a worker would get."""
    source = request.source or ""
    if not scan_source(source).imports:  # also where it cannot be compiled
        return NOTHING
    is_file = Path(request.source_name).is_file()
    folder = str(Path(request.source_name).parent) if is_file else request.cwd
    search = _search_of(request)
    path = probe.search_path(folder, None if search is None else list(search))
    tree = ImportTree(path)
    tree.follow(source)
    modules, absent = tree.modules(), tree.absent()
    if scan_source(source).redirects:  # modules may come from elsewhere
        modules = [module._replace(is_required=False, files=(), digest="") for module in modules]
        absent = []
    return Needs(tuple(modules), tuple(absent), request.cwd, search)


def _search_of(request: RunRequest) -> tuple[str, ...] | None:
    given = request.environment.get(b"PYTHONPATH")
    if given is not None:
        return tuple(os.fsdecode(given).split(os.pathsep))
    inherits = request.remote is None or (request.remote.inherits and b"PYTHONPATH" not in request.remote.unset)
    return None if inherits else ()


class ImportTree:
    """What a source imports, and what files of the user's own that it imports do in turn.

    Args:
        path: where modules are looked for.
    """

    def __init__(self, path: list[str]) -> None:
        self._path = path
        self._specs: dict[str, ModuleSpec | None] = {}  # by top-level name
        self._names: dict[str, bool] = {}  # all dotted names, and whether each is required
        self._files: dict[Path, str] = {}  # of the user's own, with the top-level names of their modules

    def follow(self, source: str, package: str = "") -> None:
        """Take the imports of a source of this package. One that cannot be compiled has none."""
        waiting = [(source, package)]
        while waiting:
            for name, is_required in _imports_of(*waiting.pop()).items():
                self._names[name] = self._names.get(name, False) or is_required
                waiting += self._new_files(name)

    def modules(self) -> list[Module]:
        """Those that are there."""
        return [self._module(spec) for spec in self._specs.values() if spec is not None]

    def absent(self) -> list[str]:
        """Names of those that are not, and that the code does not do without."""
        names = [name.partition(".")[0] for name, is_required in self._names.items() if is_required]
        return [name for name in dict.fromkeys(names) if name in self._specs and self._specs[name] is None]

    def _new_files(self, name: str) -> Iterator[tuple[str, str]]:
        """The source and the package of each file of the user's own that is imported with this name."""
        top = name.partition(".")[0]
        if top in _ELSEWHERE:
            return
        if top not in self._specs:
            self._specs[top] = probe.find(top, self._path)
        spec = self._specs[top]
        if spec is None or _is_installed(spec):
            return
        for file, package in _files_of(spec, name):
            if file not in self._files and len(self._files) < MOST_FILES:
                with suppress(OSError, UnicodeDecodeError):
                    source = file.read_text(encoding="utf-8")
                    self._files[file] = top
                    yield source, package

    def _module(self, spec: ModuleSpec) -> Module:
        names = {name: needed for name, needed in self._names.items() if name.partition(".")[0] == spec.name}
        is_required = any(names.values())
        place = probe.place_of(spec) or ""
        root = probe.root_of(spec)
        if _is_installed(spec):
            versions = [(owner, probe.version_of(owner, [str(root)])) for owner in _owners(root, names)]
            known = tuple((owner, version) for owner, version in versions if version is not None)
            return Module(spec.name, place, is_required, known)
        files = tuple(sorted(str(file.relative_to(root)) for file, top in self._files.items() if top == spec.name))
        return Module(spec.name, place, is_required, (), files, probe.digest_of(spec, files) if files else "")


@lru_cache(maxsize=256)
def _imports_of(source: str, package: str) -> Mapping[str, bool]:
    """The dotted names that a source imports, and whether it does so without a guard."""
    found: dict[str, bool] = {}
    with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
        for name, is_required in _imports_below(ast.parse(source), package, is_required=True):
            found[name] = found.get(name, False) or is_required
    return found


def _imports_below(node: ast.AST, package: str, *, is_required: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        yield from ((alias.name, is_required) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: -(node.level - 1) or None] if node.level else []
        module = ".".join(filter(None, [*parents, node.module]))
        if module:
            yield module, is_required
            yield from ((f"{module}.{alias.name}", is_required) for alias in node.names)
    elif isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
        for each in node.orelse:
            yield from _imports_below(each, package, is_required=is_required)
    else:
        guarded = _guarded_by(node)
        for child in ast.iter_child_nodes(node):
            yield from _imports_below(child, package, is_required=is_required and id(child) not in guarded)


def _guarded_by(node: ast.AST) -> set[int]:
    """The children of a node that may fail to import something, by their identities."""
    if isinstance(node, ast.Try | ast.TryStar):
        caught = [handler.type for handler in node.handlers]
        if any(kind is None or _names_in(kind) & _GUARDS for kind in caught):
            return {id(child) for part in (node.body, node.handlers, node.orelse) for child in part}
    elif isinstance(node, ast.With) and any(_names_in(item.context_expr) & _GUARDS for item in node.items):
        return {id(child) for child in node.body}  # contextlib.suppress(ImportError)
    return set()


def _names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def _files_of(spec: ModuleSpec, name: str) -> Iterator[tuple[Path, str]]:
    """The files that importing a dotted name runs, as far as they are there, and the package of each."""
    place = root = probe.root_of(spec)
    parts = name.split(".")
    for number, part in enumerate(parts):
        place = place / part
        package = ".".join(parts[: number + 1])
        if (place / "__init__.py").is_file():
            yield place / "__init__.py", package
        elif place.with_name(f"{part}.py").is_file():
            yield place.with_name(f"{part}.py"), package.rpartition(".")[0]
        elif place == root / part and spec.submodule_search_locations is None:
            return


def _is_installed(spec: ModuleSpec) -> bool:
    """Whether a module was installed, and is not the user's own."""
    root = probe.root_of(spec)
    is_for_packages = root in map(Path, [*site.getsitepackages(), site.getusersitepackages()])
    return is_for_packages or bool(_owners(root, [spec.name]))  # by pip install --target


def _owners(root: Path, names: Iterable[str]) -> tuple[str, ...]:
    """The distributions that these modules come from: of a namespace that many share, those that are imported."""
    prefixes = {".".join(name.split(".")[:length]) for name in names for length in range(1, name.count(".") + 2)}
    try:
        return _owners_at(str(root), root.stat().st_mtime_ns, frozenset(prefixes))
    except OSError:
        return ()


@lru_cache(maxsize=1024)
def _owners_at(root: str, _changed_at: int, names: frozenset[str]) -> tuple[str, ...]:
    """The distributions in a folder whose lists of files have one of these modules.

    packages_distributions() of the standard library takes seconds to parse all these lists.
    """
    paths = [name.replace(".", "/").encode() for name in names]
    owners = []
    for info in (each for kind in ("*-*.dist-info", "*-*.egg-info") for each in Path(root).glob(kind)):
        for file in ("RECORD", "top_level.txt"):  # those of Debian have no RECORD
            with suppress(OSError):
                listed = b"\n" + (info / file).read_bytes().replace(b"\r\n", b"\n")
                is_listed = _is_recorded if file == "RECORD" else _is_line
                if any(is_listed(listed, path) for path in paths):
                    owners.append(info.name.partition("-")[0])
                break
    return tuple(sorted(owners))


def _is_line(text: bytes, path: bytes) -> bool:
    return b"\n%s\n" % path in text


def _is_recorded(record: bytes, path: bytes) -> bool:
    """Whether a RECORD, which has a line for each file that begins with its path, has this module."""
    if b"\n%s/__init__.py," % path in record:
        return True
    place = record.find(b"\n%s." % path)
    while place >= 0:
        file = record[place + 1 + len(path) : record.find(b",", place)]
        if file.endswith((b".py", b".so", b".pyd")) and b"/" not in file:
            return True
        place = record.find(b"\n%s." % path, place + 1)
    return False
