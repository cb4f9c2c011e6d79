"""Whether a worker can run code as this process would: what to ask it, and what its answer says that it lacks."""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from isolated_magic.distributed import probe

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from isolated_magic.distributed.needs import Module, Needs

MOST_NAMED = 3  # workers or modules that a message names

_VERSION: str = sys.modules["isolated_magic"].__version__  # which imports all of this, for types
_PYTHON = "{}.{}".format(*sys.version_info[:2])
_PACKAGE = f"pip install 'isolated-magic[dask]=={_VERSION}'"
_EXPRESSION = "(exec(source, globals()), look(question))[1]"


class Answer(TypedDict):
    """What :func:`isolated_magic.distributed.probe.look` finds. By name: places, digests, versions."""

    python: str
    implementation: str
    folder: str
    package: str | None
    problem: str
    modules: dict[str, str | None]
    digests: dict[str, str]
    distributions: dict[str, str | None]


def question_for(needs: Needs, entry: str) -> tuple[str, dict[str, object]]:
    """What to ask a worker: arguments for :func:`eval`, which any Python has.

    Args:
        needs: of the code.
        entry: a module of this package that the worker has to import.
    """
    asked = {
        "python": _PYTHON,
        "package": _VERSION,
        "entry": entry,
        "modules": [*(module.name for module in needs.modules), *needs.absent],
        "digests": {module.name: module.files for module in needs.modules if module.digest},
        "distributions": sorted({name for module in needs.modules for name, _ in module.distributions}),
        "folder": needs.folder,
        "search": None if needs.search is None else list(needs.search),
    }
    return _EXPRESSION, {"source": _probe_source(), "question": json.dumps(asked), "__name__": "isolated_probe"}


@lru_cache(maxsize=1)
def _probe_source() -> str:
    return Path(probe.__file__).read_text(encoding="utf-8")


def lack_of(needs: Needs, answer: object) -> str:
    """What a worker lacks that gave this answer, and what to do about it; empty if it is fit."""
    try:
        found: Answer = json.loads(answer if isinstance(answer, str) else "")
        return _lack_of_python(found) or _lack_of_package(found) or _lack_of_modules(needs, found)
    except (AttributeError, KeyError, TypeError, ValueError):
        return "what is installed cannot be told: restart it"


def _lack_of_python(found: Answer) -> str:
    implementation = sys.implementation.name
    there, here = found["python"], _PYTHON
    if found["implementation"] != implementation:
        there, here = f"{there} ({found['implementation']})", f"{here} ({implementation})"
    if there == here:
        return ""
    return f"Python is {there}, and here it is {here}: start the worker with Python {here}"


def _lack_of_package(found: Answer) -> str:
    there = found["package"]
    if found["problem"]:
        return f"isolated_magic cannot be imported ({found['problem']}): install all that it needs, {_PACKAGE}"
    if there is None:
        return f"isolated_magic is not installed, and here it is {_VERSION}: install it there, {_PACKAGE}"
    if there != _VERSION:
        return (
            f"isolated_magic is {there}, and here it is {_VERSION}: "
            f"install the same version there, {_PACKAGE}, and restart the worker"
        )
    return ""


def _lack_of_modules(needs: Needs, found: Answer) -> str:
    told: dict[str, None] = {}
    install: dict[str, None] = {}
    copy: dict[str, None] = {}
    for module in needs.modules:
        there = found["modules"][module.name]
        if module.distributions:
            for name, here, other in _differing(module, there, found["distributions"]):
                is_there = f"is {other}" if other else "is not installed"
                told[f"{name} {is_there}, and here it is {here}"] = None
                install[f"'{name}=={here}'"] = None
        elif there is None and module.is_required:
            told[f"there is no module {module.name}, which is {module.place} here"] = None
            copy[module.name] = None
        elif there is not None and found["digests"].get(module.name, module.digest) != module.digest:
            told[f"{module.name} ({there}) has another content than {module.place} here"] = None
            copy[module.name] = None
    missing = [name for name in needs.absent if found["modules"][name] is None]
    told.update(dict.fromkeys(f"there is no module {name}, which other workers have" for name in missing))
    advice = [f"install {listed(missing)} there"] if missing else []
    if install:
        advice.append(f"install the same there, pip install {' '.join(install)}")
    if copy:
        advice.append(f"copy {listed(copy)} to {found['folder']} there, or to a folder on its PYTHONPATH")
    return f"{'; '.join(told)}: {'; '.join(advice)}" if told else ""


def _differing(
    module: Module, there: str | None, versions: Mapping[str, str | None]
) -> list[tuple[str, str, str | None]]:
    """The distributions of a module that a worker has in another version, or does not have; with both versions.

    Where the module is there without its distribution, it comes from another one, which cannot be compared.
    """
    if there is None:
        return [(name, here, None) for name, here in module.distributions] if module.is_required else []
    found = [(name, here, versions[name]) for name, here in module.distributions]
    return [each for each in found if each[2] is not None and each[1] != each[2]]


def refusal(lacks: Mapping[str, str]) -> str:
    """One sentence for workers that lack something, by their names."""
    lack, *others = _by_lack(lacks).items()
    told = f"On {_workers(lack[1])}, {lack[0]}"
    if not others:
        return f"{told}."
    count = sum(len(workers) for _, workers in others)
    return f"{told} ({count} other {'worker is' if count == 1 else 'workers are'} unfit, too)."


def not_used(lacks: Mapping[str, str]) -> tuple[str, ...]:
    """A sentence for each lack of workers that came later, by their names."""
    return tuple(
        f"{'A worker was' if len(workers) == 1 else 'Workers were'} not used: on {_workers(workers)}, {lack}."
        for lack, workers in _by_lack(lacks).items()
    )


def _by_lack(lacks: Mapping[str, str]) -> dict[str, list[str]]:
    by_lack: dict[str, list[str]] = {}
    for name, lack in lacks.items():
        by_lack.setdefault(lack, []).append(name)
    return by_lack


def _workers(names: list[str]) -> str:
    return f"{'worker' if len(names) == 1 else 'workers'} {listed(names)}"


def listed(names: Iterable[str]) -> str:
    """The first few of these names, and how many there are beside them."""
    first = [*names]
    if len(first) > MOST_NAMED:
        first[MOST_NAMED:] = [f"{len(first) - MOST_NAMED} more"]
    return first[0] if len(first) == 1 else f"{', '.join(first[:-1])} and {first[-1]}"
