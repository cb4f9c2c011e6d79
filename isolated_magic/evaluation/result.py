"""What an evaluation returns: EvaluationResult, with a RowResult for each row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError, NoSuchRowError, RunInterrupted
from isolated_magic.evaluation.compare import Side, compare
from isolated_magic.evaluation.summary import summarize

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import pandas
    from matplotlib.figure import Figure

    from isolated_magic.evaluation.compare import Comparison
    from isolated_magic.evaluation.groups import By, Groups
    from isolated_magic.evaluation.row_result import RowResult
    from isolated_magic.evaluation.summary import Summary


@dataclass(frozen=True, eq=False, repr=False)
class EvaluationResult:
    """The result of an evaluation. Equality is that of rows, not_run, stopped and repeat.

    Args:
        rows: a RowResult for each row that was begun, in the order of the input.
        not_run: number of rows that were not begun; None if nobody knows how many there are.
        stopped: why it ended before all rows were done, as a sentence; empty if it did not.
        repeat: how often each row was run.
        notes: sentences about the evaluation as a whole.
        label: what it is called where it is shown; empty for nothing.
        comparison: with an earlier evaluation, to be shown with it; None for none.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> south = [{"tenant": "south", "answer": "no"}, {"tenant": "south"}]
        >>> rows = [{"tenant": "north", "answer": "yes"}, *south]
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.evaluate("{'length': len(data['answer'])}", rows)

        >>> result
        EvaluationResult(length 3 ± 6, 2 of 3 scored, 1 failed)
        >>> result.ok, len(result), result.failures[0].error.summary
        (False, 3, "KeyError: 'answer' (line 1)")
    """

    rows: tuple[RowResult, ...] = ()
    not_run: int | None = 0
    stopped: str = ""
    repeat: int = 1
    notes: tuple[str, ...] = ()
    label: str = ""
    comparison: Comparison | None = None

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EvaluationResult) and self._told() == other._told()

    def _told(self) -> tuple[object, ...]:
        return self.rows, self.not_run, self.stopped, self.repeat

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RowResult]:
        return iter(self.rows)

    def __getitem__(self, key: str | int) -> RowResult:
        """The row of that key, or at that position in :attr:`rows`.

        Raises:
            NoSuchRowError: no row has that key, or each of its repetitions has.
        """
        if not isinstance(key, str):
            return self.rows[key]
        found = [row for row in self.rows if row.key == key]
        if len(found) == 1:
            return found[0]
        if found:
            raise NoSuchRowError(f"There are {len(found):,} rows with the key {key!r}: .rows has each repetition.")
        metric = " It is a metric: .summary['metrics'] has it." if key in self.summary["metrics"] else ""
        raise NoSuchRowError(f"There is no row with the key {key!r} among {len(self.rows):,}.{metric}")

    def __contains__(self, row_or_key: object) -> bool:
        """Whether a row has that key, or is that row."""
        if isinstance(row_or_key, str):
            return any(row.key == row_or_key for row in self.rows)
        return row_or_key in self.rows

    def __repr__(self) -> str:
        """A short text, the same in every run."""
        from isolated_magic.evaluation.figures import short_text  # noqa: PLC0415 - what formats numbers

        return f"{type(self).__name__}({short_text(self.summary)})"

    @property
    def ok(self) -> bool:
        """Whether every row was scored: none failed, none was left out."""
        return not (self.failures or self.stopped or self.not_run)

    def __bool__(self) -> bool:
        """As :attr:`ok`."""
        return self.ok

    @cached_property
    def failures(self) -> tuple[RowResult, ...]:
        """The rows that have an error, in the order of the input."""
        return tuple(row for row in self.rows if row.error is not None)

    @cached_property
    def summary(self) -> Summary:
        """Counts, the figures of each metric, causes of failures, the slowest rows and usage.

        Returns:
            A plain dict, computed once: ``["rows"]``, ``["scored"]``, ``["failed"]``, ``["unscored"]``,
            ``["metrics"][name]["mean"]``, ``["interval"]`` and the rest (:class:`MetricSummary` describes each),
            ``["failures"]`` by cause, ``["slowest"]``, ``["usage"]``.
        """
        return summarize(self.rows, not_run=self.not_run, stopped=self.stopped, repeat=self.repeat)

    def compare(self, other: EvaluationResult, *, lower_is_better: Iterable[str] = ()) -> Comparison:
        """Compare with an earlier evaluation, row by row: is this one better, or is the difference noise?

        Rows are paired by key; repetitions of a row are averaged first. Each difference is this one - the other.

        Args:
            other: the earlier one.
            lower_is_better: names of metrics of which a smaller value is the better one.

        Returns:
            The comparison of each metric that both have, and the rows that changed most.

        Raises:
            InvalidRequestError: other is no evaluation, or lower_is_better names a metric that neither has.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> rows = [{"n": n} for n in range(20)]
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     before = executor.evaluate("{'ratio': data['n'] % 3 / 10}", rows)
            ...     after = executor.evaluate("{'ratio': data['n'] % 3 / 10 + 0.5}", rows)
            >>> after.compare(before).metrics["ratio"].verdict
            'better'
        """
        if not isinstance(other, EvaluationResult):
            raise InvalidRequestError(
                f"compare() needs another EvaluationResult, and got a value of type {type(other).__name__}."
            )
        after, before = (Side(one.rows, one.label, one.stopped) for one in (self, other))
        return compare(after, before, lower_is_better)

    def by(self, column_or_function: By) -> Groups[EvaluationResult]:
        """The rows in groups, each an evaluation of its own: ``result.by("tenant")["acme"].summary``.

        Args:
            column_or_function: the name of a field of the rows, ``"cluster"``, or a function of the row. Rows
                without a value are in the group ``(none)``.

        Returns:
            An EvaluationResult for each group, by its name.

        Raises:
            InvalidRequestError: no row has such a field, or the function raised.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> south = [{"tenant": "south", "answer": "no"}, {"tenant": "south"}]
            >>> rows = [{"tenant": "north", "answer": "yes"}, *south]
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.evaluate("{'length': len(data['answer'])}", rows)

            >>> result.by("tenant")["south"].summary["failed"]
            1
        """
        from isolated_magic.evaluation.groups import Groups, group_rows  # noqa: PLC0415 - for groups alone

        name, groups = group_rows(self.rows, column_or_function)
        not_run = None if self.not_run is None or self.not_run else 0
        results = {
            group: replace(self, rows=tuple(rows), not_run=not_run, notes=(), label=str(group), comparison=None)
            for group, rows in groups.items()
        }
        return Groups(name, results, self)

    def plot(self, by: By | None = None) -> Figure:
        """A figure of matplotlib: the distribution of each metric, its mean, and the 95% interval of that.

        Args:
            by: as for :meth:`by`: the distribution in each group. None for all rows together.

        Returns:
            The figure, which is not shown: a notebook shows it as the value of a cell.

        Raises:
            InvalidRequestError: no row has a score, or there are no such groups.
            MissingLibraryError: matplotlib is not installed.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.evaluate("data['n'] / 2", [{"n": 1}, {"n": 2}], key="n")

            >>> len(result.plot().axes)
            1
        """
        if by is not None:
            return self.by(by).plot()
        from isolated_magic.evaluation.plot import plot  # noqa: PLC0415 - likewise

        return plot(self)

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with a row for each row result.

        Its columns are ``index``, ``key``, ``repetition`` and ``cluster`` where there are any; the fields of the
        row; ``error_kind`` and ``error``; for each metric its value, and ``NAME.reason`` and ``NAME.passed`` where
        there are any; ``attempts`` and ``ms``. A field of the row with the name of another column is called
        ``row.NAME``.

        Returns:
            A frame with ``len(result.rows)`` rows, in the order of the input; times are in milliseconds.

        Raises:
            MissingLibraryError: pandas is not installed.

        Example:
            >>> from isolated_magic import IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor:
            ...     result = executor.evaluate("data['n'] / 2", [{"n": 1}, {"n": 2}], key="n")

            >>> result.to_pandas()["score"].tolist()
            [0.5, 1.0]
        """
        from isolated_magic.evaluation.table import to_pandas  # noqa: PLC0415 - likewise

        return to_pandas(self.rows)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save it in a file. One that is there is replaced when the new one is complete.

        Args:
            path: ends in ``.jsonl`` for all of it, which :meth:`load` gives back; ``.csv`` or ``.parquet`` for the
                table of :meth:`to_pandas`, and a column of details where there are more; ``.html`` for a report
                that needs nothing else.

        Returns:
            The path.

        Raises:
            InvalidRequestError: it ends in something else, or cannot be written.
            MissingLibraryError: the format needs a library that is not installed.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from isolated_magic import EvaluationResult, IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor, tempfile.TemporaryDirectory() as folder:
            ...     result = executor.evaluate("data['n'] / 2", [{"n": 1}, {"n": 2}])
            ...     path = result.save(Path(folder, "scores.jsonl"))
            ...     path.name, EvaluationResult.load(path) == result
            ('scores.jsonl', True)
        """
        from isolated_magic.evaluation.saving import save  # noqa: PLC0415 - likewise

        return save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EvaluationResult:
        """The evaluation in a file of :meth:`save`, or in a checkpoint.

        Args:
            path: of a ``.jsonl`` file; of a ``.csv`` or ``.parquet`` file, in which fields of rows that are lists
                or dicts are text, and there are no displays; or of a checkpoint, in which there are no rows.

        Returns:
            An evaluation that is equal to the one that was saved.

        Raises:
            InvalidRequestError: there is no such file, or it holds no evaluation.
            MissingLibraryError: it needs a library that is not installed.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from isolated_magic import EvaluationResult, IsolatedSubprocessExecutor
            >>> with IsolatedSubprocessExecutor() as executor, tempfile.TemporaryDirectory() as folder:
            ...     checkpoint = Path(folder, "scores.jsonl")
            ...     result = executor.evaluate("data['n'] / 2", [{"n": 1}, {"n": 2}], checkpoint=checkpoint)
            ...     len(EvaluationResult.load(checkpoint))
            2
        """
        from isolated_magic.evaluation.saving import load  # noqa: PLC0415 - likewise

        return cls(**load(path)._asdict())


class EvaluationInterrupted(RunInterrupted):
    """An evaluation was interrupted. All its processes have ended.

    Args:
        result: what was done until then.

    Example:
        >>> from isolated_magic import EvaluationInterrupted, IsolatedSubprocessExecutor
        >>> def press_stop(progress):
        ...     raise KeyboardInterrupt
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     try:
        ...         executor.evaluate("0.5", [{}] * 100, progress=press_stop)
        ...     except EvaluationInterrupted as stopped:
        ...         stopped.result.stopped
        'The evaluation was interrupted.'
    """

    def __init__(self, result: EvaluationResult) -> None:
        self.result = result
        super().__init__(f"{result.stopped} What was done is in .result of this exception.")
