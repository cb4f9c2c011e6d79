"""The runs of a kernel with their scores, so that what became of a metric from edit to edit can be seen."""

from __future__ import annotations

import hashlib
import os
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isolated_magic.models import frame_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas

    from isolated_magic.models import RunResult, Score
    from isolated_magic.request import RunRequest

MOST_RUNS = 1000
MOST_SCORES = 1000  # of one run
MOST_VARIABLES = 3  # that are named where environments differ
LONGEST_REASON = 1000  # characters
DIGEST_BYTES = 16


@dataclass(frozen=True)
class CellKey:
    """What tells one cell from another.

    Args:
        cell_id: that the front end gave the cell, None where it gives none.
        line: a digest of what the magic's line says of the run, which may hold a secret.
        body: one of the code; None for a file, whose path is the line then.
    """

    cell_id: str | None
    line: bytes
    body: bytes | None

    def is_same_cell(self, other: CellKey) -> bool:
        """Whether both are of one cell, or of one file.

        A cell with an id is the same over its edits. Without ids (terminals, nbconvert, papermill), an edit cannot
        be told from another cell: it is the same cell when its line and its code are the same.

        Args:
            other: of an earlier run.
        """
        if self.cell_id is not None and self.body is not None:
            return self.cell_id == other.cell_id
        return self == other


_KEY = os.urandom(32)  # without it, nobody can find out by trying which secret a digest stands for


def digest(text: str | bytes) -> bytes:
    """What is the same for the same text, in this process alone, and tells nothing of it.

    Args:
        text: of any length.
    """
    encoded = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(encoded, key=_KEY, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class Inputs:
    """Digests of what a run was given. They tell whether another run was given the same, and not what that was.

    Args:
        data: with its type.
        code: of the cell, or of the file as it was.
        environment: by variable.
    """

    data: bytes
    code: bytes
    environment: Mapping[str, bytes]

    @classmethod
    def of(cls, request: RunRequest) -> Inputs:
        """Those of a run.

        Args:
            request: of the run.
        """
        code = _contents(request.path or "") if request.source is None else request.source
        environment = {os.fsdecode(name): digest(value) for name, value in request.environment.items()}
        return cls(digest(request.payload), digest(code), environment)

    def differences(self, other: Inputs) -> tuple[str, ...]:
        """What the two runs were not given alike, as :attr:`RunResult.differs_in` has it.

        Args:
            other: of another run.
        """
        mine, others = self.environment, other.environment
        names = sorted(name for name in {*mine, *others} if mine.get(name) != others.get(name))
        told = [
            *names[:MOST_VARIABLES],
            *([f"{len(names) - MOST_VARIABLES} more"] * (len(names) > MOST_VARIABLES)),
        ]
        differs = {
            "data": self.data != other.data,
            f"environment ({', '.join(told)})": bool(names),
            "code": self.code != other.code,
        }
        return tuple(what for what, is_so in differs.items() if is_so)


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as the run opens it
            return file.read()
    except OSError:
        return b""


@dataclass(frozen=True)
class Run:
    """One run, as far as it is remembered.

    Args:
        number: from 1.
        name: what the user calls it: its file, or the variable that keeps its result; else how its code begins.
        prompt: that its cell has, such as ``In [7]``.
        key: of its cell.
        inputs: what it was given; None where that is not known.
        differs_in: what it was not given alike with the run of its cell before it.
        result: as long as somebody has it.
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
    inputs: Inputs | None
    differs_in: tuple[str, ...]
    result: weakref.ref[RunResult]
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

    def with_result(
        self, name: str, prompt: str, key: CellKey, result: RunResult, inputs: Inputs | None = None
    ) -> History:
        """The history with one run more.

        Args:
            name: what the user calls it; empty for nothing.
            prompt: that its cell has.
            key: of its cell.
            result: of the run.
            inputs: what it was given; None where that is not known.
        """
        last = self.runs[-1] if self.runs else None
        if inputs and last and last.inputs and last.inputs.environment == inputs.environment:
            inputs = replace(inputs, environment=last.inputs.environment)  # kept once
        before = next((run for run in reversed(self.runs) if key.is_same_cell(run.key)), None)
        run = Run(
            number=last.number + 1 if last else 1,
            name=name,
            prompt=prompt,
            key=key,
            inputs=inputs,
            differs_in=differences(inputs, before),
            result=weakref.ref(result),
            scores=tuple(map(_remembered, result.scores[:MOST_SCORES])),
            outcome=str(result.error.kind) if result.error else "success",
            error=result.error.summary if result.error else "",
            launch=result.launch,
            execution_ms=result.timings.execution_ms,
        )
        return History((*self.runs[-MOST_RUNS + 1 :], run))

    def run_with_scores(self, key: CellKey) -> Run | None:
        """The last run of a cell that had scores; None when there was none.

        Args:
            key: of the cell.
        """
        return next((run for run in reversed(self.runs) if run.scores and key.is_same_cell(run.key)), None)

    def run_of(self, result: RunResult) -> Run | None:
        """The run that a result is of; None when it is none of these.

        Args:
            result: of any run.
        """
        return next((run for run in reversed(self.runs) if run.result() is result), None)

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


def differences(inputs: Inputs | None, before: Run | None) -> tuple[str, ...]:
    """What a run was not given alike with an earlier one, as far as that is known.

    Args:
        inputs: of the run.
        before: the earlier one, None when there was none.
    """
    if inputs is None or before is None or before.inputs is None:
        return ()
    return inputs.differences(before.inputs)


def _remembered(score: Score) -> Score:
    reason = score.reason[:LONGEST_REASON] if score.reason is not None else None
    return replace(score, reason=reason, metadata=None)


def _fields_of(score: Score) -> dict[str, object]:
    return {name: getattr(score, name) for name in SCORE_COLUMNS}
