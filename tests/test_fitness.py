"""Workers that cannot run code as this process would are found and named before the first row."""

import json
import shutil
import subprocess
import sys
import sysconfig
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest

import isolated_magic
from isolated_magic import DistributedExecutor, InvalidRequestError
from isolated_magic.distributed import fitness, probe
from isolated_magic.distributed.needs import NOTHING, needs_of
from isolated_magic.request import build_request
from tests.clusters import tcp_cluster
from tests.processes import HANG_GUARD_SECS, wait_until

VERSION = isolated_magic.__version__
PACKAGE = Path(isolated_magic.__file__).parent
PYTHON = "{}.{}".format(*sys.version_info[:2])
ENTRY = "isolated_magic.distributed.dask_plugin"
ROWS = [{"n": 1}, {"n": 2}]


class Interpreter:
    """A Python with all packages of the one that runs the tests, but this one.

    Args:
        folder: takes it.
        base: what it is made of.
    """

    def __init__(self, folder: Path, base: str = sys.executable) -> None:
        subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
        self.python = str(folder / "bin" / "python")
        (self.site,) = folder.glob("lib/python*/site-packages")
        for installed in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(installed).iterdir():
                if not entry.name.startswith("isolated_magic") and entry.suffix != ".pth":
                    (self.site / entry.name).symlink_to(entry)

    def add_package(self, version: str = VERSION) -> None:
        """This package, as if it were of that version."""
        shutil.copytree(PACKAGE, self.site / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
        init = self.site / PACKAGE.name / "__init__.py"
        init.write_text(init.read_text().replace(f'"{VERSION}"', f'"{version}"'))

    def says(self, needs) -> str:
        """What it lacks, asked as workers are."""
        expression, variables = fitness.question_for(needs, ENTRY)
        program = "import json, sys; print(eval(*json.loads(sys.stdin.read())))"
        question = json.dumps([expression, variables])
        told = subprocess.run(
            [self.python, "-c", program], cwd=self.site, input=question, capture_output=True, text=True, check=True
        )
        return fitness.lack_of(needs, told.stdout)


def wheel(folder, version):
    """A wheel of a small distribution, Tiny-Dist, whose module is called otherwise."""
    info = f"tiny_dist-{version}.dist-info"
    files = {
        "tiny.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: Tiny-Dist\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    file = folder / f"tiny_dist-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return file


def install(file, place):
    """As pip does, into a folder."""
    for other in [*place.glob("tiny_dist-*.dist-info"), *place.glob("__pycache__/tiny.*")]:
        shutil.rmtree(other) if other.is_dir() else other.unlink()
    with zipfile.ZipFile(file) as archive:
        archive.extractall(place)


def other_python(folder):
    """A Python of another minor version that can be a worker, and its version; None if this machine has none."""
    found = [shutil.which(f"python3.{minor}") for minor in range(10, 20)]
    found += map(str, sorted(Path(sys.base_prefix).parent.glob("*/bin/python3")))
    for number, base in enumerate(filter(None, found)):
        version = output_of(base, "import sys, venv; print('{}.{}'.format(*sys.version_info[:2]))")
        if version.startswith("3.1") and version != PYTHON:
            python = Interpreter(folder / str(number), base).python
            if output_of(python, "import distributed.cli.dask_worker; print('fit')") == "fit":
                return python, version
    return None


def output_of(python, program):
    """Empty if the program fails."""
    return subprocess.run([python, "-c", program], capture_output=True, text=True, check=False).stdout.strip()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A scheduler without workers."""
    with tcp_cluster(tmp_path_factory.mktemp("cluster"), workers=0) as started:
        yield started


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory):
    """With this package, for workers that are fit but for what a test adds."""
    made = Interpreter(tmp_path_factory.mktemp("fit") / "python")
    made.add_package()
    return made


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of modules that this process has, and no worker."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


@contextmanager
def worker_of(cluster, python, env=None):
    """A worker that the scheduler knows; afterwards it does not any more."""
    with cluster.client() as client:
        before = set(client.scheduler_info(n_workers=-1)["workers"])
        worker = cluster.add_worker(python=python, env={"PYTHONPATH": "", **(env or {})})
        known = lambda: worker.address in client.scheduler_info(n_workers=-1)["workers"]  # noqa: E731
        try:
            wait_until(known, 2 * HANG_GUARD_SECS)
            yield worker
        finally:
            worker.kill()
            wait_until(lambda: not known())
        assert before == set(client.scheduler_info(n_workers=-1)["workers"])


def refusal_of(executor, code="1.0", **options):
    with pytest.raises(InvalidRequestError) as caught:
        executor.evaluate(code, ROWS, **options)
    return str(caught.value)


def scores_of(result):
    assert result.ok, result.failures
    return [score.value for row in result for score in row.scores]


class TestPackage:
    def test_a_worker_without_it(self, cluster, tmp_path):
        bare = Interpreter(tmp_path / "python")
        told = (
            f"isolated_magic is not installed, and here it is {VERSION}: install it there, "
            f"pip install 'isolated-magic[dask]=={VERSION}'."
        )
        with worker_of(cluster, bare.python) as worker, DistributedExecutor(cluster.address) as executor:
            expected = f"On worker {worker.address}, {told}"
            assert refusal_of(executor, checkpoint=tmp_path / "done") == expected
            assert refusal_of(executor, "import yaml\n1.0") == expected
            assert not (tmp_path / "done").exists()
            assert executor.execute("1.0") == {"code": 400, "error": expected}
            with pytest.raises(InvalidRequestError):
                executor.map("1.0", ROWS)
            bare.add_package()  # and no restart
            assert scores_of(executor.evaluate("import yaml\ndata['n']", ROWS)) == [1.0, 2.0]

    def test_another_version_of_it(self, tmp_path):
        other = Interpreter(tmp_path / "python")
        other.add_package("0.0.7")
        assert other.says(NOTHING) == (
            f"isolated_magic is 0.0.7, and here it is {VERSION}: install the same version there, "
            f"pip install 'isolated-magic[dask]=={VERSION}', and restart the worker"
        )

    def test_without_what_it_needs(self, tmp_path):
        bare = Interpreter(tmp_path / "python")
        bare.add_package()
        (bare.site / "cryptography").unlink()
        assert bare.says(NOTHING) == (
            "isolated_magic cannot be imported (ModuleNotFoundError: No module named 'cryptography'): "
            f"install all that it needs, pip install 'isolated-magic[dask]=={VERSION}'"
        )


def test_a_scheduler_without_this_package(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    bare = Interpreter(tmp_path / "python").python
    with tcp_cluster(tmp_path, workers=1, scheduler=bare) as cluster, cluster.client() as client:
        found = "__import__('importlib.util').util.find_spec('isolated_magic')"
        assert client.run_on_scheduler(eval, found) is None
        assert client.run(eval, f"{found} is not None") == {cluster.workers[0].address: True}
        with DistributedExecutor(client) as executor:
            for options in ({}, {"per": lambda row: row["n"]}):
                result = executor.evaluate("1 / (2 - data['n'])", ROWS, **options)
                assert [row.ok for row in result] == [True, False]
                assert "ZeroDivisionError" in result[1].error.text
            assert executor.run("7").scores[0].value == 7


@pytest.mark.filterwarnings("ignore:Mismatched versions")  # of Dask
def test_a_worker_with_another_python(cluster, tmp_path):
    env = {}
    python, version = other_python(tmp_path) or (sys.executable, "3.99")
    if python == sys.executable:  # which says that it is another one, once it has started
        preload = "import sys; sys.version_info = type('', (tuple,), {'major': 3})((3, 99, 0, 'final', 0))"
        env = {"DASK_DISTRIBUTED__WORKER__PRELOAD": json.dumps([preload])}
    with worker_of(cluster, python, env) as worker, DistributedExecutor(cluster.address) as executor:
        assert refusal_of(executor) == (
            f"On worker {worker.address}, Python is {version}, and here it is {PYTHON}: "
            f"start the worker with Python {PYTHON}."
        )


def assert_some_workers_have_a_module_that_is_not_here(executor, interpreter, other):
    code = "import only_there\nonly_there.VALUE"
    result = executor.evaluate(code, ROWS)
    assert [row.error.kind for row in result] == ["user_code"] * 2, "nobody has it: as on one machine"
    (interpreter.site / "only_there.py").write_text("VALUE = 3.0")
    there = f"On worker {other.address}, there is no module only_there, which other workers have"
    assert refusal_of(executor, code) == f"{there}: install only_there there."


class TestModules:
    def test_another_version_and_modules_that_are_not_there(self, cluster, interpreter, here, tmp_path):
        there = tmp_path / "there"
        there.mkdir()
        install(wheel(tmp_path, "1.5"), here)
        install(wheel(tmp_path, "2.0"), interpreter.site)
        (here / "helpers.py").write_text("import tiny\nVALUE = 7.0\n")
        with (
            worker_of(cluster, interpreter.python, {"PYTHONPATH": str(there)}) as worker,
            DistributedExecutor(cluster.address) as executor,
        ):
            on = f"On worker {worker.address}, "
            version = "tiny_dist is 2.0, and here it is 1.5"
            advice = "install the same there, pip install 'tiny_dist==1.5'"
            assert refusal_of(executor, "import tiny\n1.0") == f"{on}{version}: {advice}."
            assert executor.evaluate("1.0", ROWS).ok, "code without the module can run there"

            missing = f"there is no module helpers, which is {here / 'helpers.py'} here"
            copy = f"copy helpers to {Path.cwd()} there, or to a folder on its PYTHONPATH"
            told = refusal_of(executor, "import helpers\nhelpers.VALUE")
            assert told == f"{on}{missing}; {version}: {advice}; {copy}."

            install(wheel(tmp_path, "1.5"), interpreter.site)
            shutil.copy(here / "helpers.py", there)
            assert scores_of(executor.evaluate("import helpers\nhelpers.VALUE", ROWS)) == [7.0, 7.0]

            (here / "helpers.py").write_text("import tiny\nVALUE = 8.0\n")
            changed = f"helpers ({there / 'helpers.py'}) has another content than {here / 'helpers.py'} here"
            assert refusal_of(executor, "import helpers\n1.0") == f"{on}{changed}: {copy}."

            (there / "helpers.py").unlink()
            guarded = "try:\n    import helpers\nexcept ImportError:\n    helpers = None\n0.5 if helpers is None else 1.0"
            assert scores_of(executor.evaluate(guarded, ROWS)) == [0.5, 0.5]

    def test_one_that_comes_later_is_not_used_and_noted(self, cluster, interpreter, here, tmp_path):
        install(wheel(tmp_path, "1.5"), here)
        install(wheel(tmp_path, "1.5"), interpreter.site)
        bare = Interpreter(tmp_path / "python")
        bare.add_package()
        install(wheel(tmp_path, "3.0"), bare.site)
        go = tmp_path / "go"
        code = f"import os, time, tiny\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n1.0"
        with worker_of(cluster, interpreter.python) as fit, DistributedExecutor(cluster.address) as executor:
            needs = needs_of(executor.prepare(code))
            results = []
            running = threading.Thread(target=lambda: results.append(executor.evaluate(code, ROWS * 3)))
            running.start()
            try:
                with worker_of(cluster, bare.python) as unfit:
                    wait_until(lambda: executor._cluster.engine.unfit(needs), 2 * HANG_GUARD_SECS)
                    go.touch()
                    running.join(2 * HANG_GUARD_SECS)
                    assert_some_workers_have_a_module_that_is_not_here(executor, interpreter, unfit)
            finally:
                go.touch()
                running.join(2 * HANG_GUARD_SECS)
            (result,) = results
            assert {row.worker for row in result.rows} == {fit.address}
            assert result.notes == (
                f"A worker was not used: on worker {unfit.address}, tiny_dist is 3.0, and here it is 1.5: "
                "install the same there, pip install 'tiny_dist==1.5'.",
            )


def needed(code, **options):
    return {
        module.name: module for module in needs_of(build_request(code, None, None, 1, None, **options)).modules
    }


def test_what_code_needs(here):
    (here / "own").mkdir()
    for name, text in {
        "__init__": "",
        "used": "from . import other\nfrom .deep.est import x",
        "other": "import pytest",
        "unused": "import pandas",
    }.items():
        (here / "own" / f"{name}.py").write_text(text)
    code = """
import json, nothing_of_this_name
from opentelemetry import trace
from typing import TYPE_CHECKING
import own.used
if TYPE_CHECKING:
    import rich
def later():
    import yaml
try:
    import numpy.linalg
except (ImportError, OSError):
    import nbval
"""
    found = needed(code)
    assert {name: module.is_required for name, module in found.items()} == {
        "opentelemetry": True,
        "own": True,
        "pytest": True,
        "yaml": True,
        "numpy": False,
        "nbval": False,
    }
    assert [name for name, _ in found["opentelemetry"].distributions] == [
        "opentelemetry_api"
    ]  # of all that share it
    assert [name for name, _ in found["yaml"].distributions] == ["pyyaml"]
    assert found["own"].files == ("own/__init__.py", "own/other.py", "own/used.py")
    assert not found["own"].distributions
    assert needs_of(build_request(code, None, None, 1, None)).absent == ("nothing_of_this_name",)


@pytest.mark.parametrize("code", ["1.0", "import json, isolated_magic", "import (", "import nothing_of_this_name"])
def test_code_that_needs_nothing(code):
    assert not needed(code)


def test_code_that_says_where_modules_come_from_requires_none():
    found = needed("import sys\nsys.path.insert(0, '/elsewhere')\nimport numpy")
    assert not found["numpy"].is_required
    assert found["numpy"].distributions


def test_this_process_is_fit_for_what_it_has(here):
    (here / "own.py").write_text("import numpy")
    needs = needs_of(build_request("import own, yaml, opentelemetry.trace", None, None, 1, None))
    assert fitness.lack_of(needs, eval(*fitness.question_for(needs, ENTRY))) == ""


@pytest.mark.parametrize("answer", [None, "", "[]", "{}", '{"python": 3}', OSError("no route")])
def test_answers_that_say_nothing(answer):
    assert fitness.lack_of(NOTHING, answer) == "what is installed cannot be told: restart it"


def test_many_unfit_workers_are_one_sentence():
    same = {f"tcp://w{n}": "Python is 3.9" for n in range(5)}
    assert fitness.refusal({**same, "tcp://x": "it is old"}) == (
        "On workers tcp://w0, tcp://w1, tcp://w2 and 2 more, Python is 3.9 (1 other worker is unfit, too)."
    )
    assert fitness.not_used({"tcp://x": "it is old", **same}) == (
        "A worker was not used: on worker tcp://x, it is old.",
        "Workers were not used: on workers tcp://w0, tcp://w1, tcp://w2 and 2 more, Python is 3.9.",
    )


def test_the_probe_needs_nothing_but_an_old_standard_library():
    assert "isolated_magic" not in {name.partition(".")[0] for name in vars(probe)}
    compile(Path(probe.__file__).read_text(), "probe", "exec", dont_inherit=True)
