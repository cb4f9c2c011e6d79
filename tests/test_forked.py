"""Templates: when they are used, what becomes of them, and what they leave behind."""

import errno
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor, Preloaded, ProcessExecutor
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="templates are for Linux")

LOADED = "list(vars(__import__('sys'))['modules'])"  # what sys.modules holds, said in a way that no scan sees


@pytest.fixture
def warm():
    with IsolatedSubprocessExecutor(timeout_secs=60) as executor:
        executor.run("1")
        assert executor.warm_up()
        yield executor


_others: set[int] = set()


@pytest.fixture(autouse=True)
def _note_others():
    """The guardians of other tests' executors."""
    _others.clear()
    _others.update(child.pid for child in psutil.Process().children())


def pids_of(role: str) -> list[int]:
    """The processes of one role that belong to this test, parents first."""
    found = []
    for guardian in psutil.Process().children():
        if guardian.pid in _others:
            continue
        for process in (guardian, *guardian.children(recursive=True)):
            try:
                if role in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except psutil.NoSuchProcess:
                continue
    return found


def the_template() -> int:
    """The one template there is, not one of its forks."""
    guardians = pids_of("guardian")
    (found,) = [pid for pid in pids_of("fork_server") if psutil.Process(pid).ppid() in guardians]
    return found


def waiting_children() -> list[int]:
    return [child.pid for child in psutil.Process(the_template()).children()]


class TestChoice:
    def test_the_first_run_is_cold_and_the_next_ones_are_forks(self):
        with IsolatedSubprocessExecutor() as executor:
            assert executor.run("1").launch == "cold"
            assert executor.warm_up()
            for _ in range(10):
                assert executor.run("1").launch == "forked"

    def test_warm_up_spares_even_the_first_run_the_start(self):
        with IsolatedSubprocessExecutor() as executor:
            assert executor.warm_up()
            assert executor.run("1").launch == "forked"

    def test_warm_up_says_when_the_time_was_too_short(self):
        with IsolatedSubprocessExecutor() as executor:
            assert not executor.warm_up(0)

    def test_every_run_is_a_process_of_its_own(self, warm):
        pids = [warm.run("import os\nos.getpid()").scores[0].value for _ in range(20)]
        assert len(set(pids)) == 20

    def test_nothing_of_a_run_is_left_for_the_next(self, warm):
        code = "import builtins, json\nseen = getattr(builtins, 'mark', 0)\nbuiltins.mark = json.mark = 1\nseen"
        assert [warm.run(code).scores[0].value for _ in range(5)] == [0] * 5

    def test_cold_means_cold(self):
        with IsolatedSubprocessExecutor(launch="cold") as executor:
            assert executor.warm_up()
            assert {executor.run("1").launch for _ in range(3)} == {"cold"}
            assert not pids_of("fork_server")

    def test_a_single_run_may_ask_for_a_new_interpreter(self, warm):
        assert warm.run("1", fresh=True).launch == "cold"
        assert warm.run("1").launch == "forked"

    def test_no_standby_is_possible(self):
        with IsolatedSubprocessExecutor(standby=0) as executor:
            assert executor.warm_up()
            assert executor.run("1").launch == "forked"

    def test_another_interpreter_is_another_interpreter(self, warm, monkeypatch, tmp_path):
        other = tmp_path / "python"
        other.symlink_to(os.path.realpath(sys.executable))
        monkeypatch.setattr(sys, "executable", str(other))
        result = warm.run("import sys\nprint(sys.executable)\n1")
        assert (result.launch, result.stdout.strip()) == ("cold", str(other))

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"launch": "warm"}, "launch is 'warm': give 'forked' or 'cold'."),
            ({"standby": -1}, "standby is -1"),
            ({"standby": True}, "standby is True"),
            ({"idle_secs": 0}, "idle_secs is 0"),
            ({"preload": "numpy"}, "preload is 'numpy'"),
            ({"preload": [1]}, "preload is [1]"),
        ],
    )
    def test_a_wrong_setting_is_said(self, settings, says):
        with pytest.raises(InvalidRequestError) as raised:
            IsolatedSubprocessExecutor(**settings)
        assert says in str(raised.value)


