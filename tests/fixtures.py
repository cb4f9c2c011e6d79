"""Fixtures that need nothing but the package itself: the virtual machine loads them without ``conftest.py``."""

from collections.abc import Iterator

import pytest

from isolated_magic import IsolatedSubprocessExecutor
from isolated_magic.launch.fork_server import servers


@pytest.fixture(scope="module", autouse=True)
def _templates_of_this_file() -> Iterator[None]:
    """As in a process of their own: executors of one file's tests share nothing with those of another's."""
    before, servers._registry = servers._registry, servers.PoolRegistry()
    yield
    servers._registry = before


@pytest.fixture(scope="session")
def _forked() -> Iterator[IsolatedSubprocessExecutor]:
    with IsolatedSubprocessExecutor(timeout_secs=60, launch="forked") as executor:
        yield executor


@pytest.fixture(params=["cold", "forked"])
def executor(request: pytest.FixtureRequest) -> Iterator[IsolatedSubprocessExecutor]:
    """One contract, however a run comes to life. The forked one keeps what it learned from test to test."""
    if request.param == "forked":
        executor = request.getfixturevalue("_forked")
        assert executor.warm_up()
        yield executor
        return
    with IsolatedSubprocessExecutor(timeout_secs=60, launch="cold") as executor:
        yield executor
