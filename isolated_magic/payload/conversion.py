"""Convert values of the standard library, numpy, pandas, polars, pyarrow and pydantic to what JSON can hold.

Objects are recognised by their methods and attributes, so that no library is imported.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import numbers
import pathlib
import sys
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_WRITTEN_OUT = (
    pathlib.PurePath,
    uuid.UUID,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)


class NotJsonError(TypeError):
    """A value has no conversion, or only a lossy one."""


def convert(value: object) -> object:
    """Convert one level of a value, as ``default`` of :func:`json.dumps` must.

    Raises:
        NotJsonError: there is no conversion.
        Exception: any error of the value's own library.
    """
    for step in (_from_standard_library, _from_array, _from_number, _from_model, _from_collection):
        converted = step(value)
        if converted is not value:
            return with_plain_keys(converted) if isinstance(converted, dict) else converted
    raise NotJsonError(type(value).__name__)


def _from_standard_library(value: object) -> object:
    if _is_missing(value):
        return None
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, _WRITTEN_OUT):
        return str(value)
    return value


def _from_number(value: object) -> object:
    # A Decimal becomes a number, not text: the code computes with it.
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value)
    return value


def _from_array(value: object) -> object:
    """Convert arrays (numpy's protocol), data frames, columns and rows."""
    if hasattr(value, "to_dicts") or hasattr(value, "to_pylist"):  # polars, pyarrow
        names = getattr(value, "column_names", ())
        if len(set(names)) < len(names):
            raise NotJsonError("repeated columns")
        rows: object = getattr(value, "to_dicts", None) or getattr(value, "to_pylist", None)
        return rows() if callable(rows) else value
    if hasattr(value, "columns") and hasattr(value, "to_dict"):
        if not getattr(value.columns, "is_unique", True):
            raise NotJsonError("repeated columns")
        return _rows_of(value)
    if hasattr(value, "to_list") and hasattr(value, "index") and hasattr(value, "to_dict"):
        return series_to_dict(value) if is_row(value) else series_to_list(value)
    kind = getattr(getattr(value, "dtype", None), "kind", None)
    if kind == "m" and hasattr(value, "astype"):  # seconds, as of every other duration
        return _missing_as_none(value, value.astype("timedelta64[ns]").astype("int64") / 1e9)
    if kind == "M" and hasattr(value, "astype"):  # tolist() would give nanoseconds as bare integers
        return _missing_as_none(value, value.astype(str))
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        plain = value.tolist()
        return value if type(plain) is type(value) else plain  # a longdouble stays what it is
    return value.to_list() if hasattr(value, "to_list") and hasattr(value, "to_frame") else value  # of polars


def to_table(value: Any, least: int) -> Table | None:  # noqa: ANN401 - likewise
    """The columns of a pandas frame; None for under ``least`` values, or labels that cannot be JSON keys."""
    pandas = sys.modules.get("pandas")
    if pandas is None or type(value) is not pandas.DataFrame or value.size < least:
        return None
    names = _names_of(value)
    return Table(names, [column_values(value.iloc[:, n]) for n in range(len(names))]) if names else None


def _rows_of(frame: Any) -> object:  # noqa: ANN401 - likewise
    """Like ``frame.to_dict(orient="records")``, with converted values."""
    pandas = sys.modules.get("pandas")
    names = _names_of(frame) if pandas is not None and type(frame) is pandas.DataFrame else []
    if not names:
        return frame.to_dict(orient="records")
    columns = [series_to_list(frame.iloc[:, n]) for n in range(len(names))]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _names_of(frame: Any) -> list[str]:  # noqa: ANN401 - likewise
    """The column labels as JSON keys; empty where one cannot be a key, or two become equal."""
    labels = [plain_key(label) for label in frame.columns]
    if not all(label is None or isinstance(label, (str, int, float)) for label in labels):
        return []
    names = [name for label in labels for name in json.loads(json.dumps({label: 0}))]
    return names if len(set(names)) == len(names) else []


def series_to_dict(series: Any) -> object:  # noqa: ANN401 - pandas is not imported here
    """A pandas Series as a dict.

    Raises:
        NotJsonError: two labels are equal.
    """
    if not series.index.is_unique:
        raise NotJsonError("repeated labels")
    return series.to_dict()


def _missing_as_none(value: object, converted: object) -> object:
    numpy: Any = sys.modules["numpy"]
    return numpy.where(numpy.isnat(numpy.asarray(value)), None, converted).tolist()


def _from_model(value: object) -> object:
    if isinstance(value, type):
        return value
    if dataclasses.is_dataclass(value):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return _dumped(value)
    return value


def _dumped(model: Any) -> object:  # noqa: ANN401 - pydantic is not imported here
    """A pydantic model as a dict; pydantic converts what we cannot, such as sets and URLs."""
    fields = model.model_dump()
    for name, value in fields.items():
        try:
            json.dumps(value, default=convert)
        except TypeError:
            as_json = model.model_dump(mode="json", include={name})[name]
            if not _is_masked(as_json):
                fields[name] = as_json
    return fields


def _is_masked(value: object) -> bool:
    """Whether pydantic masked a secret: sending the asterisks would be silently wrong."""
    return "**********" in json.dumps(value)


def _from_collection(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray, memoryview)):
        return list(value)
    return value


