"""``--save``: a cell's body as a file, which runs as the cell does."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from dataclasses import dataclass
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

_ENCODING = re.compile(r"[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)", re.ASCII)  # PEP 263


@dataclass(frozen=True)
class Saving:
    """A body that is to be written when its run has succeeded.

    Args:
        path: to write to.
        shown: the path as the line has it.
        text: the body.
        new_folder: that has to be made first; None where it is there.
    """

    path: Path
    shown: str
    text: str
    new_folder: Path | None = None

    def after(self, *, is_ok: bool) -> str:
        """Write it, where the run succeeded and nothing that somebody else edited would be lost.

        Args:
            is_ok: whether the run succeeded.

        Returns:
            What to tell the user, in one line.

        Raises:
            OptionError: the path is no place for it.
        """
        if not is_ok:
            left = f"; {self.shown} is as it was" if os.path.lexists(self.path) else ""
            return f"Not written: the run failed{left}."
        try:
            if _is_edited(self.path, self.shown):
                return (
                    f"Not written: {self.shown} was edited since the cell wrote it. Take the edits into the cell "
                    "and delete the file, or give --save another name."
                )
            if self.new_folder is not None:
                self.new_folder.mkdir(exist_ok=True)
            _write(self.path, HEADER.format(checksum=_checksum(self.text)) + "\n" + self.text)
        except (OSError, ValueError) as problem:
            raise _unwritable(self.shown, problem) from None
        return f"Wrote {self.shown}" + (f", in the new folder {self.new_folder}" if self.new_folder else "")


def saving(options: Options, body: str | None) -> Saving | None:
    """What the line asks to have written, once it is clear that it can be.

    Args:
        options: of the line.
        body: of the cell, None for a line magic, which has nothing to save.

    Returns:
        None when nothing is to be saved.

    Raises:
        OptionError: the path is no place for it, or what is there is not ours, or the body names another encoding,
            or its folder is not there. Of a relative path, the last folder may be missing.
    """
    if options.save is None or body is None:
        return None
    path, text = expanded(options.save), f"{body.rstrip(NEWLINE)}{NEWLINE}"
    if path.suffix != ".py":
        raise OptionError(f"--save {options.save}: give a path that ends in .py.")
    _check_encoding(text, options.save)
    try:
        _is_edited(path, options.save)
        return Saving(path, options.save, text, _new_folder(path, options.save))
    except (OSError, ValueError) as problem:
        raise _unwritable(options.save, problem) from None


def _new_folder(path: Path, shown: str) -> Path | None:
    """The folder that has to be made, one below a folder that is there; None when there is nothing to make."""
    folder = path.parent
    if path.is_symlink():
        folder = path.resolve().parent
    elif not path.is_absolute() and folder.parent.is_dir() and not os.path.lexists(folder):
        return folder
    if not folder.exists():
        raise OptionError(f"--save {shown}: there is no folder {folder}. Make it first, or give another path.")
    return None


def _unwritable(shown: str, problem: Exception) -> OptionError:
    reason = getattr(problem, "strerror", None) or problem  # without one: not UTF-8, or a NUL in the name
    return OptionError(f"--save {shown}: the file cannot be written: {reason}.")


def _check_encoding(text: str, shown: str) -> None:
    """A line that names an encoding holds for a file, and means nothing in a cell."""
    match = _ENCODING.match(text)  # the first line of the body is the second of the file, where it still counts
    try:
        is_utf_8 = match is None or codecs.lookup(match[1]).name == "utf-8"
    except LookupError:
        is_utf_8 = False
    if not is_utf_8:
        raise OptionError(
            f"--save {shown}: the cell's first line names an encoding, and the file is written in UTF-8. "
            "Take that line out."
        )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _is_edited(path: Path, shown: str) -> bool:
    """Whether somebody edited what --save wrote.

    Raises:
        OptionError: --save never wrote it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    match = _WRITTEN.match(text)
    if match is None:
        raise OptionError(
            f"--save {shown}: the file is there already, and --save did not write it. Give another name."
        )
    return match[1] != _checksum(text[match.end() :])


def _write(path: Path, text: str) -> None:
    """Write it whole or not at all."""
    target = path.resolve()
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8", newline="\n")
        if target.exists():
            unfinished.chmod(target.stat().st_mode & 0o777)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)
