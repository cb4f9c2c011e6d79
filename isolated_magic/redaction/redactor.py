"""Chooses which values of a run are secret, and masks them in its output, errors and results.

A value is found as it is and as programs write it (see matching.py), also across colours and the line ends
of wrapped Base64.
"""

from __future__ import annotations

import fnmatch
import json
import math
import os
import re
from contextlib import suppress
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

from isolated_magic.redaction.matching import Finder, Needles, View, merged, needles_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from isolated_magic.redaction.matching import Span
    from isolated_magic.strict_json import JsonObject, JsonValue


MASK = "***"
SHORTEST_SECRET = 4  # characters: shorter ones are parts of other words
TOO_SHORT = (
    f"its value has fewer than {SHORTEST_SECRET} characters, and hiding it would hide parts of other words."
)

# Names of variables whose values are secrets: shell patterns, case-insensitive.
CREDENTIAL_NAMES = (
    *("*_KEY", "*APIKEY*", "*API_KEY*", "*ACCESS_KEY*", "*PRIVATE_KEY*"),
    *("*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*CREDENTIAL*", "*_AUTH"),
)
# Values of such variables that are settings: TOKENIZERS_PARALLELISM=false, MAX_TOKENS=4096.
_SWITCH = re.compile(r"true|false|none|null|auto|default|enabled?|disabled?", re.IGNORECASE)
_COUNT = re.compile(r"\d{1,7}")

MOST_HELD = 8192  # characters of a possible beginning of a secret, with terminal escapes
CONTEXT = 80  # characters before a line end that show whether it is one of wrapped Base64


def looks_like_credentials(name: str, patterns: Collection[str]) -> bool:
    """Whether a variable's name matches one of the patterns for credentials."""
    return _matches(name, tuple(patterns))


def is_credential(name: str, value: str, patterns: Collection[str]) -> bool:
    """Whether a variable is named like a credential and its value is no mere setting."""
    return looks_like_credentials(name, patterns) and not _is_setting(name, value)


@lru_cache(maxsize=4096)
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def secret_values(environment: Mapping[bytes, bytes], names: Collection[str]) -> tuple[str, ...]:
    """The values to hide, sorted.

    Args:
        environment: of the run.
        names: of variables, patterns of names, or Secret values. A pattern passes over settings: words such as
            "true", fewer than four characters, numbers of tokens.
    """
    if not names:
        return ()
    found = {str(name) for name in names if isinstance(name, Secret)}
    names = [name for name in names if not isinstance(name, Secret)]
    patterns = tuple(name for name in names if _is_pattern(name))
    for raw_name, raw_value in environment.items():
        name, value = os.fsdecode(raw_name), os.fsdecode(raw_value)
        if name in names or is_credential(name, value, patterns):
            found.add(value)
    return tuple(sorted(value for value in found if value.strip()))


def is_too_short(value: str) -> bool:
    """Whether a value is too short to be hidden: it is part of too many words. Blank values are never hidden."""
    return bool(value.strip()) and len(value) < SHORTEST_SECRET


def _is_setting(name: str, value: str) -> bool:
    is_count = "TOKEN" in name.upper() and _COUNT.fullmatch(value)
    return bool(is_count or len(value) < SHORTEST_SECRET or _SWITCH.fullmatch(value))


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


