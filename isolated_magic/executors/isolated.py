"""A new process for every run: for tenants, keys and configurations that differ."""

from __future__ import annotations

from isolated_magic.executors.base import DEFAULT_TIMEOUT_SECS, Executor
from isolated_magic.launch.cold import ColdLauncher


class IsolatedSubprocessExecutor(Executor):
    """Runs each piece of code in a new Python process with an environment of its own.

    ::

        with IsolatedSubprocessExecutor(timeout_secs=30) as executor:
            executor.execute("len(data['answer'])", {"answer": "yes"}, env_vars={"TENANT_ID": "t1"})

    Args:
        timeout_secs: seconds that a run may take unless its call says otherwise; infinity for no limit.

    Raises:
        InvalidRequestError: the timeout is no number greater than zero.
        UnsupportedPlatformError: there are no processes here.
    """

    def __init__(self, timeout_secs: float = DEFAULT_TIMEOUT_SECS) -> None:
        super().__init__(ColdLauncher(), "isolated_subprocess", timeout_secs)
