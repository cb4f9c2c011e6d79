"""Metrics: which of them the code means, what their ``score`` takes of the data, and what comes of it.

Nothing here asks an object of the code's what it is: a lazy one runs code of its own when ``isinstance`` or an
attribute touches it. The type of a value, and what the interpreter keeps of a type, are asked for alone.
"""

from __future__ import annotations

from . import modules
from .metric_arguments import Fitting, UnfitError
from .result import (
    DEFAULT_SCORE_NAME,
    NotAResultError,
    described,
    has_base_named,
    mro_of,
    name_of,
    result_of,
    text_of,
)

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Awaitable, Sequence
    from typing import Any

    from .metric_arguments import DataHint
    from .result import Json

MOST_LOOKED_AT = 1000  # items of a list
_names_of_class = type.__dict__["__dict__"].__get__


def named_by(value: object) -> list[object]:
    """The metrics that a value names: it is one, or a list of them; empty when it is none.

    Args:
        value: of the last line.

    Raises:
        NotAResultError: a list in which something else stands among them.
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


def defined_in(names: dict[str, object], notes: list[str]) -> list[object]:
    """The metrics that the code defines, in the order of their classes; empty for none.

    They are its concrete classes which are the base of no other, and in the place of a class the objects of it
    that a variable holds.

    Args:
        names: of ``__main__``. A class that was only imported is passed over.
        notes: gets a word about such objects.
    """
    defined = _unique([value for value in names.values() if _is_ours(value)])
    bases = [base for metric in defined for base in mro_of(metric)[1:]]
    leaves = [metric for metric in defined if not _is_among(metric, bases)]
    if not leaves:
        return []
    made = [(name, value) for name, value in names.items() if _holds_one_of(value, leaves)]
    if made:
        told = " and ".join(name for name, _ in made[-3:])
        notes.append(f"No metric is the value of the last line: {told} was scored, as the code made it.")
    objects = _unique([item for _, value in made for item in (_items_of(value) or [value])])
    return [item for leaf in leaves for item in ([one for one in objects if type(one) is leaf] or [leaf])]


def held_by_variables(names: dict[str, object]) -> list[str]:
    """The names of variables that hold a metric.

    Args:
        names: of ``__main__``.
    """
    return [name for name, value in names.items() if not _is_class(value) and _is_metric(value)]


def _holds_one_of(value: object, kinds: list[type]) -> bool:
    items = _items_of(value)[:MOST_LOOKED_AT] or [value]
    return all(_is_among(type(item), kinds) for item in items)


def _items_of(value: Any) -> Sequence[Any]:  # noqa: ANN401 - whatever the code has
    """The value when it is a list or a tuple, else nothing. By identity: a metaclass may say what equals it."""
    kind = type(value)
    return value if kind is list or kind is tuple else ()


def _is_among(value: object, others: list[type]) -> bool:
    """Whether it is one of them, without asking it."""
    return any(other is value for other in others)


def _unique(values: list[Any]) -> list[Any]:
    found: dict[int, object] = {}
    for value in values:
        found.setdefault(id(value), value)
    return list(found.values())


def _is_class(value: object) -> bool:
    kind = type(value)
    return kind is type or any(base is type for base in mro_of(kind))


def _is_metric(value: object) -> bool:
    """Whether it is a metric: an object of such a class, or the class."""
    if _is_class(value):
        return _is_metric_class(value) and not _is_abstract(value)
    return _is_metric_class(type(value))


def _is_metric_class(kind: object) -> bool:
    return name_of(kind) != "BaseMetric" and has_base_named(kind, "BaseMetric")


def _is_ours(value: object) -> bool:
    """Whether it is a concrete metric class that the code defines."""
    if not _is_class(value):
        return False
    module = _names_of_class(value).get("__module__")
    is_ours = type(module) is str and module == "__main__"
    return is_ours and _is_metric_class(value) and not _is_abstract(value)


def _is_abstract(kind: object) -> bool:
    left = _names_of_class(kind).get("__abstractmethods__")
    return type(left) is frozenset and bool(left)


def score_all(
    metrics: list[object], data: object, payload_type: object, told: Told, *, selects: bool = False
) -> dict[str, Json]:
    """Have the metrics score, and return all of it as ``{"scores": [...]}``.

    Args:
        metrics: objects, or classes to be made without arguments; one at least.
        data: a dict becomes the keyword arguments of ``score``.
        payload_type: with ``"trace_thread"`` the data is the only argument.
        told: gets what is to be said of it.
        selects: whether those are left out that do not take the data, when others do.

    Raises:
        NotAResultError: what ``score`` returned is no score.
        UnfitError: a metric cannot be made, or not be called with the data.
        Exception: whatever a metric raises.
    """
    scoring = _Scoring(data, payload_type, told, is_one=len(metrics) == 1)
    result: dict[str, Json] = {}
    scores: list[Json] = []
    for metric in _those_that_fit(metrics, data, payload_type, told) if selects else metrics:
        one = scoring.result_of(metric)
        scores += one.pop("scores")  # type: ignore[arg-type]  # a list, in each result
        result.update(one)
    return {"scores": scores, **result}


def _those_that_fit(metrics: list[object], data: object, payload_type: object, told: Told) -> list[object]:
    """Those that take the data as it is; all, when none does."""
    if len(metrics) == 1:
        return metrics
    fittings = [Fitting.of(metric, data, payload_type, told.hint) for metric in metrics]
    reasons = [fitting.reason for fitting in fittings]
    if all(reasons):
        return metrics
    told.notes += [f"{fitting.name} is left out: {fitting.reason}" for fitting in fittings if fitting.reason]
    return [metric for metric, reason in zip(metrics, reasons, strict=True) if not reason]


class Told:
    """What there is to say of a run's metrics.

    Args:
        hint: how to hand the data over in another way.
    """

    def __init__(self, hint: DataHint) -> None:
        self.hint = hint
        self.notes: list[str] = []
        self.current: list[str] = []  # about the metric that is at work

    def begin(self, notes: list[str]) -> None:
        """A metric begins to score."""
        self.current = notes
        self.notes += [note for note in notes if note not in self.notes]


class _Scoring:
    """Has one metric after the other score the same data."""

    def __init__(self, data: object, payload_type: object, told: Told, *, is_one: bool) -> None:
        self._data, self._payload_type, self._told = data, payload_type, told
        self._is_one = is_one

    def result_of(self, metric: object) -> dict[str, Json]:
        kind = metric if _is_class(metric) else type(metric)
        name = name_of(kind)
        made: Any = _made(metric) if _is_class(metric) else metric
        score = made.ascore if _scores_in_async_only(kind) else made.score
        fitting = Fitting(name, score, self._data, self._payload_type, self._told.hint)
        fitting.check()
        self._told.begin(fitting.notes)
        value = fitting.call(score)
        if hasattr(value, "__await__"):
            with modules.StandardImports():
                import asyncio  # noqa: PLC0415 - 79 ms that only an async metric has to pay

            value = asyncio.run(_awaited(value))
        otherwise = DEFAULT_SCORE_NAME if self._is_one else name
        try:
            found = result_of(value, text_of(getattr(made, "name", None) or otherwise))
        except NotAResultError as problem:
            raise NotAResultError(f"{name}.score() returned {problem}") from None
        self._told.current = []
        return found


def _made(kind: Any) -> object:  # noqa: ANN401 - a class
    try:
        return kind()
    except TypeError:
        needed = Fitting.needed_to_make(kind)
        if not needed:
            raise
    name = name_of(kind)
    arguments = ", ".join(f"{parameter}=..." for parameter in needed)
    raise UnfitError(
        f"TypeError: {name} cannot be made without arguments: it needs {', '.join(needed)}.",
        f"End the code with the metric that is to score: {name}({arguments})",
    )


def _scores_in_async_only(kind: object) -> bool:
    """Whether ``score`` is still the one of ``BaseMetric``, which only raises, while ``ascore`` is not."""

    def is_own(name: str) -> bool:
        home = next((base for base in mro_of(kind) if name in _names_of_class(base)), object)
        return name_of(home) not in {"BaseMetric", "object"}

    return is_own("ascore") and not is_own("score")


async def _awaited(value: Awaitable[object]) -> object:
    return await value
