"""Metrics: find those that the code means, and have them score the data.

As in :mod:`metric_kinds`, only the types of the code's objects are looked at until one of them is to score.
"""

from __future__ import annotations

import sys

from .metric_arguments import MetricCallError, ScoreArguments, call_with_dots, is_class, needed_to_make
from .metric_kinds import (
    OPIK,
    OPIK_BASES,
    has_method,
    is_abstract,
    is_decorated,
    is_function,
    is_named,
    is_of_main,
    library_of_class,
    library_of_metric,
    method_of,
)
from .plain import NotAResultError, described, mro_of, name_of, names_in, plain_text
from .result import DEFAULT_SCORE_NAME, IT_SCORES, result_of

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .callables import Prepared
    from .event_loop import EventLoop
    from .metric_arguments import Inputs
    from .plain import Json

MOST_LOOKED_AT = 1000  # items of a list
LOADER = "__loader__"  # the only one of the names of each ``__main__`` whose value has no such type
# Types of what most names of a run stand for; by identity, for a metaclass may define hash and equality.
_NEVER_METRICS = frozenset(map(id, (str, bytes, int, float, bool, type(None), dict, list, tuple, set, type(sys))))


class Named:
    """Metrics that the code means, and what it calls them.

    Args:
        metrics: objects, classes and functions.
        labels: of scores that have no name of their own, one for each metric; empty for its own name.
    """

    def __init__(self, metrics: Sequence[object], labels: Sequence[str] = ()) -> None:
        self.metrics = list(metrics)
        self.labels = list(labels) or [""] * len(self.metrics)
        self.is_kept = False  # for further data: an object of a class is made once, and then stands in its place

    def made(self, index: int) -> object:
        """The metric that scores, for a class an object of it.

        Raises:
            MetricCallError: the class needs arguments.
            Exception: whatever the class raises.
        """
        metric = self.metrics[index]
        if not is_class(metric):
            return metric
        made = _made(metric)
        if self.is_kept:
            self.metrics[index] = made
        return made


def named_by(value: object, names: Mapping[str, object]) -> Named | None:
    """The metrics that the value of the last line is, or holds in a list or a dict; None when it is none.

    Objects of plain classes are none here: they may be results. See :func:`scoring_by_method`.

    Raises:
        NotAResultError: metrics and something else.
    """
    if is_named(value):
        return Named([value], [_variable_of(value, names)])
    items = _items_of(value)
    if not any(map(is_named, items[:MOST_LOOKED_AT])):
        return None
    for index, item in enumerate(items):
        if not (is_named(item) or has_method(item)):
            where = f"item {index}" if type(value) is not dict else f"value {list(value)[index]!r}"
            raise NotAResultError(
                f"a {type(value).__name__} of metrics whose {where} is {described(item)}, not a metric"
            )
    if type(value) is dict:
        return Named(items, [plain_text(key) for key in value])
    return Named(items, [_variable_of(item, names) for item in items])


def _possible(names: Mapping[str, object]) -> dict[str, object]:
    """The variables of the code that are of another type than most."""
    return {
        name: value for name, value in names.items() if id(type(value)) not in _NEVER_METRICS and name != LOADER
    }


def scoring_by_method(value: object, inputs: Inputs) -> Named | None:
    """The metrics that a value that is no result is or holds, by the methods of its class.

    A method of a library's has to fit the data, for its objects are there for other purposes.
    """
    items = _items_of(value)
    if items:
        is_all = all(_scores_by_method(item, inputs) for item in items[:MOST_LOOKED_AT])
        return Named(items, [plain_text(key) for key in value] if type(value) is dict else ()) if is_all else None
    return Named([value]) if _scores_by_method(value, inputs) else None


def _scores_by_method(value: object, inputs: Inputs) -> bool:
    method = method_of(type(value)) if value is not None and not is_class(value) else None
    if method is None:
        return False
    name, is_own = method
    if is_own:
        return True
    from .callables import takes_keys  # noqa: PLC0415 - only such a value has to pay for it

    return takes_keys(getattr(value, name), inputs)


