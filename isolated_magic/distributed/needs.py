"""What code needs of a worker, as this process has it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.distributed import probe
from isolated_magic.distributed.imports import ImportTree
from isolated_magic.launch.fork_server.source_scan import scan_source

if TYPE_CHECKING:
    from isolated_magic.distributed.imports import Module
    from isolated_magic.request import RunRequest


@dataclass(frozen=True)
class Needs:
    """What code needs beside Python and this package.

    Args:
        modules: that it imports and this process has.
        absent: names of those that it has not: all workers may have them.
        folder: where runs start.
        search: entries of PYTHONPATH; None for those of the worker.
    """

    modules: tuple[Module, ...] = ()
    absent: tuple[str, ...] = ()
    folder: str = ""
    search: tuple[str, ...] | None = None


NOTHING = Needs()


def needs_of(request: RunRequest) -> Needs:
    """What runs of this request need. The request is one that a worker would get."""
    source = request.source or ""
    if not scan_source(source).imports:  # also where it cannot be compiled
        return NOTHING
    is_file = Path(request.source_name).is_file()
    folder = str(Path(request.source_name).parent) if is_file else request.cwd
    search = _search_of(request)
    path = probe.search_path(folder, None if search is None else list(search))
    tree = ImportTree(path)
    tree.follow(source)
    modules, absent = tree.modules(), tree.absent()
    if scan_source(source).redirects:  # modules may come from elsewhere
        modules = [module._replace(is_required=False, files=(), digest="") for module in modules]
        absent = []
    return Needs(tuple(modules), tuple(absent), request.cwd, search)


def _search_of(request: RunRequest) -> tuple[str, ...] | None:
    given = request.environment.get(b"PYTHONPATH")
    if given is not None:
        return tuple(os.fsdecode(given).split(os.pathsep))
    inherits = request.remote is None or (request.remote.inherits and b"PYTHONPATH" not in request.remote.unset)
    return None if inherits else ()
