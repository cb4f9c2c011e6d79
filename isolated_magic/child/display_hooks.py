"""What there is of ``display()`` before anything is displayed: a run that displays nothing pays for no more.

``display`` is a builtin, as in a notebook. What IPython and matplotlib would do in a plain interpreter, print an
object or warn that no window can be opened, is replaced as soon as they are imported, before any other module can
take their functions from them.
"""

from __future__ import annotations

import _thread
import builtins
import os
import sys

from . import modules
from .plain import mro_of

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from .channel import Channel

# What IPython asks an object for, by MIME type, in its order (IPython/core/formatters.py).
METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "application/pdf": "_repr_pdf_",
    "image/jpeg": "_repr_jpeg_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
}
BUNDLE, TAKES_OVER = "_repr_mimebundle_", "_ipython_display_"
_RICH = {*METHODS.values(), BUNDLE, TAKES_OVER}


class Run:
    """What displays of one run need.

    Args:
        channel: to the owner.
        figures: how figures are drawn, as the request has it; None for the defaults.
    """

    def __init__(self, channel: Channel | None = None, figures: dict[str, Any] | None = None) -> None:
        self.channel = channel
        self.figures = figures or {}
        self.has_colors = bool(self.figures.get("colors"))  # what is printed is shown where colours are seen
        self.ids = 0  # made up so far
        self.is_over = False  # all of the code has run
        self.drawn: dict[int, object] = {}  # what figures looked like when they were shown last, by their id


current = Run()
_loading = _thread.RLock()
_replaced: dict[str, object] = {}  # rcParams that a run began with in place of these


def begin(channel: Channel, figures: dict[str, Any] | None) -> None:
    """A run begins, in this process."""
    global current  # noqa: PLW0603 - one at a time
    current = Run(channel, figures)
    channel.takes_displays = True
    if (figures or _replaced) and "matplotlib" in sys.modules:
        _set_defaults(sys.modules["matplotlib"])


def install() -> None:
    """Make ``display`` a builtin, and see to what is imported from now on."""
    vars(builtins)["display"] = display
    modules.on_import("IPython.core.display_functions", _hook_ipython)
    modules.on_import("matplotlib", _set_defaults)
    modules.on_import("matplotlib.backend_bases", _hook_matplotlib)
    modules.on_import("plotly.io._renderers", _hook_plotly)
    modules.on_import("rich.console", _hook_rich)
    modules.on_import("tqdm.notebook", _hook_tqdm)


def display(*objs: object, **settings: Any) -> Any:  # noqa: ANN401 - a handle, or None
    """Show objects in the notebook, each in all the formats that it has. As IPython's function of that name."""
    return _loaded("display").display(*objs, **settings)


def publish_display_data(
    data: dict[str, object],
    metadata: dict[str, object] | None = None,
    *,
    transient: dict[str, object] | None = None,
    **settings: object,
) -> None:
    """Show a bundle of formats by MIME type. As IPython's function of that name."""
    _loaded("display").publish(data, metadata, transient=transient, **settings)


def clear_output(wait: bool = False) -> None:
    """Take away what was shown so far. As IPython's function of that name."""
    _loaded("display").clear_output(wait=bool(wait))


def show_value(value: object) -> bool:
    """Show the value of the last expression, which is no score, if it has a format other than text.

    Returns:
        False when it is to be told as text.
    """
    kinds = mro_of(type(value))
    has_format = any(not _RICH.isdisjoint(vars(kind)) for kind in kinds)
    if not has_format and "matplotlib" not in sys.modules:
        return False
    current.is_over = True
    return bool(_loaded("display").show_value(value))


def is_drawn(value: object) -> bool:
    """Whether a value is only what a call returned that drew into a figure which is still open."""
    return "matplotlib" in sys.modules and bool(_loaded("figures").is_drawn(value))


