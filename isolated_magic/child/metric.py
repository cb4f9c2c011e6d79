"""Metrics: find those that the code means, and have them score the data.

Nothing here calls ``isinstance`` or reads an attribute of the code's objects, for lazy ones run code of their own
then: only ``type()`` and what the interpreter keeps of a type are looked at.
"""

from __future__ import annotations

from .metric_arguments import MetricCallError, ScoreArguments, call_with_dots, is_class, needed_to_make
from .plain import NotAResultError, described, has_base_named, is_measured, mro_of, name_of, names_in, plain_text
from .result import DEFAULT_SCORE_NAME, result_of

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .event_loop import EventLoop
    from .metric_arguments import DataHint
    from .plain import Json

MOST_LOOKED_AT = 1000  # items of a list


def named_by(value: object) -> list[object]:
    """The metrics that the value of the last line is or lists; empty when it is none.

    Raises:
        NotAResultError: a list of metrics and of something else.
    """
    if _is_metric(value):
        return [value]
    items = _items_of(value)
    if not any(map(_is_metric, items[:MOST_LOOKED_AT])):
        return []
    for index, item in enumerate(items):
        if not _is_metric(item):
            raise NotAResultError(
                f"a {type(value).__name__} of metrics whose item {index} is {described(item)}, not a metric"
            )
    return list(items)


def defined_in(names: dict[str, object], texts: list[str]) -> list[object]:
    """The metrics that the code defines, in the order of their classes.

    These are its concrete classes, not imported ones, that are the base of no other; instead of a class, its
    objects that a variable holds. A note says which objects were scored.
    """
    defined = _unique([value for value in names.values() if _is_ours(value)])
    bases = [base for metric in defined for base in mro_of(metric)[1:]]
    leaves = [metric for metric in defined if not _is_among(metric, bases)]
    if not leaves:
        return []
    made = [(name, value) for name, value in names.items() if _holds_one_of(value, leaves)]
    if made:
        listed = " and ".join(name for name, _ in made[-3:])
        texts.append(f"No metric is the value of the last line: {listed} was scored, as the code made it.")
    objects = _unique([item for _, value in made for item in (_items_of(value) or [value])])
    return [item for leaf in leaves for item in ([one for one in objects if type(one) is leaf] or [leaf])]


def held_by_variables(names: dict[str, object]) -> list[str]:
    """The names of variables that hold a metric."""
    return [name for name, value in names.items() if not is_class(value) and _is_metric(value)]


def _holds_one_of(value: object, kinds: list[type]) -> bool:
    items = _items_of(value)[:MOST_LOOKED_AT] or [value]
    return all(_is_among(type(item), kinds) for item in items)


def _items_of(value: Any) -> Sequence[Any]:  # noqa: ANN401 - whatever the code has
    """The value when it is a list or a tuple, else empty. By identity: a metaclass may define equality."""
    kind = type(value)
    return value if kind is list or kind is tuple else ()


def _is_among(value: object, others: list[type]) -> bool:
    """Whether it is one of them, without calling its ``__eq__``."""
    return any(other is value for other in others)


def _unique(values: list[Any]) -> list[Any]:
    found: dict[int, object] = {}
    for value in values:
        found.setdefault(id(value), value)
    return list(found.values())


def _is_metric(value: object) -> bool:
    """Whether it is an object of a metric class, or a concrete metric class."""
    if is_class(value):
        return _is_metric_class(value) and not _is_abstract(value)
    return _is_metric_class(type(value)) and not is_measured(value)


def _is_metric_class(kind: object) -> bool:
    return name_of(kind) != "BaseMetric" and has_base_named(kind, "BaseMetric")


def _is_ours(value: object) -> bool:
    """Whether it is a concrete metric class that the code itself defines."""
    if not is_class(value):
        return False
    module = names_in(value).get("__module__")
    is_ours = type(module) is str and module == "__main__"
    return is_ours and _is_metric_class(value) and not _is_abstract(value)


def _is_abstract(kind: object) -> bool:
    left = names_in(kind).get("__abstractmethods__")
    return type(left) is frozenset and bool(left)


