"""What every launcher has to provide: a live child process, its four streams and a handle on it."""

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
    from isolated_magic.models import LaunchMethod
    from isolated_magic.request import RunRequest

# What may wait in the main thread wakes up so often: the handler of a signal that comes just before the wait
# begins, or to another thread, runs only after it (https://docs.python.org/3/library/signal.html).
LONGEST_WAIT_SECS = 1.0


@dataclass
class Child:
    """The process of one run, as its supervisor holds it. All four streams are non-blocking."""

    channel: socket.socket  # private to the child program: frames both ways
    stdout: FileIO  # what the process and its descendants write to descriptor 1
    stderr: FileIO
    handle: ProcessHandle
    launch: LaunchMethod = "cold"
    # Whether it says that its code has started only with what comes next; ``launch/protocol.py`` sees if it has.
    starts_silently: bool = False
    # Given the messages of a fork, tells whether it had to import a package itself.
    lacked: Callable[[Messages], bool] | None = None
    # Takes the pages that a sampled fork wrote to.
    report_pages: Callable[[tuple[int, ...] | None], None] | None = None
    # Called when nothing was heard of it in time.
    distrust: Callable[[], object] | None = None
    # Takes a worker back after a run, with the run's messages; None when it cannot be used again.
    give_back: Callable[[Messages | None], None] | None = None
    # When a worker or a container was found for this run, by time.monotonic().
    handed_over_at: float | None = None

    @property
    def is_worker(self) -> bool:
        """Whether it may do another run after this one."""
        return self.give_back is not None

    def launch_for(self, messages: Messages) -> LaunchMethod:
        """How the run was launched: a fork that lacked the packages that it needs counts as a cold start."""
        return "cold" if self.lacked is not None and self.lacked(messages) else self.launch

    def end(self, messages: Messages | None) -> None:
        """Its run is over: return a worker to its pool, None if it is of no more use; close any other child."""
        if self.give_back is not None:
            self.give_back(messages)
        else:
            self.close()

    def close(self) -> None:
        """Close our ends. The reaper kills what still runs."""
        for stream in (self.handle, self.channel, self.stdout, self.stderr):
            stream.close()


@dataclass(frozen=True)
class Preloaded:
    """The modules that an executor preloads.

    Args:
        packages: names of preloaded packages that code or ``preload`` asks for, in alphabetical order.
        refused: the reasons why modules cannot be preloaded, by module name.

    Example:
        >>> from isolated_magic import IsolatedSubprocessExecutor
        >>> with IsolatedSubprocessExecutor(preload=["decimal"]) as executor:
        ...     ready = executor.warm_up()
        ...     executor.preloaded.packages
        ('decimal',)
    """

    packages: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


class StoppedError(LaunchError):
    """The run was stopped while it waited for a worker or a container."""


class RunControl(Protocol):
    """Receives kill and interrupt requests for a run."""

    def kill(self) -> None: ...  # noqa: D102
    def interrupt(self) -> None: ...  # noqa: D102


Attach: TypeAlias = "Callable[[RunControl], None]"


def to_nobody(_control: RunControl) -> None:
    """Attach nothing."""


class StartedWorker(NamedTuple):
    """A worker that starts."""

    child: Child
    unsent: bytes  # to be sent before its first run
    modules: frozenset[str]  # imported from the start


class Launcher(ABC):
    """One way to start children. Safe from many threads, and in a fork of the process that made it."""

    @abstractmethod
    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for this request, or find one.

        Args:
            request: the run.
            attach: called with the control of the run when it has to wait for a child.

        Returns:
            The child, and the bytes still to be sent down its channel.

        Raises:
            LaunchError: the system refuses; the message says what.
            OSError: the system refuses, in its own words.
        """

    @abstractmethod
    def start_rows(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for many rows of such a request; see :meth:`launch`. What it is to run is not sent yet."""

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:  # noqa: B027 - most need not
        """Note the installed modules, in their order, and the other files that a run imported."""

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:  # noqa: ARG002 - of those who need to
        """Wait until everything that makes such launches fast is there; whether it is."""
        return True

    def start_ahead(self, make_request: Callable[[], RunRequest]) -> None:  # noqa: B027 - likewise
        """Start what makes such runs fast that are like those of earlier processes, in the background."""

    def preloaded(self) -> Preloaded:
        """What is imported ahead of the runs that it launches."""
        return Preloaded()

    @abstractmethod
    def release(self) -> Callable[[], None]:
        """Start afresh; the function returned ends all that earlier launches left behind, runs included."""


class ProcessLauncher(Launcher):
    """Starts processes on this machine, which can be workers too."""

    @abstractmethod
    def start_worker(self, request: RunRequest) -> StartedWorker:
        """Start a child for many runs such as this one; raises as :meth:`launch` does."""

    def would_spare_imports(self, request: RunRequest, modules: Collection[str]) -> bool:  # noqa: ARG002 - of those who import ahead
        """Whether a worker started now would have packages of such runs that are not in ``modules``."""
        return False


def require_processes() -> None:
    """Raise UnsupportedPlatformError in Pyodide, on Windows, or wherever else a process cannot be forked."""
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