class OpenFigures:
    """At the end of this block, shows the figures that are open then, as after a cell of a notebook."""

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        helpers = sys.modules.get("matplotlib._pylab_helpers")
        if helpers is not None and getattr(getattr(helpers, "Gcf", None), "figs", None):
            current.is_over = True
            _loaded("figures").show_all()


def _show_manager(self: Any) -> None:  # noqa: ANN401 - a figure manager
    """Show the figure, in place of a window: stands in for ``FigureManagerBase.show()``."""
    caller = sys._getframe(1).f_globals.get("__name__")
    _loaded("figures").show(self, closes=caller != "matplotlib.figure")  # where fig.show() is


def _loaded(name: str) -> Any:  # noqa: ANN401 - a module
    """A module of ours, which imports nothing that is not there. Another thread may be just loading it."""
    full_name = f"{__package__}.{name}"
    module: Any = sys.modules.get(full_name)
    if module is None or module.__spec__._initializing:
        # Not each time: its lock has a callback, in which what a signal handler raises would be lost.
        return __import__(full_name, fromlist=[name])
    return module


def standard_module(name: str) -> Any:  # noqa: ANN401 - likewise
    """A module of the standard library, for one thread at a time; see :func:`modules.standard_module`."""
    with _loading:
        return modules.standard_module(name)


def _hook_ipython(module: Any) -> None:  # noqa: ANN401 - a module
    module.display, module.clear_output = display, clear_output
    module.publish_display_data = publish_display_data


def _hook_matplotlib(module: Any) -> None:  # noqa: ANN401 - likewise
    _show_manager.__name__ = _show_manager.__qualname__ = "show"
    module.FigureManagerBase.show = _show_manager


def _set_defaults(matplotlib: Any) -> None:  # noqa: ANN401 - likewise
    """Have the notebook's size of figures until the code says otherwise, and not that of a worker's last run."""
    values = current.figures.get("rc") or {}
    for name in [name for name in _replaced if name not in values]:
        matplotlib.rcParams[name] = _replaced.pop(name)
    for name, value in values.items():
        _replaced.setdefault(name, matplotlib.rcParams[name])
        matplotlib.rcParams[name] = value


def _hook_tqdm(module: Any) -> None:  # noqa: ANN401 - likewise
    """Have bars of text: widgets talk to a kernel, which a run has not."""
    std = sys.modules["tqdm.std"]
    module.tqdm = module.tqdm_notebook = std.tqdm
    module.trange = module.tnrange = std.trange


def _hook_plotly(module: Any) -> None:  # noqa: ANN401 - likewise
    """Have figures as data and as HTML, as in a notebook, where plotly would open a browser."""
    if not os.environ.get("PLOTLY_RENDERER"):
        # Of its HTML the one that needs no other output: each is shown in a frame of its own.
        module.renderers.default = "plotly_mimetype+sphinx_gallery"
    module.ipython_display = sys.modules[__name__]  # its display(), with or without IPython


def _hook_rich(module: Any) -> None:  # noqa: ANN401 - likewise
    """Have colours where the output is shown in a notebook, and nothing else of a terminal: it does not move."""
    console = module.Console
    detect, render = console._detect_color_system, console._render_buffer

    def detect_color_system(self: Any) -> Any:  # noqa: ANN401 - a console, and how many colours it has
        found = detect(self)
        is_shown = found is None and current.has_colors and self.file in {sys.stdout, sys.stderr}
        return module.ColorSystem.TRUECOLOR if is_shown else found

    def render_buffer(self: Any, buffer: Any) -> Any:  # noqa: ANN401 - a console, segments, and their text
        segments = list(buffer)
        begins = "".join(segment.text for segment in segments[:3]).lstrip()
        if current.has_colors and begins.startswith("{") and not self.is_terminal:  # JSON, which may be the result
            return "".join(segment.text for segment in segments if not segment.control)
        return render(self, segments)

    console._detect_color_system, console._render_buffer = detect_color_system, render_buffer
