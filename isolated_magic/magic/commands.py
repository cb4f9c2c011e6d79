"""The commands of ``%isolated``: history, status, stop, packages, forget, teardown and on-teardown."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from isolated_magic.errors import OptionError
from isolated_magic.executors import lifecycle
from isolated_magic.launch.fork_server.pools import forget_imports
from isolated_magic.magic import lexer
from isolated_magic.magic.option import ALL, COMMANDS
from isolated_magic.magic.packages import obey as obey_packages
from isolated_magic.magic.values import did_you_mean, own_variables
from isolated_magic.render.view import outcome_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from IPython.core.interactiveshell import InteractiveShell

    from isolated_magic.history import History
    from isolated_magic.launch.base import Preloaded
    from isolated_magic.magic.credentials import AskedSecrets
    from isolated_magic.magic.executors import Executors
    from isolated_magic.models import RunResult


STOP_TIMEOUT_SECS = 5.0
MOST_ENDS = 10  # of runs in the background, listed until a teardown
LAUNCH_TIMEOUT_SECS = 1.0  # a run that has no process yet is about to have one


class Commands:
    """The commands of one shell."""

    def __init__(
        self, executors: Executors, shell: InteractiveShell, history: Callable[[], History], asked: AskedSecrets
    ) -> None:
        self._executors = executors
        self._shell = shell
        self._get_history = history
        self._asked = asked
        self._ends: deque[str] = deque(maxlen=MOST_ENDS)
        commands: tuple[Callable[[list[str]], str | History], ...] = (
            *(self._history, self._status, self._stop, obey_packages),
            *(self._forget, self._teardown, self._on_teardown),
        )
        self._commands = dict(zip(COMMANDS, commands, strict=True))

    def ended(self, label: str, result: RunResult) -> None:
        """List a run in the background as ended in the status, under this label."""
        outcome = outcome_text(result.scores, result.error.summary if result.error else "")
        self._ends.append(f"{label} {'is done:' if result.ok else 'has failed,'} {outcome}")

    def obey(self, line: str) -> str | History | None:
        """Run a command.

        Returns:
            What to print, or what to show; None when the line is no command.

        Raises:
            OptionError: wrong number of arguments, or an invalid one.
        """
        first, *rest = line.split(maxsplit=1) or [""]
        command = self._commands.get(first)
        return None if command is None else command(lexer.split("".join(rest)))

    def _status(self, words: list[str]) -> str:
        _require(not words, "status", "takes no words")
        now = time.monotonic()
        rows = [
            (str(live.wait_for_pid(LAUNCH_TIMEOUT_SECS) or "-"), _age(now - live.begun_at), live.label)
            for live in lifecycle.live_runs()
        ]
        table = [("pid", "age", "label"), *rows]
        widths = [max(len(row[column]) for row in table) for column in (0, 1)]
        lines = [f"{pid:>{widths[0]}}  {age:>{widths[1]}}  {label}" for pid, age, label in table]
        lines = lines if rows else ["Nothing runs."]
        where = self._executors.clusters.status
        return "\n".join([*lines, *where, *self._ends, *_preloads(lifecycle.preloaded())])

    def _stop(self, words: list[str]) -> str:
        _require(len(words) <= 1, "stop", "takes one pid, or none to stop all")
        runs = lifecycle.live_runs()
        if words:
            runs = [live for live in runs if str(live.pid) == words[0]]
            _require(bool(runs), f"stop {words[0]}", "has no run with that pid: `%isolated status` lists them")
        for live in runs:
            live.interrupt()
        deadline = time.monotonic() + STOP_TIMEOUT_SECS
        for live in runs:
            live.wait_until_gone(max(0.0, deadline - time.monotonic()))
        if not words:  # an evaluation counts as one run, however many of its rows run: it ends after them
            runs = [live for live in runs if not live.is_of_evaluation]
        left = [live for live in runs if not live.wait_until_gone(0.0)]
        if left:
            return f"{len(left)} of {_runs(len(runs))} did not end within {STOP_TIMEOUT_SECS:g} seconds."
        return f"{_runs(len(runs))} stopped." if runs else "Nothing runs."

    def _history(self, words: list[str]) -> History:
        _require(not words, "history", "takes no words")
        return self._get_history()

    def _forget(self, words: list[str]) -> str:
        takes = f"takes the name of a secret that was asked for, {ALL}, or nothing"
        _require(len(words) <= 1, "forget", takes)
        if words and words[0] != ALL:
            name = lexer.plain(words[0])
            _require(not name.startswith("-"), "forget", takes)
            _require(self._asked.forget(name), f"forget {name}", "has nothing to forget: it was not asked for")
            return f"{name} is asked for again."
        try:
            folders = forget_imports(everywhere=bool(words))
        except OSError as problem:
            raise OptionError(f"%isolated forget cannot remove what is kept: {problem.strerror}.") from None
        secrets = self._asked.forget_all() if words else 0
        return _forgotten(folders, secrets, where="any folder" if words else "this folder")

    def _teardown(self, words: list[str]) -> str:
        _require(not words, "teardown", "takes no words")
        self._executors.teardown()
        self._ends.clear()
        return "Torn down: nothing runs, and what was registered has been called."

    def _on_teardown(self, words: list[str]) -> str:
        _require(len(words) == 1, "on-teardown", "takes the name of a function of the notebook")
        name = lexer.plain(words[0])
        variables = self._shell.user_ns
        if name not in variables:
            own = own_variables(variables, self._shell.user_ns_hidden)
            hint = did_you_mean(name, [known for known, value in own.items() if callable(value)])
            raise OptionError(f"%isolated on-teardown {name}: the notebook has no variable of that name.{hint}")
        function = variables[name]
        if not callable(function):
            kind = type(function).__name__
            raise OptionError(f"%isolated on-teardown {name}: it is {kind}; give a function without arguments.")
        self._executors.register_teardown_callback(function)
        return f"{name}() is called at %isolated teardown, or when the kernel shuts down."


def _forgotten(folders: int, secrets: int, where: str) -> str:
    """What was forgotten, in a sentence."""
    of_folders = where if folders == 1 and where == "this folder" else _count(folders, "folder")
    found = [
        *([f"which modules the runs of {of_folders} import"] if folders else []),
        *([f"{_count(secrets, 'secret')} that {'was' if secrets == 1 else 'were'} asked for"] if secrets else []),
    ]
    if not found:
        return f"Nothing to forget: nothing is kept of the runs of {where}."
    return f"Forgotten: {' and '.join(found)}."


def _preloads(preloaded: Preloaded) -> list[str]:
    """What is imported ahead of runs, and why other modules are not."""
    packages = [f"Imported ahead of runs: {', '.join(preloaded.packages)}."] if preloaded.packages else []
    return [*packages, *(f"Not imported ahead: {name} ({why})." for name, why in preloaded.refused.items())]


def _require(holds: bool, command: str, otherwise: str) -> None:
    if not holds:
        raise OptionError(f"%isolated {command} {otherwise}.")


def _runs(count: int) -> str:
    return _count(count, "run")


def _count(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"


def _age(secs: float) -> str:
    if secs < 60:
        return f"{secs:.0f} s"
    minutes, hours = secs / 60, secs / 3600
    return f"{minutes:.0f} min" if hours < 1 else f"{hours:.1f} h"
