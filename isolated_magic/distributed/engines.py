"""Which engine carries chunks for what the caller gave."""

from __future__ import annotations

from concurrent.futures import Executor
from typing import TYPE_CHECKING

from isolated_magic.errors import InvalidRequestError, MissingLibraryError

if TYPE_CHECKING:
    from isolated_magic.distributed.engine import Engine
    from isolated_magic.executors.isolated import LaunchSettings

SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://", "inproc://")
NO_DASK = (
    "Runs on a Dask cluster need dask.distributed and cryptography, which are not both installed: "
    "pip install 'isolated-magic[dask]'"
)


def engine_for(client: object, settings: LaunchSettings) -> Engine:
    """An engine for a Dask client, a cluster, the address of a scheduler, or an executor.

    Raises:
        InvalidRequestError: it is none of these, or a client that cannot be used.
        LaunchError: no scheduler answers at the address.
        MissingLibraryError: dask.distributed is not installed.
    """
    is_of_dask = type(client).__module__.partition(".")[0] == "distributed"
    if isinstance(client, Executor) and not is_of_dask:
        from isolated_magic.distributed.futures_engine import FuturesEngine  # noqa: PLC0415 - one of two

        return FuturesEngine(client, settings)
    try:
        from isolated_magic.distributed.dask_connection import Connection, stands_for_client  # noqa: PLC0415 - 0.5 s
        from isolated_magic.distributed.dask_engine import DaskEngine  # noqa: PLC0415 - likewise
    except ImportError:
        if is_of_dask or isinstance(client, str):
            raise MissingLibraryError(NO_DASK) from None
        raise _invalid(client) from None
    if not stands_for_client(client):
        raise _invalid(client)
    return DaskEngine(Connection(client), settings)


def _invalid(client: object) -> InvalidRequestError:
    return InvalidRequestError(
        f"client is {type(client).__name__}: give a Dask Client, a cluster, the address of a scheduler "
        "such as 'tcp://scheduler:8786', or a concurrent.futures.Executor."
    )
