"""What a way of launching has to provide: a child, alive, behind one handle."""

from __future__ import annotations

import os
import socket
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isolated_magic.child import process_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from io import FileIO

    from isolated_magic.models import JsonValue, Launch, RunRequest

# A program may have SIGPIPE at its default, which would kill it where a process of ours has ended. macOS has no
# such flag; Python itself ignores the signal unless the program says otherwise.
NO_SIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)


@dataclass
class Child:
    """One run's process, as its supervisor holds it. All four streams are non-blocking.

    Args:
        channel: the private way to the child program; frames both ways.
        stdout: what the process and its descendants write to descriptor 1.
        stderr: likewise for descriptor 2.
        handle: whatever keeps the process; says ``pid N`` and ``exit STATUS``, and kills the whole tree when
            anything is written to it or when it is closed.
        launch: how it came to life.
        report_pages: what to do with the memory that it reports to have written to, None when it is not asked.
        distrust: what to do when it was not heard of in time, None when there is nothing to do.
        killed: whether anybody asked for its end.
    """

    channel: socket.socket
    stdout: FileIO
    stderr: FileIO
    handle: socket.socket
    launch: Launch = "cold"
    report_pages: Callable[[JsonValue], None] | None = None
    distrust: Callable[[], object] | None = None
    killed: bool = False

    def kill(self) -> None:
        """Ask for the end of the process and of all below it: at once, from any thread, any number of times."""
        self.killed = True
        with suppress(OSError):  # it has ended already
            self.handle.send(b"kill\n", NO_SIGNAL)

    def lives(self) -> bool:
        """Whether the process lives, as far as its keeper has said and nobody has read."""
        try:
            said = self.handle.recv(256, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return bool(said) and b"exit" not in said and b"failed" not in said

    def kill_without_keeper(self, pid: int) -> None:
        """Kill the tree ourselves, after whatever kept it was lost.

        Args:
            pid: of the run's process; a run leads a session of its own, so a pid that went to somebody else
                is most likely told apart.
        """
        with suppress(OSError):
            if os.getsid(pid) == pid:
                process_tree.kill([pid])

    def close(self) -> None:
        """Let go. What still runs is killed by whatever keeps it."""
        for stream in (self.handle, self.channel, self.stdout, self.stderr):
            stream.close()


class Launcher(ABC):
    """One way of bringing children to life. Safe from many threads, and in a fork of the process that made it."""

    @abstractmethod
    def launch(self, request: RunRequest) -> tuple[Child, bytes]:
        """Start a child for this request.

        Args:
            request: what to run.

        Returns:
            The child, and the bytes to send down its channel.

        Raises:
            LaunchError: the system refuses; the message says what.
        """

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:  # noqa: B027 - most need not
        """Take in what a run imported.

        Args:
            request: of the run.
            modules: names of installed modules, in the order in which they came.
            files: paths of other modules.
        """

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:  # noqa: ARG002 - of those who need to
        """Wait until everything that makes launches fast is there.

        Args:
            request: a run such as will be launched.
            timeout_secs: seconds to wait at most.

        Returns:
            Whether it is.
        """
        return True

    @abstractmethod
    def release(self) -> Callable[[], None]:
        """Start afresh from now on, and return what ends whatever the launches before kept, runs included."""
