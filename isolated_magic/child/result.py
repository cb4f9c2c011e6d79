"""Which values count as the result of the code.

The value of the last expression, or what a metric returned (see ``metric.py``), becomes ``{"scores": [...]}`` when
it is a score, several scores, a dict with ``scores`` or a number. What other libraries have for scores is in
``scores.py``, which a run loads when it ends with something else than a number or such a dict.
"""

from __future__ import annotations

from .plain import NotAResultError, described, has_class, number_in, plain, plain_dict

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from .plain import Json


DEFAULT_SCORE_NAME = "score"
NO_SCORES = "a dict without the key 'scores'"


def result_of(value: object, name: str = DEFAULT_SCORE_NAME) -> dict[str, Json]:
    """The value as ``{"scores": [...]}``; the name is given to a score without one of its own.

    Raises:
        NotAResultError: the value is no result.
    """
    if not has_class(value):
        raise NotAResultError(described(value))
    try:
        return _result_of(value, name)
    except RecursionError:
        raise NotAResultError(f"{described(value)} that is nested too deeply, or holds itself") from None


def check_is_not_data(value: object, data: object) -> None:
    """Refuse the data as the last expression: who looks at a row wants no scores of its numbers.

    Raises:
        NotAResultError: it is the data, which is a dict without ``scores``.
    """
    if value is data and isinstance(data, dict) and "scores" not in data:
        raise NotAResultError(NO_SCORES)


def has_scores(value: object) -> bool:
    """Whether a value that is a result holds scores, and is not numbers alone, which may mean something else."""
    if type(value) is float or type(value) is int:
        return False
    if isinstance(value, dict) and "scores" in value:
        return True
    from .scores import is_certain  # noqa: PLC0415 - most runs end with one of these

    return is_certain(value)


def _result_of(value: object, name: str) -> dict[str, Json]:
    if type(value) is float or type(value) is int:
        return {"scores": [{"name": name, "value": value, "reason": None}]}
    if isinstance(value, dict) and "scores" in value:
        rest = {key: item for key, item in value.items() if key != "scores"}
        return {"scores": _listed(value["scores"], name), **plain_dict(rest, "", {"scores"})}
    from .scores import scores_in  # noqa: PLC0415 - likewise

    scores = scores_in(value, name)
    if scores is not None:
        return {"scores": [*scores]}
    if isinstance(value, dict):
        raise NotAResultError(NO_SCORES)
    if isinstance(value, (list, tuple)):
        return {"scores": _scores(value, name)}
    return {"scores": [{"name": name, "value": _number(value), "reason": None}]}


def _listed(scores: object, name: str) -> list[Json]:
    """The ``scores`` of a dict: scores, or dicts with a name; one without a value is a metric that failed."""
    if not isinstance(scores, (list, tuple)):
        raise NotAResultError(f"a dict whose 'scores' is {described(scores)}, not a list")
    found: list[Json] = []
    for index, score in enumerate(scores):
        path = f"scores[{index}]"
        if isinstance(score, dict) and isinstance(score.get("name"), str) and "score" not in score:
            found.append(plain(score, path))
        else:
            found += _listed_elsewhere(score, name, path)
    return found


def _listed_elsewhere(score: object, name: str, path: str) -> list[Json]:
    from .scores import of_record, scores_in  # noqa: PLC0415 - likewise

    scores = of_record(score, name) if isinstance(score, dict) else scores_in(score, name)
    if scores is None:
        raise NotAResultError(f"a dict whose {path} has no 'name' and 'value'")
    return [*scores]


def _scores(values: list[object] | tuple[object, ...], name: str) -> list[Json]:
    from .scores import scores_in  # noqa: PLC0415 - likewise

    if not values:
        raise NotAResultError(f"an empty {type(values).__name__}")
    found: list[Json] = []
    for index, value in enumerate(values):
        scores = scores_in(value, name)
        if scores is None:
            raise NotAResultError(
                f"a {type(values).__name__} whose item {index} is {described(value)}, not a score"
            )
        found += scores
    return found


def _number(value: object) -> int | float:
    number = number_in(plain(value, "", top=True))
    if number is None:
        raise NotAResultError(described(value))
    return number


# How much of a text is reported. The child sends SENT times as much as the owner keeps, because the owner hides
# secrets before it cuts. A secret that the child cut in two lies in what the owner leaves out; or, where hiding
# made the text short, beside the words LEFT_OUT, by which the owner finds it.
LONGEST_TEXT = 100_000  # characters that anybody would read
LONGEST_LINE = 1000
LONGEST_VALUE = 10_000
SENT = 2
LEFT_OUT = "characters left out"
IT_SCORES = "as the last line, it scores."  # the end of notes about what would be a score


def elide_middle(text: str, most: int = LONGEST_TEXT) -> str:
    """The text; when it is longer than ``most`` characters, without its middle."""
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} ... [{len(text) - 2 * half:,} {LEFT_OUT}] ... {text[-half:]}"
