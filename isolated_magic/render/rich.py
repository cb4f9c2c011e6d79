"""What a front end is given of a display: whatever the code was, the page that shows it runs no script of it.

A front end trusts what a cell has just shown: JupyterLab runs its scripts in its own page, where they may run
code in every kernel. So HTML is reduced to elements, attributes and styles that only look like something. Where it
needs scripts, it is shown in a frame of its own, which cannot reach the page. What else would run is left out.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING

from isolated_magic.render import clean_html
from isolated_magic.render.formatting import shown
from isolated_magic.sanitize import printable, printable_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from isolated_magic.strict_json import JsonValue

    Data: TypeAlias = dict[str, JsonValue]

PLAIN, HTML, MARKDOWN, LATEX = "text/plain", "text/html", "text/markdown", "text/latex"
SVG = "image/svg+xml"
# Data, which an extension of the front end draws. Vega's is no data: its expressions are compiled to JavaScript.
DATA_TYPES = frozenset(
    {
        "application/json",
        "application/geo+json",
        "application/vnd.dataresource+json",
        "application/vnd.plotly.v1+json",
    }
)
IMAGE_TYPES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp", "application/pdf"})
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_SIZES, _BACKGROUNDS = ("width", "height"), ("light", "dark")
LARGEST_PIXELS = 20_000
_SGR, _RESET = re.compile(r"(\x1b\[[\d;:]*m)"), "\x1b[0m"

# An HTML tag or comment, also one that Markdown would only see after a line break.
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_PLAIN_TAG = re.compile(
    r"</?(?:b|i|u|s|em|strong|del|ins|mark|small|sub|sup|kbd|code|br|hr|details|summary)\s?/?>", re.IGNORECASE
)
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)[^\s<>\"'`()]*)>", re.IGNORECASE)
_NO_TAG = "<\N{WORD JOINER}"  # looks the same in text and in code, and begins no element
_REMOTE_IMAGE = re.compile(r"!(?=\[)")
_SCRIPTING_LINK = re.compile(r"(?:\]\(|\]:|<)<?(?:javascript|vbscript|data|blob|file):", re.IGNORECASE)
_IGNORED_IN_LINKS = re.compile(r"[\x00-\x20\x7f\\]")
_MATH = re.compile(r"\$[^$\n]+\$")
_SCRIPTING_MACRO = re.compile(r"\\(?:href|url|require|style|class|cssId|data|html\w*|includegraphics|unicode)\b")


def safe_bundle(data: Mapping[str, JsonValue], metadata: Mapping[str, JsonValue]) -> tuple[Data, Data]:
    """The MIME bundle that a front end may show, with its metadata.

    Args:
        data: representations by MIME type; text, base64 of images, or JSON.
        metadata: by MIME type, such as the width of an image.

    Returns:
        Representations in the same order, without those that could not be made safe; there always is a
        ``text/plain``. The same input always gives the same bytes.
    """
    safe: Data = {}
    for mime, value in data.items():
        made = _safe(mime, value)
        if made is not None:
            safe[mime] = made
        elif mime == SVG and isinstance(value, str) and HTML not in data:
            safe[HTML] = clean_html.as_image(printable(value))
    if PLAIN not in safe:
        safe[PLAIN] = in_colors(_text_for(data))
    kept = {mime: _image_metadata(metadata.get(mime)) for mime in safe if mime in IMAGE_TYPES or mime == SVG}
    return safe, {mime: of_image for mime, of_image in kept.items() if of_image}


def plain_bundle(data: Mapping[str, JsonValue]) -> Data:
    """The text form alone."""
    text = data.get(PLAIN)
    return {PLAIN: in_colors(text if isinstance(text, str) else _text_for(data))}


def in_colors(text: str) -> str:
    """The text without what controls a terminal, but for colours and typefaces."""
    parts = _SGR.split(text)
    made = "".join(part if place % 2 else shown(part) for place, part in enumerate(parts))
    return f"{made}{_RESET}" if len(parts) > 1 and parts[-2] not in {_RESET, "\x1b[m"} else made


def _text_for(data: Mapping[str, JsonValue]) -> str:
    """What stands for a display that has no text form."""
    for mime in (MARKDOWN, LATEX):
        if isinstance(text := data.get(mime), str):
            return text
    return " ".join(f"<{mime}>" for mime in data)


def _image_metadata(given: JsonValue) -> JsonValue:
    """The size of an image and what it needs behind it: some pages write these into a tag as they are."""
    if not isinstance(given, dict):
        return None
    kept: Data = {
        name: size
        for name in _SIZES
        if isinstance(size := given.get(name), (int, float)) and 0 < size <= LARGEST_PIXELS
    }
    if given.get("needs_background") in _BACKGROUNDS:
        kept["needs_background"] = given["needs_background"]
    if given.get("unconfined") is True:
        kept["unconfined"] = True
    return kept


def _safe(mime: str, value: JsonValue) -> JsonValue:
    """The value as a front end may have it; None if it may not."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value) and mime.startswith("text/"):
        value = "".join(map(str, value))  # as notebooks are saved
    if isinstance(value, str) and mime in _TEXTS:
        return _TEXTS[mime](printable(value))
    if isinstance(value, str) and mime in IMAGE_TYPES:
        base64 = "".join(value.split())
        return base64 if base64 and len(base64) % 4 == 0 and _BASE64.fullmatch(base64) else None
    if mime in DATA_TYPES:
        return _safe_data(value)
    return None


def _safe_data(value: JsonValue) -> JsonValue:
    try:
        return printable_json(value)
    except RecursionError:
        return None


def _safe_html(html: str) -> str:
    if clean_html.needs_frame(html) or not clean_html.is_bounded(html):
        return clean_html.framed(html)
    return clean_html.cleaned(html)


def _safe_markdown(text: str) -> str | None:
    """Markdown without HTML, links that run something, and images that would be fetched."""
    if any(_SCRIPTING_LINK.search(_IGNORED_IN_LINKS.sub("", one)) for one in (text, unescape(text))):
        return None
    text = _AUTOLINK.sub(lambda match: match[1], _REMOTE_IMAGE.sub("", text))
    text = _MATH.sub(lambda match: _TAG.sub("< ", match[0]), text)
    return _safe_math(_TAG.sub(_escaped_tag, text))


def _escaped_tag(match: re.Match[str]) -> str:
    return "<" if _PLAIN_TAG.match(match.string, match.start()) else _NO_TAG


def _safe_math(text: str) -> str | None:
    """LaTeX without macros that link, style or load something; None if there are some."""
    return None if _SCRIPTING_MACRO.search(text) else text


def _safe_svg(svg: str) -> str | None:
    return clean_html.cleaned_svg(svg) if clean_html.is_bounded(svg) else None


_TEXTS: dict[str, Callable[[str], str | None]] = {
    PLAIN: in_colors,
    HTML: _safe_html,
    MARKDOWN: _safe_markdown,
    LATEX: _safe_math,
    SVG: _safe_svg,
}
