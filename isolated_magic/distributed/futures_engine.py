"""Carries chunks on any ``concurrent.futures.Executor``, for what it can do.

Its processes cannot be told apart from here: to the dispatch they are one worker that runs several chunks at once.
Which process a chunk came to is in its results.
"""

from __future__ import annotations

import itertools
import os
import secrets
import socket
import threading
import time
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from typing import TYPE_CHECKING, Any

from isolated_magic.distributed import pool_process
from isolated_magic.distributed.chunk import Cancelled, Failed, Lost
from isolated_magic.distributed.engine import Engine, Worker
from isolated_magic.distributed.fitness import lack_of, question_for, refusal
from isolated_magic.distributed.lease import WELCOME, Lease
from isolated_magic.distributed.needs import NOTHING
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.executors.row_values import exception_text
from isolated_magic.launch.forks import forget_in_forks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from concurrent.futures import Executor, Future

    from isolated_magic.distributed.chunk import Chunk, Outcome
    from isolated_magic.distributed.needs import Needs
    from isolated_magic.distributed.news import News
    from isolated_magic.executors.isolated import LaunchSettings

QUIET_SECS = 2.0  # without a new process of a pool: the others are busy with something else
END_SECS = 10.0  # for what runs in processes to be gone
# What libraries call it when a process of theirs dies with a task, where they do not call it a broken executor.
DEATHS = frozenset({"EngineError", "WorkerCrashedError", "NodeDiedError", "ActorDiedError", "OutOfMemoryError"})


