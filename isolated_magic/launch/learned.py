"""What programs were seen to import, so that a template can do it before the next time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from isolated_magic.launch.scan import Program

# Importing these is an event of its own: it opens a window or a browser, prints, or changes the terminal.
_NEVER = frozenset({"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "test", "readline"})

MOST_PROGRAMS = 256

Key: TypeAlias = "tuple[frozenset[str], str]"


@dataclass(frozen=True)
class Lesson:
    """What a program with certain imports was seen to import.

    Args:
        modules: names, in the order in which they came.
        files: paths of what it imported that is not installed.
    """

    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


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


class Learned:
    """What was learned.

    Modules of the standard library go to every template. The others go to those for programs with the same imports
    only: importing them may change what another program sees (its warnings, its codecs, its ``sys.modules``).

    Args:
        given: modules that every template imports, because somebody said so.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._everywhere: dict[str, None] = dict.fromkeys(given)
        self._by_program: dict[Key, Lesson] = {}
        self._refused: set[str] = set()
        self._lessons: dict[Key, Lesson] = {}  # what was asked for, ready made: it may name thousands of modules

    def learn(self, program: Program, folder: str, modules: Iterable[str], files: Iterable[str]) -> None:
        """Take in what a run reports.

        Args:
            program: that ran.
            folder: that it was at home in.
            modules: names of installed modules.
            files: paths of other modules.
        """
        self._lessons.clear()
        wanted = [name for name in modules if name.partition(".")[0] not in _NEVER]
        if not program.imports:
            names = [name for name in wanted if name.partition(".")[0] in sys.stdlib_module_names]
            self._everywhere.update(dict.fromkeys(names))
            return
        if len(self._by_program) >= MOST_PROGRAMS:
            self._by_program.pop(next(iter(self._by_program)))
        key = (program.imports, folder)
        before = self._by_program.get(key, Lesson())
        self._by_program[key] = Lesson(
            tuple(dict.fromkeys([*before.modules, *wanted])), tuple(dict.fromkeys([*before.files, *files]))
        )

    def refuse(self, module: str) -> None:
        """Never again, until the installed packages change.

        Args:
            module: whose import did not do.
        """
        self._refused.add(module)
        self._lessons.clear()

    def packages_changed(self) -> None:
        """What was refused may do now, and what was seen may be gone."""
        self._refused.clear()
        self._by_program.clear()
        self._lessons.clear()

    def lesson_for(self, program: Program, folder: str) -> Lesson:
        """What to import for this program.

        Args:
            program: that is to run.
            folder: that it is at home in.
        """
        key = (program.imports, folder)
        lesson = self._lessons.get(key)
        if lesson is None:
            if len(self._lessons) >= MOST_PROGRAMS:
                self._lessons.clear()
            known = self._by_program.get(key, Lesson())
            modules = dict.fromkeys([*self._everywhere, *known.modules])
            lesson = Lesson(tuple(without(self._refused, modules)), known.files)
            self._lessons[key] = lesson
        return lesson
