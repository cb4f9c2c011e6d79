"""What programs were seen to import, so that a template can do it before the next time."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from isolated_magic.child.stdlib import is_standard
from isolated_magic.launch.recipe import environment_for
from isolated_magic.launch.scan import program_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isolated_magic.launch.recipe import Recipe, Refusal
    from isolated_magic.launch.scan import Program

# Importing these is an event of its own: it opens a window or a browser, prints, or changes the terminal.
_OPENING = frozenset({"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "test", "readline"})
# And these warn whoever imports them that they are deprecated (PEP 594, PEP 632).
_WARNING = frozenset(
    {
        *(
            "aifc",
            "asynchat",
            "asyncore",
            "audioop",
            "cgi",
            "cgitb",
            "chunk",
            "crypt",
            "distutils",
            "imghdr",
            "imp",
        ),
        *("lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd", "sndhdr", "spwd"),
        *("sunau", "telnetlib", "uu", "xdrlib"),
    }
)
_NEVER = _OPENING | _WARNING

# Our own part of each run imports these, and so does every template before anything else.
_OURS = frozenset({"_posixsubprocess", "linecache", "token", "tokenize", "warnings"})

# multiprocessing gives __main__ a second name in sys.modules, which every program would see.
_NOT_FOR_ALL = ("multiprocessing", "concurrent.futures.process")

MOST_PROGRAMS = 256
NOT_THERE = "there is no such module"

Key: TypeAlias = "tuple[frozenset[str], str]"


@dataclass(frozen=True)
class Lesson:
    """What a program with certain imports was seen to import.

    Args:
        modules: names, in the order in which to import them.
        files: paths of what it imported that is not installed.
        wanted: names of those modules that the program and these files ask for themselves.
        is_known: whether such a program was seen.
    """

    modules: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    wanted: frozenset[str] = frozenset()
    is_known: bool = False


class Learned:
    """What was learned.

    Modules of the standard library go to every template. The others go to those for programs with the same imports
    only: importing them may change what another program sees (its warnings, its codecs, its ``sys.modules``).

    Args:
        given: modules that every template imports, because somebody said so.
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        self.given = tuple(given)
        self.reasons: dict[str, str] = {}  # why a module cannot be ahead
        self._everywhere: dict[str, None] = dict.fromkeys(given)
        self._by_program: dict[Key, Lesson] = {}
        self._dropped: dict[frozenset[str], dict[int, set[str]]] = {}  # by the imports, and by the environment
        self._lessons: dict[
            tuple[frozenset[str], str, int], Lesson
        ] = {}  # what was asked for, ready made: it may name thousands of modules

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
            # Code that lists what is not of the standard library by its name would see _sysconfigdata_..., too.
            names = [
                name
                for name in wanted
                if name.partition(".")[0] in sys.stdlib_module_names - _OURS and not name.startswith(_NOT_FOR_ALL)
            ]
            self._everywhere.update(dict.fromkeys(names))
            return
        if len(self._by_program) >= MOST_PROGRAMS:
            self._by_program.pop(next(iter(self._by_program)))
        key = (program.imports, folder)
        before = self._by_program.get(key, Lesson())
        self._by_program[key] = Lesson(
            tuple(dict.fromkeys([*before.modules, *wanted])),
            tuple(dict.fromkeys([*before.files, *files])),
            is_known=True,
        )

    def refuse(self, recipe: Recipe, refusal: Refusal) -> None:
        """Such programs do without some modules, until the installed packages change.

        Args:
            recipe: of the template that tried.
            refusal: what came of it.
        """
        self.reasons.update(refusal.reasons)
        dropped = self._dropped.setdefault(recipe.imports, {})
        dropped.setdefault(_kind(recipe.environment), set()).update({*recipe.modules} - {*refusal.kept})
        self._lessons.clear()

    def note_missing(self, names: Iterable[str]) -> None:
        """Modules are not there.

        Args:
            names: theirs.
        """
        self.reasons.update((name, NOT_THERE) for name in names if name in self.given)

    def packages_changed(self) -> None:
        """What was refused may do now, and what was seen may be gone."""
        for known in (self.reasons, self._dropped, self._by_program, self._lessons):
            known.clear()

    def lesson_for(self, program: Program, folder: str, environment: Mapping[bytes, bytes]) -> Lesson:
        """What to import for this program.

        Args:
            program: that is to run.
            folder: that it is at home in.
            environment: of the run.

        Raises:
            OSError: the system is short of what it takes to read a file.
        """
        imports = program.imports
        depends = self._dropped.keys() & {imports, frozenset()} if self._dropped else ()
        kind = _kind(environment) if depends else 0
        key = (imports, folder, kind)
        lesson = self._lessons.get(key)
        if lesson is None:
            if len(self._lessons) >= MOST_PROGRAMS:
                self._lessons.clear()
            lesson = self._lessons[key] = self._made(
                program, self._by_program.get((imports, folder), Lesson()), kind
            )
        return lesson

    def _made(self, program: Program, known: Lesson, kind: int) -> Lesson:
        """A module is imported by whoever asks for it: what this one does before that is done then."""
        asked_for = [program.in_order, *(program_in(file).in_order for file in known.files), self.given]
        wanted = dict.fromkeys(name for names in asked_for for name in names)
        modules = dict.fromkeys([*self._everywhere, *known.modules])
        dropped = {
            name
            for imports in (program.imports, frozenset[str]())
            for name in self._dropped.get(imports, {}).get(kind, ())
        }
        standard = [name for name in modules if is_standard(name)]
        # A module stands behind those that it asked for: it has them imported when it comes before them.
        others = dict.fromkeys([*(name for name in wanted if name in modules), *reversed(modules)])
        in_order = dict.fromkeys([*standard, *others])
        return Lesson(
            tuple(name for name in in_order if name not in dropped),
            known.files,
            frozenset(wanted.keys() & modules.keys()),
            known.is_known,
        )


def _kind(environment: Mapping[bytes, bytes]) -> int:
    """What tells environments apart in which an import may be refused or not."""
    return hash(frozenset(environment_for(environment).items()))
