"""What nbval leaves out where a machine lacks it: cells tagged `docker` need a container daemon, and images."""

from __future__ import annotations

from functools import cache

import pytest

from isolated_magic import DockerExecutor, MissingLibraryError

IMAGES: dict[str, list[str]] = {"isolated-magic": [], "node:22": ["node", "-"], "perl:5": ["perl", "-"]}


@cache
def why_no_containers() -> str:
    """Why such cells cannot run here, in a sentence; empty if they can."""
    try:
        for image, command in IMAGES.items():
            with DockerExecutor(image=image, command=command, standby=0) as executor:
                error = executor.run("").error
            if error is not None and error.kind == "launch":
                return error.summary
    except MissingLibraryError as problem:
        return str(problem)
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the cells that need what is not here."""
    for item in items:
        cell = getattr(item, "cell", None)  # of nbval's items
        if cell and "docker" in cell.metadata.get("tags", ()) and (missing := why_no_containers()):
            item.add_marker(pytest.mark.skip(reason=missing))
