"""What each strategy keeps apart, as facts that are checked: `choosing_an_executor.ipynb` shows them.

A fact is a question with a check that really runs. The check takes an executor and says yes or no.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from measures import made, why_no_docker
from tables import Table

from isolated_magic import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from isolated_magic import Executor

MB = 1 << 20
GONE_SECS = 10.0
VARIABLE = "CHOOSING_AN_EXECUTOR"
# One worker or container waits, so that a second run could come to the same one.
SETTINGS: dict[str, dict[str, object]] = {"isolated": {}, "process": {"workers": 1}, "docker": {"standby": 1}}


class Subject(NamedTuple):
    """What a check looks at.

    Args:
        executor: of the strategy.
        strategy: its name.
        settings: that the executor was made with.
    """

    executor: Executor
    strategy: str
    settings: Mapping[str, object]

    def answer(self, expression: str, env_vars: Mapping[str, str] | None = None) -> object:
        """What an expression is in a run; None if the run fails."""
        code = f"import json, os, socket\nprint(json.dumps({{'answer': {expression}}}))"
        return self.executor.run(code, env_vars=env_vars).to_dict().get("answer")


def new_process(subject: Subject) -> bool:
    """Two runs one after the other are two processes."""
    return subject.executor.run("1").pid != subject.executor.run("1").pid


def own_variables(subject: Subject) -> bool:
    """A run gets a variable that nobody else has."""
    return subject.answer(f"os.environ.get({VARIABLE!r})", env_vars={VARIABLE: "own"}) == "own"


def kernel_variables(subject: Subject) -> bool:
    """A run sees a variable that the kernel has."""
    os.environ[VARIABLE] = "the kernel's"
    try:
        return subject.answer(f"os.environ.get({VARIABLE!r})") == "the kernel's"
    finally:
        del os.environ[VARIABLE]


def files(subject: Subject) -> bool:
    """A run finds a file that the kernel has just written."""
    with tempfile.NamedTemporaryFile() as file:
        return subject.answer(f"os.path.exists({file.name!r})") is True


def network(subject: Subject) -> bool:
    """A run reaches a server, here one on this machine, so that the check needs no other."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        return subject.answer(f"socket.create_connection({address!r}, 5).close() is None") is True


def leftovers(subject: Subject) -> bool:
    """A run finds what the one before wrote into a module."""
    subject.executor.run("import json\njson.left_behind = True\n1")
    return subject.answer("hasattr(json, 'left_behind')") is True


OWNER = """
import json, sys, time
from isolated_magic import create_executor

with create_executor(sys.argv[1], **json.loads(sys.argv[2])) as executor:
    run = executor.start("import time\\nprint('resting', flush=True)\\ntime.sleep(60)")
    while "resting" not in run.stdout and not run.done():
        time.sleep(0.01)
    print(run.pid, flush=True)
    time.sleep(60)
"""


def ends_with_kernel(subject: Subject) -> bool | None:
    """A run is gone soon after its owner, here a program like a kernel, was killed. None: it cannot be seen."""
    command = [sys.executable, "-c", OWNER, subject.strategy, json.dumps(subject.settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        pid = int(owner.stdout.readline()) if owner.stdout else 0
        seen = _is_python(pid) if subject.strategy == "docker" else _is_alive(pid)
        owner.kill()
    if not seen:  # a daemon in a virtual machine has its processes there
        return None
    deadline = time.monotonic() + GONE_SECS
    while _is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not _is_alive(pid)


def _is_python(pid: int) -> bool:
    """Whether it is what it should be: the number may be that of a process in the daemon's virtual machine."""
    with suppress(OSError):
        return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _is_alive(pid: int) -> bool:
    with suppress(OSError):  # it is gone, or this is macOS
        state = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
        )
        return state != "Z"  # then it has ended, and nobody has asked how
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def memory_limit(subject: Subject) -> bool:
    """A run that wants 200 MB of 100 fails, and is told why."""
    error = subject.executor.run("len(bytes(200 << 20))", limits=Limits(memory_bytes=100 * MB)).error
    return error is not None and error.kind == "limit"


def survives_crash(subject: Subject) -> bool:
    """A crash ends its own run; the next one works."""
    crashed = subject.executor.run("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)")
    return not crashed.ok and subject.executor.run("1").ok


@dataclass(frozen=True)
class Fact:
    """A question about a strategy.

    Args:
        question: whose answer is yes or no.
        check: finds the answer; None where it cannot be found on this machine.
        expected: the strategies of which the answer is yes.
    """

    question: str
    check: Callable[[Subject], bool | None]
    expected: frozenset[str]


ALL = frozenset(SETTINGS)
ON_THIS_MACHINE = frozenset({"isolated", "process"})
ONE_USE = frozenset({"isolated", "docker"})

FACTS = (
    Fact("a new process for each run?", new_process, ONE_USE),
    Fact("variables of its own for a run?", own_variables, ONE_USE),
    Fact("sees the kernel's variables?", kernel_variables, ON_THIS_MACHINE),
    Fact("sees this machine's files?", files, ON_THIS_MACHINE),
    Fact("reaches the network?", network, ON_THIS_MACHINE),
    Fact("finds what earlier runs left in modules?", leftovers, frozenset({"process"})),
    Fact("ends when the kernel dies?", ends_with_kernel, ALL),
    Fact("can a run's memory be limited?", memory_limit, ALL),
    Fact("does the next run work after a crash?", survives_crash, ALL),
)


@contextmanager
def subject_of(strategy: str, **settings: object) -> Iterator[Subject]:
    """A new executor to look at; nothing is left of it afterwards."""
    made_with = {**SETTINGS[strategy], **settings}
    with made(strategy, **made_with) as executor:
        yield Subject(executor, strategy, made_with)


def check(strategy: str, **settings: object) -> dict[str, bool | None]:
    """Run every check, and insist that each answer is the expected one.

    Args:
        strategy: its name.
        settings: for the executor, over those that suit the checks.

    Returns:
        The answers by question.

    Raises:
        AssertionError: an answer is another one.
    """
    with subject_of(strategy, **settings) as subject:
        answers = {fact.question: fact.check(subject) for fact in FACTS}
    for fact in FACTS:
        wanted = strategy in fact.expected
        unseen = answers[fact.question] is None and strategy == "docker"
        assert unseen or answers[fact.question] is wanted, f"{strategy}: {fact.question} not {word(wanted)}"
    return answers


def check_docker(**settings: object) -> str:
    """Run every check in containers, where there are any, and say what came of it."""
    missing = why_no_docker(**settings)
    if missing:
        return f"docker: not here, so its column was not checked. {missing}"
    answers = list(check("docker", **settings).values())
    unseen = answers.count(None)
    return f"docker: {len(answers) - unseen} checks ran, each as the table says; {unseen} could not run here."


def word(answer: bool) -> str:
    """An answer as a word."""
    return "yes" if answer else "no"


def matrix() -> Table:
    """The expected answers as a table, those that :func:`check` insists on."""
    rows = [(fact.question, *(word(strategy in fact.expected) for strategy in SETTINGS)) for fact in FACTS]
    return Table(("question", *SETTINGS), tuple(rows))
