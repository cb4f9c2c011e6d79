"""In a worker process: one executor for each executor of a client's, which runs the chunks that are sent to it."""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.distributed.chunk import Cancelled, Done, Refused
from isolated_magic.distributed.news import FollowedRun, Journal
from isolated_magic.environment import environment_for_run
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.executors.isolated import IsolatedSubprocessExecutor
from isolated_magic.executors.lane import END_SECS, MOST_WAITING
from isolated_magic.executors.lifecycle import DEFAULT_TEARDOWN_TIMEOUT_SECS, LiveRun
from isolated_magic.executors.row_process import RowHost, start_row_process
from isolated_magic.executors.runner import NOBODY, failed_run
from isolated_magic.request import secrets_in
from isolated_magic.supervisor.row_stream import MOST_AHEAD

if TYPE_CHECKING:
    from collections.abc import Collection

    from isolated_magic.distributed.chunk import Chunk, Cipher, Content, SentRow, Variant
    from isolated_magic.distributed.news import News
    from isolated_magic.executors.isolated import LaunchSettings
    from isolated_magic.executors.row_process import RowProcess
    from isolated_magic.executors.runner import Watchers
    from isolated_magic.launch.base import Preloaded
    from isolated_magic.models import RunResult
    from isolated_magic.request import RunRequest

MOST_PROGRAMS = 64  # that are kept
MOST_REMEMBERED = 4096  # chunks and dispatches that were stopped, and chunks that have ended


