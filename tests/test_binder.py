"""What Binder would do with `binder/`, in a fresh virtual environment and a copy of the repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TIMEOUT_SECS = 600


def test_the_files_in_binder_make_a_place_where_the_quickstart_runs(tmp_path):
    repository = tmp_path / "repository"
    unwanted = shutil.ignore_patterns(".git", ".venv", ".build", "__pycache__", ".*_cache", "*.egg-info")
    shutil.copytree(ROOT, repository, ignore=unwanted)
    home = tmp_path / "home"
    home.mkdir()
    bin_folder = tmp_path / "venv" / "bin"
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment = {**inherited, "HOME": str(home), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    environment.setdefault("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))  # packages that are there already

    def run(*command):
        done = subprocess.run(
            command,
            cwd=repository,
            env=environment,
            timeout=TIMEOUT_SECS,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    run(sys.executable, "-m", "venv", str(tmp_path / "venv"))
    run("python", "-m", "pip", "install", "--quiet", "--no-compile", "--requirement", "binder/requirements.txt")
    run("bash", "binder/postBuild")
    wanted = (repository / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    assert tuple(map(int, wanted.split("."))) >= (3, 11)
    said = run("python", "notebooks/demo.py", str(tmp_path / "out"))
    assert "closeness" in said
    assert "no difference shown" in said
    for page in ("quickstart.html", "scoring_a_dataset.html"):
        assert (tmp_path / "out" / page).stat().st_size > 10_000
