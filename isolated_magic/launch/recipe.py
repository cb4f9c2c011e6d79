"""What a template is made of, and what its imports looked at."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from isolated_magic.child.attributes import credentials
from isolated_magic.child.stdlib import is_standard
from isolated_magic.environment import acts_at_start, is_public
from isolated_magic.launch.attributes import fixed

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from isolated_magic.launch.attributes import Attributes

MOST_NAMES = 10_000  # remembered: some programs have variables whose names change from run to run


class Report(TypedDict):
    """What a template says when it is ready.

    Args:
        names: of variables that its imports looked at.
        patterns: for names of more of them, in lower case.
        exempt: names that no pattern means.
        folder: whether they looked at the working directory.
        missing: names of modules that they looked for and that are not there.
        late: names of those beside the standard library's that no program asks for, but a function that it calls.
        not_there: names of those that were to be imported and are not there.
        files: what they looked at that is not part of a package: nanoseconds of the last change and size by path,
            None for what was missing.
        packages: likewise, the folders that packages are installed into, and the interpreter.
        modules: names of all that it has imported.
        places: folders that hold the packages that it has imported.
        in_front: folders that stand before the libraries on its path.
    """

    names: list[str]
    patterns: list[str]
    exempt: list[str]
    folder: bool
    missing: list[str]
    late: list[str]
    not_there: list[str]
    files: dict[str, list[int] | None]
    packages: dict[str, list[int] | None]
    modules: list[str]
    places: list[str]
    in_front: list[str]


def without(refused: Container[str], modules: Iterable[str]) -> Iterator[str]:
    """Those that can be imported without importing any of the refused ones.

    Args:
        refused: names of modules.
        modules: likewise.
    """
    for name in modules:
        parts = name.split(".")
        if not any(".".join(parts[:count]) in refused for count in range(1, len(parts) + 1)):
            yield name


@dataclass(frozen=True)
class Refusal:
    """Why a template has ended instead of becoming ready.

    Args:
        reasons: why a module cannot be ahead, by its name; empty when no module is to blame.
        kept: names of those that can be, in their order.
        is_unclear: to tell which module is to blame takes a closer look.
    """

    reasons: Mapping[str, str]
    kept: tuple[str, ...] = ()
    is_unclear: bool = False


@dataclass(frozen=True)
class Recipe:
    """What a template is made of.

    Args:
        executable: the interpreter.
        modules: to import, in this order.
        wanted: those of them that a program asks for itself.
        imports: it may serve programs that import all of these.
        environment: what it is started with.
        cwd: the working directory it is started in.
        stack_bytes: of its main thread, and of the threads of its forks.
        attributes: what it inherits.
        credentials: whom it acts for.
        in_detail: whether it looks at its process after each module.
    """

    executable: str
    modules: tuple[str, ...]
    wanted: frozenset[str]
    imports: frozenset[str]
    environment: Mapping[bytes, bytes] = field(repr=False)
    cwd: str
    stack_bytes: int
    attributes: Attributes
    credentials: tuple[object, ...]
    in_detail: bool = False

    def refusal_of(self, name: str, reason: str) -> Refusal:
        """A module is to blame, and nobody knows what it imports: what no program asks for itself goes too.

        Args:
            name: of the module, empty when it is none.
            reason: why.
        """
        if not name:
            return Refusal({})
        kept = [one for one in self.modules if is_standard(one) or one in self.wanted]
        return Refusal({name: reason}, tuple(without({name}, kept)))

    def is_for(self, attributes: Attributes) -> bool:
        """Whether this process, with these attributes, would inherit the same to a child of its own.

        Args:
            attributes: of the caller.
        """
        return self.credentials == credentials() and fixed(self.attributes) == fixed(attributes)


def environment_for(environment: Mapping[bytes, bytes], inputs: Inputs | None = None) -> dict[bytes, bytes]:
    """What a template for such runs is started with.

    Args:
        environment: of a run that it is for.
        inputs: what its imports are known to look at.
    """

    def matters(name: bytes) -> bool:
        return acts_at_start(name) or is_public(name) or (inputs is not None and inputs.read(name))

    return {name: value for name, value in environment.items() if matters(name)}


class Inputs:
    """What the imports of a template looked at, as it reports it.

    Args:
        report: the template's, None when there is none yet.
    """

    def __init__(self, report: Report | None = None) -> None:
        self._names = frozenset(report["names"] if report else ())
        self._patterns = tuple(report["patterns"] if report else ())
        self._exempt = frozenset(report["exempt"] if report else ())
        self._known: dict[bytes, bool] = {}

    def read(self, name: bytes) -> bool:
        """Whether they looked at this variable.

        Args:
            name: of the variable.
        """
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= MOST_NAMES:
                self._known.clear()
            known = self._known[name] = self._looked_at(os.fsdecode(name))
        return known

    def _looked_at(self, name: str) -> bool:
        if name in self._names:
            return True
        if name in self._exempt:
            return False
        return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in self._patterns)
