"""What a notebook's user may have expected of a cell that failed: that it is a cell like others."""

from __future__ import annotations

import re
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.models import RunResult

_UNKNOWN_NAME = re.compile(r"NameError: name '(\w+)' is not defined")
_LINE = re.compile(r" \(line (\d+)\)\Z")

NO_AWAIT = "await outside a function is IPython's, and the run is plain Python: write asyncio.run(...)."
NO_MAGICS = "Lines that begin with ! or % are IPython's, and the run is plain Python: put them into another cell."


def with_hint(result: RunResult, cell: str | None, names: Mapping[str, object]) -> RunResult:
    """The result, with what to do about its error where a cell of the notebook's own would have had none.

    Args:
        result: of a run.
        cell: its code, None for a file.
        names: of the notebook.
    """
    error = result.error
    if error is None or error.hint:
        return result
    hint = _about_name(error.summary, names) or (_about_syntax(error.summary, cell) if cell is not None else "")
    return replace(result, error=replace(error, hint=hint)) if hint else result


def _about_name(summary: str, names: Mapping[str, object]) -> str:
    found = _UNKNOWN_NAME.match(summary)
    if found is None or found[1] not in names:
        return ""
    name, value = found[1], names[found[1]]
    if isinstance(value, ModuleType):
        what, remedy = "a module that the notebook imported", "import it in this cell, too"
    elif callable(value):
        what, remedy = "of the notebook", "define it in this cell, or in a file that it imports"
    elif isinstance(value, dict):
        what, remedy = "a dict of the notebook", f"hand it over with --data {name} (it is called data there)"
    else:
        what, remedy = (
            "a variable of the notebook",
            "hand it over in a dict with --data, or define it in this cell",
        )
    return f"The run is a process of its own, and {name} is {what}: {remedy}."


def _about_syntax(summary: str, cell: str) -> str:
    if not summary.startswith("SyntaxError: "):
        return ""
    if "'await' outside function" in summary or "outside async function" in summary:
        return NO_AWAIT
    found = _LINE.search(summary)
    lines = ["%%isolated", *cell.split("\n")]
    line = lines[int(found[1]) - 1] if found is not None and int(found[1]) <= len(lines) else ""
    return NO_MAGICS if line.lstrip().startswith(("!", "%")) else ""
