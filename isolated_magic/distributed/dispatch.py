"""The rows of one evaluation on many workers: who gets which chunk, of what size, and what when a worker is lost.

Chunks are given out as workers come to need them, two for each thread of a worker: one that runs and one that
waits. So nothing is stolen back from a slow worker but what waits there, and the size of a chunk follows what rows
cost on that worker.

All decisions are made in one thread, which is told what happens.
"""

from __future__ import annotations

import heapq
import itertools
import queue
import secrets
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

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
from isolated_magic.executors.dispatch import Dispatch
from isolated_magic.launch.resources import start_thread
from isolated_magic.models import ErrorKind, RunError, RunResult
from isolated_magic.request import RemoteTarget

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.distributed.chunk import Outcome
    from isolated_magic.distributed.engine import Engine, Worker
    from isolated_magic.distributed.needs import Needs
    from isolated_magic.executors.dispatch import Reports
    from isolated_magic.executors.evaluation_options import EvaluationSettings
    from isolated_magic.executors.tasks import Task
    from isolated_magic.request import RunRequest

    Submit = Callable[[Worker, Chunk, Callable[[Outcome], object]], object]

CHUNK_SECS = 0.5  # that a chunk is to take: lost if its worker is
MOST_ROWS = 2000  # of a chunk
MOST_BYTES = 4 << 20  # of its payloads
CHUNKS_PER_THREAD = 2  # of a worker: one runs, one waits
MOST_DEATHS = 3  # of workers while they ran a row: then the row is to blame
NO_WORKER_SECS = 30.0  # without any worker, until an evaluation gives up
SETTLE_SECS = 5.0  # for what runs to be gone after a stop
LONGEST_WAIT_SECS = 60.0


@dataclass(eq=False, slots=True)
class _Row:
    """A task, until it is done."""

    task: Task
    deaths: int = 0
    is_done: bool = False


@dataclass(eq=False, slots=True)
class _Lane:
    number: int
    rows: deque[_Row] = field(default_factory=deque)
    worker: str = ""  # id of the worker that has its process
    is_out: bool = False  # a chunk of it is


@dataclass(eq=False, slots=True)
class _Sent:
    """A chunk that is out."""

    worker: Worker
    rows: list[_Row]
    lane: _Lane | None
    is_suspect: bool


