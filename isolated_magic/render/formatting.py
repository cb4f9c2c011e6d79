"""Names, values and reasons of scores as text on one line, whatever they hold."""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from decimal import Context, Decimal
from functools import reduce
from typing import TYPE_CHECKING

from isolated_magic.models import DEFAULT_NAME, FAIL, PASS
from isolated_magic.render.blocks import Role
from isolated_magic.sanitize import printable, without_ansi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolated_magic.models import Score
    from isolated_magic.render.blocks import Cell
    from isolated_magic.strict_json import JsonValue


BAR_CELLS = 10
FULL, EMPTY = "\N{FULL BLOCK}", "\N{LIGHT SHADE}"
EIGHTHS = "\N{LOWER ONE EIGHTH BLOCK}▂▃▄▅▆▇\N{FULL BLOCK}"  # of the height of a line
UP, DOWN = "\N{BLACK UP-POINTING TRIANGLE}", "\N{BLACK DOWN-POINTING TRIANGLE}"
FAILED = "FAILED"
AT_LEAST, AT_MOST = "\N{GREATER-THAN OR EQUAL TO}", "\N{LESS-THAN OR EQUAL TO}"
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
OTHER_DATA = "other data: "
LONGEST_NAME, LONGEST_PROSE, LONGEST_LINE = 60, 240, 400  # characters that are seen without a click
LONGEST = {Role.PROSE: LONGEST_PROSE, Role.FAILED: LONGEST_PROSE, Role.LINE: LONGEST_LINE}
TOO_DEEP = "(nested too deeply to be shown)"
FEWEST_DIGITS, DIGITS_OF_A_FLOAT = 4, 17
MOST_DECIMALS = 6  # that one number of a column asks of the others
ROUND_DIGITS = 3  # a number with no more of them is a round one, as thresholds are
LARGEST_WRITTEN_OUT, LARGEST_NUMBER = 10**20, 10**300
# Sums and differences of floats are exact with as many digits: they reach from 1e300 down to 5e-324.
EXACTLY = Context(prec=700)
# Within a word: emoji and Persian are made of these.
_JOINERS = {"\N{ZERO WIDTH JOINER}", "\N{ZERO WIDTH NON-JOINER}"}
_WHOLE_PART = re.compile(r"^~?-?(?:[\d,]+|[a-z]+)")  # of a number, or its name: nan, inf
_ODD = re.compile(r"[^\n\t -~]")
_RIGHT_TO_LEFT = {"R", "AL", "AN"}  # bidirectional classes (Unicode, UAX 9)


def bar(value: JsonValue) -> str:
    """Ten cells, filled from the left; empty text for anything but a number in [0, 1]."""
    number = share_in(value)
    if number is None:
        return ""
    filled = int(number * BAR_CELLS)
    return FULL * filled + EMPTY * (BAR_CELLS - filled)


def name_text(score: Score, label: str = "") -> str:
    """The name of a score on one line; the label for one that has only the default name."""
    return one_line(label if label and score.name == DEFAULT_NAME else score.name)


def share_in(value: JsonValue) -> Decimal | None:
    """How much of a bar is filled, of 1; None for anything but a number in [0, 1].

    A number that was one of 16 or 32 bits is taken as it is written with so many: 0.7 of numpy's float32, which
    is 0.699999988079071, has the bar of 0.7.
    """
    number = number_in(value)
    if number is None or not 0 <= number <= 1:
        return None
    if not isinstance(value, float):
        return number
    for bits, most_digits in (("e", 5), ("f", 9)):
        packed = struct.pack(bits, value)
        if struct.unpack(bits, packed)[0] != value:
            continue
        for digits in range(1, most_digits):
            text = f"{value:.{digits}g}"
            if struct.pack(bits, float(text)) == packed:
                return Decimal(text)
    return number


def value_text(score: Score) -> str:
    """The value of a score on one line, or the word that says that scoring failed."""
    value = score.value
    if score.scoring_failed:
        return FAILED
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number_text(value)
    return one_line(value if isinstance(value, str) else as_json(value, indent=None))


def number_text(value: float | Decimal) -> str:
    """A number with four digits, and with as many more as it takes not to be taken for another one.

    Rounding neither reaches nor passes a whole number or a round one: 0.99996 is not shown as 1, nor 0.49996 as
    0.5.
    """
    exact = _exact(value)
    if not exact.is_finite():
        return f"{value:g}"
    if abs(exact) >= LARGEST_WRITTEN_OUT:
        return _large_text(exact)
    if exact == exact.to_integral_value():
        return str(int(exact))
    digits = FEWEST_DIGITS
    while (rounded := Context(prec=digits).plus(exact).normalize(EXACTLY)) != exact and _is_round(rounded):
        digits += 1
    mantissa, _, exponent = f"{rounded:e}".partition("e")
    return f"{mantissa}e{int(exponent):+03d}" if rounded.adjusted() < -FEWEST_DIGITS else f"{rounded:f}"


def in_one_format(texts: Sequence[str], numbers: Sequence[Decimal]) -> list[str]:
    """The numbers of a column with the same decimals; spaces stand behind the others, so that the points line up.

    A number that has more decimals than fit, or would be taken for another one, keeps its own text.

    Args:
        texts: of the numbers, as :func:`number_text` writes them.
        numbers: those.
    """
    asked = [len(_decimals(text)) for text in texts if _is_plain(text)]
    digits = max((count for count in asked if count <= MOST_DECIMALS), default=0)
    shown = [_with_decimals(number, text, digits) for number, text in zip(numbers, texts, strict=True)]
    behind = [len(_WHOLE_PART.sub("", text)) for text in shown]
    most = max(behind, default=0)
    return [text + NO_BREAK_SPACE * (most - length) for text, length in zip(shown, behind, strict=True)]


