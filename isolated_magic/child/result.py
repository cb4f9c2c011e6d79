"""What counts as the result of the code, apart from what it printed.

A value (of the last expression, or what a metric's ``score`` returned: see metric.py) becomes
``{"scores": [...]}`` when it is a score, several scores, a dict with ``scores`` or a number. Opik is recognised by
the names of its classes: importing it here would cost every run two seconds.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import TypeAlias

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
    Path: TypeAlias = "str | tuple[Path, object]"  # where it begins, or another and the key or index that follows


SCORE_FIELDS = ("reason", "category_name", "metadata", "scoring_failed")
DEFAULT_SCORE_NAME = "score"


class NotAResultError(Exception):
    """The value is no result; the text says what it is instead."""


# What the interpreter keeps of a type, whatever its metaclass says.
mro_of: Callable[[object], tuple[type, ...]] = type.__dict__["__mro__"].__get__
name_of: Callable[[object], str] = type.__dict__["__name__"].__get__


def has_base_named(kind: object, name: str) -> bool:
    """Whether a class, or one that it is derived from, has this name.

    Args:
        kind: a class.
        name: of a class.
    """
    return any(name_of(base) == name for base in mro_of(kind))


def result_of(value: object, name: str = DEFAULT_SCORE_NAME) -> dict[str, Json]:
    """The value as ``{"scores": [...]}``.

    Args:
        value: whatever the code came to.
        name: of the score, where the value is a bare number.

    Raises:
        NotAResultError: the value is none of the things that count; the text says what it is.
    """
    if not _has_class(value):
        raise NotAResultError(described(value))
    try:
        return _result_of(value, name)
    except RecursionError:
        raise NotAResultError(f"{described(value)} that is nested too deeply, or holds itself") from None


def has_scores(value: object) -> bool:
    """Whether a value that is a result has scores with names, and is no bare number.

    Args:
        value: that :func:`result_of` takes.
    """
    return isinstance(value, (dict, list, tuple)) or _is_score(value)


def _has_class(value: object) -> bool:
    """False for a lazy object that cannot become what it stands for: ``isinstance`` raises what that raises."""
    try:
        return value.__class__ is not None
    except Exception:  # noqa: BLE001 - whatever it likes
        return False


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
    """The ``scores`` of a dict: a list of scores, or of dicts with a name; one without a value has failed."""
    if not isinstance(scores, (list, tuple)):
        raise NotAResultError(f"a dict whose 'scores' is {described(scores)}, not a list")
    found: list[Json] = []
    for index, score in enumerate(scores):
        path = f"scores[{index}]"
        if _is_score(score):
            found.append(_score(score, path))
        elif isinstance(score, dict) and isinstance(score.get("name"), str):
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
                f"a {type(values).__name__} whose item {index} is {described(value)}, not a score"
            )
    return [_score(value, f"scores[{index}]") for index, value in enumerate(values)]


def _is_score(value: object) -> bool:
    return has_base_named(type(value), "ScoreResult") and hasattr(value, "name") and hasattr(value, "value")


def _score(score: object, path: str) -> Json:
    name = score.name  # type: ignore[attr-defined]  # _is_score() saw it
    if not isinstance(name, str):
        raise NotAResultError(f"a score whose name is no text: {path}.name is {type(name).__name__}")
    fields: dict[str, Json] = {
        "name": text_of(name),
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
    raise NotAResultError(described(value))


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
        raise NotAResultError(described(value) if top else f"{_shown(path)}: {described(value)}")
    return _plain(converted, path, top=top)


def _plain_dict(value: dict[object, object], path: Path, taken: Collection[str] = ()) -> dict[str, Json]:
    """The dict with keys that are text.

    Args:
        value: any dict.
        path: to it.
        taken: keys that stand beside these.
    """
    plain = {text_of(key): _plain(item, (path, key)) for key, item in value.items()}
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


def text_of(value: object) -> str:
    """The text of a value as JSON has it: of an enum that is a str its value, not its name.

    Args:
        value: any.
    """
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


def described(value: object) -> str:
    """What to call a value: its type with an article.

    Args:
        value: any.
    """
    if value is None:
        return "None"
    name = type(value).__qualname__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


# How much of a text is told. The child sends twice as much as the owner keeps: the owner hides secrets first, and
# one that the child has cut in two then lies in what the owner leaves out, or, where hiding made the text short,
# beside the words for what the child left out, by which the owner knows it.
LONGEST_TEXT = 100_000  # characters that anybody would read
LONGEST_LINE = 1000
LONGEST_VALUE = 10_000
SENT = 2
LEFT_OUT = "characters left out"


def elide_middle(text: str, most: int = LONGEST_TEXT) -> str:
    """The text, without its middle when it is too long.

    Args:
        text: any.
        most: characters that are left of it.
    """
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... [{len(text) - 2 * half:,} {LEFT_OUT}] ... {text[-half:]}"
