"""What there is to see of a result, before it is text or HTML."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from isolated_magic.text import printable

if TYPE_CHECKING:
    from isolated_magic.models import JsonObject, JsonValue, RunResult, Score

BAR_CELLS = 10
FULL, EMPTY = "\N{FULL BLOCK}", "\N{LIGHT SHADE}"
FAILED = "FAILED"
TOO_DEEP = "(nested too deeply to be shown)"
LARGEST_WRITTEN_OUT = 10**20


@dataclass(frozen=True)
class Row:
    """One score, each part as text on one line.

    Args:
        name: of the score.
        value: the number, or the word that says that scoring failed.
        bar: ten cells, empty when the value has no place in [0, 1].
        reason: may be empty.
        failed: whether scoring failed.
    """

    name: str
    value: str
    bar: str
    reason: str
    failed: bool


@dataclass(frozen=True)
class View:
    """A whole result.

    Args:
        rows: the scores, failed ones first.
        json: indented JSON of what is no score; empty when there is nothing else.
        error: the text of the error; empty when there is none.
    """

    rows: tuple[Row, ...]
    json: str
    error: str


def view_of(result: RunResult) -> View:
    """What there is to see of a result. The same for the same result, whenever and wherever it ran.

    Args:
        result: of a run.
    """
    if result.error is not None:
        return View((), "", result.error.text)
    payload = result.payload or {}
    scores = sorted(result.scores, key=lambda score: not score.scoring_failed)  # stable: the order stays otherwise
    rest: JsonObject = {key: value for key, value in payload.items() if key != "scores" or not scores}
    return View(tuple(map(_row, scores)), _as_json(rest) if rest or not scores else "", "")


def _row(score: Score) -> Row:
    failed = score.scoring_failed
    return Row(
        name=one_line(score.name),
        value=FAILED if failed else _as_text(score.value),
        bar="" if failed else bar(score.value),
        reason=one_line(score.reason or ""),
        failed=failed,
    )


def bar(value: JsonValue) -> str:
    """Ten cells, filled from the left; empty text for what is no number in [0, 1].

    Args:
        value: of a score.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return ""
    filled = math.floor(value * BAR_CELLS + 1e-9)  # 0.7 * 10 is a little less than 7
    return FULL * filled + EMPTY * (BAR_CELLS - filled)


def _as_text(value: JsonValue) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and abs(value) >= LARGEST_WRITTEN_OUT:
        return f"{Decimal(value):.4g}"
    return one_line(value) if isinstance(value, str) else _as_json(value, indent=None)


def one_line(text: str) -> str:
    """The text without line breaks and without characters that steer a terminal.

    Args:
        text: of a name or a reason.
    """
    return " ".join(
        "".join(one if one.isprintable() or one.isspace() else "\N{REPLACEMENT CHARACTER}" for one in text).split()
    )


def _as_json(value: JsonValue, indent: int | None = 2) -> str:
    try:
        return printable(json.dumps(value, indent=indent, ensure_ascii=False))
    except RecursionError:
        return TOO_DEEP
