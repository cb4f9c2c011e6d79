"""What runs import is known to later processes: to the first cell of the next kernel, and to nobody else."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor, ProcessExecutor, create_executor
from isolated_magic.launch.fork_server.import_cache import MOST_FILES, MOST_PROGRAMS, ImportCache, ProgramImports
from tests.fork_servers import pids_of
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, is_alive, wait_as_promised, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux"),
    pytest.mark.usefixtures("noted_others"),
]

NUMPY = "import numpy\nfloat(numpy.ones(3).mean())"
YAML = "import yaml\nfloat(yaml.safe_load('3'))"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The cache folder of processes that are started, or make executors, in this test; they have a folder, too."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ISOLATED_MAGIC_REMEMBER")
    return tmp_path / "cache" / "isolated_magic"


def kept(cache: Path) -> list[dict]:
    """The programs of all files, with what they ask for as a set."""
    found = []
    for file in cache.glob("*.json"):
        found += json.loads(file.read_text())["programs"]
    return found


def are_kept(cache: Path, *packages: str) -> bool:
    asked_for = {name for program in kept(cache) for name in program["asked_for"]}
    return asked_for.issuperset(packages)


def learn(cells, cache: Path, code: str, package: str) -> None:
    cells.ok(f"%%isolated\n{code}")
    wait_until(lambda: are_kept(cache, package))


def wait_for_ahead(cells, *packages: str) -> None:
    wait_until(lambda: f"Imported ahead of runs: {', '.join(packages)}." in cells.ok("%isolated status").stdout)


def launch_of(cells, code: str) -> str:
    cells.ok(f"%%isolated -o made\n{code}")
    return cells.ok("made.launch").text.strip("'")


def end_threads(cells) -> None:
    """Wait until what the extension does in the background is done."""
    cells.ok(
        "import threading\n"
        "for _thread in threading.enumerate():\n"
        "    if _thread.name.startswith('isolated_magic'):\n        _thread.join()"
    )


class TestKernels:
    def test_after_a_restart_the_first_cell_is_forked(self, cache):
        with kernel() as cells:
            learn(cells, cache, NUMPY, "numpy")
            cells.manager.restart_kernel(now=True)
            cells.client.wait_for_ready(timeout=HANG_GUARD_SECS)
            cells.ok("%load_ext isolated_magic")
            wait_for_ahead(cells, "numpy")
            assert launch_of(cells, NUMPY) == "forked"

    def test_so_is_one_whose_code_is_new_if_it_imports_the_same(self, cache):
        with kernel() as cells:
            learn(cells, cache, "from opik.evaluation.metrics import Contains\n1", "opik.evaluation.metrics")
        with kernel() as cells:
            wait_for_ahead(cells, "opik")
            new = "from opik.evaluation.metrics import Equals, score_result\nimport json\n0.5"
            assert launch_of(cells, new) == "forked"
            names = "list(vars(__import__('sys'))['modules'])"
            code = f"names = {names}\nimport json\nprint('opik' in names)\n1"
            assert cells.ok(f"%%isolated\n{code}").stdout == "False\n"  # it does not import it

    def test_where_nothing_is_known_no_process_is_started(self, cache):
        with kernel() as cells:
            end_threads(cells)
            assert psutil.Process(cells.pid).children(recursive=True) == []

    @pytest.mark.parametrize("how", ["project", "environment"])
    def test_off_is_off(self, cache, monkeypatch, how):
        with kernel() as cells:
            learn(cells, cache, NUMPY, "numpy")
        before = kept(cache)
        if how == "project":
            Path("pyproject.toml").write_text("[tool.isolated_magic]\nremember = false\n")
        else:
            monkeypatch.setenv("ISOLATED_MAGIC_REMEMBER", "off")
        with kernel() as cells:
            end_threads(cells)
            assert psutil.Process(cells.pid).children(recursive=True) == []
            assert launch_of(cells, YAML) == "cold"
            wait_for_ahead(cells, "yaml")
            cells.ok("%isolated teardown")
        assert kept(cache) == before

    def test_two_kernels_at_once_lose_nothing(self, cache):
        with kernel() as one, kernel() as other:
            for cells, code in ((one, NUMPY), (other, YAML)):
                cells.start(f"%%isolated\n{code}")
            wait_until(lambda: are_kept(cache, "numpy", "yaml"))
        with kernel() as cells:
            wait_for_ahead(cells, "numpy", "yaml")
            assert (launch_of(cells, YAML), launch_of(cells, NUMPY)) == ("forked", "forked")

    def test_a_kernel_that_is_killed_while_a_fork_server_starts_leaves_nothing(self, cache):
        with kernel() as cells:
            learn(cells, cache, NUMPY, "numpy")
        with kernel() as cells:
            started = wait_until(lambda: fork_servers_of(cells.pid))
            for process in started:
                process.send_signal(signal.SIGSTOP)  # it gets no further
            pids = [process.pid for process in psutil.Process(cells.pid).children(recursive=True)]
            cells.manager.signal_kernel(signal.SIGKILL)
            wait_as_promised(lambda: not any(map(is_alive, pids)))

    def test_an_extension_that_is_unloaded_at_once_leaves_nothing(self, cache):
        with kernel() as cells:
            learn(cells, cache, NUMPY, "numpy")
        with kernel(loads=False) as cells:
            cells.ok("%load_ext isolated_magic\n%unload_ext isolated_magic")
            end_threads(cells)
            assert not fork_servers_of(cells.pid)

    def test_what_is_kept_is_names_of_installed_modules(self, cache, monkeypatch):
        secrets = [f"s3cret{place}" for place in ("variable", "value", "data", "code", "module", "name")]
        of_variable, of_value, of_data, of_code, of_module, of_name = secrets
        monkeypatch.setenv(of_variable, of_value)
        Path(f"{of_module}.py").write_text(f"import yaml\n{of_name} = 1\n")
        code = f"import numpy, {of_module}\nfrom {of_module} import {of_name}\nkey = {of_code!r}\n1"
        with kernel() as cells:
            cells.ok(f"row = {{{of_data!r}: {of_data!r}}}")
            cells.ok(f"%%isolated -d row --secret {of_variable}\n{code}")
            wait_until(lambda: are_kept(cache, "numpy", "yaml"))
            cells.ok("%isolated teardown")
        with kernel() as cells:
            wait_for_ahead(cells, "numpy", "yaml")
            assert launch_of(cells, code) == "forked"
        found = [str(path.relative_to(cache)).encode() + path.read_bytes() for path in cache.rglob("*")]
        assert found
        for content in found:
            assert not [secret for secret in [*secrets, str(Path.cwd())] if secret.encode() in content]
        names = {name for program in kept(cache) for some in program.values() for name in some}
        assert not [name for name in names if find_spec(name) is None]


def fork_servers_of(pid: int) -> list[psutil.Process]:
    return [
        process for process in psutil.Process(pid).children(recursive=True) if "fork_server" in process.cmdline()
    ]


class TestForgetting:
    @pytest.fixture
    def cells(self, cache):
        with kernel() as started:
            learn(started, cache, NUMPY, "numpy")
            yield started

    def test_that_of_this_folder(self, cells, cache):
        ImportCache(cache, "/elsewhere").save([ProgramImports(("yaml",))])
        said = cells.ok("%isolated forget").stdout
        assert said == "Forgotten: which modules the runs of this folder import.\n"
        assert [program["asked_for"] for program in kept(cache)] == [["yaml"]]
        assert cells.ok("%isolated forget").stdout == (
            "Nothing to forget: nothing is kept of the runs of this folder.\n"
        )
        learn(cells, cache, YAML, "yaml")  # it goes on remembering
        cells.ok("%isolated teardown")
        assert not are_kept(cache, "numpy")

    def test_all_of_it(self, cells, cache):
        ImportCache(cache, "/elsewhere").save([ProgramImports(("yaml",))])
        cells.answer("%%isolated --secret TYPED_LOGIN\n1", "a-login-that-was-typed")
        assert cells.ok("%isolated forget --all").stdout == (
            "Forgotten: which modules the runs of 2 folders import and 1 secret that was asked for.\n"
        )
        assert not cache.exists()
        assert cells.ok("%isolated forget --all").stdout == (
            "Nothing to forget: nothing is kept of the runs of any folder.\n"
        )
        cells.ok("%isolated teardown")
        assert not cache.exists()

    @pytest.mark.parametrize("line", ["--everything", "--all --all", "NAME OTHER"])
    def test_a_wrong_line(self, cells, line):
        shown = cells.run(f"%isolated forget {line}")
        assert shown.evalue == "%isolated forget takes the name of a secret that was asked for, --all, or nothing."


class TestLibrary:
    def test_the_fork_server_for_the_first_run_starts_with_it(self, cache):
        with IsolatedSubprocessExecutor(60) as executor:
            executor.run(NUMPY)
            executor.warm_up()
        wait_until(lambda: are_kept(cache, "numpy"))
        with IsolatedSubprocessExecutor(60) as executor:
            assert not pids_of("fork_server")
            code = "while True: pass"
            run = executor.start(f"import numpy\nprint('up', flush=True)\n{code}")
            assert executor.warm_up()  # the run has not said what it imports
            assert executor.preloaded.packages == ("numpy",)
            run.kill()
            assert executor.run(NUMPY).launch == "forked"

    def test_a_warm_up_starts_what_was_used_before(self, cache):
        with IsolatedSubprocessExecutor(60) as executor:
            for code in (NUMPY, YAML, "import calendar\n1"):
                executor.run(code)
            executor.warm_up()
        wait_until(lambda: are_kept(cache, "numpy", "yaml"))
        with IsolatedSubprocessExecutor(60) as executor:
            assert executor.warm_up()
            assert {executor.run(code).launch for code in (NUMPY, YAML, "import calendar\n1")} == {"forked"}
            assert len(executor._launcher._servers._all) == 3
            code = "names = list(vars(__import__('sys'))['modules'])\nfloat('calendar' in names)"
            assert executor.run(code).scores[0].value == 1.0

    def test_a_program_that_imports_by_a_module_of_its_own(self, cache):
        Path("helper.py").write_text("import numpy\nones = numpy.ones(3)\n")
        code = "from helper import ones\nfloat(ones.mean())"
        with IsolatedSubprocessExecutor(60) as executor:
            executor.run(code)
            executor.warm_up()
        wait_until(lambda: are_kept(cache, "numpy"))
        assert not are_kept(cache, "helper")
        with IsolatedSubprocessExecutor(60) as executor:
            executor.warm_up()
            assert executor.run(code).launch == "forked"
            Path("helper.py").write_text("ones = __import__('array').array('d', [1.0])\n")
            assert executor.run(
                "import helper\nfloat('numpy' in list(vars(__import__('sys'))['modules']))"
            ).scores[0].value == (0.0)

    def test_it_is_kept_as_soon_as_a_run_has_shown_it(self, cache):
        with IsolatedSubprocessExecutor(60) as executor:
            executor.run(NUMPY)
            assert are_kept(cache, "numpy")  # no fork server needs to be ready

    def test_programs_that_ask_for_other_things_of_one_package_need_one_fork_server(self, cache):
        codes = [
            f"import sys\n{line}\nfloat('yaml' in vars(sys)['modules'])"
            for line in ("from numpy import ones", "from numpy import linalg, zeros", "import numpy.linalg, numpy")
        ]
        with IsolatedSubprocessExecutor(60) as executor:
            executor.run(codes[0])
            executor.warm_up()
            assert {executor.run(code).launch for code in codes} == {"forked"}
            executor.run("import yaml, numpy\n1")
            executor.warm_up()
            assert [executor.run(code).scores[0].value for code in codes] == [0.0, 0.0, 0.0]
        wait_until(lambda: sorted(one["asked_for"] for one in kept(cache)) == [[], ["numpy"], ["yaml"]])

    def test_workers_know_it_too(self, cache):
        with ProcessExecutor(workers=1) as executor:
            executor.run(NUMPY)
            executor.warm_up()
        wait_until(lambda: are_kept(cache, "numpy"))
        with ProcessExecutor(workers=1) as executor:
            executor.warm_up()
            assert executor.preloaded.packages == ("numpy",)
        with ProcessExecutor(workers=1, remember=False) as executor:
            executor.warm_up()
            assert executor.preloaded.packages == ()

    @pytest.mark.parametrize("name", ["isolated", "process"])
    def test_off_is_off(self, cache, name):
        with create_executor(name, remember=False) as executor:
            executor.run(NUMPY)
            executor.warm_up()
        assert not cache.exists()

    def test_one_that_does_not_remember_learns_nothing_of_one_that_does(self, cache):
        with IsolatedSubprocessExecutor(60) as one, IsolatedSubprocessExecutor(60, remember=False) as other:
            one.run(NUMPY)
            one.warm_up()
            assert (one.run(NUMPY).launch, other.run(NUMPY).launch) == ("forked", "cold")

    def test_modules_that_are_given_are_not_kept(self, cache):
        with IsolatedSubprocessExecutor(60, preload=["numpy"]) as executor:
            executor.run(NUMPY)
            executor.warm_up()
        assert not cache.exists()

    def test_a_wrong_setting_is_said(self, monkeypatch):
        with pytest.raises(InvalidRequestError, match="remember is 'no': give True or False"):
            IsolatedSubprocessExecutor(remember="no")
        monkeypatch.setenv("ISOLATED_MAGIC_REMEMBER", "perhaps")
        with pytest.raises(InvalidRequestError, match="ISOLATED_MAGIC_REMEMBER is 'perhaps': give on or off"):
            IsolatedSubprocessExecutor()

    @pytest.mark.parametrize("place", ["no home", "a file", "no such place"])
    def test_where_nothing_can_be_kept_runs_are_as_ever(self, cache, monkeypatch, tmp_path, place):
        if place == "no home":
            monkeypatch.delenv("XDG_CACHE_HOME")
            monkeypatch.delenv("HOME")
        else:
            (tmp_path / "file").touch()
            below = tmp_path / "file" if place == "a file" else Path("/proc/nowhere")
            monkeypatch.setenv("XDG_CACHE_HOME", str(below))
        with IsolatedSubprocessExecutor(60) as executor:
            for expected in ("cold", "forked"):
                assert executor.run(NUMPY).launch == expected
                assert executor.warm_up()
        assert not cache.exists()

    def test_on_a_full_disk_nothing_is_left_half_written(self, cache):
        program = (
            "import resource\nfrom isolated_magic import IsolatedSubprocessExecutor\n"
            "with IsolatedSubprocessExecutor(60) as executor:\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (10, -1))\n"
            "    executor.run('import yaml\\n1')\n"
            "    executor.warm_up()\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=HANG_GUARD_SECS)
        assert list(cache.iterdir()) == []


PROGRAM = ProgramImports(("numpy", "numpy.linalg"), ("json", "json.decoder"), ("torch",))


class TestFile:
    @pytest.fixture
    def made(self, cache):
        made = ImportCache(cache, "/project")
        made.save([PROGRAM])
        assert made.load() == (PROGRAM,)
        return made

    def test_it_is_for_this_user_alone(self, made):
        os.umask(os.umask(0))
        assert made.path.stat().st_mode & 0o777 == 0o600
        assert made.folder.stat().st_mode & 0o777 == 0o700

    def test_it_is_for_one_folder_and_its_packages(self, made, monkeypatch, tmp_path):
        assert ImportCache(made.folder, "/other").load() == ()
        packages = tmp_path / "site-packages"
        packages.mkdir()
        monkeypatch.syspath_prepend(packages)
        assert made.load() == ()
        made.save([PROGRAM])
        assert made.load() == (PROGRAM,)
        os.utime(packages, (1, 1))  # as when something is installed there
        assert made.load() == ()
        monkeypatch.undo()
        assert made.forget() == 1  # whatever the packages
        assert list(made.folder.iterdir()) == []

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0" * 4096,
            b"\xff\xfe",
            b"{",
            b"[" * 100_000,
            b"[]",
            b'{"format": 0, "programs": []}',
            b'{"format": 1, "programs": [[]]}',
            b'{"format": 1, "programs": [{"asked_for": ["numpy"]}]}',
            b'{"format": 1, "programs": [{"asked_for": ["a b"], "standard": [], "refused": []}]}',
            b'{"format": 1, "programs": [{"asked_for": "numpy", "standard": [], "refused": []}]}',
            b'{"format": 1, "programs": [{"asked_for": [1], "standard": [], "refused": []}]}',
            b'{"format": 1, "programs": [{"asked_for": ["..", "%s"], "standard": [], "refused": []}]}'
            % (b"a" * 999),
            b'{"format": 1, "programs": []}' + b" " * (1 << 20) + b"x",
        ],
    )
    def test_a_file_that_is_broken_or_old_is_none(self, made, content):
        made.path.write_bytes(content)
        assert made.load() == ()
        made.save([PROGRAM])
        assert made.load() == (PROGRAM,)

    def test_one_that_others_may_have_written_is_none(self, made, tmp_path):
        for one in (made.path, made.folder):
            mode = one.stat().st_mode
            for writable in (0o020, 0o002):
                one.chmod(mode | writable)
                assert made.load() == ()
            one.chmod(mode)
            if os.geteuid() == 0:
                os.chown(one, 65534, 65534)
                assert made.load() == ()
                os.chown(one, 0, 0)
        assert made.load() == (PROGRAM,)
        moved = made.path.rename(tmp_path / "moved")
        made.path.symlink_to(moved)
        assert made.load() == ()
        made.path.unlink()
        os.mkfifo(made.path, 0o600)
        assert made.load() == ()

    def test_what_was_used_last_comes_first_and_the_oldest_go(self, made):
        programs = [ProgramImports((f"package{number}",)) for number in range(MOST_PROGRAMS)]
        for program in programs:
            made.save([program])
        assert made.load() == tuple(reversed(programs))
        made.save([programs[3]])
        assert made.load()[0] == programs[3]
        assert len(made.load()) == MOST_PROGRAMS

    def test_programs_that_ask_for_the_same_are_one(self, made):
        made.save([ProgramImports(("numpy.linalg", "numpy"), ("csv",))])
        assert made.load() == (ProgramImports(("numpy.linalg", "numpy"), ("csv", *PROGRAM.standard)),)

    def test_one_that_another_one_does_for_is_not_kept(self, made):
        few = ProgramImports(("numpy",))
        made.save([few], {("numpy",): frozenset({"numpy", "numpy.linalg"})})
        assert made.load() == (few,)
        more = ProgramImports(("numpy", "yaml"))
        made.save([more], {("numpy",): frozenset({"numpy", "numpy.linalg"})})
        assert made.load() == (more, few)

    def test_many_folders_do_not_fill_the_disk(self, made):
        for number in range(MOST_FILES + 5):
            ImportCache(made.folder, f"/project/{number}").save([PROGRAM])
        assert len(list(made.folder.iterdir())) == MOST_FILES

    def test_processes_that_write_at_once_lose_nothing(self, made):
        program = (
            "import sys\nfrom pathlib import Path\n"
            "from isolated_magic.launch.fork_server.import_cache import ImportCache, ProgramImports\n"
            "cache = ImportCache(Path(sys.argv[1]), '/at once')\nsys.stdin.readline()\n"
            "for _ in range(20): cache.save([ProgramImports((sys.argv[2],))])\n"
        )
        names = [f"package{number}" for number in range(4)]
        writers = [
            subprocess.Popen([sys.executable, "-c", program, str(made.folder), name], stdin=subprocess.PIPE)
            for name in names
        ]
        for writer in writers:
            writer.stdin.write(b"\n")
            writer.stdin.close()
        for writer in writers:
            assert writer.wait(HANG_GUARD_SECS) == 0
        found = ImportCache(made.folder, "/at once").load()
        assert sorted(name for one in found for name in one.asked_for) == names