class TestPreloads:
    def modules_of(self, executor, code="0"):
        result = executor.run(f"names = {LOADED}\n{code}\nprint(*names)\n1")
        assert result.error is None, result.error
        return result, result.stdout.split()

    def test_what_a_program_imported_is_there_before_its_next_run(self, warm):
        result, before = self.modules_of(warm, "import numpy")
        assert "numpy" not in before
        assert warm.warm_up()
        result, before = self.modules_of(warm, "import numpy")
        assert result.launch == "forked"
        assert "numpy" in before

    @pytest.mark.parametrize("name", ["opik", "pandas", "matplotlib.pyplot", "pydantic", "httpx", "sqlite3"])
    def test_the_libraries_of_many_programs_can_be_there(self, warm, name):
        for _ in range(2):
            result, before = self.modules_of(warm, f"import {name}")
            assert warm.warm_up(120)
        assert result.launch == "forked"
        assert name in before

    def test_and_not_before_a_program_that_does_not_import_it(self, warm):
        self.modules_of(warm, "import numpy")
        assert warm.warm_up()
        result, before = self.modules_of(warm)
        assert result.launch == "forked"
        assert "numpy" not in before

    def test_a_program_that_imports_more_profits_too(self, warm):
        self.modules_of(warm, "import numpy")
        assert warm.warm_up()
        _, before = self.modules_of(warm, "import numpy, pydantic")
        assert "numpy" in before
        assert "pydantic" not in before

    def test_named_modules_are_there_for_every_program(self):
        with IsolatedSubprocessExecutor(preload=["decimal", "numpy"]) as executor:
            assert executor.warm_up()
            result, before = self.modules_of(executor)
            assert result.launch == "forked"
            assert {"decimal", "numpy"} <= set(before)

    def test_off_is_off(self):
        with IsolatedSubprocessExecutor(preload=None) as executor:
            for _ in range(2):
                _, before = self.modules_of(executor, "import decimal")
                assert executor.warm_up()
            assert "decimal" not in before

    def test_a_module_that_cannot_be_imported_is_left_out(self):
        with pytest.warns(UserWarning, match="^no_such_module is not imported ahead: there is no such module.$"):
            executor = IsolatedSubprocessExecutor(preload=["no_such_module", "decimal", "this"])
        with executor:
            with pytest.warns(UserWarning, match="^this is not imported ahead: it prints.$"):
                assert not executor.warm_up()
            result, before = self.modules_of(executor)
            assert result.launch == "forked"
            assert "decimal" in before
            assert "this" not in before  # it prints

    def test_numpy_keeps_its_threads(self, warm):
        code = """
            import numpy, os
            a = numpy.random.rand(600, 600)
            for _ in range(3):
                a @ a
            len(os.listdir("/proc/self/task"))
        """
        cold = warm.run(textwrap.dedent(code), fresh=True).scores[0].value
        warm.run(textwrap.dedent(code))
        assert warm.warm_up()
        forked = warm.run(textwrap.dedent(code))
        assert forked.launch == "forked"
        assert forked.scores[0].value == cold

    def test_a_metric_of_opik_is_never_made_in_a_template(self, warm):
        code = """
            from opik.evaluation.metrics import Equals
            import opik.config
            print(opik.config.OpikConfig().project_name)
            Equals(track=False).score(output="a", reference="a")
        """
        for project in ("one", "two", "three"):
            env_vars = {"OPIK_PROJECT_NAME": project, "OPIK_API_KEY": f"key of {project}"}
            result = warm.run(textwrap.dedent(code), None, env_vars)
            assert result.error is None, result.error
            assert result.stdout.strip() == project
            assert warm.warm_up(120)
        assert result.launch == "forked"


