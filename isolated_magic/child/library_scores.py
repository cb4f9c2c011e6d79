"""Scores of other libraries, each recognised by the name of its class and the library that defines it."""

from __future__ import annotations

from .plain import (
    DEEPEVAL,
    NotAResultError,
    is_measured,
    library_of,
    mro_of,
    name_of,
    number_in,
    plain,
    plain_text,
)
from .score_fields import as_json, named, score_of, with_metadata

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeAlias

    from .plain import Json
    from .score_fields import Get, Score

    Reader: TypeAlias = Callable[[Any, str], list[Score] | None]

OPIK_FIELDS = ("reason", "category_name", "metadata", "scoring_failed")
DEEPEVAL_FIELDS = frozenset(("score", "reason", "success", "threshold", "error"))
DEEPEVAL_DETAILS = ("score_breakdown", "evaluation_model", "evaluation_cost", "input_tokens", "output_tokens")
DEEPEVAL_DEFAULTS = ("Base Metric", "Base Conversational Metric", "Base Multimodal Metric")  # as names
MLFLOW_FIELDS = frozenset(("name", "rationale", "metadata"))
LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}  # inspect-ai: correct, incorrect, partial, no answer
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
NOT_COMPUTED = "NaN: it could not be computed"
NOT_SCORED = "it was not scored"


def reader_for(kind: object) -> Reader | None:
    """What reads the scores in an object of this class; None for a class that is not known."""
    for base in mro_of(kind):
        if reader := _READERS.get((library_of(base), name_of(base))):
            return reader
        if name_of(base) == "ScoreResult":  # Opik's, of whatever module
            return _of_score_result
    return None


def flat(found: Iterable[list[Score] | None]) -> list[Score] | None:
    """All scores in one list; None when one of them is no score, or when there are none."""
    scores: list[Score] = []
    for some in found:
        if some is None:
            return None
        scores += some
    return scores or None


def of_value_of_inspect(value: str, name: str) -> list[Score] | None:
    """A scorer's value by itself, such as ``CORRECT`` of inspect-ai."""
    if value not in LETTERS:
        return None
    return [{"name": name, "value": LETTERS[value], "reason": None, "category_name": value}]


def _of_score_result(score: Any, _: str) -> list[Score] | None:  # noqa: ANN401 - an object of another library
    if not hasattr(score, "name") or not hasattr(score, "value"):
        return None
    name = score.name
    if not isinstance(name, str):
        raise NotAResultError(f"a score whose name is not a string: its name is {type(name).__name__}")
    fields: Score = {"name": plain_text(name), "value": plain(score.value, "the value of the score")}
    for field in OPIK_FIELDS:
        if hasattr(score, field):
            fields[field] = plain(getattr(score, field), f"the {field} of the score")
    return [fields]