def _is_missing(value: object) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and (value is pandas.NA or value is pandas.NaT)


def with_plain_keys(mapping: dict[Any, object]) -> dict[Any, object]:
    """The dict with keys converted for JSON where possible, such as numpy integers and dates.

    Raises:
        NotJsonError: two keys become the same text.
    """
    if all(type(key) is str for key in mapping):
        return mapping
    if has_repeated_keys(mapping):
        raise NotJsonError("repeated keys")
    return {plain_key(key): value for key, value in mapping.items()}


def has_repeated_keys(mapping: dict[Any, object]) -> bool:
    """Whether two keys become the same text, such as 1 and "1"."""
    plain = [key for key in map(plain_key, mapping) if key is None or isinstance(key, (str, int, float))]
    return len({json.dumps({key: 0}) for key in plain}) < len(plain)


def plain_key(key: object) -> object:
    """A dict key converted for JSON; the key itself where there is no conversion."""
    if key is None or isinstance(key, (str, int, float)):
        return key
    try:
        converted = convert(key)
    except Exception:  # noqa: BLE001 - then it has none, and the diagnosis will say so
        return key
    return converted if isinstance(converted, (str, int, float)) else key


_KINDS_OF_NUMBERS = "biuf"  # as numpy has them
_LARGEST_NUMBER = 8  # bytes


class Block(NamedTuple):
    """A list of values of one type, or a regular nested list of them, as bytes."""

    kind: str  # letter and bytes of the number type as in numpy, such as "f8"; "str" for text
    shape: list[int]  # length of each dimension
    content: bytes  # numbers as in memory, row by row; strings separated by NUL


class Table(NamedTuple):
    """A list of dicts that all have the same keys, by column."""

    names: list[str]  # the keys
    columns: list[list[object] | Block]  # for each key the values of all dicts


def to_block(value: Any, least: int) -> Block | None:  # noqa: ANN401 - neither numpy nor pandas is imported here
    """The numbers of an array or column; None for fewer than ``least``, or a type that Python does not have."""
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if pandas is not None and type(value) is pandas.Series and len(value) >= least and not is_row(value):
        column = column_values(value)
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


def column_values(series: Any) -> list[object] | Block:  # noqa: ANN401 - likewise
    """The values of a column."""
    numpy = sys.modules["numpy"]
    found = _block_in(series.to_numpy()) if isinstance(series.dtype, numpy.dtype) else None
    return series_to_list(series) if found is None else found


def series_to_list(series: Any) -> list[object]:  # noqa: ANN401 - likewise
    """``series.to_list()``, with values converted where vectorised conversion is faster."""
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
    """Whether a Series is one row of a frame: all its labels are strings."""
    return len(series.index) > 0 and all(isinstance(label, str) for label in series.index)