class ClusterDispatch(Dispatch):
    """See the module.

    Args:
        engine: carries chunks.
        needs: of the code.
        settings: of the evaluation.
        record: takes the result of each row.
        reports: told what comes of the tasks.
        submit: sends a chunk; None for what the engine does.
    """

    def __init__(
        self,
        engine: Engine,
        needs: Needs,
        settings: EvaluationSettings,
        record: Callable[[RunResult], object],
        reports: Reports,
        submit: Submit | None = None,
    ) -> None:
        self.id = secrets.token_hex(8)
        self._engine = engine
        self._needs = needs
        self._settings = settings
        self._reports = reports
        self._record = record
        self._submit = submit or engine.submit
        self._events: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._has_thread = False
        self._ended = threading.Event()
        # Of the thread alone:
        self._waiting: deque[_Row] = deque()
        self._suspects: deque[_Row] = deque()  # rows that a worker died with: each runs alone on its worker
        self._later: list[tuple[float, int, _Row]] = []  # a heap
        self._lanes: dict[object, _Lane] = {}
        self._sent: dict[str, _Sent] = {}  # by chunk id
        self._known: set[str] = set()  # ids of workers that have the program
        self._secs: dict[str, float] = {}  # that a row takes on a worker, by its id
        self._order = itertools.count()
        self._unfit: dict[str, str] = {}  # what workers lack that came, by their names
        self._is_stopped = False
        self._is_closing = False

    @property
    def notes(self) -> tuple[str, ...]:
        """See :class:`Dispatch`."""
        return not_used(self._unfit)

    @property
    def most_ahead(self) -> int:
        """See :class:`Dispatch`."""
        threads = sum(worker.threads for worker in self._engine.workers(self._needs)) or 1
        fastest = min(self._secs.values(), default=CHUNK_SECS)
        rows = min(MOST_ROWS, max(4, int(CHUNK_SECS / max(fastest, 1e-6))))
        return threads * CHUNKS_PER_THREAD * rows * 2

    # What other threads do.

    def add(self, task: Task) -> None:
        """See :class:`Dispatch`."""
        if not self._has_thread:
            start_thread(self._work, "isolated_magic dispatch")
            self._has_thread = True
        self._events.put(lambda: self._take(_Row(task)))

    def stop(self) -> None:
        """See :class:`Dispatch`."""
        if not self._has_thread:
            self._ended.set()
            self._reports.gone()
        self._events.put(self._stop)

    def finish(self) -> None:
        """See :class:`Dispatch`."""
        if self._settings.per is not None and self._engine.keeps_lanes:
            self._engine.end_lanes(self.id, SETTLE_SECS)

    def close(self) -> None:
        """See :class:`Dispatch`."""
        if self._has_thread:
            self._events.put(self._close)
            self._ended.wait()
        else:
            self._reports.gone()

    # What its own thread does.

    def _work(self) -> None:
        changed = lambda: self._events.put(self._look)  # noqa: E731 - compared by identity below
        self._engine.watch(changed, self._needs)
        try:
            while not self._is_closing:
                self._next_event()
                self._give_out()
        except BaseException as problem:  # noqa: BLE001 - the thread has nobody else to tell
            self._reports.failed(problem)
        finally:
            self._engine.unwatch(changed)
            self._engine.cancel([*self._sent])
            if self._sent:
                self._engine.settle(self.id, SETTLE_SECS)
            self._ended.set()
            self._reports.gone()

    def _next_event(self) -> None:
        """Wait for something to happen, and take all that has happened."""
        wait_secs = LONGEST_WAIT_SECS
        if self._later:
            wait_secs = min(wait_secs, max(0.0, self._later[0][0] - time.monotonic()))
        with suppress(queue.Empty):
            self._events.get(timeout=wait_secs)()
            while True:
                self._events.get_nowait()()
        while self._later and self._later[0][0] <= time.monotonic():
            self._take(heapq.heappop(self._later)[2])

    def _take(self, row: _Row) -> None:
        if self._is_stopped:
            return
        if self._settings.per is None:
            self._waiting.append(row)
            return
        lane = self._lanes.setdefault(row.task.per, _Lane(len(self._lanes)))
        lane.rows.append(row)

    def _stop(self) -> None:
        self._is_stopped = True
        self._engine.cancel([*self._sent])

    def _close(self) -> None:
        self._is_closing = True

    def _look(self) -> None:
        """Workers have come or gone."""
        self._unfit.update(self._engine.unfit(self._needs))
        if self._engine.gone:
            self._reports.stopped(self._engine.gone)

    # Giving out.

    def _give_out(self) -> None:
        """Give each worker as much as it should have."""
        if self._is_stopped:
            return
        loads = {worker: 0 for worker in self._engine.workers(self._needs) if not worker.is_silent}
        for sent in self._sent.values():
            if sent.worker in loads:
                loads[sent.worker] += 1
        while loads:
            worker = min(loads, key=lambda one: loads[one] / one.threads)
            if loads[worker] >= worker.threads * CHUNKS_PER_THREAD or not self._send_next(worker):
                del loads[worker]
            else:
                loads[worker] += 1

    def _send_next(self, worker: Worker) -> bool:
        """Send a chunk to this worker, if there is one for it."""
        if self._settings.per is None:
            rows = self._chunk_of(self._waiting, worker)
            lane = None
        else:
            lane = self._lane_for(worker)
            rows = [] if lane is None else self._chunk_of(lane.rows, worker)
        if not rows:
            return False
        if lane is not None:
            lane.is_out, lane.worker = True, worker.id
        self._send(worker, rows, lane)
        return True

    def _lane_for(self, worker: Worker) -> _Lane | None:
        free = [lane for lane in self._lanes.values() if lane.rows and not lane.is_out]
        own = [lane for lane in free if lane.worker == worker.id]
        return next(iter(own or [lane for lane in free if not lane.worker]), None)

    def _chunk_of(self, waiting: deque[_Row], worker: Worker) -> list[_Row]:
        most = self._most_rows(worker, len(waiting))
        rows: list[_Row] = []
        size = 0
        while waiting and len(rows) < most and (not rows or size + waiting[0].task.size <= MOST_BYTES):
            row = waiting.popleft()
            if not row.is_done:
                rows.append(row)
                size += row.task.size
        return rows

    def _most_rows(self, worker: Worker, waiting: int) -> int:
        """How many rows a chunk for this worker is to have: what takes it so long, but no more than its share."""
        if self._settings.rate is not None:
            return 1
        secs = self._secs.get(worker.id) or max(self._secs.values(), default=CHUNK_SECS)
        return max(1, min(MOST_ROWS, int(CHUNK_SECS / max(secs, 1e-6)), waiting))

    def _send(self, worker: Worker, rows: list[_Row], lane: _Lane | None, *, is_suspect: bool = False) -> None:
        first = rows[0].task.request
        assert first is not None  # noqa: S101 - others are not run
        # Where no chunk can be sent to a certain process, any may be the first that one gets.
        has_program = self._engine.keeps_lanes and worker.id in self._known
        program = None if has_program else program_of(first)
        content = Content(program, *_packed([row.task.request for row in rows if row.task.request is not None]))
        chunk = Chunk(
            id=f"{self.id}-{next(self._order)}",
            executor=self._engine.id,
            dispatch=self.id,
            count=len(rows),
            lane=None if lane is None else lane.number,
            keeps_lane=self._engine.keeps_lanes,
            sealed=sealed(content, self._engine.cipher),
        )
        self._sent[chunk.id] = _Sent(worker, rows, lane, is_suspect)
        self._submit(worker, chunk, lambda outcome: self._events.put(lambda: self._on_outcome(chunk.id, outcome)))

    # What comes back.

    def _on_outcome(self, chunk_id: str, outcome: Outcome) -> None:
        sent = self._sent.pop(chunk_id, None)
        if sent is None:
            return
        if sent.lane is not None:
            sent.lane.is_out = False
        match outcome:
            case Done():
                self._known.add(sent.worker.id)
                self._on_done(sent, outcome)
            case Refused():
                self._known.discard(sent.worker.id)
                self._put_back(sent)
            case Lost():
                self._on_lost(sent, outcome)
            case Failed():
                failure = RunResult(error=RunError.from_text(ErrorKind.LAUNCH, outcome.reason))
                for row in sent.rows:
                    self._on_result(row, failure)
            case Cancelled():
                self._put_back(sent)

    def _on_done(self, sent: _Sent, done: Done) -> None:
        if done.results:
            secs = done.secs / len(done.results)
            before = self._secs.get(sent.worker.id, secs)
            self._secs[sent.worker.id] = (before + secs) / 2
        for row, result in zip(sent.rows, done.results, strict=False):
            self._on_result(row, replace(result, worker=done.worker))
        self._put_back(sent)

    def _on_result(self, row: _Row, result: RunResult) -> None:
        if row.is_done:
            return
        row.is_done = True
        self._record(result)
        again_at = self._reports.ended(row.task, result)
        if again_at is not None:
            heapq.heappush(self._later, (again_at, next(self._order), _Row(row.task, row.deaths)))

    def _on_lost(self, sent: _Sent, lost: Lost) -> None:
        for row in sent.rows:
            row.deaths += 1
            if row.deaths >= MOST_DEATHS:
                text = f"The worker process died {row.deaths} times while this row ran: {lost.reason}"
                self._on_result(row, RunResult(error=RunError.from_text(ErrorKind.DIED, text)))
        self._put_back(sent)

    def _put_back(self, sent: _Sent) -> None:
        """Rows that have no result wait again, before the others."""
        rows = [row for row in sent.rows if not row.is_done]
        where = self._waiting if sent.lane is None else sent.lane.rows
        where.extendleft(reversed(rows))


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
