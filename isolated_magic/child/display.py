"""``display()``: the formats of an object, and how they get to the owner.

Formats are found as IPython finds them (IPython/core/formatters.py), but on the class of an object alone: a proxy
may load or connect something when it is asked for an attribute. An error in one format is reported on stderr and
costs no other one.
"""

from __future__ import annotations

import sys

from . import display_hooks
from .channel import decode, encode
from .display_hooks import BUNDLE, METHODS, TAKES_OVER, standard_module
from .error_report import describe, text_of
from .plain import mro_of

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    Bundle = tuple[dict[str, Any], dict[str, Any]]

LARGEST_BYTES = 60 << 20  # of one message; the owner takes no more than strict_json.LARGEST_RESULT_BYTES
BINARY = ("image/png", "image/jpeg", "application/pdf")
LINE_COLUMNS = 79  # as IPython's pretty printer has it
TEXT_FORMS = ("text/plain", "text/markdown", "text/latex")


class DisplayHandle:
    """A display that can be updated; what ``display(..., display_id=...)`` returns."""

    def __init__(self, display_id: str | None = None) -> None:
        self.display_id = _new_id() if display_id is None else display_id

    def __repr__(self) -> str:
        return f"<{type(self).__name__} display_id={self.display_id}>"

    def display(self, obj: object, **settings: Any) -> None:  # noqa: ANN401 - as of display()
        """Show an object as another display of this id."""
        display(obj, display_id=self.display_id, **settings)

    def update(self, obj: object, **settings: Any) -> None:  # noqa: ANN401 - likewise
        """Show an object in place of what was shown."""
        display(obj, display_id=self.display_id, update=True, **settings)


def display(
    *objs: object,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    metadata: dict[str, Any] | None = None,
    transient: dict[str, Any] | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
    **_: object,
) -> DisplayHandle | None:
    """Show objects; see IPython's function of that name."""
    transient = dict(transient or {})
    if display_id:
        transient["display_id"] = display_id = _new_id() if display_id is True else str(display_id)
    if update and "display_id" not in transient:
        raise TypeError("display_id required for update_display")
    if not objs and display_id:  # a place for something that is to come
        objs, raw = ({},), True
    if clear:
        clear_output(wait=True)
    for value in objs:
        bundle: Bundle | None = (value, {}) if raw else formatted(value, include, exclude)  # type: ignore[assignment]  # a bundle by now
        if bundle is not None:
            publish(bundle[0], _merged(bundle[1], metadata or {}), transient=transient, update=update)
    return DisplayHandle(display_id) if isinstance(display_id, str) and display_id else None


def _new_id() -> str:
    display_hooks.current.ids += 1
    return f"display {display_hooks.current.ids}"  # the same on every run


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    merged = dict(first)
    for key, value in second.items():
        is_nested = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merged(merged[key], value) if is_nested else value
    return merged


def publish(
    data: dict[str, Any],
    metadata: dict[str, Any] | None = None,
    *,
    transient: dict[str, Any] | None = None,
    update: bool = False,
    **_: object,
) -> None:
    """Send a bundle to the owner, or print its text where nobody takes it."""
    if not isinstance(data, dict):
        raise TypeError("data must be a dict")
    if metadata is not None and not isinstance(metadata, dict):
        raise TypeError("metadata must be a dict")
    sent = {"data": _plain_bundle(data), "metadata": _plain_json(metadata or {}) or {}}
    if transient and isinstance(transient.get("display_id"), str):
        sent["id"] = transient["display_id"]
        sent["update"] = bool(update)
    size = sum(len(value) for value in sent["data"].values() if isinstance(value, str))
    if size > LARGEST_BYTES:
        sent["data"] = {
            "text/plain": f"[not shown: it has {size:,} characters, and {LARGEST_BYTES:,} are the most]"
        }
    channel = display_hooks.current.channel
    if display_hooks.current.is_over:
        sent["is_at_end"] = True
    if channel is None or not channel.display(sent):
        print(text_form(sent["data"]))  # noqa: T201 - as IPython does without a shell


def clear_output(*, wait: bool) -> None:
    """Have the owner take away what was shown so far."""
    channel = display_hooks.current.channel
    if channel is not None:
        channel.display({"clear": True, "wait": wait})


def text_form(data: dict[str, Any]) -> str:
    """A bundle as text."""
    for mime in TEXT_FORMS:
        if isinstance(data.get(mime), str):
            return str(data[mime])
    return f"<{', '.join(data)}>"


def _plain_bundle(data: dict[str, Any]) -> dict[str, Any]:
    found = {str(mime): _plain_format(str(mime), value) for mime, value in data.items()}
    return {mime: value for mime, value in found.items() if value is not None}


def _plain_format(mime: str, value: Any) -> Any:  # noqa: ANN401 - JSON, None for what cannot be
    if isinstance(value, (bytes, bytearray)):
        return (
            _base64(value) if mime in BINARY or not mime.startswith("text/") else value.decode("utf-8", "replace")
        )
    return str.__str__(value) if isinstance(value, str) else _plain_json(value)


