"""Imports modules into the fork server, under audit, and leaves to each run what its own import has yet to do.

A module may stay only if a fork cannot be told from an interpreter that imports it itself. One that prints, starts
a thread or a process, or comes from a file that the user may be editing, is refused: the fork server says so and
ends, and the next one does without. A native thread may stay if its library stops it before a fork, as OpenBLAS
does (pthread_atfork(3)): the child is then single-threaded.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from . import modules
from .channel import move_descriptor
from .import_audit import (
    UNWATCHED,
    Audit,
    Observed,
    is_main_kept,
    references_to_main,
    threads_and_children,
)
from .import_changes import Changes, Imports, as_machinery, bootstrap, reached
from .process_state import AUDITED_IN_FULL, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator, Sequence

    from .import_changes import Change


IMPORT_TIMEOUT_SECS = 60  # for one module; what needs longer hangs

OURS = ("json", "inspect", "traceback", "linecache", "ctypes")

SHORTAGES = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
)

WORD = r"[A-Z][A-Z0-9_]{2,}"


def import_ours() -> None:
    """Import what our own part of a run uses."""
    for name in OURS:
        importlib.import_module(name)


class RefusedError(Exception):
    """Some modules cannot be preloaded.

    Args:
        reasons: why, by their names; empty when no module is to blame.
        kept: names of those that can be, in their order.
        is_unclear: a module is to blame, but only a closer look tells which.
    """

    def __init__(self, reasons: dict[str, str], kept: Sequence[str] = (), *, is_unclear: bool = False) -> None:
        super().__init__(reasons, kept)
        self.reasons = reasons
        self.kept = list(kept)
        self.is_unclear = is_unclear


class Preloaded(NamedTuple):
    """What came of the imports."""

    observed: Observed
    missing: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()  # those of the names that all others came with
    late: tuple[str, ...] = ()  # neither the program nor a module that it imports asks for these


def import_all(
    names: Sequence[str], wanted: Collection[str], announce: Callable[[str], None], *, in_detail: bool = False
) -> Preloaded:
    """Import these modules, in their order.

    Args:
        names: of all of them.
        wanted: names of those that a program imports itself.
        announce: called with the name of each before its import, which may never return.
        in_detail: whether to look at the process after each module, which takes longer than most imports.

    Raises:
        RefusedError: some of them cannot be preloaded.
    """
    imports = Imports()
    changes = Changes(imports)
    observed, missing, roots = Observed(imports.blame, changes), list[str](), list[str]()
    if names:
        missing, roots = _import_observed(names, wanted, observed, imports, changes, announce, in_detail=in_detail)
    changes.judge()
    changes.undo()
    pending = Pending(imports, changes.made)
    unmarked = pending.unmarked()
    if unmarked is not None:
        imports.reasons.setdefault(unmarked, "nobody can tell when it is imported, and it sets variables")
    for name in imports.failed.keys() & {*names, *wanted}:
        imports.reasons.setdefault(name, imports.failed[name])
    if imports.reasons:
        raise RefusedError({**_consequences(wanted, imports), **imports.reasons}, _kept(names, wanted, imports))
    pending.mark()
    observed.files = _watched(observed.files)
    _add_start_hooks(observed)
    late = [name for name in imports.tops if not (modules.is_standard(name) or _leads_to(wanted, name))]
    return Preloaded(observed, tuple(missing), tuple(roots), tuple(late))


def _leads_to(wanted: Iterable[str], name: str) -> bool:
    """Whether a module is one of these, or a package that holds one."""
    return any(one == name or one.startswith(f"{name}.") for one in wanted)


def _kept(names: Sequence[str], wanted: Collection[str], imports: Imports) -> list[str]:
    """What can be imported without the refused ones, and is not there for their sake only."""
    refused = reached(imports.reasons, imports.needing())
    kept = imports.kept(wanted, imports.reasons)
    return [name for name in names if not is_within(name, refused) and (name in kept or modules.is_standard(name))]


def _consequences(wanted: Iterable[str], imports: Imports) -> dict[str, str]:
    """Reasons for the modules that a program imports and that need one that is to blame."""
    found = {}
    for name in wanted:
        refused = reached([name], imports.needs) & imports.reasons.keys()
        if refused and name not in imports.reasons:
            culprit = min(refused)
            found[name] = f"it imports {culprit}: {imports.reasons[culprit]}"
    return found


def is_within(name: str, packages: Container[str]) -> bool:
    """Whether a module is one of these, or in one of them."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in packages for count in range(1, len(parts) + 1))


