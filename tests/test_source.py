"""--save and run: a cell as a file, which runs as the cell does, here, in the library and in Opik."""

import subprocess
import sys
from pathlib import Path

import pytest

from isolated_magic import IsolatedSubprocessExecutor
from tests.kernels import kernel

METRIC = """
from __future__ import annotations

from opik.evaluation.metrics import base_metric, score_result


class Shorter(base_metric.BaseMetric):
    def score(self, output: str, reference: str, **ignored) -> score_result.ScoreResult:
        return score_result.ScoreResult(name="shorter", value=float(len(output) < len(reference)))
"""


@pytest.fixture(scope="module")
def cells():
    with kernel() as started:
        yield started


@pytest.fixture
def path(cells, tmp_path):
    cells.ok(f"%cd -q {tmp_path}")
    return tmp_path / "metrics" / "relevance.py"


def test_the_file_runs_unchanged_everywhere(cells, path):
    cells.ok("row = {'output': 'ab', 'reference': 'abc'}")
    environment = "-e OPIK_TRACK_DISABLE=true"
    shown = cells.ok(f"%%isolated {environment} --data row --save metrics/relevance.py\n{METRIC}")
    assert shown.stdout == "Wrote metrics/relevance.py, in the new folder metrics\n"
    assert METRIC in path.read_text()
    as_cell = shown.metadata["isolated_magic"]
    for line in ("%isolated --file metrics/relevance.py", "%isolated run metrics/relevance.py"):
        assert cells.ok(f"{line} --data row {environment}").metadata["isolated_magic"] == as_cell
    with IsolatedSubprocessExecutor() as executor:
        data = {"output": "ab", "reference": "abc"}
        assert executor.execute(str(path), data, {"OPIK_TRACK_DISABLE": "true"}) == as_cell
    program = (
        "from relevance import Shorter\n"
        "score = Shorter(track=False).score(output='ab', reference='abc')\n"
        "print(score.name, score.value)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=path.parent,
        env={"OPIK_TRACK_DISABLE": "true", "OPIK_ANALYTICS_ENABLE": "false", "OPIK_SENTRY_ENABLE": "false"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "shorter 1.0\n"


def test_errors_have_the_line_numbers_of_the_cell(cells, path):
    code = "x = 1\n1 / (1 - data.get('one', 1))"
    cells.ok(f"%%isolated -d one=0 --save metrics/relevance.py\n{code}")
    assert cells.run(f"%%isolated\n{code}").evalue.endswith("(line 3)")
    assert "line 3" in cells.run("%isolated run metrics/relevance.py").evalue


def test_each_run_of_the_cell_writes_it_again(cells, path):
    for body in ("0.5\n", "0.75"):
        cells.ok(f"%%isolated --save metrics/relevance.py\n{body}")
        assert path.read_text().split("\n", 1)[1].strip() == body.strip()
        assert cells.ok("%isolated run metrics/relevance.py").text.split()[1] == body.strip()


def test_no_secret_of_the_line_is_written(cells, path):
    cells.ok("token = 's3cret-value'")
    cells.ok("%%isolated --secret TOKEN=$token -e A={token} --save metrics/relevance.py\n0.5")
    assert "s3cret" not in path.read_text()


def test_what_somebody_else_wrote_stays(cells, path):
    path.parent.mkdir()
    path.write_text("precious = 1\n")
    shown = cells.run("%%isolated --save metrics/relevance.py\n0.5")
    assert shown.ename == "OptionError"
    assert "is there already" in shown.evalue
    assert path.read_text() == "precious = 1\n"


def test_what_somebody_edited_stays_and_the_run_goes_on(cells, path):
    cells.ok("%%isolated --save metrics/relevance.py\n0.5")
    path.write_text(path.read_text().replace("0.5", "0.6"))
    shown = cells.ok("%%isolated --save metrics/relevance.py\n0.7")
    assert shown.text.split()[1] == "0.7"
    assert shown.stdout.startswith("Not written: metrics/relevance.py was edited since the cell wrote it.")
    assert "delete the file, or give --save another name" in shown.stdout
    assert "0.6" in path.read_text()


def test_a_failed_run_writes_nothing(cells, path):
    assert cells.run("%%isolated --save metrics/relevance.py\n1/0").stdout == "Not written: the run failed.\n"
    assert not path.parent.exists()
    cells.ok("%%isolated --save metrics/relevance.py\n0.5")
    before = path.read_text()
    shown = cells.run("%%isolated --save metrics/relevance.py\n1/0")
    assert shown.ename == "RunFailedError"
    assert shown.stdout == "Not written: the run failed; metrics/relevance.py is as it was.\n"
    assert path.read_text() == before


@pytest.mark.parametrize(("name", "is_written"), [("latin-1", False), ("no-such", False), ("UTF8", True)])
def test_a_line_that_names_an_encoding(cells, path, name, is_written):
    shown = cells.run(f"%%isolated --save metrics/relevance.py\n# -*- coding: {name} -*-\nfloat('é' == '\\xe9')")
    assert (shown.ename is None) == is_written == path.exists()
    if is_written:
        assert cells.ok("%isolated run metrics/relevance.py").text.split()[1] == "1"
    else:
        assert "names an encoding" in shown.evalue


def test_a_mode_and_a_link_stay(cells, path):
    target = path.parent.parent / "target.py"
    cells.ok("%%isolated --save target.py\n0.5")
    target.chmod(0o640)
    path.parent.mkdir()
    path.symlink_to(target)
    cells.ok("%%isolated --save metrics/relevance.py\n0.6")
    assert path.is_symlink()
    assert "0.6" in target.read_text()
    assert target.stat().st_mode & 0o777 == 0o640


def test_the_new_folder_is_told_once(cells, path):
    assert cells.ok("%%isolated --save metrics/relevance.py\n0.5").stdout.endswith(", in the new folder metrics\n")
    assert cells.ok("%%isolated --save metrics/relevance.py\n0.5").stdout == "Wrote metrics/relevance.py\n"
    assert cells.ok("%%isolated --save relevance.py\n0.5").stdout == "Wrote relevance.py\n"
    assert cells.ok("%%isolated --save ../beside/x.py\n0.5").stdout.endswith(", in the new folder ../beside\n")


@pytest.mark.parametrize(
    "name", ["{folder}/new/x.py", "new/newer/x.py", "~/no_such_folder/x.py", "link.py", "dangling/x.py"]
)
def test_no_other_folder_is_made(cells, tmp_path, path, name):
    (tmp_path / "link.py").symlink_to(tmp_path / "away" / "x.py")
    (tmp_path / "dangling").symlink_to(tmp_path / "away")
    before = sorted(tmp_path.rglob("*"))
    shown = cells.run(f"%%isolated --save {name.format(folder=tmp_path)}\nprint('it ran')\n0.5")
    assert shown.ename == "OptionError"
    assert "there is no folder" in shown.evalue
    assert shown.stdout == ""
    assert sorted(tmp_path.rglob("*")) == before
    assert not (Path.home() / "no_such_folder").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--save metric", "ends in .py"),
        ("--save a.py --file b.py", "leave --save out"),
        ("--save a.py --bg", "give one of them"),
        ("--save /dev/null/x.py", "cannot be written: Not a directory"),
        ("--save {name}.py", "{name}"),
    ],
)
def test_a_wrong_line(cells, path, line, said):
    shown = cells.run(f"%%isolated {line}\n0.5")
    if shown.ename is None:  # braces are nothing special in a path
        assert Path(path.parent.parent, "{name}.py").exists()
    else:
        assert said in shown.evalue


def test_without_a_cell(cells, path):
    assert "write the code below %%isolated" in cells.run("%isolated --save a.py").evalue
    assert "takes a file first" in cells.run("%isolated run").evalue
    assert "takes a file first" in cells.run("%isolated run --data x").evalue
    assert "%isolated run, with one %" in cells.run("%%isolated run a.py\n1").evalue


def test_nothing_else_is_left_in_the_folder(cells, path):
    cells.ok("%%isolated --save metrics/relevance.py\n0.5")
    cells.ok("%%isolated --save metrics/relevance.py\n0.6")
    assert [file.name for file in path.parent.iterdir()] == ["relevance.py"]
