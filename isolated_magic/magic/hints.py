"""Hints: what to change in a cell that failed or has no score, and notes on cells that only look at something."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import TYPE_CHECKING

from isolated_magic.child.result import IT_SCORES
from isolated_magic.executors.row_values import NO_ROW
from isolated_magic.magic.datasets import are_rows
from isolated_magic.models import ErrorKind, Found
from isolated_magic.syntax import expression_of, module_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from isolated_magic.magic.options import Options
    from isolated_magic.models import RunError, RunResult

    Lines: TypeAlias = tuple[str, str]


NOTE = "no score{found}. If none is meant, --no-score leaves this note out."
ADVICE = "Either line, as the last one, is a score."
LOOKING = "To look at something without one, print() it or add --no-score."
GOING_ON = "To do without one, add --no-score."
ADVICE_ON_PROGRAMS = "A program that prints such a line, as the last one, has a score."
ADVICE_ON_METRICS = "Either line, at the end of {what}, is a score."
ANY_SCORE = '{"scores": [{"name": "score", "value": 0.8, "reason": "why"}]}'
ANY_LINES = ("0.8", ANY_SCORE)
JSON_LINE = f"import json; print(json.dumps({ANY_SCORE}))"
LONGEST_EXPRESSION = 40  # characters of the user's own that the lines repeat
LONGER = "value"  # stands for what is longer

_VALUE = re.compile(r"(?:.*; )?the value of the last line is (.*)", re.DOTALL)
_METRIC = re.compile(r"(?:[^\n]*\.)?([^\n.]+\(\)) returned (?:an? )?[\w.]+")
_KIND = re.compile(r"an? ([\w.]+)")
_JSON = re.compile(r"""\{\s*["}]""")  # what JSON objects begin with, and Python's dicts mostly do not
_SCORES = re.compile(r"""["']scores["']""")
_UNKNOWN = object()
_ATOMS = (
    ast.Name,
    ast.Attribute,
    ast.Subscript,
    ast.Call,
    ast.List,
    ast.Dict,
    ast.Set,
    ast.Constant,
    ast.JoinedStr,
)

_UNDEFINED_NAME = re.compile(r"NameError: name '(\w+)' is not defined")
_MISSING_KEY = re.compile(r"KeyError: '(\w+)'")
_LINE = re.compile(r" \(line (\d+)\)\Z")

FROM_HISTORY = (
    "{name} holds what the notebook has run, of which the run has nothing: keep it in a variable there, and hand "
    "that over with --data."
)
NO_AWAIT = "A function that awaits, or has async for or async with in it, begins with async def."
NO_MAGICS = "Lines that begin with ! or % are IPython's, and the run is plain Python: put them into another cell."


def as_meant(result: RunResult, options: Options, cell: str | None, hide: Callable[[str], str]) -> RunResult:
    """The result with a note instead of its error if the cell only looked at something, else with advice.

    Args:
        result: of a run.
        options: of the line.
        cell: its code, None for a file.
        hide: removes the secrets of the run from a text.
    """
    error = result.error
    if error is None or error.kind is not ErrorKind.NO_RESULT or error.found_kind is None or result.exit_status:
        return result
    if options.no_score:
        notes = tuple([note for note in result.notes if not note.endswith(IT_SCORES)])
        return replace(result, error=None, notes=notes)
    printed = next((line.strip() for line in reversed(result.stdout.split("\n")) if line.strip()), "")
    wants_scores = options.wants_scores or options.strict
    if _only_looked(error.found_kind, printed, has_shown=bool(result.displays)) and not wants_scores:
        found = _VALUE.fullmatch(error.found)
        note = NOTE.format(found=f": the cell ended with {found[1]}" if found else "")
        return replace(result, error=None, notes=(*result.notes, note))
    if not options.is_python:
        summary = f"{error.found[:1].upper()}{error.found[1:]}."
        return replace(result, error=replace(error, summary=summary, excerpt=ANY_SCORE, hint=ADVICE_ON_PROGRAMS))
    summary, lines = (
        _summary(result, error, "cell" if cell is not None else "file", printed),
        _lines(error, cell, printed),
    )
    advice = ADVICE
    if options.each is None:  # which takes no --no-score
        advice = f"{ADVICE} {GOING_ON if wants_scores else LOOKING}"
    if error.found_kind is Found.METRIC:
        called = _METRIC.match(error.found)
        advice = ADVICE_ON_METRICS.format(what=called[1] if called else "score()")
    shown = hide("\n".join(lines))
    return replace(result, error=replace(error, summary=summary, excerpt=shown, hint=error.hint or advice))


def _only_looked(kind: Found, printed: str, *, has_shown: bool) -> bool:
    """Whether a cell that ended this way was meant to show something.

    Args:
        kind: what it has instead of a result.
        printed: its last printed line.
        has_shown: it has displayed something.
    """
    if kind is Found.LINE:
        return not (_JSON.match(printed) or _SCORES.search(printed))
    return has_shown or (bool(printed) and kind in {Found.OUTPUT, Found.VALUE, Found.EXIT})


def _summary(result: RunResult, error: RunError, what: str, printed: str) -> str:
    if error.found_kind is Found.NOTHING and result.displays:
        return f"The {what} only displayed something, which is no score."
    if error.found_kind is Found.NOTHING:
        where = " on stdout" if result.stderr.strip() else ""
        return f"The {what} printed nothing{where} and did not end with a value."
    if error.found_kind is Found.OUTPUT:
        return f"The {what} only printed, and what it printed is no score."
    if error.found_kind is Found.LINE and isinstance(_literal(printed), dict):
        return f"The {what} printed a Python dict, which is no JSON."
    if _METRIC.fullmatch(error.found):
        return f"{error.found}, which is no score."
    if found := _VALUE.fullmatch(error.found):
        is_said = not (_KIND.fullmatch(found[1]) or found[1].startswith("a dict without"))
        return f"The {what} ended with {found[1]}{'' if is_said else ', which is no score'}."
    return f"{error.found[:1].upper()}{error.found[1:]}."


def _lines(error: RunError, cell: str | None, printed: str) -> Lines:
    """Two lines that would be a score, made of what the cell ended with if that is known."""
    if error.found_kind is Found.METRIC:
        return "return 0.8", f"return {ANY_SCORE}"
    code = cell or ""
    last = _last_statement(code)
    if error.found_kind is Found.VALUE and isinstance(last, ast.Expr):
        kind = _KIND.search(error.found)
        return _lines_of_value(_source(last.value, code), _literal(error.found_repr), kind[1] if kind else "")
    if error.found_kind is Found.NOTHING:
        return _lines_of_statement(last)
    argument, value = _printed_by(last), _literal(printed)
    if error.found_kind in {Found.LINE, Found.OUTPUT} and argument is not None and value is not _UNKNOWN:
        return _lines_of_value(_source(argument, code), value, "")
    return (JSON_LINE, ANY_SCORE) if error.found_kind is Found.LINE else ANY_LINES


def _lines_of_statement(last: ast.stmt | None) -> Lines:
    if isinstance(last, (ast.FunctionDef, ast.AsyncFunctionDef)):
        call = f"{'await ' * isinstance(last, ast.AsyncFunctionDef)}{last.name}(**data)"
        return last.name, _scores(call)
    target = last.targets[0] if isinstance(last, ast.Assign) else getattr(last, "target", None)
    is_assigned = isinstance(last, (ast.Assign, ast.AnnAssign, ast.AugAssign))
    return _number(target.id) if is_assigned and isinstance(target, ast.Name) else ANY_LINES


def _lines_of_value(code: str, value: object, kind: str) -> Lines:
    """Lines for a value if it is known, else for its kind."""
    if isinstance(value, str):
        return f'float({code} == "expected")', _scores("1.0", reason=code)
    if isinstance(value, (int, float)):
        return _number(f"float({code})")
    if isinstance(value, dict):
        return _lines_of_dict(code, value)
    if isinstance(value, (list, tuple)) and value:
        return _lines_of_list(code, list(value))
    if isinstance(value, (list, tuple, set, bytes)):
        return _number(f"len({code})")
    if kind == "DataFrame":
        return f"{code}.mean(numeric_only=True).rename(str)", _scores(f"len({code})", name='"rows"')
    if kind in {"ndarray", "Series", "Tensor", "Array"}:
        return _number(f"float({code}.mean())")
    if kind == "async_generator":
        return _number(f"[one async for one in {code}][0]")
    return "0.8", _scores("0.8", reason=f"str({code})")


def _lines_of_dict(code: str, value: dict[object, object]) -> Lines:
    if isinstance(value.get("scores"), list):
        return code, f"import json; print(json.dumps({code}))"
    if "name" in value and "value" in value:
        return f'{{"scores": [{code}]}}', f'{code}["value"]'
    keys = {key: f"{code}[{json.dumps(key)}]" for key in value if isinstance(key, str)}
    numbers = [place for key, place in keys.items() if _is_number(value[key])]
    if numbers and len(numbers) == len(value):
        return numbers[0], f'{{"scores": [{{"name": key, "value": one}} for key, one in {code}.items()]}}'
    texts = [place for key, place in keys.items() if isinstance(value[key], str)]
    if numbers:
        return _number(numbers[0])
    return _number(f"float({texts[0]} == {texts[1]})") if len(texts) > 1 else _number(f"len({code})")


def _lines_of_list(code: str, value: list[object]) -> Lines:
    if all(map(_is_number, value)):
        each = f'{{"scores": [{{"name": f"score {{n}}", "value": one}} for n, one in enumerate({code})]}}'
        return f"sum({code}) / len({code})", each
    if all(isinstance(one, dict) and "name" in one and "value" in one for one in value):
        return f'{{"scores": {code}}}', f'import json; print(json.dumps({{"scores": {code}}}))'
    if len(value) == 2 and _is_number(value[0]) and isinstance(value[1], str):
        return f"{code}[0]", _scores(f"{code}[0]", reason=f"{code}[1]")
    if len(value) == 2 and isinstance(value[0], str) and _is_number(value[1]):
        return f"{code}[1]", _scores(f"{code}[1]", name=f"{code}[0]")
    return _number(f"len({code})")


def _number(code: str) -> Lines:
    return code, _scores(code)


def _scores(value: str, *, name: str = '"score"', reason: str = "") -> str:
    told = f', "reason": {reason}' if reason else ""
    return f'{{"scores": [{{"name": {name}, "value": {value}{told}}}]}}'


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def _literal(text: str) -> object:
    """The value whose repr this is, if it is a literal."""
    try:
        return ast.literal_eval(expression_of(text.lstrip(" \t")))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return _UNKNOWN


def _last_statement(code: str) -> ast.stmt | None:
    try:
        body = module_of(code).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[-1] if body else None


def _printed_by(last: ast.stmt | None) -> ast.expr | None:
    """The argument, if the last statement prints exactly one."""
    call = last.value if isinstance(last, ast.Expr) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "print":
        return None
    return call.args[0] if len(call.args) == 1 and not call.keywords else None


def _source(node: ast.expr, code: str) -> str:
    """The source of an expression, in parentheses unless something can follow it as it is."""
    source = ast.get_source_segment(code, node) or ""
    if not 0 < len(source) <= LONGEST_EXPRESSION or "\n" in source:
        return LONGER
    is_whole = isinstance(node, _ATOMS) or (isinstance(node, ast.Tuple) and source.startswith("("))
    return source if is_whole else f"({source})"


def with_hint(
    error: RunError,
    cell: str | None,
    names: Mapping[str, object],
    hidden: Mapping[str, object],
    row_name: str | None = None,
) -> RunError:
    """The error with a hint, where an ordinary cell of the notebook would have worked.

    Args:
        error: of a run.
        cell: its code, None for a file.
        names: the notebook's variables.
        hidden: those among them that IPython put there, with their values.
        row_name: what a row is called on the line; None for a run without rows.
    """
    hint = _about_name(error.summary, names, hidden, row_name) or error.hint
    if not hint and cell is not None:
        hint = _about_syntax(error.summary, cell)
    return replace(error, hint=hint) if hint else error


def with_hint_about_data(error: RunError, row: object, options: Options, *, data_is_row: bool) -> RunError:
    """The error of a row with a hint, where its data is not what the code needs.

    Args:
        error: of the row.
        row: the row.
        options: of the line.
        data_is_row: whether the row, or something made of it, is the data.
    """
    if error.kind is ErrorKind.INVALID_REQUEST and NO_ROW in error.text and not options.data:
        told = f"give it a name in the data: --data value={{{options.row}}}"
        return error.map_texts(lambda text: text.replace(NO_ROW, told))
    found = _MISSING_KEY.match(error.summary)
    if found is None or data_is_row or not isinstance(row, Mapping) or found[1] not in row:
        return error
    hint = f"The row has that key, but data is what --data says. For the row beside that, add -d {options.row}."
    return replace(error, hint=hint)


def _about_name(
    summary: str, names: Mapping[str, object], hidden: Mapping[str, object], row_name: str | None
) -> str:
    found = _UNDEFINED_NAME.match(summary)
    if found is None or (found[1] not in names and found[1] != row_name):
        return ""
    name, value = found[1], names.get(found[1])
    if name == row_name:
        return f"The row is called data in the code: {name} is its name on the magic's line."
    if name.startswith("_") or name in {"In", "Out"}:
        return FROM_HISTORY.format(name=name)
    if name in hidden and hidden[name] is value:
        return ""
    if line := _import_of(name, value):
        kind = (
            "a module that the notebook imported" if isinstance(value, ModuleType) else "imported by the notebook"
        )
        return f"The run is a process of its own, and {name} is {kind}: import it in this cell, too: {line}."
    return f"The run is a process of its own, and {name} is {_remedy(name, value, row_name)}."


def _remedy(name: str, value: object, row_name: str | None) -> str:
    """What a variable of the notebook is, and how the code gets it."""
    if callable(value):
        return "of the notebook: define it in this cell, or in a file that it imports"
    if row_name is not None:
        return (
            f"a variable of the notebook: hand it over beside the row, with --data {row_name} -d {name}=${name} "
            f'(it is data["{name}"] there), or define it in this cell'
        )
    if isinstance(value, dict):
        return f"a dict of the notebook: hand it over with --data {name} (it is called data there)"
    told = f"hand it over in a dict with --data, such as -d {name}=${name}, or define it in this cell"
    if are_rows(value):
        told += f". To run the code once for each of its rows, write --each {name}: a row is called data there"
    return f"a variable of the notebook: {told}"


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
    if "outside async function" in summary or "outside of an asynchronous function" in summary:
        return NO_AWAIT
    found = _LINE.search(summary)
    lines = ["%%isolated", *cell.split("\n")]
    line = lines[int(found[1]) - 1] if found is not None and int(found[1]) <= len(lines) else ""
    return NO_MAGICS if line.lstrip().startswith(("!", "%")) else ""
