"""Launching by handing a run to a worker that is there already (see ``crew.py``)."""

from __future__ import annotations

import os
import time
import weakref
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.launch.base import Attach, Child, Launcher, to_nobody
from isolated_magic.launch.crew import Crew
from isolated_magic.launch.spawn import program_messages, send_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isolated_magic.launch.base import Preloaded, ProcessLauncher
    from isolated_magic.launch.crew import Taken
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.launch.worker import Worker
    from isolated_magic.request import RunRequest


class PoolLauncher(Launcher):
    """Has workers do the runs. One with limits, or that is to be in a new interpreter, has a process of its own.

    Args:
        processes: starts them, workers and others.
        workers: how many there are.
        max_runs: that each of them does, None for no end.
        largest_bytes: of memory with which one goes on, None for any size.
    """

    def __init__(
        self, processes: ProcessLauncher, workers: int, max_runs: int | None, largest_bytes: int | None
    ) -> None:
        self._processes = processes
        self._workers = workers
        self._max_runs = max_runs
        self._largest_bytes = largest_bytes
        self._crew = self._new_crew()
        _instances.add(self)

    def _new_crew(self) -> Crew:
        crew = Crew(self._processes, self._workers)
        self._end = weakref.finalize(self, crew.close)
        return crew

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Find a worker for this request; see :class:`Launcher`."""
        if request.fresh or request.limits.of_resources:
            return self._processes.launch(request)
        crew = self._crew
        taken = crew.take(request, attach)
        worker, child = taken.worker, _lent(taken, partial(crew.take_back, taken, request))
        worker.runs += 1
        messages, worker.unsent = worker.unsent + self._program(request, worker), b""
        return child, send_at_once(child, messages)

    def _program(self, request: RunRequest, worker: Worker) -> bytes:
        is_last = self._max_runs is not None and worker.runs >= self._max_runs
        return program_messages(request, is_last=is_last, largest_bytes=self._largest_bytes)

    def fill(self, request: RunRequest) -> None:
        """Start the workers.

        Args:
            request: a run such as they are for.
        """
        self._crew.fill(request)

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:
        """Take in what a run imported; see :class:`Launcher`."""
        self._processes.learn(request, modules, files)

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:
        """Wait for templates, and have the workers start from them; see :class:`Launcher`."""
        is_warm = self._processes.warm_up(request, timeout_secs)
        self._crew.close_unused()
        self._crew.fill(request)
        return is_warm

    def preloaded(self) -> Preloaded:
        """What workers have imported when they start; see :class:`Launcher`."""
        return self._processes.preloaded()

    def release(self) -> Callable[[], None]:
        """Start afresh from now on; see :class:`Launcher`."""
        crew, self._crew = self._crew, self._new_crew()
        end_processes = self._processes.release()

        def close() -> None:
            crew.close()
            end_processes()

        return close

    def forget(self) -> None:
        """In a fork of the owner: the workers belong to the original."""
        self._end.detach()
        self._crew.forget()
        self._crew = self._new_crew()


def _lent(taken: Taken, give_back: Callable[[Messages | None], None]) -> Child:
    """The worker's process, as this run has it. Nothing else refers to it: it goes when it is lost."""
    worker, child = taken.worker, taken.worker.child
    handed_over_at = time.monotonic() if taken.has_waited or worker.runs else None
    streams = child.channel, child.stdout, child.stderr, child.handle
    return Child(*streams, launch="reused", give_back=give_back, handed_over_at=handed_over_at)


_instances: weakref.WeakSet[PoolLauncher] = weakref.WeakSet()


def _forget_all() -> None:
    for launcher in list(_instances):
        launcher.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
