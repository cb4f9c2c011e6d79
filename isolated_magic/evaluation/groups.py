"""The rows of an evaluation in groups: by a column of theirs, or a function."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from isolated_magic.child.error_report import text_of
from isolated_magic.data_frame import to_data_frame
from isolated_magic.errors import InvalidRequestError, NoSuchRowError
from isolated_magic.evaluation.columns import plain
from isolated_magic.evaluation.evaluated import Evaluated
from isolated_magic.evaluation.table import fields_of

if TYPE_CHECKING:
    from typing import TypeAlias

    import pandas
    from matplotlib.figure import Figure

    from isolated_magic.evaluation.row_result import RowResult

    By: TypeAlias = str | Callable[[object], object]

R = TypeVar("R", bound=Evaluated)

NO_GROUP = "(none)"  # of rows without a value
MOST_NAMED = 10
MOST_BITS = 1000  # of a whole number that is shown
_FIELDS_OF_RESULT = ("cluster", "repetition", "key")
_DIGITS = re.compile(r"(\d+)")


class Groups(Mapping[object, R], Generic[R]):
    """Evaluations by the name of their group: numbers in their order, text as people sort it, ``(none)`` last.

    Args:
        by: what the rows are grouped by: the name of a column, or of a function.
        groups: the evaluation of each group.
        whole: the evaluation of all of them.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> south = [{"tenant": "south", "answer": "no"}, {"tenant": "south"}]
        >>> rows = [{"tenant": "north", "answer": "yes"}, *south]
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.evaluate("{'length': len(data['answer'])}", rows)

        >>> groups = result.by("tenant")
        >>> [(name, group.summary["rows"]) for name, group in groups.items()]
        [('north', 1), ('south', 2)]
    """

    def __init__(self, by: str, groups: Mapping[object, R], whole: R) -> None:
        self.by = by
        self._groups = dict(groups)
        self._whole = whole

    def __getitem__(self, name: object) -> R:
        """The evaluation of one group.

        Args:
            name: what its rows have in common, as it is or as text.

        Raises:
            NoSuchRowError: there is no such group.
        """
        for found in self._groups:
            if found == name or str(found) == name:
                return self._groups[found]
        raise NoSuchRowError(f"There is no group {name!r} by {self.by}: {_listed([*self._groups])}.")

    def __contains__(self, name: object) -> bool:
        return any(found == name or str(found) == name for found in self._groups)

    def __iter__(self) -> Iterator[object]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        """A short text, the same in every run."""
        told = [f"{name}: {group!r}" for name, group in [*self._groups.items()][:MOST_NAMED]]
        told += [f"and {len(self) - MOST_NAMED:,} more"] * (len(self) > MOST_NAMED)
        return f"Groups(by {self.by}; {'; '.join(told)})"

    def plot(self) -> Figure:
        """A figure of matplotlib: the distribution of each metric in each group, its mean and the interval.

        Returns:
            The figure, which is not shown: a notebook shows it as the value of a cell.

        Raises:
            InvalidRequestError: no row has a score.
            MissingLibraryError: matplotlib is not installed.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> south = [{"tenant": "south", "answer": "no"}, {"tenant": "south"}]
            >>> rows = [{"tenant": "north", "answer": "yes"}, *south]
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.evaluate("{'length': len(data['answer'])}", rows)

            >>> len(result.by("tenant").plot().axes)
            1
        """
        from isolated_magic.evaluation.plot import plot  # noqa: PLC0415 - for plots alone

        return plot(self._whole, self.by, self._groups)

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with a row for each group: counts, and the mean of each metric with its interval.

        Returns:
            Columns: what the rows are grouped by, ``rows``, ``scored``, ``failed``, and for each metric ``NAME``,
            ``NAME.low`` and ``NAME.high``.

        Raises:
            MissingLibraryError: pandas is not installed.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> south = [{"tenant": "south", "answer": "no"}, {"tenant": "south"}]
            >>> rows = [{"tenant": "north", "answer": "yes"}, *south]
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.evaluate("{'length': len(data['answer'])}", rows)

            >>> result.by("tenant").to_pandas()[["tenant", "rows", "failed"]].values.tolist()
            [['north', 1, 0], ['south', 2, 1]]
        """
        summaries = [(name, group.summary) for name, group in self._groups.items()]
        metrics = dict.fromkeys(
            metric
            for _, summary in summaries
            for metric, figures in summary["metrics"].items()
            if figures["mean"] is not None
        )
        rows: list[dict[str, object]] = []
        for name, summary in summaries:
            row: dict[str, object] = {self.by: name}
            row |= {"rows": summary["rows"], "scored": summary["scored"], "failed": summary["failed"]}
            for metric, figures in summary["metrics"].items():
                row[metric] = figures["mean"]
                row[f"{metric}.low"], row[f"{metric}.high"] = figures["interval"] or (None, None)
            rows.append(row)
        each = [column for metric in metrics for column in (metric, f"{metric}.low", f"{metric}.high")]
        columns = dict.fromkeys([self.by, "rows", "scored", "failed", *each])
        return to_data_frame(rows, [*columns])


