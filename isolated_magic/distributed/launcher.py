"""What stands where other executors have a launcher: nothing is launched here, but all of it can be ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from isolated_magic.errors import LaunchError
from isolated_magic.launch.base import Attach, Child, Launcher, to_nobody

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.distributed.engine import Engine
    from isolated_magic.request import RunRequest


class ClusterLauncher(Launcher):
    """See the module.

    Args:
        engine: of the executor.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:  # noqa: ARG002
        """Nothing is launched here."""
        raise LaunchError("Runs of a DistributedExecutor are launched by its workers.")

    def start_rows(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:
        """Likewise."""
        return self.launch(request, attach)

    def warm_up(self, request: RunRequest, timeout_secs: float) -> bool:  # noqa: ARG002 - all workers alike
        """See :class:`Launcher`."""
        return self._engine.warm_up(timeout_secs)

    def release(self) -> Callable[[], None]:
        """See :class:`Launcher`."""
        return self._engine.close
