"""The rows of one evaluation on many workers: who gets which chunk, of what size, and what when a worker is lost.

Chunks are given out as workers come to need them, two for each thread of a worker: one that runs and one that
waits. The size of a chunk follows what rows cost on that worker. Where one is behind and another has nothing to
do, rows that have not begun are taken back, so that none runs twice.

All decisions are made in one thread, which is told what happens.
"""

from __future__ import annotations

import itertools
import math
import queue
import secrets
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from isolated_magic.distributed.backlog import Backlog, Row
from isolated_magic.distributed.chunk import (
    Cancelled,
    Chunk,
    Content,
    Done,
    Failed,
    Lost,
    Refused,
    SentRow,
    Variant,
    program_of,
    sealed,
)
from isolated_magic.distributed.fitness import not_used
from isolated_magic.distributed.load import CHUNK_SECS, CHUNKS_PER_THREAD, SMALL_CHUNK_SECS, Load, Sent
from isolated_magic.executors.dispatch import Dispatch
from isolated_magic.executors.local_dispatch import AHEAD_IN_LANES
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.launch.resources import start_thread
from isolated_magic.models import ErrorKind, RunError, RunResult
from isolated_magic.request import RemoteTarget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from isolated_magic.distributed.backlog import Batch
    from isolated_magic.distributed.chunk import Outcome
    from isolated_magic.distributed.engine import Engine, Worker
    from isolated_magic.distributed.needs import Needs
    from isolated_magic.executors.dispatch import Reports
    from isolated_magic.executors.evaluation_options import EvaluationSettings
    from isolated_magic.executors.tasks import Task
    from isolated_magic.request import RunRequest

    Submit = Callable[[Worker, Chunk, Callable[[Outcome], object]], object]

MOST_DEATHS = 3  # of workers that ran a row: then the row is to blame
NO_WORKER_SECS = 30.0  # without any worker, until an evaluation gives up
ANSWER_SECS = 3.0  # for a worker to say what it gives back
STOP_SECS = 2.0  # after a stop, for the results of what had ended by then
AGAIN_SECS = 0.1  # between two looks whether a worker is behind
SETTLE_SECS = 5.0  # for what runs to be gone after a stop
LONGEST_WAIT_SECS = 60.0
FIRST_AHEAD = 64  # rows to read until it is known how many workers there are, and how fast they are
DIED = (
    f"The worker process died each of the {MOST_DEATHS} times that this row ran. It may need more memory than a "
    "worker has, or end the worker's process."
)


