"""What imports change about the environment: noted in a template, undone there, and done again where it belongs.

A module that sets a variable while it is imported can be ahead all the same: the runs see the variable from when
they import the module, or another one that imports it, and not before (see ``preload.py``).
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import update_wrapper, wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    Function = TypeVar("Function", bound="Callable[..., Any]")


class Change(NamedTuple):
    """One change, as a module's code makes it.

    Args:
        module: whose import makes it.
        kind: the name of the function that makes it.
        name: of the variable.
        value: that it gets, empty where there is none.
    """

    module: str
    kind: str
    name: bytes
    value: bytes

    def make(self) -> None:
        """Do it, in this process."""
        if self.kind == "__setitem__":
            os.environb[self.name] = self.value
        elif self.kind == "setdefault":
            os.environb.setdefault(self.name, self.value)
        elif self.kind == "__delitem__":
            os.environb.pop(self.name, None)
        elif self.kind == "putenv":
            os.putenv(self.name, self.value)
        else:
            os.unsetenv(self.name)


class Changes:
    """All of them.

    Args:
        imports: tell whose doing a change is.

    Attributes:
        made: in their order.
    """

    def __init__(self, imports: Imports) -> None:
        self.made: list[Change] = []
        self._imports = imports
        self._environ = os.environ
        self._data: Any = os.environ._data  # type: ignore[attr-defined]
        self._before = dict(self._data)
        self._expected = dict(self._before)
        self._makers: dict[bytes, set[str]] = {}
        self._readers: dict[bytes, set[str]] = {}
        self._walkers: dict[str, set[str]] = {}

    def patches(self) -> list[Patch]:
        """The ways to change a variable."""
        environ = type(os.environ)
        return [
            (environ, "__setitem__", self._set),
            (environ, "__delitem__", self._delete),
            (environ, "setdefault", self._set_default),
            (os, "putenv", self._put),
            (os, "unsetenv", self._unset),
        ]

    def _set(self, _environ: object, name: object, value: object) -> None:
        if sys._getframe(2).f_code is not _SET_DEFAULT:
            self._note("__setitem__", name, value)

    def _set_default(self, _environ: object, key: object, value: object) -> None:
        self._note("setdefault", key, value)

    def _delete(self, _environ: object, name: object) -> None:
        self._note("__delitem__", name, b"")

    def _put(self, name: object, value: object) -> None:
        if sys._getframe(2).f_globals is not vars(os):
            self._note("putenv", name, value)

    def _unset(self, name: object) -> None:
        if sys._getframe(2).f_globals is not vars(os):
            self._note("unsetenv", name, b"")

    def _note(self, kind: str, name: object, value: object) -> None:
        if not (isinstance(name, (str, bytes)) and isinstance(value, (str, bytes))):
            return  # the call itself will fail
        change = Change(self._imports.at_work, kind, os.fsencode(name), os.fsencode(value))
        self.made.append(change)
        self._makers.setdefault(change.name, set()).add(change.module)
        if kind == "__delitem__":
            self._expected.pop(change.name, None)
        elif kind == "__setitem__" or (kind == "setdefault" and change.name not in self._expected):
            self._expected[change.name] = change.value

    def read(self, name: str) -> None:
        """A module looks at a variable.

        Args:
            name: of the variable.
        """
        self._readers.setdefault(os.fsencode(name), set()).add(self._imports.at_work)

    def walk(self, pattern: str) -> None:
        """A module looks at many.

        Args:
            pattern: for their names, in lower case.
        """
        self._walkers.setdefault(pattern, set()).add(self._imports.at_work)

    def judge(self) -> None:
        """Blame modules that look at what others set that they do not need: it depends on who comes first."""
        for name, makers in self._makers.items():
            text = os.fsdecode(name).lower()
            readers = self._readers.get(name, set()).union(
                *(walkers for pattern, walkers in self._walkers.items() if fnmatchcase(text, pattern))
            )
            for reader in readers:
                others = makers - {reader}
                strangers = others and others - reached([reader], self._imports.needs)
                if strangers:
                    self._imports.reasons.setdefault(reader, f"it reads a variable that {min(strangers)} sets")

    def others(self) -> str | None:
        """What has become of the environment behind our back, None when nothing has."""
        if os.environ is not self._environ or self._data != self._expected:
            return "it replaces the environment"
        return None

    def undo(self) -> None:
        """Have the variables again that there were before."""
        os.environ = self._environ  # noqa: B003 - the object that every module has
        for name in self._makers:
            if name in self._before:
                os.environb[name] = self._before[name]
            else:
                os.environb.pop(name, None)
                os.unsetenv(name)


_SET_DEFAULT = type(os.environ).setdefault.__code__


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


Patch: TypeAlias = (
    "tuple[Any, str, Callable[..., None]]"  # the owner of a function, its name, who is told of its calls
)


@contextmanager
def patched(patches: Collection[Patch], listens: Callable[[], bool]) -> Iterator[None]:
    """Have calls of these functions noted inside this block.

    Args:
        patches: which functions. Who is told may raise, and what was called is then not done.
        listens: whether a call is to be noted now.
    """
    loaded = set(sys.modules)
    kept = [(owner, name, vars(owner).get(name)) for owner, name, _ in patches]
    for owner, name, note in patches:
        setattr(owner, name, _stand_in(owner, getattr(owner, name), note, listens))
    try:
        yield
    finally:
        for owner, name, function in kept:
            if function is None:  # it was a base class that had it
                delattr(owner, name)
            else:
                setattr(owner, name, function)
        _give_back(loaded)


def _stand_in(
    owner: object, function: Callable[..., Any], note: Callable[..., None], listens: Callable[[], bool]
) -> Callable[..., Any]:
    if not isinstance(owner, type):
        return _StandIn(function, note, listens)

    @wraps(function)
    def stand_in(*args: Any, **settings: Any) -> Any:  # noqa: ANN401 - stands in for any method
        if listens():
            note(*args, **settings)
        return function(*args, **settings)

    return stand_in


class _StandIn:
    """Stands in for a function of a module.

    Most of those are written in C, and a class that has one as an attribute does not make a method of it. It does
    so with functions of Python, but not with this.
    """

    def __init__(
        self, function: Callable[..., Any], note: Callable[..., None], listens: Callable[[], bool]
    ) -> None:
        self.function = function
        self._note = note
        self._listens = listens
        update_wrapper(self, function)

    def __eq__(self, other: object) -> bool:  # `os.stat in os.supports_fd`
        return other is self or other is self.function

    def __hash__(self) -> int:
        return hash(self.function)

    def __call__(self, /, *args: Any, **settings: Any) -> Any:  # noqa: ANN401 - stands in for any function
        if self._listens():
            self._note(*args, **settings)
        return self.function(*args, **settings)


def _give_back(loaded: Collection[str]) -> None:
    """Put the functions themselves where a module has taken a stand-in: by ``from os import remove``, say.

    Args:
        loaded: names of the modules that were there before all that.
    """
    for name in list(sys.modules):
        module = sys.modules[name]
        if name not in loaded and isinstance(module, ModuleType):
            names = vars(module)
            for key, value in list(names.items()):
                if type(value) is _StandIn:
                    names[key] = value.function
