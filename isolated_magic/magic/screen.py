"""What a run prints and displays, shown in its cell while it runs, in order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

from isolated_magic.magic.streams import Streams
from isolated_magic.models import DisplayData

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from isolated_magic.models import RunResult
    from isolated_magic.strict_json import JsonValue

Item: TypeAlias = "DisplayData | tuple[str, str]"  # a display, or the name of a stream and text


class Screen:
    """The output of one cell.

    What the code updates or clears later changes in place where somebody is watching. Programs that run notebooks
    compare or keep what a cell has sent, and not all of them follow such changes (nbval does not): for these,
    what comes from the first display on that may change is held back until the run is over, and its last state is
    shown. What is saved is the same.

    Args:
        shell: whose cell it is.
        is_rich: False shows the text form of everything.
    """

    def __init__(self, shell: InteractiveShell, *, is_rich: bool = True) -> None:
        self._shell = shell
        self._is_rich = is_rich
        self._is_watched = is_watched(shell)
        self._streams = Streams(is_watched=self._is_watched)
        self._ids: dict[str, str] = {}  # in the whole notebook, by those of the code
        self._held: list[Item] | None = None
        self._clears_late = False  # what is held, when something else comes
        self._has_shown = False

    def stream(self, name: str, text: str) -> None:
        """Show output; the name is ``"stdout"`` or ``"stderr"``."""
        if text:
            self._take((name, text))

    def display(self, shown: DisplayData) -> None:
        """Show a display, its update, or that what was shown is taken away."""
        may_change = shown.display_id is not None or shown.action == "clear"
        if may_change and self._held is None and not self._is_watched:
            self._held = []
        if shown.action == "clear":
            self._clear(waits=shown.metadata.get("wait") is True)
        elif shown.action == "update" and self._held is not None:
            self._update_held(shown)
        else:
            self._take(shown)

    def replay(self, result: RunResult) -> None:
        """Show what a run has printed and displayed, in its order."""
        texts, places = {"stdout": result.stdout, "stderr": result.stderr}, {"stdout": 0, "stderr": 0}
        ends = {name: len(text) for name, text in texts.items()}
        for shown in (*result.displays, None):
            upto = ends if shown is None else {"stdout": shown.stdout_at, "stderr": shown.stderr_at}
            for name, text in texts.items():
                self.stream(name, text[places[name] : upto[name]])
            places = upto
            if shown is not None:
                self.display(replace(shown, display_id=None))
        self.end()

    def end(self) -> None:
        """Show what was held back: the run is over."""
        held, self._held = self._held or [], None
        for item in held:
            self._show(item)
        self._streams.end()

    def _take(self, item: Item) -> None:
        if self._held is None:
            self._show(item)
            return
        if self._clears_late:
            self._held.clear()
            self._clears_late = False
        self._held.append(item)

    def _update_held(self, update: DisplayData) -> None:
        for index, item in enumerate(self._held or []):
            if isinstance(item, DisplayData) and item.display_id == update.display_id and self._held is not None:
                self._held[index] = replace(item, data=update.data, metadata=update.metadata)

    def _clear(self, *, waits: bool) -> None:
        if self._held is None or self._has_shown:
            self._streams.flush()
            self._shell.display_pub.clear_output(waits)  # type: ignore[no-untyped-call]  # IPython has no types here
            self._has_shown = False
        if self._held is not None:
            self._clears_late = waits
            if not waits:
                self._held.clear()

    def _show(self, item: Item) -> None:
        self._has_shown = True
        if not isinstance(item, DisplayData):
            self._streams.write(*item)
            return
        self._streams.flush()
        data, metadata = bundle_of_display(item, is_rich=self._is_rich)
        settings: dict[str, object] = {}
        if item.display_id is not None and self._is_watched:
            settings["transient"] = {"display_id": self._ids.setdefault(item.display_id, uuid4().hex)}
            settings["update"] = item.action == "update"
        self._shell.display_pub.publish(data, metadata, **settings)


def bundle_of_display(
    shown: DisplayData, *, is_rich: bool = True
) -> tuple[dict[str, JsonValue], dict[str, JsonValue]]:
    """What a front end may show of a display, by MIME type, and the metadata beside it."""
    from isolated_magic.render.rich import plain_bundle, safe_bundle  # noqa: PLC0415 - most cells display nothing

    return safe_bundle(shown.data, shown.metadata) if is_rich else (plain_bundle(shown.data), {})


def is_watched(shell: InteractiveShell) -> bool:
    """Whether somebody sees the cell now: only a front end with a person before it can be asked for input."""
    kernel = getattr(shell, "kernel", None)
    return kernel is None or bool(getattr(kernel, "_allow_stdin", True))
