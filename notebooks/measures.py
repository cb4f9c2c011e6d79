"""What a run costs in each strategy, measured where this is called: `choosing_an_executor.ipynb` shows it."""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, cast

from tables import Table

from isolated_magic import MissingLibraryError, create_executor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from IPython.display import Image
    from matplotlib.axes import Axes

    from isolated_magic import DockerExecutor, IsolatedSubprocessExecutor, ProcessExecutor
    from isolated_magic.executors.factory import ExecutorName

    AnyExecutor: TypeAlias = IsolatedSubprocessExecutor | ProcessExecutor | DockerExecutor

PLAIN = "plain subprocess"
STRATEGIES = ("isolated", "process", "docker", PLAIN)
NOT_HERE = "not here"

STARTS, MEMORY_SAMPLES = 3, 3
SAMPLES, SAMPLES_OF_DOCKER = 15, 5  # a container takes most of a second to get ready
THREADS, RATE_SECS = 4, 1.0
TIMEOUT_SECS = 60.0

TRIVIAL = "import json\nprint(json.dumps({'value': 1}))"
# A process may always read its own: no other's permission is needed, in a container neither.
RESTING = """
import json, time

time.sleep(0.3)
try:
    with open("/proc/self/smaps_rollup") as file:
        [kilobytes] = [int(line.split()[1]) for line in file if line.startswith("Pss:")]
except OSError:  # there is none on macOS
    print(json.dumps({"value": None}))
else:
    print(json.dumps({"value": kilobytes / 1024}))
"""


@dataclass(frozen=True)
class Costs:
    """Of one strategy.

    Args:
        startup: milliseconds from nothing to the first result of a new executor.
        latency: milliseconds of a run that finds the executor ready.
        rate: runs a second that four threads get, none waiting for the others.
        memory: MB (Pss) of a run's process; None where the system does not tell.
    """

    startup: float
    latency: float
    rate: float
    memory: float | None


TITLES = (
    "startup: first result, ms (less is better)",
    "latency: one run, ms (less is better)",
    "runs a second, 4 threads (more is better)",
    "memory of a run, MB (less is better)",
)
COLUMNS = ("startup, ms", "one run, ms", "runs a second", "memory, MB")


@dataclass(frozen=True)
class Way:
    """One way to run code.

    Args:
        run: takes code that prints a JSON object, and gives its ``value``.
        get_ready: waits until what is started beforehand is there.
    """

    run: Callable[[str], float | None]
    get_ready: Callable[[], object]


def made(strategy: str, **settings: object) -> AnyExecutor:
    """A new executor of a strategy."""
    name = cast("ExecutorName", strategy)
    return cast("AnyExecutor", create_executor(name, timeout_secs=TIMEOUT_SECS, **settings))


