"""The tests on every supported Python that this machine has: `make test-all`, `make test-others`.

Sessions are named `full-3.12` (all of `make test`) and `quick-3.12` (its fast part). The file lies here, not at
the top of the checkout, because work on one Python does not need it: `nox -f .ci/noxfile.py --list`.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import nox

from isolated_magic.packages import uv

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
OWN = f"{sys.version_info.major}.{sys.version_info.minor}"
ROOT = Path(__file__).resolve().parents[1]

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.reuse_venv = "yes"


def interpreter(version: str) -> str | None:
    """The path of an interpreter of this version; None where the machine has none.

    By the finder of `--python`, as nox stops at the programs of pyenv that stand for an interpreter.
    """
    if version == OWN:
        return sys.executable
    try:
        return uv.find_interpreter(version)
    except uv.UvError:
        return None


def quick(session: nox.Session) -> None:
    """Run the most telling tests of each subject."""
    session.chdir(ROOT)
    session.install("--quiet", "--editable", ".[dev]")
    session.run("python", "-m", "pytest", "-p", "no:opik", "-p", "no:nbval", "-n", "auto", "-m", "quick", "tests")


def full(session: nox.Session) -> None:
    """Run everything that `make test` runs."""
    session.chdir(ROOT)
    session.install("--quiet", "--editable", ".[dev]")
    environment = Path(session.virtualenv.location).resolve()
    (environment / ".installed").touch()  # so that make installs nothing into it
    session.run(
        "make",
        "test",
        f"PYTHON={environment / 'bin/python'}",
        f"VENV={environment}",
        f"BUILD={environment}-build",
        external=True,
    )


def register(run: Callable[[nox.Session], None], version: str) -> None:
    """Make a session of this name and version, or one that says that the interpreter is missing."""
    name = f"{run.__name__}-{version}"
    tags = [run.__name__, *(["others"] if run is quick and version != OWN else [])]
    python = interpreter(version)
    if python is not None:
        nox.session(name=name, python=python, tags=tags, venv_params=["--seed"])(run)  # with pip, as usual
        return

    @nox.session(name=name, python=False, tags=tags)
    def missing(session: nox.Session) -> None:
        """Say that this interpreter is missing."""
        session.skip(f"there is no Python {version} on this machine")


for tested in VERSIONS:
    register(quick, tested)
    register(full, tested)
