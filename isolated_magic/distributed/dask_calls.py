"""Calls to the executors in the workers of a Dask cluster, beside the chunks that they run."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from distributed.protocol.serialize import to_serialize

from isolated_magic.distributed import dask_plugin
from isolated_magic.distributed.chunk import opened

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isolated_magic.distributed.chunk import Chunk, Cipher
    from isolated_magic.distributed.dask_connection import Connection
    from isolated_magic.distributed.news import News

AGAIN_SECS = 0.05  # after a chunk was not there yet, or could not be asked for


class WorkerCalls:
    """See the module. Coroutines for the client's event loop.

    Args:
        connection: to the cluster.
        executor_id: of the executor that is called in each worker.
        cipher: of that executor.
    """

    def __init__(self, connection: Connection, executor_id: str, cipher: Cipher) -> None:
        self._connection = connection
        self._executor_id = executor_id
        self._cipher = cipher

    async def ask(self, address: str, method: str, args: tuple[object, ...], timeout_secs: float) -> object:
        """Call a method of a worker's executor; None if it does not answer in time."""
        return await self._call(address, dask_plugin.ask, method, args, timeout_secs=timeout_secs)

    async def ask_all(
        self, addresses: Sequence[str], method: str, args: tuple[object, ...], timeout_secs: float
    ) -> dict[str, object]:
        """The answers of those workers that answer in time, by address."""
        answers = await asyncio.gather(*(self.ask(each, method, args, timeout_secs) for each in addresses))
        return {address: answer for address, answer in zip(addresses, answers, strict=True) if answer is not None}

    async def give(self, address: str, process: str, chunk: Chunk) -> str | None:
        """Have a worker take a chunk; what becomes of it there, None if the worker does not say.

        Args:
            address: of the worker.
            process: the one that is to take it.
            chunk: to give.
        """
        fields = {**vars(chunk)}
        message = {
            "op": dask_plugin.plugin_name(self._executor_id),
            "process": process,
            "sealed": to_serialize(fields.pop("sealed")),
            "fields": fields,
        }
        answers: dict[str, str | None] = await self._connection.scheduler.broadcast(
            msg=message, workers=[address], on_error="ignore"
        )
        return answers.get(address)

    async def follow(
        self,
        address: str,
        chunk_id: str,
        is_out: Callable[[str], bool],
        told: Callable[[int, Sequence[News]], object],
    ) -> None:
        """Tell news of a chunk, with the number of the first of them, as long as it is out."""
        number = 0
        while is_out(chunk_id) and self._connection.client.status == "running":
            secs = 2 * dask_plugin.FOLLOW_SECS
            found: Any = await self._call(address, dask_plugin.follow, chunk_id, number, timeout_secs=secs)
            if found is None:
                await asyncio.sleep(AGAIN_SECS)
                continue
            news = opened(found, self._cipher)
            told(number, news)
            number += len(news)

    async def _call(
        self, address: str, function: Callable[..., object], *args: object, timeout_secs: float
    ) -> object:
        called = self._connection.client.run(
            function, self._executor_id, *args, workers=[address], on_error="ignore", asynchronous=True
        )
        try:
            return (await asyncio.wait_for(called, timeout_secs)).get(address)
        except Exception:  # noqa: BLE001 - it is late, gone, or the client is: nobody answers
            return None
