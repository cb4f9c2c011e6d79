"""Cells whose server a machine lacks are skipped under nbval, with the reason; where no skip is allowed, they run."""

import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from tests.conftest import NOTEBOOKS

CELLS = [
    new_code_cell("n = 1"),
    new_code_cell("n = 2", metadata={"tags": ["redis"]}),
    new_code_cell("assert n == 1"),
]


@pytest.fixture
def run_nbval(tmp_path):
    """Runs nbval on a notebook beside the conftest.py of ours, where no server is on PATH."""
    shutil.copy(NOTEBOOKS / "conftest.py", tmp_path)
    nbformat.write(new_notebook(cells=CELLS), tmp_path / "some.ipynb")
    (tmp_path / "bin").mkdir()

    def run(**variables):
        environment = {**os.environ, "PATH": str(tmp_path / "bin"), **variables}
        if not variables:
            environment.pop("ISOLATED_MAGIC_ALLOW_NO_SKIPS", None)
        command = [sys.executable, "-m", "pytest", "--nbval", "--current-env", "-rs", "-p", "no:cacheprovider"]
        command += ["-p", "no:opik", "--rootdir", ".", "some.ipynb"]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        ).stdout

    return run


def test_skipped_with_the_reason(run_nbval):
    said = run_nbval()
    assert "2 passed, 1 skipped" in said
    assert "some.ipynb: redis-server is not installed" in said


def test_run_where_no_skip_is_allowed(run_nbval):
    assert "1 failed, 2 passed" in run_nbval(ISOLATED_MAGIC_ALLOW_NO_SKIPS="1")
