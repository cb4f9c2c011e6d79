"""What the line and the body of a cell say to run, what to call it, and the file that ``--save`` writes."""

from __future__ import annotations

import ast
import codecs
import hashlib
import os
import re
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.errors import OptionError
from isolated_magic.history import CellKey, digest
from isolated_magic.magic.values import VARIABLE, expanded
from isolated_magic.new_file import replacing
from isolated_magic.syntax import module_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.magic.options import Options


LONGEST_LABEL = 32  # characters
_RUN = re.compile(r"\s*run(?:\s+(.*)|)", re.DOTALL)
_SIMPLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*|\[-?\w+\])*")  # names, attributes and plain indexes: no secret
_HELP = re.compile(r"(-h|--help)\b")


def without_run(line: str) -> str:
    """``run PATH ...`` as ``--file PATH ...``.

    Raises:
        OptionError: no file follows.
    """
    match = _RUN.fullmatch(line)
    if match is None:
        return line
    words = (match[1] or "").strip()
    if _HELP.match(words):
        return words
    if not words or words.startswith(("-", "''", '""')):
        raise OptionError(
            "%isolated run takes a file first, such as %isolated run metrics/relevance.py --data row."
        )
    return f"--file {words}"


def code_of(options: Options, body: str | None) -> str | Path:
    """The code of the cell, or the path of the file; the body is None for a line magic.

    Raises:
        OptionError: there is nothing, or both a file and a body.
    """
    if options.file is not None:
        if not options.file:
            raise OptionError("--file: the path is empty. Give one, such as metrics/relevance.py.")
        if body is not None and _has_code(body):
            raise OptionError(
                f"--file {options.file} runs a file, and this cell has code of its own: take one of them out."
            )
        return expanded(options.file)
    if body is None:
        raise OptionError(
            "There is nothing to run: write the code below %%isolated, or name a file with --file PATH. "
            "`%isolated --help` shows the options."
        )
    # The magic's own line counts as line 1, so that the line numbers of errors match the cell. And text of
    # more than one line is never taken for a path.
    return f"\n{body}"


def label_of(options: Options) -> str | None:
    """What the line calls the run, None when it does not say."""
    return options.out or (Path(options.file).name if options.file else None)


def score_label_of(options: Options) -> str:
    """What the line calls scores that have no name of their own, empty when it does not say."""
    return options.out or (Path(options.file).stem if options.file else "")


def name_of(options: Options, body: str | None, hide: Callable[[str], str]) -> str:
    """What tells the run from others in a list: its label, or else how its code begins, without secrets."""
    if label := label_of(options):
        return label
    first = hide(_telling_line(body or ""))  # before it is cut: half a secret is none
    return first if len(first) <= LONGEST_LABEL else f"{first[: LONGEST_LABEL - 3]}..."


def _telling_line(code: str) -> str:
    """The name of the last class, else the first line that neither imports nor only speaks to readers."""
    try:
        statements = module_of(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        statements = []
    classes = [one.name for one in statements if isinstance(one, ast.ClassDef)]
    if classes:
        return f"class {classes[-1]}"
    lines = code.splitlines()
    told = [lines[one.lineno - 1] for one in statements if not _says_nothing(one)] or lines
    return next((line.strip() for line in told if line.strip()), "")


def _says_nothing(statement: ast.stmt) -> bool:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, (ast.Import, ast.ImportFrom)) or (
        is_text and isinstance(statement.value.value, str)  # type: ignore[attr-defined]  # it is an expression
    )


def data_name(options: Options) -> str:
    """The expression for the data on the line, which hints repeat."""
    word = options.data[0] if len(options.data) == 1 else ""
    if match := VARIABLE.fullmatch(word):
        return match[1]
    if word.startswith("{") and word.endswith("}") and _SIMPLE.fullmatch(word[1:-1].strip()):
        return word[1:-1].strip()
    return word if word.isidentifier() else "row"


def key_of(options: Options, body: str | None, cell_id: str | None) -> CellKey:
    """The identity of the cell, or of the file where one runs; the id is the front end's, None without one."""
    if options.file is not None:
        return CellKey(None, digest(str(expanded(options.file).absolute())), None)
    meant = replace(options, compare=False, save=None, out=None, said=frozenset())
    return CellKey(cell_id, digest(repr(astuple(meant))), None if body is None else digest(body))


def _has_code(body: str) -> bool:
    lines = (line.strip() for line in body.splitlines())
    return any(line and not line.startswith("#") for line in lines)


# It takes the place of the magic's line: errors then have the same line numbers in the file and in the cell.
HEADER = "# Written by %%isolated --save, and again each time the cell runs; checksum {checksum}."
_WRITTEN = re.compile(re.escape(HEADER).replace(re.escape("{checksum}"), "([0-9a-f]{12})") + r"\n")

_ENCODING = re.compile(r"[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)", re.ASCII)  # PEP 263


@dataclass(frozen=True)
class SavedCell:
    """The body of a cell, which is written to a file once its run has succeeded."""

    path: Path
    shown: str  # the path as the line has it
    text: str
    new_folder: Path | None = None  # to make first

    def with_block(self, block: str) -> SavedCell:
        """With an inline script block at its end, where it moves no line."""
        return replace(self, text=f"{self.text}\n\n{block}") if block else self

    def after(self, why_not: str = "") -> str:
        """Write it, unless edits would be lost. Returns what to tell the user, in one line.

        Args:
            why_not: why it is not to be written; empty if it is.

        Raises:
            OptionError: the file cannot be written.
        """
        if why_not:
            left = f"; {self.shown} is as it was" if os.path.lexists(self.path) else ""
            return f"Not written: {why_not}{left}."
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


def saving(save: str, body: str) -> SavedCell:
    """The body of a cell, which can be written to this path.

    Raises:
        OptionError: the path is unsuitable, --save did not write the file that is there, the body names another
            encoding, or the folder is missing. Of a relative path, the last folder may be missing.
    """
    path, text = expanded(save), body.rstrip("\n") + "\n"
    if path.suffix != ".py":
        raise OptionError(f"--save {save}: give a path that ends in .py.")
    _check_encoding(text, save)
    try:
        _is_edited(path, save)
        return SavedCell(path, save, text, _new_folder(path, save))
    except (OSError, ValueError) as problem:
        raise _unwritable(save, problem) from None


def _new_folder(path: Path, shown: str) -> Path | None:
    """The missing folder of a relative path, whose parent exists; None when there is nothing to make."""
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
    """Refuse a line that names an encoding: it means nothing in a cell, but would hold for the file."""
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
    """Whether the file was edited since --save wrote it.

    Raises:
        OptionError: --save did not write it.
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
    """Write the file atomically."""
    with replacing(path) as new:
        new.write_text(text, encoding="utf-8", newline="\n")
