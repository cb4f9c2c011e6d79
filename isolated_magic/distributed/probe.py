"""What a process has of what code needs.

The text of this file is sent to workers, which may have another Python and not this package: it imports the
standard library alone, and does without what Python 3.8 does not have.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import importlib.metadata
import json
import os
import site
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.machinery import ModuleSpec


def look(question: str) -> str:
    """Answer a question of :mod:`isolated_magic.distributed.fitness`. Both are JSON."""
    asked = json.loads(question)
    python = "%d.%d" % sys.version_info[:2]  # noqa: UP031 - as str() of what a test may have put there
    answer: dict[str, object] = {"python": python, "implementation": sys.implementation.name}
    if python == asked["python"]:
        importlib.invalidate_caches()
        path = search_path(asked["folder"], asked["search"])
        specs = {name: find(name, path) for name in asked["modules"]}
        answer["folder"] = path[0]
        answer["modules"] = {name: place_of(spec) for name, spec in specs.items()}
        answer["digests"] = {name: digest_of(specs[name], files) for name, files in asked["digests"].items()}
        answer["distributions"] = {name: version_of(name, path) for name in asked["distributions"]}
        answer["package"], answer["problem"] = _package(asked["package"], asked["entry"])
    return json.dumps(answer)


def _package(expected: str, entry: str) -> tuple[str | None, str]:
    """The version of this package, and why it cannot be used."""
    try:
        package = importlib.import_module("isolated_magic")
    except Exception as problem:  # noqa: BLE001 - whatever importing it raises
        return None, "" if getattr(problem, "name", None) == "isolated_magic" else _text_of(problem)
    if package.__version__ == expected:
        try:
            importlib.import_module(entry)
        except Exception as problem:  # noqa: BLE001 - likewise
            return package.__version__, _text_of(problem)
    return package.__version__, ""


def _text_of(problem: Exception) -> str:
    return ("%s: %s" % (type(problem).__name__, problem))[:300]  # noqa: UP031 - f-strings of this are older, too


def search_path(folder: str, search: list[str] | None) -> list[str]:
    """Where an interpreter that is started in a folder would look for modules, the standard library aside.

    Args:
        folder: the first place; that of this process if there is no such folder.
        search: entries of PYTHONPATH; None for those of this process.
    """
    if search is None:
        search = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folder = folder if os.path.isdir(folder) else os.getcwd()  # noqa: PTH109,PTH112 - as a run's folder is chosen
    folders = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    added = [place for each in folders for place in _added_by_files(each)]
    return [folder, *filter(None, search), *folders, *added]


def _added_by_files(folder: str) -> Iterable[str]:
    """The places that the .pth files of a folder add."""
    for file in sorted(Path(folder).glob("*.pth")):
        try:
            lines = file.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            if line.strip() and not line.startswith(("#", "import ", "import\t")):
                yield os.path.join(folder, line.strip())  # noqa: PTH118 - as site does


def find(name: str, path: list[str]) -> ModuleSpec | None:
    """The spec of a top-level module, found without importing it."""
    spec = importlib.machinery.PathFinder.find_spec(name, path)
    if spec is not None:
        return spec
    for finder in sys.meta_path:  # of editable installs
        if str(getattr(finder, "__module__", "")).startswith("__editable__"):
            spec = finder.find_spec(name, None, None)
            if spec is not None:
                return spec
    return None


def place_of(spec: ModuleSpec | None) -> str | None:
    """The file of a module, or its folder; None if there is no such module."""
    if spec is None:
        return None
    if spec.origin is not None:
        return spec.origin
    return next(iter(spec.submodule_search_locations or ()), "")


def root_of(spec: ModuleSpec) -> Path:
    """The folder that a top-level module lies in."""
    place = Path(place_of(spec) or "")
    return place.parent.parent if place.name.startswith("__init__.") else place.parent


def digest_of(spec: ModuleSpec | None, files: Iterable[str]) -> str:
    """A digest of files of a module, given as paths from the folder that it lies in. Missing ones count."""
    digest = hashlib.sha256()
    for file in files:
        try:
            content = b"" if spec is None else (root_of(spec) / file).read_bytes()
        except OSError:
            content = b""
        digest.update(b"%s %d " % (file.encode(), len(content)))
        digest.update(content)
    return digest.hexdigest()


def version_of(distribution: str, path: list[str]) -> str | None:
    """Of an installed distribution; None if it is not installed."""
    for found in importlib.metadata.distributions(name=distribution, path=path):
        return found.version
    return None
