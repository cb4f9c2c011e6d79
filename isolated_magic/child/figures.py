"""Figures of matplotlib: how they are drawn for a notebook, and when they are shown.

As matplotlib's inline backend does it (matplotlib_inline/backend_inline.py). The backend of a run stays the one
that its environment names, mostly Agg: only what it does where another one would open windows is replaced.
"""

from __future__ import annotations

import sys
from io import BytesIO

from . import display, display_hooks
from .plain import mro_of, name_of

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

MIME_TYPES = {
    "png": "image/png",
    "retina": "image/png",
    "png2x": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
}
DEFAULT_KWARGS = {"bbox_inches": "tight"}
PNG_SIZES = (16, 20)  # where the width and the height of a PNG stand
MOST_ITEMS = 1000  # of a list that are looked at


def is_figure(value: object) -> bool:
    """Whether a value is a figure of matplotlib's."""
    return any(
        name_of(kind) == "Figure" and kind.__module__ == "matplotlib.figure" for kind in mro_of(type(value))
    )


def is_drawn(value: object) -> bool:
    """See :func:`display_hooks.is_drawn`: lines, axes, texts, bars, and lists of them."""
    return not is_figure(value) and bool(_managers()) and any(map(_is_of_matplotlib, _items(value)))


def _items(value: object) -> Iterator[object]:
    """The value, and what it holds if it is a list, a tuple, or an array of objects."""
    yield value
    kind = type(value)
    if kind in {list, tuple}:
        yield from value[:MOST_ITEMS]  # type: ignore[index]  # it is one of these
    elif name_of(kind) == "ndarray" and kind.__module__ == "numpy" and value.dtype == object:  # type: ignore[attr-defined]  # an array
        yield from value.flat  # type: ignore[attr-defined]  # likewise


def _is_of_matplotlib(value: object) -> bool:
    return any(str(vars(kind).get("__module__")).startswith("matplotlib.") for kind in mro_of(type(value)))


def bundle(figure: Any) -> tuple[dict[str, Any], dict[str, Any]]:  # noqa: ANN401 - a figure
    """The formats of a figure that the notebook wants, and their metadata."""
    data: dict[str, Any] = {"text/plain": display.pretty(figure)}
    metadata: dict[str, Any] = {}
    settings = display_hooks.current.figures
    if figure.axes or figure.lines:  # an empty one would be a large blank area
        for name in settings.get("formats") or ("png",):
            try:
                drawn = _drawn(figure, name, settings)
            except Exception as problem:  # noqa: BLE001 - such as a mistake in a formula
                display.report(problem)
                continue
            mime = MIME_TYPES[name]
            data[mime] = drawn.decode() if name == "svg" else drawn
            if name in {"retina", "png2x"}:
                width, height = (int.from_bytes(drawn[start : start + 4], "big") for start in PNG_SIZES)
                metadata[mime] = {"width": width // 2, "height": height // 2}
    display_hooks.current.drawn[id(figure)] = _look(data)
    return data, metadata


def _drawn(figure: Any, name: str, settings: dict[str, Any]) -> bytes:  # noqa: ANN401 - a figure
    """The bytes of a figure in one format; the same on every run."""
    doubles = name in {"retina", "png2x"}
    keywords: dict[str, Any] = {
        "format": "png" if doubles else name,
        "facecolor": figure.get_facecolor(),
        "edgecolor": figure.get_edgecolor(),
        "dpi": figure.dpi * 2 if doubles else figure.dpi,
        **(DEFAULT_KWARGS if settings.get("kwargs") is None else settings["kwargs"]),
    }
    matplotlib = sys.modules["matplotlib"]
    changed: dict[str, Any] = {}
    if name == "svg":
        keywords.setdefault("metadata", {"Date": None})
        if matplotlib.rcParams["svg.hashsalt"] is None:
            changed["svg.hashsalt"] = "isolated"
    elif name == "pdf":
        keywords.setdefault("metadata", {"CreationDate": None})
    stream = BytesIO()
    with matplotlib.rc_context(changed):
        figure.canvas.print_figure(stream, **keywords)
    return stream.getvalue()


def _look(data: dict[str, Any]) -> int:
    return hash(tuple(data.values()))


def _managers() -> list[Any]:
    helpers = sys.modules.get("matplotlib._pylab_helpers")
    return helpers.Gcf.get_all_fig_managers() if helpers is not None else []


def show(manager: Any, *, closes: bool) -> None:  # noqa: ANN401 - a figure manager
    """Show a figure of pyplot's, and close it unless the notebook keeps its figures open."""
    try:
        data, metadata = bundle(manager.canvas.figure)
        display.publish(data, metadata)
    finally:
        if closes and display_hooks.current.figures.get("closes", True):
            sys.modules["matplotlib._pylab_helpers"].Gcf.destroy(manager)


def show_all() -> None:
    """Show and close the open figures when the code is over, except for those shown before as they are now."""
    for manager in _managers():
        figure = manager.canvas.figure
        try:
            before = display_hooks.current.drawn.get(id(figure))
            data, metadata = bundle(figure)
            if before is None or before != _look(data):
                display.publish(data, metadata)
        except Exception as problem:  # noqa: BLE001 - whatever the code has made of its figures
            display.report(problem)
    helpers: Any = sys.modules["matplotlib._pylab_helpers"]
    helpers.Gcf.destroy_all()
