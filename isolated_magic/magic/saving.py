"""``--save``: a cell's body as a file, which runs as the cell does."""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING

from isolated_magic.errors import OptionError
from isolated_magic.magic.namespace import expanded

if TYPE_CHECKING:
    from pathlib import Path

    from isolated_magic.magic.options import Options

NEWLINE = "\n"
# It takes the place of the magic's line: errors then have the same line numbers in the file and in the cell.
HEADER = "# Written by %%isolated --save, and again each time the cell runs; checksum {checksum}."
_WRITTEN = re.compile(re.escape(HEADER).replace(re.escape("{checksum}"), "([0-9a-f]{12})") + r"\n")


def save(options: Options, body: str | None) -> str | None:
    """Write the body where the line says. Nothing that somebody else wrote, or edited since, is written over.

    Args:
        options: of the line.
        body: of the cell, None for a line magic, which has nothing to save.

    Returns:
        What to tell the user; None when nothing is to be saved.

    Raises:
        OptionError: the path is no place for it, or what is there is not ours.
    """
    if options.save is None or body is None:
        return None
    path, text = expanded(options.save), f"{body.rstrip(NEWLINE)}{NEWLINE}"
    if path.suffix != ".py":
        raise OptionError(f"--save {options.save}: give a path that ends in .py.")
    try:
        _check_that_it_is_ours(path, options.save)
        _write(path, HEADER.format(checksum=_checksum(text)) + "\n" + text)
    except (OSError, ValueError) as problem:  # ValueError: not UTF-8, or a NUL in the name
        reason = getattr(problem, "strerror", None) or problem
        raise OptionError(f"--save {options.save}: the file cannot be written: {reason}.") from None
    return f"Wrote {options.save}"


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _check_that_it_is_ours(path: Path, shown: str) -> None:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return
    match = _WRITTEN.match(text)
    if match is None:
        raise OptionError(
            f"--save {shown}: the file is there already, and --save did not write it. Give another name."
        )
    if match[1] != _checksum(text[match.end() :]):
        raise OptionError(
            f"--save {shown}: the file was edited since the cell wrote it. Take the edits into the cell and "
            "delete the file, or give another name."
        )


def _write(path: Path, text: str) -> None:
    """Write it whole or not at all."""
    target = path.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        if target.exists():
            unfinished.chmod(target.stat().st_mode & 0o777)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
