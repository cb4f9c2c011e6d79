"""What a notebook's user may have expected of a cell that failed: that it is a cell like others."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.models import RunResult

_UNKNOWN_NAME = re.compile(r"NameError: name '(\w+)' is not defined")
_LINE = re.compile(r" \(line (\d+)\)\Z")

HISTORY = (
    "{name} holds what the notebook has run, of which the run has nothing: keep it in a variable there, and hand "
    "that over with --data."
)
NO_AWAIT = "await outside a function is IPython's, and the run is plain Python: write asyncio.run(...)."
NO_MAGICS = "Lines that begin with ! or % are IPython's, and the run is plain Python: put them into another cell."


def with_hint(
    result: RunResult, cell: str | None, names: Mapping[str, object], hidden: Mapping[str, object]
) -> RunResult:
    """The result, with what to do about its error where a cell of the notebook's own would have had none.

    Args:
        result: of a run.
        cell: its code, None for a file.
        names: of the notebook.
        hidden: those among them that IPython put there, with their values.
    """
    error = result.error
    if error is None:
        return result
    hint = _about_name(error.summary, names, hidden) or error.hint
    if not hint and cell is not None:
        hint = _about_syntax(error.summary, cell)
    return replace(result, error=replace(error, hint=hint)) if hint else result


def _about_name(summary: str, names: Mapping[str, object], hidden: Mapping[str, object]) -> str:
    found = _UNKNOWN_NAME.match(summary)
    if found is None or found[1] not in names:
        return ""
    name, value = found[1], names[found[1]]
    if name.startswith("_") or name in {"In", "Out"}:
        return HISTORY.format(name=name)
    if name in hidden and hidden[name] is value:
        return ""
    if line := _import_of(name, value):
        kind = (
            "a module that the notebook imported" if isinstance(value, ModuleType) else "imported by the notebook"
        )
        return f"The run is a process of its own, and {name} is {kind}: import it in this cell, too: {line}."
    if callable(value):
        what, remedy = "of the notebook", "define it in this cell, or in a file that it imports"
    elif isinstance(value, dict):
        what, remedy = "a dict of the notebook", f"hand it over with --data {name} (it is called data there)"
    else:
        what = "a variable of the notebook"
        remedy = f"hand it over in a dict with --data, such as -d {name}=${name}, or define it in this cell"
    return f"The run is a process of its own, and {name} is {what}: {remedy}."


def _import_of(name: str, value: object) -> str:
    """The line that imports a module, or a function or class of one; empty where it is the notebook's own."""
    if type(value) is ModuleType:
        module = value.__name__
        top, _, last = module.rpartition(".")
        if name == module:
            return f"import {module}"
        return f"from {top} import {last}" if top and name == last else f"import {module} as {name}"
    if not isinstance(value, (type, FunctionType, BuiltinFunctionType)):
        return ""
    module, own = value.__module__, value.__name__
    if getattr(sys.modules.get(module or "__main__"), own, None) is not value or module in {None, "__main__"}:
        return ""
    return f"from {module} import {own}" + (f" as {name}" if own != name else "")


def _about_syntax(summary: str, cell: str) -> str:
    if not summary.startswith("SyntaxError: "):
        return ""
    if "'await' outside function" in summary or "outside async function" in summary:
        return NO_AWAIT
    found = _LINE.search(summary)
    lines = ["%%isolated", *cell.split("\n")]
    line = lines[int(found[1]) - 1] if found is not None and int(found[1]) <= len(lines) else ""
    return NO_MAGICS if line.lstrip().startswith(("!", "%")) else ""
