"""One run on a worker: as an evaluation of one row, which is seen, killed and interrupted like any other run."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.distributed.chunk import Done
from isolated_magic.distributed.dispatch import ClusterDispatch
from isolated_magic.distributed.needs import needs_of
from isolated_magic.distributed.news import Created, Displayed, Printed
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.executors.dispatch import Reports
from isolated_magic.executors.evaluation_options import EvaluationSettings
from isolated_magic.executors.runner import NOBODY, failed_run
from isolated_magic.executors.tasks import Task
from isolated_magic.launch.forks import forget_in_forks
from isolated_magic.models import ErrorKind, RunError, RunResult, Timings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from isolated_magic.distributed.chunk import Chunk, Outcome
    from isolated_magic.distributed.engine import Engine, Worker
    from isolated_magic.distributed.news import News
    from isolated_magic.executors.lifecycle import LiveRun
    from isolated_magic.executors.runner import Watchers
    from isolated_magic.request import RunRequest

WORKER_SECS = 30.0  # to wait for a first worker
LOOK_SECS = 0.5  # meanwhile, between two looks whether the run was stopped
ANSWER_SECS = 3.0  # for a worker to say whether it has the run that is to end
KILLED = RunError.from_text(ErrorKind.KILLED, "The run was killed before it ended.")
INTERRUPTED = RunError.from_text(ErrorKind.INTERRUPTED, "The run was stopped before it ended.")


class Places:
    """Spreads the runs of an executor over its workers: each run knows of none of the others."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()  # by worker id
        self._lock = threading.RLock()  # re-entered by a signal handler
        forget_in_forks(self)

    def take(self, workers: Sequence[Worker]) -> str:
        """The id of the worker that has the fewest runs for its threads."""
        with self._lock:
            chosen = min(workers, key=lambda one: (one.is_silent, self._taken[one.id] / one.threads)).id
            self._taken[chosen] += 1
            return chosen

    def give_back(self, worker_id: str) -> None:
        """The run is over."""
        with self._lock:
            self._taken[worker_id] -= 1
            if not self._taken[worker_id]:
                del self._taken[worker_id]

    def forget(self) -> None:
        """In a fork: the runs are the original's."""
        self._lock = threading.RLock()
        self._taken.clear()


def run_on(engine: Engine, request: RunRequest, watchers: Watchers, live: LiveRun, places: Places) -> RunResult:
    """Run one request on any worker.

    If its worker dies, it runs again on another one, as a row does, and shows again what it shows.

    Raises:
        KeyboardInterrupt: this thread was interrupted twice; the run has been stopped.
    """
    try:
        return _SingleRun(engine, request, watchers, live, places).run()
    except (InvalidRequestError, LaunchError, MemoryError) as problem:
        return failed_run(problem)


