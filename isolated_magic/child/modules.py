"""Where modules come from: the standard library, installed packages, or files that a user may be editing.

A folder on PYTHONPATH, the folder of the file that runs and the working directory all come before the standard
library. A ``json.py`` there is what the user's code should import, but not what ours may.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType, TracebackType
    from typing import Any
else:
    ModuleType, ModuleSpec = type(sys), type(sys.__spec__)  # without the modules that have the names

_bootstrap: Any = sys.modules["_frozen_importlib"]

STANDARD_LIBRARY = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib costs each run 5 ms

BUILT_IN = ("built-in", "frozen")


def _is_in_standard_library(path: str) -> bool:
    return path.startswith(STANDARD_LIBRARY) and "-packages" not in path[len(STANDARD_LIBRARY) :]


STANDARD_PATH = [entry for entry in sys.path if _is_in_standard_library(entry)]

_loaded: set[str] = set()
_settled = False


def settle() -> None:
    """Stop looking for modules of the user's with a standard name: ours have imported what they need."""
    global _settled  # noqa: PLW0603 - a fact about the process
    _settled = True


class StandardImports:
    """Import from the standard library alone inside this block.

    After it, modules of the user's with the same names are in ``sys.modules`` again.
    """

    def __enter__(self) -> None:
        self._idle = _settled
        if self._idle:
            return
        self._path, sys.path = sys.path, STANDARD_PATH
        self._hidden = {name: module for name, module in sys.modules.items() if _is_foreign(name, module)}
        for name in self._hidden:
            del sys.modules[name]
        self._before = set(sys.modules)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._idle:
            return
        sys.path = self._path
        _loaded.update(name for name in sys.modules if name not in self._before)
        sys.modules.update(self._hidden)


def standard_module(name: str) -> ModuleType:
    """A top-level module of the standard library; cheap when it is loaded already."""
    found = sys.modules.get(name)
    if found is None or _is_foreign(name, found):
        with StandardImports():
            found = __import__(name)
        give_way()
    return found


def give_way() -> None:
    """Forget the modules that were imported for our own code, if a folder of the user's has one of their names.

    The user's code then imports its own. Ours keeps what it has imported.
    """
    if not _settled and any(map(_is_taken, {name.partition(".")[0] for name in _loaded})):
        for name in _loaded:
            sys.modules.pop(name, None)
    _loaded.clear()


def _is_foreign(name: str, module: ModuleType) -> bool:
    """Whether a module has a name of the standard library's, but came from somewhere else."""
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return False
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not _is_in_standard_library(file)


def _is_taken(name: str) -> bool:
    """Whether a folder that comes before the standard library has a module of that name."""
    for entry in sys.path:
        if entry.startswith(STANDARD_LIBRARY):
            return False
        path = os.path.join(entry, name)  # noqa: PTH118 - pathlib costs each run 5 ms
        if os.path.exists(f"{path}.py") or os.path.isdir(path):  # noqa: PTH110, PTH112 - likewise
            return True
    return False


def is_standard(name: str) -> bool:
    """Whether a module of this name is the standard library's."""
    package = name.partition(".")[0]
    return package in sys.stdlib_module_names or package.startswith("_sysconfigdata")


PACKAGE_FOLDERS = ("site-packages", "dist-packages")


def site_folders() -> list[str]:
    """The folders of ``sys.path`` that packages are installed into, those of a layer below among them."""
    site = sys.modules.get("site")
    if site is None:
        return []
    folders = [*site.getsitepackages(), site.USER_SITE if site.ENABLE_USER_SITE else None]
    # What a path file of an environment adds stands behind the environment's own.
    below = sys.path[sys.path.index(folders[0]) :] if folders[0] in sys.path else []
    folders += [entry for entry in below if entry.endswith(PACKAGE_FOLDERS) and entry not in folders]
    return [folder for folder in folders if folder in sys.path]


def split_installed(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Of these loaded modules, names of the installed ones (standard library included) and files of the others.

    Modules that came from no file, or under a name that is not their own, are in neither list.
    """
    folders = _installed_folders()
    installed: list[str] = []
    files: list[str] = []
    for name in names:
        spec = _spec_of(sys.modules.get(name))
        if spec is None or spec.name != name:
            continue
        if _lies_in(spec, folders):
            installed.append(name)
        elif isinstance(spec.origin, str):
            files.append(spec.origin)
    return installed, files


def _spec_of(module: object) -> ModuleSpec | None:
    """The spec that the import system noted. Never calls what the code put in place of a module or a spec."""
    if not issubclass(type(module), ModuleType):
        return None
    spec = ModuleType.__getattribute__(module, "__dict__").get("__spec__")
    return spec if type(spec) is ModuleSpec else None


def is_installed(module: ModuleType) -> bool:
    """Whether a loaded module is no file that a user may be editing."""
    spec = getattr(module, "__spec__", None)  # None: made by another module, which is judged for itself
    return spec is None or _lies_in(spec, _installed_folders())


def _installed_folders() -> tuple[str, ...]:
    return tuple(folder + os.sep for folder in (STANDARD_LIBRARY, *site_folders()))


def package_folders() -> list[str]:
    """The folders of all installed packages that are loaded, subpackages included."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    folders = {os.path.dirname(file) for file in files if isinstance(file, str)}  # noqa: PTH120 - pathlib is not loaded
    return sorted(folder for folder in folders if folder.startswith(tuple(site_folders())))


def _lies_in(spec: object, folders: tuple[str, ...]) -> bool:
    """Whether a module of this spec is built in, or in one of these folders."""
    origin = getattr(spec, "origin", None)
    if origin is None:  # a namespace package
        places = list(getattr(spec, "submodule_search_locations", None) or ())
        return all(isinstance(place, str) and place.startswith(folders) for place in places)
    return isinstance(origin, str) and (origin in BUILT_IN or origin.startswith(folders))


def fingerprint(paths: Iterable[str]) -> dict[str, list[int] | None]:
    """The state of each of these files and folders by its path, to tell later whether any has changed."""
    return {path: file_state(path) for path in paths}


def file_state(path: str) -> list[int] | None:
    """Time of the last change in nanoseconds, and size in bytes; None when missing."""
    try:
        state = os.stat(path)  # noqa: PTH116 - as in process_tree
    except (OSError, ValueError):
        return None
    return [state.st_mtime_ns, state.st_size]


_on_import: dict[str, Callable[[Any], object]] = {}


def on_import(name: str, hook: Callable[[Any], object]) -> None:
    """Call a function with the module of this name as soon as it is imported, before anybody else gets it."""
    if not _on_import:
        _watch_imports()
    _on_import[name] = hook


def _watch_imports() -> None:
    load = _bootstrap._load_unlocked

    def load_and_tell(spec: Any) -> Any:  # noqa: ANN401 - a spec, and a module
        module = load(spec)
        if (hook := _on_import.get(spec.name)) is not None:
            hook(module)
        return module

    # Warnings and tracebacks skip functions of importlib's, which they know by their file name.
    load_and_tell.__code__ = load_and_tell.__code__.replace(co_filename=load.__code__.co_filename)
    _bootstrap._load_unlocked = load_and_tell
