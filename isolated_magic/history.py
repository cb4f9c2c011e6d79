"""The runs of a kernel with their scores, so that what became of a metric from edit to edit can be seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isolated_magic.frames import frame_of

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas

    from isolated_magic.models import RunResult, Score

MOST_RUNS = 1000
MOST_SCORES = 1000  # of one run
LONGEST_REASON = 1000  # characters


@dataclass(frozen=True)
class CellKey:
    """What tells one cell from another, over its edits.

    Args:
        cell_id: that the front end gave the cell, None where it gives none.
        line: a hash of what the magic's line says of the run: it may hold a secret.
        body: a hash of the code; None for a file, whose path is the line then.
    """

    cell_id: str | None
    line: int
    body: int | None

    def is_same_cell(self, other: CellKey) -> bool:
        """Whether both are of one cell.

        Without ids, as in a terminal: whether only the line or only the code was edited between the two.

        Args:
            other: of an earlier run.
        """
        if (self.body is None) != (other.body is None) or self.cell_id != other.cell_id:
            return False
        is_same_line = self.line == other.line
        if self.body is None:  # a cell may hold several line magics
            return is_same_line
        return self.cell_id is not None or is_same_line or self.body == other.body


@dataclass(frozen=True)
class Run:
    """One run, as far as it is remembered.

    Args:
        number: from 1.
        name: what the user calls it: its file, or the variable that keeps its result; else how its code begins.
        prompt: that its cell has, such as ``In [7]``.
        key: of its cell.
        scores: without their metadata.
        outcome: ``"success"``, or the kind of its error.
        error: its error in one line; empty when there is none.
        launch: how its process came to life, None when there was none.
        execution_ms: from the call to the end of the run.
    """

    number: int
    name: str
    prompt: str
    key: CellKey
    scores: tuple[Score, ...]
    outcome: str
    error: str
    launch: str | None
    execution_ms: float

    @property
    def cell(self) -> str:
        """What to call its cell. The prompt will not do: tools that check notebooks count no prompts."""
        return self.name or UNNAMED


UNNAMED = "cell"
RUN_COLUMNS = {
    "run": "number",
    "cell": "cell",
    "prompt": "prompt",
    "outcome": "outcome",
    "error": "error",
    "launch": "launch",
    "execution_ms": "execution_ms",
}
SCORE_COLUMNS = ("name", "value", "reason", "scoring_failed")


@dataclass(frozen=True)
class History:
    """The runs of one kernel, the oldest first. The last thousand are remembered.

    Args:
        runs: in the order in which they ended.
    """

    runs: tuple[Run, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.runs)} runs)"

    def __len__(self) -> int:
        return len(self.runs)

    def with_result(self, name: str, prompt: str, key: CellKey, result: RunResult) -> History:
        """The history with one run more.

        Args:
            name: what the user calls it; empty for nothing.
            prompt: that its cell has.
            key: of its cell.
            result: of the run.
        """
        run = Run(
            number=self.runs[-1].number + 1 if self.runs else 1,
            name=name,
            prompt=prompt,
            key=key,
            scores=tuple(map(_remembered, result.scores[:MOST_SCORES])),
            outcome=str(result.error.kind) if result.error else "success",
            error=result.error.summary if result.error else "",
            launch=result.launch,
            execution_ms=result.timings.execution_ms,
        )
        return History((*self.runs[-MOST_RUNS + 1 :], run))

    def scores_before(self, key: CellKey, names: Collection[str]) -> tuple[Score, ...]:
        """The scores of the last run of a cell that had any; empty when there was none.

        Args:
            key: of the cell.
            names: of the scores that it has now. Where cells have no ids, one of them tells its run from others.
        """
        for run in reversed(self.runs):
            is_alike = (
                key.cell_id is not None or key.body is None or any(score.name in names for score in run.scores)
            )
            if run.scores and is_alike and key.is_same_cell(run.key):
                return run.scores
        return ()

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with one row for each score, and one for each run without scores.

        Its columns are run, cell, prompt, outcome, error, launch and execution_ms, and name, value, reason and
        scoring_failed of the score.

        Raises:
            MissingLibraryError: pandas is not installed.
        """
        rows = [
            {**{column: getattr(run, name) for column, name in RUN_COLUMNS.items()}, **score}
            for run in self.runs
            for score in ([_fields_of(score) for score in run.scores] or [dict.fromkeys(SCORE_COLUMNS)])
        ]
        return frame_of(rows, [*RUN_COLUMNS, *SCORE_COLUMNS])


def _remembered(score: Score) -> Score:
    reason = score.reason[:LONGEST_REASON] if score.reason is not None else None
    return replace(score, reason=reason, metadata=None)


def _fields_of(score: Score) -> dict[str, object]:
    return {name: getattr(score, name) for name in SCORE_COLUMNS}
