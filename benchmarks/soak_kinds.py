"""The kinds of runs of a soak, good ones and bad ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from soak_runs import Kind, Turn

from isolated_magic import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from isolated_magic.models import RunResult

OUTPUT_BYTES = 1000
MEMORY_BYTES = 256 << 20

NOTE = "open(os.path.join(data['folder'], str(os.getpid())), 'w').close()\n"
REST = "import time\ntime.sleep(1000)\n"
DEAF = """
import signal
for number in set(range(1, 32)) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}:
    signal.signal(number, signal.SIG_IGN)
"""

# Ways to outlive a run: a child, a session of its own, deaf to signals, an orphan, one without its environment,
# one that is stopped. Each notes its pid.
TREE = """
import subprocess, sys, time
note = "import os, sys; open(os.path.join(sys.argv[1], str(os.getpid())), 'w').close();"
rest = note + "import time; time.sleep(1000)"
deaf = "import signal\\nfor number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\\n"
orphan = "import os\\nif os.fork(): os._exit(0)\\nos.setsid()\\nif os.fork(): os._exit(0)\\n"
stopped = note + "os.kill(os.getpid(), 19)"
def start(code, **settings):
    subprocess.Popen([sys.executable, "-S", "-c", code, data["folder"]], **settings)
start(rest)
start(rest, start_new_session=True)
start(deaf + rest)
start(orphan + rest, cwd="/", env={})
start(stopped)
while len(os.listdir(data["folder"])) < 5:
    time.sleep(0.01)
