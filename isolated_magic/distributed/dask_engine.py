"""Carries chunks on a Dask cluster: each is a task that is bound to one worker.

Bound to it, a task does not run again by itself when its worker dies: which rows are run again, and where, is for
the dispatch to decide. Who comes and goes is asked of the scheduler, a few times a second while something runs.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distributed import Client

from isolated_magic.distributed import dask_plugin
from isolated_magic.distributed.chunk import Cancelled, Failed, Lost, opened
from isolated_magic.distributed.cipher import AesCipher, new_key, sealed_for
from isolated_magic.distributed.dask_calls import WorkerCalls
from isolated_magic.distributed.engine import Engine, Worker
from isolated_magic.distributed.fitness import refusal
from isolated_magic.distributed.inspection import Inspection
from isolated_magic.distributed.needs import NOTHING
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.executors.row_values import exception_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence

    from isolated_magic.distributed.chunk import Chunk, Outcome
    from isolated_magic.distributed.needs import Needs
    from isolated_magic.distributed.news import News
    from isolated_magic.executors.isolated import LaunchSettings

LOOK_SECS = 0.5  # between two looks at the workers
INSPECT_SECS = 10.0  # for workers to answer what they have; those that take longer are used when they have
SILENT_SECS = 10.0  # without a heartbeat
LARGE_BYTES = 1 << 20
ASK_SECS = 10.0  # for an answer of the scheduler or of a worker


@dataclass
class _Known:
    """A worker that the scheduler has told us of."""

    worker: Worker
    last_seen: float
    heard_at: float  # by our clock, when last_seen changed
    is_ready: bool = False
    is_being_prepared: bool = False


class DaskEngine(Engine):
    """See the module.

    Args:
        client: of the cluster.
        settings: how runs start on workers.
        closes_client: whether :meth:`close` closes it.
    """

    keeps_lanes = True

    def __init__(self, client: Client, settings: LaunchSettings, *, closes_client: bool) -> None:
        if client.asynchronous:
            raise InvalidRequestError("client is asynchronous: give a Client without asynchronous=True.")
        self.id = secrets.token_hex(8)
        self._key = new_key()
        self.cipher = AesCipher(self._key)
        self._calls = WorkerCalls(client, self.id, self.cipher)
        self._client = client
        self._settings = settings
        self._closes_client = closes_client
        self._known: dict[str, _Known] = {}  # by id
        self._sent: dict[str, tuple[Any, str, Callable[[Outcome], object]]] = {}  # futures, by chunk id
        self._watchers: dict[Callable[[], object], Needs] = {}
        self._checked: list[Needs] = []  # by those who wait for a check
        self._inspection = Inspection(client)
        self._is_watching = False
        self._gone = ""
        self._lock = threading.RLock()
        loop: Any = client.loop
        self._loop: asyncio.AbstractEventLoop = loop.asyncio_loop

    def check(self, needs: Needs, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        deadline = time.monotonic() + timeout_secs
        self._inspection.begin_check(needs)
        with self._lock:
            self._checked.append(needs)
        try:
            while not self._is_fit_for(needs):
                if time.monotonic() > deadline:
                    raise LaunchError(f"The cluster has no worker: none came in {timeout_secs:g} seconds.")
                time.sleep(0.05)
        finally:
            with self._lock:
                self._checked.remove(needs)

    def _is_fit_for(self, needs: Needs) -> bool:
        """Look at all workers; whether one of them is fit. None may be unfit."""
        self._ask(self._look())
        if self._gone:
            raise LaunchError(self._gone)
        deadline = time.monotonic() + INSPECT_SECS
        while time.monotonic() < deadline and self._are_being_prepared():
            time.sleep(0.005)
        if lacks := self.unfit(needs):
            raise InvalidRequestError(refusal(lacks))
        return bool(self.workers(needs))

    def _are_being_prepared(self) -> bool:
        with self._lock:
            return any(known.is_being_prepared and not known.worker.is_silent for known in self._known.values())

    def watch(self, changed: Callable[[], object], needs: Needs = NOTHING) -> None:
        """See :class:`Engine`."""
        with self._lock:
            self._watchers[changed] = needs
            begins = not self._is_watching
            self._is_watching = True
        if begins:
            self._begin(self._watch())

    def unwatch(self, changed: Callable[[], object]) -> None:
        """See :class:`Engine`."""
        with self._lock:
            del self._watchers[changed]

    def workers(self, needs: Needs = NOTHING) -> tuple[Worker, ...]:
        """See :class:`Engine`."""
        with self._lock:
            ready = [known.worker for known in self._known.values() if known.is_ready]
        return tuple(worker for worker in ready if self._inspection.lack(worker, needs) == "")

    def unfit(self, needs: Needs) -> dict[str, str]:
        """See :class:`Engine`."""
        with self._lock:
            workers = [known.worker for known in self._known.values()]
        return {worker.name: lack for worker in workers if (lack := self._inspection.lack(worker, needs))}

    @property
    def gone(self) -> str:
        """See :class:`Engine`."""
        return self._gone

    def submit(self, worker: Worker, chunk: Chunk, ended: Callable[[Outcome], object]) -> None:
        """See :class:`Engine`."""
        with _silent_about_size(chunk):
            future = self._client.submit(
                dask_plugin.run_chunk,
                chunk,
                key=dask_plugin.PREFIX + chunk.id,
                pure=False,
                workers=[worker.name],
                allow_other_workers=False,
            )
        with self._lock:
            self._sent[chunk.id] = future, worker.id, ended
        self._begin(self._collect(chunk.id, future))

    def cancel(self, chunk_ids: Collection[str]) -> None:
        """See :class:`Engine`."""
        with self._lock:
            futures = [self._sent[each][0] for each in chunk_ids if each in self._sent]
        if futures and self._client.status == "running":
            self._begin(self._client.cancel(futures, asynchronous=True, force=True))

    def settle(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        self._tell(dask_plugin.settled, self.id, dispatch, timeout_secs, timeout_secs=timeout_secs)

    def end_lanes(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        self._tell(dask_plugin.end_lanes, self.id, dispatch, timeout_secs=timeout_secs)

    def warm_up(self, timeout_secs: float) -> bool:
        """See :class:`Engine`."""
        self.check(NOTHING, timeout_secs)
        answers = self.ask_all("warm_up", timeout_secs, timeout_secs=timeout_secs + ASK_SECS)
        return len(answers) == len(self.workers()) and all(answers.values())

    def follow(self, worker: Worker, chunk_id: str, told: Callable[[int, Sequence[News]], object]) -> None:
        """See :class:`Engine`."""
        self._begin(self._calls.follow(worker.name, chunk_id, self._sent.__contains__, told))

    def ask(
        self,
        worker: Worker,
        method: str,
        *args: object,
        timeout_secs: float,
        answered: Callable[[object], object],
    ) -> None:
        """See :class:`Engine`."""
        asked = self._begin(self._calls.ask(worker.name, method, args, timeout_secs))
        asked.add_done_callback(lambda done: answered(None if done.cancelled() else done.result()))

    def ask_all(self, method: str, *args: object, timeout_secs: float, only: str = "") -> dict[str, object]:
        """See :class:`Engine`."""
        addresses = [worker.name for worker in self.workers() if only in {"", worker.name}]
        if not addresses or self._client.status != "running":
            return {}
        asked = self._calls.ask_all(addresses, method, args, timeout_secs)
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()

    def close(self) -> None:
        """See :class:`Engine`."""
        if self._client.status == "running":
            self._tell(dask_plugin.uninstall, self.id, timeout_secs=ASK_SECS)
            if self._closes_client:
                self._client.close()
        with self._lock:
            self._known.clear()

    # In the client's event loop.

    def _begin(self, coroutine: Coroutine[Any, Any, object]) -> asyncio.Future[object] | Any:  # noqa: ANN401
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _ask(self, coroutine: Coroutine[Any, Any, object]) -> None:
        self._begin(asyncio.wait_for(coroutine, ASK_SECS)).result()

    def _tell(self, function: Callable[..., object], *args: object, timeout_secs: float) -> None:
        """Call a function in all workers, and wait for those that answer in time."""
        addresses = [worker.name for worker in self.workers()]
        if addresses and self._client.status == "running":
            told = self._client.run(function, *args, workers=addresses, on_error="ignore", asynchronous=True)
            try:
                self._begin(asyncio.wait_for(told, timeout_secs)).result()
            except (TimeoutError, OSError):
                return

    async def _watch(self) -> None:
        while True:
            with self._lock:
                if not self._watchers:
                    self._is_watching = False
                    return
            await self._look()
            await asyncio.sleep(LOOK_SECS)

    async def _look(self) -> None:
        """Ask the scheduler for its workers."""
        if self._client.status in {"closed", "closing"} or self._client.scheduler is None:
            self._gone = "The connection to the Dask scheduler was closed."
            self._tell_watchers()
            return
        try:
            identity = await asyncio.wait_for(self._client.scheduler.identity(n_workers=-1), ASK_SECS)
        except (OSError, TimeoutError) as problem:
            self._gone = f"The Dask scheduler does not answer: {exception_text(problem)}."
            self._tell_watchers()
            return
        found = {info["id"]: (address, info) for address, info in identity["workers"].items()}
        with self._lock:
            lost = [self._known.pop(worker_id) for worker_id in [*self._known] if worker_id not in found]
            has_changed = [self._hear(*each) for each in found.values()]
            new = [known for known in self._known.values() if self._is_to_be_prepared(known)]
        for known in lost:
            self._on_lost(known)
        for known in new:
            known.is_being_prepared = True
            asyncio.ensure_future(self._prepare(known))  # noqa: RUF006 - it tells when it has ended
        if lost or any(has_changed):
            self._tell_watchers()

    def _hear(self, address: str, info: Mapping[str, Any]) -> bool:
        """Take what the scheduler says of a worker; whether it has fallen silent or was heard of again."""
        now = time.monotonic()
        worker = Worker(info["id"], address, info["nthreads"])
        known = self._known.setdefault(worker.id, _Known(worker, info["last_seen"], now))
        if info["last_seen"] != known.last_seen:
            known.last_seen, known.heard_at = info["last_seen"], now
        was_silent = known.worker.is_silent
        known.worker = known.worker._replace(is_silent=now - known.heard_at > SILENT_SECS)
        return known.worker.is_silent != was_silent

    def _is_to_be_prepared(self, known: _Known) -> bool:
        if known.is_being_prepared:
            return False
        lacks = [self._inspection.lack(known.worker, needs) for needs in self._wanted()]
        return None in lacks or not (known.is_ready or lacks[0])

    async def _prepare(self, known: _Known) -> None:
        """Ask a worker what it has, and make it ready for chunks if it is fit."""
        try:
            await self._inspect(known.worker)
            if known.is_ready or self._inspection.lack(known.worker, NOTHING) != "":
                return
            public_keys = await self._client.run(
                dask_plugin.public_key, workers=[known.worker.name], asynchronous=True
            )
            await self._client.run(
                dask_plugin.install,
                self.id,
                sealed_for(public_keys[known.worker.name], self._key),
                self._settings,
                workers=[known.worker.name],
                asynchronous=True,
            )
            known.is_ready = True
        except Exception:  # noqa: BLE001 - of the worker, or on the way there
            return
        finally:
            known.is_being_prepared = False
            self._tell_watchers()

    def _wanted(self) -> list[Needs]:
        """What workers have to be asked for; first what all code needs."""
        with self._lock:
            return [*dict.fromkeys([NOTHING, *self._checked, *self._watchers.values()])]

    async def _inspect(self, worker: Worker) -> None:
        for needs in self._wanted():
            if self._inspection.lack(worker, needs) is None:
                await self._inspection.ask(worker, needs)

    def _on_lost(self, known: _Known) -> None:
        self._inspection.forget(known.worker)
        with self._lock:
            lost = [chunk for chunk, (_, worker, _) in self._sent.items() if worker == known.worker.id]
            futures = [self._sent[chunk][0] for chunk in lost]
        for chunk in lost:
            self._end(chunk, Lost(f"{known.worker.name} is gone"))
        if futures:
            asyncio.ensure_future(self._client.cancel(futures, asynchronous=True, force=True))  # noqa: RUF006

    def _tell_watchers(self) -> None:
        with self._lock:
            watchers = list(self._watchers)
        for changed in watchers:
            changed()

    async def _collect(self, chunk_id: str, future: Any) -> None:  # noqa: ANN401 - dask has no types
        outcome: Outcome
        try:
            found = await self._client.gather(future, asynchronous=True)
            outcome = opened(found, self.cipher) if isinstance(found, bytes) else found
        except asyncio.CancelledError:
            outcome = Cancelled()
        except Exception as problem:  # noqa: BLE001 - whatever comes from there
            is_cancelled = type(problem).__name__ in {"FutureCancelledError", "FuturesCancelledError"}
            outcome = Cancelled() if is_cancelled else Failed(exception_text(problem))
        self._end(chunk_id, outcome)

    def _end(self, chunk_id: str, outcome: Outcome) -> None:
        with self._lock:
            sent = self._sent.pop(chunk_id, None)
        if sent is not None:
            sent[2](outcome)


@contextmanager
def _silent_about_size(chunk: Chunk) -> Iterator[None]:
    """Dask warns of large arguments: a large row is one, once."""
    if len(chunk.sealed) < LARGE_BYTES:  # in most cases the filters, which all threads share, are left alone
        yield
        return
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph")
        yield


def client_of(given: object) -> tuple[Client | None, bool]:
    """The Dask client that an object stands for, and whether it was made here."""
    if isinstance(given, Client):
        return given, False
    if isinstance(given, str):
        try:
            return Client(given, set_as_default=False), True
        except (OSError, ValueError) as problem:
            raise LaunchError(f"No Dask scheduler answers at {given}: {exception_text(problem)}.") from None
    if hasattr(given, "scheduler_address"):  # a cluster
        return Client(given, set_as_default=False), True
    inner = getattr(given, "_client", None)  # of Client.get_executor()
    return (inner, False) if isinstance(inner, Client) else (None, False)
