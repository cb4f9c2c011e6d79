"""HTML and SVG that only look like something: no scripts, forms, frames, page-wide styles or remote resources."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

import nh3

from isolated_magic.render import css

if TYPE_CHECKING:
    from typing import Final

_TABLE = "table caption colgroup col thead tbody tfoot tr th td"
_TEXT = (
    "a abbr address article aside b bdi bdo big blockquote br center cite code dd del details dfn div dl "
    "dt em figcaption figure font footer h1 h2 h3 h4 h5 h6 header hr i ins kbd label li main mark ol p "
    "pre q rp rt ruby s samp section small span strike strong sub summary sup time tt u ul var wbr"
)
_EMBEDDED = "img audio video source picture"
_METERS = "meter progress"
_DRAWING = (
    "svg g defs symbol use path rect circle ellipse line polyline polygon text tspan textPath image "
    "marker pattern mask clipPath linearGradient radialGradient stop filter feBlend feColorMatrix "
    "feComponentTransfer feComposite feFlood feFuncA feFuncB feFuncG feFuncR feGaussianBlur feMerge "
    "feMergeNode feOffset feTile feTurbulence"
)
SVG_TAGS: Final = frozenset(_DRAWING.split())
HTML_TAGS: Final = frozenset(f"{_TABLE} {_TEXT} {_EMBEDDED} {_METERS}".split())
# Of these not even the text is shown.
_HIDDEN = frozenset({"script", "style", "title", "template", "noscript", "head"})
_HIDDEN_IN_SVG = frozenset({"metadata", "desc", "foreignObject", "a"})

_ATTRIBUTES = (
    "abbr align alt bgcolor border cellpadding cellspacing class color colspan controls datetime dir "
    "headers height high href lang loop low max min muted nowrap open optimum poster reversed rowspan "
    "scope size span src start style title type valign value width"
)
_SVG_ATTRIBUTES = (
    "alignment-baseline baseline-shift class clip-path clip-rule clipPathUnits color color-interpolation "
    "color-interpolation-filters cx cy d direction display dominant-baseline dx dy fill fill-opacity "
    "fill-rule filter filterUnits flood-color flood-opacity font-family font-size font-stretch font-style "
    "font-variant font-weight fx fy fr gradientTransform gradientUnits height href id image-rendering in "
    "in2 k1 k2 k3 k4 lengthAdjust letter-spacing marker-end marker-mid marker-start markerHeight "
    "markerUnits markerWidth mask maskContentUnits maskUnits mode offset opacity operator orient "
    "paint-order pathLength patternContentUnits patternTransform patternUnits points preserveAspectRatio "
    "primitiveUnits r refX refY result rotate rx ry shape-rendering side spreadMethod startOffset "
    "stdDeviation stop-color stop-opacity stroke stroke-dasharray stroke-dashoffset stroke-linecap "
    "stroke-linejoin stroke-miterlimit stroke-opacity stroke-width style text-anchor text-decoration "
    "text-rendering textLength transform transform-origin type unicode-bidi values vector-effect version "
    "viewBox visibility width word-spacing x x1 x2 xlink xmlns y y1 y2"
)
_NAMESPACES = {"xmlns": "http://www.w3.org/2000/svg", "xmlns:xlink": "http://www.w3.org/1999/xlink"}
_SVG_NAMES = frozenset(_SVG_ATTRIBUTES.split())
_NAMES = frozenset(_ATTRIBUTES.split()) | _SVG_NAMES
_ID = "run-id-"
_CLASSES = frozenset({"dataframe", "mathjax_ignore", "tex2jax_ignore"})  # of others pages have styles of their own
_SCHEMES = {"http", "https", "mailto", "data"}
_LINK = re.compile(r"(?:https?://|mailto:|#)", re.IGNORECASE)
_FRAGMENT = re.compile(r"#[\w.:-]+")
_IMAGE = re.compile(r"data:image/(?:png|jpe?g|gif|webp|bmp|svg\+xml)[;,]", re.IGNORECASE)
_MEDIA = re.compile(r"data:(?:audio|video)/[\w.+-]+[;,]", re.IGNORECASE)
_REFERENCE = re.compile(r"url\(\s*['\"]?(#[\w.:-]+)['\"]?\s*\)")
_REFERRED = re.compile(r"#([\w.:-]+)")
_LINKED_BY = {"a": _LINK, "img": _IMAGE, "image": _IMAGE, "audio": _MEDIA, "video": _MEDIA, "source": _MEDIA}
_URLS = frozenset({"href", "src", "poster"})

_ACTIVE = re.compile(
    r"<(?:script|iframe|frame|object|embed|applet|form|input|button|select|textarea|canvas)\b", re.IGNORECASE
)
_IMG = re.compile(r"<img\b", re.IGNORECASE)
_STYLE = re.compile(r"<style\b", re.IGNORECASE)
_TAG = re.compile(r"<(/?)([a-z][^\s/>]*)", re.IGNORECASE)
_FORMATTING = "a b big code em font i nobr s small strike strong tt u"
_VOID = "area base br col embed hr img input link meta param source track wbr"
_UNCLOSED = frozenset(f"{_VOID} p li dt dd td th tr option optgroup rp rt".split())
# The parser looks through all that is open at each tag, and through all attributes at each attribute: of hostile
# HTML a megabyte takes it minutes.
MOST_CHARACTERS, MOST_LEVELS, MOST_STEPS = 2 << 20, 400, 4_000_000
_INVALID_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

LARGEST_SCRIPT = 50_000  # characters: larger ones are libraries
_HEIGHT = re.compile(r"\bheight[\"']?\s*[:=]\s*[\"']?(\d{2,4})(?:\.\d+)?(?=px|[\"',;}\s])", re.IGNORECASE)
_MADE_UP_ID = re.compile(
    r"\bid=[\"'][\w-]{0,40}?([0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32})[\"']"
)
LEAST_PX, USUAL_PX, MOST_PX, AROUND_PX = 120, 450, 1200, 24
NOT_SHOWN = "Interactive output: shown where the notebook is trusted, or after the cell has run again."


def is_bounded(html: str) -> bool:
    """Whether it can be cleaned in a moment: neither too large nor nested too deeply."""
    if len(html) > MOST_CHARACTERS:
        return False
    depth = formatting = deepest = most_formatting = 0
    tags, formatting_tags = _TAG.findall(html), frozenset(_FORMATTING.split())
    for closing, name in tags:
        lower = name.lower()
        if lower in _UNCLOSED:
            continue
        step = -1 if closing else 1
        depth = max(depth + step, 0)
        deepest = max(deepest, depth)
        if lower in formatting_tags:
            formatting = max(formatting + step, 0)
            most_formatting = max(most_formatting, formatting)
    return deepest <= MOST_LEVELS and len(tags) * most_formatting <= MOST_STEPS


def needs_frame(html: str) -> bool:
    """Whether it has scripts, frames or controls, without which there would be little to see."""
    return _ACTIVE.search(html) is not None


def framed(html: str) -> str:
    """HTML that shows the given one in a frame: its scripts run, without access to the page or to its origin.

    A page that takes no frames from a notebook, or does not trust it, shows the sentence inside.
    """
    heights = [px for px in map(int, _HEIGHT.findall(_without_libraries(html))) if px <= MOST_PX]
    px = max(max(heights, default=USUAL_PX) + AROUND_PX, LEAST_PX)
    html = _with_steady_ids(html)
    style = f"width:100%;height:{px}px;border:0;background:#fff;color-scheme:light"  # it brings its own colours
    return (
        f'<iframe sandbox="allow-scripts" referrerpolicy="no-referrer" style="{style}" srcdoc="{escape(html)}">'
        f"{NOT_SHOWN}</iframe>"
    )


def _with_steady_ids(html: str) -> str:
    """The HTML with numbers for ids of elements that are made up anew each time."""
    for number, name in enumerate(dict.fromkeys(_MADE_UP_ID.findall(html))):
        html = html.replace(name, f"{number:0{len(name)}d}")
    return html


def _without_libraries(html: str) -> str:
    kept, end = [], 0
    for script_start, script_end in css.between(html, "<script", "</script"):
        if script_end - script_start > LARGEST_SCRIPT:
            kept.append(html[end:script_start])
            end = script_end
    return "".join([*kept, html[end:]])


def cleaned(html: str) -> str:
    """The HTML with nothing in it but elements that look like something, where they stand."""
    if _STYLE.search(html) or _IMG.search(html):
        kept = nh3.clean(
            html,
            tags=set(HTML_TAGS | SVG_TAGS),
            clean_content_tags=set(_HIDDEN),
            attributes={"*": set(_NAMES | {"id"})},
            link_rel=None,
            url_schemes=_SCHEMES,
        )
        html = css.Inliner(css.StyleSheet(html)).inlined(kept)
    return _with_own_ids(html, HTML_TAGS | SVG_TAGS, _NAMES)


def cleaned_svg(svg: str) -> str | None:
    """The drawing alone, as XML; None if there is none."""
    start = svg.lower().find("<svg")
    if start < 0:
        return None
    svg = svg[start:]
    if _STYLE.search(svg):
        kept = nh3.clean(
            svg,
            tags=set(SVG_TAGS),
            clean_content_tags=set(_HIDDEN | _HIDDEN_IN_SVG),
            attributes={"*": set(_SVG_NAMES)},
            link_rel=None,
            url_schemes=_SCHEMES,
        )
        svg = css.Inliner(css.StyleSheet(svg)).inlined(kept)
    made = _with_own_ids(svg, SVG_TAGS, _SVG_NAMES, _HIDDEN | _HIDDEN_IN_SVG).strip()
    end = made.rfind("</svg>")
    if not made.startswith("<svg") or end < 0:
        return None
    return _INVALID_IN_XML.sub("", _with_namespaces(made[: end + 6].replace("&nbsp;", "\N{NO-BREAK SPACE}")))


def as_image(svg: str) -> str:
    """HTML with the drawing as an image: a browser runs no scripts in one and loads nothing for it."""
    return f'<img src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}" alt="drawing">'


def _with_namespaces(svg: str) -> str:
    root = svg[: svg.index(">")]
    missing = [f' {name}="{uri}"' for name, uri in _NAMESPACES.items() if f" {name}=" not in root]
    return f"<svg{''.join(missing)}{svg[4:]}"


def _with_own_ids(html: str, tags: frozenset[str], names: frozenset[str], hidden: frozenset[str] = _HIDDEN) -> str:
    """The cleaned HTML, whose ids are made from what stands in it: two displays have none in common."""
    filter_ = _Filter(frozenset(_REFERRED.findall(html)))
    made = nh3.clean(
        html,
        tags=set(tags),
        clean_content_tags=set(hidden),
        attributes={"*": set(names | {"id"})},
        attribute_filter=filter_,
        link_rel="noopener noreferrer",
        url_schemes=_SCHEMES,
    )
    if not filter_.ids:
        return made
    digest = hashlib.sha256(made.encode()).hexdigest()[:8]
    return made.replace(_ID, f"run-{digest}-")


class _Filter:
    """Decides on each attribute: nh3 calls it with the local name."""

    def __init__(self, referred: frozenset[str]) -> None:
        self.ids: dict[str, str] = {}
        self._referred = referred

    def __call__(self, tag: str, name: str, value: str) -> str | None:
        if name == "style":
            return self._referring(css.safe_style(value)) or None
        if name == "class":
            return " ".join(one for one in value.split() if one in _CLASSES) or None
        if name == "id":
            return self._own(value) if value in self._referred else None
        if name in _URLS:
            return self._url(tag, name, value.strip())
        return self._referring(value) if "url" in value.lower() or "\\" in value else value

    def _own(self, name: str) -> str:
        return self.ids.setdefault(name, f"{_ID}{len(self.ids)}")

    def _url(self, tag: str, name: str, value: str) -> str | None:
        if _FRAGMENT.fullmatch(value) and tag in {"a", *SVG_TAGS}:
            return f"#{self._own(value[1:])}"
        allowed = _IMAGE if name == "poster" else _LINKED_BY.get(tag)
        return value if allowed is not None and allowed.match(value) else None

    def _referring(self, value: str) -> str | None:
        """The value with references to our names for ids; None if it refers to anything else."""
        rest = _REFERENCE.sub("", value)
        if "url" in rest.lower() or "\\" in rest:
            return None
        return _REFERENCE.sub(lambda match: f"url(#{self._own(match[1][1:])})", value)
