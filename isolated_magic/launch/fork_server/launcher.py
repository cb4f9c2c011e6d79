"""A launcher that forks a server which has imported what the run will import; else it starts a new interpreter.

Runs are cold while the first fork server starts. Whether a fork will do is decided anew for each run (see
:meth:`ForkServer.suits`), so that nothing but the time tells a forked run from a cold one.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import warnings
import weakref
from contextlib import suppress
from dataclasses import replace
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from isolated_magic.child.modules import is_standard
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.launch.attributes import current_attributes
from isolated_magic.launch.base import Attach, Child, ProcessLauncher, StartedWorker, require_processes, to_nobody
from isolated_magic.launch.fork_server.freshness import (
    ForkServerSpec,
    environment_for,
    first_path_entry,
    has_module_named,
    package_folders,
)
from isolated_magic.launch.fork_server.import_history import NOT_THERE
from isolated_magic.launch.fork_server.pools import PoolLease
from isolated_magic.launch.fork_server.servers import MOST_SERVERS, PoolSettings
from isolated_magic.launch.fork_server.source_scan import NO_CODE, OPAQUE, SourceScan, scan_file, scan_source
from isolated_magic.launch.guardian import Guardian
from isolated_magic.launch.resources import start_thread
from isolated_magic.launch.spawn import make_child, role_messages, run_messages, send_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from isolated_magic.launch.attributes import ProcessAttributes
    from isolated_magic.launch.base import Preloaded
    from isolated_magic.launch.fork_server.import_history import ImportHistory, KnownImports
    from isolated_magic.launch.fork_server.server import ForkServer
    from isolated_magic.launch.fork_server.servers import ForkServerPool
    from isolated_magic.launch.protocol import Messages
    from isolated_magic.packages.interpreters import Interpreter
    from isolated_magic.request import RunRequest

Preload: TypeAlias = "Literal['learned'] | Sequence[str] | None"

PACKAGE = __name__.partition(".")[0]
AHEAD_AFTER_SECS = 0.05  # whoever asks for it goes on first
LARGEST_ENVIRONMENT_BYTES = 1 << 20  # execve(2) takes a quarter of the stack limit, six megabytes at most

CAN_FORK = sys.platform == "linux"  # on macOS a fork of a process that uses its frameworks is not safe


class ForkedLauncher(ProcessLauncher):
    """Forks runs from fork servers; :class:`IsolatedSubprocessExecutor` explains the arguments."""

    def __init__(
        self,
        preload: Preload,
        standby: int,
        idle_secs: float,
        *,
        remember: bool,
        interpreter: Interpreter | None = None,
    ) -> None:
        require_processes()
        self._interpreter = interpreter
        self._guardian = Guardian()
        self._learns = preload == "learned"
        self._given = () if preload is None or isinstance(preload, str) else tuple(preload)
        self._remembers = self._learns and remember
        settings = PoolSettings(self._given, self._learns, standby, idle_secs, self._remembers, interpreter)
        self._lease = PoolLease(settings)
        weakref.finalize(self, _close, self._lease, self._guardian)
        self._warned: set[str] = set()
        if interpreter is None:
            self._warn({name: NOT_THERE for name in self._given if _is_missing(name)})

    @property
    def _servers(self) -> ForkServerPool:
        return self._lease.pool

    @property
    def _history(self) -> ImportHistory:
        return self._lease.pool.history

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for this request; see :class:`Launcher`."""
        if self._given:
            self._warn(self._history.reasons)
        attributes = current_attributes()
        if request.fresh or _is_large(request.environment):
            messages = run_messages(request, attributes)
            return make_child(self._guardian.start_run), messages
        scan, known_imports = self._scan_and_known_imports(request)
        server, has_waited = self._server_for(request, scan, attributes, attach)
        child = server.take() if server is not None else None
        if child is None:
            server, child = None, make_child(self._guardian.start_run)
        child.handed_over_at = time.monotonic() if has_waited else None
        try:
            messages = run_messages(request, attributes, reports_pages=child.report_pages is not None)
            rest = send_at_once(child, messages)
            # The child is at work by now: this costs the run nothing.
            if server is not None:
                child.lacked = partial(_lacked, server, scan, first_path_entry(request))
                child.distrust = partial(self._servers.remove, server)
                self._servers.refill(server)
            self._ensure_server(server, request, scan, known_imports, attributes)
        except BaseException:  # the user interrupts: nobody else would close the child
            child.close()
            raise
        return child, rest

    def _server_for(
        self, request: RunRequest, scan: SourceScan, attributes: ProcessAttributes, attach: Attach | None
    ) -> tuple[ForkServer | None, bool]:
        """The fork server for this run, None if none suits; and whether the run had to wait for it.

        Without ``attach`` nobody could stop it while it waits, and so it does not.
        """
        server = self._servers.best_for(request, scan, attributes)
        if attach is None or (server is not None and server.spec.imports):
            return server, False
        starting = self._servers.starting_for(request, scan, attributes)
        if starting is None:
            return server, False
        self._servers.wait_for(starting, attach)
        return self._servers.best_for(request, scan, attributes), True

    def start_rows(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Start a child for many rows; see :class:`Launcher`."""
        if request.fresh or _is_large(request.environment):
            messages = role_messages("rows", request, current_attributes())
            return make_child(self._guardian.start_run), messages
        child, unsent, _ = self._started(request, "rows", attach)
        return child, unsent

    def start_worker(self, request: RunRequest) -> StartedWorker:
        """Start a child for many runs such as this one; see :class:`ProcessLauncher`."""
        return self._started(request, "worker", None)

    def _started(self, request: RunRequest, role: str, attach: Attach | None) -> StartedWorker:
        attributes = current_attributes()
        scan, known_imports = self._scan_and_known_imports(request)
        server, has_waited = self._server_for(request, scan, attributes, attach)
        child = server.next_child() if server is not None else None
        if child is None:
            server, child = None, make_child(self._guardian.start_run)
        child.handed_over_at = time.monotonic() if has_waited else None
        try:
            unsent = send_at_once(child, role_messages(role, request, attributes))
            if server is not None:
                child.lacked = partial(_lacked, server, scan, first_path_entry(request))
                child.distrust = partial(self._servers.remove, server)
                self._servers.refill(server)
            self._ensure_server(server, request, scan, known_imports, attributes)
        except BaseException:
            child.close()
            raise
        return StartedWorker(child, unsent, server.modules if server is not None else frozenset())

    def would_spare_imports(self, request: RunRequest, modules: Collection[str]) -> bool:
        """Whether a fork server has packages of such runs that these lack; see :class:`ProcessLauncher`."""
        scan, known_imports = self._scan_and_known_imports(request)
        # A new process costs more than most of the standard library's.
        lacking = [name for name in known_imports.modules if name not in modules and not is_standard(name)]
        if not lacking:
            return False
        server = self._servers.best_for(request, scan, current_attributes())
        return server is not None and any(name in server.modules for name in lacking)

    def _scan_and_known_imports(self, request: RunRequest) -> tuple[SourceScan, KnownImports]:
        """The scan of the code and of the files that it imports; and what such code was seen to import."""
        own, home = self._scan_of(request), first_path_entry(request)
        known_imports = self._history.imports_for(own, home, request.environment)
        if own.in_order and not known_imports.is_known:
            own = _with_imports_from(home, own, self._interpreter)
            known_imports = self._history.imports_before(own, request.environment) or known_imports
        scans = (self._judged(scan_file(file)) for file in known_imports.files)
        return reduce(or_, scans, own), known_imports

    def _scan_of(self, request: RunRequest) -> SourceScan:
        if request.path is not None:
            return self._judged(scan_file(str(Path(request.cwd, request.path))))
        return self._judged(scan_source(request.source or ""))

    def _judged(self, scan: SourceScan) -> SourceScan:
        """The scan; nothing is known of what is no code here, and may be code for another interpreter."""
        other = self._interpreter
        return OPAQUE if scan is NO_CODE and other is not None and not other.has_same_grammar else scan

    def _ensure_server(
        self,
        server: ForkServer | None,
        request: RunRequest,
        scan: SourceScan,
        known_imports: KnownImports,
        attributes: ProcessAttributes,
    ) -> None:
        """Start a fork server for such runs unless this one has all that they import."""
        if server is None and self._history.recall():
            scan, known_imports = self._scan_and_known_imports(request)
        modules = known_imports.modules
        if server is not None and server.has(modules):
            return
        is_special = not self._given and _has_third_party(modules)
        if (modules and scan.redirects) or (is_special and scan.looks_around):
            return
        spec = self._spec(request, scan, known_imports, attributes)
        if server is not None or not self._servers.defer(spec, request.environment, self._lease, scan):
            self._servers.ensure(spec, request.environment, self._lease)

    def _spec(
        self, request: RunRequest, scan: SourceScan, known_imports: KnownImports, attributes: ProcessAttributes
    ) -> ForkServerSpec:
        """What the fork server for such runs is made of."""
        imports = scan.imports if known_imports.imports is None else known_imports.imports
        is_special = not self._given and _has_third_party(known_imports.modules)
        return ForkServerSpec(
            executable=request.executable,
            modules=known_imports.modules,
            wanted=known_imports.wanted,
            imports=imports if is_special else frozenset[str](),
            environment=environment_for(request.environment),
            cwd=request.cwd,
            stack_bytes=request.limits.stack_bytes,
            attributes=attributes,
        )

    def learn(self, request: RunRequest, modules: Sequence[str], files: Sequence[str]) -> None:
        """Note what a run imported; see :class:`Launcher`."""
        if not self._learns or request.fresh:
            return
        with suppress(OSError):  # no descriptors left to look: the next run will tell
            _, known_imports = self._scan_and_known_imports(request)
            installed = self._without_foreign(modules)
            self._history.learn(self._scan_of(request), first_path_entry(request), installed, files, known_imports)
            self._prepare(request)

    def _without_foreign(self, modules: Sequence[str]) -> Sequence[str]:
        """The modules without those that are installed there under names of the standard library here."""
        if self._interpreter is None or self._interpreter.has_same_grammar:
            return modules
        foreign = sys.stdlib_module_names - self._interpreter.standard_modules
        return [name for name in modules if name.partition(".")[0] not in foreign]

    def _prepare(self, request: RunRequest) -> None:
        """Have the fork server for the next such run started."""
        attributes = current_attributes()
        scan, known_imports = self._scan_and_known_imports(request)
        server = self._servers.best_for(request, scan, attributes)
        self._ensure_server(server, request, scan, known_imports, attributes)

    def start_ahead(self, make_request: Callable[[], RunRequest]) -> None:
        """Start fork servers for the programs that earlier processes ran here; see :class:`Launcher`."""
        pool = self._servers  # not in the thread: a teardown may come before

        def work() -> None:
            time.sleep(AHEAD_AFTER_SECS)
            with suppress(OSError, InvalidRequestError):  # a shortage, or no working directory: runs will say so
                request = make_request()
                specs = self._specs_ahead(pool.history, request)
                if specs:
                    pool.start_ahead(specs, request.environment, self._lease)

        if self._remembers:
            with suppress(LaunchError):  # likewise
                start_thread(work, "isolated_magic fork servers ahead")

    def _specs_ahead(self, history: ImportHistory, request: RunRequest) -> list[ForkServerSpec]:
        attributes = current_attributes()
        known = history.ahead(request.environment)[:MOST_SERVERS]
        return [self._spec(request, SourceScan(), one, attributes) for one in known]

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:
        """Wait for the fork servers that are starting, one for this request among them; see :class:`Launcher`."""
        server = None
        with suppress(OSError):  # no descriptors left to look
            self._prepare(request)
            for spec in self._specs_ahead(self._history, request):
                self._servers.ensure(spec, request.environment, self._lease)
            if self._servers.wait(timeout_secs):
                scan, _ = self._scan_and_known_imports(request)
                server = self._servers.best_for(request, scan, current_attributes())
        self._warn(self._history.reasons)
        return server is not None and server.modules.issuperset(self._given)

    def preloaded(self) -> Preloaded:
        """What fork servers have imported; see :class:`Launcher`."""
        return self._lease.preloaded()

    def _warn(self, reasons: Mapping[str, str]) -> None:
        """Warn once of each module in ``preload`` that is not imported ahead."""
        for name in self._given:
            if name in reasons and name not in self._warned:
                self._warned.add(name)
                warnings.warn(f"{name} is not imported ahead: {reasons[name]}.", stacklevel=_level_of_user())

    def release(self) -> Callable[[], None]:
        """Start afresh; see :class:`Launcher`."""
        close_servers, close_guardian = self._lease.leave(), self._guardian.release()

        def close() -> None:
            close_servers()
            close_guardian()

        return close


def _close(lease: PoolLease, guardian: Guardian) -> None:
    lease.leave()()
    guardian.close()


def _with_imports_from(home: str, scan: SourceScan, interpreter: Interpreter | None) -> SourceScan:
    """The scan of a program together with those of the user's modules that it imports, found below ``home``."""
    found, rest = scan, list(scan.in_order)
    seen = set(rest)
    while rest:
        name = rest.pop()
        package = name.partition(".")[0]
        if not has_module_named({package}, home):
            if not any(has_module_named({package}, folder) for folder in package_folders(interpreter)):
                return replace(found, sets_anything=True)  # it is in another folder, or missing
            continue
        path = Path(home, *name.split("."))
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            imported = scan_file(str(file))
            found |= imported
            rest += [other for other in imported.in_order if other not in seen]
            seen.update(rest)
    return found


def _is_missing(name: str) -> bool:
    """Whether there is no package of this name. A module in a package is looked for when that is imported."""
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is None
    except (ImportError, ValueError):  # it is there, but odd
        return False


def _level_of_user() -> int:
    """The stack level, for a warning, of the code that has called this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == PACKAGE:
        level, frame = level + 1, frame.f_back
    return level


def _lacked(server: ForkServer, scan: SourceScan, home: str, messages: Messages) -> bool:
    """Whether a run had to import a package that its fork server lacked, or one that its text names."""
    if messages.imported is not None:
        installed = [name for name in messages.imported.installed if not is_standard(name)]
        return any(name.partition(".")[0] not in server.packages or name in scan.imports for name in installed)
    if messages.outcome is not None or not scan.imports:  # there was nothing to report
        return False
    packages = {name.partition(".")[0] for name in scan.imports} - server.packages
    with suppress(OSError):  # no descriptors left to look
        return any(not has_module_named({name}, home) for name in packages)
    return False


def _is_large(environment: Mapping[bytes, bytes]) -> bool:
    """Whether exec might refuse the environment; a fork would not."""
    return sum(map(len, environment)) + sum(map(len, environment.values())) > LARGEST_ENVIRONMENT_BYTES


def _has_third_party(modules: tuple[str, ...]) -> bool:
    return not all(map(is_standard, modules))