class WorkerExecutor(IsolatedSubprocessExecutor):
    """Runs chunks in one worker process. Chunks run in several threads at once.

    Args:
        settings: how runs start.
        cipher: opens chunks; None for those that are not sealed.
        name: what the engine calls this worker.
    """

    def __init__(self, settings: LaunchSettings, cipher: Cipher | None, name: str) -> None:
        super().__init__(**settings)
        self.cipher = cipher
        self._name = name
        self._programs: OrderedDict[str, RunRequest] = OrderedDict()
        self._rows = RowHost(lambda _request: self._launcher, self._begin, self._end, self._record_row)
        self._lanes: OrderedDict[tuple[str, int], _Lane] = OrderedDict()  # by dispatch; the last used one last
        self._taken: dict[str, Chunk] = {}  # that have come, and whose task has not begun; by id
        self._going: dict[str, _Going] = {}  # chunks, by id
        self._stopped: OrderedDict[str, None] = OrderedDict()  # chunks that have not come, and may never come
        self._ended: OrderedDict[str, None] = OrderedDict()  # chunks
        self._used_at = time.monotonic()
        self._table = threading.RLock()

    def take(self, chunk: Chunk) -> bool:
        """Keep a chunk until :meth:`run_taken`; False if it was stopped."""
        with self._table:
            if chunk.id in self._stopped or chunk.dispatch in self._stopped:
                return False
            self._taken[chunk.id] = chunk
        self.touch()
        return True

    def run_taken(self, chunk_id: str) -> Done | Refused | Cancelled:
        """Run a chunk that has come."""
        with self._table:
            chunk = self._taken.pop(chunk_id, None)
            was_stopped = chunk_id in self._stopped
        if chunk is None:
            return Cancelled() if was_stopped else Refused(lacks_program=False)
        return self.run_chunk(chunk)

    @property
    def taken(self) -> tuple[str, ...]:
        """The chunks that have come, and have not begun."""
        return tuple(self._taken)

    def run_chunk(self, chunk: Chunk) -> Done | Refused:
        """Run the rows of a chunk, one after the other."""
        content = chunk.content(self.cipher)
        program = self._program(chunk.dispatch, content)
        if program is None:
            return Refused(lacks_program=True)
        begun_at = time.monotonic()
        try:
            requests = _requests(program, content)
        except InvalidRequestError as problem:  # for this worker's environment
            return Done((failed_run(problem),) * chunk.count, 0.0, self._name)
        going = _Going(Journal() if chunk.is_followed else None, has_lane=chunk.lane is not None)
        with self._table:
            self._going[chunk.id] = going
            if chunk.id in self._stopped or chunk.dispatch in self._stopped:
                going.stop()
        try:
            if chunk.lane is None:
                results = self._run_each(requests, going)
            else:
                results = self._run_in_lane(chunk, requests, going)
        finally:
            with self._table:
                del self._going[chunk.id]
                _remember(self._ended, chunk.id)
            self.touch()
        news = (0, ()) if going.journal is None else going.journal.rest()
        return Done(tuple(results), time.monotonic() - begun_at, self._name, news)

    def stop_chunk(self, chunk_id: str) -> bool:
        """Kill what runs of a chunk, and begin no further row of it, even if it is yet to come. Does not wait.

        Returns:
            Whether it runs here now.
        """
        with self._table:
            going = self._going.get(chunk_id)
            self._taken.pop(chunk_id, None)
            if going is None:
                _remember(self._stopped, chunk_id)
        if going is not None:
            going.stop()
        return going is not None

    def stop_chunks(self, chunk_ids: Collection[str]) -> list[bool]:
        """Likewise for several."""
        return [self.stop_chunk(each) for each in chunk_ids]

    def give_back(self, chunk_ids: Collection[str]) -> dict[str, int]:
        """Begin no further row of chunks that have no lane, and do not begin those that have not begun.

        Returns:
            How many rows of each chunk run or have run. Those that are not in it cannot be given back.
        """
        begun: dict[str, int] = {}
        with self._table:
            for chunk_id in chunk_ids:
                going = self._going.get(chunk_id)
                if going is not None and not going.has_lane:
                    begun[chunk_id] = going.end_early()
                elif going is None and chunk_id not in self._ended:
                    _remember(self._stopped, chunk_id)
                    begun[chunk_id] = 0
        return begun

    def end_dispatch(self, dispatch: str) -> None:
        """Likewise for all chunks of an evaluation, also those that come only now."""
        with self._table:
            _remember(self._stopped, dispatch)
            self._forget_taken(dispatch)
            chunks = [going for chunk_id, going in self._going.items() if chunk_id.startswith(dispatch)]
        for going in chunks:
            going.stop()

    def teardown(self, timeout: float = DEFAULT_TEARDOWN_TIMEOUT_SECS) -> None:
        """As every executor's. A chunk that runs ends with the rows that it has done: others run elsewhere."""
        with self._table:
            chunks = [*self._going.values()]
        for going in chunks:
            going.abandon()
        super().teardown(timeout)

    def touch(self) -> None:
        """It is used."""
        self._used_at = time.monotonic()

    def unused_secs(self) -> float:
        """How long no chunk has run here."""
        with self._table:
            return 0.0 if self._going else time.monotonic() - self._used_at

    def interrupt_chunk(self, chunk_id: str) -> bool:
        """Ask what runs of a chunk to end, as Ctrl-C does. Does not wait. Whether it runs here."""
        going = self._going_of(chunk_id)
        if going is not None:
            going.interrupt()
        return going is not None

    def news_of(self, chunk_id: str, number: int) -> list[News]:
        """What a followed chunk has shown, from this number on."""
        going = self._going_of(chunk_id)
        return [] if going is None or going.journal is None else going.journal.since(number)

    def pids(self) -> tuple[int, ...]:
        """Of what runs here."""
        return self.active_pids

    def preloads(self) -> Preloaded:
        """What is imported ahead of runs here."""
        return self.preloaded

    def _going_of(self, chunk_id: str) -> _Going | None:
        with self._table:
            return self._going.get(chunk_id)

    def is_idle(self, dispatch: str) -> bool:
        """Whether no chunk of this evaluation runs here."""
        with self._table:
            return not any(chunk_id.startswith(dispatch) for chunk_id in self._going)

    def end_lanes(self, dispatch: str) -> None:
        """End the processes of an evaluation that wait for rows, in order if they can."""
        with self._table:
            ending = [self._lanes.pop(key) for key in [*self._lanes] if key[0] == dispatch]
            self._programs.pop(dispatch, None)
            self._forget_taken(dispatch)
        _end(ending)

    def _forget_taken(self, dispatch: str) -> None:
        for chunk_id in [each for each in self._taken if each.startswith(dispatch)]:
            del self._taken[chunk_id]

    def _program(self, dispatch: str, content: Content) -> RunRequest | None:
        with self._table:
            if content.program is not None:
                self._programs[dispatch] = content.program
                if len(self._programs) > MOST_PROGRAMS:
                    self._programs.popitem(last=False)
            return self._programs.get(dispatch)

    def _run_each(self, requests: list[RunRequest], going: _Going) -> list[RunResult]:
        results: list[RunResult] = []
        for request in requests:
            live, watchers = _watched(request, going.journal)
            if not going.has_begun(live):
                break
            result = self._run(request, live, watchers)
            if going.is_abandoned:
                break
            results.append(result)
        return results

    def _run_in_lane(self, chunk: Chunk, requests: list[RunRequest], going: _Going) -> list[RunResult]:
        lane = self._lane(chunk)
        try:
            return lane.run(self._rows, requests, going)
        finally:
            self._keep(chunk, lane)

    def _lane(self, chunk: Chunk) -> _Lane:
        assert chunk.lane is not None  # noqa: S101 - others have none
        with self._table:
            return self._lanes.pop((chunk.dispatch, chunk.lane), None) or _Lane()

    def _keep(self, chunk: Chunk, lane: _Lane) -> None:
        assert chunk.lane is not None  # noqa: S101 - likewise
        ending = []
        with self._table:
            if chunk.keeps_lane:
                self._lanes[chunk.dispatch, chunk.lane] = lane
                if len(self._lanes) > MOST_WAITING:
                    ending.append(self._lanes.popitem(last=False)[1])
            else:
                ending.append(lane)
        _end(ending)


