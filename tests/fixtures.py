"""Fixtures that need only the package itself: the virtual machine tests load them without ``conftest.py``."""

from collections.abc import Iterator

import pytest

from isolated_magic import IsolatedSubprocessExecutor, ProcessExecutor
from isolated_magic.launch.fork_server import pools


@pytest.fixture(scope="module", autouse=True)
def _fork_servers_of_this_file() -> Iterator[None]:
    """Give each test file its own registry of fork servers, as if it ran in its own process."""
    before, pools._registry = pools._registry, pools.PoolRegistry()
    yield
    pools._registry = before


@pytest.fixture(scope="session")
def _forked() -> Iterator[IsolatedSubprocessExecutor]:
    with IsolatedSubprocessExecutor(timeout_secs=300, launch="forked") as executor:
        yield executor


@pytest.fixture(params=["cold", "forked"])
def executor(request: pytest.FixtureRequest) -> Iterator[IsolatedSubprocessExecutor]:
    """One executor for each launch method. The forked one keeps its import history between tests."""
    if request.param == "forked":
        executor = request.getfixturevalue("_forked")
        assert executor.warm_up()
        yield executor
        return
    with IsolatedSubprocessExecutor(timeout_secs=300, launch="cold") as executor:
        yield executor


@pytest.fixture(scope="module")
def workers() -> Iterator[ProcessExecutor]:
    """Two workers, for tests that only need their runs to be fast."""
    with ProcessExecutor(workers=2) as executor:
        yield executor