def defined_in(names: dict[str, object], texts: list[str]) -> list[object]:
    """The metrics that the code defines, in the order of their classes.

    These are its concrete classes, not imported ones, that are the base of no other; instead of a class, its
    objects that a variable holds; and functions that a library's decorator made metrics. A note says which objects
    were scored.
    """
    values = list(_possible(names).values())
    if not values:  # as in most runs that print their result
        return []
    defined = _unique([value for value in values if _is_ours(value)])
    functions = _unique([value for value in values if is_decorated(value)])
    bases = [base for metric in defined for base in mro_of(metric)[1:]]
    leaves = [metric for metric in defined if not _is_among(metric, bases)]
    if "langsmith" in sys.modules:
        functions += _unique([value for value in values if _is_evaluator(value)])
    if not leaves:
        return functions
    made = [(name, value) for name, value in names.items() if _holds_one_of(value, leaves)]
    if made:
        listed = " and ".join(name for name, _ in made[-3:])
        texts.append(f"No metric is the value of the last line: {listed} was scored, as the code made it.")
    objects = _unique([item for _, value in made for item in (_items_of(value) or [value])])
    found = [item for leaf in leaves for item in ([one for one in objects if type(one) is leaf] or [leaf])]
    return found + functions


def ways_to_score(names: dict[str, object], inputs: Inputs) -> list[str]:
    """Notes for code that has no result: what of it would score on the last line."""
    may_score = _possible(names)
    if not may_score:
        return []
    held = [name for name, value in may_score.items() if not is_class(value) and library_of_metric(value)]
    if held:
        return [f"{name} is a metric: {IT_SCORES}" for name in held]
    name = _most_likely_meant(may_score, inputs)
    return [f"{name} was only defined: {IT_SCORES}"] if name else []


def _most_likely_meant(names: dict[str, object], inputs: Inputs) -> str:
    """The function or class of the code that most likely is to score, by its name; empty when there is none."""
    candidates = [name for name, value in names.items() if not name.startswith("_") and _may_be_meant(value)]
    if not candidates:
        return ""
    from .callables import takes_data  # noqa: PLC0415 - only code without a result has to pay for it

    return next((name for name in reversed(candidates) if takes_data(names[name], inputs)), candidates[-1])


def _may_be_meant(value: object) -> bool:
    if is_class(value):
        return is_of_main(value) and has_method(value)
    return name_of(type(value)) == "function" and getattr(value, "__module__", None) == "__main__"


def _variable_of(value: object, names: Mapping[str, object]) -> str:
    """What the code calls a function that has no good name of its own."""
    if name_of(type(value)) not in {"partial", "function"} or getattr(value, "__name__", "<lambda>") != "<lambda>":
        return ""
    return next((name for name, other in names.items() if other is value and not name.startswith("_")), "")


def _holds_one_of(value: object, kinds: list[type]) -> bool:
    items = _items_of(value)[:MOST_LOOKED_AT] or [value]
    return all(_is_among(type(item), kinds) for item in items)


def _items_of(value: Any) -> Sequence[Any]:  # noqa: ANN401 - whatever the code has
    """The items of a list, a tuple or a dict, else none. By identity: a metaclass may define equality."""
    kind = type(value)
    if kind is dict:
        return list(value.values())
    return value if kind is list or kind is tuple else ()


def _is_among(value: object, others: list[type]) -> bool:
    """Whether it is one of them, without calling its ``__eq__``."""
    return any(other is value for other in others)


def _unique(values: list[Any]) -> list[Any]:
    found: dict[int, object] = {}
    for value in values:
        found.setdefault(id(value), value)
    return list(found.values())


def _is_ours(value: object) -> bool:
    """Whether it is a concrete metric class that the code itself defines."""
    return is_class(value) and is_of_main(value) and bool(library_of_class(value)) and not is_abstract(value)


def _is_evaluator(value: object) -> bool:
    """Whether it is a function of the code that can only be an evaluator of LangSmith."""
    if name_of(type(value)) != "function" or getattr(value, "__module__", None) != "__main__":
        return False
    from .callables import is_for_langsmith  # noqa: PLC0415 - only code that uses LangSmith has to pay for it

    return is_for_langsmith(value)


