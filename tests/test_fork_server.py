"""Templates: when they are used, what becomes of them, and what they leave behind."""

import gc
import os
import sys
import textwrap
import threading
import warnings
from pathlib import Path

import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor, Preloaded, ProcessExecutor
from isolated_magic.launch.fork_server.servers import ForkServerPool
from tests.fork_servers import pids_of, waiting_children
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux"),
    pytest.mark.usefixtures("noted_others"),
]

LOADED = "list(vars(__import__('sys'))['modules'])"  # what sys.modules holds, said in a way that no scan sees


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

    @pytest.mark.parametrize("what_stays", ["garbage", "thread"])
    def test_what_was_learned_ends_with_the_last_of_them(self, monkeypatch, request, what_stays):
        if what_stays == "garbage":  # runs leave references in circles behind
            gc.disable()
            request.addfinalizer(gc.enable)
        else:  # that waits for a fork server
            over, bring_up = threading.Event(), ForkServerPool._bring_up
            request.addfinalizer(over.set)
            monkeypatch.setattr(
                ForkServerPool, "_bring_up", lambda *args: (bring_up(*args), over.wait(HANG_GUARD_SECS))
            )
        for code in ("import calendar\n1", "1"):
            with IsolatedSubprocessExecutor(timeout_secs=60) as executor:
                executor.run(code)
                assert executor.warm_up()
                result = executor.run(f"float('calendar' in {LOADED})")
                assert (result.scores[0].value, result.launch) == ("calendar" in code, "forked")

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
