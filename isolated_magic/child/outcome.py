"""What counts as the result of the code, apart from what it printed.

A value (of the last expression, or what a metric's ``score`` returned) becomes ``{"scores": [...]}`` when it
is a score, several scores, a dict with ``scores`` or a number. Opik is recognised by the names of its classes:
importing it here would cost every run two seconds.
"""

from __future__ import annotations

import sys

from . import stdlib

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Awaitable, Collection
    from typing import TypeAlias

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
    Path: TypeAlias = "str | tuple[Path, object]"  # where it begins, or another and the key or index that follows

SCORE_FIELDS = ("reason", "category_name", "metadata", "scoring_failed")
DEFAULT_SCORE_NAME = "score"


class NotAResultError(Exception):
    """The value is no result; the text says what it is instead."""


def find_metric(names: dict[str, object]) -> type | None:
    """The metric class that the code defines: the last concrete subclass of a ``BaseMetric``, if any.

    Args:
        names: the names of ``__main__``. A class that was only imported is passed over.
    """
    defined = [value for value in names.values() if isinstance(value, type) and _is_metric_class(value)]
    bases = {base for metric in defined for base in metric.__mro__[1:]}
    leaves = [metric for metric in defined if metric not in bases]
    return leaves[-1] if leaves else None


def _is_metric_class(value: type) -> bool:
    return (
        value.__module__ == "__main__"
        and value.__name__ != "BaseMetric"
        and _has_base_named(value, "BaseMetric")
        and not getattr(value, "__abstractmethods__", None)
    )


def _has_base_named(value: type, name: str) -> bool:
    return any(base.__name__ == name for base in value.__mro__)


def score_with(metric_class: type, data: object, payload_type: object) -> dict[str, Json]:
    """Make the metric, let it score, and return ``{"scores": [...]}``.

    Args:
        metric_class: a class with a ``score`` method, made without arguments.
        data: a dict becomes the keyword arguments of ``score``.
        payload_type: with ``"trace_thread"`` the data is the only argument.

    Raises:
        NotAResultError: what ``score`` returned is no score.
        Exception: whatever the metric raises.
    """
    metric = metric_class()
    score = metric.ascore if _scores_in_async_only(metric_class) else metric.score
    if payload_type == "trace_thread" or not isinstance(data, dict):
        value = score(data)
    else:
        value = score(**_with_missing(score, data))
    if hasattr(value, "__await__"):
        with stdlib.Imports():
            import asyncio  # noqa: PLC0415 - 79 ms that only an async metric has to pay

        value = asyncio.run(_awaited(value))
    try:
        return result_of(value, _text(getattr(metric, "name", None) or DEFAULT_SCORE_NAME))
    except NotAResultError as problem:
        raise NotAResultError(f"{metric_class.__name__}.score() returned {problem}") from None


def _scores_in_async_only(metric_class: type) -> bool:
    """Whether ``score`` is still the one of ``BaseMetric``, which only raises, while ``ascore`` is not."""

    def is_own(name: str) -> bool:
        home = next((base for base in metric_class.__mro__ if name in vars(base)), object)
        return home.__name__ not in {"BaseMetric", "object"}

    return is_own("ascore") and not is_own("score")


async def _awaited(value: Awaitable[object]) -> object:
    return await value


def _with_missing(score: object, data: dict[str, object]) -> dict[str, object]:
    """The data, and None for each parameter without a default that the data does not name."""
    inspect = stdlib.module("inspect")  # 10 ms that only a metric class has to pay
    try:
        parameters = inspect.signature(score).parameters.values()
    except (TypeError, ValueError):  # a callable that does not tell its parameters
        return data
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    missing = {
        parameter.name: None
        for parameter in parameters
        if parameter.kind in by_name and parameter.default is parameter.empty and parameter.name not in data
    }
    return {**data, **missing}


def result_of(value: object, name: str = DEFAULT_SCORE_NAME) -> dict[str, Json]:
    """The value as ``{"scores": [...]}``.

    Args:
        value: whatever the code came to.
        name: of the score, where the value is a bare number.

    Raises:
        NotAResultError: the value is none of the things that count; the text says what it is.
    """
    try:
        return _result_of(value, name)
    except RecursionError:
        raise NotAResultError(f"{_described(value)} that is nested too deeply, or holds itself") from None