def score_all(
    named: Named, inputs: Inputs, notes: Notes, loop: EventLoop, *, selects: bool = False
) -> dict[str, Json]:
    """Have the metrics score, and return all of it as ``{"scores": [...]}``.

    Args:
        named: the metrics, at least one; classes among them take no arguments.
        inputs: of the run.
        notes: collects notes.
        loop: of the run.
        selects: leave out those that do not take the data, when others do.

    Raises:
        NotAResultError: what ``score`` returned is no score.
        MetricCallError: a metric cannot be made, or not be called with the data.
        Exception: whatever a metric raises.
    """
    scoring = _Scoring(inputs, notes, loop, is_one=len(named.metrics) == 1)
    result: dict[str, Json] = {}
    scores: list[Json] = []
    for index in scoring.suited(named) if selects else range(len(named.metrics)):
        one = scoring.result_of(named, index)
        scores += one.pop("scores")  # type: ignore[arg-type]  # a list, in each result
        result.update(one)
    return {"scores": scores, **result}


class Notes:
    """Notes about the metrics of a run."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.current: list[str] = []  # about the metric that scores now

    def begin(self, texts: list[str]) -> None:
        """Note this about the metric that scores next."""
        self.current = texts
        self.texts += [text for text in texts if text not in self.texts]


class _Scoring:
    """Scores the same data with one metric after the other."""

    def __init__(self, inputs: Inputs, notes: Notes, loop: EventLoop, *, is_one: bool) -> None:
        self._inputs, self._notes, self._loop, self._is_one = inputs, notes, loop, is_one

    def suited(self, named: Named) -> Sequence[int]:
        """The positions of those that take the data as it is; of all, when none does."""
        every = range(len(named.metrics))
        if len(every) == 1:
            return every
        reasons = [self._reason(named, index) for index in every]
        if all(reason for _, reason in reasons):
            return every
        self._notes.texts += [f"{name} is left out: {reason}" for name, reason in reasons if reason]
        return [index for index in every if not reasons[index][1]]

    def _reason(self, named: Named, index: int) -> tuple[str, str]:
        """The name of a metric, and why it does not take the data as it is; empty when it does."""
        metric = named.metrics[index]
        if library_of_metric(metric) == OPIK:
            arguments = ScoreArguments.of(metric, self._inputs.data, self._inputs.payload_type, self._inputs.hint)
            return arguments.name, arguments.reason
        name = name_of(metric if is_class(metric) else type(metric))
        try:
            self._prepared(named, index)
        except MetricCallError as problem:
            return name, f"{problem.text.removeprefix('TypeError: ')} {problem.hint}"
        return name, ""

    def result_of(self, named: Named, index: int) -> dict[str, Json]:
        """What one of the metrics scores."""
        label = named.labels[index]
        prepared = self._prepared(named, index)
        self._notes.begin(prepared.notes)
        value = prepared.finish(self._loop.settle(prepared.call()))
        try:
            found = result_of(value, plain_text(label or prepared.label or DEFAULT_SCORE_NAME))
        except NotAResultError as problem:
            raise NotAResultError(f"{prepared.name} returned {problem}") from None
        self._notes.current = []
        return found

    def _prepared(self, named: Named, index: int) -> Prepared:
        from . import callables  # noqa: PLC0415 - only a metric has to pay for it

        label = named.labels[index]
        library = library_of_metric(named.metrics[index])
        made: Any = named.made(index)
        if library == OPIK:
            return self._prepared_for_opik(made)
        if library:
            from . import scorers  # noqa: PLC0415 - likewise

            return scorers.prepare(library, made, self._inputs)
        if is_function(made) and callables.evaluates_run(made):
            from . import scorers  # noqa: PLC0415 - likewise

            return scorers.prepare_evaluator(made, label or callables.name_of_function(made), self._inputs)
        return callables.prepare(made, label, self._inputs)

    def _prepared_for_opik(self, made: Any) -> Prepared:  # noqa: ANN401 - a metric
        from .callables import Prepared  # noqa: PLC0415 - only a metric has to pay for it

        kind = type(made)
        name = name_of(kind)
        score = made.ascore if _scores_in_async_only(kind) else made.score
        arguments = ScoreArguments(name, score, self._inputs.data, self._inputs.payload_type, self._inputs.hint)
        arguments.check()
        otherwise = DEFAULT_SCORE_NAME if self._is_one else name
        label = getattr(made, "name", None) or otherwise
        return Prepared(f"{name}.score()", label, lambda: arguments.call(score), arguments.notes)


def _made(kind: Any) -> object:  # noqa: ANN401 - a class
    try:
        return kind()
    except Exception:
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
        return name_of(home) not in {*OPIK_BASES, "object"}

    return is_own("ascore") and not is_own("score")
