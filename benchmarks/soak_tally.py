"""The results of the turns of a soak: counts, durations and faults for each kind."""

from __future__ import annotations

import math
import statistics
import sys
import threading
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST_FAULT = 400  # characters of a fault that are shown
SHOWN_FAULTS = 4  # of each kind of turn


@dataclass
class Row:
    """The turns of one kind in one executor or kernel.

    Args:
        milliseconds: duration of each turn.
        faults: one text for each fault.
    """

    milliseconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The median in milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def slowest(self) -> float:
        """The maximum in milliseconds."""
        return max(self.milliseconds)


@dataclass(frozen=True)
class Going:
    """A turn in progress.

    Args:
        name: its kind, and the executor or kernel.
        begun_at: start time, by time.monotonic().
        thread: its thread.
    """

    name: str
    begun_at: float
    thread: int


class Tally:
    """All turns. Thread-safe."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = defaultdict(Row)
        self._going: dict[int, Going] = {}
        self._lock = threading.Lock()

    def take(self, kind: str, door: str, turn: Callable[[], str | None], within_secs: float = math.inf) -> None:
        """Take one turn and record its duration and fault."""
        thread = threading.get_ident()
        begun_at = time.monotonic()
        with self._lock:
            self._going[thread] = Going(f"{kind}, {door}", begun_at, thread)
        try:
            fault = turn()
        except Exception as problem:  # noqa: BLE001 - whatever it is, it is a fault, and the soak goes on
            where = traceback.extract_tb(problem.__traceback__)[-1]
            fault = f"{type(problem).__name__} at {where.filename}:{where.lineno}: {problem}"
        secs = time.monotonic() - begun_at
        if fault is None and secs > within_secs:
            fault = f"it took {secs:.1f} seconds"
        with self._lock:
            row = self.rows[kind, door]
            row.milliseconds.append(secs * 1000)
            if fault is not None:
                row.faults.append(fault)
            self._going.pop(thread, None)
        if fault is not None and len(row.faults) <= SHOWN_FAULTS:
            print(f"soak: FAULT in {kind}, {door}: {shortened(fault)}", file=sys.stderr, flush=True)

    def add_fault(self, kind: str, door: str, fault: str) -> None:
        """Record a fault that was found outside of the turns."""
        with self._lock:
            self.rows[kind, door].faults.append(fault)
        print(f"soak: FAULT in {kind}, {door}: {fault}", file=sys.stderr, flush=True)

    def hanging(self, guard_secs: float) -> list[Going]:
        """The turns in progress for longer than ``guard_secs``."""
        now = time.monotonic()
        with self._lock:
            return [going for going in self._going.values() if now - going.begun_at > guard_secs]

    @property
    def turns(self) -> int:
        """The number of turns."""
        with self._lock:
            return sum(len(row.milliseconds) for row in self.rows.values())

    @property
    def faults(self) -> int:
        """The number of faults."""
        with self._lock:
            return sum(len(row.faults) for row in self.rows.values())


def shortened(text: str) -> str:
    """The text as one line, shortened."""
    line = " / ".join(text.split("\n"))
    return (
        line if len(line) <= LONGEST_FAULT else f"{line[: LONGEST_FAULT // 2]} ... {line[-LONGEST_FAULT // 2 :]}"
    )