class ClusterDispatch(Dispatch):
    """See the module.

    Args:
        engine: carries chunks.
        needs: of the code.
        settings: of the evaluation.
        record: takes the result of each row.
        reports: told what comes of the tasks.
        submit: sends a chunk; None for what the engine does.
        prefers: which of the workers that have equally much to do is to get a chunk.
    """

    def __init__(
        self,
        engine: Engine,
        needs: Needs,
        settings: EvaluationSettings,
        record: Callable[[RunResult], object],
        reports: Reports,
        submit: Submit | None = None,
        prefers: Callable[[Worker], bool] = lambda _: False,
    ) -> None:
        self.id = secrets.token_hex(8)
        self._engine = engine
        self._needs = needs
        self._settings = settings
        self._reports = reports
        self._record = record
        self._submit = submit or engine.submit
        self._prefers = prefers
        self._events: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._most_ahead = FIRST_AHEAD
        self._has_thread = False
        self._ended = threading.Event()
        # Of the thread alone:
        self._backlog = Backlog(settings)
        self._loads: dict[str, Load] = {}  # of the workers that are there, by id
        self._sent: dict[str, Sent] = {}  # by chunk id
        self._order = itertools.count()
        self._had_worker_at = time.monotonic()
        self._unfit: dict[str, str] = {}  # what workers lack that came, by their names
        self._is_stopped = False
        self._is_unsettled = False  # what was cancelled may run for a moment after it has been said to have ended
        self._close_at = math.inf
        self._look_again_at = math.inf  # whether a worker is behind
        forget_in_forks(self)

    @property
    def notes(self) -> tuple[str, ...]:
        """See :class:`Dispatch`."""
        return not_used({**self._unfit, **self._engine.unfit(self._needs)})

    @property
    def most_ahead(self) -> int:
        """See :class:`Dispatch`."""
        return self._most_ahead

    # What other threads do.

    def add(self, task: Task) -> None:
        """See :class:`Dispatch`."""
        if not self._has_thread:
            start_thread(self._work, "isolated_magic dispatch")
            self._has_thread = True
        self._events.put(lambda: self._add(Row(task)))

    def stop(self) -> None:
        """See :class:`Dispatch`."""
        if not self._has_thread:
            self._ended.set()
            self._reports.gone()
        self._events.put(self._stop)

    def finish(self) -> None:
        """See :class:`Dispatch`."""
        if self._backlog.has_lanes and self._engine.keeps_lanes:
            self._engine.end_lanes(self.id, SETTLE_SECS)

    def close(self) -> None:
        """See :class:`Dispatch`."""
        if not self._has_thread:
            self._reports.gone()
            return
        self._events.put(self._close)
        # A program that ends stops its daemon threads: an iterator that is closed then would wait for ever.
        while not self._ended.wait(1.0) and not sys.is_finalizing():
            pass

    def forget(self) -> None:
        """In a fork: the thread is the original's, and so is what runs."""
        self._has_thread = False
        self._events = queue.SimpleQueue()

    # What its own thread does.

    def _work(self) -> None:
        changed = lambda: self._events.put(self._look)  # noqa: E731 - the engine is given the same one twice
        self._had_worker_at = time.monotonic()
        try:
            self._engine.watch(changed, self._needs)
            self._look()
            while time.monotonic() < self._close_at and (self._sent or self._close_at == math.inf):
                self._next_event()
                self._give_out()
        except BaseException as problem:  # noqa: BLE001 - the thread has nobody else to tell
            self._reports.failed(problem)
        try:
            self._engine.unwatch(changed)
            self._engine.cancel([*self._sent])
            if self._is_unsettled or self._are_heard():
                self._engine.settle(self.id, SETTLE_SECS)
        except BaseException as problem:  # noqa: BLE001 - likewise
            self._reports.failed(problem)
        finally:  # others wait for that
            self._ended.set()
            self._reports.gone()

    def _next_event(self) -> None:
        """Wait for something to happen, and take all that has happened."""
        due_at = min([time.monotonic() + LONGEST_WAIT_SECS, *self._due()])
        with suppress(queue.Empty):
            self._events.get(timeout=max(0.0, due_at - time.monotonic()))()
            while True:
                self._events.get_nowait()()

    def _due(self) -> Iterable[float]:
        """When there is something to do even if nothing happens."""
        yield self._close_at
        if self._is_stopped:
            return
        yield self._backlog.due_at
        yield self._look_again_at
        if not self._has_worker():
            yield self._had_worker_at + NO_WORKER_SECS
        now = time.monotonic()
        yield from (load.free_at for load in self._loads.values() if load.free_at > now)

    def _add(self, row: Row) -> None:
        if not self._is_stopped and (problem := self._backlog.add(row)):
            self._on_result(row, RunResult(error=RunError.from_text(ErrorKind.INVALID_REQUEST, problem)))

    def _stop(self) -> None:
        """Have workers kill what runs, so that the results of rows that have ended come back."""
        if self._is_stopped:
            return
        self._is_stopped = True
        for load in {sent.load for sent in self._sent.values()}:
            chunk_ids = [*load.sent]
            answered = partial(self._on_stopped, chunk_ids)
            self._engine.ask(load.worker, "stop_chunks", chunk_ids, timeout_secs=STOP_SECS, answered=answered)

    def _on_stopped(self, chunk_ids: list[str], answer: object) -> None:
        if answer is None:  # it cannot be asked, or does not answer
            self._is_unsettled = True
            self._engine.cancel(chunk_ids)

    def _close(self) -> None:
        can_answer = not self._engine.gone and self._are_heard()
        self._close_at = time.monotonic() + (STOP_SECS if can_answer else 0.0)

    def _are_heard(self) -> bool:
        """Whether a worker that has chunks may answer."""
        return any(not sent.load.worker.is_silent for sent in self._sent.values())

    def _give_up(self, reason: str) -> None:
        self._stop()
        self._reports.stopped(reason)

    # Workers.

    def _look(self) -> None:
        """Workers have come or gone."""
        self._unfit.update(self._engine.unfit(self._needs))
        if self._is_stopped:
            return
        if self._engine.gone:
            self._give_up(self._engine.gone)
            return
        workers = {worker.id: worker for worker in self._engine.workers(self._needs)}
        for worker_id in [worker_id for worker_id in self._loads if worker_id not in workers]:
            del self._loads[worker_id]
            self._backlog.lost(worker_id)
        for worker_id, worker in workers.items():
            load = self._loads.setdefault(worker_id, Load(worker))
            if worker.is_silent and not load.worker.is_silent:
                self._on_silent(load)
            load.worker = worker

    def _on_silent(self, load: Load) -> None:
        """A worker has not been heard of: others run what it has, too, and the first result counts."""
        self._backlog.lost(load.worker.id)
        for sent in reversed(load.sent.values()):
            self._backlog.put_back(sent.batch)

    def _has_worker(self) -> bool:
        return any(not load.refuses for load in self._heard())

    def _check_workers(self) -> None:
        """Give up where nothing can be run any more."""
        now = time.monotonic()
        if self._has_worker():
            self._had_worker_at = now
        elif now >= self._had_worker_at + NO_WORKER_SECS:
            told = "no worker has been heard of" if self._loads else "there has been no worker"
            self._give_up(f"The evaluation was stopped: {told} for {NO_WORKER_SECS:g} seconds.")

    # Giving out.

    def _give_out(self) -> None:
        """Give each worker as much as it should have."""
        if self._is_stopped:
            return
        self._check_workers()
        self._backlog.advance()
        self._cancel_needless()
        loads = {load for load in self._loads.values() if load.takes and not load.has_suspects}
        loads -= self._give_out_suspects(loads)
        while loads:
            load = min(loads, key=self._priority)
            batch = self._backlog.take(load.worker.id, self._rows_for(load)) if self._has_room(load) else None
            if batch is None:
                loads.discard(load)
            else:
                self._send(load, batch)
        self._take_back()
        self._measure_ahead()

    def _priority(self, load: Load) -> tuple[float, bool]:
        return len(load.sent) / load.worker.threads, not self._prefers(load.worker)

    def _give_out_suspects(self, loads: set[Load]) -> set[Load]:
        """Give suspects to workers that have nothing else. The workers that others wait for, so as to be alone."""
        if not self._backlog.suspects:
            return set()
        # Others go on meanwhile: suspects take half of the workers at most, as long as there are others.
        most = max(1, len(self._loads) // 2) if self._backlog.has_ready else len(self._loads)
        most -= sum(load.has_suspects for load in self._loads.values())
        kept = set()
        for load in sorted(loads, key=lambda one: len(one.sent))[: max(0, most)]:
            if not load.sent and self._has_room(load):
                batch = self._backlog.take_suspects()
                if batch is None:
                    break
                self._send(load, batch)
            kept.add(load)
        return kept

    def _has_room(self, load: Load) -> bool:
        """Whether a worker may have one more chunk."""
        if len(load.sent) < load.worker.threads:
            jobs = self._settings.jobs
            return jobs is None or sum(one.running for one in self._heard()) < jobs
        # With a rate, rows begin when they are sent.
        return not self._backlog.is_paced and len(load.sent) < load.worker.threads * CHUNKS_PER_THREAD

    def _heard(self) -> Iterable[Load]:
        return (load for load in self._loads.values() if not load.worker.is_silent)

    def _rows_for(self, load: Load) -> int:
        """How many rows a chunk for this worker is to have: what takes it so long, but no more than its share."""
        if self._backlog.is_paced:
            return 1
        most = load.rows_in(CHUNK_SECS)
        if self._backlog.has_lanes:
            return most
        threads = sum(one.worker.threads for one in self._heard())
        share = math.ceil(self._backlog.waiting / (threads * CHUNKS_PER_THREAD))
        return min(most, max(share, load.rows_in(SMALL_CHUNK_SECS)))

    def _measure_ahead(self) -> None:
        rows = sum(load.worker.threads * load.rows_in(CHUNK_SECS) for load in self._heard())
        ahead = max(rows * CHUNKS_PER_THREAD * 2, FIRST_AHEAD)
        self._most_ahead = max(ahead, AHEAD_IN_LANES) if self._backlog.has_lanes else ahead

    def _take_back(self) -> None:
        """Where workers have nothing to do, have others give rows back that they have not begun."""
        self._look_again_at = math.inf
        are_idle = any(load.is_idle and self._has_room(load) for load in self._loads.values())
        if not are_idle or self._backlog.suspects:
            return
        self._look_again_at = time.monotonic() + AGAIN_SECS if self._sent else math.inf
        for load in [load for load in self._heard() if not (load.is_asked or load.is_idle)]:
            rows = self._backlog.waiting_for(load.worker.id)
            if load.is_far_behind(rows):
                self._backlog.free_lane(load.worker.id)
            rows += sum(len(sent.batch.rows) for sent in load.sent.values())
            chunk_ids = [sent.id for sent in load.behind(rows)]
            if chunk_ids:
                load.is_asked = True
                answered = partial(self._on_answer, load)
                self._engine.ask(load.worker, "give_back", chunk_ids, timeout_secs=ANSWER_SECS, answered=answered)

    def _on_answer(self, load: Load, answer: object) -> None:
        self._events.put(lambda: self._on_given_back(load, answer if isinstance(answer, dict) else {}))

    def _on_given_back(self, load: Load, begun: dict[str, int]) -> None:
        """A worker says how many rows of chunks it has begun, and that it begins no more."""
        load.is_asked = False
        for chunk_id, count in begun.items():
            sent = self._sent.get(chunk_id)
            if sent is None or self._is_stopped:
                continue
            self._backlog.give_back(sent.batch, count)
            if not sent.batch.rows:
                del self._sent[chunk_id]
                load.over(sent)
                self._engine.cancel([chunk_id])

    def _cancel_needless(self) -> None:
        """Cancel chunks of workers that were silent, where others have run all their rows."""
        for load in self._loads.values():
            for sent in load.sent.values():
                if not sent.batch.is_held and all(row.is_done for row in sent.batch.rows):
                    self._engine.cancel([sent.id])

    def _send(self, load: Load, batch: Batch) -> None:
        requests = [row.task.request for row in batch.rows if row.task.request is not None]
        # Where no chunk can be sent to a certain process, any may be the first that one gets.
        has_program = self._engine.keeps_lanes and load.has_program
        program = None if has_program else program_of(requests[0])
        chunk = Chunk(
            id=f"{self.id}-{next(self._order)}",
            executor=self._engine.id,
            dispatch=self.id,
            count=len(requests),
            lane=None if batch.lane is None else batch.lane.number,
            keeps_lane=self._engine.keeps_lanes,
            sealed=sealed(Content(program, *_packed(requests)), self._engine.cipher),
        )
        self._sent[chunk.id] = load.sent[chunk.id] = Sent(chunk.id, batch, load, time.monotonic())
        self._submit(
            load.worker, chunk, lambda outcome: self._events.put(lambda: self._on_outcome(chunk.id, outcome))
        )

    # What comes back.

    def _on_outcome(self, chunk_id: str, outcome: Outcome) -> None:
        sent = self._sent.pop(chunk_id, None)
        if sent is None:
            return
        load, batch = sent.load, sent.batch
        load.over(sent)
        match outcome:
            case Done():
                load.has_program = True
                load.measured(len(outcome.results), outcome.secs)
                for row, result in zip(batch.rows, outcome.results, strict=False):
                    self._on_result(row, replace(result, worker=outcome.worker))
                self._backlog.put_back(batch)
            case Refused():
                load.has_program = False
                if not outcome.lacks_program:
                    load.refused()
                self._backlog.put_back(batch)
            case Lost():
                self._on_lost(load, batch)
            case Failed():
                self._on_failed(load, batch, outcome.reason)
            case Cancelled():
                load.refused()  # unless we did: then nothing is sent there anyway
                self._backlog.put_back(batch)

    def _on_result(self, row: Row, result: RunResult) -> None:
        if row.is_done:
            return
        row.is_done = True
        self._record(result)
        again_at = self._reports.ended(row.task, result)
        if again_at is not None:
            self._backlog.add_later(Row(row.task, row.deaths), again_at)

    def _on_lost(self, load: Load, batch: Batch) -> None:
        """A worker has died with a chunk: a row of it may be to blame."""
        self._backlog.release(batch)
        for row in batch.rows:
            row.deaths += 1
            if row.deaths >= MOST_DEATHS and not row.out and not row.is_waiting:
                self._on_result(row, RunResult(error=RunError.from_text(ErrorKind.DIED, DIED)))
        self._suspect(load, batch)

    def _on_failed(self, load: Load, batch: Batch, reason: str) -> None:
        """A chunk could not be carried: a row of it may be to blame."""
        if len(batch.rows) > 1:
            self._suspect(load, batch)
            return
        self._on_result(batch.rows[0], RunResult(error=RunError.from_text(ErrorKind.LAUNCH, reason)))
        self._backlog.put_back(batch)

    def _suspect(self, load: Load, batch: Batch) -> None:
        """Have the rows of a batch run apart from others: first a few that take no time, then one by one."""
        few = 1 if batch.is_suspect or self._backlog.is_paced else load.rows_in(SMALL_CHUNK_SECS)
        self._backlog.suspect(batch, itertools.repeat(few))


def _packed(requests: list[RunRequest]) -> tuple[tuple[Variant, ...], tuple[SentRow, ...]]:
    """What the runs of a chunk share, and what is each one's own."""
    variants: dict[tuple[int, int], int] = {}  # by the identity of what they hold
    found: list[Variant] = []
    rows: list[SentRow] = []
    for request in requests:
        same = id(request.environment), id(request.secrets)
        if same not in variants:
            variants[same] = len(found)
            found.append(Variant(request.environment, request.secrets, request.remote or RemoteTarget()))
        rows.append(SentRow(variants[same], request.payload, request.arrivals))
    return tuple(found), tuple(rows)