def group_rows(rows: Sequence[RowResult], by: By) -> tuple[str, dict[object, list[RowResult]]]:
    """What rows are grouped by, and the rows of each group.

    Args:
        rows: the results.
        by: the name of a field of the rows, ``"cluster"``, ``"repetition"``, or a function of the row.

    Raises:
        InvalidRequestError: no row has such a field, or the function raised.
    """
    if isinstance(by, str):
        name, value_in = by, _column(rows, by)
    elif callable(by):
        name = getattr(by, "__name__", "")
        name = name if name and name != "<lambda>" else "group"
        value_in = _called(by)
    else:
        raise InvalidRequestError(
            f"by is {type(by).__name__}: give the name of a column, or a function of the row."
        )
    groups: dict[object, list[RowResult]] = {}
    for row in rows:
        groups.setdefault(_group_name(value_in(row)), []).append(row)
    return name, {found: groups[found] for found in sorted(groups, key=_place)}


def _column(rows: Sequence[RowResult], name: str) -> Callable[[RowResult], object]:
    fields = dict.fromkeys(field for row in rows for field in fields_of(row.row))
    if name in fields:
        return lambda row: fields_of(row.row).get(name)
    if name in _FIELDS_OF_RESULT:
        return lambda row: getattr(row, name)
    if not rows:
        return lambda _: None
    texts = [str(field) for field in fields]
    near = difflib.get_close_matches(name, texts, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise InvalidRequestError(f"No row has a column {name!r}: {_listed(texts)}.{hint}")


def _called(function: Callable[[object], object]) -> Callable[[RowResult], object]:
    def value_in(row: RowResult) -> object:
        try:
            return function(row.row)
        except Exception as problem:  # noqa: BLE001 - of the user's function
            kind = type(problem).__name__
            raise InvalidRequestError(
                f"by: the function raised {kind} for row {row.key}: {text_of(problem)}"
            ) from None

    return value_in


def _group_name(value: object) -> object:
    """A name that can be sorted and looked up."""
    value = plain(value)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NO_GROUP
    if isinstance(value, (str, float)) or (isinstance(value, int) and value.bit_length() <= MOST_BITS):
        return value
    try:
        return json.dumps(value, default=plain, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__name__}>"


def _place(name: object) -> tuple[int, float, list[tuple[int, str]]]:
    if name == NO_GROUP:
        return 2, 0.0, []
    if isinstance(name, (int, float)):
        return 0, name, []
    parts = _DIGITS.split(str(name))  # every second one is digits
    return 1, 0.0, [(int(part) if n % 2 and len(part) < 300 else 0, part) for n, part in enumerate(parts)]


def _listed(names: Sequence[object]) -> str:
    """The names that there are."""
    told = [*map(str, names[:MOST_NAMED])]
    told += [f"and {len(names) - MOST_NAMED:,} more"] * (len(names) > MOST_NAMED)
    return f"there are {', '.join(told)}" if told else "there are none"
