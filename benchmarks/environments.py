"""Time runs with packages of their own against runs in the environment of their owner.

Usage: ``python benchmarks/environments.py [ROUNDS]``.
"""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path

import report
from candidates import WARM_UP_SECS, Candidate, run_ours
from measure import one_at_a_time
from workloads import BARE, QUIET

from isolated_magic import IsolatedSubprocessExecutor

ROUNDS, QUICK_ROUNDS = 300, 20
OWN, WITH = "own", "with"
INFO = "tinywheel-1.0.dist-info"
FILES = {
    "tinywheel.py": "",
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: tinywheel\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/RECORD": "",
}


def measure(*, is_quick: bool) -> list[report.Target]:
    """The target for a run with packages of its own, from the second one on."""
    print("measuring: packages of a run's own", file=sys.stderr, flush=True)
    return [_target(QUICK_ROUNDS if is_quick else ROUNDS)]


def _target(rounds: int) -> report.Target:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        os.environ["XDG_CACHE_HOME"] = folder
        made = {}
        for key, packages in ((OWN, None), (WITH, [_wheel(folder)])):
            executor = stack.enter_context(IsolatedSubprocessExecutor(60, packages=packages))
            run_ours(executor, BARE, None)
            if not executor.warm_up(WARM_UP_SECS):
                raise RuntimeError(f"No fork server was ready within {WARM_UP_SECS:g} seconds.")
            made[key] = Candidate(key, lambda executor=executor: run_ours(executor, BARE, "forked"))
        taken = one_at_a_time(made, rounds, rounds)
    own, with_packages = taken[OWN].median, taken[WITH].median
    what = f"a run with packages of its own ({with_packages:.2f} ms): times as long as without ({own:.2f} ms)"
    return report.at_most(1.2, what, with_packages / own)


def _wheel(folder: str) -> str:
    path = Path(folder, "tinywheel-1.0-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(name, text)
    return str(path)


if __name__ == "__main__":
    os.environ.update(QUIET)
    report.targets([_target(int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS)])
