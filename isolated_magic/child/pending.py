"""What modules that were imported ahead have yet to do, when a run imports them.

Nothing of Python's is asked when an import finds its module in ``sys.modules``, unless the module counts as one
that is being initialized (see ``imports.py``). Modules for which there is something left to do count as that until
it is done: all with the same things to do share one object for it, a list that is true as long as it holds any.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from .imports import as_machinery, bootstrap, reached

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .changes import Change
    from .imports import Imports


class _Deed:
    """One thing to do, once.

    Args:
        do: does it.
    """

    def __init__(self, do: Callable[[], object]) -> None:
        self._do = do
        self.is_done = False

    def do(self) -> None:
        if not self.is_done:
            self.is_done = True
            self._do()


class _Deeds(list[_Deed]):
    """What there is to do before a module counts as imported."""


class Pending:
    """The modules that change variables, and all that import one of these.

    Args:
        imports: of this template, over.
        changes: what they have changed, undone by now.
    """

    def __init__(self, imports: Imports, changes: Iterable[Change]) -> None:
        self._deeds: dict[str, list[_Deed]] = {}
        self._groups: dict[tuple[int, ...], _Deeds] = {}
        needing = imports.needing()
        for change in changes:
            self._add(reached([change.module], needing), change.make)
        if self._deeds:
            self._include_made(imports, needing)
            self._detach_from_packages(imports, needing)

    def _add(self, modules: Iterable[str], do: Callable[[], object]) -> None:
        """All of these have to do this when they are imported."""
        deed = _Deed(do)
        for name in modules:
            self._deeds.setdefault(name, []).append(deed)

    def _include_made(self, imports: Imports, needing: dict[str, set[str]]) -> None:
        """Modules that these have made themselves, or put under other names, are imported as they are."""
        for alias in [name for name in sys.modules if name not in imports.loaded and name not in imports.before]:
            module = sys.modules[alias]
            spec = getattr(module, "__spec__", None)
            owners = (getattr(module, "__name__", ""), alias.rpartition(".")[0])
            owner = next((name for name in owners if name in self._deeds), None)
            if owner is None or type(spec) is bootstrap.ModuleSpec:
                continue
            self._deeds[alias] = list(self._deeds[owner])
            dependents = {alias, *reached([owner], needing)}
            try:
                module.__spec__ = bootstrap.ModuleSpec(alias, None)  # there was none that could be marked
                self._add(dependents, partial(setattr, module, "__spec__", spec))
            except Exception:  # noqa: BLE001 - it may be any object
                del sys.modules[alias]
                self._add(dependents, partial(sys.modules.setdefault, alias, module))

    def _detach_from_packages(self, imports: Imports, needing: dict[str, set[str]]) -> None:
        """Take modules from their packages, where importing a package alone would not have put them there."""
        needed: dict[str, set[str]] = {}
        for name in [name for name in self._deeds if name in sys.modules]:
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
        """A module of which nobody could tell when it is imported, None when there is none."""
        for name in self._deeds:
            module = sys.modules.get(name)
            if module is not None and type(getattr(module, "__spec__", None)) is not bootstrap.ModuleSpec:
                return name
        return None

    def mark(self) -> None:
        """From now on an import of one of these does what there is to do."""
        if not self._deeds:
            return
        for name, deeds in self._deeds.items():
            module: Any = sys.modules.get(name)
            if module is not None:
                key = tuple(map(id, deeds))
                module.__spec__._initializing = self._groups.setdefault(key, _Deeds(deeds))
        bootstrap._lock_unlock_module = self._hook(bootstrap._lock_unlock_module)

    def _hook(self, lock_unlock: Callable[[str], None]) -> Callable[[str], None]:
        @as_machinery
        def on_import(name: str) -> None:
            lock_unlock(name)
            spec: Any = getattr(sys.modules.get(name), "__spec__", None)
            deeds = getattr(spec, "_initializing", None)
            if spec is not None and type(deeds) is _Deeds:
                self._do(deeds)
                spec._initializing = False

        return on_import

    def _do(self, deeds: _Deeds) -> None:
        for deed in list(deeds):
            deed.do()
        for group in self._groups.values():
            if all(deed.is_done for deed in group):
                group.clear()