class _SingleRun:
    """See the module. It is also what receives kill and interrupt requests for the run."""

    def __init__(
        self, engine: Engine, request: RunRequest, watchers: Watchers, live: LiveRun, places: Places
    ) -> None:
        self._engine = engine
        self._places = places
        self._place = ""  # id of the worker that is to run it
        self._watchers = watchers
        self._live = live
        self._is_followed = watchers != NOBODY
        self._task = Task(0, 0, "", None, request)
        reports = Reports(self._on_result, self._on_fault, self._on_stopped, lambda: None)
        self._needs = replace(needs_of(request), absent=())  # those are for the run to tell
        settings = EvaluationSettings()
        self._dispatch = ClusterDispatch(
            engine,
            self._needs,
            settings,
            lambda _: None,
            reports,
            submit=self._submit,
            prefers=self._is_place,
        )
        self._news: queue.SimpleQueue[News | RunResult | BaseException] = queue.SimpleQueue()
        self._text: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._lock = threading.RLock()  # re-entered by a signal handler
        self._ending: RunError | None = None  # it is to end, for this reason
        self._sent: tuple[Worker, str] | None = None  # where it is now, as which chunk
        self._next = 0  # number of the next news of that chunk

    def run(self) -> RunResult:
        self._live.attach(self)
        try:
            self._wait_for_worker()
            if workers := self._engine.workers(self._needs):
                self._place = self._places.take(workers)
            if self._ending is None:
                self._dispatch.add(self._task)
            return self._result()
        finally:
            self._live.detach()
            self._dispatch.stop()
            self._dispatch.close()
            if self._place:
                self._places.give_back(self._place)

    def _is_place(self, worker: Worker) -> bool:
        return worker.id == self._place

    def _wait_for_worker(self) -> None:
        until = time.monotonic() + WORKER_SECS
        while self._ending is None:
            try:
                self._engine.check(self._needs, LOOK_SECS)
            except LaunchError:
                if self._engine.gone or time.monotonic() > until:
                    raise
            else:
                return

    def _result(self) -> RunResult:
        """Tell what the run shows until its result comes."""
        while True:
            match self._news.get():
                case RunResult() as result:
                    return self._completed(result)
                case Created(pid):
                    self._live.created(pid)
                case Printed(stream, text):
                    self._text[stream].append(text)
                    if self._watchers.on_output is not None:
                        self._watchers.on_output(stream, text)
                case Displayed(display):
                    if self._watchers.on_display is not None:
                        self._watchers.on_display(display)
                case BaseException() as problem:
                    raise problem

    def _completed(self, result: RunResult) -> RunResult:
        """The result with durations from the call on, and in words of a run."""
        if result.error is not None and result.worker is None:
            shown = {name: "".join(parts) for name, parts in self._text.items()}
            return replace(result, error=result.error.map_texts(_of_a_run), **shown)  # type: ignore[arg-type]  # both are texts
        if self._live.pid is None and result.pid is not None:
            self._live.created(result.pid)
        creation_ms, execution_ms = result.timings.creation_ms, result.timings.execution_ms
        on_the_way_ms = max(0.0, (time.monotonic() - self._live.begun_at) * 1000 - execution_ms)
        return replace(result, timings=Timings(creation_ms + on_the_way_ms, execution_ms + on_the_way_ms))

    # From any thread.

    def kill(self) -> None:
        """See :class:`RunControl`."""
        self._end("stop_chunk", KILLED)

    def interrupt(self) -> None:
        """See :class:`RunControl`."""
        self._end("interrupt_chunk", INTERRUPTED)

    def _end(self, method: str, reason: RunError) -> None:
        """Have its worker end it, so that it has a result; if the worker does not have it, it never begins."""
        with self._lock:
            self._ending = reason
            sent = self._sent
        if sent is None:
            self._give_up()
            return
        worker, chunk_id = sent
        self._engine.ask(
            worker,
            method,
            chunk_id,
            timeout_secs=ANSWER_SECS,
            answered=lambda is_there: None if is_there else self._give_up(),
        )

    def _give_up(self) -> None:
        self._dispatch.stop()
        self._news.put(RunResult(error=self._ending))

    def _submit(self, worker: Worker, chunk: Chunk, ended: Callable[[Outcome], object]) -> None:
        with self._lock:
            self._sent, self._next = (worker, chunk.id), 0
            is_to_end = self._ending is not None
        if is_to_end:  # there was a worker that had it, and is lost
            self._give_up()
            return

        def on_end(outcome: Outcome) -> None:
            if isinstance(outcome, Done):
                self._on_news(chunk.id, *outcome.news)
            ended(outcome)

        self._engine.submit(worker, replace(chunk, is_followed=self._is_followed), on_end)
        if self._is_followed:
            self._engine.follow(worker, chunk.id, lambda number, news: self._on_news(chunk.id, number, news))

    def _on_news(self, chunk_id: str, number: int, news: Sequence[News]) -> None:
        with self._lock:
            if self._sent is None or self._sent[1] != chunk_id:
                return
            for one in news[max(0, self._next - number) :]:
                self._news.put(one)
            self._next = max(self._next, number + len(news))

    def _on_result(self, _task: Task, result: RunResult) -> None:
        self._news.put(result)

    def _on_fault(self, problem: BaseException) -> None:
        self._news.put(problem)

    def _on_stopped(self, reason: str) -> None:
        self._news.put(RunResult(error=RunError.from_text(ErrorKind.LAUNCH, reason)))


def _of_a_run(text: str) -> str:
    """What is said of an evaluation and its rows, said of one run."""
    return text.replace("The evaluation was stopped", "The run was given up").replace("this row ran", "it ran")
