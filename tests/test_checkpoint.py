"""Checkpoints: what an evaluation has done is in a file, and the next one goes on from there."""

import json
import os
from pathlib import Path

import pytest

from isolated_magic import IsolatedSubprocessExecutor

CODE = "import os\nwith open(os.environ['RAN'], 'a') as file:\n    file.write(f'{data[\"n\"]}\\n')\n1 / (data['n'] - 2)"
ROWS = [{"n": n} for n in range(6)]
FAILED = {2}


@pytest.fixture(scope="module")
def executor():
    with IsolatedSubprocessExecutor() as executor:
        yield executor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the file to which each run of CODE appends its row."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    return tmp_path


def taken_ran():
    """The rows that ran since this was last called, sorted."""
    file = Path(os.environ["RAN"])
    ran = sorted(map(int, file.read_text().split())) if file.exists() else []
    file.unlink(missing_ok=True)
    return ran


def lines_of(file="c.jsonl"):
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


class TestResuming:
    def test_failed_rows_run_again_and_scored_ones_do_not(self, executor, folder):
        first = executor.evaluate(CODE, ROWS, checkpoint="c.jsonl")
        assert taken_ran() == [0, 1, 2, 3, 4, 5]
        second = executor.evaluate(CODE, ROWS, checkpoint=Path("c.jsonl"))
        assert taken_ran() == [2]
        assert second.rows == first.rows
        assert [row.row for row in second] == ROWS
        assert [row.is_resumed for row in second] == [n not in FAILED for n in range(6)]
        assert first.notes == ()
        assert second.notes == ("5 of 6 rows come from the checkpoint c.jsonl. 1 that had failed ran again.",)
