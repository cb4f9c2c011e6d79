"""What a way of launching has to provide: a child, alive, behind one handle."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from isolated_magic.errors import LaunchError, UnsupportedPlatformError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Mapping, Sequence
    from io import FileIO

    from isolated_magic.launch.process import ProcessHandle
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.models import Launch
    from isolated_magic.request import RunRequest


@dataclass
class Child:
    """One run's process, as its supervisor holds it. All four streams are non-blocking."""

    channel: socket.socket  # the private way to the child program; frames both ways
    stdout: FileIO  # what the process and its descendants write to descriptor 1
    stderr: FileIO  # likewise for descriptor 2
    handle: ProcessHandle  # on whatever keeps the process
    launch: Launch = "cold"  # how it came to life
    # tells from what the run said whether it had to import packages itself, None when it does anyway
    lacked: Callable[[Messages], bool] | None = None
    # what to do with the memory that it reports to have written to, None when it is not asked
    report_pages: Callable[[tuple[int, ...] | None], None] | None = None
    # what to do when it was not heard of in time, None when there is nothing to do
    distrust: Callable[[], object] | None = None
    # for a worker, takes it back when a run is over, with what that said, or None when it cannot be used again
    give_back: Callable[[Messages | None], None] | None = None
    # when a worker or a container was there for this run, by time.monotonic(); None where nobody waits for one
    handed_over_at: float | None = None

    @property
    def is_worker(self) -> bool:
        """Whether it may do another run after this one."""
        return self.give_back is not None

    def launch_for(self, said: Messages) -> Launch:
        """How the run was launched: a fork that had nothing of the packages that it needs saved it nothing."""
        return "cold" if self.lacked is not None and self.lacked(said) else self.launch

    def end(self, said: Messages | None) -> None:
        """Its run is over: it goes back to where it came from, or is let go."""
        if self.give_back is not None:
            self.give_back(said)
        else:
            self.close()

    def close(self) -> None:
        """Let go. What still runs is killed by whatever keeps it."""
        for stream in (self.handle, self.channel, self.stdout, self.stderr):
            stream.close()


@dataclass(frozen=True)
class Preloaded:
    """What is imported ahead of runs."""

    # names of the packages that are and that code or ``preload`` asks for, in alphabetical order
    packages: tuple[str, ...] = ()
    # why a module cannot be, by its name
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class StoppedError(LaunchError):
    """The run was stopped while it waited for a worker or a container."""


class RunControl(Protocol):
    """Whom the orders to a run go to."""

    def kill(self) -> None:
        """End it at once."""

    def interrupt(self) -> None:
        """End it as Ctrl-C does."""


Attach: TypeAlias = "Callable[[RunControl], None]"


def to_nobody(_orders: RunControl) -> None:
    """Who has nobody to tell."""


class StartedWorker(NamedTuple):
    """A worker that starts."""

    child: Child  # that it is
    unsent: bytes  # what is left to be sent before its first run
    modules: frozenset[str]  # that it has imported from the start


class Launcher(ABC):
    """One way of bringing children to life. Safe from many threads, and in a fork of the process that made it."""

    @abstractmethod
    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for this request, or find one.

        Returns:
            The child, and the bytes to send down its channel.

        Raises:
            LaunchError: the system refuses; the message says what.
            OSError: likewise, in its own words.
        """

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:  # noqa: B027 - most need not
        """Take in what a run imported."""

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:  # noqa: ARG002 - of those who need to
        """Wait until everything that makes launches fast is there.

        Returns:
            Whether it is.
        """
        return True

    def preloaded(self) -> Preloaded:
        """What is imported ahead of the runs that it launches."""
        return Preloaded()

    @abstractmethod
    def release(self) -> Callable[[], None]:
        """Start afresh from now on, and return what ends whatever the launches before kept, runs included."""


class ProcessLauncher(Launcher):
    """One that starts processes of this machine, which can be workers too."""

    @abstractmethod
    def start_worker(self, request: RunRequest) -> StartedWorker:
        """Start a child for many runs such as this one.

        Raises:
            LaunchError: the system refuses; the message says what.
            OSError: likewise, in its own words.
        """

    def would_spare_imports(self, request: RunRequest, modules: Collection[str]) -> bool:  # noqa: ARG002 - of those who import ahead
        """Whether a worker started now would have imported what such runs import and these modules lack."""
        return False


def require_processes() -> None:
    """Pass where runs are possible.

    Raises:
        UnsupportedPlatformError: in Pyodide, on Windows, or wherever else a process cannot be forked.
    """
    if sys.platform == "emscripten":
        raise UnsupportedPlatformError(
            "isolated_magic runs code in processes of its own, and there are no processes in the browser "
            "(Pyodide, JupyterLite). Open the notebook on a Jupyter server instead."
        )
    if sys.platform == "win32":
        raise UnsupportedPlatformError(
            "isolated_magic does not support Windows itself yet. Run Jupyter under WSL, where it works."
        )
    if not hasattr(os, "fork"):
        raise UnsupportedPlatformError(f"isolated_magic needs processes, which {sys.platform} does not have.")
