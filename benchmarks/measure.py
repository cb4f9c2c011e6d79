"""Measure candidates in turns, from several threads, and at a user's pace."""

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


class Milliseconds(float):
    """What a call returns that has timed itself, for a part of what it does."""


@dataclass
class Series:
    """The times of one candidate.

    Args:
        milliseconds: duration of each run, from call to result.
        seconds: total time of its turns.
    """

    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def median(self) -> float:
        """The median in milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def p99(self) -> float:
        """The 99th percentile in milliseconds; for fewer than 100 runs the slowest."""
        return sorted(self.milliseconds)[min(len(self.milliseconds) - 1, int(len(self.milliseconds) * 0.99))]

    @property
    def rate(self) -> float:
        """Runs per second."""
        return len(self.milliseconds) / self.seconds

    def take(self, call: Callable[[], object]) -> None:
        """Make one run and record its time."""
        spent = _timed(call)
        self.milliseconds.append(spent)
        self.seconds += spent / 1000


def one_at_a_time(candidates: Mapping[str, Candidate], rounds: int, slow_rounds: int) -> dict[str, Series]:
    """The times of each candidate, in turns whose order changes from round to round.

    One candidate may work on for a moment after its result (a process is forked in advance for the next run); so
    no other candidate always follows it. Each makes one uncounted run first.
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
    """The times of each candidate with concurrent runs from several threads, in turns of ``turn_secs``.

    Naive forks, which take no calls from threads, run on every processor instead.
    """
    taken = {key: Series() for key in candidates}
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(time.sleep, [0.05] * threads))  # the threads exist from here on
        for _ in range(turns):
            for candidate in _ORDER.sample(list(candidates.values()), len(candidates)):
                begun = time.perf_counter()
                if candidate.on_all_processors is not None:
                    taken[candidate.key].milliseconds += candidate.on_all_processors(turn_secs)
                else:
                    for spent in pool.map(partial(_loop, candidate.call), [begun + turn_secs] * threads):
                        taken[candidate.key].milliseconds += spent
                taken[candidate.key].seconds += time.perf_counter() - begun
    return taken


def _loop(call: Callable[[], object], until: float) -> list[float]:
    spent = [_timed(call)]
    while time.perf_counter() < until:
        spent.append(_timed(call))
    return spent


@dataclass
class Pace:
    """The times of one candidate at two paces.

    Args:
        user: of runs with a second before each.
        loop: of runs one after the other.
    """

    user: Series = field(default_factory=Series)
    loop: Series = field(default_factory=Series)


def paced_and_loop(candidates: Mapping[str, Candidate], paced: int, loop: int) -> dict[str, Pace]:
    """The times of each candidate at a user's pace, in turns, and in a loop, half of it before and half after."""
    taken = {key: Pace() for key in candidates}

    def run_in_loop(times: int) -> None:
        for key, candidate in candidates.items():
            for _ in range(times):
                taken[key].loop.take(candidate.call)

    run_in_loop(loop // 2)
    for _ in range(paced):
        for key, candidate in candidates.items():
            time.sleep(1)
            taken[key].user.take(candidate.call)
    run_in_loop(loop - loop // 2)
    return taken


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    returned = call()
    return returned if isinstance(returned, Milliseconds) else (time.perf_counter() - begun) * 1000
