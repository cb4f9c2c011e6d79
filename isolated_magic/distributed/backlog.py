"""Rows of an evaluation that wait to be given out, and in which order they are.

Rows without ``per`` are one queue. Those with equal values of ``per`` have a lane, whose rows run one after the
other, in one process of one worker, as long as that is there. Rows that a worker died with are suspects, and run
first.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isolated_magic.executors.lane import MOST_WAITING, difference
from isolated_magic.executors.scheduler import Pace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from isolated_magic.executors.evaluation_options import EvaluationSettings
    from isolated_magic.executors.tasks import Task
    from isolated_magic.request import RunRequest

MOST_BYTES = 4 << 20  # of the payloads of a chunk


@dataclass(eq=False, slots=True)
class Row:
    """One attempt at a task."""

    task: Task
    deaths: int = 0  # of workers that had it
    out: int = 0  # batches that have it
    is_waiting: bool = False
    is_done: bool = False


@dataclass(eq=False, slots=True)
class Lane:
    """The rows with one value of ``per``."""

    number: int
    value: object
    request: RunRequest  # of its first row
    pace: Pace | None
    rows: deque[Row] = field(default_factory=deque)
    suspects: int = 0  # batches of them that wait
    worker: str = ""  # id of the worker that has its process
    out: Batch | None = None
    is_queued: bool = False


@dataclass(eq=False, slots=True)
class Batch:
    """Rows for one chunk."""

    rows: list[Row]
    lane: Lane | None = None
    is_suspect: bool = False
    is_held: bool = False  # it counts as what its rows are in
    is_first: bool = False  # its lane has no process yet


class Backlog:
    """See the module.

    Args:
        settings: of the evaluation.
    """

    def __init__(self, settings: EvaluationSettings) -> None:
        self.has_lanes = settings.per is not None
        self.is_paced = settings.rate is not None
        self._rate_per_sec = settings.rate_per_sec
        self._pace = None if self.has_lanes or not self.is_paced else Pace(self._rate_per_sec)
        self._rows: deque[Row] = deque()
        self._suspects: deque[Batch] = deque()
        self._later: list[tuple[float, int, Row | Lane]] = []  # a heap
        self._lanes: dict[object, Lane] = {}  # by value
        self._ready: dict[str, deque[Lane]] = {"": deque()}  # lanes that have rows, by worker; "" for any
        self._idle: dict[str, OrderedDict[Lane, None]] = {}  # lanes that have none, by worker
        self._order = itertools.count()

    @property
    def waiting(self) -> int:
        """Number of rows without a lane that wait."""
        return len(self._rows)

    @property
    def has_ready(self) -> bool:
        """Whether rows wait that are no suspects."""
        return bool(self._rows) or any(self._ready.values())

    @property
    def suspects(self) -> int:
        """Number of batches of suspects that wait."""
        return len(self._suspects)

    @property
    def due_at(self) -> float:
        """When something that waits may begin, by time.monotonic(); infinity for when something ends."""
        due = self._later[0][0] if self._later else math.inf
        if self._pace is not None and (self._rows or self._suspects):
            due = min(due, self._pace.free_at)
        paces = [batch.lane.pace for batch in self._suspects if batch.lane is not None and batch.lane.out is None]
        return min([due, *(pace.free_at for pace in paces if pace is not None)])

    # Coming.

    def add(self, row: Row) -> str:
        """A row is to be given out; why it cannot be, or nothing."""
        row.is_waiting = True
        if not self.has_lanes:
            self._rows.append(row)
            return ""
        request = row.task.request
        assert request is not None  # noqa: S101 - others are not run
        lane = self._lanes.get(row.task.per)
        if lane is None:
            pace = Pace(self._rate_per_sec) if self.is_paced else None
            lane = Lane(next(self._order), row.task.per, request, pace)
            self._lanes[row.task.per] = lane
        if problem := difference(lane.request, request):
            return problem
        lane.rows.append(row)
        self._queue(lane)
        return ""

    def add_later(self, row: Row, at: float) -> None:
        """A row is to be given out, but not before that time."""
        heapq.heappush(self._later, (at, next(self._order), row))

    def advance(self) -> None:
        """Have what was to wait until now wait no longer."""
        while self._later and self._later[0][0] <= time.monotonic():
            one = heapq.heappop(self._later)[2]
            if isinstance(one, Row):
                self.add(one)
            else:
                one.is_queued = False
                self._queue(one)

    def put_back(self, batch: Batch) -> None:
        """A batch is over: rows that have no result, and are in no other one, wait again, before all others."""
        self.release(batch)
        rows = self._undone(batch)
        for row in rows:
            row.is_waiting = True
        where = self._rows if batch.lane is None else batch.lane.rows
        where.extendleft(reversed(rows))
        if batch.lane is not None:
            self._queue(batch.lane)

    def give_back(self, batch: Batch, begun: int) -> None:
        """Rows of a batch will not run where it is: others may have them."""
        rest = Batch(batch.rows[begun:], batch.lane, is_held=batch.is_held)
        batch.rows = batch.rows[:begun]
        if batch.lane is not None and batch.lane.out is batch:
            batch.lane.out, batch.lane.worker = None, ""
        self.put_back(rest)

    def waiting_for(self, worker_id: str) -> int:
        """Number of rows in lanes that wait for a worker."""
        return sum(len(lane.rows) for lane in self._ready.get(worker_id, ()))

    def free_lane(self, worker_id: str) -> None:
        """Have a lane that waits for a worker wait for any."""
        lanes = self._ready.get(worker_id)
        if lanes:
            lane = lanes.pop()
            lane.worker = ""
            self._ready[""].append(lane)

    def suspect(self, batch: Batch, sizes: Iterable[int]) -> None:
        """A batch is over: likewise, in batches of such sizes, each of which is to be alone on a worker."""
        self.release(batch)
        rows = iter(self._undone(batch))
        for size in sizes:
            suspects = list(itertools.islice(rows, size))
            if not suspects:
                break
            for row in suspects:
                row.is_waiting = True
            self._suspects.append(Batch(suspects, batch.lane, is_suspect=True))
            if batch.lane is not None:
                batch.lane.suspects += 1
        if batch.lane is not None:
            batch.lane.worker = ""
            self._queue(batch.lane)

    def release(self, batch: Batch) -> None:
        """A batch does not count as what its rows are in any more."""
        if not batch.is_held:
            return
        batch.is_held = False
        for row in batch.rows:
            row.out -= 1
        if batch.lane is not None and batch.lane.out is batch:
            batch.lane.out = None

    def lost(self, worker_id: str) -> None:
        """A worker is gone, or silent: lanes do not wait for it."""
        for lane in self._lanes.values():
            if lane.worker == worker_id:
                lane.worker = ""
        self._ready[""].extend(self._ready.pop(worker_id, ()))
        for lane in self._idle.pop(worker_id, ()):
            self._forget(lane)

    # Going.

    def take_suspects(self) -> Batch | None:
        """A batch that is to be alone on a worker."""
        passed: list[Batch] = []
        taken = None
        while self._suspects and taken is None:
            batch = self._suspects.popleft()
            lane = batch.lane
            pace = self._pace if lane is None else lane.pace
            if (lane is not None and lane.out is not None) or not _may_begin(pace):
                passed.append(batch)
                continue
            if lane is not None:
                lane.suspects -= 1
            batch.rows = [row for row in batch.rows if not row.is_done]
            if batch.rows:
                taken = self._taken(batch, pace)
            elif lane is not None:
                self._queue(lane)
        self._suspects.extendleft(reversed(passed))
        return taken

    def take(self, worker_id: str, most: int) -> Batch | None:
        """At most so many rows for a worker."""
        if not self.has_lanes:
            rows = _first(self._rows, most) if _may_begin(self._pace) else []
            return self._taken(Batch(rows), self._pace) if rows else None
        while (lane := self._ready_lane(worker_id)) is not None:
            rows = _first(lane.rows, most)
            if rows:
                is_first, lane.worker = lane.worker != worker_id, worker_id
                return self._taken(Batch(rows, lane, is_first=is_first), lane.pace)
        return None

    def _taken(self, batch: Batch, pace: Pace | None) -> Batch:
        if pace is not None:
            pace.next()
        for row in batch.rows:
            row.is_waiting = False
            row.out += 1
        batch.is_held = True
        if batch.lane is not None:
            batch.lane.out = batch
        return batch

    def _ready_lane(self, worker_id: str) -> Lane | None:
        for where in (worker_id, ""):
            lanes = self._ready.get(where)
            if lanes:
                lane = lanes.popleft()
                lane.is_queued = False
                return lane
        return None

    def _queue(self, lane: Lane) -> None:
        """Have a lane wait for its worker, if it has anything to run there."""
        if lane.out is not None or lane.suspects or lane.is_queued:
            return
        if not lane.rows:
            self._rest(lane)
            return
        self._idle.get(lane.worker, OrderedDict()).pop(lane, None)
        lane.is_queued = True
        if lane.pace is not None and not _may_begin(lane.pace):
            heapq.heappush(self._later, (lane.pace.free_at, next(self._order), lane))
        else:
            self._ready.setdefault(lane.worker, deque()).append(lane)

    def _rest(self, lane: Lane) -> None:
        """A lane has nothing to run: a worker keeps only so many processes."""
        idle = self._idle.setdefault(lane.worker, OrderedDict())
        idle[lane] = None
        idle.move_to_end(lane)
        if len(idle) > MOST_WAITING:
            self._forget(idle.popitem(last=False)[0])

    def _forget(self, lane: Lane) -> None:
        # One with a pace knows when its next row may begin.
        if lane.pace is None and not lane.rows and not lane.suspects and lane.out is None:
            self._lanes.pop(lane.value, None)

    @staticmethod
    def _undone(batch: Batch) -> list[Row]:
        return [row for row in batch.rows if not (row.is_done or row.is_waiting or row.out)]


def _may_begin(pace: Pace | None) -> bool:
    return pace is None or pace.free_at <= time.monotonic()


def _first(rows: deque[Row], most: int) -> list[Row]:
    """The first rows, at most so many, and not more than a chunk should hold."""
    taken: list[Row] = []
    size = 0
    while rows and len(taken) < most and (not taken or size + rows[0].task.size <= MOST_BYTES):
        row = rows.popleft()
        row.is_waiting = False
        if not row.is_done:
            taken.append(row)
            size += row.task.size
    return taken
