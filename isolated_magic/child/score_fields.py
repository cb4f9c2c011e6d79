"""One score in our JSON, made of the fields that a library gives it."""

from __future__ import annotations

from .plain import described, number_in, plain, plain_text

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeAlias

    from .plain import Json

    Score: TypeAlias = dict[str, Json]
    Get: TypeAlias = Callable[[str], Any]  # the value of a field, None where there is none

# What the libraries call the same thing; the first that is there counts.
NAMES, VALUES = ("name", "key"), ("score", "value")
REASONS = ("reason", "explanation", "comment", "rationale")
CATEGORIES = ("category_name", "category", "label")
PASSED = ("passed", "success")
_OTHERS = ("metadata", "threshold", "error", "scoring_failed", "kind", "direction", "source", "answer")
_OF_LANGSMITH = ("correction", "evaluator_info", "feedback_config", "source_run_id", "target_run_id", "extra")
FIELDS = frozenset((*NAMES, *VALUES, *REASONS, *CATEGORIES, *PASSED, *_OTHERS, *_OF_LANGSMITH))


def named(name: str, value: object, reason: str | None = None) -> Score:
    """A score that is no more than a number, or None."""
    return {"name": plain_text(name), "value": number_in(value), "reason": reason}


def score_of(get: Get, name: str) -> Score:
    """The score whose fields ``get`` reads; the name is for one without its own.

    Raises:
        NotAResultError: its value is not JSON.
    """
    value, category, reason = get("score"), _first(get, CATEGORIES), _first(get, REASONS)
    label = get("value")
    if value is None:
        value, label = label, None
    if value is None:  # a label alone, as Phoenix has it
        value = _text(category)
    if category is None:
        category = next((text for text in (label, value) if isinstance(text, str)), None)
    error, own, passed = get("error"), _first(get, NAMES), number_in(_first(get, PASSED))
    score: Score = {
        "name": plain_text(own) if isinstance(own, str) else name,
        "value": plain(value, "the value of the score"),
        "reason": _text(_message(error) if error else reason),
    }
    more: dict[str, Json] = {
        "category_name": _text(category),
        "metadata": _metadata(get("metadata"), error),
        "scoring_failed": True if error or number_in(get("scoring_failed")) else None,
        "passed": None if passed is None else bool(passed),
        "threshold": number_in(get("threshold")),
    }
    return score | {field: one for field, one in more.items() if one is not None}


def with_metadata(score: Score, more: dict[str, Json]) -> Score:
    """The score with more metadata."""
    own = score.get("metadata")
    return score | {"metadata": {**(own if isinstance(own, dict) else {}), **more}} if more else score


def as_json(value: object) -> Json:
    """The value as JSON; text for what JSON has nothing for."""
    if isinstance(value, dict):
        return {plain_text(key): as_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(item) for item in value]
    try:
        return plain(value, "")
    except RecursionError:
        raise
    except Exception:  # noqa: BLE001 - whatever an object of another library raises
        text = str(value)
        return described(value) if " at 0x" in text else text  # the address differs from run to run


def _first(get: Get, names: Iterable[str]) -> Any:  # noqa: ANN401 - whatever the code has
    return next((value for value in map(get, names) if value is not None), None)


def _text(value: object) -> str | None:
    return None if value is None else plain_text(value)


def _message(error: Any) -> str:  # noqa: ANN401 - likewise
    """What an exception says, or MLflow's description of one."""
    if isinstance(error, BaseException):
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    return plain_text(getattr(error, "error_message", None) or getattr(error, "error_code", None) or error)


def _metadata(metadata: object, error: object) -> Json:
    """The metadata as far as JSON can hold it; an exception joins it as Opik writes one."""
    kept = as_json(metadata) if metadata else None
    if isinstance(error, BaseException) and (kept is None or isinstance(kept, dict)):
        info: Json = {"exception_type": type(error).__name__, "message": str(error)}
        kept = {"error_info": info, **(kept or {})}
    return kept
