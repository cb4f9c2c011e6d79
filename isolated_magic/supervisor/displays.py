"""What a run displays, as it comes: in order with what it prints, without secrets, and within its limit."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.child.result import LONGEST_VALUE, elide_middle
from isolated_magic.launch.protocol import Shown
from isolated_magic.limits import format_size
from isolated_magic.models import DisplayData
from isolated_magic.redaction.redactor import MASK
from isolated_magic.sanitize import printable_json, without_addresses

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.redaction.redactor import Redactor
    from isolated_magic.strict_json import JsonObject
    from isolated_magic.supervisor.output import OutputStream, Stdout

    OnDisplay = Callable[[DisplayData], None]

# Formats in Base64, in which no secret can be found: they are pictures.
BINARY = ("image/png", "image/jpeg", "image/gif", "image/webp", "application/pdf")
PLAIN, HTML = "text/plain", "text/html"
_TAG = re.compile(r"<[^<>]*>")
# Ids that libraries draw at random: altair, the Styler of pandas, plotly.
_RANDOM_IDS = re.compile(
    r'altair-viz-([0-9a-f]{32})\b|<table id="T_([0-9a-f]{5})"|<div id="([0-9a-f-]{36})" class="plotly-graph-div"'
)
TOO_DEEP = "[not shown: it is nested too deeply]"


class Displays:
    """Collects what a run displays.

    Args:
        stdout: what it prints; all that came before a display is taken in before it.
        stderr: likewise.
        on_display: called with each display as it comes.
        limit: bytes to keep and to pass on, None for all.
        redactor: hides secrets, None when there are none.
    """

    def __init__(
        self,
        stdout: Stdout,
        stderr: OutputStream,
        on_display: OnDisplay | None,
        limit: int | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._streams: tuple[Stdout, OutputStream] = (stdout, stderr)
        self._on_display = on_display
        self._limit = self._room = limit
        self._redactor = redactor
        self._shown: list[DisplayData] = []
        self._is_to_clear: tuple[int, int] | None = None  # where the streams were then

    @property
    def all(self) -> tuple[DisplayData, ...]:
        """What was displayed, in its order: each with its last update, without what was taken away."""
        return tuple(self._shown)

    def take(self, shown: Shown) -> bytes:
        """Take in a display, after what was printed before it; the answer to the child."""
        stdout, stderr = self._streams
        if shown.is_at_end:
            stdout.drain()
        else:
            stdout.before_display()
        stderr.drain()
        if shown.data is not None:
            self._add(shown)
        else:
            self._clear(waits=shown.waits)
        return b"taken"

    def _add(self, shown: Shown) -> None:
        data, metadata = self._within_limit(shown)
        if data is None:
            return
        place = self._place()
        self._clear_late()
        display = DisplayData(data, metadata, *place, display_id=shown.display_id)
        if shown.is_update:
            for index, earlier in enumerate(self._shown):
                if earlier.display_id == shown.display_id:
                    self._shown[index] = replace(earlier, data=data, metadata=metadata)
        else:
            self._shown.append(display)
        if self._on_display is not None:
            self._on_display(replace(display, action="update") if shown.is_update else display)

    def end(self, value: str) -> None:
        """Nothing more will come.

        Args:
            value: repr of the value of the last expression, where it is to be shown as after a cell of a notebook.
        """
        if self._is_to_clear is not None and self._is_to_clear != self._place():
            self._clear_late()
        if value:
            text = value if self._redactor is None else self._redactor.text(value)
            text = elide_middle(text, LONGEST_VALUE)  # after hiding: half a secret is none
            self._add(Shown({PLAIN: text}, {}, len(text)))

    @property
    def has_any(self) -> bool:
        """Whether anything was displayed."""
        return bool(self._shown)

    def _place(self) -> tuple[int, int]:
        stdout, stderr = self._streams
        return stdout.length, stderr.length

    def _clear(self, *, waits: bool) -> None:
        self._is_to_clear = self._place()
        if not waits:
            self._clear_late()
        if self._on_display is not None:
            self._on_display(DisplayData({}, {"wait": waits}, *self._place(), action="clear"))

    def _clear_late(self) -> None:
        if self._is_to_clear is not None:
            self._shown.clear()
            self._is_to_clear = None

    def _within_limit(self, shown: Shown) -> tuple[JsonObject | None, JsonObject]:
        """Data and metadata as they may be shown; None for the data when there is no room even to say so."""
        data, metadata = self._presentable(shown)
        if self._room is None:
            return data, metadata
        size = shown.size
        if size > self._room:
            most = format_size(self._limit or 0)
            data = {
                PLAIN: f"[a display of {format_size(size)} is left out: more than {most}, the limit of output]"
            }
            metadata, size = {}, len(str(data[PLAIN]))
        if self._room < 0:
            return None, {}
        self._room -= size
        return data, metadata

    def _presentable(self, shown: Shown) -> tuple[JsonObject, JsonObject]:
        """Without secrets, and without what could be neither shown nor saved."""
        data = shown.data or {}
        binary = {mime: value for mime, value in data.items() if mime in BINARY and isinstance(value, str)}
        texts: JsonObject = {mime: value for mime, value in data.items() if mime not in binary}
        if isinstance(texts.get(PLAIN), str):
            texts[PLAIN] = without_addresses(str(texts[PLAIN]))
        if isinstance(texts.get(HTML), str):
            texts[HTML] = _with_fixed_ids(str(texts[HTML]))
        try:
            if self._redactor is not None:
                _leave_out_split(texts, self._redactor)
                texts, metadata = self._redactor.object(texts), self._redactor.object(shown.metadata)
            else:
                metadata = shown.metadata
            clean = {mime: printable_json(value) for mime, value in texts.items()}
            return {**clean, **binary}, {key: printable_json(value) for key, value in metadata.items()}
        except RecursionError:
            return {PLAIN: TOO_DEEP}, {}


def _leave_out_split(texts: JsonObject, redactor: Redactor) -> None:
    """Leave out HTML that has a secret with tags in it, as where a library colours its digits."""
    html = texts.get(HTML)
    if isinstance(html, str) and "<" in html:
        seen = _TAG.sub("", html)
        if redactor.text(seen).count(MASK) > redactor.text(html).count(MASK):
            del texts[HTML]


def _with_fixed_ids(html: str) -> str:
    """The HTML with ids that depend on the rest of it alone in place of random ones: the same on every run."""
    found = dict.fromkeys(match[match.lastindex or 0] for match in _RANDOM_IDS.finditer(html))
    for one in found:
        rest = html.replace(one, "")
        html = html.replace(one, hashlib.sha256(rest.encode("utf-8", "replace")).hexdigest()[: len(one)])
    return html
