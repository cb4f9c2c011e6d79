"""What the turns of a soak came to: how many of each kind, how long they took, what was wrong."""

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
    """The turns of one kind, through one door.

    Args:
        milliseconds: that each took.
        faults: what was wrong, one text for each.
    """

    milliseconds: list[float] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Of the milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def slowest(self) -> float:
        """Of the milliseconds."""
        return max(self.milliseconds)


@dataclass(frozen=True)
class Going:
    """A turn that is going on.

    Args:
        name: of the kind and the door.
        begun_at: by time.monotonic().
        thread: that it goes on in.
    """

    name: str
    begun_at: float
    thread: int


class Tally:
    """All turns. Safe from many threads."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = defaultdict(Row)
        self._going: dict[int, Going] = {}
        self._lock = threading.Lock()

    def take(self, kind: str, door: str, turn: Callable[[], str | None], within_secs: float = math.inf) -> None:
        """Take one turn and note what came of it.

        Args:
            kind: of the turn.
            door: what it goes through: an executor, or a kernel.
            turn: takes it; returns what was wrong, None when all was as it has to be.
            within_secs: that it may take.
        """
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
        """Note what was found beside the turns.

        Args:
            kind: of a turn.
            door: as for :meth:`take`.
            fault: what was wrong.
        """
        with self._lock:
            self.rows[kind, door].faults.append(fault)
        print(f"soak: FAULT in {kind}, {door}: {fault}", file=sys.stderr, flush=True)

    def hanging(self, guard_secs: float) -> list[Going]:
        """The turns that have been going on for longer than that.

        Args:
            guard_secs: seconds.
        """
        now = time.monotonic()
        with self._lock:
            return [going for going in self._going.values() if now - going.begun_at > guard_secs]

    @property
    def turns(self) -> int:
        """How many there were."""
        with self._lock:
            return sum(len(row.milliseconds) for row in self.rows.values())

    @property
    def faults(self) -> int:
        """How many there were."""
        with self._lock:
            return sum(len(row.faults) for row in self.rows.values())


def shortened(text: str) -> str:
    """One line of it, not too long.

    Args:
        text: any.
    """
    line = " / ".join(text.split("\n"))
    return (
        line if len(line) <= LONGEST_FAULT else f"{line[: LONGEST_FAULT // 2]} ... {line[-LONGEST_FAULT // 2 :]}"
    )
