"""Secret values, and what stands for them in everything that a run prints or comes to."""

from __future__ import annotations

import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from isolated_magic.child.lengths import CUT
from isolated_magic.needles import CREDENTIAL_NAMES, Needles, looks_like_credentials
from isolated_magic.text import without_ansi

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from isolated_magic.models import JsonObject, JsonValue

__all__ = [
    "CREDENTIAL_NAMES",
    "MASK",
    "Redactor",
    "SecretText",
    "StreamRedactor",
    "is_credential",
    "looks_like_credentials",
    "redactor_for",
    "secret_values",
]

MASK = "***"

# What a variable with the name of a credential holds without being a secret: TOKENIZERS_PARALLELISM=false,
# MAX_TOKENS=4096.
_SWITCH = re.compile(r".{0,3}|true|false|none|null|auto|default|enabled?|disabled?", re.IGNORECASE)
_COUNT = re.compile(r"\d{1,7}")
_CUT = re.compile(CUT)


class SecretText(str):
    """A value to hide, where names of variables are expected. Its repr does not show it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({MASK!r})"


def is_credential(name: str, value: str, patterns: Collection[str]) -> bool:
    """Whether a variable's name says that its value is a secret, and its value does not say that it is a setting.

    Args:
        name: of the variable.
        value: of the variable.
        patterns: of names of credentials.
    """
    return looks_like_credentials(name, patterns) and not _is_setting(name, value)


def secret_values(environment: Mapping[bytes, bytes], names: Collection[str]) -> tuple[str, ...]:
    """The values to hide, sorted.

    Args:
        environment: of the run.
        names: of variables, patterns of names, or :class:`SecretText`. What a pattern finds is passed over when
            it is a setting rather than a secret: "true" or such, less than four characters, a number of tokens.
    """
    if not names:
        return ()
    patterns = tuple(name for name in names if _is_pattern(name))
    found = {str(value) for value in names if isinstance(value, SecretText)}
    for raw_name, raw_value in environment.items():
        name, value = os.fsdecode(raw_name), os.fsdecode(raw_value)
        if name in names or is_credential(name, value, patterns):
            found.add(value)
    return tuple(sorted(value for value in found if value.strip()))


def _is_setting(name: str, value: str) -> bool:
    is_count = "TOKEN" in name.upper() and _COUNT.fullmatch(value)
    return bool(is_count or _SWITCH.fullmatch(value))


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


class Redactor:
    """Puts MASK in the place of each secret.

    Args:
        values: the secrets; at least one.
    """

    def __init__(self, values: Collection[str]) -> None:
        self.needles = Needles(values)
        self._values = frozenset(values)
        self._numbers = {number for number in map(_number_in, values) if number is not None}

    def text(self, text: str) -> str:
        """The text without secrets; without ANSI codes where they stand in the middle of one.

        Args:
            text: all of it, so that no secret is cut off at its end.
        """
        hidden = self._hidden(text)
        if "\x1b" in hidden:
            plain = without_ansi(hidden)
            hidden_too = self._hidden(plain)
            return hidden if hidden_too == plain else hidden_too
        return hidden

    def _hidden(self, text: str) -> str:
        stream = StreamRedactor(self)
        certain = stream.feed(text)
        rest = stream.end()
        return certain + rest if rest else certain

    def cut_text(self, text: str) -> str:
        """The text without secrets, nor the beginning of one at its end.

        Args:
            text: the first part of a longer one.
        """
        stream = StreamRedactor(self)
        certain = stream.feed(text)
        return certain + (MASK if stream.holds_text else "")

    def shortened_text(self, text: str) -> str:
        """The text without secrets, nor what may be a part of one where the child has cut it.

        Args:
            text: of which ``child/lengths.py`` may have left out the middle.
        """
        cut = _CUT.search(text)
        if cut is None:
            return self.text(text)
        before, after = self.cut_text(text[: cut.start()]), self.text(text[cut.end() :])
        mask = after.find(MASK)
        doubtful = min(self.needles.longest, mask if mask >= 0 else len(after))
        return f"{before}{cut[0]}{after[doubtful:]}"

    def object(self, value: JsonObject) -> JsonObject:
        """The object without secrets in its strings and keys; a number that is one becomes MASK.

        Args:
            value: any JSON object.

        Raises:
            RecursionError: it holds a secret somewhere, and is nested too deeply to be taken apart.
        """
        if not self._is_in(value):
            return value
        return self._masked_object(value)

    def _is_in(self, value: JsonValue) -> bool:
        """Whether there is a secret somewhere in it, however deep."""
        waiting = [value]
        while waiting:
            item = waiting.pop()
            if isinstance(item, dict):
                waiting += item.keys()
                waiting += item.values()
            elif isinstance(item, list):
                waiting += item
            elif self._masked_leaf(item) is not item:
                return True
        return False

    def _masked_object(self, value: JsonObject) -> JsonObject:
        return {self.text(key): self._masked(item) for key, item in value.items()}

    def _masked(self, value: JsonValue) -> JsonValue:
        if isinstance(value, dict):
            return self._masked_object(value)
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        return self._masked_leaf(value)

    def _masked_leaf(self, value: JsonValue) -> JsonValue:
        """A string without secrets, a number that is none; the value itself where there is nothing to hide."""
        if isinstance(value, str):
            hidden = self.text(value)
            return value if hidden == value else hidden
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and self._numbers and _number_in(json.dumps(value)) in self._numbers:
            return MASK
        return MASK if value is not None and json.dumps(value) in self._values else value


def _number_in(text: str) -> float | None:
    """The size of the number that a text is, None when it is none."""
    try:
        return abs(float(text))
    except (ValueError, OverflowError):
        return None


@lru_cache(maxsize=16)
def redactor_for(values: tuple[str, ...]) -> Redactor | None:
    """What hides these values, None when there are none.

    Args:
        values: the secrets.
    """
    return Redactor(values) if values else None


class StreamRedactor:
    """Hides secrets in text that comes in pieces, cut anywhere. Holds back what may be the beginning of one.

    Each place in the text is looked at when it comes, and again only as long as a secret may have begun there.

    Args:
        redactor: None to pass everything.
    """

    def __init__(self, redactor: Redactor | None) -> None:
        self._needles = redactor.needles if redactor is not None else None
        self._held = ""
        self._pending: list[int] = []  # places in what is held where a secret may have begun
        self._found: list[tuple[int, int]] = []  # secrets in it, from where to where
        self._covered = 0  # up to where MASK stands already for what is held

    @property
    def holds_text(self) -> bool:
        """Whether it holds back what no MASK stands for."""
        return len(self._held) > self._covered

    def feed(self, text: str) -> str:
        """Take in text and return what is certain.

        Args:
            text: the next piece.
        """
        if self._needles is None or not text:
            return text
        before = len(self._held)
        text = self._held + text
        pending: list[int] = []
        for places in (self._pending, self._needles.candidates(text, before)):
            for place in places:
                if self._needles.may_go_on(text, place):
                    pending.append(place)
                else:
                    self._note(text, place)
        self._pending = pending
        return self._certain(text, pending[0] if pending else len(text))

    def _note(self, text: str, place: int) -> None:
        end = self._needles.end_at(text, place) if self._needles is not None else place
        if end > place:
            self._found.append((place, end))

    def _certain(self, text: str, limit: int) -> str:
        """What is certain up to there, those secrets that overlap as one; the rest is held."""
        if not self._found and not self._covered:
            self._held = text[limit:]
            self._pending = [place - limit for place in self._pending]
            return text[:limit] if limit < len(text) else text
        parts: list[str] = []
        covered = self._covered
        self._found.sort()
        later: list[tuple[int, int]] = []
        for start, end in self._found:
            if start >= limit:
                later.append((start - limit, end - limit))
                continue
            if start >= covered:
                parts += [text[covered:start], MASK]
            covered = max(covered, end)
        parts.append(text[covered:limit])
        self._held = text[limit:]
        self._pending = [place - limit for place in self._pending]
        self._found, self._covered = later, max(0, covered - limit)
        return "".join(parts)

    def end(self) -> str:
        """What is held back, when nothing more comes."""
        for place in self._pending:
            self._note(self._held, place)
        self._pending = []
        return self._certain(self._held, len(self._held))
