"""Packages and an interpreter of a run's own: what it has, what it costs, what is kept, and what is said."""

import json
import os
import pickle
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from isolated_magic import (
    DockerExecutor,
    InvalidRequestError,
    IsolatedSubprocessExecutor,
    Packages,
    ProcessExecutor,
)
from isolated_magic.packages import environments, interpreters, requirements, uv
from tests.interpreters import other_python
from tests.processes import HANG_GUARD_SECS, wait_until
from tests.wheels import index, install_from, sdist, wheel

LOOK = "import tinyold\n{'scores': [], 'seen': [tinyold.VERSION, getattr(tinyold, 'below', None)]}"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder of wheels, which is all that there is to install from."""
    folder = tmp_path_factory.mktemp("shelf")
    for version in ("1.0", "2.0", "3.0"):
        wheel(folder, "tinyold", version)
    wheel(folder, "tinyneeds", "1.0", "import tinyold\nFOUND = tinyold.VERSION\n", requires=("tinyold<3",))
    wheel(folder, "tinynative", "1.0", tag="cp27-none-any")
    wheel(folder, "yaml", "99.0")
    sdist(folder, "tinysource", "open('/tmp/tinysource-was-built', 'w').close()")
    sdist(folder, "tinybroken", "raise SystemExit('no compiler in this house')")
    return folder


@pytest.fixture(autouse=True)
def cache(shelf, tmp_path_factory, monkeypatch):
    """A cache of the test's own, and no index but the shelf. Downloads are kept for the next test."""
    folder = tmp_path_factory.mktemp("cache")
    install_from(shelf, folder, monkeypatch, shelf.parent / "uv")
    monkeypatch.setattr(environments, "_known", {})
    return folder / "cache" / "isolated_magic" / "environments"


@pytest.fixture(params=["cold", "forked"])
def executor(request):
    with IsolatedSubprocessExecutor(60, launch=request.param) as executor:
        yield executor


@pytest.fixture
def forked():
    with IsolatedSubprocessExecutor(60) as executor:
        yield executor


def seen(result):
    assert result.error is None, result.error.text
    return result.payload["seen"]


class TestPackages:
    def test_two_versions_side_by_side(self, executor):
        for _ in range(2):
            for version in ("1.0", "2.0"):
                result = executor.run(LOOK, packages=[f"tinyold=={version}"])
                assert seen(result) == [version, None]
                assert result.packages == {"python": interpreters.own().version_text, "tinyold": version}
                assert pickle.loads(pickle.dumps(result)).packages == result.packages
        gone = executor.run(LOOK)
        assert "No module named 'tinyold'" in gone.error.text
        assert gone.packages == {}

    def test_they_win_and_the_rest_stays(self, executor):
        code = """
import importlib.metadata, sys
import yaml, numpy, isolated_magic
numpy.ones(1)
{"scores": [], "seen": [yaml.VERSION, importlib.metadata.version("yaml"), importlib.metadata.version("numpy") == numpy.__version__, sys.prefix == sys.base_prefix]}
"""
        assert seen(executor.run(code, packages=["yaml"])) == ["99.0", "99.0", True, False]

    def test_what_they_need_comes_with_them(self, executor):
        result = executor.run("import tinyneeds\n{'scores': [], 'seen': tinyneeds.FOUND}", packages=["tinyneeds"])
        assert seen(result) == "2.0"
        assert {**result.packages, "python": ""} == {"python": "", "tinyneeds": "1.0", "tinyold": "2.0"}

    def test_alone_there_is_nothing_else(self, executor):
        packages = Packages(("tinyold",), alone=True)
        assert seen(executor.run(LOOK, packages=packages)) == ["3.0", None]
        assert "No module named 'numpy'" in executor.run("import numpy", packages=packages).error.text
        assert "No module named 'numpy'" in executor.run("import numpy", packages=Packages(alone=True)).error.text

    def test_a_wheel_a_file_of_requirements_and_a_project(self, forked, shelf, tmp_path):
        file = tmp_path / "needed.txt"
        file.write_text("tinyold<3\n")
        assert seen(forked.run(LOOK, packages=[f"-r {file}"])) == ["2.0", None]
        file.write_text("tinyold<2  # an edit\n")
        assert seen(forked.run(LOOK, packages=[f"-r {file}"])) == ["1.0", None]
        assert seen(forked.run(LOOK, packages=[str(shelf / "tinyold-2.0-py3-none-any.whl")])) == ["2.0", None]
        assert "has to be built" in forked.run(LOOK, packages=[str(shelf / "tinysource-1.0.tar.gz")]).error.text

    def test_an_executor_has_some_for_all_its_runs(self, tmp_path):
        with IsolatedSubprocessExecutor(60, packages=["tinyold<2"]) as executor:
            assert executor.warm_up()
            assert seen(executor.run(LOOK)) == ["1.0", None]
            assert seen(executor.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]
            result = executor.evaluate("import tinyold\nfloat(tinyold.VERSION) * data['x']", [{"x": 1}, {"x": 2}])
            assert [row.scores[0].value for row in result] == [1.0, 2.0]
            rows = executor.evaluate(
                "import tinyold\nfloat(tinyold.VERSION)", [{"x": 1}, {"x": 1}], packages=["tinyold<3"], per="x"
            )
            assert [row.scores[0].value for row in rows] == [2.0, 2.0]

    def test_the_timeout_is_for_the_run_and_not_for_the_installation(self, forked):
        assert forked.run("1.0", timeout_secs=0.9, packages=["tinyneeds"], fresh=False).ok

    def test_a_checkpoint_belongs_to_its_packages(self, forked, tmp_path):
        code, rows, file = "import tinyold\nfloat(tinyold.VERSION)", [{"a": 1}], tmp_path / "done.jsonl"
        forked.evaluate(code, rows, checkpoint=file, packages=["tinyold<2"])
        assert forked.evaluate(code, rows, checkpoint=file, packages=["tinyold<2"]).rows[0].is_resumed
        with pytest.raises(InvalidRequestError, match="code"):
            forked.evaluate(code, rows, checkpoint=file, packages=["tinyold<3"])


