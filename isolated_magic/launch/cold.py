"""A launcher that starts a new interpreter for each run."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from isolated_magic.launch.base import Attach, Child, ProcessLauncher, StartedWorker, require_processes, to_nobody
from isolated_magic.launch.guardian import Guardian
from isolated_magic.launch.spawn import connected, current_attributes, role_messages, run_messages, send_at_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.request import RunRequest


class ColdLauncher(ProcessLauncher):
    """Starts ``sys.executable`` for each run, all under one guardian."""

    def __init__(self) -> None:
        require_processes()
        self._guardian = Guardian()
        weakref.finalize(self, self._guardian.close)  # for a launcher that is dropped without release()

    def launch(self, request: RunRequest, attach: Attach = to_nobody) -> tuple[Child, bytes]:  # noqa: ARG002 - never waits
        """Start a child for this request; see :class:`Launcher`."""
        messages = run_messages(request, current_attributes())
        return connected(self._guardian.start_run), messages

    def start_worker(self, request: RunRequest) -> StartedWorker:
        """Start a child for many runs such as this one; see :class:`ProcessLauncher`."""
        messages = role_messages("worker", request, current_attributes())
        child = connected(self._guardian.start_run)
        return StartedWorker(child, send_at_once(child, messages), frozenset())

    def release(self) -> Callable[[], None]:
        """Start afresh; see :class:`Launcher`."""
        return self._guardian.release()