value = 5
"""


def _was_timed_out(result: RunResult, turn: Turn) -> str | None:
    expected = f"Execution timed out after {turn.timeout_secs:g} seconds"
    return None if result.error and result.error.text == expected else f"the error is {result.error}"


def _was_cut(result: RunResult, turn: Turn) -> str | None:
    most = (turn.kind.limits.output_bytes or 0) + 200  # the line that says so
    if not result.stdout.endswith("the limit of output]\n"):
        return f"{len(result.stdout)} characters of output end with {result.stdout[-100:]!r}"
    return None if len(result.stdout) <= most else f"{len(result.stdout)} characters of output"


def _has_status(status: int) -> Callable[[RunResult, Turn], str | None]:
    def check(result: RunResult, _turn: Turn) -> str | None:
        return None if result.exit_status == status else f"the exit status is {result.exit_status}, not {status}"

    return check


def _dies(name: str, weight: int, code: str, number: int, *says: str) -> Kind:
    return Kind(name, weight, code, error="died", says=(f"signal {number}", *says), checks=_has_status(-number))


def _hangs(name: str, weight: int, code: str) -> Kind:
    return Kind(name, weight, code, error="timeout", checks=_was_timed_out, stopped=True)


def _blob(choice: Random) -> dict[str, object]:
    return {"blob": "é" * choice.randrange(1 << 20, 8 << 20)}


GOOD = (
    Kind("a score", 60, "value = len(data)", value=len),
    Kind(
        "printed JSON",
        20,
        "import json\nprint('words')\n"
        "print(json.dumps({'scores': [{'name': os.environ['SOAK_TENANT'], 'value': 0.25}]}))",
        checks=lambda result, turn: (
            None if [(one.name, one.value) for one in result.scores] == [(turn.tenant, 0.25)] else str(result)
        ),
    ),
    Kind("a new interpreter", 2, "value = 1", value=1, fresh=True),
    Kind("numpy", 8, "import numpy\nvalue = float(numpy.arange(10).sum())", value=45.0, only_forked=True),
    Kind(
        "an Opik metric",
        4,
        """
        from opik.evaluation.metrics import base_metric, score_result
        class Length(base_metric.BaseMetric):
            def score(self, tenant, **ignored):
                return score_result.ScoreResult(os.environ["SOAK_TENANT"], len(tenant))
        """,
        checks=lambda result, turn: (
            None
            if [(one.name, one.value) for one in result.scores] == [(turn.tenant, len(turn.tenant))]
            else str(result)
        ),
        only_forked=True,
    ),
    Kind("huge data", 3, "value = len(data['blob'])", value=lambda data: len(str(data.get("blob"))), data=_blob),
    Kind(
        "a huge result",
        2,
        '{"scores": [{"name": os.environ["SOAK_TENANT"], "value": 1}], "blob": "x" * 5_000_000}',
        checks=lambda result, _turn: None if len(str((result.payload or {}).get("blob"))) == 5_000_000 else "blob",
    ),
    Kind(
        "a pool of processes",
        2,
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    value = sum(pool.map(abs, range(-10, 0)))",
        value=55,
    ),
)

BAD = (
    Kind("an exception", 8, "1 / 0", error="user_code", says=("1 / 0", "ZeroDivisionError: division by zero")),
    Kind("a syntax error", 4, "def (:", error="user_code", says=("SyntaxError",), has_prelude=False),
    Kind("no result", 4, "None", error="no_result", says=("Invalid JSON response from subprocess",)),
    Kind("sys.exit", 4, "import sys\nsys.exit('words')", error="no_result", says=("exit status 1: words",)),
    Kind("os._exit", 4, "os._exit(7)", error="no_result", says=("exit status 7",), checks=_has_status(7)),
    Kind(
        "impossible data",
        4,
        "1",
        error="invalid_request",
        says=('data["set"]',),
        data=lambda _choice: {"set": {1}},
        has_prelude=False,
    ),
    _dies("os.abort", 3, "os.abort()", 6, "SIGABRT"),
    _dies("a segmentation fault", 3, "import ctypes\nctypes.string_at(0)", 11, "SIGSEGV"),
    Kind(
        "SIGKILL of itself", 3, "os.kill(os.getpid(), 9)", error="died", says=("SIGKILL",), checks=_has_status(-9)
    ),
    _hangs("a hang", 4, REST),
    _hangs("a deaf, busy hang", 2, f"{DEAF}while True: pass"),
    _hangs("a flood without end", 1, "while True: os.write(1, b'x' * 9999 + b'\\n')"),
    Kind(
        "a flood of hundreds of MB",
        1,
        "for _ in range(data['count']): os.write(1, (b'x' * 99 + b'\\n') * 10000)\nvalue = 1",
        value=1,
        checks=_was_cut,
        data=lambda choice: {"count": choice.randrange(200, 400)},
    ),
    Kind(
        "output beyond its limit",
        3,
        "print('x' * 5000)\nvalue = 1",
        value=1,
        checks=_was_cut,
        limits=Limits(output_bytes=OUTPUT_BYTES),
    ),
    Kind(
        "memory beyond its limit",
        1,
        "b = bytearray(1 << 30)\nvalue = 1",
        error="limit",
        says=("memory limit 256 MB exceeded",),
        limits=Limits(memory_bytes=MEMORY_BYTES),
    ),
    Kind("a tree that hides", 2, TREE, value=5),
    _hangs("a tree that hides, and a hang", 2, f"{NOTE}{TREE}{REST}"),
    Kind(
        "a daemon that keeps stdout",
        3,
        f"value = 1\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        {NOTE}"
        "        import time; time.sleep(1000)\n    os._exit(0)\nos.wait()",
        value=1,
    ),
    Kind(
        "no descriptors left",
        3,
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (200, 200))\nheld = []\ntry:\n"
        "    while True: held.append(os.open('/dev/null', 0))\nexcept OSError as problem: value = problem.errno",
        value=24,
    ),
    Kind(
        "all descriptors closed",
        3,
        "import json\nos.closerange(3, 5000)\n"
        "print(json.dumps({'scores': [{'name': os.environ['SOAK_TENANT'], 'value': 1}]}))",
        checks=lambda result, turn: (
            None if [(one.name, one.value) for one in result.scores] == [(turn.tenant, 1)] else str(result)
        ),
    ),
)

# For those that somebody stops in the middle, each with another way of not wanting to.
_STOPPED = Kind("", 0, "", stopped=True)
RESTING = replace(_STOPPED, code=f"{NOTE}{REST}")
CLEANING = replace(_STOPPED, code=f"{NOTE}try:\n    import time; time.sleep(1000)\nfinally:\n    print('cleaned')")
DEAF_TREE = replace(_STOPPED, code=f"{DEAF}{NOTE}{TREE}{REST}")
FLOODING = replace(_STOPPED, code=f"{NOTE}while True: os.write(1, b'x' * 999 + b'\\n')")
TREE_AT_REST = replace(_STOPPED, code=f"{NOTE}{TREE}{REST}")
SHORT = replace(_STOPPED, code=f"{NOTE}value = 1", value=1)
STOPPABLE = (RESTING, CLEANING, DEAF_TREE, FLOODING, SHORT)
