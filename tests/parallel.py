"""Which tests a worker of pytest-xdist runs one after another, and which it starts with."""

import os
import re
from typing import Any

import pytest

# Tests that share a slow fixture are one group: only one worker starts a daemon, a browser, a template of many
# packages. The slowest groups come first, so that no worker has one left when the others are done.
GROUPS = {
    "docker": r"/test_docker(_daemon|_command)?\.py|/test_(contract|row_stream)\.py.*\[docker|_in_containers$",
    "binder": r"/test_binder\.py",
    "programs": r"/test_differential\.py",
    "browser": r"/test_(quickstart|jupyterlab|displays_browser|themes)\.py",
}
LAUNCH = re.compile(r"[\[-](cold|forked|process|distributed)[]-]")


def group_of(node_id: str) -> str:
    """One of GROUPS; else the file, and how its runs are launched where it has its tests for each way."""
    for group, pattern in GROUPS.items():
        if re.search(pattern, node_id):
            return group
    launch = LAUNCH.search(node_id)
    return node_id.partition("::")[0] + (launch[1] if launch else "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Groups by the ids of tests, whatever --dist says.

    The marks of --dist loadgroup do nothing with pytest 9.2: https://github.com/pytest-dev/pytest-xdist/issues/1386
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    config.option.loadscopereorder = False  # by the number of their tests
    return Groups(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = list(dict.fromkeys([*GROUPS, *(group_of(item.nodeid) for item in items)]))
    items.sort(key=lambda item: order.index(group_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One more than there are cores: tests wait for processes most of the time."""
    return 1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
