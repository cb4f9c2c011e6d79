"""Which workers a Dask cluster has, which of them are ready for chunks, and whether its scheduler is still there.

The scheduler is asked a few times a second while something runs. All of this happens in the client's event loop;
what it has found is read from any thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from isolated_magic.distributed.dask_connection import CLOSED_TEXT
from isolated_magic.distributed.dask_inspection import Inspection
from isolated_magic.distributed.dask_plugin import process_id
from isolated_magic.distributed.engine import Worker
from isolated_magic.distributed.needs import NOTHING
from isolated_magic.errors import LaunchError
from isolated_magic.executors.row_values import exception_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from isolated_magic.distributed.dask_connection import Connection
    from isolated_magic.distributed.needs import Needs

LOOK_SECS = 0.5  # between two looks
SILENT_SECS = 10.0  # without a heartbeat
GONE_SECS = 10.0  # without an answer of the scheduler
ASK_SECS = 10.0  # for what can be done without
PREPARE_SECS = 60.0  # for a worker to import what it needs
LONGEST_RETRY_SECS = 30.0  # until a worker that could not be made ready is tried again


@dataclass
class _Known:
    """A worker that the scheduler has told us of."""

    worker: Worker
    last_seen: float
    heard_at: float  # by our clock, when last_seen changed
    is_ready: bool = False
    is_being_prepared: bool = False
    failures: int = 0  # to make it ready, one after the other
    failure: str = ""
    retry_at: float = 0.0


class DaskWorkers:
    """See the module.

    Args:
        connection: to the cluster.
        install: makes a worker at an address ready for chunks.
        uninstall: does the opposite.
        lost: told of a worker that is gone, and whether it left in order.
    """

    def __init__(
        self,
        connection: Connection,
        install: Callable[[str], Awaitable[object]],
        uninstall: Callable[[str], Awaitable[object]],
        lost: Callable[[Worker, bool], object],
    ) -> None:
        self._connection = connection
        self._install, self._uninstall, self._lost = install, uninstall, lost
        self._known: dict[str, _Known] = {}  # by id
        self._watchers: dict[Callable[[], object], Needs] = {}
        self._checked: list[Needs] = []  # by those who wait for a check
        self._inspection = Inspection(connection)
        self._preparing: set[asyncio.Future[None]] = set()
        self._is_watching = False
        self._unheard_since: float | None = None  # of the scheduler
        self._gone = ""
        self._lock = threading.RLock()

    @property
    def gone(self) -> str:
        """Why there will be no worker any more; empty as long as that is not known."""
        return CLOSED_TEXT if self._connection.is_closed else self._gone

    def ready(self, needs: Needs = NOTHING) -> tuple[Worker, ...]:
        """Those that take chunks of code with these needs."""
        if self._connection.client.status != "running" or self._unheard_since is not None:
            return ()
        with self._lock:
            ready = [known.worker for known in self._known.values() if known.is_ready]
        return tuple(worker for worker in ready if self._inspection.lack(worker, needs) == "")

    def unfit(self, needs: Needs) -> dict[str, str]:
        """What others lack for that, by their addresses."""
        with self._lock:
            workers = [known.worker for known in self._known.values()]
        return {worker.name: lack for worker in workers if (lack := self._inspection.lack(worker, needs))}

    @property
    def are_being_prepared(self) -> bool:
        """Whether there are some of which it is not known yet."""
        with self._lock:
            return any(known.is_being_prepared and not known.worker.is_silent for known in self._known.values())

    @property
    def failure(self) -> str:
        """Why one of them could not be made ready; empty if none failed."""
        with self._lock:
            failed = [known for known in self._known.values() if known.failure]
        return f"the one at {failed[0].worker.name} could not be prepared: {failed[0].failure}" if failed else ""

    def begin_check(self, needs: Needs) -> None:
        """Ask all workers for this, until :meth:`end_check`."""
        self._inspection.begin_check(needs)
        with self._lock:
            self._checked.append(needs)

    def end_check(self, needs: Needs) -> None:
        """Do not any more."""
        with self._lock:
            self._checked.remove(needs)

    def watch(self, changed: Callable[[], object], needs: Needs) -> None:
        """Call this when workers have changed; ask those that come for these needs."""
        with self._lock:
            self._watchers[changed] = needs
            begins = not self._is_watching
            self._is_watching = True
        if not begins:
            return
        try:
            self._connection.begin(self._watch())
        except LaunchError:
            self._is_watching = False
            changed()

    def unwatch(self, changed: Callable[[], object]) -> None:
        """Do not any more."""
        with self._lock:
            self._watchers.pop(changed, None)  # it may be that watching could not begin

    def tell_watchers(self) -> None:
        """Something has changed."""
        with self._lock:
            watchers = [*self._watchers]
        for changed in watchers:
            changed()

    def has(self, worker: Worker) -> bool:
        """Whether it was not lost yet."""
        with self._lock:
            return worker.id in self._known

    def not_ready(self, worker: Worker) -> None:
        """It has to be prepared again."""
        with self._lock:
            known = self._known.get(worker.id)
            if known is not None:
                known.is_ready = False

    def forget(self) -> None:
        """Forget all workers. One that is being prepared will undo that."""
        with self._lock:
            self._known.clear()

    # In the client's event loop.

    async def _watch(self) -> None:
        try:
            while True:
                with self._lock:
                    if not self._watchers:
                        self._is_watching = False
                        return
                await self.look()
                await asyncio.sleep(LOOK_SECS)
        except asyncio.CancelledError:  # the loop ends with its last client
            self._is_watching = False
            self.tell_watchers()
            raise

    async def prepared(self) -> None:
        """Wait until none is being prepared."""
        if self._preparing:
            await asyncio.wait(self._preparing)

    async def look(self) -> None:
        """Ask the scheduler for its workers."""
        if self._connection.is_closed:
            self.tell_watchers()
            return
        try:
            asked = self._connection.scheduler.identity(n_workers=-1)
            identity = await asyncio.wait_for(asked, self._patience_secs())
        except Exception as problem:  # noqa: BLE001 - it is late, gone, or the client is being closed
            self._on_unheard(problem)
            return
        if self._connection.client.status != "running":  # it connects again, and cannot send chunks meanwhile
            self._on_unheard(OSError())
            return
        was_unheard, self._unheard_since, self._gone = self._unheard_since is not None, None, ""
        found = {}
        for address, info in identity["workers"].items():
            found[process_id(address, info["local_directory"])] = address, info
        with self._lock:
            lost = [self._known.pop(worker_id) for worker_id in [*self._known] if worker_id not in found]
            has_changed = [self._hear(worker_id, *each) for worker_id, each in found.items()]
            new = [known for known in self._known.values() if self._is_to_be_prepared(known)]
        for known in lost:
            self._inspection.forget(known.worker)
            self._lost(known.worker, await self._was_retired(known.worker.name))
        for known in new:
            known.is_being_prepared = True
            task = asyncio.ensure_future(self._prepare(known))
            self._preparing.add(task)
            task.add_done_callback(self._preparing.discard)
        if lost or was_unheard or any(has_changed):
            self.tell_watchers()

    def _patience_secs(self) -> float:
        """How long to wait for an answer of the scheduler."""
        if self._unheard_since is None:
            return GONE_SECS
        return max(1.0, self._unheard_since + GONE_SECS - time.monotonic())

    def _on_unheard(self, problem: Exception) -> None:
        """The scheduler has not answered. It may come back, or be started again."""
        now = time.monotonic()
        if self._unheard_since is None:
            # That may be us: a process that was stopped, as by Ctrl-Z, finds that time is up. So ask once more.
            self._unheard_since = now - GONE_SECS if isinstance(problem, TimeoutError) else now
        elif now - self._unheard_since >= GONE_SECS and not self._gone and not self._connection.is_closed:
            address = self._connection.scheduler.address
            self._gone = f"The Dask scheduler at {address} has not answered for {GONE_SECS:g} seconds."
        self.tell_watchers()

    def _hear(self, worker_id: str, address: str, info: Mapping[str, Any]) -> bool:
        """Take what the scheduler says of a worker; whether it has fallen silent or was heard of again."""
        now = time.monotonic()
        worker = Worker(worker_id, address, info["nthreads"])
        known = self._known.setdefault(worker_id, _Known(worker, info["last_seen"], now))
        if info["last_seen"] != known.last_seen:
            known.last_seen, known.heard_at = info["last_seen"], now
        was_silent = known.worker.is_silent
        is_silent = now - known.heard_at > SILENT_SECS or info["status"] != "running"
        known.worker = known.worker._replace(is_silent=is_silent)
        return is_silent != was_silent

    async def _was_retired(self, address: str) -> bool:
        """Whether a worker left in order, as those of an adaptive cluster do: no row is to blame for that."""
        try:
            events = await asyncio.wait_for(self._connection.scheduler.events(topic=address), ASK_SECS)
        except Exception:  # noqa: BLE001 - likewise
            return False
        known = [event for _, event in events if isinstance(event, dict)]  # anybody may log anything there
        removals = [event for event in known if event.get("action") == "remove-worker"]
        return bool(removals) and bool(removals[-1].get("expected"))

    def _is_to_be_prepared(self, known: _Known) -> bool:
        if known.is_being_prepared or known.retry_at > time.monotonic():
            return False
        lacks = [self._inspection.lack(known.worker, needs) for needs in self._wanted()]
        return None in lacks or not (known.is_ready or lacks[0])

    async def _prepare(self, known: _Known) -> None:
        """Ask a worker what it has, and make it ready for chunks if it is fit."""
        try:
            for needs in self._wanted():
                if self._inspection.lack(known.worker, needs) is None:
                    await self._inspection.ask(known.worker, needs)
            if not known.is_ready and self._inspection.lack(known.worker, NOTHING) == "":
                await asyncio.wait_for(self._install(known.worker.name), PREPARE_SECS)
                await self._on_installed(known)
        except Exception as problem:  # noqa: BLE001 - of the worker, or on the way there
            known.failures += 1
            known.failure = exception_text(problem)
            known.retry_at = time.monotonic() + min(LONGEST_RETRY_SECS, LOOK_SECS * 2**known.failures)
        finally:
            known.is_being_prepared = False
            self.tell_watchers()

    async def _on_installed(self, known: _Known) -> None:
        with self._lock:
            is_wanted = self._known.get(known.worker.id) is known
            known.is_ready, known.failures, known.failure = is_wanted, 0, ""
        if not is_wanted:  # all were forgotten meanwhile, or it is gone
            await self._uninstall(known.worker.name)

    def _wanted(self) -> list[Needs]:
        """What workers have to be asked for; first what all code needs."""
        with self._lock:
            return [*dict.fromkeys([NOTHING, *self._checked, *self._watchers.values()])]