class TestSharing:
    CODE = "import numpy\n1"

    @pytest.fixture
    def taught(self):
        with IsolatedSubprocessExecutor(timeout_secs=60) as executor:
            executor.run(self.CODE)
            assert executor.warm_up()
            assert executor.run(self.CODE).launch == "forked"
            yield executor

    def test_what_one_executor_has_imported_is_there_for_the_next(self, taught):
        with IsolatedSubprocessExecutor(timeout_secs=60) as other:
            assert other.preloaded.packages == ("numpy",)
            assert other.run(self.CODE).launch == "forked"
            assert len(pids_of("guardian")) == 2  # that of the cold runs, and that of the templates

    def test_the_end_of_one_is_not_the_end_of_the_others(self, taught):
        other = IsolatedSubprocessExecutor(timeout_secs=60)
        run = other.start("import time\nprint('up', flush=True)\ntime.sleep(1)\n1")
        taught.teardown()
        assert run.result(HANG_GUARD_SECS).ok
        assert other.run(self.CODE).launch == "forked"
        assert taught.run(self.CODE).launch == "forked"  # it can be used again
        taught.teardown()
        other.teardown()
        wait_until(lambda: not pids_of("fork_server"))

    def test_nor_is_it_when_one_is_dropped(self, taught):
        del_me = IsolatedSubprocessExecutor(timeout_secs=60)
        assert del_me.run(self.CODE).launch == "forked"
        del del_me
        assert taught.run(self.CODE).launch == "forked"

    def test_a_teardown_ends_the_runs_of_that_executor_alone(self, taught):
        with IsolatedSubprocessExecutor(timeout_secs=60) as other:
            run = taught.start("import time\ntime.sleep(1000)")
            wait_until(lambda: taught.active_pids)
            (pid,) = taught.active_pids
            taught.teardown()
            assert run.result(HANG_GUARD_SECS).error is not None
            wait_until(lambda: not is_alive(pid))
            assert other.run(self.CODE).launch == "forked"

    def test_those_that_start_runs_otherwise_do_not_share(self, taught):
        look = f"names = {LOADED}\nimport numpy\nfloat('numpy' in names)"
        for settings in ({"preload": None}, {"preload": ["decimal"]}):
            with IsolatedSubprocessExecutor(timeout_secs=60, **settings) as other:
                assert other.warm_up()
                result = other.run(look)
                assert (result.scores[0].value, result.launch) == (0.0, "cold")

    def test_what_was_learned_is_known_to_those_with_another_standby(self, taught):
        with IsolatedSubprocessExecutor(timeout_secs=60, standby=1) as other:
            other.run(self.CODE)  # it has not reported anything yet when its template is asked for
            assert other.warm_up()
            assert other.run(self.CODE).launch == "forked"

    def test_many_programs_of_one_do_not_push_out_those_of_another(self, taught):
        with IsolatedSubprocessExecutor(timeout_secs=60) as other:
            for name in ("pydantic", "httpx", "yaml", "attrs", "rich"):
                other.run(f"import {name}\n1")
                other.warm_up()
            assert taught.run(self.CODE).launch == "forked"

    def test_workers_share_them_too(self, taught):
        code = f"names = {LOADED}\nimport numpy\nfloat('numpy' in names)"
        with ProcessExecutor(workers=1) as workers:
            assert workers.preloaded.packages == ("numpy",)
            workers.warm_up()
            workers.run(self.CODE)
            assert workers.run(code).ok


