"""The notebook part of the soak: cells in a real kernel, which is interrupted, restarted and killed."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING

from jupyter_client.manager import KernelManager
from jupyter_core.utils import ensure_event_loop
from soak_kinds import BAD, GOOD, RESTING, SHORT, STOPPABLE, TREE_AT_REST
from soak_remains import GIVE_BACK, alive_in, comes_true, outliving
from soak_runs import LONG_SECS, STOPPED_SECS, Turn, turn_of

from isolated_magic import RunError, RunResult, Score
from isolated_magic.models import ErrorKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from soak_runs import Kind
    from soak_tally import Tally

CELL = "cell"
STOP_WITHIN_SECS = 0.6
LARGEST_ASKED = 1 << 20  # characters of output that the kernel is asked for once more
# A killed kernel would leave the control group of a limit to the next one.
KINDS = [kind for kind in (*GOOD, *BAD) if kind.data is None and kind.limits.memory_bytes is None]

INTERRUPTED = ("RunInterrupted", "The run was stopped, with everything that it had started.")

# What the result object of the last cell holds.
ASK = (
    "__import__('json').dumps([soak.payload, [[s.name, s.value] for s in soak.scores], soak.exit_status,"
    f" soak.launch, soak.stdout[:{LARGEST_ASKED}],"
    " soak.error and [soak.error.kind, soak.error.text, soak.error.summary]])"
)


@dataclass
class Shown:
    """The output of a cell.

    Args:
        stdout: text of its stdout stream.
        error: name and text of its error.
        strays: output of another cell that arrived meanwhile.
    """

    stdout: str = ""
    error: tuple[str, str] | None = None
    strays: str = ""


class Notebook:
    """A kernel that runs turns as cells. Not thread-safe."""

    def __init__(self, folder: Path, tally: Tally) -> None:
        self._folder = folder
        self._tally = tally
        self._manager = KernelManager(kernel_name="python3")
        self._manager.start_kernel(extra_arguments=["--IPKernelApp.log_level=ERROR"])
        self._client = self._manager.blocking_client()
        self._client.start_channels()
        self.pids: list[int] = []
        self._begin()
        self._others: list[tuple[str, int, Callable[[Random, str], str | None]]] = [
            ("interrupted", 30, self._interrupt),
            ("in the background", 6, self._go_on_in_the_background),
            ("restarted, or killed", 2, self._restart),
        ]

    @property
    def pid(self) -> int:
        """The pid of the kernel."""
        pid: int = self._manager.provisioner.pid
        return pid

    def settle(self) -> None:
        """Make the kernel free unused memory."""
        self._collect(self._client.execute(f"{GIVE_BACK};", allow_stdin=False))

    def close(self) -> None:
        """Shut the kernel down like a notebook server."""
        self._client.stop_channels()
        self._manager.shutdown_kernel()
        self._manager.cleanup_resources()
        self._manager.context.destroy(linger=0)
        ensure_event_loop().close()  # of jupyter_client, one for each thread that it is used in

    def take_one_of_each(self, choice: Random) -> None:
        """Take one turn of each kind."""
        for number, kind in enumerate(KINDS):
            self._tally.take(kind.name, CELL, partial(self._run, kind, choice, f"first_cell_{number}"))
        for number, (name, _, act) in enumerate(self._others):
            self._tally.take(name, CELL, partial(act, choice, f"first_other_{number}"), 2 * STOPPED_SECS)

    def take(self, choice: Random, tenant: str) -> None:
        """Take a random turn, under a unique tenant name."""
        weights = [kind.weight for kind in KINDS] + [weight for _, weight, _ in self._others]
        [chosen] = choice.choices([*KINDS, *self._others], weights)
        if isinstance(chosen, tuple):
            name, _, act = chosen
            self._tally.take(name, CELL, partial(act, choice, tenant), 2 * STOPPED_SECS)
        else:
            self._tally.take(chosen.name, CELL, partial(self._run, chosen, choice, tenant))

    def _begin(self) -> None:
        self._client.wait_for_ready(timeout=LONG_SECS)
        self.pids.append(self.pid)
        self._collect(self._client.execute("%load_ext isolated_magic", allow_stdin=False))

    @contextmanager
    def _turn(self, kind: Kind, choice: Random, tenant: str) -> Iterator[Turn]:
        folder = self._folder / tenant
        folder.mkdir()
        try:
            yield turn_of(kind, tenant, folder, choice)
        finally:
            shutil.rmtree(folder)

    def _run(self, kind: Kind, choice: Random, tenant: str) -> str | None:
        with self._turn(kind, choice, tenant) as turn:
            shown = self._collect(self._send(turn))
            result = self._result(shown)
            if result.stdout != shown.stdout:
                return f"the cell shows {shown.stdout[-200:]!r}, its result holds {result.stdout[-200:]!r}"
            raised = result.error and ("RunFailedError", result.error.summary)
            if shown.error != raised or shown.strays:
                return f"the cell raised {shown.error}, its error is {raised}; of other cells: {shown.strays!r}"
            return turn.fault_in(result)

    def _send(self, turn: Turn, *options: str) -> str:
        """Send a cell that runs the turn."""
        kind = turn.kind
        words = [
            "%%isolated -o soak",
            *(f"-e {name}={value}" for name, value in turn.env_vars.items()),
            *(f"-d {name}={value}" for name, value in turn.data.items()),
            f"-t {turn.timeout_secs}",
            f"--max-output {kind.limits.output_bytes}",
            "--fresh" if kind.fresh else "",
            *options,  # the last one of a name counts
        ]
        return self._client.execute(f"{' '.join(words)}\n{kind.source}", allow_stdin=False)

    def _collect(self, request: str, until: str = "idle", shown: Shown | None = None) -> Shown:
        """The output of a cell until the kernel reports busy, or idle."""
        shown = shown or Shown()
        while True:
            try:
                message = self._client.get_iopub_msg(timeout=2 * LONG_SECS)
            except Empty:
                raise TimeoutError(f"The kernel shows nothing for {2 * LONG_SECS:g} seconds.") from None
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != request:
                shown.strays += content["text"] if kind == "stream" else ""
            elif kind == "stream":
                shown.stdout += content["text"] if content["name"] == "stdout" else ""
            elif kind == "error":
                shown.error = (content["ename"], content["evalue"])
            elif kind == "status" and content["execution_state"] == until:
                return shown

    def _ask(self, expression: str) -> str:
        """The value of a string expression in the kernel."""
        request = self._client.execute("", silent=True, user_expressions={"it": expression})
        while True:
            reply = self._client.get_shell_msg(timeout=LONG_SECS)
            if reply["parent_header"].get("msg_id") == request:
                break
        answer = reply["content"]["user_expressions"]["it"]
        if answer["status"] != "ok":
            raise RuntimeError(f"{expression}: {answer.get('evalue')}")
        self._collect(request)
        text: str = ast.literal_eval(answer["data"]["text/plain"])
        return text

    def _result(self, shown: Shown) -> RunResult:
        """The result object of the last cell."""
        payload, scores, exit_status, launch, stdout, error = json.loads(self._ask(ASK))
        return RunResult(
            payload=payload,
            scores=tuple(Score(name, value) for name, value in scores),
            stdout=shown.stdout if len(stdout) == LARGEST_ASKED else stdout,
            error=RunError(ErrorKind(error[0]), *error[1:]) if error else None,
            exit_status=exit_status,
            launch=launch,
        )

    def _interrupt(self, choice: Random, tenant: str) -> str | None:
        with self._turn(choice.choice(STOPPABLE), choice, tenant) as turn:
            request = self._send(turn, "-t 20")
            shown = self._collect(request, "busy")
            for _ in range(choice.choice((1, 1, 1, 2))):
                time.sleep(choice.uniform(0, STOP_WITHIN_SECS))
                self._manager.interrupt_kernel()
            shown = self._collect(request, shown=shown)
            was_over = shown.error is None and turn.kind is SHORT
            if shown.error != INTERRUPTED and not was_over:
                return f"an interrupted cell raised {shown.error}"
            return turn.misled_by(shown.stdout) or turn.left_processes()

    def _go_on_in_the_background(self, choice: Random, tenant: str) -> str | None:
        with self._turn(RESTING, choice, tenant) as turn:
            self._collect(self._send(turn, "--bg", f"-t {LONG_SECS}"))
            pid = self._ask("str(soak.pid)")
            time.sleep(choice.uniform(0, STOP_WITHIN_SECS))
            status = self._collect(self._client.execute("%isolated status", allow_stdin=False)).stdout
            stop = self._collect(self._client.execute("%isolated stop", allow_stdin=False)).stdout
            text = self._ask("soak.result(60).error.text")
            if pid not in status or stop != "1 run stopped.\n" or text != "The run was stopped before it ended.":
                return f"of run {pid}, status says {status!r}, stop {stop!r}, its error {text!r}"
            return turn.left_processes()

    def _restart(self, choice: Random, tenant: str) -> str | None:
        """Restart or kill the kernel during a run that has started all kinds of processes."""
        with self._turn(TREE_AT_REST, choice, tenant) as turn:
            self._collect(self._send(turn, "--bg", f"-t {LONG_SECS}"))
            started = comes_true(lambda: len(list(turn.folder.iterdir())) > 5, LONG_SECS)
            how = choice.choice(("restart", "restart now", "kill", "terminate"))
            if how in {"kill", "terminate"}:
                os.kill(self.pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
            self._manager.restart_kernel(now=how != "restart")
            gone = comes_true(lambda: not alive_in(turn.folder))
            left = None if gone else outliving(turn.folder)
            self._begin()
            return left if started else f"the run had not started all that it should, before {how}"
