"""What earlier runs imported, in this process and in those before it, and what could not be imported ahead."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from isolated_magic.child.modules import is_standard
from isolated_magic.launch.fork_server.freshness import environment_for, without
from isolated_magic.launch.fork_server.import_cache import ProgramImports, cache_for
from isolated_magic.launch.fork_server.source_scan import SourceScan, scan_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isolated_magic.launch.fork_server.freshness import ForkServerSpec, PreloadFailure
    from isolated_magic.launch.fork_server.import_cache import ImportCache
    from isolated_magic.packages.interpreters import Interpreter

MOST_LEARNED = 256  # programs, by this process
NOT_THERE = "there is no such module"
REFUSED_BEFORE = "it could not be when it was last tried"
ANY_ENVIRONMENT = 0  # what was refused before this process was, for whatever reason

# Importing these has effects: it opens a window or a browser, prints, or changes the terminal.
_OPENING = frozenset({"antigravity", "this", "idlelib", "turtle", "turtledemo", "tkinter", "test", "readline"})
# Importing these warns that they are deprecated (PEP 594, PEP 632).
_WARNING = frozenset(
    {
        *("aifc", "asynchat", "asyncore", "audioop", "cgi", "cgitb", "chunk", "crypt", "distutils", "imghdr"),
        *("imp", "lib2to3", "mailcap", "msilib", "nis", "nntplib", "ossaudiodev", "pipes", "smtpd", "sndhdr"),
        *("spwd", "sunau", "telnetlib", "uu", "xdrlib"),
    }
)
_NEVER = _OPENING | _WARNING

# Our own part of every run and of every fork server imports these.
_OURS = frozenset({"_posixsubprocess", "linecache", "token", "tokenize", "warnings"})

# multiprocessing gives __main__ a second name in sys.modules, which every program would see.
_NOT_FOR_ALL = ("multiprocessing", "concurrent.futures.process")

Key: TypeAlias = "tuple[frozenset[str], str]"  # what a program imports, and the first entry of its path


@dataclass(frozen=True)
class KnownImports:
    """What programs with the same imports were seen to import."""

    modules: tuple[str, ...] = ()  # in the order in which to import them
    files: tuple[str, ...] = ()  # those that are not installed
    wanted: frozenset[str] = frozenset()  # those modules that the program and its files ask for themselves
    is_known: bool = False  # whether such a program was seen by this process
    # What programs import that a fork server with these modules may serve; None for what this program imports.
    imports: frozenset[str] | None = None


class ImportHistory:
    """What earlier runs imported, and what could not be imported ahead.

    Modules of the standard library go to every fork server. The others go to those for programs with the same
    imports only: importing them may change what another program sees (warnings, codecs, ``sys.modules``). Modules
    that the user gave as ``preload`` go to every fork server, too.

    Args:
        given: these.
        directory: for processes in this one, what is learned is kept, and what earlier ones have learned is known;
            None for neither.
        interpreter: of the runs; None for that of this process.
    """

    def __init__(
        self, given: Iterable[str] = (), directory: str | None = None, interpreter: Interpreter | None = None
    ) -> None:
        self.given = tuple(given)
        self._interpreter = interpreter
        self.cache: ImportCache | None = None
        self._directory = directory
        self._is_recalled = directory is None
        self.reasons: dict[str, str] = {}  # why a module cannot be ahead
        self._everywhere: dict[str, None] = dict.fromkeys(given)
        self._by_program: dict[Key, KnownImports] = {}
        self._dropped: dict[frozenset[str], dict[int, set[str]]] = {}  # by imports, then by environment
        # The answers that were given: each may name thousands of modules.
        self._answers: dict[tuple[frozenset[str], str, int], KnownImports] = {}
        self._earlier: tuple[ProgramImports, ...] = ()
        self._used: tuple[ProgramImports, ...] = ()  # by this process, the last one first
        self._loaded: dict[tuple[str, ...], frozenset[str]] = {}  # what comes with what programs ask for
        self._is_saved = True

    def recall(self) -> bool:
        """Read what earlier processes have learned, the first time; whether that is anything."""
        if self._is_recalled:
            return False
        assert self._directory is not None  # noqa: S101 - else there is nothing to recall
        self.cache = cache_for(self._directory, self._interpreter)
        earlier = () if self.cache is None else self.cache.load()
        self._answers.clear()
        for one in earlier:
            if one.refused:
                self.reasons.update(dict.fromkeys(one.refused, REFUSED_BEFORE))
                self._dropped[one.names] = {ANY_ENVIRONMENT: set(one.refused)}
            if not one.asked_for:
                self._everywhere.update(dict.fromkeys(_for_all(one.standard)))
        self._earlier = tuple(one for one in earlier if one.asked_for)
        self._is_recalled = True  # not before: another thread would begin with less
        return bool(earlier)

    def learn(
        self,
        scan: SourceScan,
        folder: str,
        modules: Iterable[str],
        files: Iterable[str],
        known: KnownImports | None = None,
    ) -> None:
        """Note what a run imported.

        Args:
            scan: of the program.
            folder: the first entry of its path.
            modules: the installed ones, in their order, beside those that its fork server had imported.
            files: the other ones.
            known: what was known of such programs when it started.
        """
        self._answers.clear()
        wanted = [name for name in modules if name.partition(".")[0] not in _NEVER]
        if not scan.imports:
            self._everywhere.update(dict.fromkeys(_for_all(wanted)))
            return
        if len(self._by_program) >= MOST_LEARNED:
            self._by_program.pop(next(iter(self._by_program)))
        key = (scan.imports, folder)
        before = self._by_program.get(key, KnownImports())
        if not before.is_known and known is not None and known.imports is not None:
            before = known
            refused = self._dropped.get(known.imports, {}).get(ANY_ENVIRONMENT, set())
            self._dropped.setdefault(scan.imports, {}).setdefault(ANY_ENVIRONMENT, set()).update(refused)
        self._by_program[key] = learned = KnownImports(
            tuple(dict.fromkeys([*before.modules, *wanted])),
            tuple(dict.fromkeys([*before.files, *files])),
            is_known=True,
        )
        if not before.is_known:
            self._remember_first(scan, learned)

    def _remember_first(self, scan: SourceScan, learned: KnownImports) -> None:
        """Keep what a program imports before there is a fork server for it: this process may end first."""
        if self.cache is None:
            return
        asked_for = [scan.in_order, *(scan_file(file).in_order for file in learned.files)]
        ordered = self._in_order(asked_for, learned, (scan.imports, "", ANY_ENVIRONMENT))
        names = tuple(name for name in ordered.modules if name in ordered.wanted)
        if names:
            self._use(ProgramImports(names, tuple(_for_all(ordered.modules))))
            self.save()

    def refuse(self, spec: ForkServerSpec, refusal: PreloadFailure) -> None:
        """Leave out for such programs what the failure is about, until the installed packages change."""
        self.reasons.update(refusal.reasons)
        dropped = self._dropped.setdefault(spec.imports, {})
        dropped.setdefault(_environment_key(spec.environment), set()).update({*spec.modules} - {*refusal.kept})
        self._answers.clear()

    def note_missing(self, names: Iterable[str]) -> None:
        """Note that modules are not there."""
        self.reasons.update((name, NOT_THERE) for name in names if name in self.given)

    def packages_changed(self) -> None:
        """Forget all: what was refused may work now, and what was seen may be gone."""
        for known in (self.reasons, self._dropped, self._by_program, self._answers):
            known.clear()
        self.forget_earlier()

    def forget_earlier(self) -> None:
        """Forget what earlier processes have learned, and keep nothing of what this one has learned so far."""
        self._answers.clear()
        self._loaded.clear()
        self._earlier, self._used, self._is_saved = (), (), True

    def imports_for(self, scan: SourceScan, folder: str, environment: Mapping[bytes, bytes]) -> KnownImports:
        """What to import ahead for this program; OSError if the system is short of descriptors to look."""
        imports = scan.imports
        key = (imports, folder, self._kind_of(imports, environment) if self._dropped else 0)
        answer = self._answers.get(key)
        if answer is None:
            known = self._by_program.get((imports, folder), KnownImports())
            asked_for = [scan.in_order, *(scan_file(file).in_order for file in known.files)]
            answer = self._note(key, self._in_order(asked_for, known, key))
        return answer

    def imports_before(self, scan: SourceScan, environment: Mapping[bytes, bytes]) -> KnownImports | None:
        """What to import ahead for a program that this process has not seen; None if earlier ones knew no such.

        Args:
            scan: of the program and its files.
            environment: of the run.
        """
        fitting = [one for one in self._earlier if one.names <= scan.all_imports]
        if not fitting:
            return None
        program = max(fitting, key=lambda one: len(one.names))  # of several the first one, which was used last
        self._use(program)
        return self._of_earlier(program, environment)

    def ahead(self, environment: Mapping[bytes, bytes]) -> list[KnownImports]:
        """What to import ahead of any run: for what was run here last; empty if nothing of that is known."""
        self.recall()
        programs = [self._of_earlier(one, environment) for one in self._earlier]
        if not programs and self._everywhere.keys() == {*self.given}:
            return []
        of_all = self.imports_for(SourceScan(), "", environment)
        return [of_all, *(one for one in programs if not one.wanted.isdisjoint(one.modules))]

    def remember(
        self, spec: ForkServerSpec, roots: tuple[str, ...], modules: Iterable[str], *, is_used: bool
    ) -> None:
        """Keep what a fork server is made of, for later processes.

        Args:
            spec: of the fork server.
            roots: the modules that its programs ask for and with which all others came.
            modules: all that it has imported because its programs ask for it.
            is_used: whether a run of this process needed it.
        """
        if self.cache is None or (spec.imports and not roots):
            return
        dropped = frozenset().union(*self._dropped.get(spec.imports, {}).values()) - {*spec.modules}
        program = ProgramImports(
            asked_for=roots,
            standard=tuple(_for_all(spec.modules)),
            refused=tuple(sorted(name for name in dropped if name.rpartition(".")[0] not in dropped)),
        )
        self._loaded[program.asked_for] = frozenset(modules)
        if is_used:
            self._use(program)
            self.save()

    def save(self) -> None:
        """Write what this process has learned since it was last written, and what it has used last."""
        if self.cache is not None and not self._is_saved:
            self._is_saved = True
            self.cache.save(self._used, self._loaded)

    def _use(self, program: ProgramImports) -> None:
        if self._used[:1] != (program,):
            self._used = (program, *(one for one in self._used if one.names != program.names))
            self._is_saved = False

    def _of_earlier(self, program: ProgramImports, environment: Mapping[bytes, bytes]) -> KnownImports:
        key = (program.names, "", self._kind_of(program.names, environment))
        answer = self._answers.get(key)
        if answer is None:
            modules = (*_for_all(program.standard), *program.asked_for)
            known = KnownImports(modules, imports=program.names)
            answer = self._note(key, self._in_order([program.asked_for], known, key))
        return answer

    def _kind_of(self, imports: frozenset[str], environment: Mapping[bytes, bytes]) -> int:
        """Tells environments apart where something was refused to programs with these imports."""
        depends = self._dropped.keys() & {imports, frozenset()}
        return _environment_key(environment) if depends else 0

    def _note(self, key: tuple[frozenset[str], str, int], answer: KnownImports) -> KnownImports:
        if len(self._answers) >= MOST_LEARNED:
            self._answers.clear()
        self._answers[key] = answer
        return answer

    def _in_order(
        self, asked_for: Iterable[Iterable[str]], known: KnownImports, key: tuple[frozenset[str], str, int]
    ) -> KnownImports:
        """Order the modules such that each one is imported by the module that asks for it, where there is one."""
        imports, _, kind = key
        wanted = dict.fromkeys(name for names in (*asked_for, self.given) for name in names)
        modules = dict.fromkeys([*self._everywhere, *known.modules])
        dropped = {
            name
            for one in (imports, frozenset[str]())
            for environment in (kind, ANY_ENVIRONMENT)
            for name in self._dropped.get(one, {}).get(environment, ())
        }
        standard = [name for name in modules if is_standard(name)]
        # A module stands behind those that it asked for: it has them imported when it comes before them.
        others = dict.fromkeys([*(name for name in wanted if name in modules), *reversed(modules)])
        return replace(
            known,
            modules=tuple(without(dropped, dict.fromkeys([*standard, *others]))),
            wanted=frozenset(wanted.keys() & modules.keys()),
        )


def _for_all(modules: Iterable[str]) -> list[str]:
    """Those modules of the standard library that no program is harmed by.

    Code that lists what is not of the standard library by its name would see _sysconfigdata_..., too.
    """
    allowed = sys.stdlib_module_names - _OURS - _NEVER
    return [name for name in modules if name.partition(".")[0] in allowed and not name.startswith(_NOT_FOR_ALL)]


def _environment_key(environment: Mapping[bytes, bytes]) -> int:
    """Tells environments apart that matter to whether an import is refused."""
    return hash(frozenset(environment_for(environment).items()))
