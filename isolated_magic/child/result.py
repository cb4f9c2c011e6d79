"""Which values count as the result of the code.

The value of the last expression, or what a metric's ``score`` returned (see ``metric.py``), becomes
``{"scores": [...]}`` when it is a score, several scores, a dict with ``scores`` or a number. Opik is recognised by
the names of its classes: importing it would cost every run two seconds.
"""

from __future__ import annotations

from .plain import NotAResultError, described, has_base_named, plain, plain_dict, plain_text

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from .plain import Json


SCORE_FIELDS = ("reason", "category_name", "metadata", "scoring_failed")
DEFAULT_SCORE_NAME = "score"


def result_of(value: object, name: str = DEFAULT_SCORE_NAME) -> dict[str, Json]:
    """The value as ``{"scores": [...]}``; the name is given to a bare number.

    Raises:
        NotAResultError: the value is no result.
    """
    if not _has_class(value):
        raise NotAResultError(described(value))
    try:
        return _result_of(value, name)
    except RecursionError:
        raise NotAResultError(f"{described(value)} that is nested too deeply, or holds itself") from None


def has_scores(value: object) -> bool:
    """Whether a value that is a result holds scores, and is no bare number."""
    return isinstance(value, (dict, list, tuple)) or _is_score(value)


def _has_class(value: object) -> bool:
    """False for a lazy proxy that cannot be resolved: ``isinstance`` would raise what its ``__class__`` raises."""
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
        return {"scores": _listed(value["scores"]), **plain_dict(rest, "", {"scores"})}
    if isinstance(value, (list, tuple)):
        return {"scores": _scores(value)}
    return {"scores": [{"name": name, "value": _number(value), "reason": None}]}


def _listed(scores: object) -> list[Json]:
    """The ``scores`` of a dict: scores, or dicts with a name; one without a value is a metric that failed."""
    if not isinstance(scores, (list, tuple)):
        raise NotAResultError(f"a dict whose 'scores' is {described(scores)}, not a list")
    found: list[Json] = []
    for index, score in enumerate(scores):
        path = f"scores[{index}]"
        if _is_score(score):
            found.append(_score(score, path))
        elif isinstance(score, dict) and isinstance(score.get("name"), str):
            found.append(plain(score, path))
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
        raise NotAResultError(f"a score whose name is not a string: {path}.name is {type(name).__name__}")
    fields: dict[str, Json] = {
        "name": plain_text(name),
        "value": plain(score.value, f"{path}.value"),  # type: ignore[attr-defined]  # likewise
    }
    for field in SCORE_FIELDS:
        if hasattr(score, field):
            fields[field] = plain(getattr(score, field), f"{path}.{field}")
    return fields


def _number(value: object) -> int | float:
    if isinstance(value, bool):
        return float(value)
    number = plain(value, "", top=True)
    if isinstance(number, bool):  # numpy's
        return float(number)
    if isinstance(number, (int, float)) and not isinstance(value, str):
        return number
    raise NotAResultError(described(value))


# How much of a text is reported. The child sends SENT times as much as the owner keeps, because the owner hides
# secrets before it cuts. A secret that the child cut in two lies in what the owner leaves out; or, where hiding
# made the text short, beside the words LEFT_OUT, by which the owner finds it.
LONGEST_TEXT = 100_000  # characters that anybody would read
LONGEST_LINE = 1000
LONGEST_VALUE = 10_000
SENT = 2
LEFT_OUT = "characters left out"


def elide_middle(text: str, most: int = LONGEST_TEXT) -> str:
    """The text; when it is longer than ``most`` characters, without its middle."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... [{len(text) - 2 * half:,} {LEFT_OUT}] ... {text[-half:]}"