class TestReports:
    def test_a_fork_that_has_to_import_the_package_itself_is_called_cold(self):
        with IsolatedSubprocessExecutor(preload=None, timeout_secs=60) as executor:
            assert executor.warm_up()
            assert executor.run("1").launch == "forked"
            assert executor.run("import numpy\n1").launch == "cold"
            assert executor.run("import importlib\nimportlib.import_module('numpy')\n1").launch == "cold"
            assert executor.run("import numpy, time\ntime.sleep(1000)", timeout_secs=3).launch == "cold"
            assert executor.run("import sqlite3\n1").launch == "forked"

    def test_what_is_ahead_and_what_is_not(self):
        with IsolatedSubprocessExecutor(timeout_secs=60) as executor:
            assert executor.preloaded == Preloaded()
            executor.run("import numpy, seaborn_of_nobody\n1")
            executor.run("import numpy, antigravity_of_nobody\n1")
            executor.run("import numpy\n1")
            assert executor.warm_up()
            assert executor.preloaded == Preloaded(("numpy",))
        assert executor.preloaded == Preloaded()

    def test_a_module_that_is_not_there_is_told_once(self):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with IsolatedSubprocessExecutor(preload=["nosuchmodule", "json.nosuchpart", "decimal"]) as executor:
                assert not executor.warm_up()
                assert not executor.warm_up()
                assert executor.run("1").launch == "forked"
                refused = dict(executor.preloaded.refused)
        assert refused == dict.fromkeys(("json.nosuchpart", "nosuchmodule"), "there is no such module")
        told = [(str(one.message), one.category, one.filename) for one in caught]
        assert told == [
            (f"{name} is not imported ahead: there is no such module.", UserWarning, __file__)
            for name in ("nosuchmodule", "json.nosuchpart")
        ]

    def test_named_modules_that_are_there_are_told_of_by_nobody(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with IsolatedSubprocessExecutor(preload=["numpy", "decimal"]) as executor:
                assert executor.warm_up()
                assert executor.preloaded == Preloaded(("decimal", "numpy"))

    def test_a_workers_executor_tells_too(self):
        with (
            pytest.warns(UserWarning, match="nosuchmodule"),
            ProcessExecutor(preload=["nosuchmodule"]) as executor,
        ):
            assert not executor.warm_up()

    def test_where_every_run_is_cold_there_is_nothing(self):
        with IsolatedSubprocessExecutor(launch="cold") as executor:
            assert executor.preloaded == Preloaded()


class TestSecrets:
    def test_no_process_that_outlives_a_run_ever_holds_its_environment(self, warm):
        secret = "s3cret-" + os.urandom(8).hex()
        code = "print(open('/proc/self/environ').read())\n1"
        result = warm.run(code, None, {"API_KEY": secret})
        assert result.launch == "forked"
        assert f"API_KEY={secret}" in result.stdout.split("\0")
        wait_until(lambda: len(waiting_children()) == 2)
        for pid in [*pids_of("guardian"), *pids_of("fork_server")]:
            assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()
            assert secret.encode() not in memory_of(pid)


def memory_of(pid: int) -> bytes:
    """All that a process has written to: its heap, its stack, its data."""
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode = line.split()[:2]
            if mode.startswith("rw"):
                start, end = (int(part, 16) for part in span.split("-"))
                memory.seek(start)
                found.append(memory.read(end - start))
    return b"".join(found)


class TestFindings:
    """What looked the same as in a new interpreter, and was not."""

    def both(self, executor, code, data=None):
        """What the code prints cold, and in a fork."""
        executor.run(code, data)
        executor.warm_up()
        return executor.run(code, data, fresh=True), executor.run(code, data)

    @pytest.mark.parametrize(
        "line",
        ["sys.path.insert(0, data['folder'])", "sys.path[:0] = [data['folder']]", "os.chdir(data['folder'])"],
    )
    def test_a_folder_put_in_front_before_the_import(self, warm, tmp_path, line):
        (tmp_path / "calendar.py").write_text("WHO = 'mine'")
        warm.run("import calendar")
        assert warm.warm_up()
        code = f"import os, sys\n{line}\nimport calendar\nprint(calendar.WHO)\n1"
        for result in self.both(warm, code, {"folder": str(tmp_path)}):
            assert result.stdout == "mine\n", result.error

    @pytest.mark.parametrize(
        "code",
        [
            "import os\nos._exit = lambda *_: None\n0.5",
            "import sys\nsys.modules.clear()\n0.5",
            "import gc\ngc.get_objects = gc.collect = None\n0.5",
            "import mmap\nm = mmap.mmap(-1, 64 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)\n0.5",
        ],
    )
    def test_code_that_takes_apart_what_the_end_needs(self, warm, code):
        for result in self.both(warm, code):
            assert (result.ok, result.exit_status, result.stderr) == (True, 0, ""), result.error
        assert result.launch == "forked"

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_groups_that_the_caller_has_given_up(self):
        owner = """
            import os
            from isolated_magic import IsolatedSubprocessExecutor
            executor = IsolatedSubprocessExecutor()
            executor.warm_up()
            os.setgroups([4321])
            print(executor.run("import os\\nprint(os.getgroups())\\n1").stdout.strip())
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(owner)], capture_output=True, text=True, check=True
        )
        assert done.stdout == "[4321]\n"

    def test_no_descriptors_left_here_is_not_the_fault_of_the_runs_that_go_on(self):
        owner = """
            import resource, threading, time
            from isolated_magic import IsolatedSubprocessExecutor
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            with IsolatedSubprocessExecutor() as executor:
                executor.warm_up()
                results = []
                work = lambda: results.append(executor.run("import time\\ntime.sleep(1)\\n1"))
                threads = [threading.Thread(target=work) for _ in range(14)]
                for thread in threads:
                    thread.start()
                    time.sleep(0.02)
                for thread in threads:
                    thread.join()
            print({result.error.text for result in results if result.error})
            print(sum(result.ok for result in results) > 5)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(owner)], capture_output=True, text=True, check=True
        )
        assert "was killed" not in done.stdout
        assert done.stdout.endswith("True\n")

    def test_a_template_that_stands_still_is_left_after_one_run(self, warm):
        psutil.Process(the_template()).suspend()
        for child in waiting_children():
            psutil.Process(child).suspend()
        assert "timed out" in warm.run("1", timeout_secs=0.5).error.text
        assert warm.run("1", timeout_secs=20).ok

    def test_an_interrupt_while_the_template_starts(self, monkeypatch):
        from isolated_magic.launch.fork_server.servers import ForkServerPool

        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(ForkServerPool, "ensure", interrupt)
        with IsolatedSubprocessExecutor() as executor, pytest.raises(KeyboardInterrupt):
            executor.run("import time\ntime.sleep(1000)")
        wait_until(lambda: not pids_of("run"))

    def test_an_idle_time_longer_than_the_system_can_wait(self):
        with IsolatedSubprocessExecutor(idle_secs=10**400) as executor:
            assert executor.warm_up()
            assert executor.run("1").launch == "forked"

    def test_warm_up_does_not_promise_what_cannot_be(self, monkeypatch):
        monkeypatch.setenv("LD_PRELOAD", "/no/such/library.so")  # the system complains of it to every new process
        with IsolatedSubprocessExecutor() as executor:
            assert not executor.warm_up()
            assert executor.run("1").launch == "cold"

    @pytest.mark.parametrize("name", ["", "a..b", "a\0b", "/etc", " numpy"])
    def test_a_preload_that_is_no_name(self, name):
        with pytest.raises(InvalidRequestError):
            IsolatedSubprocessExecutor(preload=[name])

    def test_names_that_the_locale_cannot_write(self):
        owner = """
            from isolated_magic import IsolatedSubprocessExecutor
            executor = IsolatedSubprocessExecutor()
            executor.warm_up()
            print(executor.run("d = {}\\nd['\\u00e9'] = 1\\n1").ok)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(owner)],
            env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout == "True\n"

    def test_code_that_the_compiler_warns_of_does_not_warn_here(self, warm, capfd):
        assert warm.run("x = '\\d'\n1").ok
        assert capfd.readouterr().err == ""


class TestMishaps:
    def start(self, executor, code="import time\nprint('up', flush=True)\ntime.sleep(1000)\n1"):
        """A run that goes on, in a thread; its result will be in the list."""
        results, is_up = [], threading.Event()
        work = lambda: results.append(executor.run(code, on_output=lambda *_: is_up.set()))  # noqa: E731 - a thread's
        thread = threading.Thread(target=work)
        thread.start()
        assert is_up.wait(HANG_GUARD_SECS)
        return thread, results

    def test_a_template_killed_in_the_middle_of_a_run(self, warm):
        thread, results = self.start(warm)
        (pid,) = warm.active_pids
        psutil.Process(psutil.Process(pid).ppid()).kill()
        thread.join(HANG_GUARD_SECS)
        assert results[0].error.code == 500
        assert "the guardian process was killed" in results[0].error.text
        wait_until(lambda: not is_alive(pid))
        assert warm.run("1").ok
        assert warm.warm_up()
        assert warm.run("1").launch == "forked"

    def test_a_template_killed_between_runs_is_not_noticed(self, warm):
        template = the_template()
        psutil.Process(template).kill()
        wait_until(lambda: not is_alive(template))
        assert warm.run("1").ok
        assert warm.warm_up()
        assert warm.run("1").launch == "forked"

    def test_a_standby_child_killed_is_not_noticed(self, warm):
        wait_until(lambda: len(waiting_children()) == 2)
        template, waiting = the_template(), waiting_children()
        for pid in waiting:
            psutil.Process(pid).kill()
        wait_until(lambda: not any(map(is_alive, waiting)))
        assert warm.run("1").ok
        assert is_alive(template)

    def test_the_guardian_killed_in_the_middle_of_a_run(self, warm):
        thread, results = self.start(warm)
        for pid in pids_of("guardian"):
            psutil.Process(pid).kill()
        warm.kill_all_processes()
        thread.join(HANG_GUARD_SECS)
        assert results[0].error.code == 500
        assert warm.run("1").ok

    def test_a_template_that_can_take_no_more_runs(self, warm):
        """It has no descriptors left, as it might have no processes or memory: the run goes another way."""
        resource.prlimit(the_template(), resource.RLIMIT_NOFILE, (6, 6))
        launches = []
        for _ in range(6):
            result = warm.run("1")
            assert result.ok, result.error
            launches.append(result.launch)
        assert "cold" in launches, launches

    def test_a_fork_that_the_system_refuses_is_reported(self):
        """Nothing that root can set makes the kernel refuse: os.fork() itself is replaced, in a process of its own."""
        code = """
            import errno, os, socket
            from isolated_magic.child import reaper, wire
            def refuse():
                raise BlockingIOError(errno.EAGAIN, "refused")
            os.fork = refuse
            ours, theirs = socket.socketpair()
            handle, its = socket.socketpair()
            descriptors = [its.fileno()] + [os.open("/dev/null", os.O_RDWR) for _ in range(3)]
            socket.send_fds(ours, [wire.RUN], descriptors)
            ours.shutdown(socket.SHUT_WR)
            assert reaper.Reaper(theirs, None).serve() is None
            print(handle.recv(1000).decode())
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=HANG_GUARD_SECS,
            check=True,
        )
        word, number, open_files = done.stdout.split()
        assert (word, int(number)) == ("failed", errno.EAGAIN), done.stderr
        assert int(open_files) > 0

    def test_a_template_that_stands_still_does_not_hold_up_a_teardown(self, warm):
        template = the_template()
        psutil.Process(template).suspend()
        begun = time.monotonic()
        warm.teardown()
        assert time.monotonic() - begun < HANG_GUARD_SECS
        wait_until(lambda: not is_alive(template))

    def test_an_idle_template_ends_and_comes_back(self):
        with IsolatedSubprocessExecutor(idle_secs=0.3) as executor:
            assert executor.warm_up()
            assert executor.run("1").launch == "forked"
            wait_until(lambda: not pids_of("fork_server"))
            assert executor.run("1").ok
            assert executor.warm_up()
            assert executor.run("1").launch == "forked"

    def test_a_long_run_keeps_its_template(self):
        with IsolatedSubprocessExecutor(idle_secs=0.2) as executor:
            assert executor.warm_up()
            result = executor.run("import time\ntime.sleep(1.2)\n1")
            assert (result.ok, result.launch) == (True, "forked")

    def test_nothing_outlives_the_executor(self):
        before = set(psutil.Process().children(recursive=True))
        executor = IsolatedSubprocessExecutor()
        assert executor.warm_up()
        wait_until(lambda: len(set(psutil.Process().children(recursive=True)) - before) == 4)
        processes = set(psutil.Process().children(recursive=True)) - before
        del executor
        wait_until(lambda: not any(is_alive(process.pid) for process in processes))

    def test_nothing_outlives_a_killed_owner(self):
        owner = """
            import time
            from isolated_magic import IsolatedSubprocessExecutor
            executor = IsolatedSubprocessExecutor()
            executor.warm_up()
            executor.run("import os\\nprint('up', flush=True)\\nimport time\\ntime.sleep(1000)", on_output=lambda *_: print("up", flush=True))
        """
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(owner)], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"up\n"
            below = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
            process.kill()
            process.wait()
        assert len(below) >= 3
        wait_until(lambda: not any(map(is_alive, below)))

    def test_a_fork_of_the_owner_has_templates_of_its_own(self, warm):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                assert warm.run("1").ok
                assert warm.warm_up()
                assert warm.run("1").launch == "forked"
                warm.teardown()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert warm.run("1").launch == "forked"


