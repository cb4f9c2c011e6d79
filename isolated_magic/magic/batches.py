"""The last evaluations of a kernel, with which ``--compare`` compares."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isolated_magic.errors import IsolatedError, OptionError
from isolated_magic.evaluation.figures import mean_text
from isolated_magic.evaluation.result import EvaluationResult
from isolated_magic.history import digest
from isolated_magic.magic.kinds import ROW_FILES
from isolated_magic.magic.values import did_you_mean, expanded
from isolated_magic.models import RunResult, Score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.history import CellKey, Inputs
    from isolated_magic.magic.options import Options

MOST_KEPT = 3  # of one kernel: each holds all its rows
MOST_TOLD = 3  # metrics in the history
NOTHING_BEFORE = "No earlier evaluation to compare with."
BEFORE = "the run before"


@dataclass(frozen=True)
class _Kept:
    key: CellKey
    inputs: Inputs
    result: EvaluationResult
    rows: Mapping[str, bytes]  # digests by key, as the notebook may change its rows in place


class Batches:
    """The last evaluations of one kernel, each the last one of its cell."""

    def __init__(self) -> None:
        self._kept: deque[_Kept] = deque(maxlen=MOST_KEPT)

    def remember(self, result: EvaluationResult, options: Options, key: CellKey, inputs: Inputs) -> None:
        """Keep an evaluation in the place of the one before of its cell."""
        if any(row.ok for row in result):
            others = [one for one in self._kept if not key.is_same_cell(one.key)]
            kept = _Kept(key, inputs, result, _digests(result, options))
            self._kept = deque([*others, kept], maxlen=MOST_KEPT)

    def compared(
        self,
        result: EvaluationResult,
        options: Options,
        key: CellKey,
        inputs: Inputs,
        earlier: EvaluationResult | None,
    ) -> EvaluationResult:
        """The result with its comparison.

        Args:
            result: of the evaluation that has just ended.
            options: of its line.
            key: of its cell.
            inputs: what it depends on.
            earlier: what to compare with; None for the evaluation before of this cell.
        """
        if earlier is None:
            kept = next((one for one in self._kept if key.is_same_cell(one.key)), None)
            before = None if kept is None else kept.result
        else:
            kept = next((one for one in self._kept if one.result == earlier), None)
            before = earlier
        if before is None:
            # A setting holds for first runs too, which have nothing to be told of.
            return replace(result, notes=(*result.notes, NOTHING_BEFORE)) if options.asks_to_compare else result
        comparison = result.compare(before)
        differs = () if kept is None else inputs.differences(kept.inputs)
        earlier_rows = _digests(before, options) if kept is None else kept.rows
        if "data" not in differs and _differs(_digests(result, options), earlier_rows):
            differs = ("data", *differs)
        if differs:
            *most, last = differs
            listed = f"{', '.join(most)} and {last}" if most else last
            comparison = replace(comparison, notes=(f"That run differs in {listed}.", *comparison.notes))
        name = options.compare if isinstance(options.compare, str) else BEFORE
        return replace(result, comparison=replace(comparison, label=name))


def _digests(result: EvaluationResult, options: Options) -> dict[str, bytes]:
    """A digest of each row, by its key; nothing where keys are digests themselves."""
    if options.key is None:
        return {}
    return {row.key: digest(_content(row.row)) for row in result if row.repetition == 0}


def _content(row: object) -> str:
    try:
        return repr(row)
    except Exception:  # noqa: BLE001 - of the user's own type, or nested too deeply
        return ""


def _differs(rows: Mapping[str, bytes], earlier: Mapping[str, bytes]) -> bool:
    """Whether a row that both have has other content."""
    return any(earlier.get(key, content) != content for key, content in rows.items())


def earlier_evaluation(name: str, names: Mapping[str, object]) -> EvaluationResult:
    """What ``--compare NAME`` names: a variable, or a file that holds a saved evaluation.

    Raises:
        OptionError: it is no evaluation.
    """
    if name.endswith(ROW_FILES):
        try:
            return EvaluationResult.load(expanded(name))
        except IsolatedError as problem:
            raise OptionError(f"--compare {name}: {problem}") from None
    earlier = names.get(name)
    if isinstance(earlier, EvaluationResult):
        return earlier
    if isinstance(earlier, RunResult):
        raise OptionError(
            f"--compare {name}: {name} is the result of one run, and this is an evaluation of rows: give a result "
            "that a cell with --each kept with -o."
        )
    found = f"it is {type(earlier).__name__}" if name in names else "there is no such variable"
    near = did_you_mean(name, [one for one, value in names.items() if isinstance(value, EvaluationResult)])
    raise OptionError(
        f"--compare {name}: {found}: give a result that a cell with --each kept with -o, or a file that it was "
        f"saved to.{near}"
    )


def told(result: EvaluationResult) -> str:
    """What a list of runs says of an evaluation."""
    summary = result.summary
    total = summary["rows"] + (summary["not_run"] or 0)
    means = [
        f"{name} {mean_text(metric['mean'], metric['interval'])}"
        for name, metric in summary["metrics"].items()
        if metric["mean"] is not None
    ]
    more = [f"... {len(means) - MOST_TOLD} more"] if len(means) > MOST_TOLD else []
    return ", ".join([f"scored {summary['scored']:,} of {total:,}", *means[:MOST_TOLD], *more])


def mean_scores(result: EvaluationResult) -> tuple[Score, ...]:
    """The mean of each metric, as the history keeps it."""
    return tuple(
        Score(name, metric["mean"])
        for name, metric in result.summary["metrics"].items()
        if metric["mean"] is not None
    )
