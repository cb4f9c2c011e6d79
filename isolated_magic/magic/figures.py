"""How the notebook draws its own figures: format, size and arguments of its inline backend."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from isolated_magic.request import FIGURE_FORMATS, FigureSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from IPython.core.interactiveshell import InteractiveShell

    from isolated_magic.strict_json import JsonValue

CONFIG = "InlineBackend"
SIZES = ("figure.figsize", "figure.dpi")  # rcParams: fonts and styles are the run's own
_FORMATS_OF = {"image/png": "png", "image/jpeg": "jpeg", "image/svg+xml": "svg", "application/pdf": "pdf"}


def figure_settings(shell: InteractiveShell, *, colors: bool) -> FigureSettings | None:
    """The notebook's settings for figures, and for colours in text; None where they are the defaults."""
    matplotlib, config = sys.modules.get("matplotlib"), _config(shell)
    if matplotlib is None and config is None:
        return FigureSettings(colors=True) if colors else None
    formats, arguments = _of_formatters(shell) or _of_config(config)
    settings = FigureSettings(
        formats=tuple(sorted(formats)) or FigureSettings().formats,
        savefig=_plain(arguments),
        rc=_plain(_sizes(matplotlib, config)),
        closes=bool(getattr(config, "close_figures", True)),
        colors=colors,
    )
    return None if settings == FigureSettings() else settings


def _config(shell: InteractiveShell) -> Any:  # noqa: ANN401 - traitlets of another package
    """The settings of the inline backend, None where nobody has set any."""
    module: Any = sys.modules.get("matplotlib_inline.config")
    if module is not None and module.InlineBackend.initialized():
        return module.InlineBackend.instance()
    if CONFIG not in shell.config:
        return None
    try:
        from matplotlib_inline.config import InlineBackend  # noqa: PLC0415 - only where a profile has settings for it
    except ImportError:
        return None
    return InlineBackend(config=shell.config)


def _of_formatters(shell: InteractiveShell) -> tuple[set[str], Mapping[str, object]] | None:
    """What the inline backend has registered: ``set_matplotlib_formats()`` changes nothing else."""
    figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
    formatters: Any = getattr(shell.display_formatter, "formatters", {})
    found: set[str] = set()
    arguments: dict[str, object] = {}
    for mime, name in _FORMATS_OF.items():
        printer: Any = None
        if figure is not None and mime in formatters:
            printer = formatters[mime].type_printers.get(figure)
        keywords = getattr(printer, "keywords", None)
        if keywords is not None:
            found.add("retina" if getattr(printer.func, "__name__", "") == "retina_figure" else name)
            arguments = {key: value for key, value in keywords.items() if key not in {"fmt", "base64"}}
    return (found, arguments) if found else None


def _of_config(config: Any) -> tuple[set[str], Mapping[str, object]]:  # noqa: ANN401 - likewise
    defaults = FigureSettings()
    if config is None:
        return set(defaults.formats), dict(defaults.savefig)
    aliases = {"jpg": "jpeg", "png2x": "retina"}
    formats = {aliases.get(name, name) for name in config.figure_formats}
    return formats & set(FIGURE_FORMATS), config.print_figure_kwargs


def _sizes(matplotlib: Any, config: Any) -> dict[str, object]:  # noqa: ANN401 - a module, and traitlets
    """The sizes that the notebook has changed; those of a matplotlibrc a run reads itself."""
    if matplotlib is None:
        return {name: value for name, value in config.rc.items() if name in SIZES}
    try:
        now, before = matplotlib.rcParams, matplotlib.rcParamsOrig
        return {name: now[name] for name in SIZES if now[name] != before[name]}
    except (AttributeError, KeyError):
        return {}


def _plain(values: Mapping[str, object]) -> tuple[tuple[str, JsonValue], ...]:
    """The pairs that JSON can hold, sorted."""
    found: list[tuple[str, JsonValue]] = []
    for name in sorted(values):
        try:
            found.append((name, json.loads(json.dumps(values[name]))))
        except (TypeError, ValueError):
            continue
    return tuple(found)
