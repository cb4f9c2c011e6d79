"""Frames, columns and arrays for those who have pandas and numpy; neither is imported here."""

from __future__ import annotations

import datetime
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from isolated_magic.errors import MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas

NO_PANDAS = (
    "to_pandas() needs pandas, which is not installed: pip install 'isolated-magic[notebooks]', "
    "or pandas by itself: pip install pandas"
)

_KINDS_OF_NUMBERS = "biuf"  # as numpy has them
_LARGEST_NUMBER = 8  # bytes


class Block(NamedTuple):
    """What becomes a list of values of one type, or lists of one length in it.

    Args:
        kind: of number, by its letter and its bytes as numpy has them; ``"str"`` for text.
        shape: the lengths of the list and of those in it.
        content: the numbers as they lie in memory, row by row; text with a NUL between two.
    """

    kind: str
    shape: list[int]
    content: bytes


class Table(NamedTuple):
    """What becomes a list of dicts that all have the same keys.

    Args:
        names: the keys.
        columns: for each key the values of all the dicts.
    """

    names: list[str]
    columns: list[list[object] | Block]


def frame_of(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pandas.DataFrame:
    """A data frame.

    Args:
        rows: each with all the columns.
        columns: their names, in order.

    Raises:
        MissingLibraryError: pandas is not installed.
    """
    try:
        import pandas  # noqa: PLC0415 - half a second, and not installed everywhere
    except ImportError:
        raise MissingLibraryError(NO_PANDAS) from None
    return pandas.DataFrame(list(rows), columns=list(columns))


def block_of(value: Any, least: int) -> Block | None:  # noqa: ANN401 - neither numpy nor pandas is imported here
    """The numbers of an array or a column, None when they are fewer, or of a type that Python does not have.

    Args:
        value: anything.
        least: how many there have to be.
    """
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if pandas is not None and type(value) is pandas.Series and len(value) >= least and not is_row(value):
        column = column_of(value)
        return column if isinstance(column, Block) else None
    if numpy is None or type(value) is not numpy.ndarray or value.size < least:
        return None
    return _block_in(value)


def _block_in(found: Any) -> Block | None:  # noqa: ANN401 - numpy is not imported here
    kind, size = found.dtype.kind, found.dtype.itemsize
    if kind not in _KINDS_OF_NUMBERS or size > _LARGEST_NUMBER:
        return None
    if (kind, size) == ("f", 2):  # Python knows no such numbers
        size = 4
    return Block(f"{kind}{size}", list(found.shape), found.astype(f"{kind}{size}").tobytes())


def column_of(series: Any) -> list[object] | Block:  # noqa: ANN401 - likewise
    """The values of a column.

    Args:
        series: of pandas.
    """
    numpy = sys.modules["numpy"]
    found = _block_in(series.to_numpy()) if isinstance(series.dtype, numpy.dtype) else None
    return values_in(series) if found is None else found


def values_in(series: Any) -> list[object]:  # noqa: ANN401 - likewise
    """What ``series.to_list()`` has; converted already where that is faster for all of them at once.

    Args:
        series: of pandas, or what has ``to_list()`` as it does.
    """
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is None or pandas is None or not isinstance(series, pandas.Series):
        values = series.to_list()
    elif isinstance(series.dtype, (numpy.dtype, pandas.DatetimeTZDtype)) and series.dtype.kind == "M":
        values = _times_in(series)
    elif isinstance(series.dtype, numpy.dtype) and series.dtype.kind == "m":
        values = numpy.where(series.isna(), None, series.dt.total_seconds()).tolist()
    elif getattr(series.dtype, "na_value", None) is pandas.NA:
        values = series.to_numpy(dtype=object, na_value=None).tolist()
    else:
        values = series.to_list()
    return list(values)


def _times_in(series: Any) -> list[object]:  # noqa: ANN401 - likewise
    """What ``isoformat()`` of each gives."""
    numpy = sys.modules["numpy"]
    is_aware = getattr(series.dtype, "tz", None) is not None
    local = (series.dt.tz_localize(None) if is_aware else series).to_numpy()
    there = local[~numpy.isnat(local)]
    if there.size and (there.min() < numpy.datetime64("0001") or there.max() >= numpy.datetime64("9999-12-31")):
        return list(series.to_list())
    coarse = local.astype("datetime64[s]")
    texts = numpy.datetime_as_string(coarse)
    for unit in ("us", "ns"):
        if (has_rest := local != coarse).any():
            coarse = local.astype(f"datetime64[{unit}]")
            texts = numpy.where(has_rest, numpy.datetime_as_string(coarse), texts)
    if is_aware:
        offsets = (local - series.dt.tz_convert(None).to_numpy()).astype("timedelta64[s]").astype("int64")
        different, which = numpy.unique(offsets, return_inverse=True)
        texts = numpy.char.add(texts, numpy.array([_offset_text(int(secs)) for secs in different])[which])
    return list(numpy.where(numpy.isnat(local), None, texts))


def _offset_text(secs: int) -> str:
    if abs(secs) >= 24 * 3600:  # NaT has one, too
        return ""
    zone = datetime.timezone(datetime.timedelta(seconds=secs))
    return datetime.datetime(1, 1, 2, tzinfo=zone).isoformat()[19:]


def is_row(series: Any) -> bool:  # noqa: ANN401 - likewise
    """Whether a Series is one row of a frame: its labels are texts.

    Args:
        series: of pandas, or what has an index as it does.
    """
    return len(series.index) > 0 and all(isinstance(label, str) for label in series.index)
