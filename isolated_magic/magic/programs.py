"""What the line and the body of a cell say to run, and what to call it."""

from __future__ import annotations

import re
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING

from isolated_magic.errors import OptionError
from isolated_magic.history import CellKey, digest
from isolated_magic.magic.namespace import VARIABLE, expanded

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.magic.options import Options

LONGEST_LABEL = 32  # characters
_RUN = re.compile(r"\s*run(?:\s+(.*)|)", re.DOTALL)
_SIMPLE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*|\[-?\w+\])*")  # names, attributes and plain indexes: no secret
_HELP = re.compile(r"(-h|--help)\b")


def without_run(line: str) -> str:
    """``run PATH ...`` as the option that it stands for.

    Args:
        line: all that follows the magic's name.

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
    """What to run.

    Args:
        options: of the line.
        body: of the cell, None for a line magic.

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
    """What the user calls the run, None when the line does not say.

    Args:
        options: of the line.
    """
    return options.out or (Path(options.file).name if options.file else None)


def name_of(options: Options, body: str | None, hide: Callable[[str], str]) -> str:
    """What tells the run from others in a list of them; empty when nothing does.

    Args:
        options: of the line.
        body: of the cell, None for a line magic.
        hide: hides the secrets of the run in a text.
    """
    lines = (line.strip() for line in (body or "").splitlines())
    first = hide(next((line for line in lines if line), ""))  # before it is cut: half a secret is none
    shortened = first if len(first) <= LONGEST_LABEL else f"{first[: LONGEST_LABEL - 3]}..."
    return label_of(options) or shortened


def data_name(options: Options) -> str:
    """What stands for the data on the line, so that a hint can say what to write there.

    Args:
        options: of the line.
    """
    word = options.data[0] if len(options.data) == 1 else ""
    if match := VARIABLE.fullmatch(word):
        return match[1]
    if word.startswith("{") and word.endswith("}") and _SIMPLE.fullmatch(word[1:-1].strip()):
        return word[1:-1].strip()
    return word if word.isidentifier() else "row"


def key_of(options: Options, body: str | None, cell_id: str | None) -> CellKey:
    """What tells the cell from others, or the file where one runs.

    Args:
        options: of the line.
        body: of the cell, None for a line magic.
        cell_id: that the front end gave the cell, None where it gives none.
    """
    if options.file is not None:
        return CellKey(None, digest(str(expanded(options.file).absolute())), None)
    said = replace(options, is_compared=None, asks_to_compare=False, compared_with=None, save=None, out=None)
    return CellKey(cell_id, digest(repr(astuple(said))), None if body is None else digest(body))


def _has_code(body: str) -> bool:
    lines = (line.strip() for line in body.splitlines())
    return any(line and not line.startswith("#") for line in lines)