class TestScriptBlocks:
    BLOCK = '# /// script\n# dependencies = ["tinyold<3"]\n# ///\n'

    def test_in_a_source_and_in_a_file(self, executor, tmp_path):
        assert seen(executor.run(self.BLOCK + LOOK)) == ["2.0", None]
        file = tmp_path / "metric.py"
        file.write_text(f"{LOOK}\n{self.BLOCK}")
        assert seen(executor.run(file)) == ["2.0", None]
        file.write_text(f"{LOOK}\n{self.BLOCK}".replace("<3", "<2"))
        assert seen(executor.run(file)) == ["1.0", None]

    def test_it_stands_alone_and_takes_what_is_given_besides(self, forked):
        assert "No module named 'numpy'" in forked.run(f"{self.BLOCK}import numpy").error.text
        code = f"{self.BLOCK}import yaml\n{LOOK.replace('None)', 'yaml.VERSION)')}"
        assert seen(forked.run(code, packages=["yaml"])) == ["2.0", "99.0"]

    def test_the_executors_own_packages_are_not_for_it(self):
        with IsolatedSubprocessExecutor(60, packages=["yaml"]) as executor:
            assert "No module named 'yaml'" in executor.run(f"{self.BLOCK}import yaml").error.text

    @pytest.mark.parametrize(
        ("block", "said"),
        [
            ("# /// script\n# dependencies = [\n# ///\n", "is no TOML"),
            ("# /// script\n# dependencies = 'x'\n# ///\n", "dependencies has to be a list"),
            ("# /// script\n# dependencies = ['a b c']\n# ///\n", "'a b c' is no requirement"),
            ("# /// script\n# requires-python = 3\n# ///\n", "requires-python has to be a text"),
            ("# /// script\n# requires-python = '>=three'\n# ///\n", "is no specifier"),
            ("# /// script\n# requires-python = '>=9.9'\n# ///\n", "There is no Python >=9.9"),
            (
                "# /// script\n# dependencies = []\n# ///\nx = 1\n# /// script\n# dependencies = []\n# ///\n",
                "more than one",
            ),
        ],
    )
    def test_one_that_is_wrong(self, forked, block, said):
        error = forked.run(f"{block}1").error
        assert said in error.text
        assert "\n" not in error.text

    def test_what_looks_like_one_and_is_none(self, forked):
        for text in (
            "# /// pyproject\n# a = 1\n# ///\n",
            "# /// script\nx = 1\n# ///\n",
            "print('# /// script')\n",
        ):
            assert forked.run(f"{text}1").ok


