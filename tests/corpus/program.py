"""One program of the corpus."""

import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field

FOLDER = "{folder}"  # in a value of env_vars: the absolute path of the working folder
UNCHECKED = object()


@dataclass(frozen=True)
class Program:
    """A program, the world that it runs in, and what is known of its outcome beforehand.

    Its result is mostly ``{"scores": [], "seen": ...}``: what it saw, which has to be the same in every run.

    Args:
        name: of the program, as the test's id shows it.
        code: Python source; common indentation is taken off.
        env_vars: as ``run`` takes them; ``{folder}`` in a value stands for the working folder.
        data: as ``run`` takes it.
        files: what the working folder holds when a run begins, text by relative path.
        file: run the code as a file of this relative path instead.
        source_name: what tracebacks call the code, where that is not the default.
        inherit_env: as ``run`` takes it.
        leaves: what the working folder holds besides ``files`` when nothing of the run is left.
        error: the kind of the error that it must end with.
        exit_status: that it must end with.
        seen: the value that "seen" of the result must have, where it is known.
        stdout: all that must be printed, where it is known.
        shows: what must be part of stdout, stderr or the error.
        varies: the result has "varies", a dict of values each of which is another one in every run.
        launch: how it has to run in the end: "forked", "cold", or "either" where both are right.
        alone: it has an executor of its own: one that serves many programs keeps few templates, and none for it.
        needs: modules without which it is skipped.
        linux: it looks at what only Linux has.
    """

    name: str
    code: str = field(repr=False)
    env_vars: Mapping[str, str | None] = field(default_factory=dict)
    data: object = None
    files: Mapping[str, str] = field(default_factory=dict, repr=False)
    file: str | None = None
    source_name: str = "<string>"
    inherit_env: bool = True
    leaves: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    exit_status: int = 0
    seen: object = UNCHECKED
    stdout: str | None = None
    shows: tuple[str, ...] = ()
    varies: bool = False
    launch: str = "forked"
    alone: bool = False
    needs: tuple[str, ...] = ()
    linux: bool = False

    @property
    def source(self) -> str:
        """The code as it runs."""
        return textwrap.dedent(self.code).strip("\n") + "\n"

    @property
    def runs_here(self) -> bool:
        """Whether this platform has what it looks at."""
        return not self.linux or sys.platform == "linux"
