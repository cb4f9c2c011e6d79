"""What nbval leaves out where a machine lacks it: cells tagged `redis` need its server, `docker` a daemon."""

from __future__ import annotations

import os
import shutil
from functools import cache

import pytest

from isolated_magic import DockerExecutor, MissingLibraryError

SERVERS = {"redis": "redis-server"}
IMAGES: dict[str, list[str]] = {"isolated-magic": [], "node:22": ["node", "-"], "perl:5": ["perl", "-"]}


@cache
def why_no_containers() -> str:
    """Why cells in containers cannot run here, in a sentence; empty if they can."""
    try:
        for image, command in IMAGES.items():
            with DockerExecutor(image=image, command=command, standby=0) as executor:
                error = executor.run("").error
            if error is not None and error.kind == "launch":
                return error.summary
    except MissingLibraryError as problem:
        return str(problem)
    return ""


def why_not(tag: str) -> str:
    """Why cells with this tag cannot run here; empty if they can.

    A server that is not installed fails them where no skip is allowed, as in CI. A daemon does not: the tests
    start one of their own, and run those cells against it (`tests/test_docker_command.py`).
    """
    if tag == "docker":
        return why_no_containers()
    if tag not in SERVERS or shutil.which(SERVERS[tag]) or os.environ.get("ISOLATED_MAGIC_ALLOW_NO_SKIPS"):
        return ""
    return f"{SERVERS[tag]} is not installed"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the cells that need what is not here."""
    for item in items:
        cell = getattr(item, "cell", None)  # of nbval's items
        for tag in cell.metadata.get("tags", ()) if cell else ():
            if reason := why_not(tag):
                item.add_marker(pytest.mark.skip(reason=reason))