WRONG = [
    ("tinyold", "packages (--with) is 'tinyold': give a list of requirements, such as ['rapidfuzz>=3']."),
    ([1], "packages (--with) is list: give a list of requirements"),
    ([""], "give a list of requirements"),
    (["tiny old"], "'tiny old' is no requirement"),
    (["--index-url=http://u:pw@x/"], "--index-url=http://***@x/ is an option, and no requirement"),
    (["./nowhere.whl"], "packages (--with): ./nowhere.whl: there is no "),
    (["-r nowhere.txt"], "-r nowhere.txt: there is no "),
    (["/tmp"], "/tmp is a folder without a pyproject.toml"),
    (["a\nb"], "a requirement is one line"),
    (["nosuch", "tinyold"], "packages (--with): nosuch cannot be installed for Python 3."),
    (["tinyold==9"], "tinyold==9 cannot be installed for Python "),
    (
        ["tinyold==1.0", "tinyold==2.0"],
        "you require tinyold==1.0 and tinyold==2.0, which no versions meet together.",
    ),
    (["tinyneeds", "tinyold==3.0"], "tinyneeds and tinyold==3.0 cannot be installed"),
    (["tinynative"], "tinynative cannot be installed for Python "),
    (["tinysource"], "(--allow-build) allows that"),
]


