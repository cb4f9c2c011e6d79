"""Names, values and reasons of scores as text on one line, whatever they hold."""

from __future__ import annotations

import json
import math
import unicodedata
from decimal import Decimal
from typing import TYPE_CHECKING

from isolated_magic.text import printable, without_ansi

if TYPE_CHECKING:
    from isolated_magic.models import JsonValue, Score

BAR_CELLS = 10
FULL, EMPTY = "\N{FULL BLOCK}", "\N{LIGHT SHADE}"
UP, DOWN = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
FAILED = "FAILED"
LONGEST_NAME, LONGEST_PROSE = 60, 240  # characters that are seen without a click
TOO_DEEP = "(nested too deeply to be shown)"
LARGEST_WRITTEN_OUT, LARGEST_NUMBER = 10**20, 10**300
# Within a word: emoji and Persian are made of these.
_JOINERS = {"\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}"}


def bar(value: JsonValue) -> str:
    """Ten cells, filled from the left; empty text for what is no number in [0, 1].

    Args:
        value: of a score.
    """
    number = number_in(value)
    if number is None or not 0 <= number <= 1:
        return ""
    filled = math.floor(number * BAR_CELLS + 1e-9)  # 0.7 * 10 is a little less than 7
    return FULL * filled + EMPTY * (BAR_CELLS - filled)


def value_text(score: Score) -> str:
    """The value of a score, or the word that says that scoring failed.

    Args:
        score: any.
    """
    return FAILED if score.scoring_failed else json_text(score.value)


def json_text(value: JsonValue) -> str:
    """A value on one line; numbers with four digits.

    Args:
        value: any JSON value.
    """
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int) and abs(value) >= LARGEST_WRITTEN_OUT:
        return f"{Decimal(value):.4g}"
    return one_line(value if isinstance(value, str) else as_json(value, indent=None))


def as_json(value: JsonValue, indent: int | None = 2) -> str:
    """The value as JSON.

    Args:
        value: any JSON value.
        indent: columns for each level; None for one line.
    """
    try:
        return printable(json.dumps(value, indent=indent, ensure_ascii=False))
    except RecursionError:
        return TOO_DEEP


def change_text(now: Score, before: Score | None) -> str:
    """How a score differs from an earlier one, in words and signs that need no colour.

    Args:
        now: the score.
        before: the earlier one, None when there was none.
    """
    if before is None:
        return "new"
    was = value_text(before)
    if now.scoring_failed or before.scoring_failed:
        return "same" if now.scoring_failed and before.scoring_failed else f"was {was}"
    value, earlier = number_in(now.value), number_in(before.value)
    if value is None or earlier is None:
        return "same" if value_text(now) == was else f"was {was}"
    difference = value - earlier
    if difference == 0:
        return "same"
    sign = UP if difference > 0 else DOWN
    return f"{sign} {difference:+.4g}, was {was}"


def number_in(value: JsonValue) -> float | None:
    """The value, when it is a number that one can reckon with: no NaN, no infinity, none beyond a float.

    Args:
        value: of a score.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) < LARGEST_NUMBER else None  # False for NaN, too


def one_line(text: str) -> str:
    """The text without line breaks and without characters that steer a terminal.

    Args:
        text: of a name or a reason.
    """
    plain = "".join(
        one if one.isprintable() or one.isspace() or one in _JOINERS else "\N{REPLACEMENT CHARACTER}"
        for one in without_ansi(text)
    )
    return " ".join(plain.split())


def shown(text: str) -> str:
    """Lines of a text without what colours it or steers a terminal; its tabs stay.

    Args:
        text: of any number of lines.
    """
    return "".join(
        one if one.isprintable() or one in "\n\t" or one in _JOINERS else "\N{REPLACEMENT CHARACTER}"
        for one in without_ansi(text).replace("\r\n", "\n")
    )


def shortened(text: str, most: int) -> str:
    """The beginning of the text, with a word about the rest when it is too long.

    Args:
        text: on one line.
        most: characters of it that are kept.
    """
    if len(text) <= most:
        return text
    return f"{text[:most].rstrip()}... [{len(text):,} characters]"


def is_right_to_left(text: str) -> bool:
    """Whether some of the text is written from right to left, which may turn what stands beside it around.

    Args:
        text: any.
    """
    return not text.isascii() and any(unicodedata.bidirectional(one) in {"R", "AL", "AN"} for one in text)
