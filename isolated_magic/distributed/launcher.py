"""What stands where other executors have a launcher: the engine, made anew after a teardown and in a fork."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from isolated_magic.distributed.engines import engine_for
from isolated_magic.errors import InvalidRequestError, LaunchError
from isolated_magic.launch.base import Attach, Child, Launcher, Preloaded, to_nobody
from isolated_magic.launch.forks import forget_in_forks

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.distributed.engine import Engine
    from isolated_magic.executors.isolated import LaunchSettings
    from isolated_magic.request import RunRequest

ANSWER_SECS = 2.0  # for what workers have preloaded


class ClusterLauncher(Launcher):
    """See the module.

    Args:
        given: what the caller gave for a cluster; see :func:`engine_for`.
        settings: how runs start on workers.

    Raises:
        InvalidRequestError: see there.
        LaunchError: likewise.
        MissingLibraryError: likewise.
    """

    def __init__(self, given: object, settings: LaunchSettings) -> None:
        self._given = given
        self._settings = settings
        self._is_fork = False
        self._lock = threading.RLock()  # re-entered by a signal handler that tears down
        self._engine: Engine | None = engine_for(given, settings)
        forget_in_forks(self)

    @property
    def engine(self) -> Engine:
        """Carries what runs from now on.

        Raises:
            InvalidRequestError: there can be none in this fork.
            LaunchError: no scheduler answers at the address.
        """
        with self._lock:
            if self._engine is not None and self._engine.gone and isinstance(self._given, str):
                self.release()()  # and connect again
            if self._engine is None:
                if self._is_fork and not isinstance(self._given, str):
                    raise InvalidRequestError(
                        f"This process is a fork, and the {type(self._given).__name__} works only in the process "
                        "that made it: make one here, and a DistributedExecutor of that."
                    )
                self._engine = engine_for(self._given, self._settings)
            return self._engine

    @property
    def current(self) -> Engine | None:
        """The engine, unless nothing has run since the last teardown."""
        with self._lock:
            return self._engine

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:  # noqa: ARG002
        """Nothing is launched here."""
        raise LaunchError("Runs of a DistributedExecutor are launched by its workers.")

    def start_rows(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Likewise."""
        return self.launch(request, attach)

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:  # noqa: ARG002 - all workers alike
        """See :class:`Launcher`."""
        return self.engine.warm_up(timeout_secs)

    def preloaded(self) -> Preloaded:
        """What any worker has imported ahead."""
        engine = self.current
        if engine is None:
            return Preloaded()
        answers = engine.ask_all("preloads", timeout_secs=ANSWER_SECS).values()
        found = [answer for answer in answers if isinstance(answer, Preloaded)]
        packages = {name for each in found for name in each.packages}
        refused = {name: why for each in found for name, why in each.refused.items() if name not in packages}
        return Preloaded(tuple(sorted(packages)), dict(sorted(refused.items())))

    def release(self) -> Callable[[], None]:
        """See :class:`Launcher`."""
        with self._lock:
            engine, self._engine = self._engine, None
        return (lambda: None) if engine is None else engine.close

    def forget(self) -> None:
        """In a fork: threads of the engine, and its connections, are the original's."""
        self._lock = threading.RLock()
        self._engine = None
        self._is_fork = True