def _with_decimals(number: Decimal, text: str, digits: int) -> str:
    if not _is_plain(text) or len(_decimals(text)) > digits:
        return text
    rounded = number.quantize(Decimal(1).scaleb(-digits), context=EXACTLY)
    is_another = rounded != number and _is_round(rounded.normalize(EXACTLY))
    return text if is_another or (rounded.is_zero() and number) else f"{rounded:f}"


def _is_plain(text: str) -> bool:
    """Whether a number is written without an exponent or separators."""
    return text.removeprefix("-").replace(".", "", 1).isdigit()


def _decimals(text: str) -> str:
    return text.partition(".")[2]


def mean_of(numbers: Sequence[Decimal]) -> Decimal:
    """The mean of the decimal numbers as they are written, of one at least."""
    return EXACTLY.divide(reduce(EXACTLY.add, numbers), Decimal(len(numbers)))


def _is_round(number: Decimal) -> bool:
    return len(number.as_tuple().digits) <= ROUND_DIGITS or number == number.to_integral_value()


def _large_text(number: Decimal) -> str:
    for digits in (FEWEST_DIGITS, DIGITS_OF_A_FLOAT):
        rounded = Context(prec=digits).plus(number)
        if rounded == number:
            return f"{rounded:e}"
    return f"~{number:.{FEWEST_DIGITS}g}"


def as_json(value: JsonValue, indent: int | None = 2) -> str:
    """The value as JSON that can be shown anywhere; on one line with an indent of None."""
    try:
        return printable(json.dumps(value, indent=indent, ensure_ascii=False))
    except RecursionError:
        return TOO_DEEP


def change_text(now: Score, before: Score | None, *, has_other_data: bool = False) -> str:
    """How a score differs from an earlier one, in words and signs that need no colour.

    Args:
        now: the score.
        before: the earlier one, None when there was none.
        has_other_data: the earlier one is of other data, so that more or less is neither better nor worse.
    """
    if before is None:
        return "new"
    label = OTHER_DATA if has_other_data else ""
    was = value_text(before)
    if before.passed is not None and before.passed is not now.passed and not before.scoring_failed:
        was += f" {PASS if before.passed else FAIL}"
        same = f"same, was {was}"
    else:
        same = "same"
    if now.scoring_failed or before.scoring_failed:
        return f"{label}{same if now.scoring_failed and before.scoring_failed else f'was {was}'}"
    value, earlier = number_in(now.value), number_in(before.value)
    if value is None or earlier is None:
        return f"{label}{same if value_text(now) == value_text(before) else f'was {was}'}"
    difference = EXACTLY.subtract(value, earlier)
    if difference == 0:
        return f"{label}{same}"
    arrow = "" if has_other_data else f"{UP if difference > 0 else DOWN} "
    return f"{label}{arrow}{'+' if difference > 0 else ''}{number_text(difference)}, was {was}"


def verdict_text(score: Score) -> str:
    """Whether the score passes, and from where on; empty if the metric says neither."""
    if score.scoring_failed:
        return ""
    mark = "" if score.passed is None else PASS if score.passed else FAIL
    return " ".join(filter(None, (mark, _threshold_text(score))))


def _threshold_text(score: Score) -> str:
    if score.threshold is None:
        return ""
    value, threshold = number_in(score.value), number_in(score.threshold)
    # Less is better where what lies below passes, or what lies above fails.
    is_most = (
        None not in (value, threshold, score.passed)
        and value != threshold
        and score.passed is not (value > threshold)  # type: ignore[operator]  # neither is None
    )
    return f"{AT_MOST if is_most else AT_LEAST} {number_text(score.threshold)}"


def number_in(value: JsonValue) -> Decimal | None:
    """The number as it is written (0.6 less 0.5 is 0.1); None for NaN, infinities and what is beyond a float."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    if not abs(value) < LARGEST_NUMBER:  # not less: NaN, too
        return None
    return _exact(value)


def number_of(value: JsonValue) -> Decimal | None:
    """The number as it is written, whatever its size; None for what is no number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return _exact(value) if is_number else None  # type: ignore[arg-type]  # it is one


def _exact(value: float | Decimal) -> Decimal:
    return Decimal(float.__repr__(value) if isinstance(value, float) else value)


def one_line(text: str) -> str:
    """The text without line breaks and without characters that control a terminal."""
    return _visible(" ".join(without_ansi(text).split()))


def time_since(secs: float) -> str:
    """How long ago it was, in its largest unit."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if secs >= size:
            return f"{int(secs // size)} {unit} ago"
    return f"{max(int(secs), 0)} s ago"


def shown(text: str) -> str:
    """The text without escape sequences and control characters; line breaks and tabs stay."""
    return _visible(without_ansi(text).replace("\r\n", "\n"))


def _visible(text: str) -> str:
    return text if text.isprintable() else _ODD.sub(_visible_character, text)


def _visible_character(match: re.Match[str]) -> str:
    one = match[0]
    return one if one.isprintable() or one in _JOINERS else "\N{REPLACEMENT CHARACTER}"


def longest(cell: Cell) -> int:
    """How many characters of a cell are seen without a click."""
    return LONGEST.get(cell.role, LONGEST_NAME)


def shortened(text: str, most: int) -> str:
    """The beginning of a text of one line, and how long it is if that is not all of it."""
    return text if len(text) <= most else f"{text[:most].rstrip()}... [{len(text):,} characters]"


def is_right_to_left(text: str) -> bool:
    """Whether some of the text runs from right to left, which may reverse what stands beside it."""
    return not text.isascii() and not _RIGHT_TO_LEFT.isdisjoint(map(unicodedata.bidirectional, text))
