"""Data frames, where pandas is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolated_magic.errors import MissingLibraryError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas

NO_PANDAS = (
    "to_pandas() needs pandas, which is not installed: pip install 'isolated-magic[notebooks]', "
    "or pandas by itself: pip install pandas"
)


def to_data_frame(rows: Sequence[Mapping[str, object]], columns: Sequence[str]) -> pandas.DataFrame:
    """A data frame of rows with these columns.

    Raises:
        MissingLibraryError: pandas is not installed.
    """
    try:
        import pandas  # noqa: PLC0415 - half a second, and not installed everywhere
    except ImportError:
        raise MissingLibraryError(NO_PANDAS) from None
    return pandas.DataFrame(list(rows), columns=list(columns))
