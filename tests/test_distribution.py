"""The wheel and the sdist: what is in them, and that the wheel works in an empty environment, away from the checkout."""

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.version import Version

import isolated_magic
from isolated_magic.packages import uv

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "isolated_magic"
TIMEOUT_SECS = 300
SMOKE = '''
import sys
from pathlib import Path

from IPython.core.interactiveshell import InteractiveShell

import isolated_magic
from isolated_magic import IsolatedSubprocessExecutor, ProcessExecutor

installed = Path(isolated_magic.__file__)
assert installed.is_relative_to(sys.prefix), installed

shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "isolated_magic")
cell = """%%isolated -e TENANT_ID=t1 --data row -o result
import os
print("scoring for", os.environ["TENANT_ID"])
{"scores": [{"name": "length", "value": len(data["answer"]) / 10}]}"""
shell.user_ns["row"] = {"answer": "yes"}
shell.run_cell(cell).raise_error()
assert shell.user_ns["result"]["length"].value == 0.3
shell.run_line_magic("unload_ext", "isolated_magic")

code = "len(data['answer']) / 10"
for executor in (
    IsolatedSubprocessExecutor(launch="cold"),
    IsolatedSubprocessExecutor(),
    ProcessExecutor(workers=1),
):
    with executor:
        executor.warm_up()
        assert executor.execute(code, {"answer": "yes"})["scores"][0]["value"] == 0.3
        assert executor.evaluate(code, [{"answer": "yes"}, {"answer": "no"}]).summary["scored"] == 2
print("worked with", isolated_magic.__version__)
'''


def run(*command: str | Path, cwd: Path | None = None) -> str:
    left_out = {"PYTHONPATH", "VIRTUAL_ENV"}
    environment = {name: value for name, value in os.environ.items() if name not in left_out}
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env=environment,
        timeout=TIMEOUT_SECS,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both files by their kind. The wheel is built from the sdist, which therefore lacks nothing."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def test_the_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        for name in names:
            assert archive.read(name) == (ROOT / name).read_bytes(), name
    files = {str(file.relative_to(ROOT)) for file in PACKAGE.rglob("*") if file.is_file()}
    assert names == {name for name in files if "__pycache__" not in name}
    assert {"isolated_magic/child/start.py", "isolated_magic/py.typed"} <= names


def test_the_sdist_holds_what_a_test_needs_and_no_leftovers(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("Makefile", "tests/conftest.py", "notebooks/quickstart.ipynb", ".ci/noxfile.py", "LICENSE"):
        assert wanted in names
    assert not [
        name for name in names if re.search(r"__pycache__|_cache/|\.venv|\.build|checkpoints|\.pyc$", name)
    ]


def test_the_metadata_is_complete(built):
    with zipfile.ZipFile(built["wheel"]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
        assert any(name.endswith("/licenses/LICENSE") for name in archive.namelist())
    assert metadata["Version"] == isolated_magic.__version__ == str(Version(isolated_magic.__version__))
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    assert metadata["Summary"]
    assert metadata["Author"]
    assert metadata["Description-Content-Type"] == "text/markdown"
    versions = re.findall(r":: (3\.\d+)$", "\n".join(metadata.get_all("Classifier")), re.MULTILINE)
    assert versions == ["3.11", "3.12", "3.13"]
    assert {"dask", "docker", "notebooks", "packages", "telemetry"} <= {*metadata.get_all("Provides-Extra")}


def test_twine_has_nothing_to_say(built):
    said = run(sys.executable, "-m", "twine", "--no-color", "check", "--strict", *built.values())
    assert said.count("PASSED") == 2, said


def test_the_wheel_works_in_an_empty_environment(built, tmp_path):
    python = tmp_path / "venv" / "bin" / "python"
    run(uv.find(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    run(uv.find(), "pip", "install", "--quiet", "--python", python, built["wheel"])
    run(uv.find(), "pip", "check", "--python", python)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "smoke.py").write_text(SMOKE)
    said = run(python, "smoke.py", cwd=elsewhere)
    assert "scoring for t1" in said
    assert said.splitlines()[-1] == f"worked with {isolated_magic.__version__}"


def test_the_changelog_is_kept_as_keep_a_changelog_says():
    text = (ROOT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d{2}-\d{2}", version) for version in versions[1:])
    assert {*re.findall(r"^### (.*)$", text, re.MULTILINE)} <= {
        "Added",
        "Changed",
        "Deprecated",
        "Removed",
        "Fixed",
        "Security",
    }
    assert not re.findall(r"^#{4,} ", text, re.MULTILINE)


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == isolated_magic.__version__
    assert citation["title"] == "isolated_magic"
    assert citation["license"] == "MIT"
    assert citation["authors"]


def test_the_workflow_runs_what_ci_runs_and_what_make_knows():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    commands = {
        job: [step["run"] for step in told["steps"] if "run" in step] for job, told in workflow["jobs"].items()
    }
    assert any(command.endswith(".ci/run") for command in commands["linux"])
    assert commands["macos"] == ["make quick"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    script = (ROOT / ".ci" / "run").read_text()
    called = {*re.findall(r"\bmake ([a-z][\w-]*)", script), *re.findall(r"\btest-\w+", script)}
    assert {"test", "test-others", "test-user", "test-vm"} <= called <= {*targets}


def test_make_help_tells_of_every_target():
    told = {*re.findall(r"\bmake ([\w-]+)", run("make", "--no-print-directory", "help", cwd=ROOT))}
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    inner = {"help", "check", "test-native", "test-metrics", "test-notebooks", "test-notebooks-again"}
    assert told >= {*targets} - inner
