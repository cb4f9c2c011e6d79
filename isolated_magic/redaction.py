"""Secret values, and what stands for them in everything that a run prints or comes to.

A value is found as it is, and as programs write it: quoted for JSON, Python, a URL, HTML or a shell of hexadecimal
digits, or as Base64, also inside a longer text that was encoded as a whole.
"""

from __future__ import annotations

import base64
import fnmatch
import html
import json
import os
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from isolated_magic.models import JsonObject, JsonValue

MASK = "***"

# Names of variables whose values are secrets, as shell patterns, whatever their case.
CREDENTIAL_NAMES = (
    *("*_KEY", "*APIKEY*", "*API_KEY*", "*ACCESS_KEY*", "*PRIVATE_KEY*"),
    *("*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*CREDENTIAL*", "*_AUTH"),
)
# What a variable of such a name holds without being a secret: TOKENIZERS_PARALLELISM=false, MAX_TOKENS=4096.
_SWITCH = re.compile(r".{0,3}|true|false|none|null|auto|default|enabled?|disabled?", re.IGNORECASE)
_COUNT = re.compile(r"\d{1,7}")

SHORTEST_LINE = 8  # of a secret of several lines, to be hidden by itself
SHORTEST_ENCODED = 4  # characters of a value whose encodings are hidden, too: those of "a" are everywhere
SHORTEST_BASE64 = 6  # characters


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
        names: of variables, or patterns of names. What a pattern finds is passed over when it is a setting
            rather than a secret: a word such as "true", less than four characters, or a number of tokens.
    """
    if not names:
        return ()
    patterns = tuple(name for name in names if _is_pattern(name))
    found = set()
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
        self._values = frozenset(values)
        self._needles = sorted({needle for value in values for needle in _needles(value)}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, self._needles)))
        self._longest = len(self._needles[0])
        self._beginnings = frozenset(needle[0] for needle in self._needles)

    def text(self, text: str) -> str:
        """The text without secrets.

        Args:
            text: all of it, so that no secret is cut off at its end.
        """
        if self._pattern.search(text) is None:
            return text
        parts: list[str] = []
        done = 0
        for start, end in self.spans(text):
            parts += [text[done:start], MASK]
            done = end
        return "".join([*parts, text[done:]])

    def cut_text(self, text: str) -> str:
        """The text without secrets, nor the beginning of one at its end.

        Args:
            text: the first part of a longer one.
        """
        certain = self.undecided_from(text)
        return self.text(text[:certain]) + (MASK if certain < len(text) else "")

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Where secrets are: those that overlap as one.

        Args:
            text: any.
        """
        position = 0
        while match := self._pattern.search(text, position):
            start, end = match.span()
            inside = start + 1
            while inside < end:
                other = self._pattern.match(text, inside)
                if other is not None:
                    end = max(end, other.end())
                inside += 1
            yield start, end
            position = end

    def undecided_from(self, text: str) -> int:
        """The index from which on the text may be a secret whose rest has not come yet; its length for none.

        Args:
            text: what came so far.
        """
        start = max(0, len(text) - self._longest + 1)
        found = next((index for index in range(start, len(text)) if self._may_begin(text, index)), len(text))
        for begin, end in self.spans(text):
            if begin < found < end:
                return begin
        return found

    def _may_begin(self, text: str, index: int) -> bool:
        if text[index] not in self._beginnings:
            return False
        length = len(text) - index
        return any(len(needle) > length and text.startswith(needle[:length], index) for needle in self._needles)

    def object(self, value: JsonObject) -> JsonObject:
        """The object without secrets in its strings and keys; a number that is one becomes MASK.

        Args:
            value: any JSON object.

        Raises:
            RecursionError: it holds a secret somewhere, and is nested too deeply to be taken apart.
        """
        if self._pattern.search(json.dumps(value)) is None:
            return value
        return {self.text(key): self._masked(item) for key, item in value.items()}

    def _masked(self, value: JsonValue) -> JsonValue:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self.object(value)
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        return MASK if json.dumps(value) in self._values else value


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
        self._held = ""

    def feed(self, text: str) -> str:
        """Take in text and return what is certain.

        Args:
            text: the next piece.
        """
        if self._redactor is None:
            return text
        text = self._held + text
        certain = self._redactor.undecided_from(text)
        self._held = text[certain:]
        return self._redactor.text(text[:certain])

    def end(self) -> str:
        """What is held back, when nothing more comes."""
        held, self._held = self._held, ""
        return self._redactor.text(held) if self._redactor is not None else held


def _needles(value: str) -> Iterator[str]:
    """The value, its lines, and what programs make of it."""
    lines = [line.strip() for line in value.splitlines()] if "\n" in value.strip() else []
    decoded = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # as output is
    parts = [value, value.strip(), decoded]
    parts += [line for line in lines if len(line) >= SHORTEST_LINE and not line.startswith("-----")]
    for part in parts:
        yield part
        yield json.dumps(part)[1:-1]
        if len(part) >= SHORTEST_ENCODED:
            yield from _encodings(part)


def _encodings(value: str) -> Iterator[str]:
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]
    yield html.escape(value)
    raw = value.encode("utf-8", "surrogateescape")
    yield repr(raw)[2:-1]
    yield raw.hex()
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _base64_parts(raw, encode)


def _base64_parts(raw: bytes, encode: Callable[[bytes], bytes]) -> Iterator[str]:
    """The value by itself, and what is the same of it wherever it stands in a longer text (RFC 4648, 4)."""
    yield encode(raw).decode()
    for before in range(3):
        # Six bits a character: the first characters depend on the bytes before, the last one on those after.
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        part = encode(bytes(before) + raw).decode()[first:last]
        if len(part) >= SHORTEST_BASE64:
            yield part
