"""Asks the workers of a Dask cluster what they have, and remembers which of them can run which code."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from isolated_magic.distributed.fitness import lack_of, question_for
from isolated_magic.distributed.needs import NOTHING

if TYPE_CHECKING:
    from isolated_magic.distributed.dask_connection import Connection
    from isolated_magic.distributed.engine import Worker
    from isolated_magic.distributed.needs import Needs

ENTRY = "isolated_magic.distributed.dask_plugin"
FRESH_SECS = 30.0  # for which a worker that was fit counts as fit in the next check, too
ASK_SECS = 10.0  # for an answer: the first one may import this package
MOST_VERDICTS = 10_000


class _Verdict(NamedTuple):
    lack: str  # empty if it is fit
    given_at: float


class Inspection:
    """See the module. Asked in the client's event loop, and read from any thread.

    Args:
        connection: to the cluster.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._verdicts: OrderedDict[tuple[str, Needs], _Verdict] = OrderedDict()  # by ids of workers
        self._lock = threading.Lock()

    async def ask(self, worker: Worker, needs: Needs) -> str | None:
        """Have a worker say what it has; what it lacks, or None if it does not answer."""
        asked = self._connection.client.run(
            eval, *question_for(needs, ENTRY), workers=[worker.name], asynchronous=True, on_error="return"
        )
        try:
            answers = await asyncio.wait_for(asked, ASK_SECS)
        except (OSError, TimeoutError):
            return None
        answer = answers.get(worker.name)
        if answer is None or isinstance(answer, OSError):
            return None
        lack = lack_of(needs, answer)
        with self._lock:
            self._verdicts[worker.id, needs] = _Verdict(lack, time.monotonic())
            if len(self._verdicts) > MOST_VERDICTS:
                self._verdicts.popitem(last=False)
        return lack

    def lack(self, worker: Worker, needs: Needs) -> str | None:
        """What a worker lacks; empty if it is fit, None if that is not known."""
        verdict = self._verdicts.get((worker.id, needs))
        return None if verdict is None else verdict.lack

    def begin_check(self, needs: Needs) -> None:
        """Forget what may have changed: packages may have been installed where they were missing."""
        now = time.monotonic()
        with self._lock:
            for key, verdict in [*self._verdicts.items()]:
                if key[1] in {needs, NOTHING} and (verdict.lack or now - verdict.given_at > FRESH_SECS):
                    del self._verdicts[key]

    def forget(self, worker: Worker) -> None:
        """The worker is gone."""
        with self._lock:
            for key in [each for each in self._verdicts if each[0] == worker.id]:
                del self._verdicts[key]