def _plain_json(value: Any) -> Any:  # noqa: ANN401 - JSON
    """The value as it comes out of JSON, where a key stands once; None when it is not JSON."""
    try:
        return decode(encode(value))
    except Exception:  # noqa: BLE001 - whatever the object does
        return None


def _base64(value: bytes | bytearray) -> str:
    text: bytes = standard_module("binascii").b2a_base64(value, newline=False)
    return text.decode()


def formatted(
    value: object, include: Collection[str] | None = None, exclude: Collection[str] | None = None
) -> Bundle | None:
    """The formats of an object and their metadata; None when it has displayed itself."""
    figure = _figure_bundle(value)
    if figure is not None:
        data, metadata = figure
    else:
        if (
            TAKES_OVER in names_of(value)
            and not _is_of_plotly(value)
            and _call(value, TAKES_OVER, fallback=_FAILED) is not _FAILED
        ):
            return None
        data, metadata = _bundle_of(value, include, exclude)
    wanted = {mime: one for mime, one in data.items() if _is_wanted(mime, include, exclude)}
    return wanted, {mime: one for mime, one in metadata.items() if mime in wanted or mime not in METHODS}


def _is_wanted(mime: str, include: Collection[str] | None, exclude: Collection[str] | None) -> bool:
    return not (include and mime not in include) and not (exclude and mime in exclude)


def _figure_bundle(value: object) -> Bundle | None:
    if "matplotlib.figure" not in sys.modules:
        return None
    figures = display_hooks._loaded("figures")
    bundle: Bundle | None = figures.bundle(value) if figures.is_figure(value) else None
    return bundle


def _is_of_plotly(value: object) -> bool:
    """Whether it is a figure of plotly's, which would open a browser where it sees no IPython."""
    return any(vars(kind).get("__module__") == "plotly.basedatatypes" for kind in mro_of(type(value)))


_FAILED = object()


def names_of(value: object) -> set[str]:
    """The names that the classes of an object define and have not set to None."""
    found: dict[str, bool] = {}
    for kind in mro_of(type(value)):
        for name in (BUNDLE, TAKES_OVER, *METHODS.values()):
            if name not in found and name in vars(kind):
                found[name] = vars(kind)[name] is not None
    return {name for name, is_there in found.items() if is_there}


def _bundle_of(value: object, include: Collection[str] | None, exclude: Collection[str] | None) -> Bundle:
    names = names_of(value)
    data: dict[str, Any] = {"text/plain": pretty(value)}
    metadata: dict[str, Any] = {}
    if BUNDLE in names:
        own, about = _parts(_call(value, BUNDLE, include=include, exclude=exclude))
        if isinstance(own, dict):
            data.update(own)
            metadata.update(about if isinstance(about, dict) else {})
            names = {name for name in names if not any(METHODS.get(mime) == name for mime in own)}
    for mime, name in METHODS.items():
        if name not in names or not _is_wanted(mime, include, exclude):
            continue
        own, about = _parts(_call(value, name))
        if own is None or not (mime == "application/json" or isinstance(own, (str, bytes, bytearray))):
            continue
        data[mime] = own
        if isinstance(about, dict) and about:
            metadata[mime] = about
    return data, metadata


def _parts(answer: Any) -> tuple[Any, Any]:  # noqa: ANN401 - whatever a method returned
    """Data and metadata of a format: a method returns both, or the data alone."""
    return answer if isinstance(answer, tuple) and len(answer) == 2 else (answer, None)


def _call(value: object, name: str, fallback: object = None, **settings: object) -> Any:  # noqa: ANN401 - likewise
    try:
        return getattr(value, name)(**settings)
    except NotImplementedError:
        return fallback
    except Exception as problem:  # noqa: BLE001 - the user's own
        report(problem)
        return fallback


def report(problem: Exception) -> None:
    """Say on stderr why a format is missing."""
    try:
        sys.stderr.write(f"{describe(problem, None, '')['text']}\n")
    except Exception:  # noqa: BLE001 - the code replaced or closed it
        return


def pretty(value: object) -> str:
    """The repr of a value; of a long list or dict in lines."""
    text = text_of(value, repr)
    if len(text) > LINE_COLUMNS and type(value) in {dict, list, tuple, set, frozenset}:
        pprint = standard_module("pprint")
        return text_of(value, lambda one: pprint.pformat(one, width=LINE_COLUMNS, sort_dicts=False))
    return text


def show_value(value: object) -> bool:
    """See :func:`display_hooks.show_value`."""
    if not names_of(value) and _figure_bundle(value) is None:
        return False
    bundle = formatted(value)
    if bundle is not None and bundle[0].keys() <= {"text/plain"} and "text/plain" in bundle[0]:
        return False
    if bundle is not None and bundle[0]:
        publish(*bundle)
    return True
