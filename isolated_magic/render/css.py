"""Styles that change how an element looks and nothing else, and style sheets written into their elements."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    Attributes = list[tuple[str, str | None]]

# Nothing that takes an element out of its place: it could lie on top of the page, and be clicked for it.
_FAMILY_NAMES = "background border padding margin font text list flex grid column stroke fill"
_OTHER_NAMES = (
    "align-content align-items align-self baseline-shift caption-side clear clip-path clip-rule color "
    "color-scheme columns direction display dominant-baseline empty-cells filter flood-color "
    "flood-opacity float gap height image-rendering justify-content justify-items justify-self "
    "letter-spacing line-height marker marker-end marker-mid marker-start mask max-height max-width "
    "min-height min-width opacity order overflow overflow-wrap overflow-x overflow-y paint-order row-gap "
    "shape-rendering stop-color stop-opacity tab-size table-layout unicode-bidi vector-effect "
    "vertical-align visibility white-space width word-break word-spacing word-wrap"
)
_FAMILIES, _NAMES = frozenset(_FAMILY_NAMES.split()), frozenset(_OTHER_NAMES.split())
_FUNCTIONS = (
    "rgba?|hsla?|hwb|lab|lch|oklab|oklch|color-mix|light-dark|(?:repeating-)?(?:linear|radial|conic)-gradient|calc|min|"
    "max|clamp|var|minmax|repeat|fit-content|blur|brightness|contrast|grayscale|invert|saturate|sepia"
)
_VALUE = re.compile(
    rf"(?:[\w\s#%.,+*/!-]|'[\w\s.,+-]*'|\"[\w\s.,+-]*\"|(?<![\w-])(?:{_FUNCTIONS})\(|(?<=[,(\s])\(|\)|url\(#[\w.:-]+\))*",
    re.ASCII | re.IGNORECASE,
)
_NEVER_NEGATIVE = (
    "margin",
    "text-indent",
    "letter-spacing",
    "word-spacing",
)  # else it moves over what is beside it
_NEGATIVE = re.compile(r"-\s*[\d.]|\(")
_OVERFLOWS = frozenset({"auto", "hidden", "scroll", "clip"})
_QUOTED_FRAGMENT = re.compile(r"url\(\s*['\"]?(#[\w.:-]+)['\"]?\s*\)")
_IMPORTANT = re.compile(r"\s*!\s*important\s*$", re.IGNORECASE)

# Written again, closed, as they stand in HTML.
_VOID = frozenset({"br", "col", "hr", "img", "source", "wbr"})

_HTML_COMMENT = re.compile(r"<!--|-->")
_PIECE = re.compile(r"[{}]|[^{}]+")
_COMPOUND = re.compile(r"(\*|[a-z][\w-]*)?((?:[.#][\w-]+)*)", re.ASCII | re.IGNORECASE)
MOST_STEPS = 500_000  # comparisons of rules with elements; what is beyond is not styled


def safe_style(text: str) -> str:
    """The declarations of a style attribute that are harmless, in their order."""
    return ";".join(f"{name}:{value}" for name, value in _declarations(text))


def _declarations(text: str) -> Iterator[tuple[str, str]]:
    for declaration in text.split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip().lower(), _QUOTED_FRAGMENT.sub(r"url(\1)", " ".join(value.split()))
        if value and _is_harmless(name, value):
            yield name, value


def _is_harmless(name: str, value: str) -> bool:
    if name not in _NAMES and name.partition("-")[0] not in _FAMILIES:
        return False
    if not _VALUE.fullmatch(value) or value.count("(") != value.count(")") or "/*" in value:
        return False
    if name.startswith("overflow") and name != "overflow-wrap":
        return _IMPORTANT.sub("", value).lower() in _OVERFLOWS
    return not (name.startswith(_NEVER_NEGATIVE) and _NEGATIVE.search(value))


def between(text: str, opening: str, closing: str) -> Iterator[tuple[int, int]]:
    """Where what stands between two marks, in any case, begins and ends, each time that there is an end."""
    opens, closes = re.compile(re.escape(opening), re.IGNORECASE), re.compile(re.escape(closing), re.IGNORECASE)
    begun = opens.search(text)
    while begun is not None and (ended := closes.search(text, begun.end())) is not None:
        yield begun.end(), ended.start()
        begun = opens.search(text, ended.end())


def _without_comments(text: str) -> str:
    kept, end = [], 0
    for inner_start, inner_end in between(text, "/*", "*/"):
        kept.append(text[end : inner_start - 2])
        end = inner_end + 2
    return _HTML_COMMENT.sub("", "".join([*kept, text[end:]]))


def _rules(text: str) -> Iterator[tuple[str, str]]:
    """Selectors and declarations of a style sheet, without at-rules and what stands in them."""
    prelude, depth, body = "", 0, ""
    for piece in _PIECE.findall(text):
        if piece == "{":
            depth += 1
        elif piece == "}":
            depth = max(depth - 1, 0)
            if depth == 0:
                if not prelude.startswith("@"):
                    yield prelude, body
                prelude, body = "", ""
        elif depth == 0:
            prelude = piece.rpartition(";")[2].strip()
        elif depth == 1:
            body = piece


@dataclass(frozen=True)
class _Simple:
    """A selector of one element: a tag, ``*`` or nothing, with ids and classes."""

    tag: str
    id: str
    classes: frozenset[str]

    def matches(self, element: _Element) -> bool:
        return (
            self.tag in {"", element.tag}
            and (not self.id or self.id == element.id)
            and self.classes <= element.classes
        )


@dataclass(frozen=True)
class _Element:
    tag: str
    id: str
    classes: frozenset[str]


@dataclass(frozen=True)
class _Rule:
    """The declarations for elements that match the last selector, within ancestors that match those before it."""

    selectors: tuple[_Simple, ...]
    declarations: tuple[tuple[str, str], ...]
    rank: tuple[int, int, int, int]  # specificity, and place in the style sheet

    def matches(self, element: _Element, ancestors: list[_Element]) -> bool:
        *outer, last = self.selectors
        if not last.matches(element):
            return False
        for ancestor in reversed(ancestors):
            if outer and outer[-1].matches(ancestor):
                outer.pop()
        return not outer


class StyleSheet:
    """The rules of the style elements in some HTML that select by tags, ids, classes and ancestors alone."""

    def __init__(self, html: str) -> None:
        self._by_key: dict[str, list[_Rule]] = {}
        self._steps_left = MOST_STEPS
        bodies = [html[start:end].partition(">")[2] for start, end in between(html, "<style", "</style")]
        for place, (selectors, body) in enumerate(_rules(_without_comments("\n".join(bodies)))):
            declarations = tuple(_declarations(body))
            for selector in selectors.split(",") if declarations else ():
                self._add(selector, declarations, place)

    def __bool__(self) -> bool:
        return bool(self._by_key)

    def _add(self, selector: str, declarations: tuple[tuple[str, str], ...], place: int) -> None:
        simples = []
        for part in selector.replace(">", " ").split():
            match = _COMPOUND.fullmatch(part)
            if match is None:
                return
            names = re.findall(r"[.#][\w-]+", match[2])
            ids = [name[1:] for name in names if name[0] == "#"]
            classes = frozenset(name[1:] for name in names if name[0] == ".")
            tag = (match[1] or "").lower().removeprefix("*")
            simples.append(_Simple(tag, ids[0] if ids else "", classes))
        if simples:
            ids_, classes_, tags = (
                sum(bool(one.id) for one in simples),
                sum(len(one.classes) for one in simples),
                sum(bool(one.tag) for one in simples),
            )
            rule = _Rule(tuple(simples), declarations, (ids_, classes_, tags, place))
            self._by_key.setdefault(_key_of(simples[-1]), []).append(rule)

    def style_of(self, element: _Element, ancestors: list[_Element]) -> Iterator[tuple[str, str]]:
        """The declarations for an element, the strongest last."""
        keys = [f"#{element.id}", *(f".{name}" for name in sorted(element.classes)), element.tag]
        if not ancestors:  # what is declared for all elements is mostly inherited, and so written once
            keys.append("*")
        candidates = [rule for key in keys for rule in self._by_key.get(key, ())]
        self._steps_left -= len(candidates)
        if self._steps_left < 0:
            return
        found = [rule for rule in candidates if rule.matches(element, ancestors)]
        for rule in sorted(found, key=lambda rule: rule.rank):
            yield from rule.declarations


def _key_of(simple: _Simple) -> str:
    if simple.id:
        return f"#{simple.id}"
    return f".{min(simple.classes)}" if simple.classes else simple.tag or "*"


def _merged(declarations: Iterable[tuple[str, str]]) -> str:
    """A style attribute: of what is declared twice, the important one, or else the last."""
    style: dict[str, str] = {}
    for name, value in declarations:
        if not (_IMPORTANT.search(style.get(name, "")) and not _IMPORTANT.search(value)):
            style.pop(name, None)
            style[name] = value
    return ";".join(f"{name}:{value}" for name, value in style.items())


class Inliner(HTMLParser):
    """Writes well-formed HTML with a style sheet's rules in its elements, and with remote images as links."""

    def __init__(self, sheet: StyleSheet) -> None:
        super().__init__(convert_charrefs=True)
        self._sheet = sheet
        self._ancestors: list[_Element] = []
        self._written: list[str] = []

    def inlined(self, html: str) -> str:
        """The HTML, which has to be well-formed, with styles in its elements."""
        self.feed(html)
        self.close()
        return "".join(self._written)

    def handle_starttag(self, tag: str, attrs: Attributes) -> None:  # noqa: D102 - as HTMLParser says
        given = {name: value or "" for name, value in attrs}
        source = given.get("src", "").strip()
        if tag == "img" and not source.lower().startswith("data:"):
            text = escape(given.get("alt", ""), quote=False)
            is_remote = source.lower().startswith(("http:", "https:"))
            self._written.append(f'<a href="{escape(source)}">{text or "image"}</a>' if is_remote else text)
            return
        element = _Element(tag, given.get("id", ""), frozenset(given.get("class", "").split()))
        style = _merged([*self._sheet.style_of(element, self._ancestors), *_declarations(given.get("style", ""))])
        if style:
            given["style"] = style
        if tag not in _VOID:
            self._ancestors.append(element)
        attributes = "".join(f' {name}="{escape(value)}"' for name, value in given.items())
        self._written.append(f"<{tag}{attributes}>")

    def handle_endtag(self, tag: str) -> None:  # noqa: D102 - likewise
        if tag in _VOID:
            return
        if self._ancestors and self._ancestors[-1].tag == tag:
            self._ancestors.pop()
        self._written.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:  # noqa: D102 - likewise
        self._written.append(escape(data, quote=False))
