"""``--with``, ``--python`` and inline script blocks: what a cell has installed, and its block in a file."""

from __future__ import annotations

import time
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError, OptionError
from isolated_magic.executors.isolated import IsolatedSubprocessExecutor
from isolated_magic.launch.fork_server.source_scan import scan_source
from isolated_magic.limits import format_size
from isolated_magic.magic.option import PRUNE
from isolated_magic.packages import environments
from isolated_magic.packages.environments import UNUSED_SECS
from isolated_magic.packages.requirements import Packages, block_for, normalized, script_block

if TYPE_CHECKING:
    from pathlib import Path

    from isolated_magic.executors.base import Executor
    from isolated_magic.magic.display import Display
    from isolated_magic.magic.options import Options

OWN = ("packages", "python", "bare", "upgrade", "allow_build")  # options about packages, by their names
DAY_SECS = 86_400.0
NOTHING_TO_UPGRADE = (
    "--upgrade chooses the versions of packages anew, and this cell has none of its own: add --with NAME."
)
HAS_BLOCK = (
    "--save {path}: the cell has an inline script block, which is what the file has installed: write the packages "
    "of --with and the Python of --python into it."
)


@dataclass(frozen=True)
class Needs:
    """The packages and the Python of a line, as an executor takes them."""

    packages: Packages | None
    python: str | None


def needs_of(options: Options, code: str | Path, executor: Executor) -> Needs:
    """What a line and the settings say. Settings are for cells that say nothing, each in a process of its own.

    Raises:
        InvalidRequestError: the inline script block of the code is invalid.
    """
    said = options.said.intersection(OWN)
    if not isinstance(executor, IsolatedSubprocessExecutor):
        given = options.packages if "packages" in said else ()
        python = options.python if "python" in said else None
        return Needs(Packages(given, options.bare) if given or options.bare else None, python)
    has_block = _has_block(code)
    given = options.packages if "packages" in said or not has_block else ()
    python = options.python if "python" in said or not has_block else None
    packages = None
    if given or options.bare or (has_block and options.allow_build):
        packages = Packages(tuple(given), options.bare, options.allow_build)
    if options.upgrade and not (packages or has_block):
        raise OptionError(NOTHING_TO_UPGRADE)
    return Needs(packages, python)


def install(options: Options, code: str | Path, executor: Executor, display: Display) -> Needs:
    """Install what a line says, unless it is there, and show how far that is.

    Raises:
        InvalidRequestError: it cannot be installed.
    """
    needs = needs_of(options, code, executor)
    if isinstance(executor, IsolatedSubprocessExecutor) and (needs.packages or needs.python or _has_block(code)):
        line = display.install_line()
        try:
            executor.install(
                code, packages=needs.packages, python=needs.python, upgrade=options.upgrade, on_progress=line.say
            )
        finally:
            line.end()
    return needs


def _has_block(code: str | Path) -> bool:
    return script_block(*((code, None) if isinstance(code, str) else (None, str(code)))) is not None


def check_saving(options: Options, body: str | None) -> None:
    """Refuse to save a cell whose block does not say all that it has.

    Raises:
        OptionError: it is such a one.
    """
    if options.save is None or body is None or options.said.isdisjoint({"packages", "python"}):
        return
    if _has_block_or_none(body):
        raise OptionError(HAS_BLOCK.format(path=options.save))


def _has_block_or_none(body: str) -> bool:
    try:
        return _has_block(body)
    except InvalidRequestError:  # the run will say so
        return True


def block_to_save(options: Options, body: str, executor: Executor) -> str:
    """The inline script block for a cell that has run with packages of its own; empty for any other.

    The block stands alone: what the code imports from the kernel's packages is in it, too, in the versions there.
    """
    if not isinstance(executor, IsolatedSubprocessExecutor) or _has_block(body):
        return ""
    needs = needs_of(options, body, executor)
    installed = executor.install(packages=needs.packages, python=needs.python)  # it is there
    if not installed:
        return ""
    requirements = list(options.packages)
    if not options.bare and options.python is None:
        own = {normalized(name) for name in installed}
        requirements += _from_below(body, own)
    major, minor, *_ = installed["python"].split(".")
    return block_for(tuple(requirements), f"=={major}.{minor}.*")


def _from_below(body: str, own: set[str]) -> list[str]:
    """Requirements for what the code imports from the kernel's packages, and not from those of its own."""
    known, found = metadata.packages_distributions(), set()
    for top in {name.partition(".")[0] for name in scan_source(body).in_order}:
        names = {normalized(name) for name in known.get(top, ())}
        if names.isdisjoint(own):
            found |= names
    distributions = [metadata.distribution(name) for name in sorted(found)]
    # What was installed from a folder is in no index.
    indexed = [one for one in distributions if one.read_text("direct_url.json") is None]
    return [f"{one.metadata['Name']}=={one.version}" for one in indexed]


def obey(words: list[str]) -> str:
    """``%isolated packages``, and ``%isolated packages prune``; what to print."""
    if words == [PRUNE]:
        count, size = environments.prune()
        days = f"{UNUSED_SECS / DAY_SECS:.0f} days"
        if not count:
            return f"Nothing to remove: no environment was unused for {days}."
        what = "1 environment that was" if count == 1 else f"{count} environments that were"
        return f"Removed {what} unused for {days}: {format_size(size)}."
    if words:
        raise OptionError(f"%isolated packages takes {PRUNE}, or nothing.")
    kept = environments.kept()
    if not kept:
        return "No environments: --with makes them."
    table = [("last used", "size", "Python", "packages")]
    table += [(_age(one.used_at), format_size(one.size_bytes), one.python, _told(one)) for one in kept]
    widths = [max(len(row[column]) for row in table) for column in range(3)]
    lines = [
        f"{used:<{widths[0]}}  {size:>{widths[1]}}  {python:<{widths[2]}}  {told}"
        for used, size, python, told in table
    ]
    total = sum(one.size_bytes for one in kept)
    return "\n".join([*lines, f"{len(kept)} in all, {format_size(total)}."])


def _told(kept: environments.KeptEnvironment) -> str:
    return ", ".join(kept.requirements) or "none"


def _age(used_at: float) -> str:
    days = int((time.time() - used_at) // DAY_SECS)
    return "today" if days < 1 else f"{days} day{'s' * (days > 1)} ago"