class FuturesEngine(Engine):
    """See the module.

    Args:
        executor: of the user's, who shuts it down.
        settings: how runs start.
    """

    cipher = None
    keeps_lanes = False

    def __init__(self, executor: Executor, settings: LaunchSettings) -> None:
        self.id = secrets.token_hex(8)
        self._executor = executor
        self._name = type(executor).__name__
        self._settings = settings
        self._gone = ""
        self._worker: Worker | None = None
        self._home: pool_process.Home | None = None  # None where nothing has been sent
        self._lease: Lease | None = None
        self._futures: dict[str, Future[Any] | None] = {}  # by chunk id; None while it is being submitted
        self._watchers: list[Callable[[], object]] = []
        self._has_processes = hasattr(executor, "_processes")  # of multiprocessing or loky
        self._is_here = self._has_processes or isinstance(executor, ThreadPoolExecutor)
        self._fit: set[Needs] = set()  # that processes have been asked for
        self._rounds = itertools.count()
        self._forget_locks()
        forget_in_forks(self)

    def check(self, needs: Needs, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        if not self._gone and needs not in self._fit and not self._is_here:
            self._inspect(needs, timeout_secs)
        if not self._gone and self._home is None:
            self._gather(0.0, timeout_secs)
        if self._gone:
            raise LaunchError(self._gone)

    def watch(self, changed: Callable[[], object], needs: Needs = NOTHING) -> None:  # noqa: ARG002
        """See :class:`Engine`."""
        with self._lock:
            self._watchers.append(changed)
        if self._gone:
            changed()

    def unwatch(self, changed: Callable[[], object]) -> None:
        """See :class:`Engine`."""
        with self._lock:
            if changed in self._watchers:
                self._watchers.remove(changed)

    def workers(self, needs: Needs = NOTHING) -> tuple[Worker, ...]:  # noqa: ARG002 - all alike
        """See :class:`Engine`."""
        if self._worker is None:
            self._worker = Worker(self.id, self._name, _processes_of(self._executor))
        return () if self._gone else (self._worker,)

    @property
    def gone(self) -> str:
        """See :class:`Engine`."""
        return self._gone

    def submit(self, worker: Worker, chunk: Chunk, ended: Callable[[Outcome], object]) -> None:  # noqa: ARG002
        """See :class:`Engine`."""
        with self._lock:
            self._futures[chunk.id] = None
        try:
            future = self._submit(pool_process.run_chunk, chunk, self._at_home())
        except LaunchError as problem:
            self._end(chunk.id, ended, Lost(str(problem)))
            return
        with self._lock:
            self._futures[chunk.id] = future
        future.add_done_callback(lambda done: self._end(chunk.id, ended, self._outcome_of(done)))

    def cancel(self, chunk_ids: Collection[str]) -> None:
        """See :class:`Engine`."""
        with self._lock:
            futures = {each: self._futures[each] for each in chunk_ids if each in self._futures}
            lease = self._lease
            if lease is not None:
                lease.stop([*futures])
        for future in futures.values():
            if future is not None:
                future.cancel()

    def settle(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""
        deadline = time.monotonic() + timeout_secs
        with self._lock:
            self._changed.wait_for(lambda: not self._carries(dispatch), timeout_secs)
            lease = self._lease
        if lease is not None:
            lease.settle(dispatch, max(0.0, deadline - time.monotonic()))

    def _carries(self, dispatch: str) -> bool:
        return any(chunk_id.startswith(dispatch) for chunk_id in self._futures)

    def end_lanes(self, dispatch: str, timeout_secs: float) -> None:
        """See :class:`Engine`."""

    def warm_up(self, timeout_secs: float) -> bool:
        """See :class:`Engine`."""
        return self._gather(timeout_secs, timeout_secs)

    def close(self) -> None:
        """See :class:`Engine`."""
        self.cancel([*self._futures])
        with self._lock:
            lease, self._lease, self._home = self._lease, None, None
        if lease is not None:
            lease.close(END_SECS)

    def forget(self) -> None:
        """In a fork: the processes belong to the original."""
        self._forget_locks()
        self._futures, self._lease, self._home = {}, None, None

    def _forget_locks(self) -> None:
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    def follow(self, worker: Worker, chunk_id: str, told: Callable[[int, Sequence[News]], object]) -> None:  # noqa: ARG002
        """See :class:`Engine`."""
        with self._lock:
            if self._lease is not None and chunk_id in self._futures:
                self._lease.follow(chunk_id, told)

    def ask(
        self,
        worker: Worker,  # noqa: ARG002 - there is but one
        method: str,
        *args: object,
        timeout_secs: float,
        answered: Callable[[object], object],
    ) -> None:
        """See :class:`Engine`. All processes are asked."""
        lease = self._lease
        if lease is None:
            answered(None)
            return
        if method == "stop_chunks" and isinstance(args[0], list):
            self._stop_waiting(lease, args[0])
        lease.ask(method, args, timeout_secs, lambda answers: answered(_one_answer([*answers.values()])))

    def ask_all(self, method: str, *args: object, timeout_secs: float, only: str = "") -> dict[str, object]:
        """See :class:`Engine`."""
        lease = self._lease
        if lease is None:
            return {}
        found: dict[str, object] = {}
        has_ended = threading.Event()

        def answered(answers: dict[str, object]) -> None:
            found.update(answers)
            has_ended.set()

        lease.ask(method, args, timeout_secs, answered, only)
        has_ended.wait(timeout_secs + 1.0)
        return found

    def _stop_waiting(self, lease: Lease, chunk_ids: Collection[str]) -> None:
        """Cancel those of these chunks that no process has: nobody is to ask for them."""
        lease.stop(chunk_ids)
        with self._lock:
            futures = {each: self._futures.get(each) for each in chunk_ids}
        for chunk_id, future in futures.items():
            if future is not None and not lease.runs(chunk_id):
                future.cancel()

    def _at_home(self) -> pool_process.Home:
        with self._lock:
            if self._home is None:
                if hasattr(socket, "AF_UNIX"):
                    self._lease = Lease()
                address = None if self._lease is None else self._lease.address
                self._home = pool_process.Home(self.id, os.getpid(), self._settings, address)
            return self._home

    def _submit(self, function: Callable[..., object], *args: object) -> Future[Any]:
        """Raises LaunchError if the executor takes no tasks."""
        try:
            return self._executor.submit(function, *args)
        except Exception as problem:
            if not isinstance(problem, BrokenExecutor):
                self._ends(f"The {self._name} takes no tasks: {exception_text(problem)}. Give one that does.")
            else:
                self._breaks(problem)
            raise LaunchError(self._gone) from problem

    def _inspect(self, needs: Needs, timeout_secs: float) -> None:
        """Find out whether processes elsewhere can run such code.

        Raises:
            InvalidRequestError: one that was asked cannot. Others may, as it is not for us to say who is asked.
        """
        question = question_for(needs, pool_process.__name__)
        try:
            futures = [self._submit(eval, *question) for _ in range(self.workers()[0].threads)]
        except LaunchError:
            return
        done, waiting = wait_for(futures, timeout_secs)
        for future in waiting:
            future.cancel()
        for future in done:
            if future.cancelled():  # the pool was shut down, which the next task tells
                continue
            if isinstance(problem := future.exception(), BrokenExecutor):
                self._breaks(problem)
            elif lack := lack_of(needs, None if problem else future.result()):
                raise InvalidRequestError(refusal({self._name: lack}))
        self._fit.add(needs)

    def _gather(self, warm_up_secs: float, timeout_secs: float) -> bool:
        """Let all processes of a pool begin; whether runs are fast in them, if they are to be warmed up.

        Each is held until the others are there, as they could not be reached by a task each otherwise.
        """
        home, lease = self._at_home(), self._lease
        count = self.workers()[0].threads if lease is not None and self._has_processes else 1
        name = f"round-{next(self._rounds)}" if count > 1 else WELCOME
        try:
            futures = [self._submit(pool_process.gather, name, warm_up_secs, home) for _ in range(count)]
            if lease is not None and count > 1:
                lease.gather(count, QUIET_SECS, timeout_secs)
        except LaunchError:
            return False
        finally:
            if lease is not None:
                lease.release(name)
        done, _ = wait_for(futures, timeout_secs)
        ended = [future for future in done if not future.cancelled()]  # others: it was shut down meanwhile
        problems = [problem for future in ended if (problem := future.exception()) is not None]
        for problem in problems:
            if isinstance(problem, BrokenExecutor):
                self._breaks(problem)
        return len(ended) == count and not problems and all(future.result() for future in ended)

    def _outcome_of(self, future: Future[Any]) -> Outcome:
        if future.cancelled():
            return Cancelled()
        problem = future.exception()
        if problem is None:
            outcome: Outcome = future.result()
            return outcome
        if isinstance(problem, BrokenExecutor):
            self._breaks(problem)
            return Lost(self._gone)
        text = exception_text(problem)
        names = {type(problem).__name__, getattr(problem, "ename", "")}  # ipyparallel has it there
        return Lost(text) if names & DEATHS else Failed(text)

    def _end(self, chunk_id: str, ended: Callable[[Outcome], object], outcome: Outcome) -> None:
        with self._lock:
            self._futures.pop(chunk_id, None)
            if self._lease is not None:
                # The task of a future that was cancelled may run all the same: not all executors hear of that.
                self._lease.has_ended(chunk_id, may_come=isinstance(outcome, Cancelled))
            self._changed.notify_all()
        ended(outcome)

    def _breaks(self, problem: BaseException) -> None:
        self._ends(f"The {self._name} is broken: {exception_text(problem)} Give a new one.")

    def _ends(self, reason: str) -> None:
        """Nothing will run any more."""
        with self._lock:
            self._gone = self._gone or reason
            watchers = list(self._watchers)
        for changed in watchers:
            changed()


def _one_answer(answers: list[object]) -> object:
    """What all processes together have answered: whether any has it, of each thing that they were asked for."""
    if not answers:
        return None
    if all(isinstance(answer, list) for answer in answers):
        return [any(each) for each in zip(*answers, strict=False)]
    return any(answers)


def _processes_of(executor: Executor) -> int:
    """How many tasks it runs at once: by the attributes of known ones; of others, one for each processor here."""
    for name in ("_max_workers", "max_workers", "num_workers"):
        count = getattr(executor, name, None)
        if isinstance(count, int) and count > 0:
            return count
    return os.cpu_count() or 1
