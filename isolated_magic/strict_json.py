"""Decode the JSON that a run wrote as its result, or say why it is refused.

JSON with scores outranks JSON without (:class:`Rank`), whichever comes first.

Stricter than :func:`json.loads`, which silently keeps the last of two values under one key.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, TypeAlias

from isolated_magic.child.result import elide_middle

if TYPE_CHECKING:
    from collections.abc import Callable


JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

LARGEST_RESULT_BYTES = 64 << 20
SCORES_KEY = '"scores"'  # as each program writes it
LONGEST_QUOTE = 200  # characters of output that an error quotes


class RefusedError(ValueError):
    """JSON that cannot be a result; the text is a predicate, such as ``is nested too deeply``."""


class Rank(IntEnum):
    """How likely a JSON object is meant as the result."""

    PLAIN = 0  # such as a structured log line: the result only when nothing else is
    BARE = 1  # a number as the last expression: perhaps a status or a count of written bytes
    SCORED = 2


def rank_of(payload: JsonObject) -> Rank:
    """The rank of a JSON object."""
    scores = payload.get("scores")
    if not isinstance(scores, list):
        return Rank.PLAIN
    return Rank.SCORED if not scores or any(map(_has_name, scores)) else Rank.PLAIN


def _has_name(score: JsonValue) -> bool:
    return isinstance(score, dict) and isinstance(score.get("name"), str)


@dataclass(frozen=True)
class Printed:
    """A printed line that begins like a JSON object, and may be the result."""

    value: JsonObject | None  # None when the line is no result
    problem: str = ""  # the reason, as the beginning of a sentence
    is_refused: bool = False  # it is a JSON object, but cannot be a result
    rank: Rank = Rank.PLAIN  # presumed from the text for a refused one
    is_late: bool = False  # printed after the last expression was evaluated

    @property
    def counts(self) -> bool:
        """Whether the line is a JSON object, refused or not."""
        return self.value is not None or self.is_refused

    def goes_before(self, other: Rank) -> bool:
        """Whether the line is the result rather than the value of the last expression, whose rank is given."""
        return self.counts and (self.rank >= other if self.is_late else self.rank > other)


def too_large(size: int) -> RefusedError:
    """The error for a result of so many bytes."""
    most = LARGEST_RESULT_BYTES >> 20
    return RefusedError(f"has more than {most} MB: {size:,} bytes")


def decode(text: str | bytes) -> JsonValue:
    """The value of a JSON text. NaN and infinities are allowed, as Python writes them.

    Raises:
        json.JSONDecodeError: the text is not JSON.
        RefusedError: it cannot be a result: repeated keys, too many digits, nested too deeply.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        value: JsonValue
        try:
            value, end = _scan_once(text, 0)
        except (json.JSONDecodeError, StopIteration):
            end = -1
        if end != len(text):  # white space around it, or an error
            value = _decoder.decode(text)
    except (json.JSONDecodeError, RefusedError, UnicodeDecodeError):
        raise
    except ValueError:
        most = sys.get_int_max_str_digits()
        raise RefusedError(f"holds an integer of more than {most:,} digits") from None
    except RecursionError:
        raise RefusedError("is nested too deeply") from None
    return value


def _unique(pairs: list[tuple[str, JsonValue]]) -> JsonObject:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # None
        raise RefusedError(f"has the key {json.dumps(twice)} twice in one object")
    return found


_decoder = json.JSONDecoder(object_pairs_hook=_unique)
_scan_once = _decoder.scan_once  # type: ignore[attr-defined]  # what decode() calls, without white space around it


def check_names(payload: JsonObject) -> Rank:
    """Refuse a result in which a score has no name; return its rank.

    Raises:
        RefusedError: naming the path.
    """
    scores = payload.get("scores")
    rank = rank_of(payload)
    has_scores = rank is Rank.SCORED
    for index, score in enumerate(scores if isinstance(scores, list) else ()):
        if _has_name(score):
            continue
        if not isinstance(score, dict):
            if has_scores:
                raise RefusedError(f"has an element of scores that is not a score: scores[{index}]")
        elif "name" in score and (has_scores or "value" in score):
            kind = type(score["name"]).__name__
            raise RefusedError(f"has a score whose name is not a string: scores[{index}].name is {kind}")
        elif "value" in score:
            raise RefusedError(f"has a value without a name: scores[{index}]")
        elif has_scores:
            raise RefusedError(f"has a score without a name: scores[{index}]")
    return rank


def read_line(line: str, redact: Callable[[str], str] = str, *, is_late: bool = False) -> Printed:
    """Read a line that begins with ``{``, without surrounding white space.

    Args:
        line: the text.
        redact: hides secrets in quotes.
        is_late: see :class:`Printed`.
    """
    try:
        value = decode(line)
        if not isinstance(value, dict):  # not reached: it begins with a brace
            return Printed(None, is_late=is_late)
        rank = check_names(value)
    except json.JSONDecodeError as problem:
        told = f"the last line printed begins like a JSON object, but {_where(problem, redact)}"
        return Printed(None, told, is_late=is_late)
    except RefusedError as problem:
        why = elide_middle(redact(str(problem)), 2 * LONGEST_QUOTE)  # before it is cut: half a secret is none
        told = f"the last line printed {why}: {quoted(line, redact=redact)}"
        return Printed(None, told, is_refused=True, rank=presumed_rank(line), is_late=is_late)
    return Printed(value, rank=rank, is_late=is_late)


def presumed_rank(text: str) -> Rank:
    """The rank that a refused line may have, from its text or its beginning."""
    return Rank.SCORED if SCORES_KEY in text else Rank.PLAIN


def _where(problem: json.JSONDecodeError, redact: Callable[[str], str]) -> str:
    line, column = problem.doc, problem.colno
    if problem.msg.startswith("Unterminated string"):
        found = quoted(line, problem.pos, redact)
        return f"ends in the middle of the text that begins at column {column}: {found}"
    if problem.pos >= len(line):
        return f"ends in the middle, after column {len(line)}: {quoted(line, len(line), redact)}"
    return f"is invalid: {problem.msg.removesuffix(' at')} at column {column}: {quoted(line, problem.pos, redact)}"


def quoted(text: str, position: int = 0, redact: Callable[[str], str] = str) -> str:
    """The repr of at most LONGEST_QUOTE characters of the text, those at the position among them."""
    text, position = redact(text), len(redact(text[:position]))  # before it is cut: half a secret is none
    if len(text) <= LONGEST_QUOTE:
        return repr(text)
    start = max(0, min(position - LONGEST_QUOTE // 2, len(text) - LONGEST_QUOTE))
    end = start + LONGEST_QUOTE
    return f"{'...' if start else ''}{text[start:end]!r}{'...' if end < len(text) else ''}"


def comparable(value: JsonValue) -> list[object]:
    """A flat list for comparing values of any depth, in which NaN equals itself."""
    told: list[object] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            keys = sorted(item)
            told.append(("object", keys))
            waiting += [item[key] for key in keys]
        elif isinstance(item, list):
            told.append(("list", len(item)))
            waiting += item
        else:
            told.append(math.nan if isinstance(item, float) and math.isnan(item) else item)  # one object
    return told
