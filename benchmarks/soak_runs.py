"""One run of the soak: its inputs, and the check of its result."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from soak_remains import outliving

from isolated_magic import Limits

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from isolated_magic.models import RunResult

ANYTHING = object()
LONG_SECS = 120.0  # for what has to end by itself, however busy the machine is
SHORT_SECS = (0.2, 1.0)  # for what has to be stopped
STOPPED_SECS = 15.0  # in which it has to be gone, likewise

# Each run says which environment it sees, and how many variables it has of other runs.
PRELUDE = """\
import os
tenant = data["tenant"]
print(os.environ["SOAK_TENANT"], sum(name.startswith("SOAK_TENANT") for name in os.environ), flush=True)
"""
SCORE = '\n{"scores": [{"name": os.environ["SOAK_TENANT"], "value": value}]}'


@dataclass(frozen=True)
class Kind:
    """One kind of run.

    Args:
        name: label in the tables.
        weight: relative frequency.
        code: code after the prelude, without a score at its end.
        value: expected score, or a function of the data; ANYTHING if it fails.
        error: expected kind of error, None for none.
        says: text that the error must contain.
        checks: a further check of the result.
        data: further data.
        stopped: whether its timeout is too short for it.
        limits: limits of the run.
        fresh: whether it asks for a new interpreter.
        has_prelude: whether the prelude can run.
        only_forked: whether a new interpreter would take too long.
    """

    name: str
    weight: int
    code: str
    value: object = ANYTHING
    error: str | None = None
    says: tuple[str, ...] = ()
    checks: Callable[[RunResult, Turn], str | None] = lambda _result, _turn: None
    data: Callable[[Random], dict[str, object]] | None = None
    stopped: bool = False
    limits: Limits = field(default_factory=Limits)
    fresh: bool = False
    has_prelude: bool = True
    only_forked: bool = False

    @property
    def source(self) -> str:
        """The complete code."""
        code = textwrap.dedent(self.code)
        return (PRELUDE if self.has_prelude else "") + code + ("" if self.value is ANYTHING else SCORE)


@dataclass(frozen=True)
class Turn:
    """One run of a kind.

    Args:
        kind: the kind of run.
        tenant: the unique value of its environment variable.
        folder: its own folder.
        timeout_secs: time limit.
        data: its data.
    """

    kind: Kind
    tenant: str
    folder: Path
    timeout_secs: float
    data: dict[str, object]

    @property
    def env_vars(self) -> dict[str, str]:
        """Its environment variables."""
        return {"SOAK_TENANT": self.tenant, f"SOAK_TENANT_{self.tenant}": "1"}

    def fault_in(self, result: RunResult) -> str | None:
        """The fault in the result, None if it is as expected."""
        kind, error = self.kind, result.error
        if (error and error.kind) != kind.error:
            return f"the error is {error}, and not {kind.error}; launched {result.launch}"
        if error is not None and not all(says in error.text for says in kind.says):
            return f"the error does not say {kind.says}: {error.text}"
        if kind.value is not ANYTHING:
            value = kind.value(self.data) if callable(kind.value) else kind.value
            found = [(score.name, score.value) for score in result.scores]
            if found != [(self.tenant, value)]:
                return f"the scores are {found}, and not {[(self.tenant, value)]}"
        return self.misled_by(result.stdout) or kind.checks(result, self) or self.left_processes()

    def misled_by(self, stdout: str) -> str | None:
        """The fault of a run that saw an environment other than its own, None if it has none."""
        first, *rest = stdout.split("\n", 1)
        may_be_missing = self.kind.stopped or not self.kind.has_prelude
        if (rest or not may_be_missing) and self.kind.has_prelude and first != f"{self.tenant} 2":
            return f"the run saw the environment {first!r}, and not {self.tenant!r}"
        return None

    def left_processes(self) -> str | None:
        """The fault for recorded processes of the run that are alive, None if there are none."""
        return outliving(self.folder)


def turn_of(kind: Kind, tenant: str, folder: Path, choice: Random) -> Turn:
    """Create a turn of this kind, with random choices."""
    timeout_secs = round(choice.uniform(*SHORT_SECS), 2) if kind.stopped else LONG_SECS
    data = {"tenant": tenant, "folder": str(folder), **(kind.data(choice) if kind.data else {})}
    return Turn(kind, tenant, folder, timeout_secs, data)
