"""The library part of the soak: runs from many threads, stopped and killed in every way."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import psutil
from soak_kinds import BAD, GOOD, RESTING, SHORT, STOPPABLE
from soak_remains import comes_true
from soak_runs import LONG_SECS, STOPPED_SECS, Turn, turn_of

from isolated_magic import IsolatedSubprocessExecutor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from soak_runs import Kind
    from soak_tally import Tally

    from isolated_magic import RunResult

    Act = Callable[[Random, str, str], str | None]

FORKED, COLD = "forked", "cold"
COLD_SHARE = 0.2
BACKGROUND_SHARE = 0.1
STOP_WITHIN_SECS = 0.6
TORN_DOWN_RUNS = 3

STOPPED = "The run was stopped before it ended."
KILLED = "The run was killed before it ended."
LOST = "The run was lost: the guardian process was killed, or has no room for it."


class Library:
    """The executors under test."""

    def __init__(self, folder: Path, tally: Tally) -> None:
        self._folder = folder
        self._tally = tally
        self._executors = {door: IsolatedSubprocessExecutor(LONG_SECS, launch=door) for door in (FORKED, COLD)}
        self._others: list[tuple[str, int, Act]] = [
            ("stopped", 6, self._stop),
            ("killed by its pid", 4, self._kill),
            ("cancelled", 4, self._cancel),
            ("torn down", 1, self._tear_down),
            ("its reaper killed", 1, self._lose),
        ]

    def teardown(self) -> None:
        """End both executors."""
        for executor in self._executors.values():
            executor.teardown()

    def take_one_of_each(self, choice: Random) -> None:
        """Take one turn of each kind, to create everything that is made on first use."""
        for number, kind in enumerate((*GOOD, *BAD)):
            for door in (FORKED,) if kind.only_forked else (FORKED, COLD):
                self._take_run(kind, choice, f"first_{door}_{number}", door)
        for name, _, act in self._others:
            for door in (FORKED, COLD):
                self._take_other(name, act, choice, f"first_{door}_{name.replace(' ', '_')}", door)

    def settle(self) -> None:
        """Wait for preparations in the background."""
        self._executors[FORKED].warm_up()

    def take(self, choice: Random, tenant: str) -> None:
        """Take a random turn, under a unique tenant name."""
        door = COLD if choice.random() < COLD_SHARE else FORKED
        weights = [kind.weight for kind in (*GOOD, *BAD)] + [weight for _, weight, _ in self._others]
        [chosen] = choice.choices([*GOOD, *BAD, *self._others], weights)
        if isinstance(chosen, tuple):
            name, _, act = chosen
            self._take_other(name, act, choice, tenant, door)
        else:
            self._take_run(chosen, choice, tenant, FORKED if chosen.only_forked else door)

    def _take_run(self, kind: Kind, choice: Random, tenant: str, door: str) -> None:
        turn = partial(self._run, kind, choice, tenant, door)
        self._tally.take(kind.name, door, turn, STOPPED_SECS if kind.stopped else LONG_SECS)

    def _take_other(self, name: str, act: Act, choice: Random, tenant: str, door: str) -> None:
        self._tally.take(name, door, partial(act, choice, tenant, door), STOPPED_SECS)

    def _run(self, kind: Kind, choice: Random, tenant: str, door: str) -> str | None:
        in_background = choice.random() < BACKGROUND_SHARE and kind.error != "invalid_request"
        executor = self._executors[door]
        with self._turn(kind, choice, tenant) as turn:
            call = executor.start if in_background else executor.run
            result = call(
                kind.source,
                turn.data,
                turn.env_vars,
                turn.timeout_secs,
                limits=kind.limits,
                fresh=kind.fresh,
            )
            return turn.fault_in(result.result(LONG_SECS) if in_background else result)

    @contextmanager
    def _turn(self, kind: Kind, choice: Random, tenant: str) -> Iterator[Turn]:
        folder = self._folder / tenant
        folder.mkdir()
        try:
            yield turn_of(kind, tenant, folder, choice)
        finally:
            shutil.rmtree(folder)

    def _stop(self, choice: Random, tenant: str, door: str) -> str | None:
        kind = choice.choice(STOPPABLE)
        with self._turn(kind, choice, tenant) as turn:
            run = self._executors[door].start(kind.source, turn.data, turn.env_vars)
            for _ in range(choice.choice((1, 1, 1, 2))):
                time.sleep(choice.uniform(0, STOP_WITHIN_SECS))
                run.interrupt()
            return _fault_of_stopped(turn, run.result(LONG_SECS), STOPPED)

    def _kill(self, choice: Random, tenant: str, door: str) -> str | None:
        kind, executor = choice.choice(STOPPABLE), self._executors[door]
        with self._turn(kind, choice, tenant) as turn:
            run = executor.start(kind.source, turn.data, turn.env_vars)
            pid = run.pid
            time.sleep(choice.uniform(0, STOP_WITHIN_SECS))
            was_there = pid is not None and executor.kill_process(pid, LONG_SECS)
            if not was_there and kind is not SHORT:
                return f"kill_process() did not find {pid}: {run.result(LONG_SECS).error}"
            return _fault_of_stopped(turn, run.result(LONG_SECS), KILLED)

    def _cancel(self, choice: Random, tenant: str, door: str) -> str | None:
        kind = choice.choice(STOPPABLE)
        with self._turn(kind, choice, tenant) as turn:
            result = asyncio.run(_cancelled(self._executors[door], turn, choice.uniform(0, STOP_WITHIN_SECS)))
            if result is not None and (kind is not SHORT or "scores" not in result):
                return f"a cancelled run came to {result}"
            return turn.left_processes()

    def _tear_down(self, choice: Random, tenant: str, door: str) -> str | None:
        """Tear down a separate executor during runs, and use it again."""
        called: list[int] = []
        with self._turn(RESTING, choice, tenant) as turn:
            executor = IsolatedSubprocessExecutor(LONG_SECS, launch=door)
            executor.register_teardown_callback(lambda: called.append(1))
            runs = [executor.start(turn.kind.source, turn.data, turn.env_vars) for _ in range(TORN_DOWN_RUNS)]
            pids = [run.pid for run in runs]
            time.sleep(choice.uniform(0, STOP_WITHIN_SECS))
            executor.teardown(LONG_SECS)
            faults = [_fault_of_stopped(turn, run.result(LONG_SECS), KILLED) for run in runs]
            again = executor.run("1")
            executor.teardown(LONG_SECS)
        if executor.active_pids or len(called) != 1 or not again.ok:
            faults.append(f"active {executor.active_pids}, called {len(called)} times, afterwards {again.error}")
        return next((f"{fault} (pids {pids})" for fault in faults if fault), None)

    def _lose(self, choice: Random, tenant: str, door: str) -> str | None:
        """Kill the guardian or the fork server of a separate executor during a run."""
        with (
            self._turn(RESTING, choice, tenant) as turn,
            # Executors with the same settings share fork servers: nobody else has these.
            IsolatedSubprocessExecutor(LONG_SECS, launch=door, idle_secs=choice.uniform(1000, 2000)) as executor,
        ):
            executor.warm_up()
            run = executor.start(turn.kind.source, turn.data, turn.env_vars)
            if not comes_true(lambda: any(turn.folder.iterdir()), STOPPED_SECS):
                return f"the run did not begin: {run}"
            os.kill(psutil.Process(run.pid).ppid(), signal.SIGKILL)
            fault = _fault_of_stopped(turn, run.result(LONG_SECS), LOST)
            again = executor.run("1")
            return fault if again.ok else f"the next run: {again.error}"

    def take_with_ctrl_c(self, choice: Random, tenant: str) -> None:
        """Take a turn that is interrupted with Ctrl-C. Main thread only."""
        self._tally.take("Ctrl-C", FORKED, partial(self._press_ctrl_c, choice, tenant), STOPPED_SECS)

    def _press_ctrl_c(self, choice: Random, tenant: str) -> str | None:
        kind = choice.choice(STOPPABLE)
        came_to, interrupted = None, False
        with self._turn(kind, choice, tenant) as turn:
            delay = choice.uniform(0, STOP_WITHIN_SECS)
            presser = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
            try:
                presser.start()
                came_to = self._executors[FORKED].run(kind.source, turn.data, turn.env_vars)
                presser.join()
                comes_true(lambda: False, 0)  # the signal, if it came this late, is handled here
            except KeyboardInterrupt:
                interrupted = True
            if not interrupted:
                return f"no KeyboardInterrupt; the run came to {came_to}"
            return turn.left_processes()


def _fault_of_stopped(turn: Turn, result: RunResult, text: str) -> str | None:
    """The fault of a stopped run, None if it has none or had ended before."""
    if result.error is None and turn.kind is not SHORT:
        return f"a stopped run came to {result}"
    if result.error is not None and result.error.text != text:
        return f"the error is {result.error}"
    return turn.misled_by(result.stdout) or turn.left_processes()


async def _cancelled(executor: IsolatedSubprocessExecutor, turn: Turn, secs: float) -> dict[str, object] | None:
    """The result of a run that ended before its cancellation, None for a cancelled one."""
    task = asyncio.create_task(executor.aexecute(turn.kind.source, turn.data, turn.env_vars))
    await asyncio.sleep(secs)
    task.cancel()
    try:
        return dict(await task)
    except asyncio.CancelledError:
        return None
