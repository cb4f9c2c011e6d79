"""Values as JSON can hold them, and what is known of a type without asking its objects."""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import TypeAlias

    Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
    Path: TypeAlias = "str | tuple[Path, object]"  # the start, or a path and the key or index that follows


DEEPEVAL = ("BaseMetric", "BaseConversationalMetric", "BaseMultimodalMetric")  # what its metrics inherit from


class NotAResultError(Exception):
    """The value is no result; the text says what it is instead."""


# Read from the type itself: its metaclass may answer otherwise.
mro_of: Callable[[object], tuple[type, ...]] = type.__dict__["__mro__"].__get__
name_of: Callable[[object], str] = type.__dict__["__name__"].__get__
names_in: Callable[[object], Mapping[str, object]] = type.__dict__["__dict__"].__get__


_NO_NUMBERS = frozenset((str, bytes, list, dict, tuple, set))


def library_of(kind: object) -> str:
    """The first part of the name of the module that defines a class; empty if that is unknown."""
    module = names_in(kind).get("__module__")
    return module.partition(".")[0] if type(module) is str else ""


def is_measured(value: object) -> bool:
    """Whether it is a metric of deepeval that has measured: it keeps its score in itself."""
    if not any(library_of(base) == "deepeval" and name_of(base) in DEEPEVAL for base in mro_of(type(value))):
        return False
    return getattr(value, "score", None) is not None or isinstance(getattr(value, "error", None), str)


def has_class(value: object) -> bool:
    """False for a lazy proxy that cannot be resolved: ``isinstance`` would raise what its ``__class__`` raises."""
    try:
        return value.__class__ is not None
    except Exception:  # noqa: BLE001 - whatever it likes
        return False


def number_in(value: object) -> int | float | None:
    """The number that a value is, in Python's own type; None for anything else."""
    kind = type(value)
    if kind is float or kind is int:
        return value  # type: ignore[return-value]  # it is one
    if value is None or kind in _NO_NUMBERS or not has_class(value):
        return None
    if isinstance(value, (bool, int, float)):
        return float(value) if isinstance(value, (bool, float)) else int(value)
    try:
        scalar = value if getattr(value, "ndim", 0) else _scalar_in(value)
    except Exception:  # noqa: BLE001 - whatever an object of another library raises
        return None
    if isinstance(scalar, bool):  # numpy's
        return float(scalar)
    return scalar if isinstance(scalar, (int, float)) else None


def plain(value: object, path: Path, *, top: bool = False) -> Json:
    """The value as JSON can hold it; scalars of other libraries are converted by their own methods."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, dict):
        return plain_dict(value, path)
    if isinstance(value, (list, tuple)):
        return [plain(item, (path, index)) for index, item in enumerate(value)]
    converted = _converted(value)
    if converted is value:
        raise NotAResultError(described(value) if top else f"{_shown(path)}: {described(value)}")
    return plain(converted, path, top=top)


def plain_dict(value: dict[object, object], path: Path, taken: Collection[str] = ()) -> dict[str, Json]:
    """The dict with its keys as text, none of which may be among those taken."""
    texts = {plain_text(key): plain(item, (path, key)) for key, item in value.items()}
    if len(texts) < len(value) or not texts.keys().isdisjoint(taken):
        where = _shown(path)
        raise NotAResultError(f"{where and where + ': '}a dict in which two keys become the same text")
    return texts


def _shown(path: Path) -> str:
    keys: list[str] = []
    while isinstance(path, tuple):
        path, key = path
        keys.append(f"[{key!r}]")
    return path + "".join(reversed(keys))


def plain_text(value: object) -> str:
    """The text of a value as JSON has it: of an enum that is a str its value, not its name."""
    return str.__str__(value) if isinstance(value, str) else str(value)


def _scalar_in(value: object) -> object:
    """What a value of another library holds, or a number as a float; else the value itself."""
    if hasattr(value, "dtype") and hasattr(value, "tolist"):  # numpy, pandas, torch
        held: object = value.tolist()
        if type(held) is not type(value):  # a longdouble stays what it is
            return held
    numbers = sys.modules.get("numbers")  # loaded by whoever defines a number type of its own
    if numbers is not None and isinstance(value, numbers.Real):
        return float(value)
    if type(value).__module__ == "decimal":
        return float(value)  # type: ignore[arg-type]  # a Decimal
    return value


def _converted(value: object) -> object:
    scalar = _scalar_in(value)
    if scalar is not value:
        return scalar
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    if hasattr(value, "model_dump"):  # pydantic
        return value.model_dump()
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return value.value
    return value


def described(value: object) -> str:
    """The type of a value, with an article."""
    if value is None:
        return "None"
    name = type(value).__qualname__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"
