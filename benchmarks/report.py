"""Print measurements as Markdown."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

import candidates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from measure import Pace, Series
    from memory import Footprint, Usage


@dataclass(frozen=True)
class Target:
    """A target, the measured value in words, and whether it is met."""

    wanted: str
    measured: str
    met: bool


def at_least(least: float, what: str, measured: float) -> Target:
    """A target for a number that is to be large."""
    return Target(f"{what}: at least {least:g}", _exact(measured), measured >= least)


def at_most(most: float, what: str, measured: float) -> Target:
    """A target for a number that is to be small."""
    return Target(f"{what}: at most {most:g}", _exact(measured), measured <= most)


def machine() -> str:
    """One sentence about the machine."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return (
        f"Measured on {os.cpu_count()} cores, {system}, {python}; the candidates take turns, so read the ratios."
    )


def times(title: str, taken: Mapping[str, Series], labels: Mapping[str, str], baseline: str) -> None:
    """Print a table of times, relative to a baseline candidate, and as multiples of a naive fork."""
    head = [title, "median ms", "p99 ms", "runs a second", "times as fast", "naive forks", "runs"]
    base, naive = taken[baseline].median, taken[candidates.NAIVE].median
    table(
        head,
        (
            [
                labels[key],
                number(series.median),
                number(series.p99),
                number(series.rate),
                _ratio(base / series.median),
                _ratio(series.median / naive),
                str(len(series.milliseconds)),
            ]
            for key, series in taken.items()
        ),
    )


def pace(paces: Mapping[str, Mapping[str, Pace]]) -> None:
    """Print the table of runs at a user's pace: by workload, and by candidate."""
    table(
        ["at a user's pace", "a loop, median ms", "one run a second, median ms", "ratio", "naive forks"],
        (
            [
                f"{name}: {candidates.LABELS[key]}",
                number(pace.loop.median),
                number(pace.user.median),
                f"{pace.user.median / pace.loop.median:.2f}",
                _ratio(pace.user.median / taken[candidates.NAIVE].user.median),
            ]
            for name, taken in paces.items()
            for key, pace in taken.items()
        ),
    )


def first_runs(title: str, runs: Sequence[tuple[float, str]]) -> None:
    """Print the table of first runs: milliseconds and launch method."""
    names = ["first", "second", "third", "fourth"]
    table([title, *names], [["ms", *(f"{number(spent)} ({launch})" for spent, launch in runs)]])


def memory(title: str, footprints: Mapping[str, Footprint]) -> None:
    """Print a table of memory."""
    head = [title, "waiting: PSS", "private", "running: PSS", "private", "kept between runs: PSS"]
    table(
        head,
        (
            [
                candidates.LABELS[key],
                *_megabytes(footprint.waiting),
                *_megabytes(footprint.running),
                _megabytes(footprint.idle)[0],
            ]
            for key, footprint in footprints.items()
        ),
    )


def targets(rows: Iterable[Target]) -> None:
    """Print the table of targets, in the given order."""
    table(
        ["target", "measured", "met"], ([row.wanted, row.measured, "yes" if row.met else "**no**"] for row in rows)
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table."""
    print()
    print(f"| {' | '.join(head)} |")
    print(f"|---|{'---:|' * (len(head) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def number(value: float) -> str:
    """The number with about three digits."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 200 else f"{value:.0f}"


def _exact(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value < 2 else f"{value:.1f}" if value < 20 else f"{value:.0f}"


def _megabytes(usage: Usage | None) -> tuple[str, str]:
    return ("-", "-") if usage is None else (f"{usage.pss:.1f} MB", f"{usage.private:.1f} MB")
