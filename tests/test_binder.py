"""What Binder would do with `binder/`, in a fresh virtual environment and a copy of the repository."""

import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import suppress
from pathlib import Path

from isolated_magic.packages import uv
from tests.processes import HANG_GUARD_SECS, wait_until

ROOT = Path(__file__).parents[1]
TIMEOUT_SECS = 600


def first_page(bin_folder, repository, environment):
    """Where the server of this environment leads who opens its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [bin_folder / "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"],
        cwd=repository,
        env={**environment, "JUPYTER_TOKEN": "token"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def address():
        assert server.poll() is None
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/?token=token") as page:
            return page.url

    try:
        return urllib.parse.urlsplit(wait_until(address)).path
    finally:
        server.terminate()
        server.wait(HANG_GUARD_SECS)


def test_the_files_in_binder_make_a_place_where_the_quickstart_runs(tmp_path):
    repository = tmp_path / "repository"
    unwanted = shutil.ignore_patterns(".git", ".venv", ".build", "__pycache__", ".*_cache", "*.egg-info")
    shutil.copytree(ROOT, repository, ignore=unwanted)
    home = tmp_path / "home"
    home.mkdir()
    bin_folder = tmp_path / "venv" / "bin"
    inherited = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    environment = {**inherited, "HOME": str(home), "PATH": f"{bin_folder}:{os.environ['PATH']}"}
    environment.setdefault("UV_CACHE_DIR", str(Path.home() / ".cache" / "uv"))  # packages that are there already

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
    python = str(bin_folder / "python")  # by uv: pip would do the same in ten times the time
    run(uv.find(), "pip", "install", "--quiet", "--python", python, "--requirement", "binder/requirements.txt")
    run("bash", "binder/postBuild")
    opened = first_page(bin_folder, repository, environment)
    assert opened == "/lab/tree/notebooks/quickstart.ipynb"
    assert (repository / opened.removeprefix("/lab/tree/")).exists()
    wanted = (repository / "binder" / "runtime.txt").read_text().strip().removeprefix("python-")
    assert tuple(map(int, wanted.split("."))) >= (3, 11)
    said = run("python", "notebooks/demo.py", str(tmp_path / "out"))
    assert "closeness" in said
    assert "no difference shown" in said
    for page in ("quickstart.html", "scoring_a_dataset.html"):
        assert (tmp_path / "out" / page).stat().st_size > 10_000
