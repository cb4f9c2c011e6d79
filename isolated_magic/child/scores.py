"""Scores as other libraries and plain Python have them, recognised by class names and by shape.

No library is imported: a class is known by its name and the library that defines it, and anything else by its
fields. All of them become scores of our own JSON.
"""

from __future__ import annotations

import sys

from .library_scores import TABLES, flat, of_value_of_inspect, reader_for
from .plain import has_class, mro_of, names_in, number_in, plain_text
from .score_fields import FIELDS, NAMES, VALUES, named, score_of

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from .score_fields import Score

_NAMES_AND_VALUES = frozenset((*NAMES, *VALUES))
# Where a dataclass, a pydantic model, an attrs class and a named tuple list their fields.
_TABLES_OF_FIELDS = ("__dataclass_fields__", "__pydantic_fields__", "model_fields", "__attrs_attrs__", "_fields")


def scores_in(value: object, name: str) -> list[Score] | None:
    """The scores that a value is, which is no list; None for no score.

    Args:
        value: of any type.
        name: given to a score that has none of its own.

    Raises:
        NotAResultError: it is a score with a field that is not JSON.
    """
    if not has_class(value):
        return None
    kind = type(value)
    if reader := reader_for(kind):
        return reader(value, name)
    if isinstance(value, dict):
        return _of_dict(value, name)
    if kind is tuple:
        return _of_tuple(value, name)  # type: ignore[arg-type]  # it is one
    if kind is str:
        return of_value_of_inspect(str(value), name) if "inspect_ai" in sys.modules else None
    return _of_fields(value, name)


def is_certain(value: object) -> bool:
    """Whether a value that is a result can hardly be anything else, as a number or a dict of numbers can."""
    if isinstance(value, dict):
        return any(item is not None and number_in(item) is None for item in value.values())
    if type(value) is tuple:
        return not any(number_in(item) is not None for item in value)
    if isinstance(value, list):
        return any(map(is_certain, value))
    kind = type(value)
    if reader := reader_for(kind):
        return reader not in TABLES
    return kind is not str and number_in(value) is None and _of_fields(value, "") is not None


def _of_dict(values: dict[Any, Any], name: str) -> list[Score] | None:
    if not values or not all(isinstance(key, str) for key in values):
        return None
    results = values.get("results")
    if len(values) == 1 and isinstance(results, (list, tuple)):  # LangSmith's
        return flat(scores_in(item, name) for item in results)
    return of_record(values, name) or _by_name(values)


def of_record(values: Mapping[Any, Any], name: str) -> list[Score] | None:
    """The score of a dict with the fields of one score and no others, as its library writes it."""
    if not FIELDS.issuperset(values):
        return None
    own = next((values[field] for field in NAMES if field in values), None)
    is_named = isinstance(own, str) and any(field in values for field in VALUES)
    is_scored = own is None and "score" in values and _is_value(values["score"])
    if not (is_named or (is_scored and number_in(values.get("value")) is None)):
        return None
    return [score_of(values.get, name)]


def _by_name(values: dict[str, Any]) -> list[Score] | None:
    """``{name: number}`` and ``{name: score}``: the key is the name, whatever the score's own is."""
    found: list[Score] = []
    for key, item in values.items():
        name = plain_text(key)
        if _is_value(item):
            found.append(named(name, item))
            continue
        scores = of_record(item, name) if isinstance(item, dict) else scores_in(item, name)
        if scores is None:
            return None
        for score in scores:
            score["name"] = name if len(scores) == 1 else f"{name}.{score['name']}"
        found += scores
    return found if any(item is not None for item in values.values()) else None


def _is_value(value: object) -> bool:
    """Whether it is a number, or the None of a score without one."""
    return value is None or number_in(value) is not None


def _of_tuple(values: tuple[Any, ...], name: str) -> list[Score] | None:
    """The score of ``(number, reason)``, ``(name, number)`` or ``(name, number, comment)``."""
    if len(values) not in {2, 3}:
        return None
    first, second, *rest = values
    if not rest and (second is None or isinstance(second, str)) and number_in(first) is not None:
        return [named(name, first, second)]
    comment = rest[0] if rest else None
    if isinstance(first, str) and number_in(second) is not None and (comment is None or isinstance(comment, str)):
        return [named(first, second, comment)]
    return None


def _of_fields(value: Any, name: str) -> list[Score] | None:  # noqa: ANN401 - whatever the code has
    """The score that an object with ``name`` and ``value`` or ``score`` is, or a record with ``score``."""
    kind = type(value)
    table = _table_of_fields(kind)
    known = _own_fields(value) if table is None else table
    if _NAMES_AND_VALUES.isdisjoint(known):
        return None
    fields = {field for field in FIELDS if field in known or _is_property(kind, field)}

    def get(field: str) -> object:
        return getattr(value, field, None) if field in fields else None

    own = next((get(field) for field in NAMES if field in fields), None)
    held = [get(field) for field in VALUES if field in fields]
    is_named = isinstance(own, str) or (own is None and "score" in fields)
    if not held or not is_named or any(map(callable, held)):
        return None
    if table is None and all(number_in(one) is None for one in held):
        return None
    return [score_of(get, name)]


def _table_of_fields(kind: type) -> list[str] | None:
    """The names of the fields of a class that lists them; None for any other class."""
    for base in mro_of(kind):
        for table in _TABLES_OF_FIELDS:
            listed: Any = names_in(base).get(table)
            if isinstance(listed, (dict, tuple)):
                return [str(getattr(field, "name", field)) for field in listed]
    return None


def _own_fields(value: object) -> Iterable[str]:
    try:
        own = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return ()
    return own if type(own) is dict else ()


def _is_property(kind: type, name: str) -> bool:
    return any(type(names_in(base).get(name)) is property for base in mro_of(kind))
