"""What nbval leaves out: cells tagged `redis` without redis-server, those tagged `docker` without a daemon."""

from __future__ import annotations

import os
import shutil
from functools import cache

import pytest

from isolated_magic import DockerExecutor, MissingLibraryError

IMAGES: dict[str, list[str]] = {"isolated-magic": [], "node:22": ["node", "-"], "perl:5": ["perl", "-"]}


def why_no_redis() -> str:
    """Why such cells cannot run here; empty if they can. Where no skip is allowed, they run, and fail."""
    if shutil.which("redis-server") or os.environ.get("ISOLATED_MAGIC_ALLOW_NO_SKIPS"):
        return ""
    return "redis-server is not installed"


@cache
def why_no_containers() -> str:
    """Likewise, in a sentence. `tests/test_docker_command.py` runs these cells with a daemon of the tests' own."""
    try:
        for image, command in IMAGES.items():
            with DockerExecutor(image=image, command=command, standby=0) as executor:
                error = executor.run("").error
            if error is not None and error.kind == "launch":
                return error.summary
    except MissingLibraryError as problem:
        return str(problem)
    return ""


REASONS = {"redis": why_no_redis, "docker": why_no_containers}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the cells that need what is not here."""
    for item in items:
        cell = getattr(item, "cell", None)  # of nbval's items
        for tag in cell.metadata.get("tags", ()) if cell else ():
            if tag in REASONS and (missing := REASONS[tag]()):
                item.add_marker(pytest.mark.skip(reason=missing))
