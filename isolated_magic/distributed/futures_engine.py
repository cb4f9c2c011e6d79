"""Carries chunks on any ``concurrent.futures.Executor``, for what it can do."""

from __future__ import annotations

import os
import secrets
import socket
import threading
from concurrent.futures import BrokenExecutor
from typing import TYPE_CHECKING, Any

from isolated_magic.distributed.chunk import Cancelled, Failed, Lost
from isolated_magic.distributed.engine import Engine, Worker
from isolated_magic.distributed.needs import NOTHING
from isolated_magic.distributed.worker import WorkerExecutor
from isolated_magic.executors.row_values import exception_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from concurrent.futures import Executor

    from isolated_magic.distributed.chunk import Chunk, Done, Outcome, Refused
    from isolated_magic.distributed.needs import Needs
    from isolated_magic.executors.isolated import LaunchSettings

_executors: dict[str, WorkerExecutor] = {}  # in a worker process
_lock = threading.Lock()


def run_chunk(chunk: Chunk, settings: LaunchSettings) -> Done | Refused:
    """In a worker process: run a chunk."""
    with _lock:
        executor = _executors.get(chunk.executor)
        if executor is None:
            name = f"{socket.gethostname()}:{os.getpid()}"
            executor = _executors[chunk.executor] = WorkerExecutor(settings, None, name)
    return executor.run_chunk(chunk)


class FuturesEngine(Engine):
    """See the module.

    Args:
        executor: of the user's.
        settings: how runs start.
    """

    cipher = None
    keeps_lanes = False

    def __init__(self, executor: Executor, settings: LaunchSettings) -> None:
        self.id = secrets.token_hex(8)
        self._executor = executor
        self._settings = settings
        self._gone = ""
        self._futures: dict[str, Any] = {}
        self._watchers: list[Callable[[], object]] = []
        self._worker = Worker(self.id, type(executor).__name__, getattr(executor, "_max_workers", 0) or 1)

    def check(self, needs: Needs, timeout_secs: float) -> None:
        """See :class:`Engine`."""

    def watch(self, changed: Callable[[], object], needs: Needs = NOTHING) -> None:  # noqa: ARG002
        """See :class:`Engine`."""
        self._watchers.append(changed)

    def unwatch(self, changed: Callable[[], object]) -> None:
        """See :class:`Engine`."""
        self._watchers.remove(changed)

    def workers(self, needs: Needs = NOTHING) -> tuple[Worker, ...]:  # noqa: ARG002 - all alike
        """See :class:`Engine`."""
        return () if self._gone else (self._worker,)

    @property
    def gone(self) -> str:
        """See :class:`Engine`."""
        return self._gone

    def submit(self, worker: Worker, chunk: Chunk, ended: Callable[[Outcome], object]) -> None:  # noqa: ARG002
        """See :class:`Engine`."""
        future = self._executor.submit(run_chunk, chunk, self._settings)
        self._futures[chunk.id] = future
        future.add_done_callback(lambda done: self._on_end(chunk.id, done, ended))

    def _on_end(self, chunk_id: str, future: Any, ended: Callable[[Outcome], object]) -> None:  # noqa: ANN401
        self._futures.pop(chunk_id, None)
        if future.cancelled():
            ended(Cancelled())
        elif (problem := future.exception()) is None:
            ended(future.result())
        elif isinstance(problem, BrokenExecutor):
            self._gone = f"The executor is broken: {exception_text(problem)}"
            ended(Lost(self._gone))
            for changed in list(self._watchers):
                changed()
        else:
            ended(Failed(exception_text(problem)))

    def cancel(self, chunk_ids: Collection[str]) -> None:
        """See :class:`Engine`."""
        for chunk_id in chunk_ids:
            future = self._futures.get(chunk_id)
            if future is not None:
                future.cancel()

    def settle(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""

    def end_lanes(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""

    def warm_up(self, timeout_secs: float) -> bool:  # noqa: ARG002 - nothing to wait for
        """See :class:`Engine`."""
        return True

    def close(self) -> None:
        """See :class:`Engine`."""
