"""What programs make of a secret when they write it: the texts to look for."""

from __future__ import annotations

import base64
import html
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SHORTEST_LINE = 8  # of a secret of several lines, to be hidden by itself
SHORTEST_LEAF = 6  # text within a secret that is JSON, to be hidden by itself
SHORTEST_ENCODED = 4  # characters of a value whose encodings are hidden, too: those of "a" are everywhere
SHORTEST_BASE64 = 6  # characters
# A longer text is looked for in pieces, which are hidden as one where they follow one another. So no more than
# this is ever held back, and what is left of a long secret that was cut is hidden, too.
PIECE = 256


def needles_of(value: str) -> set[str]:
    """The texts to look for, none longer than PIECE.

    The whole value in all encodings; of a value of several lines each line, plain and quoted for JSON and Python;
    of one that is JSON each text in it, and what it looks like when it was read and written again.

    Args:
        value: a secret.
    """
    found = {piece for whole in _wholes(value) for text in _written(whole) for piece in _pieces(text)}
    for whole in {value, *_leaves(value)}:
        for line in _lines(whole):
            for text in _quoted(line):
                found.update(_pieces(text))
    found.discard("")
    return found


def _wholes(value: str) -> Iterator[str]:
    decoded = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")  # as output is
    yield from {value, value.strip(), decoded}
    parsed = _parsed(value)
    if parsed is not None:
        for separators in (None, (",", ":")):
            for ascii_only in (True, False):
                yield json.dumps(parsed, separators=separators, ensure_ascii=ascii_only)
        yield from _leaves(value)


def _parsed(value: str) -> object:
    """What JSON holds, None when it is none that holds anything."""
    if not value.lstrip().startswith(("{", "[")):
        return None
    try:
        parsed: object = json.loads(value)
    except (ValueError, RecursionError):
        return None
    return parsed


def _leaves(value: str) -> Iterator[str]:
    waiting = [_parsed(value)]
    while waiting:
        current = waiting.pop()
        if isinstance(current, dict):
            waiting += current.values()
        elif isinstance(current, list):
            waiting += current
        elif isinstance(current, str) and len(current.strip()) >= SHORTEST_LEAF:
            yield current


def _lines(value: str) -> Iterator[str]:
    if "\n" in value.strip():
        for line in value.splitlines():
            text = line.strip()
            if len(text) >= SHORTEST_LINE and not text.startswith("-----"):
                yield text


def _pieces(text: str) -> Iterator[str]:
    if len(text) <= PIECE:
        yield text
        return
    for start in range(0, len(text) - PIECE, PIECE):
        yield text[start : start + PIECE]
    yield text[-PIECE:]


def _written(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    if len(value) >= SHORTEST_ENCODED:
        yield from _encodings(value)


def _quoted(value: str) -> Iterator[str]:
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]


def _encodings(value: str) -> Iterator[str]:
    raw = value.encode("utf-8", "surrogateescape")
    # A string with both kinds of quote escapes the single ones.
    quoted = {*_quoted(value), repr('"' + value)[2:-1]}
    yield from quoted
    for once in quoted:
        yield json.dumps(once)[1:-1]
        yield json.dumps(once, ensure_ascii=False)[1:-1]
    yield repr(raw)[2:-1]
    yield repr(b'"' + raw)[3:-1]
    yield html.escape(value, quote=False)
    escaped = html.escape(value)
    yield escaped
    for double in ("&quot;", "&#34;"):
        for single in ("&#x27;", "&#39;", "&apos;"):
            yield escaped.replace("&quot;", double).replace("&#x27;", single)
    for digits in (raw.hex(), raw.hex(":"), raw.hex(" ")):
        yield digits
        yield digits.upper()
    for quoted_url in (quote(raw), quote(raw, safe=""), quote_plus(raw)):
        yield quoted_url
        yield re.sub("%[0-9A-F]{2}", lambda match: match[0].lower(), quoted_url)
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