def _result_of(value: object, name: str) -> dict[str, Json]:
    if _is_score(value):
        return {"scores": [_score(value, "the score")]}
    if isinstance(value, dict):
        if "scores" not in value:
            raise NotAResultError("a dict without the key 'scores'")
        rest = {key: item for key, item in value.items() if key != "scores"}
        return {"scores": _listed(value["scores"]), **_plain_dict(rest, "", {"scores"})}
    if isinstance(value, (list, tuple)):
        return {"scores": _scores(value)}
    return {"scores": [{"name": name, "value": _number(value), "reason": None}]}


def _listed(scores: object) -> list[Json]:
    """The ``scores`` of a dict: a list of scores, or of dicts with a name and a value."""
    if not isinstance(scores, (list, tuple)):
        raise NotAResultError(f"a dict whose 'scores' is {_described(scores)}, not a list")
    found: list[Json] = []
    for index, score in enumerate(scores):
        path = f"scores[{index}]"
        if _is_score(score):
            found.append(_score(score, path))
        elif isinstance(score, dict) and isinstance(score.get("name"), str) and "value" in score:
            found.append(_plain(score, path))
        else:
            raise NotAResultError(f"a dict whose {path} has no 'name' and 'value'")
    return found


def _scores(values: list[object] | tuple[object, ...]) -> list[Json]:
    if not values:
        raise NotAResultError(f"an empty {type(values).__name__}")
    for index, value in enumerate(values):
        if not _is_score(value):
            raise NotAResultError(
                f"a {type(values).__name__} whose item {index} is {_described(value)}, not a score"
            )
    return [_score(value, f"scores[{index}]") for index, value in enumerate(values)]


def _is_score(value: object) -> bool:
    return _has_base_named(type(value), "ScoreResult") and hasattr(value, "name") and hasattr(value, "value")


def _score(score: object, path: str) -> Json:
    name = score.name  # type: ignore[attr-defined]  # _is_score() saw it
    if not isinstance(name, str):
        raise NotAResultError(f"a score whose name is no text: {path}.name is {type(name).__name__}")
    fields: dict[str, Json] = {
        "name": _text(name),
        "value": _plain(score.value, f"{path}.value"),  # type: ignore[attr-defined]  # likewise
    }
    for field in SCORE_FIELDS:
        if hasattr(score, field):
            fields[field] = _plain(getattr(score, field), f"{path}.{field}")
    return fields


def _number(value: object) -> int | float:
    if isinstance(value, bool):
        return float(value)
    plain = _plain(value, "", top=True)
    if isinstance(plain, bool):  # numpy's
        return float(plain)
    if isinstance(plain, (int, float)) and not isinstance(value, str):
        return plain
    raise NotAResultError(_described(value))


def _plain(value: object, path: Path, *, top: bool = False) -> Json:
    """The value as JSON can hold it; scalars of other libraries by their own conversions."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, dict):
        return _plain_dict(value, path)
    if isinstance(value, (list, tuple)):
        return [_plain(item, (path, index)) for index, item in enumerate(value)]
    converted = _converted(value)
    if converted is value:
        raise NotAResultError(_described(value) if top else f"{_shown(path)}: {_described(value)}")
    return _plain(converted, path, top=top)


def _plain_dict(value: dict[object, object], path: Path, taken: Collection[str] = ()) -> dict[str, Json]:
    """The dict with keys that are text.

    Args:
        value: any dict.
        path: to it.
        taken: keys that stand beside these.
    """
    plain = {_text(key): _plain(item, (path, key)) for key, item in value.items()}
    if len(plain) < len(value) or not plain.keys().isdisjoint(taken):
        where = _shown(path)
        raise NotAResultError(f"{where and where + ': '}a dict in which two keys become the same text")
    return plain


def _shown(path: Path) -> str:
    keys: list[str] = []
    while isinstance(path, tuple):
        path, key = path
        keys.append(f"[{key!r}]")
    return path + "".join(reversed(keys))


def _text(value: object) -> str:
    """As JSON has it: the text of an enum that is a str is its value, not its name."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def _converted(value: object) -> object:
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # numpy, pandas, torch
        plain: object = value.tolist()
        if type(plain) is not type(value):  # a longdouble stays what it is
            return plain
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "model_dump"):  # pydantic
        return value.model_dump()
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return value.value
    numbers = sys.modules.get("numbers")  # loaded by whoever defines a number type of its own
    if numbers is not None and isinstance(value, numbers.Real):
        return float(value)
    if type(value).__module__ == "decimal":
        return float(value)  # type: ignore[arg-type]  # a Decimal
    return value


def _described(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__qualname__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
