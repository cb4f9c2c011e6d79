"""Carries chunks on a Dask cluster: each is a task that is bound to one worker.

Bound to it, a task does not run again by itself when its worker dies: which rows are run again, and where, is for
the dispatch to decide.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import secrets
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import KilledWorker
from distributed.client import ClosedClientError

from isolated_magic.distributed import dask_plugin
from isolated_magic.distributed.chunk import Cancelled, Failed, Lost, Refused, opened
from isolated_magic.distributed.cipher import AesCipher, new_key, sealed_for
from isolated_magic.distributed.dask_calls import WorkerCalls
from isolated_magic.distributed.dask_workers import ASK_SECS, GONE_SECS, DaskWorkers
from isolated_magic.distributed.engine import Engine
from isolated_magic.distributed.fitness import refusal
from isolated_magic.distributed.needs import NOTHING
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.executors.row_values import exception_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from distributed import Client

    from isolated_magic.distributed.chunk import Chunk, Outcome
    from isolated_magic.distributed.dask_connection import Connection
    from isolated_magic.distributed.engine import Worker
    from isolated_magic.distributed.needs import Needs
    from isolated_magic.distributed.news import News
    from isolated_magic.executors.isolated import LaunchSettings

INSPECT_SECS = 10.0  # for workers to answer what they have; those that take longer are used when they have


@dataclass
class _Sent:
    """A chunk that is out."""

    worker: Worker
    ended: Callable[[Outcome], object]
    future: Any = None  # of its task, once the worker has the chunk; dask has no types


class DaskEngine(Engine):
    """See the module.

    Args:
        connection: to the cluster.
        settings: how runs start on workers.
    """

    keeps_lanes = True

    def __init__(self, connection: Connection, settings: LaunchSettings) -> None:
        self.id = secrets.token_hex(8)
        self._key = new_key()
        self.cipher = AesCipher(self._key)
        self._connection = connection
        self._calls = WorkerCalls(connection, self.id, self.cipher)
        self._settings = settings
        self._workers = DaskWorkers(connection, self._install, self._uninstall, self._on_lost)
        self._sent: dict[str, _Sent] = {}  # by chunk id
        self._lock = threading.RLock()
        self._connection.begin(self._workers.look())  # so that workers outlive an interrupt before the first run

    def check(self, needs: Needs, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        deadline = time.monotonic() + timeout_secs
        self._workers.begin_check(needs)
        try:
            while not self._is_fit_for(needs):
                if time.monotonic() > deadline:
                    why = self._workers.failure or f"none came in {timeout_secs:g} seconds"
                    raise LaunchError(f"The cluster has no worker: {why}.")
                time.sleep(0.05)
        finally:
            self._workers.end_check(needs)

    def _is_fit_for(self, needs: Needs) -> bool:
        """Look at all workers; whether one of them is fit. None may be unfit."""
        if not self.gone:
            with suppress(TimeoutError):  # one that has lost many workers at once asks for the reasons
                self._connection.ask(self._workers.look(), GONE_SECS + ASK_SECS)
        if self.gone:
            raise LaunchError(self.gone)
        deadline = time.monotonic() + INSPECT_SECS
        while time.monotonic() < deadline and self._workers.are_being_prepared:
            time.sleep(0.005)
        if lacks := self.unfit(needs):
            raise InvalidRequestError(refusal(lacks))
        return bool(self.workers(needs))

    def watch(self, changed: Callable[[], object], needs: Needs = NOTHING) -> None:
        """See :class:`Engine`."""
        self._workers.watch(changed, needs)

    def unwatch(self, changed: Callable[[], object]) -> None:
        """See :class:`Engine`."""
        self._workers.unwatch(changed)

    def workers(self, needs: Needs = NOTHING) -> tuple[Worker, ...]:
        """See :class:`Engine`."""
        return self._workers.ready(needs)

    def unfit(self, needs: Needs) -> Mapping[str, str]:
        """See :class:`Engine`."""
        return self._workers.unfit(needs)

    @property
    def gone(self) -> str:
        """See :class:`Engine`."""
        return self._workers.gone

    def submit(self, worker: Worker, chunk: Chunk, ended: Callable[[Outcome], object]) -> None:
        """See :class:`Engine`."""
        with self._lock:
            self._sent[chunk.id] = _Sent(worker, ended)
        if not self._workers.has(worker):  # it was lost before the chunk was listed: nobody else ends it
            self._end(chunk.id, Cancelled())
            return
        try:
            self._connection.begin(self._carry(worker, chunk))
        except LaunchError:
            self._end(chunk.id, Cancelled())
            self._workers.tell_watchers()

    def cancel(self, chunk_ids: Collection[str]) -> None:
        """See :class:`Engine`."""
        with self._lock:
            sent = {each: self._sent[each].future for each in chunk_ids if each in self._sent}
        for chunk_id in [each for each, future in sent.items() if future is None]:
            self._end(chunk_id, Cancelled())
        futures = [future for future in sent.values() if future is not None]
        if futures and self._connection.client.status == "running":
            with suppress(LaunchError):
                self._connection.begin(self._cancel(futures))

    def settle(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        self._connection.tell(
            self._reachable(), timeout_secs, dask_plugin.settled, self.id, dispatch, timeout_secs
        )

    def end_lanes(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        self._connection.tell(self._reachable(), timeout_secs, dask_plugin.end_lanes, self.id, dispatch)

    def warm_up(self, timeout_secs: float) -> bool:
        """See :class:`Engine`."""
        self.check(NOTHING, timeout_secs)
        answers = self.ask_all("warm_up", timeout_secs, timeout_secs=timeout_secs + ASK_SECS)
        return len(answers) == len(self.workers()) and all(answers.values())

    def follow(self, worker: Worker, chunk_id: str, told: Callable[[int, Sequence[News]], object]) -> None:
        """See :class:`Engine`."""
        with suppress(LaunchError):
            self._connection.begin(self._calls.follow(worker.name, chunk_id, self._sent.__contains__, told))

    def ask(
        self,
        worker: Worker,
        method: str,
        *args: object,
        timeout_secs: float,
        answered: Callable[[object], object],
    ) -> None:
        """See :class:`Engine`."""
        try:
            asked = self._connection.begin(self._calls.ask(worker.name, method, args, timeout_secs))
        except LaunchError:
            answered(None)
            return
        asked.add_done_callback(lambda done: answered(None if done.cancelled() else done.result()))

    def ask_all(self, method: str, *args: object, timeout_secs: float, only: str = "") -> dict[str, object]:
        """See :class:`Engine`."""
        addresses = [address for address in self._reachable() if only in {"", address}]
        if not addresses or self.gone:
            return {}
        asked = self._calls.ask_all(addresses, method, args, timeout_secs)
        answers: dict[str, object]
        try:
            answers = self._connection.ask(asked, timeout_secs + 1)
        except (LaunchError, TimeoutError):
            answers = {}
        return answers

    def close(self) -> None:
        """See :class:`Engine`."""
        workers = self._reachable()
        self._workers.forget()
        self._connection.tell(workers, ASK_SECS, dask_plugin.uninstall, self.id)
        with suppress(LaunchError, TimeoutError):
            self._connection.ask(self._workers.prepared(), ASK_SECS)
        self._connection.close()

    def _reachable(self) -> list[str]:
        """Addresses of the workers that are ready and answer."""
        return [worker.name for worker in self.workers() if not worker.is_silent]

    # In the client's event loop.

    async def _install(self, address: str) -> None:
        run = self._connection.client.run
        public_keys = await run(dask_plugin.public_key, workers=[address], asynchronous=True)
        args = self.id, sealed_for(public_keys[address], self._key), self._settings
        await run(dask_plugin.install, *args, workers=[address], asynchronous=True)

    async def _uninstall(self, address: str) -> None:
        run = self._connection.client.run
        await run(dask_plugin.uninstall, self.id, workers=[address], on_error="ignore", asynchronous=True)

    async def _cancel(self, futures: list[Any]) -> None:
        await self._connection.client.cancel(futures, asynchronous=True, force=True)

    def _on_lost(self, worker: Worker, was_retired: bool) -> None:
        with self._lock:
            lost = {chunk: sent for chunk, sent in self._sent.items() if sent.worker.id == worker.id}
        for chunk in lost:
            self._end(chunk, Cancelled() if was_retired else Lost(f"{worker.name} is gone"))
        if lost:  # dask would run them again, where the address is used again
            futures = [sent.future for sent in lost.values() if sent.future is not None]
            asyncio.ensure_future(self._cancel(futures))  # noqa: RUF006

    async def _carry(self, worker: Worker, chunk: Chunk) -> None:
        """Give a worker a chunk, and then the task to run it.

        The scheduler keeps the last messages about tasks of each connection. So tasks are small, and what they run
        has come another way, which nobody keeps anything of.
        """
        try:
            outcome = await self._given(worker, chunk) or await self._ran(worker, chunk.id)
        except asyncio.CancelledError:  # the loop ends
            self._end(chunk.id, Cancelled())
            raise
        if isinstance(outcome, Refused) and not outcome.lacks_program:
            self._workers.not_ready(worker)  # it was not used for long, or somebody removed the plugin
        self._end(chunk.id, outcome)
        if self.gone:
            self._workers.tell_watchers()
        elif isinstance(outcome, Cancelled) and self._workers.has(
            worker
        ):  # which may wait for a task that never comes
            await self._calls.ask(worker.name, "stop_chunk", (chunk.id,), ASK_SECS)

    async def _given(self, worker: Worker, chunk: Chunk) -> Outcome | None:
        """Have a worker take a chunk; why it has not."""
        try:
            answer = await self._calls.give(worker.name, worker.id, chunk)
        except Exception:  # noqa: BLE001 - the connection is lost, or the client was closed
            return Cancelled()
        if answer == dask_plugin.TAKEN:
            return None
        return Cancelled() if answer == dask_plugin.STOPPED else Refused(lacks_program=False)

    async def _ran(self, worker: Worker, chunk_id: str) -> Outcome:
        """Have it run what it has taken."""
        outcome: Outcome
        try:
            future = self._submitted(worker, chunk_id)
            if future is None:
                return Cancelled()
            found = await _gathered(self._connection.client, future)
            outcome = opened(found, self.cipher) if isinstance(found, bytes) else found
        except (
            ClosedClientError,
            concurrent.futures.CancelledError,
        ):  # by us, somebody else, or with the connection
            outcome = Cancelled()
        except KilledWorker:  # by a cluster's own limit of deaths
            outcome = Lost("the worker process died")
        except Exception as problem:  # noqa: BLE001 - whatever comes from there
            outcome = Failed(exception_text(problem))
        return outcome

    def _submitted(self, worker: Worker, chunk_id: str) -> Any:  # noqa: ANN401 - dask has no types
        """The future of the task; None if it was cancelled meanwhile."""
        with self._lock:
            sent = self._sent.get(chunk_id)
            if sent is not None:
                sent.future = self._connection.client.submit(
                    eval,
                    dask_plugin.task_text(self.id, chunk_id, worker.id),
                    key=dask_plugin.PREFIX + chunk_id,
                    pure=False,
                    workers=[worker.name],
                    allow_other_workers=False,
                )
        return None if sent is None else sent.future

    def _end(self, chunk_id: str, outcome: Outcome) -> None:
        with self._lock:
            sent = self._sent.pop(chunk_id, None)
        if sent is not None:
            sent.ended(outcome)


async def _gathered(client: Client, future: Any) -> Any:  # noqa: ANN401 - dask has no types
    """The result of a task; raises what became of it if it has none.

    A worker may die between the end of a task and our asking for its result. Dask then writes a warning into the
    log, which a notebook shows, unless tasks without a result are to be skipped.
    """
    with suppress(Exception):  # the client was closed, which the other way tells better
        found = await client.gather(future, errors="skip", asynchronous=True)
        if found is not None:
            return found
    return await client.gather(future, asynchronous=True)
