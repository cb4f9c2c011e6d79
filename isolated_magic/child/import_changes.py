"""What the imports of the fork server change: variables, which are undone for each run to do again; and modules.

A module that sets a variable while it is imported can be preloaded all the same: a run sees the variable from when
it imports the module, or another one that imports it, and not before (``Pending`` in ``preload.py``).
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
    """One change of a variable, by the import of a module."""

    module: str
    kind: str  # the function that makes it
    name: bytes
    value: bytes  # empty where there is none

    def apply(self) -> None:
        """Make it again."""
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
    """All changes of variables by imports."""

    def __init__(self, imports: Imports) -> None:
        self.made: list[Change] = []  # in their order
        self._imports = imports
        self._environ = os.environ
        self._data: Any = os.environ._data  # type: ignore[attr-defined]
        self._before = dict(self._data)
        self._expected = dict(self._before)
        self._makers: dict[bytes, set[str]] = {}
        self._readers: dict[bytes, set[str]] = {}
        self._walkers: dict[str, set[str]] = {}

    def patches(self) -> list[Patch]:
        """The functions that change variables."""
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
        """A module reads a variable."""
        self._readers.setdefault(os.fsencode(name), set()).add(self._imports.at_work)

    def walk(self, pattern: str) -> None:
        """A module reads the variables whose names match, in lower case."""
        self._walkers.setdefault(pattern, set()).add(self._imports.at_work)

    def judge(self) -> None:
        """Blame modules that read what one sets that they do not import: the order of imports would matter."""
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
        """What to say if the environment was changed in another way than through the patched functions."""
        if os.environ is not self._environ or self._data != self._expected:
            return "it replaces the environment"
        return None

    def undo(self) -> None:
        """Restore the variables."""
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
    """Make a function look like one of importlib's: warnings and tracebacks skip those, by their file name."""
    code: Any = function.__code__
    function.__code__ = code.replace(co_filename=bootstrap._load_unlocked.__code__.co_filename)
    return function


class Imports:
    """The imports of the fork server: which module needs which, and which is to blame for what.

    Each module that is loaded passes through ``importlib._bootstrap._load_unlocked()``. A request for one that is
    there already calls nothing of Python's, unless the module counts as one that is being initialized: CPython
    then calls ``_lock_unlock_module()`` (import_ensure_initialized() in Python/import.c). So all count as that
    meanwhile.
    """

    def __init__(self) -> None:
        self.before = frozenset(sys.modules)
        self.needs: dict[str, set[str]] = {}  # by the module that asks for them while it is imported
        self.reasons: dict[str, str] = {}  # why a module that is to blame cannot be preloaded
        self.failed: dict[str, str] = {}  # what a module raised, unless it came from another one
        self.loaded: dict[str, None] = {}  # in the order in which their imports began
        self.tops: set[str] = set()  # those that no other module asked for first
        self._at_work: list[str] = []
        self._requested = ""
        self._problem: BaseException | None = None
        self._is_first = [True]  # shared by all modules: a list that is empty is false

    @property
    def at_work(self) -> str:
        """The module whose code runs now."""
        return self._at_work[-1] if self._at_work else self._requested

    def blame(self, reason: str) -> None:
        """Note why the module whose code runs now cannot be preloaded."""
        self.reasons.setdefault(self.at_work, reason)

    def ask_for(self, name: str) -> None:
        """Note which module the fork server itself imports next."""
        self._requested = name

    @contextmanager
    def watched(self, look: Callable[[], None]) -> Iterator[None]:
        """Note imports inside this block; ``look`` is called before the code of another module runs."""
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
        """:attr:`needs`, inverted."""
        found: dict[str, set[str]] = {}
        for name, needed in self.needs.items():
            for other in needed:
                found.setdefault(other, set()).add(name)
        return found

    def kept(self, wanted: Iterable[str], refused: Collection[str]) -> set[str]:
        """What is left without refused modules, those that need them, and those that only these need."""
        without = reached(refused, self.needing())
        needs = {name: needed - without for name, needed in self.needs.items() if name not in without}
        return reached([name for name in (*wanted, *self.tops) if name not in without], needs)


def reached(names: Iterable[str], ways: dict[str, set[str]]) -> set[str]:
    """These names, and all that can be reached from them."""
    found = set(names)
    rest = list(found)
    while rest:
        for name in ways.get(rest.pop(), ()):
            if name not in found:
                found.add(name)
                rest.append(name)
    return found


Patch: TypeAlias = (
    "tuple[Any, str, Callable[..., None]]"  # the owner of a function, its name, what notes its calls
)


@contextmanager
def patched(patches: Collection[Patch], listens: Callable[[], bool]) -> Iterator[None]:
    """Replace these functions inside this block by ones that note a call before they make it, if ``listens()``.

    What notes a call may raise: then it is not made. An audit hook would hear of more calls, but cannot be
    removed, and every fork would have it: ``copy.deepcopy()``, which calls ``id()`` all the time, takes nearly
    twice as long then.
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
    """Stands in for a function of a module: one of C mostly, which as an attribute of a class makes no method.

    A function of Python would.
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
    """Replace the stand-ins that new modules have taken, by ``from os import remove`` for example."""
    for name in list(sys.modules):
        module = sys.modules[name]
        if name not in loaded and isinstance(module, ModuleType):
            names = vars(module)
            for key, value in list(names.items()):
                if type(value) is _StandIn:
                    names[key] = value.function