def _import_observed(
    names: Sequence[str],
    wanted: Collection[str],
    observed: Observed,
    imports: Imports,
    changes: Changes,
    announce: Callable[[str], None],
    *,
    in_detail: bool,
) -> tuple[list[str], list[str]]:
    """Import them, and note which module does what; those that are missing, and those that others came with."""
    missing, roots, references = [], dict[str, None](), references_to_main()
    with observed.watched(names), _output_watched() as has_written:
        audit = Audit(imports, observed, has_written, in_detail=in_detail)
        with imports.watched(audit.check):
            for name, root in _with_parents(names):
                if name in sys.modules:
                    continue
                roots[root] = None
                before, loaded = Snapshot(AUDITED_IN_FULL), len(imports.loaded)
                announce(name)
                imports.ask_for(name)
                observed.listens = True
                missing += _import(name, imports, as_main=name in wanted)
                audit.check()
                observed.listens = False
                reason = (
                    changes.others()
                    or before.change(Snapshot(AUDITED_IN_FULL))
                    or threads_and_children()
                    or ("it keeps __main__" if is_main_kept(references) else None)
                )
                if reason and len(imports.loaded) - loaded > 1 and not in_detail:
                    raise RefusedError({}, names, is_unclear=True)
                if reason:
                    imports.blame(reason)
    audit.check_origins()
    return missing, list(roots)


