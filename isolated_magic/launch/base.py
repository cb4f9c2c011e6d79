"""What a way of launching has to provide: a child, alive, behind one handle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from io import FileIO

    from isolated_magic.launch.handle import Handle
    from isolated_magic.models import Launch
    from isolated_magic.run_request import RunRequest


@dataclass
class Child:
    """One run's process, as its supervisor holds it. All four streams are non-blocking.

    Args:
        channel: the private way to the child program; frames both ways.
        stdout: what the process and its descendants write to descriptor 1.
        stderr: likewise for descriptor 2.
        handle: on whatever keeps the process.
        launch: how it came to life.
        report_pages: what to do with the memory that it reports to have written to, None when it is not asked.
        distrust: what to do when it was not heard of in time, None when there is nothing to do.
    """

    channel: socket.socket
    stdout: FileIO
    stderr: FileIO
    handle: Handle
    launch: Launch = "cold"
    report_pages: Callable[[tuple[int, ...] | None], None] | None = None
    distrust: Callable[[], object] | None = None

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
            OSError: likewise, in its own words.
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
