"""Which variables of a notebook look like datasets, and what fields their rows have. Nothing of them is read."""

from __future__ import annotations

from collections.abc import Mapping
from types import GeneratorType

FRAMES = ("DataFrame", "LazyFrame", "Table", "Dataset", "IterableDataset")
LIBRARIES = ("pandas", "polars", "pyarrow", "datasets")


def are_rows(value: object) -> bool:
    """Whether a value looks like a dataset: a list of dicts, or a data frame."""
    if isinstance(value, (list, tuple)):
        return len(value) > 0 and isinstance(value[0], Mapping)
    kind = type(value)
    return kind.__name__ in FRAMES and str(kind.__module__).partition(".")[0] in LIBRARIES


def can_be_rows(value: object) -> bool:
    """Whether a value can be given to --each, as far as its type tells: columns and generators, too."""
    if isinstance(value, dict):
        return len(value) > 0 and all(isinstance(column, (list, tuple)) for column in value.values())
    return isinstance(value, (list, tuple, GeneratorType)) or are_rows(value)


def field_names(value: object) -> list[str]:
    """The names of the fields of its rows, as far as they are known without reading it."""
    if isinstance(value, (list, tuple)):
        names = value[0] if value and isinstance(value[0], Mapping) else ()
    elif isinstance(value, dict):
        names = value if can_be_rows(value) else ()
    else:
        found = (
            getattr(value, "column_names", None) if are_rows(value) else ()
        )  # a frame's is cheap, unlike a LazyFrame's
        names = found if found is not None else getattr(value, "columns", ())
    return [name for name in names if isinstance(name, str)]
