"""The client of a Dask cluster, used from any thread: what its event loop does for us, within a time."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any

from distributed import Client
from distributed.cfexecutor import ClientExecutor
from distributed.comm.addressing import get_address_host_port
from distributed.core import Status

from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.executors.row_values import exception_text

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

CONNECT_SECS = 10.0  # to a scheduler whose address is given
CLOSED = ("closing", "closed")  # states of a client
CLOSED_CLUSTER = (Status.closing, Status.closed)
CLOSED_TEXT = "The Dask client was closed, or has lost its scheduler."


class Connection:
    """See the module.

    Args:
        given: a client; or a cluster or an address, to which a client of our own is connected.

    Raises:
        InvalidRequestError: the client cannot be used.
        LaunchError: no scheduler answers.
    """

    def __init__(self, given: object) -> None:
        self.client, self._is_ours = client_of(given)
        if self.client.asynchronous:
            raise InvalidRequestError("client is asynchronous: give a Client without asynchronous=True.")
        if self.is_closed:
            raise InvalidRequestError("client is closed: give a Client that is connected.")

    @property
    def is_closed(self) -> bool:
        """Whether the client is, by whomever."""
        return self.client.status in CLOSED

    @property
    def scheduler(self) -> Any:  # noqa: ANN401 - it answers to any name
        """Calls what the scheduler offers, in the event loop."""
        return self.client.scheduler

    def close(self) -> None:
        """Close the client, if it is our own."""
        if self._is_ours and not self.is_closed:
            self.client.close()

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> concurrent.futures.Future[Any]:
        """Have the event loop of the client run this.

        Raises:
            LaunchError: it has ended.
        """
        try:
            loop: Any = self.client.loop
            return asyncio.run_coroutine_threadsafe(coroutine, loop.asyncio_loop)
        except RuntimeError:  # it ends with its last client
            coroutine.close()
            raise LaunchError(CLOSED_TEXT) from None

    def ask(self, coroutine: Coroutine[Any, Any, Any], timeout_secs: float) -> Any:  # noqa: ANN401 - its result
        """Wait for the end of a coroutine, at most so long.

        Raises:
            LaunchError: the event loop has ended.
            TimeoutError: it took longer.
        """
        try:
            asked = self.begin(asyncio.wait_for(coroutine, timeout_secs))
        except LaunchError:
            coroutine.close()  # else Python warns of it, as it was never begun
            raise
        try:
            return asked.result(timeout_secs + 1)
        except concurrent.futures.CancelledError:
            raise LaunchError(CLOSED_TEXT) from None

    def tell(
        self, workers: list[str], timeout_secs: float, function: Callable[..., object], *args: object
    ) -> dict[str, Any]:
        """Call a function in workers; their answers, or none if one of them does not answer in time."""
        if not workers or self.client.status != "running":
            return {}
        told = self.client.run(function, *args, workers=workers, on_error="ignore", asynchronous=True)
        answers: dict[str, Any]
        try:
            answers = self.ask(told, timeout_secs)
        except Exception:  # noqa: BLE001 - they are late, gone, or the client is: nobody answers
            answers = {}
        return answers


def stands_for_client(given: object) -> bool:
    """Whether :class:`Connection` takes it."""
    return isinstance(given, (Client, str, ClientExecutor)) or hasattr(given, "scheduler_address")


def client_of(given: Any) -> tuple[Client, bool]:  # noqa: ANN401 - checked by those who call
    """The Dask client that an object stands for, and whether it was made here.

    Raises:
        InvalidRequestError: it is a text and no address, or a cluster that was closed.
        LaunchError: no scheduler answers.
    """
    if isinstance(given, Client):
        return given, False
    if isinstance(given, str):
        _check_address(given)
    if isinstance(given, ClientExecutor):  # of Client.get_executor()
        return given._client, False
    if getattr(given, "status", None) in CLOSED_CLUSTER:
        raise InvalidRequestError("client is a cluster that was closed: give one that runs.")
    try:
        return Client(given, set_as_default=False, timeout=CONNECT_SECS), True
    except (OSError, ValueError) as problem:
        where = given if isinstance(given, str) else type(given).__name__
        raise LaunchError(f"No Dask scheduler answers at {where}: {exception_text(problem)}.") from None


def _check_address(given: str) -> None:
    """A client that was given no address at all waits for it for long when the program ends."""
    try:
        get_address_host_port(given)
    except ValueError:
        if not given.startswith("inproc://"):
            raise InvalidRequestError(
                "client is a text, and no address of a Dask scheduler: give one such as 'tcp://scheduler:8786'."
            ) from None
