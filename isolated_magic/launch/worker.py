"""One worker, as its owner knows it (see ``child/worker.py`` for the process)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from isolated_magic.child.modules import fingerprint
from isolated_magic.child.process_state import credentials
from isolated_magic.launch.fork_server.freshness import is_unchanged, package_folders
from isolated_magic.launch.spawn import ProcessAttributes, current_attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from isolated_magic.launch.base import Child, ProcessLauncher
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.request import RunRequest

MOST_SOURCES = 256  # that a worker is known to have run


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker has from its start, and keeps."""

    environment: Mapping[bytes, bytes] = field(repr=False)  # of the runs that it does
    cwd: str  # that they start in
    stack_bytes: int  # of the main thread
    attributes: ProcessAttributes  # what it has inherited
    credentials: tuple[object, ...]  # whom it acts for


def spec_for(request: RunRequest) -> WorkerSpec:
    """What a worker for such a run has."""
    return WorkerSpec(
        request.environment, request.cwd, request.limits.stack_bytes, current_attributes(), credentials()
    )


@dataclass(eq=False)
class Worker:
    """One worker, busy or idle.

    Args:
        child: its process.
        surroundings: what it was started with.
        unsent: what is to be sent to it before its next request.
        modules: names of installed modules that it has imported.
        files: states of the user's files that it has imported, and of the folders of packages.
        sources: of runs that it has done: whatever they import is there.
        runs: how many it was given.
    """

    child: Child
    spec: WorkerSpec
    unsent: bytes
    modules: set[str]
    files: dict[str, list[int] | None]
    sources: set[str | None] = field(default_factory=set, repr=False)
    runs: int = 0

    def suits(self, spec: WorkerSpec) -> bool:
        """Whether a new one for such a run would be no other."""
        return self.spec == spec and self.child.handle.lives() and is_unchanged(self.files)

    def has_done(self, request: RunRequest) -> bool:
        """Whether it has run this program before."""
        return _program_of(request) in self.sources

    def note(self, request: RunRequest, said: Messages) -> None:
        """A run is over."""
        if len(self.sources) < MOST_SOURCES:
            self.sources.add(_program_of(request))
        if said.imported is not None:
            self.modules.update(said.imported.installed)
            self.files.update(fingerprint(said.imported.files))

    def let_go(self) -> None:
        """It is of no use any more."""
        self.child.handle.kill()  # a fork of this process may have its streams open, too
        self.child.close()


def started(processes: ProcessLauncher, request: RunRequest, spec: WorkerSpec) -> Worker:
    """A worker that starts.

    Raises:
        LaunchError: the system refuses one.
        OSError: likewise.
    """
    start = processes.start_worker(request)
    packages = fingerprint(package_folders())
    return Worker(start.child, spec, start.unsent, set(start.modules), packages)


def _program_of(request: RunRequest) -> str | None:
    return request.source if request.path is None else request.path