class _Going:
    """A chunk that runs.

    Args:
        journal: takes what it shows; None if nobody follows it.
        has_lane: whether its rows share a process.
    """

    def __init__(self, journal: Journal | None = None, *, has_lane: bool = False) -> None:
        self.journal = journal
        self.has_lane = has_lane
        self.is_stopped = False
        self._begun = 0  # rows
        self._ends_early = False
        self.is_abandoned = False  # what is killed of it has no result
        self._is_interrupted = False
        self._live: LiveRun | None = None
        self._lock = threading.RLock()

    def has_begun(self, live: LiveRun) -> bool:
        """From now on this is what runs of it; False if it is to begin nothing more."""
        with self._lock:
            if self.is_stopped or self._ends_early:
                return False
            self._begun += 1
            self._live = live
            if self._is_interrupted:
                live.interrupt()
            return True

    def end_early(self) -> int:
        """Begin no further row; how many have begun."""
        with self._lock:
            self._ends_early = True
            return self._begun

    def stop(self) -> None:
        with self._lock:
            self.is_stopped = True
            live = self._live
        if live is not None:
            live.stop()

    def abandon(self) -> None:
        self.is_abandoned = True
        self.stop()

    def interrupt(self) -> None:
        with self._lock:
            self._is_interrupted = True
            live = self._live
        if live is not None:
            live.interrupt()


class _Lane:
    """The rows of one value of ``per``: they stream through one process. One chunk of them runs at a time."""

    def __init__(self) -> None:
        self._process: RowProcess | None = None
        self._results: list[RunResult] = []
        self._going = _Going()

    def run(self, host: RowHost, requests: list[RunRequest], going: _Going) -> list[RunResult]:
        results: list[RunResult] = []
        self._results, self._going = results, going
        starts_cold = False
        while len(results) < len(requests) and not going.is_stopped:
            if self._process is None:
                first = replace(requests[0], fresh=True) if starts_cold else requests[0]
                try:
                    self._process = start_row_process(host, first, self._on_result, MOST_AHEAD)
                except LaunchError as problem:
                    results.append(failed_run(problem))
                    continue
            process = self._process
            if not going.has_begun(process.live):
                process.live.stop()
            waiting = iter(requests[len(results) :])
            if not process.run(lambda waiting=waiting: None if going.is_stopped else next(waiting, None)):  # type: ignore[misc]
                starts_cold, self._process = process.is_to_be_cold, None
        return results

    def _on_result(self, result: RunResult) -> None:
        if not self._going.is_abandoned:
            self._results.append(result)

    def hang_up(self) -> None:
        if self._process is not None:
            self._process.hang_up()

    def end(self, deadline: float) -> None:
        if self._process is not None:
            self._process.end(deadline)


def _remember(chunks: OrderedDict[str, None], chunk_id: str) -> None:
    chunks[chunk_id] = None
    if len(chunks) > MOST_REMEMBERED:
        chunks.popitem(last=False)


def _end(lanes: list[_Lane]) -> None:
    for lane in lanes:
        lane.hang_up()
    deadline = time.monotonic() + END_SECS
    for lane in lanes:
        lane.end(deadline)


def _watched(request: RunRequest, journal: Journal | None) -> tuple[LiveRun, Watchers]:
    if journal is None:
        return LiveRun(request.source_name, is_of_evaluation=True), NOBODY
    return FollowedRun(request.source_name, journal), journal.watchers


def _requests(program: RunRequest, content: Content) -> list[RunRequest]:
    """The runs of a chunk, complete."""
    complete = [_completed(program, variant) for variant in content.variants]
    return [_with_data(complete[row.variant], row) for row in content.rows]


def _with_data(request: RunRequest, row: SentRow) -> RunRequest:
    return request.with_data(row.payload, row.arrivals)


def _completed(program: RunRequest, variant: Variant) -> RunRequest:
    """The run with the environment of this process below its own."""
    environment = dict(environment_for_run(inherit=variant.remote.inherits))
    for name in variant.remote.unset:
        environment.pop(name, None)
    environment.update(variant.environment)
    secrets = {*variant.secrets, *secrets_in(environment, variant.remote.secret_names)}
    cwd = program.cwd if os.path.isdir(program.cwd) else os.getcwd()  # noqa: PTH109,PTH112 - of every run
    return replace(program, environment=environment, secrets=tuple(sorted(secrets)), cwd=cwd)