def plain_run(code: str) -> float | None:
    """The plain recipe: a new interpreter, and JSON over its pipes."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input="{}", capture_output=True, text=True, timeout=TIMEOUT_SECS, check=True)
    return cast("float | None", json.loads(done.stdout.splitlines()[-1])["value"])


def run_in(executor: AnyExecutor, code: str) -> float | None:
    """The same by an executor."""
    result = executor.run(code)
    if result.error is not None:
        raise RuntimeError(result.error.summary)
    return cast("float | None", result.to_dict()["value"])


@contextmanager
def way_of(strategy: str) -> Iterator[Way]:
    """A new executor of a strategy, or the plain recipe; nothing is left of it afterwards."""
    if strategy == PLAIN:
        yield Way(plain_run, lambda: None)
        return
    with made(strategy) as executor:
        yield Way(partial(run_in, executor), executor.warm_up)


def why_no_docker(**settings: object) -> str:
    """Why no run in a container succeeds here, in a sentence; empty if one does."""
    try:
        with made("docker", **settings) as executor:
            error = executor.run("1").error
    except MissingLibraryError:
        return "The docker SDK is not installed."
    return "" if error is None else error.summary.partition(". ")[0].partition(": ")[0].rstrip(".") + "."


def startup(strategy: str) -> float:
    """Milliseconds from nothing to the first result."""
    began = time.perf_counter()
    with way_of(strategy) as way:
        way.run(TRIVIAL)
        return (time.perf_counter() - began) * 1000


def latency(way: Way) -> float:
    """Milliseconds of one run."""
    way.get_ready()
    began = time.perf_counter()
    way.run(TRIVIAL)
    return (time.perf_counter() - began) * 1000


def rate(way: Way) -> float:
    """Runs a second, from several threads, for about a second."""
    way.get_ready()
    began = time.perf_counter()

    def one_after_the_other(_thread: int) -> int:
        done = 0
        while time.perf_counter() < began + RATE_SECS:
            way.run(TRIVIAL)
            done += 1
        return done

    with ThreadPoolExecutor(THREADS) as threads:
        runs = sum(threads.map(one_after_the_other, range(THREADS)))
    return runs / (time.perf_counter() - began)


def memory(way: Way) -> float | None:
    """MB of a run that rests, as it reads them itself."""
    way.run(RESTING)
    samples = []
    for _ in range(MEMORY_SAMPLES):
        way.get_ready()
        samples.append(way.run(RESTING))
    known = [sample for sample in samples if sample is not None]
    return statistics.median(known) if known else None


def measure(strategy: str) -> Costs:
    """What a strategy costs on this machine, in about two seconds (more for containers)."""
    first = statistics.median(startup(strategy) for _ in range(STARTS))
    samples = SAMPLES_OF_DOCKER if strategy == "docker" else SAMPLES
    with way_of(strategy) as way:
        way.run(TRIVIAL)
        typical = statistics.median(latency(way) for _ in range(samples))
        return Costs(first, typical, rate(way), memory(way))


def measure_all() -> dict[str, Costs | None]:
    """What each strategy costs; None for containers where there are none."""
    absent = {"docker"} if why_no_docker() else set()
    return {strategy: None if strategy in absent else measure(strategy) for strategy in STRATEGIES}


def text_of(value: float | None) -> str:
    """A number with as many digits as mean something."""
    if value is None:
        return "not known"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def table(costs: Mapping[str, Costs | None]) -> Table:
    """The numbers as a table."""
    rows = []
    for strategy, taken in costs.items():
        numbers = [NOT_HERE] * len(COLUMNS) if taken is None else map(text_of, astuple(taken))
        rows.append((strategy, *numbers))
    return Table(("strategy", *COLUMNS), tuple(rows))


def picture(costs: Mapping[str, Costs | None]) -> bytes:
    """The numbers as four bar charts, a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - the rest does without

    figure = Figure(figsize=(9.5, 5.2), layout="constrained", facecolor="white")  # readable in a dark theme too
    for number, axes in enumerate(figure.subplots(2, 2, sharey=True, gridspec_kw={"hspace": 0.12}).flat):
        values = {name: None if taken is None else astuple(taken)[number] for name, taken in costs.items()}
        absent = {name for name, taken in costs.items() if taken is None}
        _chart(axes, TITLES[number], values, absent)
    figure.axes[0].invert_yaxis()  # the first strategy on top
    file = io.BytesIO()
    figure.savefig(file, dpi=100, bbox_inches="tight", pad_inches=0.15)
    return file.getvalue()


INK, OURS, OTHERS = "#24292f", "#1668c7", "#c9cdd2"


def _chart(axes: Axes, title: str, values: Mapping[str, float | None], absent: set[str]) -> None:
    lengths = [value or 0.0 for value in values.values()]
    labels = [NOT_HERE if name in absent else text_of(value) for name, value in values.items()]
    bars = axes.barh(list(values), lengths, height=0.62, color=OURS)
    for name, bar in zip(values, bars, strict=True):
        if name == PLAIN:
            bar.set(facecolor=OTHERS, edgecolor=INK, hatch="//", linewidth=0.6)
    axes.bar_label(bars, labels, padding=4, color=INK, fontsize=10)
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK)
    axes.set_xlim(0, (max(lengths) or 1) * 1.2)
    axes.set_xticks([])
    axes.tick_params(length=0, labelcolor=INK)
    for side in ("top", "right", "bottom"):
        axes.spines[side].set_visible(False)


def show(costs: Mapping[str, Costs | None]) -> Image | Table:
    """The picture; without matplotlib the table, and a line that says so."""
    try:
        drawn = picture(costs)
    except ImportError:
        print("matplotlib is not installed: here are the numbers as a table.")
        return table(costs)
    from IPython.display import Image  # noqa: PLC0415 - a notebook has it

    described = "; ".join(", ".join(row) for row in (table(costs).header, *table(costs).rows))
    return Image(drawn, alt=f"Four bar charts. {described}.")  # type: ignore[no-untyped-call]
