"""The runs of a kernel with their scores: how a metric changed from edit to edit."""

from __future__ import annotations

import hashlib
import math
import os
import weakref
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from isolated_magic.data_frame import to_data_frame

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    """Identifies a cell across runs."""

    cell_id: str | None  # None where the front end gives none
    line: bytes  # a digest of the magic's line, which may hold a secret; of the path for a file
    body: bytes | None  # a digest of the code; None for a file

    def is_same_cell(self, other: CellKey) -> bool:
        """Whether both belong to one cell, or to one file.

        A cell with an id is the same over its edits. Without ids (terminals, nbconvert, papermill), an edit cannot
        be told from another cell: it is the same cell when its line and its code are the same.
        """
        if self.cell_id is not None and self.body is not None:
            return self.cell_id == other.cell_id
        return self == other


_KEY = os.urandom(32)  # without it, a secret cannot be found from its digest by trial


def digest(text: str | bytes) -> bytes:
    """A keyed hash of the text, comparable within this process only."""
    encoded = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return hashlib.blake2b(encoded, key=_KEY, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class Inputs:
    """Digests of the inputs of a run: they compare equal for equal inputs, and reveal nothing."""

    data: bytes  # with payload_type
    code: bytes  # of the cell, or the file's contents at the time
    environment: Mapping[str, bytes]  # by variable
    packages: tuple[tuple[str, str], ...] = ()  # and their versions, Python's among them; empty for this process's
    is_remote: bool = False  # the variables are over those of another machine, which nobody here knows

    @classmethod
    def of(cls, request: RunRequest) -> Inputs:
        """The digests for a request."""
        code = _contents(request.path or "") if request.source is None else request.source
        environment = {os.fsdecode(name): digest(value) for name, value in request.environment.items()}
        packages = () if request.interpreter is None else tuple(request.interpreter.told.items())
        return cls(digest(request.payload), digest(code), environment, packages, request.remote is not None)

    def differences(self, other: Inputs) -> tuple[str, ...]:
        """Names of the inputs that differ, as in :attr:`RunResult.differs_in`."""
        mine, others = self.environment, other.environment
        known = {*mine, *others}
        if self.is_remote != other.is_remote:  # one has all variables, the other those that it was given
            known = set(mine if self.is_remote else others)
        names = sorted(name for name in known if mine.get(name) != others.get(name))
        told = names[:MOST_VARIABLES] + [f"{len(names) - MOST_VARIABLES} more"] * (len(names) > MOST_VARIABLES)
        differs = {
            "data": self.data != other.data,
            f"environment ({', '.join(told)})": bool(names),
            f"packages ({_changed_packages(dict(self.packages), dict(other.packages))})": self.packages
            != other.packages,
            "code": self.code != other.code,
        }
        return tuple(what for what, is_so in differs.items() if is_so)


def _changed_packages(now: Mapping[str, str], before: Mapping[str, str]) -> str:
    """The packages that are others than before, with their versions."""
    names = [name for name in {**now, **before} if now.get(name) != before.get(name)]
    told = [
        f"{name} {now[name]}, before {before[name]}" if name in now and name in before else name
        for name in names[:MOST_VARIABLES]
    ]
    return "; ".join(told + [f"{len(names) - MOST_VARIABLES} more"] * (len(names) > MOST_VARIABLES))


def _contents(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as the run opens it
            return file.read()
    except OSError:
        return b""


@dataclass(frozen=True)
class Run:
    """What is remembered of one run."""

    number: int  # from 1
    name: str  # its file, or the variable that keeps its result, or how its code begins
    prompt: str  # such as "In [7]"
    key: CellKey
    inputs: Inputs | None  # None where they are not known
    differs_in: tuple[str, ...]  # inputs that differ from the previous run of the same cell
    result: weakref.ref[RunResult] | None  # None for an evaluation
    scores: tuple[Score, ...]  # without metadata
    outcome: str  # "success", or the kind of the error
    error: str  # its summary, empty for none
    launch: str | None
    execution_ms: float
    ended_at: datetime
    score_label: str  # as of its result
    told: str = ""  # of an evaluation: how many rows were scored, and the mean of each metric

    @property
    def cell(self) -> str:
        """The name of its cell. Not the prompt: tools that check notebooks do not count prompts."""
        return self.name or UNNAMED


UNNAMED = "cell"
RUN_COLUMNS = ("cell", "prompt", "outcome", "error", "launch", "execution_ms", "ended_at")
SCORE_COLUMNS = ("name", "value", "reason", "scoring_failed", "passed", "threshold")


@dataclass(frozen=True)
class History:
    """The last 1,000 runs of a kernel, the oldest first.

    Args:
        runs: in the order in which they ended.

    Example:
        >>> from IPython.core.interactiveshell import InteractiveShell
        >>> shell = InteractiveShell.instance()
        >>> _ = shell.run_line_magic("load_ext", "isolated_magic")
        >>> _ = shell.run_cell_magic("isolated", "-o result", "{'overlap': 0.8}")
        >>> history = shell.run_line_magic("isolated", "history")
        >>> [(run.name, run.outcome, run.scores) for run in history.runs]
        [('result', 'success', (Score('overlap', 0.8),))]
        >>> _ = shell.run_line_magic("unload_ext", "isolated_magic")
    """

    runs: tuple[Run, ...] = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.runs)} runs)"

    def __len__(self) -> int:
        return len(self.runs)

    def with_result(
        self, name: str, prompt: str, key: CellKey, result: RunResult, inputs: Inputs | None = None
    ) -> History:
        """A history with this run added."""
        run = self._run(name, prompt, key, inputs)
        return self._with(
            replace(
                run,
                result=weakref.ref(result),
                scores=tuple(map(_remembered, result.scores[:MOST_SCORES])),
                outcome=str(result.error.kind) if result.error else "success",
                error=result.error.summary if result.error else "",
                launch=result.launch,
                execution_ms=result.timings.execution_ms,
                score_label=result.score_label,
            )
        )

    def with_evaluation(
        self, name: str, prompt: str, key: CellKey, means: Sequence[Score], told: str, inputs: Inputs, ms: float
    ) -> History:
        """A history with an evaluation added, as one run.

        Args:
            name: of the run.
            prompt: beside its cell.
            key: of its cell.
            means: of each metric.
            told: what a list of runs says of it.
            inputs: that are the same for all rows.
            ms: how long it took.
        """
        run = self._run(name, prompt, key, inputs)
        return self._with(replace(run, scores=tuple(means[:MOST_SCORES]), told=told, execution_ms=ms))

    def _run(self, name: str, prompt: str, key: CellKey, inputs: Inputs | None) -> Run:
        """A run of which nothing is known yet but where it stands."""
        last = self.runs[-1] if self.runs else None
        if inputs and last and last.inputs and last.inputs.environment == inputs.environment:
            inputs = replace(inputs, environment=last.inputs.environment)  # kept once
        before = next((run for run in reversed(self.runs) if key.is_same_cell(run.key)), None)
        return Run(
            number=last.number + 1 if last else 1,
            name=name,
            prompt=prompt,
            key=key,
            inputs=inputs,
            differs_in=differences(inputs, before),
            result=None,
            scores=(),
            outcome="success",
            error="",
            launch=None,
            execution_ms=math.nan,
            ended_at=datetime.now(UTC),
            score_label="",
        )

    def _with(self, run: Run) -> History:
        return History((*self.runs[-MOST_RUNS + 1 :], run))

    def run_with_scores(self, key: CellKey) -> Run | None:
        """The last single run of a cell that had scores it could compute, or None."""
        return next(
            (
                run
                for run in reversed(self.runs)
                if run.scores and not (run.error or run.told) and key.is_same_cell(run.key)
            ),
            None,
        )

    def run_of(self, result: RunResult) -> Run | None:
        """The run that the result belongs to, or None."""
        return next(
            (run for run in reversed(self.runs) if run.result is not None and run.result() is result), None
        )

    def to_pandas(self) -> pandas.DataFrame:
        """A data frame with one row for each score, and one for each run without scores.

        Returns:
            Columns of the run: run (number), cell, prompt, outcome, error, launch, execution_ms, ended_at (a
            datetime in UTC). Columns of the score: name, value, reason, scoring_failed, passed, threshold.

        Raises:
            MissingLibraryError: pandas is not installed.

        Example:
            >>> from isolated_magic import History
            >>> list(History().to_pandas().columns)[:4]
            ['run', 'cell', 'prompt', 'outcome']
        """
        rows = [
            {"run": run.number, **{column: getattr(run, column) for column in RUN_COLUMNS}, **score}
            for run in self.runs
            for score in ([_fields_of(score) for score in run.scores] or [dict.fromkeys(SCORE_COLUMNS)])
        ]
        return to_data_frame(rows, ["run", *RUN_COLUMNS, *SCORE_COLUMNS])


def differences(inputs: Inputs | None, before: Run | None) -> tuple[str, ...]:
    """Names of the inputs that differ from an earlier run's, as far as they are known."""
    if inputs is None or before is None or before.inputs is None:
        return ()
    return inputs.differences(before.inputs)


def _remembered(score: Score) -> Score:
    reason = score.reason[:LONGEST_REASON] if score.reason is not None else None
    return replace(score, reason=reason, metadata=None)


def _fields_of(score: Score) -> dict[str, object]:
    return {name: getattr(score, name) for name in SCORE_COLUMNS}
