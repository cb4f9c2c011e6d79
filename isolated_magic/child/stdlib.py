"""Imports from the standard library, whatever the user's folders hold.

A folder on PYTHONPATH, the folder of the file that runs and the working directory all stand before the standard
library. A ``json.py`` or ``token.py`` there is what the user's code should get, but not what ours may.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from types import ModuleType, TracebackType

FOLDER = os.path.dirname(os.__file__)  # noqa: PTH120 - pathlib costs each run 5 ms
PATH = [entry for entry in sys.path if entry.startswith(FOLDER) and "-packages" not in entry[len(FOLDER) :]]

_loaded: set[str] = set()
_settled = False


def settle() -> None:
    """Nothing more to do here: ours have what they need, and no folder of the user's has its names."""
    global _settled  # noqa: PLW0603 - a fact about the process
    _settled = True


class Imports:
    """What is imported inside this block comes from the standard library.

    Modules of the user's with the same names are back in their places after it.
    """

    def __enter__(self) -> None:
        self._idle = _settled
        if self._idle:
            return
        self._path, sys.path = sys.path, PATH
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


def module(name: str) -> ModuleType:
    """A module of the standard library; one that is there already is not looked for among all others.

    Args:
        name: of one that is no part of a package.
    """
    found = sys.modules.get(name)
    if found is None or _is_foreign(name, found):
        with Imports():
            found = __import__(name)
        give_way()
    return found


def give_way() -> None:
    """Take back the modules that were loaded here where a folder of the user's has one of those names.

    The user's code then gets what it would have got from an interpreter that had not loaded them. Ours keep
    what they imported.
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
    return isinstance(file, str) and (not file.startswith(FOLDER) or "-packages" in file[len(FOLDER) :])


def _is_taken(name: str) -> bool:
    """Whether a folder that stands before the standard library has a module of that name."""
    for entry in sys.path:
        if entry.startswith(FOLDER):
            return False
        path = os.path.join(entry, name)  # noqa: PTH118 - pathlib costs each run 5 ms
        if os.path.exists(f"{path}.py") or os.path.isdir(path):  # noqa: PTH110, PTH112 - likewise
            return True
    return False


def is_standard(name: str) -> bool:
    """Whether a module is one of the standard library's.

    Args:
        name: of the module.
    """
    package = name.partition(".")[0]
    return package in sys.stdlib_module_names or package.startswith("_sysconfigdata")
