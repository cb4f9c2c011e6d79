"""The commands of the magic, and what is known of one option. The table of all options is in ``options.py``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from isolated_magic.magic.kinds import SWITCH, Kind

if TYPE_CHECKING:
    from typing import Literal, TypeAlias

    from isolated_magic.executors.factory import ExecutorName

    Offers: TypeAlias = Literal[
        "value", "file", "environment", "data", "result", "rows", "field", "cluster", "folder"
    ]

# The commands of `%isolated`: in what forms, and what each does, for the manual.
COMMANDS = {
    "history": (
        ("history",),
        "lists the runs of this kernel with their scores, an evaluation as one; its value has `to_pandas()`",
    ),
    "status": (
        ("status",),
        "lists what runs: pid, age, and a label that holds nothing of a tenant; where the rows of an evaluation "
        "run with `--on`; and how the last ten runs in the background ended",
    ),
    "stop": (("stop [PID]",), "stops one run, or all, as the stop button does; from a subshell too"),
    "packages": (
        ("packages", "packages prune"),
        "lists the environments that `--with` has made, with size and last use; removes those that were not used "
        "for 30 days",
    ),
    "forget": (
        ("forget", "forget NAME", "forget --all"),
        "forgets which modules the runs of this folder import; asks for a secret again next time; forgets all "
        "secrets and the modules of all folders",
    ),
    "teardown": (
        ("teardown",),
        "ends everything, on workers too, and calls what was registered; clients and pools of the notebook stay "
        "open",
    ),
    "on-teardown": (
        ("on-teardown NAME",),
        "has a function of the notebook called at teardown, at the latest when the kernel shuts down",
    ),
}
ALL = "--all"  # of `forget`
PRUNE = "prune"  # of `packages`
FIRST_WORDS = ("run", *COMMANDS)  # which stands for an option


@dataclass(frozen=True)
class Setting:
    """What goes where the line says nothing, by the name of its trait and its key in ``pyproject.toml``."""

    name: str
    default: object
    help: str


@dataclass(frozen=True)
class Option:
    """Everything that is known of one option.

    Args:
        flags: the short one first.
        help: what it does, in Markdown, for ``--help`` and the manual.
        kind: of its value.
        manual: what the manual says beyond that.
        const: the value of a switch, and of an option whose value may be left out.
        opposite: the flag that unsays it, for where a setting says what it says.
        repeats: the line may have several, which refer to notebook variables.
        may_lack_value: the value may be left out.
        setting: where the line says nothing.
        limit: its name in :class:`Limits`.
        offers: what the Tab key offers for its value.
        words: those values; of files, the endings.
        executor: the only one that takes it; None where it is a part of the request, which each executor judges.
        of_rows: it means something with --each alone.
    """

    flags: tuple[str, ...]
    help: str
    kind: Kind = SWITCH
    manual: str = ""
    const: bool = True
    opposite: str = ""
    repeats: bool = False
    may_lack_value: bool = False
    setting: Setting | None = None
    limit: str = ""
    offers: Offers = "value"
    words: tuple[str, ...] = ()
    executor: ExecutorName | None = None
    of_rows: bool = False

    @property
    def flag(self) -> str:
        """The long flag."""
        return self.flags[-1]
