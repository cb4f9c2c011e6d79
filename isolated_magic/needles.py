"""What a secret may look like in a text: as it is, and as programs write it.

Quoted for JSON, Python, a URL or HTML, in hexadecimal digits, or as Base64, also inside a longer text that was
encoded as a whole. Of a secret of several lines each line counts, of one that is a JSON object its texts.
"""

from __future__ import annotations

import base64
import fnmatch
import html
import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from isolated_magic.models import JsonValue

# Names whose values are secrets, as shell patterns, whatever their case.
CREDENTIAL_NAMES = (
    *("*_KEY", "*APIKEY*", "*API_KEY*", "*ACCESS_KEY*", "*PRIVATE_KEY*"),
    *("*TOKEN*", "*SECRET*", "*PASSWORD*", "*PASSWD*", "*PASSPHRASE*", "*CREDENTIAL*", "*_AUTH"),
)

SHORTEST_PART = 8  # of a line of a secret, or of a text in it, to be hidden by itself
SHORTEST_ENCODED = 4  # characters of a value whose encodings are hidden, too: those of "a" are everywhere
SHORTEST_BASE64 = 6  # characters
MOST_ENCODED_LINES = 16  # of one secret; of more, as of a long certificate, lines are hidden as they are
BASE64_COLUMNS = (76, 64)  # of base64(1) and RFC 2045, of RFC 7468
PREFIX = 8  # characters by which needles are found
MOST_ALTERNATIVES = 64  # of a regular expression, before looking up each position is faster


def looks_like_credentials(name: str, patterns: Collection[str]) -> bool:
    """Whether a variable's name says that its value is a secret.

    Args:
        name: of the variable.
        patterns: of such names.
    """
    return _matches(name, tuple(patterns))


@lru_cache(maxsize=4096)
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


class Needles:
    """All that some secrets may look like, to be found in a text.

    Args:
        values: the secrets; at least one that is not empty.
    """

    def __init__(self, values: Iterable[str]) -> None:
        found = {needle for value in values for needle in _forms(value) if needle}
        self.longest = max(map(len, found))
        self._widths = sorted({min(len(needle), PREFIX) for needle in found}, reverse=True)
        self._by_prefix: dict[str, list[str]] = {}
        for needle in sorted(found, key=len, reverse=True):
            self._by_prefix.setdefault(needle[:PREFIX], []).append(needle)
        self._beginnings = {needle[:length] for needle in found for length in range(1, min(len(needle), PREFIX))}
        self._pattern: re.Pattern[str] | None = None
        if len(self._by_prefix) <= MOST_ALTERNATIVES:
            prefixes = sorted(self._by_prefix, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, prefixes)))

    def candidates(self, text: str, start: int) -> Iterator[int]:
        """Where a needle begins, or may begin when more text comes.

        Args:
            text: any.
            start: the first place to look at.
        """
        tail = max(start, len(text) - PREFIX + 1)
        yield from self._whole_prefixes(text, start, tail)
        for place in range(tail, len(text)):
            rest = text[place:]
            if rest in self._beginnings or any(rest[:width] in self._by_prefix for width in self._widths):
                yield place

    def _whole_prefixes(self, text: str, start: int, end: int) -> Iterator[int]:
        """Likewise, where there is text enough to see."""
        if self._pattern is None:
            known, widths = self._by_prefix, self._widths
            for place in range(start, end):
                for width in widths:
                    if text[place : place + width] in known:
                        yield place
                        break
            return
        while (match := self._pattern.search(text, start)) is not None and match.start() < end:
            yield match.start()
            start = match.start() + 1

    def end_at(self, text: str, place: int) -> int:
        """Where the longest needle ends that begins at this place; the place itself for none.

        Args:
            text: any.
            place: in it.
        """
        for width in self._widths:
            for needle in self._by_prefix.get(text[place : place + width], ()):
                if text.startswith(needle, place):
                    return place + len(needle)
        return place

    def may_go_on(self, text: str, place: int) -> bool:
        """Whether the text from this place on is the beginning of a needle, and not all of it.

        Args:
            text: any.
            place: in it.
        """
        left = len(text) - place
        if left < PREFIX:
            return text[place:] in self._beginnings
        same = self._by_prefix.get(text[place : place + PREFIX], ())
        return any(len(needle) > left and needle.startswith(text[place:]) for needle in same)


def _forms(value: str) -> Iterator[str]:
    decoded = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # as output is
    for part in {value, value.strip(), decoded}:
        yield from _written(part)
        if len(part) >= SHORTEST_ENCODED:
            yield from _encoded(part)
    lines = [line.strip() for line in value.splitlines()] if "\n" in value.strip() else []
    lines = [line for line in lines if len(line) >= SHORTEST_PART and not line.startswith("-----")]
    for line in lines:
        yield from _written(line)
        if len(lines) <= MOST_ENCODED_LINES:
            yield from _encoded(line)
    for text in _texts_in_json(value):
        yield from _written(text)
        yield from _encoded(text)


def _written(value: str) -> Iterator[str]:
    """As it is, and in JSON, which may be quoted in JSON."""
    yield value
    for escape in (True, False):
        once = json.dumps(value, ensure_ascii=escape)[1:-1]
        yield once
        if once != value:
            yield json.dumps(once, ensure_ascii=escape)[1:-1]


def _encoded(value: str) -> Iterator[str]:
    yield repr(value)[1:-1]
    for mark in "\"'":  # what stands before it in a longer text decides which quotes a repr writes
        written = repr(f"{mark}{value}")[1:-1]
        yield written.removeprefix("\\").removeprefix(mark)
    yield from _in_html(value)
    raw = value.encode("utf-8", "surrogateescape")
    yield repr(raw)[2:-1]
    for digits in (raw.hex(), raw.hex(":"), raw.hex(" ")):
        yield digits
        yield digits.upper()
    for quoted in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield from _base64_parts(raw, encode)


def _in_html(value: str) -> Iterator[str]:
    escaped = html.escape(value)
    yield escaped
    yield escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")
    yield html.escape(value, quote=False)


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
        for columns in BASE64_COLUMNS if before == 0 and len(part) > min(BASE64_COLUMNS) else ():
            lines = (part[at : at + columns] for at in range(0, len(part), columns))
            yield from (line for line in lines if len(line) >= SHORTEST_BASE64)


def _texts_in_json(value: str) -> Iterator[str]:
    """The texts in a secret that is a JSON object: the long ones, and those whose names are of credentials."""
    if not value.strip().startswith(("{", "[")):
        return
    try:
        waiting: list[tuple[str, JsonValue]] = [("", json.loads(value))]
    except (ValueError, RecursionError):
        return
    while waiting:
        name, item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.items()
        elif isinstance(item, list):
            waiting += [(name, one) for one in item]
        elif isinstance(item, str):
            shortest = SHORTEST_ENCODED if looks_like_credentials(name, CREDENTIAL_NAMES) else SHORTEST_PART
            if len(item.strip()) >= shortest:
                yield item
