"""What imports change about the environment: noted in a template, undone there, and done again where it belongs.

A module that sets a variable while it is imported can be ahead all the same: the runs see the variable from when
they import the module, or another one that imports it, and not before (see ``pending.py``).
"""

from __future__ import annotations

import os
import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

from .imports import reached

if TYPE_CHECKING:
    from .imports import Imports
    from .patches import Patch


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