def score_all(
    metrics: list[object],
    data: object,
    payload_type: object,
    notes: Notes,
    loop: EventLoop,
    *,
    selects: bool = False,
) -> dict[str, Json]:
    """Have the metrics score, and return all of it as ``{"scores": [...]}``.

    Args:
        metrics: objects, or classes that take no arguments; at least one.
        data: a dict becomes the keyword arguments of ``score``.
        payload_type: with ``"trace_thread"`` the data is the only argument.
        notes: collects notes.
        loop: of the run.
        selects: leave out those that do not take the data, when others do.

    Raises:
        NotAResultError: what ``score`` returned is no score.
        MetricCallError: a metric cannot be made, or not be called with the data.
        Exception: whatever a metric raises.
    """
    scoring = _Scoring(data, payload_type, notes, loop, is_one=len(metrics) == 1)
    result: dict[str, Json] = {}
    scores: list[Json] = []
    for metric in _suited(metrics, data, payload_type, notes) if selects else metrics:
        one = scoring.result_of(metric)
        scores += one.pop("scores")  # type: ignore[arg-type]  # a list, in each result
        result.update(one)
    return {"scores": scores, **result}


def _suited(metrics: list[object], data: object, payload_type: object, notes: Notes) -> list[object]:
    """Those that take the data as it is; all, when none does."""
    if len(metrics) == 1:
        return metrics
    all_arguments = [ScoreArguments.of(metric, data, payload_type, notes.hint) for metric in metrics]
    reasons = [arguments.reason for arguments in all_arguments]
    if all(reasons):
        return metrics
    notes.texts += [
        f"{arguments.name} is left out: {arguments.reason}" for arguments in all_arguments if arguments.reason
    ]
    return [metric for metric, reason in zip(metrics, reasons, strict=True) if not reason]


class Notes:
    """Notes about the metrics of a run."""

    def __init__(self, hint: DataHint) -> None:
        self.hint = hint
        self.texts: list[str] = []
        self.current: list[str] = []  # about the metric that scores now

    def begin(self, texts: list[str]) -> None:
        """Note this about the metric that scores next."""
        self.current = texts
        self.texts += [text for text in texts if text not in self.texts]


class _Scoring:
    """Scores the same data with one metric after the other."""

    def __init__(self, data: object, payload_type: object, notes: Notes, loop: EventLoop, *, is_one: bool) -> None:
        self._loop = loop
        self._data, self._payload_type, self._notes = data, payload_type, notes
        self._is_one = is_one

    def result_of(self, metric: object) -> dict[str, Json]:
        kind = metric if is_class(metric) else type(metric)
        name = name_of(kind)
        made: Any = _made(metric) if is_class(metric) else metric
        score = made.ascore if _scores_in_async_only(kind) else made.score
        arguments = ScoreArguments(name, score, self._data, self._payload_type, self._notes.hint)
        arguments.check()
        self._notes.begin(arguments.notes)
        value = self._loop.settle(arguments.call(score))
        otherwise = DEFAULT_SCORE_NAME if self._is_one else name
        try:
            found = result_of(value, plain_text(getattr(made, "name", None) or otherwise))
        except NotAResultError as problem:
            raise NotAResultError(f"{name}.score() returned {problem}") from None
        self._notes.current = []
        return found


def _made(kind: Any) -> object:  # noqa: ANN401 - a class
    try:
        return kind()
    except TypeError:
        needed = needed_to_make(kind)
        if not needed:
            raise
    name = name_of(kind)
    raise MetricCallError(
        f"TypeError: {name} cannot be made without arguments: it needs {', '.join(needed)}.",
        f"End the code with the metric that is to score: {call_with_dots(name, needed)}",
    )


def _scores_in_async_only(kind: object) -> bool:
    """Whether the class overrides ``ascore`` but not ``score``, which in ``BaseMetric`` only raises."""

    def is_own(name: str) -> bool:
        home = next((base for base in mro_of(kind) if name in names_in(base)), object)
        return name_of(home) not in {"BaseMetric", "object"}

    return is_own("ascore") and not is_own("score")
