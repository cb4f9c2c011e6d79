"""The owner's end of one fork server (``child/fork_server.py``): which runs it may serve, and its children."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

from isolated_magic.child import wire
from isolated_magic.child.modules import is_standard
from isolated_magic.child.process_state import set_group_nice
from isolated_magic.environment import acts_at_start
from isolated_magic.errors import LaunchError
from isolated_magic.launch.fork_server import freshness
from isolated_magic.launch.fork_server.freshness import EnvironmentReads, PreloadFailure, Watch
from isolated_magic.launch.guardian import LOST
from isolated_magic.launch.process import NO_SIGNAL, send_descriptors
from isolated_magic.launch.spawn import make_child, receive_frame, start_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from isolated_magic.launch.attributes import ProcessAttributes
    from isolated_magic.launch.base import Child
    from isolated_magic.launch.fork_server.freshness import ForkServerSpec, ReadyReport
    from isolated_magic.launch.fork_server.source_scan import SourceScan
    from isolated_magic.request import RunRequest

MOST_SAMPLES = 2  # runs that report which memory they wrote to
SEND_TIMEOUT_SECS = 10.0  # a fork server that takes no request for so long is stopped or starved


class Deferred(NamedTuple):
    """A fork server that is wanted unless one that is starting turns out to have all that it would have."""

    spec: ForkServerSpec
    environment: Mapping[bytes, bytes]  # of the run that it is for
    lease: object  # of the launcher that asks for it


class ForkServer:
    """A fork server, starting or ready. Unless it is awaited, it gives way to other processes while it imports.

    One that is ahead of the first run that may need it counts as used long ago, until it is used.
    """

    def __init__(
        self,
        spec: ForkServerSpec,
        start: Callable[[list[int]], None],
        idle_secs: float,
        *,
        is_awaited: bool,
        is_ahead: bool,
    ) -> None:
        self.spec = spec
        self.lease: object = None  # of the launcher whose number of fork servers it counts for
        self.deferred: list[Deferred] = []
        self.state: Literal["starting", "ready", "over"] = "starting"
        self.is_ahead = is_ahead
        self.started_at = time.monotonic()
        self.is_doubtful = False  # whether it gets ready
        self.used_at = -math.inf if is_ahead else self.started_at
        self.imports = spec.imports  # it may serve programs that import all of these
        self.roots: tuple[str, ...] = ()  # the modules of programs with which all that it has imported came
        self.modules: frozenset[str] = frozenset()
        self.packages: frozenset[str] = frozenset()
        self.not_there: tuple[str, ...] = ()
        self.environment_reads = EnvironmentReads()
        self._report: ReadyReport | None = None
        self._watch = Watch([], 0)
        self._begun_at = time.time_ns()
        self._waiting: deque[Child] = deque()
        self._roots = frozenset(name.partition(".")[0] for name in spec.modules)
        self._has_third_party = not all(map(is_standard, spec.modules))
        self._gives_way = (self._has_third_party or is_ahead) and not is_awaited
        self._seen: tuple[str, ...] = ()
        self._samples = 0
        self._pid: int | None = None
        self._is_hurried = False
        self._late: tuple[str, ...] = ()
        self._pages: set[int] = set()
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._child = make_child(start)
        try:
            self._tell(idle_secs)
        except BaseException:
            self._child.close()
            raise

    def _tell(self, idle_secs: float) -> None:
        """Tell the process what to be, and what to import."""
        spec = self.spec
        settings = {
            "modules": spec.modules,
            "wanted": sorted(spec.wanted),
            "in_detail": spec.in_detail,
            "gives_way": self._gives_way,
            "owner_pid": os.getpid(),
            "idle_secs": idle_secs,
            "attributes": spec.attributes.taken_on(),
        }
        self._child.channel.settimeout(SEND_TIMEOUT_SECS)
        messages = start_messages(
            spec.executable,
            "fork_server",
            spec.cwd,
            spec.stack_bytes,
            spec.attributes,
            spec.environment,
        )
        self._child.channel.sendall(messages + wire.frame(json.dumps(settings).encode()), NO_SIGNAL)

    def wait_until_ready(self) -> PreloadFailure | None:
        """Wait until it is ready, as long as its imports take; why it is not, None if it is."""
        importing, refusal = "", None
        with suppress(OSError, EOFError, ValueError):
            self._child.channel.settimeout(None)
            while refusal is None:
                message = json.loads(receive_frame(self._child.channel))
                importing = message.get("importing", importing)
                self._pid = message.get("pid", self._pid)
                if self._is_hurried and "pid" in message:
                    self.hurry()
                if "refused" in message:
                    kept = tuple(message["kept"])
                    refusal = PreloadFailure(message["refused"], kept, message["is_unclear"])
                if "ready" in message:
                    if self._child.stdout.read() or self._child.stderr.read():
                        refusal = self.spec.refusal_of(importing, "it prints")  # when it starts: a fork would not
                        break
                    self._take_report(message["ready"])
                    return None
        if refusal is None:
            was_ended = self.state == "over" or self._was_killed()
            refusal = (
                PreloadFailure({})
                if was_ended
                else self.spec.refusal_of(importing, "its import ends the process, or hangs")
            )
        self.close()
        return refusal

    def hurry(self) -> None:
        """Have it give way to other processes no longer, if the system lets it: somebody waits for it."""
        pid, self._is_hurried = self._pid, True
        if self.state == "starting" and self._gives_way and pid is not None:
            set_group_nice(pid, 0)
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, pid, self.spec.attributes.nice)

    def _was_killed(self) -> bool:
        """Whether its imports are not to blame: the system was out of memory, or the guardian was lost."""
        handle = self._child.handle
        readable = select.poll()
        readable.register(handle.socket, select.POLLIN)
        with suppress(OSError):
            while not handle.is_over and readable.poll(SEND_TIMEOUT_SECS * 1000):
                handle.take_news(lambda _: None)
        return handle.exit_status in {None, -signal.SIGKILL}

    def _take_report(self, report: ReadyReport) -> None:
        self.modules = frozenset(report["modules"])
        self.not_there = tuple(report["not_there"])
        self.environment_reads = EnvironmentReads(report)
        self._late = tuple(report["late"])
        self.roots = tuple(name for name in report["roots"] if name in self.spec.wanted)
        if self.spec.imports and len(self.roots) == len(report["roots"]) > 0:
            self.imports = frozenset(self.roots)  # whatever else its program asks for came with these
        self._report = report
        self.packages = frozenset(name.partition(".")[0] for name in self.modules)
        self._roots = self.packages.union(report["missing"])
        self._child.channel.settimeout(SEND_TIMEOUT_SECS)
        with self._lock:
            if self.state == "starting":
                self._watch = Watch(report["places"], self._begun_at)
                self.state = "ready"

    @property
    def modules_of_programs(self) -> Iterator[str]:
        """The modules in it that come with what programs ask for, and not with what a run did later."""
        return freshness.without(self._late, self.modules)

    @property
    def asked_for(self) -> frozenset[str]:
        """The packages in it that programs or the user ask for."""
        names = [*(self.spec.wanted & self.modules), *self._late]
        return frozenset(name.partition(".")[0] for name in names)

    def has(self, modules: tuple[str, ...]) -> bool:
        """Whether it has imported all of these."""
        if modules is not self._seen:  # they may be thousands
            if not self.modules.issuperset(modules):
                return False
            self._seen = modules
        return True

    def suits(self, request: RunRequest, scan: SourceScan, attributes: ProcessAttributes) -> bool:
        """Whether a fork of it is what a new interpreter would be for this run, as far as is known by now."""
        spec = self.spec
        return (
            spec.executable == request.executable
            and self.imports <= scan.all_imports
            and not (spec.modules and scan.redirects)
            and not (spec.imports and scan.looks_around)
            and spec.stack_bytes == request.limits.stack_bytes
            and spec.is_for(attributes)
            and (spec.cwd == request.cwd or not (self._report and self._report["folder"]))
            and self._has_variables_of(request)
            and not self._would_notice(scan)
            and not self._is_shadowed(request)
        )

    def _has_variables_of(self, request: RunRequest) -> bool:
        mine, its, reads = self.spec.environment, request.environment, self.environment_reads
        for name in {*mine, *its}:
            if mine.get(name) != its.get(name) and (acts_at_start(name) or reads[name]):
                return False
        return True

    def _would_notice(self, scan: SourceScan) -> bool:
        """Whether the program may change something that the imports looked at, before it imports."""
        if self._has_third_party and (scan.sets_anything or (scan.sets_later and self._late)):
            return True
        for name in scan.sets:
            if name.isascii():
                variable = name.encode()
                if self.environment_reads[variable] or (self._has_third_party and acts_at_start(variable)):
                    return True
        return False

    def _is_shadowed(self, request: RunRequest) -> bool:
        """Whether a folder in front of the libraries has a module with a name that is imported already."""
        in_front = self._report["in_front"] if self._report else []
        for folder in (freshness.first_path_entry(request), *in_front):
            if freshness.has_module_named(self._roots, folder):
                return True
        return False

    def is_current(self) -> bool:
        """Whether the packages and files that its imports read are unchanged."""
        return self.packages_are_current() and freshness.is_unchanged(
            self._report["files"] if self._report else {}
        )

    def packages_are_current(self) -> bool:
        """Whether the installed packages are unchanged since it was started."""
        return not self._watch.has_changed() and freshness.is_unchanged(
            self._report["packages"] if self._report else {}
        )

    def take(self) -> Child | None:
        """A child for one run; None if the fork server is gone."""
        self.used_at = time.monotonic()
        child = self.next_child()
        if child is not None and self._samples < MOST_SAMPLES:
            self._samples += 1
            child.report_pages = self._take_pages
        return child

    def next_child(self) -> Child | None:
        """A child that waits, or a new one; None if the fork server is gone."""
        while True:
            with self._lock:
                child = self._waiting.popleft() if self._waiting else None
            if child is None:
                return self._new_child(wire.RUN)
            if child.handle.lives():
                return child
            child.close()

    def _take_pages(self, pages: tuple[int, ...] | None) -> None:
        """Have the children that wait copy in advance the pages that all samples wrote to."""
        if pages is None:
            return
        found = set(pages)
        with self._lock, suppress(OSError):
            self._pages = found & self._pages if self._pages else found
            message = wire.PAGES + wire.frame(json.dumps(sorted(self._pages)).encode())
            self._child.channel.sendall(message, NO_SIGNAL)

    def fill(self, count: int) -> None:
        """Fork until so many children wait."""
        while self.state == "ready" and len(self._waiting) < count:
            child = self._new_child(wire.SPARE)
            if child is None:
                return
            with self._lock:
                if self.state == "ready":
                    self._waiting.append(child)
                    continue
            child.close()

    def _new_child(self, request: bytes) -> Child | None:
        def hand_over(descriptors: list[int]) -> None:
            with self._lock:
                send_descriptors(self._child.channel, request, descriptors)

        try:
            child = make_child(hand_over)
        except LaunchError:  # no descriptors left here: the runs that go on are not to blame
            return None
        except OSError as problem:
            if problem.errno in LOST:
                self.close()
            return None
        child.launch, child.starts_silently = "forked", wire.SHOWS_UNREAD
        return child

    def retire(self) -> None:
        """Take no more runs; the process ends when its last run has ended."""
        with self._lock:
            if self.state == "starting":
                return self.close()
            if self.state == "ready":
                with suppress(OSError):
                    self._child.channel.send(wire.RETIRE, NO_SIGNAL)
            return self._drop()

    def is_gone(self) -> bool:
        """Whether its process has ended; if so, close it."""
        if self._child.handle.lives():
            return False
        self.close()
        return True

    def close(self) -> None:
        """End it, and what still runs on it."""
        with self._lock:
            self._drop()
            with suppress(OSError):
                self._child.channel.shutdown(socket.SHUT_RDWR)  # a thread may be waiting for it to be ready
            self._child.close()

    def forget(self) -> None:
        """In a fork of the owner: close our copies; the fork server belongs to the original."""
        self._lock = threading.RLock()
        self._watch.forget()
        self._drop()
        self._child.close()

    def _drop(self) -> None:
        self.state = "over"
        self._watch.close()
        while self._waiting:
            self._waiting.popleft().close()