@pytest.mark.alone  # thousands at once: neither would have the time it needs beside others
class TestManyRuns:
    def test_ten_thousand_runs_leave_nothing_behind(self, warm, tmp_path):
        def work(count):
            for _ in range(count):
                result = warm.run("len(data['a'])", {"a": "yes"}, {"TMPDIR": str(tmp_path)})
                assert (result.scores[0].value, result.launch) == (3, "forked")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, [250] * 4))
            before = self.census()
            list(pool.map(work, [2500] * 4))
            wait_until(lambda: self.census()[0] == before[0])
        assert not list(tmp_path.iterdir())
        for pid, size in self.census()[1].items():
            grown = size - before[1].get(pid, size)
            assert grown < 4 << 20, f"{pid} grew by {grown >> 20} MB"

    def census(self):
        """Descriptors, threads and children of this process, the guardian and the template; and their memory."""
        processes = [psutil.Process(pid) for pid in (os.getpid(), *pids_of("guardian"), the_template())]
        counts = [(one.pid, one.num_fds(), one.num_threads(), len(one.children())) for one in processes]
        return counts, {one.pid: one.memory_full_info().uss for one in processes}

    def test_no_run_sees_the_environment_of_another(self, warm):
        """5,000 runs from 64 threads, each with an environment of its own."""
        code = """
            import ctypes, os
            getenv = ctypes.CDLL(None).getenv
            getenv.restype = ctypes.c_char_p
            with open("/proc/self/environ", "rb") as file:
                entries = [entry for entry in file.read().split(b"\\0") if entry.startswith(b"MINE")]
            mine = os.environ["MINE"]
            others = [name for name in os.environ if name.startswith("MINE")]
            assert others == ["MINE", f"MINE_{mine}"], others
            assert getenv(b"MINE").decode() == mine
            assert sorted(entries) == sorted([f"MINE={mine}".encode(), f"MINE_{mine}=1".encode()]), entries
            int(mine)
        """

        def work(number):
            result = warm.run(textwrap.dedent(code), None, {"MINE": str(number), f"MINE_{number}": 1})
            assert result.error is None, result.error
            return result.scores[0].value

        with ThreadPoolExecutor(64) as pool:
            assert list(pool.map(work, range(5000))) == list(range(5000))