def _with_parents(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Each after the packages that hold it, with the name for whose sake these are there."""
    for name in names:
        parts = name.split(".")
        yield from ((".".join(parts[:count]), name) for count in range(1, len(parts) + 1))


def _import(name: str, imports: Imports, *, as_main: bool) -> list[str]:
    """Import a module; its name if it is missing. Some warnings are shown only to ``__main__``."""
    signal.alarm(IMPORT_TIMEOUT_SECS)  # nobody handles it: it ends the process, whatever the import is stuck in
    try:
        if as_main:
            exec(f"import {name}", {"__name__": "__main__"})  # noqa: S102 - a name with dots
        else:
            importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if is_within(name, {str(problem.name)}):  # nothing was imported in its place
            return [name]
        imports.failed.setdefault(name, f"{problem.name} is missing")
    except BaseException as problem:  # noqa: BLE001 - whatever the module does
        if _is_shortage(problem):
            raise RefusedError({}) from None
        imports.failed.setdefault(name, f"{type(problem).__name__} while it was imported")
    finally:
        signal.alarm(0)
    return []


def _is_shortage(problem: BaseException) -> bool:
    """Whether an import failed for what may be there the next time: descriptors, processes, memory, disk space."""
    text = str(problem).lower()
    return (
        isinstance(problem, MemoryError)
        or getattr(problem, "errno", None) in SHORTAGES
        or any(words in text for words in ("new thread", "allocate memory", "failed to map segment"))
    )


@contextmanager
def _output_watched() -> Iterator[Callable[[], bool]]:
    """Send descriptors 1 and 2 to a file in memory; yields a function that tells whether it has grown."""
    kept = [move_descriptor(os.dup(target)) for target in (1, 2)]
    file = move_descriptor(os.memfd_create("output"))
    for target in (1, 2):
        os.dup2(file, target)

    written = 0

    def has_written() -> bool:
        nonlocal written
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        before, written = written, os.fstat(file).st_size
        return written > before

    try:
        yield has_written
    finally:
        for target, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.close(file)


def _watched(files: set[str]) -> set[str]:
    """The files that may change while packages stay as they are."""
    unwatched = (*UNWATCHED, modules.STANDARD_LIBRARY, *modules.site_folders())
    # Entries come and go in a folder: the ones that matter are looked at by name.
    return {path for path in files if not path.startswith(unwatched) and not os.path.isdir(path)}  # noqa: PTH112 - as in process_tree


def _add_start_hooks(observed: Observed) -> None:
    """Add the variables named in the hooks of site-packages, which ran before the audit began (site.py)."""
    import re  # noqa: PLC0415 - loaded by now

    texts = [line for folder in modules.site_folders() for line in _hook_lines(folder)]
    for name in ("sitecustomize", "usercustomize"):
        path = getattr(sys.modules.get(name), "__file__", None)
        texts += _lines(path) if path else []
    for text in texts:
        observed.names.update(re.findall(WORD, text))
    site: Any = sys.modules.get("site")
    if site is not None and site.ENABLE_USER_SITE:
        observed.names.add("HOME")  # where the user's own packages are


def _hook_lines(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - as in process_tree
    except OSError:
        return []
    lines = [line for name in names if name.endswith(".pth") for line in _lines(f"{folder}/{name}")]
    return [line for line in lines if line.startswith(("import ", "import\t"))]


def _lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - pathlib is not loaded
            return file.readlines()
    except OSError:
        return []


class _Action:
    """Something to do once."""

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self.is_done = False

    def do(self) -> None:
        if not self.is_done:
            self.is_done = True
            self._do()


class _Actions(list[_Action]):
    """What there is to do before a module counts as imported."""


class Pending:
    """What preloaded modules that set variables, and their importers, have yet to do when a run imports them.

    Python calls nothing when an import finds its module in ``sys.modules``, unless the module counts as one that
    is being initialized (:class:`Imports`). Modules with something left to do count as that until it is done. All
    with the same things to do share one list of them, which is true as long as it is not empty.

    Args:
        imports: of this fork server, over.
        changes: of variables by these imports, undone by now.
    """

    def __init__(self, imports: Imports, changes: Iterable[Change]) -> None:
        self._actions: dict[str, list[_Action]] = {}
        self._groups: dict[tuple[int, ...], _Actions] = {}
        needing = imports.needing()
        for change in changes:
            self._add(reached([change.module], needing), change.apply)
        if self._actions:
            self._include_made(imports, needing)
            self._detach_from_packages(imports, needing)

    def _add(self, modules: Iterable[str], do: Callable[[], object]) -> None:
        """Have an import of any of these do this, once."""
        action = _Action(do)
        for name in modules:
            self._actions.setdefault(name, []).append(action)

    def _include_made(self, imports: Imports, needing: dict[str, set[str]]) -> None:
        """Include modules that these have made themselves, or put under other names."""
        for alias in [name for name in sys.modules if name not in imports.loaded and name not in imports.before]:
            module = sys.modules[alias]
            spec = getattr(module, "__spec__", None)
            owners = (getattr(module, "__name__", ""), alias.rpartition(".")[0])
            owner = next((name for name in owners if name in self._actions), None)
            if owner is None or type(spec) is bootstrap.ModuleSpec:
                continue
            self._actions[alias] = list(self._actions[owner])
            dependents = {alias, *reached([owner], needing)}
            try:
                module.__spec__ = bootstrap.ModuleSpec(alias, None)  # there was none that could be marked
                self._add(dependents, partial(setattr, module, "__spec__", spec))
            except Exception:  # noqa: BLE001 - it may be any object
                del sys.modules[alias]
                self._add(dependents, partial(sys.modules.setdefault, alias, module))

    def _detach_from_packages(self, imports: Imports, needing: dict[str, set[str]]) -> None:
        """Take modules out of packages whose own import would not have put them there."""
        needed: dict[str, set[str]] = {}
        for name in [name for name in self._actions if name in sys.modules]:
            parent, _, last = name.rpartition(".")
            names: dict[str, Any] = getattr(sys.modules.get(parent), "__dict__", {})
            module = sys.modules[name]
            if names.get(last) is not module or name in imports.needs.get(parent, ()):
                continue
            top = name.partition(".")[0]
            if top not in needed:
                needed[top] = reached([top], imports.needs)
            if parent not in needed:  # it needs the one on top, which mostly needs it too
                needed[parent] = needed[top] if parent in needed[top] else reached([parent], imports.needs)
            if name not in needed[parent]:
                del names[last]
                self._add(reached([name], needing), partial(names.setdefault, last, module))

    def unmarked(self) -> str | None:
        """A module whose import would go unnoticed, None when there is none."""
        for name in self._actions:
            module = sys.modules.get(name)
            if module is not None and type(getattr(module, "__spec__", None)) is not bootstrap.ModuleSpec:
                return name
        return None

    def mark(self) -> None:
        """Have an import of one of these do what there is to do, from now on."""
        if not self._actions:
            return
        for name, actions in self._actions.items():
            module: Any = sys.modules.get(name)
            if module is not None:
                key = tuple(map(id, actions))
                module.__spec__._initializing = self._groups.setdefault(key, _Actions(actions))
        bootstrap._lock_unlock_module = self._hook(bootstrap._lock_unlock_module)

    def _hook(self, lock_unlock: Callable[[str], None]) -> Callable[[str], None]:
        @as_machinery
        def on_import(name: str) -> None:
            lock_unlock(name)
            spec: Any = getattr(sys.modules.get(name), "__spec__", None)
            actions = getattr(spec, "_initializing", None)
            if spec is not None and type(actions) is _Actions:
                self._do(actions)
                spec._initializing = False

        return on_import

    def _do(self, actions: _Actions) -> None:
        for action in list(actions):
            action.do()
        for group in self._groups.values():
            if all(action.is_done for action in group):
                group.clear()
