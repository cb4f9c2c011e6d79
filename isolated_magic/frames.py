"""Tables for those who have pandas."""

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
