"""Secret values, and what stands for them in everything that a run prints or comes to.

A value is found as it is, and as programs write it (see matching.py), also across colours and the ends of lines of
wrapped Base64.
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

from isolated_magic.redaction.matching import Beginnings, Finder, View, merged, needles_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from isolated_magic.redaction.matching import Span
    from isolated_magic.strict_json import JsonObject, JsonValue


MASK = "***"
SHORTEST_SECRET = 4  # characters: what is shorter stands in other words, too
TOO_SHORT = (
    f"its value has fewer than {SHORTEST_SECRET} characters, and hiding it would hide parts of other words."
)

# Names of variables whose values are secrets, as shell patterns, whatever their case.
CREDENTIAL_NAMES = (
    *("*_KEY", "*APIKEY*", "*API_KEY*", "*ACCESS_KEY*", "*PRIVATE_KEY*"),
    *("*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*CREDENTIAL*", "*_AUTH"),
)
# What a variable of such a name holds without being a secret: TOKENIZERS_PARALLELISM=false, MAX_TOKENS=4096.
_SWITCH = re.compile(r"true|false|none|null|auto|default|enabled?|disabled?", re.IGNORECASE)
_COUNT = re.compile(r"\d{1,7}")

MOST_HELD = 8192  # characters at the end of a text that may be the beginning of a secret, with all that colours it
CONTEXT = 80  # characters by which the end of a line of wrapped text is told


def looks_like_credentials(name: str, patterns: Collection[str]) -> bool:
    """Whether a variable's name says that its value is a secret.

    Args:
        name: of the variable.
        patterns: of such names.
    """
    return _matches(name, tuple(patterns))


def is_credential(name: str, value: str, patterns: Collection[str]) -> bool:
    """Whether a variable's name says that its value is a secret, and its value does not say that it is a setting.

    Args:
        name: of the variable.
        value: of the variable.
        patterns: of names of credentials.
    """
    return looks_like_credentials(name, patterns) and not _is_setting(name, value)


@lru_cache(maxsize=4096)
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def secret_values(environment: Mapping[bytes, bytes], names: Collection[str]) -> tuple[str, ...]:
    """The values to hide, sorted.

    Args:
        environment: of the run.
        names: of variables, or patterns of names, or values. What a pattern finds is passed over when it is a
            setting rather than a secret: a word such as "true", less than four characters, or a number of tokens.
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
    """Whether a value is a part of so many words that it cannot be hidden. Blank ones are not hidden at all.

    Args:
        value: of a secret.
    """
    return bool(value.strip()) and len(value) < SHORTEST_SECRET


def _is_setting(name: str, value: str) -> bool:
    is_count = "TOKEN" in name.upper() and _COUNT.fullmatch(value)
    return bool(is_count or len(value) < SHORTEST_SECRET or _SWITCH.fullmatch(value))


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


class Secret(str):
    """A value to hide, where names of variables are given."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK!r})"


class Redactor:
    """Puts MASK in the place of each secret.

    Args:
        values: the secrets; at least one.
    """

    def __init__(self, values: Collection[str]) -> None:
        self._values = frozenset(values)
        self._numbers = frozenset(number for value in values for number in _numbers_in(value))
        self._needles = {needle for value in values for needle in needles_of(value)}
        self._finder = Finder(self._needles)
        self._beginnings = Beginnings(self._needles)

    @cached_property
    def _endings(self) -> Beginnings:
        return Beginnings(needle[::-1] for needle in self._needles)

    def text(self, text: str) -> str:
        """The text without secrets.

        Args:
            text: all of it, so that no secret is cut off at its end.
        """
        return _masked_at(self.spans(text), text)

    def cut_text(self, text: str, *, at_start: bool = False, at_end: bool = True) -> str:
        """The text without secrets, nor a part of one where it was cut.

        Args:
            text: a part of a longer one.
            at_start: whether something stood before it.
            at_end: whether something stood after it.
        """
        spans = self.spans(text)
        certain = self.undecided_from(text) if at_end else len(text)
        if certain < len(text):
            spans.append((certain, len(text)))
        before = len(text) - self._endings.undecided_from(text[::-1]) if at_start else 0
        if before:
            spans.append((0, before))
        return _masked_at(merged(spans), text)

    def is_secret(self, text: str) -> bool:
        """Whether there is nothing but secrets in it.

        Args:
            text: any.
        """
        return self.spans(text) == [(0, len(text))]

    def spans(self, text: str) -> list[Span]:
        """Where secrets are, in order: those that touch as one.

        Args:
            text: any.
        """
        view = View(text)
        spans = self._finder.spans(text)
        return merged([*spans, *map(view.span, self._finder.spans(view.text))]) if view.is_other else spans

    def undecided_from(self, text: str) -> int:
        """The index from which on the text may be a secret whose rest has not come yet; its length for none.

        Args:
            text: what came so far.
        """
        tail = text[-MOST_HELD:]
        found, view = self._beginnings.undecided_from(tail), View(tail)
        if view.is_other:
            seen = self._beginnings.undecided_from(view.text)
            found = min(found, view.original(seen)) if seen < len(view.text) else found
        return len(text) - len(tail) + found

    def object(self, value: JsonObject) -> JsonObject:
        """The object without secrets in its strings and keys; a number that is one becomes MASK.

        Args:
            value: any JSON object.

        Raises:
            RecursionError: it holds a secret somewhere, and is nested too deeply to be taken apart.
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
    """What a secret is as a number, without its sign: exactly, and as other programs read it."""
    for read in (int, float):
        with suppress(ValueError, OverflowError):
            number = abs(read(value))
            if number < math.inf:
                yield number


@lru_cache(maxsize=16)
def redactor_for(values: tuple[str, ...]) -> Redactor | None:
    """What hides these values, None when there are none.

    Args:
        values: the secrets.
    """
    return Redactor(values) if values else None


class StreamRedactor:
    """Hides secrets in text that comes in pieces, cut anywhere. Holds back what may be the beginning of one.

    Args:
        redactor: None to pass everything.
    """

    def __init__(self, redactor: Redactor | None) -> None:
        self._redactor = redactor
        self._buffer = ""  # the last of what was passed on, by which wrapped text is told, and what is held back
        self._done = 0  # characters of it that were passed on or hidden
        self._is_hidden = False  # the last of them were a secret, so that one that goes on there needs no mask

    def feed(self, text: str) -> str:
        """Take in text and return what is certain.

        Args:
            text: the next piece.
        """
        if self._redactor is None or not text:
            return text
        buffer = self._buffer + text
        return self._passed(self._redactor, buffer, self._redactor.undecided_from(buffer))

    def end(self) -> str:
        """What is held back, when nothing more comes."""
        if self._redactor is None:
            return ""
        rest = self._passed(self._redactor, self._buffer, len(self._buffer))
        self._buffer, self._done, self._is_hidden = "", 0, False
        return rest

    def _passed(self, redactor: Redactor, buffer: str, certain: int) -> str:
        parts: list[str] = []
        done = self._done
        for start, end in redactor.spans(buffer):
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
