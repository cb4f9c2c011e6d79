"""Which modules are installed, and which are files that a user may be editing."""

from __future__ import annotations

import os
import sys

from . import stdlib

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
else:
    ModuleType, ModuleSpec = type(sys), type(sys.__spec__)  # without the modules that have the names

BUILT_IN = ("built-in", "frozen")


def site_folders() -> list[str]:
    """The folders that packages are installed into, as far as this interpreter looks there."""
    site = sys.modules.get("site")
    if site is None:
        return []
    folders = [*site.getsitepackages(), site.USER_SITE if site.ENABLE_USER_SITE else None]
    return [folder for folder in folders if folder in sys.path]


def split(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """The installed ones of these modules, by name, and the files of the others.

    Args:
        names: of modules that are loaded, in the order in which they came.

    Returns:
        Names that another interpreter can import, standard library included; and paths. Modules that came from
        no file, or under a name that is not their own, are in neither.
    """
    folders = tuple(folder + os.sep for folder in (stdlib.FOLDER, *site_folders()))
    installed: list[str] = []
    files: list[str] = []
    for name in names:
        spec = _spec_of(sys.modules.get(name))
        if spec is None or spec.name != name:
            continue
        if spec.origin in BUILT_IN or _lies_in(spec, folders):
            installed.append(name)
        elif isinstance(spec.origin, str):
            files.append(spec.origin)
    return installed, files


def _spec_of(module: object) -> ModuleSpec | None:
    """As the import noted it. What the code put in place of a module, or of that, is not asked for anything."""
    if not issubclass(type(module), ModuleType):
        return None
    spec = ModuleType.__getattribute__(module, "__dict__").get("__spec__")
    return spec if type(spec) is ModuleSpec else None


def is_installed(module: ModuleType) -> bool:
    """Whether a module is no file that a user may be editing.

    Args:
        module: loaded.
    """
    spec = getattr(module, "__spec__", None)
    if spec is None:  # made by hand, by a module that is judged for itself
        return True
    folders = tuple(folder + os.sep for folder in (stdlib.FOLDER, *site_folders()))
    return spec.origin in BUILT_IN or _lies_in(spec, folders)


def places() -> list[str]:
    """The folders that hold the installed packages that are loaded, all of their subpackages among them."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    folders = {os.path.dirname(file) for file in files if isinstance(file, str)}  # noqa: PTH120 - pathlib is not loaded
    return sorted(folder for folder in folders if folder.startswith(tuple(site_folders())))


def _lies_in(spec: object, folders: tuple[str, ...]) -> bool:
    origin = getattr(spec, "origin", None)
    if origin is None:  # a namespace package
        places = list(getattr(spec, "submodule_search_locations", None) or ())
        return all(isinstance(place, str) and place.startswith(folders) for place in places)
    return isinstance(origin, str) and origin.startswith(folders)
