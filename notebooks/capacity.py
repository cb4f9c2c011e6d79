"""How long an evaluation takes on a cluster, and what holds it up: `scaling_out.ipynb` shows it.

The costs were measured with ``make bench`` on 2 cores of a virtual machine (Linux 6.18, CPython 3.11).
"""

from __future__ import annotations

from dataclasses import dataclass

from tables import Table

CLIENT_SECS = 92e-6  # of the client's processor, for a row: it reads and sends it, and keeps its result
FRESH_SECS = 4.1e-3  # of a worker's core, for a row with a process of its own, without what the code does
STREAMED_SECS = 0.11e-3  # likewise, for a row that streams through the process of its `--per` value
SCHEDULER_SECS = 3e-3  # of the scheduler's processor, for a chunk
CHUNK_SECS = 0.5  # that the rows of a chunk take together
MOST_ROWS = 2000  # of a chunk

CODE_SECS = {"0.1 ms": 1e-4, "1 ms": 1e-3, "10 ms": 1e-2, "100 ms": 0.1, "1 s": 1.0}


@dataclass(frozen=True)
class Load:
    """Seconds that each part of a cluster is busy with an evaluation.

    Args:
        workers: each of them.
        client: the process that the evaluation was started in.
        scheduler: that of Dask.
    """

    workers: float
    client: float
    scheduler: float

    @property
    def secs(self) -> float:
        """How long it takes: they are busy at the same time."""
        return max(self.workers, self.client, self.scheduler)

    @property
    def limit(self) -> str:
        """What holds it up."""
        return max(("workers", "client", "scheduler"), key=lambda part: getattr(self, part))


def load(rows: int, workers: int, code_secs: float, *, per: bool) -> Load:
    """What an evaluation asks of each part.

    Args:
        rows: how many.
        workers: cores that run them.
        code_secs: that the code takes for a row, on one core.
        per: whether rows stream through the process of their `--per` value.
    """
    row_secs = code_secs + (STREAMED_SECS if per else FRESH_SECS)
    chunks = rows / min(MOST_ROWS, max(1.0, CHUNK_SECS / row_secs))
    return Load(rows * row_secs / workers, rows * CLIENT_SECS, chunks * SCHEDULER_SECS)


def enough(code_secs: float, *, per: bool) -> tuple[int, str]:
    """From how many workers on more of them do not help, and what the limit is then."""
    one = load(1_000_000, 1, code_secs, per=per)
    rest = Load(0, one.client, one.scheduler)
    return round(one.workers / rest.secs), rest.limit


def told(secs: float) -> str:
    """A duration as people say it."""
    if secs < 90:
        return f"{secs:.0f} s"
    return f"{secs / 60:.0f} min" if secs < 5400 else f"{secs / 3600:.1f} h"


def table(rows: int, workers: int) -> Table:
    """What so many rows take, by what the code costs."""
    lines = []
    for said, code_secs in CODE_SECS.items():
        for per in (False, True):
            here, there = (load(rows, cores, code_secs, per=per) for cores in (2, workers))
            most, then = enough(code_secs, per=per)
            way = "`--per`" if per else "a process"
            lines.append((said, way, told(here.secs), told(there.secs), there.limit, f"{most:,} ({then})"))
    head = ("the code, a row", "each row", "2 cores", f"{workers} workers", "held up by the", "more help up to")
    return Table(head, tuple(lines))