class Secret(str):
    """A value to hide, for use among the names of variables in ``secrets=``.

    Its ``repr`` is masked; everything else is the string itself.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor, Secret
        >>> secrets = [Secret("s3cr3t")]
        >>> with IsolatedSubprocessExecutor() as executor:
        ...     result = executor.run("print('the key is', data['key'])", {"key": "s3cr3t"}, secrets=secrets)
        >>> result.stdout.strip()
        'the key is ***'
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK!r})"


class Redactor:
    """Replaces secrets by MASK. Needs at least one value."""

    def __init__(self, values: Collection[str]) -> None:
        self._values = frozenset(values)
        self._numbers = frozenset(number for value in values for number in _numbers_in(value))
        self._needles = Needles({needle for value in values for needle in needles_of(value)})
        self._finder = Finder(self._needles)

    @cached_property
    def _reversed(self) -> Needles:
        return Needles(needle[::-1] for needle in self._needles.sorted)

    def text(self, text: str) -> str:
        """The text without secrets. It must be complete: a secret cut off at its end would stay."""
        return _masked_at(self.spans(text), text)

    def cut_text(self, text: str, *, at_start: bool = False, at_end: bool = True) -> str:
        """The text without secrets, and without parts of secrets at the sides where it was cut."""
        spans = self.spans(text)
        certain = self.undecided_from(text) if at_end else len(text)
        if certain < len(text):
            spans.append((certain, len(text)))
        before = len(text) - self._reversed.undecided_from(text[::-1]) if at_start else 0
        if before:
            spans.append((0, before))
        return _masked_at(merged(spans), text)

    def is_secret(self, text: str) -> bool:
        """Whether the text consists of nothing but secrets."""
        return self.spans(text) == [(0, len(text))]

    def spans(self, text: str) -> list[Span]:
        """The places of secrets, sorted; those that overlap or touch are one span."""
        view = View(text)
        spans = self._finder.spans(text)
        return merged([*spans, *map(view.span, self._finder.spans(view.text))]) if view.is_other else spans

    def undecided_from(self, text: str) -> int:
        """The index from which on the text may be the beginning of a secret; its length for none."""
        tail = text[-MOST_HELD:]
        found, view = self._needles.undecided_from(tail), View(tail)
        if view.is_other:
            seen = self._needles.undecided_from(view.text)
            found = min(found, view.original(seen)) if seen < len(view.text) else found
        return len(text) - len(tail) + found

    def object(self, value: JsonObject) -> JsonObject:
        """The object without secrets in its strings and keys; a number that is a secret becomes MASK.

        Raises:
            RecursionError: it holds a secret, and is nested too deeply to be rebuilt.
        """
        return self._masked_object(value) if self._is_in(value) else value

    def _is_in(self, value: JsonObject) -> bool:
        texts: list[str] = []
        waiting: list[JsonValue] = [value]
        while waiting:
            current = waiting.pop()
            if isinstance(current, dict):
                texts += current
                waiting += current.values()
            elif isinstance(current, list):
                waiting += current
            elif isinstance(current, str):
                texts.append(current)
            elif self._is_number(current):
                return True
        return bool(self.spans("\0".join(texts)))  # no variable holds a NUL

    def _is_number(self, value: JsonValue) -> bool:
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return json.dumps(value) in self._values
        return abs(value) in self._numbers or (isinstance(value, float) and json.dumps(value) in self._values)

    def _masked_object(self, value: JsonObject) -> JsonObject:
        return {self.text(key): self._masked(item) for key, item in value.items()}

    def _masked(self, value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self._masked_object(value)
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        return MASK if self._is_number(value) else value


def _masked_at(spans: Iterable[Span], text: str) -> str:
    parts: list[str] = []
    done = 0
    for start, end in spans:
        parts += [text[done:start], MASK]
        done = end
    return "".join([*parts, text[done:]]) if parts else text


def _numbers_in(value: str) -> Iterator[int | float]:
    """The absolute value of a secret that is a number: exact, and as a float."""
    for read in (int, float):
        with suppress(ValueError, OverflowError):
            number = abs(read(value))
            if number < math.inf:
                yield number


@lru_cache(maxsize=256)  # the rows of an evaluation may have those of many tenants in turn
def redactor_for(values: tuple[str, ...]) -> Redactor | None:
    """A Redactor for these values, None when there are none."""
    return Redactor(values) if values else None


class StreamRedactor:
    """Hides secrets in a text that comes in pieces. Holds back what may be the beginning of a secret."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._buffer = ""  # CONTEXT characters that were passed on, then what is held back
        self._done = 0  # characters of it that were passed on or hidden
        self._is_hidden = False  # they end with a secret: one that follows directly needs no second mask

    def feed(self, text: str) -> str:
        """Take in a piece, and return what certainly holds no secret."""
        if not text:
            return text
        buffer = self._buffer + text
        return self._passed(buffer, self._redactor.undecided_from(buffer))

    def end(self) -> str:
        """Return what is held back: the text is complete."""
        rest = self._passed(self._buffer, len(self._buffer))
        self._buffer, self._done, self._is_hidden = "", 0, False
        return rest

    def _passed(self, buffer: str, certain: int) -> str:
        parts: list[str] = []
        done = self._done
        for start, end in self._redactor.spans(buffer):
            if end <= done:
                continue
            if start > certain:
                break
            if start > done or not self._is_hidden:
                parts += [buffer[done:start], MASK]
            done, self._is_hidden = end, True
        if certain > done:
            parts.append(buffer[done:certain])
            done, self._is_hidden = certain, False
        kept = max(0, min(certain, done) - CONTEXT)
        self._buffer, self._done = buffer[kept:], done - kept
        return "".join(parts)