def _of_opik_tests(result: Any, name: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    of_tests = [score for test in result.test_results for score in test.score_results]
    return flat(
        _of_score_result(score, name) for score in (*of_tests, *(getattr(result, "experiment_scores", None) or ()))
    )


def _of_attributes(value: Any, name: str) -> list[Score]:  # noqa: ANN401 - likewise
    return [score_of(lambda field: getattr(value, field, None), name)]


def _of_deepeval_metric(metric: Any, _: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    if not is_measured(metric):
        return None
    own = getattr(metric, "__name__", None)
    details = {field: got for field in DEEPEVAL_DETAILS if (got := getattr(metric, field, None)) is not None}

    def get(field: str) -> object:  # what a subclass calls its name or value is something else
        return getattr(metric, field, None) if field in DEEPEVAL_FIELDS else None

    name = own if isinstance(own, str) and own not in DEEPEVAL_DEFAULTS else name_of(type(metric))
    return [with_metadata(score_of(get, name), {field: as_json(got) for field, got in details.items()})]


def _of_deepeval_test(result: Any, name: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    case: dict[str, Json] = {"test_case": plain_text(result.name)}
    scores = [score for data in result.metrics_data or () for score in _of_attributes(data, name)]
    return [with_metadata(score, case) for score in scores] or None


def _of_deepeval_tests(result: Any, name: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    return flat(_of_deepeval_test(test, name) or [] for test in result.test_results)


def _of_ragas(result: Any, name: str) -> list[Score]:  # noqa: ANN401 - likewise
    fields = {"value": result.value, "reason": getattr(result, "reason", None)}
    traces = getattr(result, "traces", None)
    score = with_metadata(score_of(fields.get, name), {"traces": as_json(traces)} if traces else {})
    return [_failed_if_nan(score, NOT_COMPUTED)]


def _of_ragas_rows(result: Any, _: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    """One score for each metric of each row: means would hide the rows that failed."""
    return flat(
        [_of_ragas_row(name, value, index)]
        for index, row in enumerate(result.scores)
        for name, value in row.items()
    )


def _of_ragas_row(name: str, value: Any, index: int) -> Score:  # noqa: ANN401 - likewise
    is_result = name_of(type(value)) == "MetricResult"
    (score,) = _of_ragas(value, name) if is_result else [score_of({"value": value}.get, name)]
    return with_metadata(_failed_if_nan(score, NOT_COMPUTED), {"row": index})


def _failed_if_nan(score: Score, otherwise: str) -> Score:
    """The score; failed where NaN stands for a value that its library could not compute."""
    value = score["value"]
    if value == value:  # noqa: PLR0124 - all but NaN
        return score
    return score | {"value": None, "reason": score.get("reason") or otherwise, "scoring_failed": True}


def _of_mlflow(feedback: Any, name: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    held = getattr(feedback, "feedback", None)
    if held is None:  # an expectation, or a reference to an issue
        return None
    own = {"value": held.value, "error": getattr(held, "error", None)}

    def get(field: str) -> object:
        return getattr(feedback, field, None) if field in MLFLOW_FIELDS else own.get(field)

    return _of_each_key(score_of(get, name), _number_of_word)


def _number_of_word(value: Json) -> Json:
    return WORDS.get(value.lower(), value) if isinstance(value, str) else value


def _of_mlflow_metrics(result: Any, _: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    return [named(name, value) for name, value in result.metrics.items()] or None


def _of_phoenix(value: Any, name: str) -> list[Score]:  # noqa: ANN401 - likewise
    more: dict[str, Json] = {"direction": "minimize"} if getattr(value, "direction", None) == "minimize" else {}
    return [with_metadata(score, more) for score in _of_attributes(value, name)]


def _of_inspect(value: Any, name: str) -> list[Score]:  # noqa: ANN401 - likewise
    return _of_inspect_score(value, name, has_name=False)


def _of_inspect_sample(sample: Any, name: str) -> list[Score]:  # noqa: ANN401 - likewise
    scorer, number = getattr(sample, "scorer", None), sample.sample_id
    scores = _of_inspect_score(sample.score, scorer or name, has_name=bool(scorer))
    return [with_metadata(score, {} if number is None else {"sample_id": as_json(number)}) for score in scores]


def _of_inspect_score(value: Any, name: str, *, has_name: bool) -> list[Score]:  # noqa: ANN401 - likewise
    why, answer = getattr(value, "reason", None), getattr(value, "answer", None)
    reason = value.explanation or (None if why is None else plain_text(why))
    fields = {"value": value.value, "reason": reason, "metadata": value.metadata}
    score = with_metadata(score_of(fields.get, name), {} if answer is None else {"answer": answer})
    return _of_each_key(_failed_if_nan(score, NOT_SCORED), _number_of_inspect, has_name=has_name)


def _number_of_inspect(value: Json) -> Json:
    """The number of a scorer's value, as ``value_to_float`` of inspect-ai has it; text that has none stays."""
    if not isinstance(value, str):
        return value
    if value in LETTERS:
        return LETTERS[value]
    try:
        return WORDS[value.lower()] if value.lower() in WORDS else float(value)
    except ValueError:
        return value


def _of_each_key(score: Score, number_of: Callable[[Json], Json], *, has_name: bool = True) -> list[Score]:
    """The score with its number; of a value that is a dict, one score for each key."""
    value = score["value"]
    if not isinstance(value, dict):
        return [score | {"value": number_of(value)}]
    start = f"{score['name']}." if has_name else ""
    return [
        score
        | {"name": f"{start}{key}", "value": number_of(item)}
        | ({"category_name": item} if isinstance(item, str) else {})
        for key, item in value.items()
    ]


def _of_langsmith_experiment(results: Any, name: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    return flat(_of_attributes(one, name) for row in results for one in row["evaluation_results"]["results"])


def _of_series(series: Any, _: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    """The scores in a Series whose index names its numbers, such as the means of a frame."""
    index = getattr(series, "index", None)
    if index is None or not len(series) or not all(isinstance(name, str) for name in index):
        return None
    pairs = list(zip(index, series.tolist(), strict=True))
    return None if any(number_in(value) is None for _, value in pairs) else [named(*pair) for pair in pairs]


def _of_frame(frame: Any, name: str) -> list[Score] | None:  # noqa: ANN401 - likewise
    """The scores in a frame: one a row, named by a column or by the index; or in its only row, one a column."""
    if not len(frame) or not all(isinstance(column, str) for column in frame.columns):
        return None
    columns = set(frame.columns)
    rows = frame.to_dicts() if hasattr(frame, "to_dicts") else frame.to_dict("records")
    labels = list(getattr(frame, "index", ()))
    is_named = bool(labels) and all(isinstance(label, str) for label in labels)
    if "score" in columns or columns >= {"name", "value"} or columns >= {"key", "value"}:
        names = labels if is_named else [name] * len(rows)
        return [score_of(_fields_of_row(row), own) for row, own in zip(rows, names, strict=True)]
    if is_named and "value" in columns:
        return [score_of(_fields_of_row({**row, "name": own}), own) for row, own in zip(rows, labels, strict=True)]
    if len(rows) == 1 and all(number_in(value) is not None for value in rows[0].values()):
        return [named(*item) for item in rows[0].items()] or None
    return None


def _fields_of_row(row: Mapping[str, Any]) -> Get:
    """Reads the fields of a row. NaN is what pandas has for text that is missing."""

    def get(field: str) -> object:
        value = row.get(field)
        is_missing = isinstance(value, float) and value != value and field not in {"score", "value"}  # noqa: PLR0124 - NaN
        return None if is_missing else value

    return get


_READERS: dict[tuple[str, str], Reader] = {
    **{("deepeval", name): _of_deepeval_metric for name in DEEPEVAL},
    ("deepeval", "MetricData"): _of_attributes,
    ("deepeval", "TestResult"): _of_deepeval_test,
    ("deepeval", "EvaluationResult"): _of_deepeval_tests,
    ("opik", "EvaluationResult"): _of_opik_tests,
    ("ragas", "MetricResult"): _of_ragas,
    ("ragas", "EvaluationResult"): _of_ragas_rows,
    **{(library, "Score"): _of_attributes for library in ("autoevals", "braintrust", "braintrust_core")},
    ("mlflow", "Assessment"): _of_mlflow,
    ("mlflow", "EvaluationResult"): _of_mlflow_metrics,
    **{("phoenix", name): _of_phoenix for name in ("Score", "EvaluationResult")},
    ("inspect_ai", "Score"): _of_inspect,
    ("inspect_ai", "SampleScore"): _of_inspect_sample,
    ("langsmith", "EvaluationResult"): _of_attributes,
    ("langsmith", "ExperimentResults"): _of_langsmith_experiment,
    **{(library, "Series"): _of_series for library in ("pandas", "polars")},
    **{(library, "DataFrame"): _of_frame for library in ("pandas", "polars")},
}
TABLES = frozenset((_of_series, _of_frame))  # readers of what may hold anything
