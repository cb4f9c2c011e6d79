"""Soak test: mixes all kinds of runs and faults for any time, and checks that nothing is left behind.

Usage: ``python benchmarks/soak.py [--secs N] [--seed N] [--threads N] [--write FOLDER]``; ``make soak SECS=600``
calls it. Good runs and bad ones, through executors from several threads and through cells of a real kernel, are
stopped, killed, cancelled and torn down; the kernel is interrupted, restarted and killed. Prints Markdown tables.
The exit status is 1 when a run came to anything else than it has to, or when something was left. Linux only.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import resource
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import report
from soak_cells import CELL, Notebook
from soak_library import COLD, FORKED, Library
from soak_remains import GIVE_BACK, MARK, Usage, left_files, left_groups, left_processes, open_files, usages
from soak_runs import LONG_SECS
from soak_tally import SHOWN_FAULTS, Row, Tally, shortened
from workloads import QUIET

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS_SECS = 10.0
GUARD_SECS = 2 * LONG_SECS  # a turn that takes longer hangs
WARM_UP_SHARE = 0.15
SETTLE_SECS = 3.0
PAUSE_SECS = 1.0


@dataclass
class Soak:
    """One soak.

    Args:
        secs: duration without setup and shutdown.
        seed: seed of all random choices.
        threads: number of threads that use the executors.
        folder: parent of everything written to disk.
        tally: the results of the turns.
    """

    secs: float
    seed: int
    threads: int
    folder: Path
    tally: Tally = field(default_factory=Tally)
    memory: dict[str, list[tuple[float, float]]] = field(default_factory=dict)  # seconds and megabytes, by role

    def run(self) -> int:
        """Soak, print the report, and return the exit status."""
        mark = self._prepare()
        threading.Thread(target=self._watch, args=(time.monotonic(),), daemon=True).start()
        files = {*open_files()}
        before = usages(os.getpid(), None)["owner"]
        library = Library(self.folder / "turns", self.tally)
        with ThreadPoolExecutor(1) as thread:
            notebook = thread.submit(Notebook, self.folder / "turns", self.tally).result()
            self._together(
                thread.submit(notebook.take_one_of_each, self._choice("first cells")),
                [lambda: library.take_one_of_each(self._choice("first runs"))],
            )
            self._mix(library, notebook, thread, "warm-up", self.secs * WARM_UP_SHARE)
            start = self._quiet(library, notebook, thread)
            self._mix(library, notebook, thread, "soak", self.secs * (1 - WARM_UP_SHARE))
            end = self._quiet(library, notebook, thread)
            faulthandler.dump_traceback_later(GUARD_SECS, exit=True)
            library.teardown()
            thread.submit(notebook.close).result()
            faulthandler.cancel_dump_traceback_later()
        left = left_processes(mark, self.folder)
        left += left_files([self.folder / "turns", self.folder / "temporary", self.folder / "here"])
        left += left_groups([os.getpid(), *notebook.pids])
        left += [f"descriptor {file}" for file in sorted({*open_files()} - files)]
        left += _left_in_owner(before, usages(os.getpid(), None)["owner"])
        self._print(start, end, left)
        return 1 if self.tally.faults or left else 0

    def _prepare(self) -> str:
        """Mark all processes started from now on, and direct their files into one folder. Returns the mark."""
        for name in ("turns", "temporary", "here", "jupyter", "ipython"):
            (self.folder / name).mkdir()
        mark = f"{os.getpid()}-{self.folder.name}"
        os.environ |= {
            **QUIET,
            MARK: mark,
            "TMPDIR": str(self.folder / "temporary"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "jupyter"),
            "IPYTHONDIR": str(self.folder / "ipython"),
        }
        tempfile.tempdir = None  # asks TMPDIR again
        os.chdir(self.folder / "here")
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        return mark

    def _choice(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")  # noqa: S311 - no secret: the same seed makes the same choices

    def _mix(
        self, library: Library, notebook: Notebook, kernel_thread: ThreadPoolExecutor, name: str, secs: float
    ) -> None:
        """Take random turns in every thread until the time is up."""
        deadline = time.monotonic() + secs

        def loop(worker: str, take: Callable[[Random, str], None], pause_secs: float = 0) -> None:
            choice, number = self._choice(f"{name} {worker}"), 0
            while time.monotonic() < deadline:
                number += 1
                take(choice, f"{name.replace('-', '_')}_{worker}_{number}")
                time.sleep(choice.uniform(0, pause_secs))

        self._together(
            kernel_thread.submit(loop, "cell", notebook.take),
            [partial(loop, f"t{number}", library.take) for number in range(self.threads)],
            partial(loop, "main", library.take_with_ctrl_c, PAUSE_SECS),
        )

    def _together(
        self,
        cells: Future[None],
        works: list[Callable[[], None]],
        in_main_thread: Callable[[], None] = lambda: None,
    ) -> None:
        """Run all functions concurrently; give up if one hangs. Only the main thread gets Ctrl-C."""
        threads = [threading.Thread(target=work, daemon=True) for work in works]
        for thread in threads:
            thread.start()
        in_main_thread()
        while not cells.done() or any(thread.is_alive() for thread in threads):
            wait([cells], PAUSE_SECS)
            for thread in threads:
                thread.join(PAUSE_SECS)
            if self.tally.hanging(GUARD_SECS):
                self._give_up()
        cells.result()

    def _give_up(self) -> None:
        """Record the hanging turns, print all stacks and the report, and exit at once."""
        for going in self.tally.hanging(GUARD_SECS):
            kind, _, door = going.name.rpartition(", ")
            self.tally.add_fault(kind, door, f"it hangs, for more than {GUARD_SECS:g} seconds")
        faulthandler.dump_traceback(all_threads=True)
        self._print({}, {}, ["the soak was given up"])
        os._exit(1)

    def _quiet(self, library: Library, notebook: Notebook, kernel_thread: ThreadPoolExecutor) -> dict[str, Usage]:
        """The resources in use while nothing runs."""
        library.settle()
        kernel_thread.submit(notebook.settle).result()
        exec(GIVE_BACK)  # noqa: S102 - the same here as in the kernel
        time.sleep(SETTLE_SECS)
        return usages(os.getpid(), notebook.pid)

    def _watch(self, begun_at: float) -> None:
        """Print the progress every ten seconds, and note the memory."""
        while True:
            time.sleep(PROGRESS_SECS)
            found, passed = usages(os.getpid(), None), time.monotonic() - begun_at
            for role, usage in found.items():
                self.memory.setdefault(role, []).append((passed, usage.megabytes))
            owner = found["owner"]
            print(
                f"soak: {passed:.0f} s, {self.tally.turns} runs, {self.tally.faults} faults, "
                f"{owner.megabytes:.0f} MB, {owner.descriptors} descriptors, {owner.threads} threads",
                file=sys.stderr,
                flush=True,
            )

    def _print(self, start: dict[str, Usage], end: dict[str, Usage], left: list[str]) -> None:
        print(
            f"{report.machine().split('; ')[0]}. Seed {self.seed}, {self.threads} threads, {self.secs:g} seconds."
        )
        rows: dict[str, dict[str, Row]] = defaultdict(dict)
        for (kind, door), row in self.tally.rows.items():
            rows[kind][door] = row
        _print_runs(rows)
        _print_usage(start, end)
        print(f"\n{self.tally.faults} faults")
        for kind, by_door in rows.items():
            for door, row in by_door.items():
                for fault in row.faults[:SHOWN_FAULTS]:
                    print(f"- {kind}, {door}: {shortened(fault)}")
        print(f"\n{len(left)} leftovers")
        print("".join(f"- {line}\n" for line in left), end="", flush=True)


def _print_runs(rows: dict[str, dict[str, Row]]) -> None:
    def cells(by_door: dict[str, Row]) -> list[str]:
        all_times = [spent for row in by_door.values() for spent in row.milliseconds]
        whole = Row(all_times, [fault for row in by_door.values() for fault in row.faults])
        counts = [
            str(len(by_door[door].milliseconds)) if door in by_door else "-" for door in (FORKED, COLD, CELL)
        ]
        times = [report.number(whole.median), report.number(whole.slowest)] if all_times else ["-", "-"]
        return [*counts, *times, f"**{len(whole.faults)}**" if whole.faults else "0"]

    everything = {
        door: Row(
            [spent for by_door in rows.values() for spent in by_door.get(door, Row()).milliseconds],
            [fault for by_door in rows.values() for fault in by_door.get(door, Row()).faults],
        )
        for door in (FORKED, COLD, CELL)
    }
    report.table(
        ["runs", "forked", "cold", "cells", "median ms", "slowest ms", "faults"],
        [*([kind, *cells(by_door)] for kind, by_door in rows.items()), ["all", *cells(everything)]],
    )


def _print_usage(start: dict[str, Usage], end: dict[str, Usage]) -> None:
    def change(name: str, attribute: str) -> str:
        before, after = getattr(start[name], attribute), getattr(end[name], attribute)
        return f"{before:.0f} → {after:.0f}"

    attributes = ("processes", "megabytes", "descriptors", "threads", "children")
    report.table(
        ["nothing runs: from warm-up to end", *attributes],
        ([name, *(change(name, attribute) for attribute in attributes)] for name in start),
    )


def _left_in_owner(before: Usage, after: Usage) -> list[str]:
    """One line for each resource of which this process has more than before the soak."""
    return [
        f"{name} of this process: {getattr(before, name)} before, {getattr(after, name)} after"
        for name in ("threads", "children")
        if getattr(after, name) > getattr(before, name)
    ]


def main() -> None:
    """Soak in a temporary folder."""
    parser = argparse.ArgumentParser(description="Everything that can happen to a run, and what it leaves behind.")
    parser.add_argument("--secs", type=float, default=600, help="how long (600)")
    parser.add_argument("--seed", type=int, default=0, help="of all choices (0)")
    parser.add_argument("--threads", type=int, default=4, help="that use the library at once (4)")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="draw soak_memory.png there")
    chosen = parser.parse_args()
    picture = None if chosen.write is None else chosen.write.absolute() / "soak_memory.png"
    folder = Path(tempfile.mkdtemp(prefix="soak-")).resolve()
    soak = Soak(chosen.secs, chosen.seed, chosen.threads, folder)
    try:
        status = soak.run()
    finally:
        os.chdir("/")
        shutil.rmtree(folder, ignore_errors=True)
    if picture is not None and soak.memory:
        from picture import draw_memory  # noqa: PLC0415 - matplotlib is not to be in the memory that is measured

        picture.parent.mkdir(parents=True, exist_ok=True)
        draw_memory(soak.memory, picture)
    sys.exit(status)


if __name__ == "__main__":
    main()
