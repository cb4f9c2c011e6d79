"""Which module imports which in a template, and whose doing it is that one cannot be imported ahead.

Each module that is loaded passes through ``importlib._bootstrap._load_unlocked()``. A request for one that is
there already passes through nothing of Python's, unless the module counts as one that is being initialized:
CPython then calls ``_lock_unlock_module()`` (import_ensure_initialized() in Python/import.c). So all modules count
as that for as long as a template imports.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    Function = TypeVar("Function", bound="Callable[..., Any]")

bootstrap: Any = sys.modules["_frozen_importlib"]


def as_machinery(function: Function) -> Function:
    """The function as one of the import system's own, which warnings and tracebacks pass over by their file name.

    Args:
        function: that stands in the way of an import.
    """
    code: Any = function.__code__
    function.__code__ = code.replace(co_filename=bootstrap._load_unlocked.__code__.co_filename)
    return function


class Imports:
    """The imports of a template.

    Attributes:
        before: names of the modules that there were before.
        needs: names of modules by the name of the module that asks for them while it is imported.
        reasons: why a module cannot be ahead, by its name; of those that are to blame for it themselves.
        failed: what those have raised that could not be imported, if it did not come from another module.
        loaded: names of those that were imported, in the order in which their imports began.
        tops: names of those that no other module's import has asked for first.
    """

    def __init__(self) -> None:
        self.before = frozenset(sys.modules)
        self.needs: dict[str, set[str]] = {}
        self.reasons: dict[str, str] = {}
        self.failed: dict[str, str] = {}
        self.loaded: dict[str, None] = {}
        self.tops: set[str] = set()
        self._at_work: list[str] = []
        self._requested = ""
        self._problem: BaseException | None = None
        self._is_first = [True]  # shared by all modules: a list that is empty is false

    @property
    def at_work(self) -> str:
        """The module whose code runs now."""
        return self._at_work[-1] if self._at_work else self._requested

    def blame(self, reason: str) -> None:
        """What happens now must not happen in a template.

        Args:
            reason: what it is.
        """
        self.reasons.setdefault(self.at_work, reason)

    def ask_for(self, name: str) -> None:
        """A module is about to be imported for the template's own sake.

        Args:
            name: of the module.
        """
        self._requested = name

    @contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        """Imports are noted inside this block.

        Args:
            look: called whenever another module's code has its turn, to blame the one that had it until now.
        """
        load, lock_unlock = bootstrap._load_unlocked, bootstrap._lock_unlock_module

        @as_machinery
        def note_load(spec: Any) -> Any:  # noqa: ANN401 - a spec, and a module
            look()
            self._begin(spec.name)
            try:
                module = load(spec)
            except BaseException as problem:
                self._fail(spec.name, problem)
                raise
            finally:
                look()
                self._at_work.pop()
            self._arm(spec.name)
            return module

        @as_machinery
        def note_request(name: str) -> None:
            self._note(name)
            lock_unlock(name)

        bootstrap._load_unlocked, bootstrap._lock_unlock_module = note_load, note_request
        try:
            yield
        finally:
            bootstrap._load_unlocked, bootstrap._lock_unlock_module = load, lock_unlock
            self._problem = None
            self._disarm()

    def _begin(self, name: str) -> None:
        self._note(name)
        if not self._at_work:
            self.tops.add(name)
        self._at_work.append(name)
        self.loaded.setdefault(name)
        parent = name.rpartition(".")[0]
        if parent:
            self.needs.setdefault(name, set()).add(parent)

    def _fail(self, name: str, problem: BaseException) -> None:
        if problem is not self._problem:
            self.failed.setdefault(name, f"{type(problem).__name__} while it was imported")
        self._problem = problem

    def _note(self, name: str) -> None:
        if self._at_work:
            self.needs.setdefault(self._at_work[-1], set()).add(name)

    def _arm(self, name: str) -> None:
        spec: Any = getattr(sys.modules.get(name), "__spec__", None)
        if type(spec) is bootstrap.ModuleSpec:
            spec._initializing = self._is_first

    def _disarm(self) -> None:
        for name in self.loaded:
            spec: Any = getattr(sys.modules.get(name), "__spec__", None)
            if type(spec) is bootstrap.ModuleSpec and spec._initializing is self._is_first:
                spec._initializing = False

    def needing(self) -> dict[str, set[str]]:
        """What :attr:`needs` says, the other way round."""
        found: dict[str, set[str]] = {}
        for name, needed in self.needs.items():
            for other in needed:
                found.setdefault(other, set()).add(name)
        return found

    def kept(self, wanted: Iterable[str], refused: Collection[str]) -> set[str]:
        """What is left without some modules, without those that need them, and without those that only these need.

        Args:
            wanted: names of the modules that the program asks for itself.
            refused: names of modules.
        """
        without = reached(refused, self.needing())
        needs = {name: needed - without for name, needed in self.needs.items() if name not in without}
        return reached([name for name in (*wanted, *self.tops) if name not in without], needs)


def reached(names: Iterable[str], ways: dict[str, set[str]]) -> set[str]:
    """These names, and all that can be reached from one of them.

    Args:
        names: to begin with.
        ways: from one name to others.
    """
    found = set(names)
    rest = list(found)
    while rest:
        for name in ways.get(rest.pop(), ()):
            if name not in found:
                found.add(name)
                rest.append(name)
    return found