class TestErrors:
    @pytest.mark.parametrize(("packages", "said"), WRONG)
    def test_it_says_which_requirement_and_why(self, forked, cache, packages, said):
        error = forked.run("1", packages=packages).error
        assert said in error.text
        assert error.code == 400
        assert "\n" not in error.text
        assert "hint:" not in error.text
        assert "--no-build" not in error.text
        assert [path for path in cache.glob("*") if path.is_dir()] == []  # nothing half made

    def test_no_network_says_what_is_cached(self, forked, monkeypatch):
        monkeypatch.delenv("UV_NO_INDEX")
        monkeypatch.delenv("UV_FIND_LINKS")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("UV_DEFAULT_INDEX", "http://someone:s3cret@127.0.0.1:9/simple")
        error = forked.run("1", packages=["tinyabsent"]).error
        assert "The package index cannot be reached" in error.text
        assert "uv's cache has not all of tinyabsent" in error.text
        assert "s3cret" not in error.text

    def test_an_index_with_a_password(self, forked, cache, shelf, monkeypatch):
        monkeypatch.delenv("UV_NO_INDEX")
        monkeypatch.delenv("UV_FIND_LINKS")
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        with index(shelf, "someone:s3cret") as address:
            monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://someone:wr0ng@{address}")
            error = forked.run("1", packages=["tinyold<3"]).error
            assert "tinyold<3 cannot be installed" in error.text
            assert error.text.endswith(
                "The package index answered 401 Unauthorized: are its user and password right?"
            )
            assert "wr0ng" not in error.text
            monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://someone:s3cret@{address}")
            assert seen(forked.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]
        files = [path for path in cache.rglob("*") if path.is_file() and not path.is_symlink()]
        assert not [path for path in files if b"s3cret" in path.read_bytes()]
        error = forked.run("1", packages=["tinyold<2.5"]).error  # the index is gone
        assert "The package index cannot be reached" in error.text
        assert "uv's cache" in error.text
        assert "s3cret" not in error.text
        assert seen(forked.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]

    def test_pips_own_settings_hold_where_uv_has_none(self, forked, shelf, monkeypatch, tmp_path):
        for name in ("UV_NO_INDEX", "UV_FIND_LINKS"):
            monkeypatch.delenv(name)
        with index(shelf, "someone:s3cret") as address:
            (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = http://someone:s3cret@{address}\n")
            monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
            assert seen(forked.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]

    def test_an_index_that_pip_has_besides_hides_no_version_of_the_other(self, forked, monkeypatch, tmp_path):
        for name in ("UV_NO_INDEX", "UV_FIND_LINKS"):
            monkeypatch.delenv(name)
        for version in ("1.0", "2.0"):
            wheel(tmp_path / version, "tinyboth", version)
        with index(tmp_path / "1.0") as besides, index(tmp_path / "2.0") as main:
            monkeypatch.setenv("PIP_INDEX_URL", f"http://{main}")
            monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"http://{besides}")
            for version in ("1.0", "2.0"):
                result = forked.run("import tinyboth\nfloat(tinyboth.VERSION)", packages=[f"tinyboth=={version}"])
                assert result.scores[0].value == float(version)
            (tmp_path / "constraints").write_text("tinyboth<2\n")
            monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints"))
            result = forked.run("import tinyboth\nfloat(tinyboth.VERSION)", packages=["tinyboth"])
            assert result.scores[0].value == 1.0

    def test_a_build_that_fails_shows_the_end_of_its_log(self, forked):
        error = forked.run("1", packages=Packages(("tinybroken",), allow_build=True)).error
        assert "no compiler in this house" in error.text

    def test_a_build_that_is_allowed(self, forked):
        mark = Path("/tmp/tinysource-was-built")
        mark.unlink(missing_ok=True)
        assert not forked.run("1", packages=["tinysource"]).ok
        assert not mark.exists()
        result = forked.run("import tinysource\n1", packages=Packages(("tinysource",), allow_build=True))
        assert result.ok
        assert mark.exists()
        mark.unlink()

    def test_without_uv(self, forked, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
        monkeypatch.setenv("PATH", "/nowhere")
        error = forked.run("1", packages=["tinyold"]).error
        assert error.text == (
            "packages and python (--with, --python) need uv, which is not installed: "
            "pip install 'isolated-magic[packages]'."
        )

    def test_other_executors_refuse(self):
        with ProcessExecutor(workers=1) as executor:
            assert (
                "cannot be given to ProcessExecutor: its workers" in executor.run("1", packages=["a"]).error.text
            )
            assert "cannot be given to ProcessExecutor" in executor.run("1", python="3.12").error.text
        assert "cannot be given to DockerExecutor" in DockerExecutor().run("1", packages=["a"]).error.text

    def test_a_missing_module_names_the_option(self, forked):
        assert "or for this run alone, --with tinyold" in forked.run("import tinyold").error.hint
        hint = forked.run("import tinyother", packages=["tinyold"]).error.hint
        assert "add it: --with tinyother." in hint
        assert "pip" not in hint


class TestKept:
    def test_a_known_one_needs_no_uv(self, forked, cache, monkeypatch):
        forked.run(LOOK, packages=["tinyold<3"])
        monkeypatch.setattr("isolated_magic.packages.uv.find", lambda: "/nowhere")
        assert seen(forked.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]
        environments._known.clear()  # as in another process
        assert seen(forked.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]
        assert len([path for path in cache.iterdir() if path.is_dir()]) == 1

    def test_it_never_changes_until_it_is_upgraded(self, forked, shelf, cache):
        later = shelf / "tinylater-2.0-py3-none-any.whl"
        wheel(shelf, "tinylater", "1.0")
        code = LOOK.replace("tinyold", "tinylater")
        try:
            assert seen(forked.run(code, packages=["tinylater"])) == ["1.0", None]
            wheel(shelf, "tinylater", "2.0")
            assert seen(forked.run(code, packages=["tinylater"])) == ["1.0", None]
            environments._known.clear()
            for path in cache.iterdir():
                if path.is_dir():
                    subprocess.run(["rm", "-rf", path], check=True)
            assert seen(forked.run(code, packages=["tinylater"])) == ["1.0", None]  # as its lock says
            told = forked.install(packages=["tinylater"], upgrade=True)
            assert told["tinylater"] == "2.0"
            assert seen(forked.run(code, packages=["tinylater"])) == ["2.0", None]
            assert forked.install(packages=["tinylater"], upgrade=True) == told
        finally:
            later.unlink(missing_ok=True)

    def test_unused_ones_are_pruned_and_come_back(self, forked, cache):
        forked.run(LOOK, packages=["tinyold<2"])
        forked.run(LOOK, packages=["tinyold<3"])
        (old,) = [path for path in cache.glob("*.json") if '"1.0"' in path.read_text()]
        os.utime(old, (1, 1))
        (cache / "0123456789-half").mkdir()
        kept = environments.kept()
        assert [one.requirements for one in kept] == [("tinyold<3",), ("tinyold<2",)]
        assert all(one.size_bytes > 0 for one in kept)
        count, size = environments.prune()
        assert (count, size > 0) == (1, True)
        assert [one.requirements for one in environments.kept()] == [("tinyold<3",)]
        assert not (cache / "0123456789-half").exists()
        assert seen(forked.run(LOOK, packages=["tinyold<2"])) == ["1.0", None]

    def test_processes_that_want_the_same_at_once_make_it_once(self, cache):
        program = (
            "import sys\nfrom isolated_magic import IsolatedSubprocessExecutor\nsys.stdin.readline()\n"
            "print(IsolatedSubprocessExecutor().install(packages=['tinyneeds'])['tinyold'])\n"
        )
        makers = [
            subprocess.Popen(
                [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            for _ in range(3)
        ]
        for maker in makers:
            maker.stdin.write("\n")
            maker.stdin.flush()
        assert [maker.communicate(timeout=HANG_GUARD_SECS)[0] for maker in makers] == ["2.0\n"] * 3
        assert len([path for path in cache.iterdir() if path.is_dir()]) == 1

    def test_one_that_was_killed_in_the_middle_is_made_anew(self, forked, cache, monkeypatch, shelf):
        program = (
            "import os\nfrom isolated_magic import IsolatedSubprocessExecutor\n"
            "from isolated_magic.packages import environments\n"
            "environments._write = lambda *_: os._exit(9)\n"
            "IsolatedSubprocessExecutor().install(packages=['tinyold<3'])\n"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 9
        assert environments.kept() == ()
        assert seen(forked.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]

    def test_an_interrupt_ends_uv_and_leaves_nothing(self, forked, cache, shelf):
        sdist(shelf, "tinyslow", "import time\ntime.sleep(1000)")
        program = (
            "from isolated_magic import IsolatedSubprocessExecutor, Packages\n"
            "try:\n"
            "    IsolatedSubprocessExecutor().install(packages=Packages(('tinyslow', 'tinyold'), allow_build=True))\n"
            "except KeyboardInterrupt:\n    print('interrupted')\n"
        )
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as maker:
            process = psutil.Process(maker.pid)
            started = wait_until(
                lambda: [one for one in process.children(recursive=True) if "python" in one.name()]
            )
            maker.send_signal(signal.SIGINT)
            assert maker.communicate(timeout=HANG_GUARD_SECS)[0] == "interrupted\n"
        wait_until(lambda: not any(one.is_running() for one in started))
        assert [path for path in cache.iterdir() if path.suffix != ".lock"] == []
        assert seen(forked.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]

    def test_no_secret_of_a_run_is_in_it(self, forked, cache, shelf):
        sdist(
            shelf,
            "tinynosy",
            "import os\nopen(os.environ['XDG_CACHE_HOME'] + '/seen', 'w').write(repr(dict(os.environ)))",
        )
        packages = Packages(("tinynosy",), allow_build=True)
        secret = "s3cret-of-the-run"
        assert forked.run("1", env_vars={"RUN_API_KEY": secret}, packages=packages, secrets=["RUN_API_KEY"]).ok
        found = [path for path in cache.parent.parent.rglob("*") if path.is_file() and not path.is_symlink()]
        assert cache.parent.parent / "seen" in found
        assert not [path for path in found if secret.encode() in path.read_bytes() or secret in str(path)]

    def test_passwords_of_indexes_are_not_in_it(self, cache, monkeypatch):
        for password in ("s3cret", "0ther"):
            monkeypatch.setenv("UV_INDEX", f"http://someone:{password}@127.0.0.1:9/simple")
            wanted = requirements.wanted(["tinyold"], None)
            keys = environments._key(wanted, interpreters.own())
            assert "s3cret" not in keys
            monkeypatch.setenv("SEEN_KEY", keys) if password == "s3cret" else None
            assert keys == os.environ["SEEN_KEY"]

    @pytest.mark.parametrize("place", ["no home", "a file"])
    def test_where_nothing_can_be_kept_it_says_so(self, forked, monkeypatch, tmp_path, place):
        if place == "no home":
            monkeypatch.delenv("XDG_CACHE_HOME")
            monkeypatch.delenv("HOME")
        else:
            (tmp_path / "file").touch()
            monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert "Environments of packages have no folder" in forked.run("1", packages=["tinyold"]).error.text


@pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")
class TestForkServers:
    def test_each_environment_has_its_own(self, forked):
        for version in ("1.0", "2.0"):
            packages = [f"tinyold=={version}"]
            assert forked.run(LOOK, packages=packages).launch == "cold"
            wait_until(lambda packages=packages: forked.run(LOOK, packages=packages).launch == "forked")
            assert seen(forked.run(LOOK, packages=packages)) == [version, None]
        assert seen(forked.run(LOOK, packages=["tinyold==1.0"])) == ["1.0", None]

    def test_the_packages_below_are_imported_ahead_too(self, forked):
        code = "import numpy, tinyold\nfloat(numpy.ones(1).mean())"
        forked.run(code, packages=["tinyold"])
        wait_until(lambda: forked.run(code, packages=["tinyold"]).launch == "forked")
        assert {"numpy", "tinyold"} <= {*forked.preloaded.packages}

    def test_only_so_many_live_and_their_runs_finish(self):
        with IsolatedSubprocessExecutor(60, max_environments=1) as executor:
            run = executor.start("import time\ntime.sleep(3)\n1.0", packages=["tinyold<2"])
            wait_until(lambda: run.pid is not None)
            assert seen(executor.run(LOOK, packages=["tinyold<3"])) == ["2.0", None]
            assert len(executor._environments.launchers()) == 1
            assert run.result().scores[0].value == 1.0

    def test_a_teardown_ends_all(self):
        before = {one.pid for one in psutil.Process().children(recursive=True)}
        with IsolatedSubprocessExecutor(60) as executor:
            executor.run(LOOK, packages=["tinyold<2"])
            executor.run("1")
        wait_until(lambda: {one.pid for one in psutil.Process().children(recursive=True)} <= before)

    def test_many_at_once(self, forked):
        def one(number):
            version = f"{number % 3 + 1}.0"
            return seen(forked.run(LOOK, packages=[f"tinyold=={version}"])) == [version, None]

        with ThreadPoolExecutor(6) as pool:
            assert all(pool.map(one, range(18)))

    def test_a_wrong_number_is_said(self):
        with pytest.raises(InvalidRequestError, match="max_environments is 0: give a number greater than zero"):
            IsolatedSubprocessExecutor(max_environments=0)


@pytest.fixture(scope="module")
def another():
    found = other_python()
    if found is None:
        pytest.skip("there is no other version of Python")
    return found


class TestInterpreters:
    def test_another_version_and_its_packages(self, executor, another):
        python = ".".join(map(str, another.version[:2]))
        code = "import sys\n{'scores': [], 'seen': list(sys.version_info[:3])}"
        for _ in range(2):
            result = executor.run(code, python=python)
            assert seen(result) == list(another.version)
            assert result.packages == {"python": another.version_text}
        result = executor.run(LOOK, python=python, packages=["tinyold<3"])
        assert seen(result) == ["2.0", None]
        assert "No module named 'psutil'" in executor.run("import psutil", python=python).error.text

    def test_a_path_and_a_virtual_environment(self, executor, another, tmp_path):
        code = "import sys\n{'scores': [], 'seen': [list(sys.version_info[:3]), sys.prefix]}"
        assert seen(executor.run(code, python=another.executable))[0] == list(another.version)
        subprocess.run([another.executable, "-m", "venv", "--without-pip", tmp_path / "v"], check=True)
        site = tmp_path / "v" / "lib" / f"python{another.version[0]}.{another.version[1]}" / "site-packages"
        (site / "tinyhere.py").write_text("WORD = 'here'\n")
        for python in (tmp_path / "v", str(tmp_path / "v" / "bin" / "python")):
            assert seen(executor.run(code, python=python)) == [list(another.version), str(tmp_path / "v")]
        code = "import tinyhere, tinyold\n{'scores': [], 'seen': [tinyhere.WORD, tinyold.VERSION]}"
        assert seen(executor.run(code, python=tmp_path / "v", packages=["tinyold<3"])) == ["here", "2.0"]

    def test_what_a_script_block_requires(self, forked, another):
        python = ".".join(map(str, another.version[:2]))
        block = f'# /// script\n# requires-python = "=={python}.*"\n# dependencies = ["tinyold<3"]\n# ///\n'
        code = "import sys, tinyold\n{'scores': [], 'seen': [list(sys.version_info[:2]), tinyold.VERSION]}"
        assert seen(forked.run(block + code)) == [list(another.version[:2]), "2.0"]
        own = ".".join(map(str, sys.version_info[:2]))
        assert "The inline script block requires Python" in forked.run(block + code, python=own).error.text

    @pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")
    def test_its_grammar_is_its_own(self, forked, another):
        if another.version < (3, 12) or sys.version_info >= (3, 12):
            pytest.skip("there is no other version of Python that reads more than this one")
        python = ".".join(map(str, another.version[:2]))
        code = "type Pair[T] = tuple[T, T]\nname = 'x'\nprint(f'{name + f\"{name}\"}')\nimport json\n1.0"
        wait_until(lambda: forked.run(code, python=python).launch == "forked")
        result = forked.run(code, python=python)
        assert (result.stdout, result.scores[0].value) == ("xx\n", 1.0)
        error = forked.run("type X = int\nprint(1))", python=python).error
        assert error.summary.startswith("SyntaxError: unmatched ')'")
        assert "SyntaxError" in forked.run(code).error.text

    @pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux")
    def test_it_forks_what_it_has_learned(self, forked, another):
        code = "import tinyold, decimal\n{'scores': [], 'seen': [tinyold.VERSION]}"
        python = ".".join(map(str, another.version[:2]))
        given = {"python": python, "packages": ["tinyold<3"]}
        forked.run(code, **given)
        wait_until(lambda: forked.run(code, **given).launch == "forked")
        assert seen(forked.run(code, **given)) == ["2.0"]

    def test_a_failure_a_timeout_and_a_death_are_as_ever(self, executor, another):
        python = ".".join(map(str, another.version[:2]))
        error = executor.run("def f():\n    return 1 / 0\nf()", python=python).error
        assert error.summary.startswith("ZeroDivisionError: ")
        assert "return 1 / 0" in error.text
        timed_out = executor.run("while True: pass", python=python, timeout_secs=1).error
        assert timed_out.text == "Execution timed out after 1 seconds"
        assert "while True: pass" in timed_out.excerpt
        assert "signal 11" in executor.run("import os\nos.kill(os.getpid(), 11)", python=python).error.text
        metric = "class Length:\n    def score(self, answer):\n        return len(answer)\nLength()"
        assert executor.run(metric, {"answer": "four"}, python=python).scores[0].value == 4

    @pytest.mark.parametrize(
        ("python", "said"),
        [
            ("9.9", "There is no Python 9.9 on this machine"),
            ("/nowhere/python", "/nowhere/python is neither an interpreter nor a virtual environment"),
            ("/bin/true", "/bin/true does not run as an interpreter"),
            ("/tmp", "/tmp is neither"),
            ("", "python (--python) is ''"),
            (3.13, "python (--python) is 3.13: give a version such as '3.13'"),
        ],
    )
    def test_what_is_none(self, forked, python, said):
        error = forked.run("1", python=python).error
        assert said in error.text
        assert "\n" not in error.text

    def test_one_that_is_too_old_or_no_cpython(self, forked, tmp_path):
        fake = tmp_path / "python"
        told = {
            "executable": "x",
            "version": [3, 10, 2],
            "implementation": "cpython",
            "is_free_threaded": False,
            "folders": [],
            "standard_modules": [],
        }
        for changed, said in (
            ({}, "is Python 3.10.2: runs need 3.11 or later"),
            ({"implementation": "pypy", "version": [3, 11, 1]}, "is pypy: runs need CPython"),
            ({"version": [3, 13, 1], "is_free_threaded": True}, "is a free-threaded build of Python 3.13.1"),
        ):
            fake.write_text(f"#!/bin/sh\necho '{json.dumps({**told, **changed})}'\n")
            fake.chmod(0o755)
            os.utime(fake, (len(said), len(said)))
            assert said in forked.run("1", python=fake).error.text

    def test_the_callers_own_version_is_the_callers_own(self, forked):
        own = ".".join(map(str, sys.version_info[:2]))
        result = forked.run("import sys\nprint(sys.executable)\n1", python=own)
        assert (result.stdout.strip(), result.packages) == (sys.executable, {})


def test_a_full_disk_is_said():
    said = "error: Failed to extract archive: a.whl\n  cause: No space left on device (os error 28)\n"
    told = uv.explained(uv.UvError(said), ["a"], "3.11.2")
    assert told.startswith("packages (--with): there is no space left on the disk of the cache.")
