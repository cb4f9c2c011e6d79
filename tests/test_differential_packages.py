"""Forked runs against cold ones where both have packages or a Python of their own, as in `test_differential.py`."""

import pytest

from isolated_magic import IsolatedSubprocessExecutor
from tests.corpus import PROGRAMS, comparing
from tests.corpus.comparing import CAN_FORK
from tests.interpreters import other_python
from tests.test_differential import check, run
from tests.wheels import install_from, wheel

# The others look at nothing that an environment over another one could change, and take minutes.
KINDS = 3


@pytest.fixture(scope="module", params=["packages", "python"])
def settings(request, tmp_path_factory):
    """Of executors whose runs have an environment over that of the tests, or another Python."""
    folder = tmp_path_factory.mktemp("environment")
    wheel(folder / "shelf", "tinyold", "1.0")
    with comparing.plain_environment(), pytest.MonkeyPatch.context() as patch:
        install_from(folder / "shelf", folder, patch)
        given = {"packages": ["tinyold"]}
        if request.param == "python":
            other = other_python()
            if other is None:
                pytest.skip("there is no other version of Python")
            given = {"python": other.executable}
        yield {"timeout_secs": 60, **given}


@pytest.fixture(scope="module")
def cold(settings):
    with IsolatedSubprocessExecutor(launch="cold", **settings) as executor:
        yield executor


@pytest.fixture(scope="module")
def forked(settings):
    with IsolatedSubprocessExecutor(launch="forked", **settings) as executor:
        executor.warm_up()
        yield executor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


CHOSEN = {
    name: program
    for number, (name, program) in enumerate(PROGRAMS.items())
    if program.runs_here and not program.alone and (program.needs or number % KINDS == 0)
}


@pytest.mark.parametrize("program", CHOSEN.values(), ids=CHOSEN)
def test_a_program_cannot_tell_how_it_was_launched(program, settings, cold, forked, folder):
    for module in program.needs:
        pytest.importorskip(module)
    expected, *_ = run(cold, program, folder)
    if "packages" in settings:  # what another Python says may be something else
        check(program, expected)
    first, *_ = run(forked, program, folder)
    assert first == expected
    forked.warm_up()
    last, _, launch = run(forked, program, folder)
    assert last == expected
    if "packages" in settings and program.launch == "cold" and CAN_FORK:
        assert launch == "cold"
