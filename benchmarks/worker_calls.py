"""Count the Python calls that the process of a worker makes for one run, with the worker's own program.

Usage: ``python benchmarks/worker_calls.py``. ``counts.py`` measures this among the rest.
"""

from __future__ import annotations

import runpy
import socket
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent.parent / "isolated_magic" / "child" / "start.py"
WARM_RUNS, COUNTED_RUNS = 20, 40
CHUNK_BYTES = 1 << 16


def calls_of_run() -> float:
    """The calls for one run of bare code in a worker that has run it before."""
    return (_calls_of(WARM_RUNS + COUNTED_RUNS) - _calls_of(WARM_RUNS)) / COUNTED_RUNS


def _calls_of(runs: int) -> int:
    """The calls of a worker's whole life."""
    from workloads import BARE, DATA  # noqa: PLC0415 - the worker itself imports nothing that it would not have

    from isolated_magic.launch.protocol import Messages  # noqa: PLC0415 - likewise
    from isolated_magic.launch.spawn import program_messages  # noqa: PLC0415 - likewise
    from isolated_magic.request import build_request  # noqa: PLC0415 - likewise

    program = program_messages(build_request(BARE.cell, DATA, None, 60, None), is_last=False)
    owner, its = socket.socketpair()
    command = [sys.executable, __file__, str(its.fileno())]
    with owner, subprocess.Popen(command, stdout=subprocess.PIPE, pass_fds=[its.fileno()]) as worker:
        its.close()
        for _ in range(runs):
            owner.sendall(program)
            messages = Messages()
            while messages.idle is None:
                chunk = owner.recv(CHUNK_BYTES)
                if not chunk:
                    raise RuntimeError("the worker has ended")
                messages.feed(chunk)
        owner.close()
        printed, _ = worker.communicate()
    return int(printed.split()[-1])


def _be_counted(descriptor: str) -> None:
    """Be a worker; print the number of calls in the end. The worker restores this profile function, too."""
    calls = 0

    def note(_frame: object, event: str, _called: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.argv = [str(PROGRAM), "worker", descriptor]
    sys.setprofile(note)
    runpy.run_path(str(PROGRAM), run_name="__main__")
    sys.setprofile(None)
    print(calls)


if __name__ == "__main__":
    if sys.argv[1:]:
        _be_counted(sys.argv[1])
    else:
        print(f"{calls_of_run():g} calls of Python functions in the worker for one run")
