"""Taking times: candidates in turns, from several threads, and at a user's pace."""

from __future__ import annotations

import random
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from candidates import Candidate

_ORDER = random.Random(0)  # noqa: S311 - shuffles turns


@dataclass
class Series:
    """The times of one candidate.

    Args:
        milliseconds: of each run, from call to result.
        seconds: in which all of them were done, other candidates' turns left out.
    """

    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def median(self) -> float:
        """Of the milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        """Of the milliseconds; of fewer than 100 runs it is the slowest."""
        return sorted(self.milliseconds)[min(len(self.milliseconds) - 1, int(len(self.milliseconds) * 0.99))]

    @property
    def rate(self) -> float:
        """Runs a second."""
        return len(self.milliseconds) / self.seconds

    def take(self, call: Callable[[], object]) -> None:
        """Make one run and note its time.

        Args:
            call: makes it.
        """
        spent = _timed(call)
        self.milliseconds.append(spent)
        self.seconds += spent / 1000


def one_at_a_time(candidates: Mapping[str, Candidate], rounds: int, slow_rounds: int) -> dict[str, Series]:
    """Each candidate's times, taking turns in an order that changes from round to round.

    One candidate's work may go on for a moment after its result is there (a process is forked in advance for
    the next run): no other one always has that for a neighbour.

    Args:
        candidates: by their keys. Each makes one more run, which does not count, before all others.
        rounds: turns of each.
        slow_rounds: turns of the slow ones, spread evenly.
    """
    taken = {key: Series() for key in candidates}
    for candidate in candidates.values():
        candidate.call()
    slow_rounds = min(slow_rounds, rounds)
    for number in range(rounds):
        slow_too = number * slow_rounds // rounds != (number - 1) * slow_rounds // rounds
        turn = [candidate for candidate in candidates.values() if slow_too or not candidate.slow]
        _ORDER.shuffle(turn)
        for candidate in turn:
            taken[candidate.key].take(candidate.call)
    return taken


def from_threads(
    candidates: Mapping[str, Candidate], threads: int, turn_secs: float, turns: int
) -> dict[str, Series]:
    """Each candidate's times with several runs going on at once, in turns of some time.

    Args:
        candidates: by their keys.
        threads: each makes the next run as soon as its last is done.
        turn_secs: seconds of each turn, at whose end the runs that go on are waited for.
        turns: of each candidate.
    """
    taken = {key: Series() for key in candidates}
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(time.sleep, [0.05] * threads))  # the threads exist from here on
        for _ in range(turns):
            for candidate in _ORDER.sample(list(candidates.values()), len(candidates)):
                begun = time.perf_counter()
                for spent in pool.map(partial(_loop, candidate.call), [begun + turn_secs] * threads):
                    taken[candidate.key].milliseconds += spent
                taken[candidate.key].seconds += time.perf_counter() - begun
    return taken


def _loop(call: Callable[[], object], until: float) -> list[float]:
    spent = [_timed(call)]
    while time.perf_counter() < until:
        spent.append(_timed(call))
    return spent


def paced_and_loop(call: Callable[[], object], paced: int, loop: int) -> tuple[Series, Series]:
    """The times of a user who runs one cell a second, and of a loop without a pause.

    Args:
        call: one run.
        paced: runs of the user.
        loop: runs of the loop, half of them before and half after the user's.
    """
    user, looped = Series(), Series()
    for _ in range(loop // 2):
        looped.take(call)
    for _ in range(paced):
        time.sleep(1)
        user.take(call)
    for _ in range(loop - loop // 2):
        looped.take(call)
    return user, looped


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return (time.perf_counter() - begun) * 1000
