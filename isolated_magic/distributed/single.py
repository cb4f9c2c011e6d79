"""One run on a worker."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from isolated_magic.distributed.chunk import Chunk, Content, Done, Failed, SentRow, Variant, program_of, sealed
from isolated_magic.distributed.needs import needs_of
from isolated_magic.models import ErrorKind, RunError, RunResult
from isolated_magic.request import RemoteTarget

if TYPE_CHECKING:
    from isolated_magic.distributed.chunk import Outcome
    from isolated_magic.distributed.engine import Engine
    from isolated_magic.executors.lifecycle import LiveRun
    from isolated_magic.executors.runner import Watchers
    from isolated_magic.request import RunRequest

WORKER_SECS = 30.0  # to wait for a first worker


class _Control:
    """Receives kill and interrupt requests for the run."""

    def __init__(self, engine: Engine, chunk_id: str) -> None:
        self._engine = engine
        self._chunk_id = chunk_id
        self.is_stopped = False

    def kill(self) -> None:
        self.is_stopped = True
        self._engine.cancel([self._chunk_id])

    interrupt = kill


def run_on(engine: Engine, request: RunRequest, watchers: Watchers, live: LiveRun) -> RunResult:
    """Run one request on any worker."""
    needs = needs_of(request)
    engine.check(needs, WORKER_SECS)
    worker = engine.workers(needs)[0]
    dispatch = secrets.token_hex(8)
    variant = Variant(request.environment, request.secrets, request.remote or RemoteTarget())
    content = Content(program_of(request), (variant,), (SentRow(0, request.payload, request.arrivals),))
    chunk = Chunk(
        id=f"{dispatch}-0",
        executor=engine.id,
        dispatch=dispatch,
        count=1,
        lane=None,
        keeps_lane=False,
        sealed=sealed(content, engine.cipher),
    )
    outcomes: list[Outcome] = []
    ended = threading.Event()

    def on_end(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended.set()

    control = _Control(engine, chunk.id)
    engine.submit(worker, chunk, on_end)
    live.attach(control)
    try:
        ended.wait()
    finally:
        live.detach()
    result = _result_of(outcomes[0])
    if watchers.on_output is not None:
        for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
            if text:
                watchers.on_output(name, text)
    return result


def _result_of(outcome: Outcome) -> RunResult:
    match outcome:
        case Done(results) if results:
            return replace(results[0], worker=outcome.worker)
        case Failed(reason):
            return RunResult(error=RunError.from_text(ErrorKind.LAUNCH, reason))
        case _:
            return RunResult(error=RunError.from_text(ErrorKind.KILLED, "The run was stopped."))
