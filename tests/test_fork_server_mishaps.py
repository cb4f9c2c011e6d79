"""Fork servers that are killed, stand still, or are taken apart, and thousands of runs of one."""

import errno
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor
from isolated_magic.launch.process import leaving
from tests.fork_servers import pids_of, the_fork_server, waiting_children
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="fork servers are for Linux"),
    pytest.mark.usefixtures("noted_others"),
]


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
        psutil.Process(the_fork_server()).suspend()
        for child in waiting_children():
            psutil.Process(child).suspend()
        assert "timed out" in warm.run("1", timeout_secs=0.5).error.text
        assert warm.run("1", timeout_secs=20).ok

    def test_an_interrupt_while_the_fork_server_starts(self, monkeypatch):
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
        template = the_fork_server()
        psutil.Process(template).kill()
        wait_until(lambda: not is_alive(template))
        assert warm.run("1").ok
        assert warm.warm_up()
        assert warm.run("1").launch == "forked"

    def test_a_template_killed_while_it_forks_is_not_noticed(self, warm):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        try:  # a child that stands by then may outlive it for a moment
            for _ in range(25):
                template = the_fork_server()
                assert warm.run("1").ok
                psutil.Process(template).kill()
                wait_until(lambda: not is_alive(template))  # noqa: B023 - called before the next turn
                result = warm.run("1")
                assert result.ok, result.error
                wait_until(lambda: warm.warm_up() and warm.run("1").launch == "forked")
        finally:
            for process in busy:
                process.kill()
                process.wait()

    def test_a_standby_child_killed_is_not_noticed(self, warm):
        wait_until(lambda: len(waiting_children()) == 2)
        template, waiting = the_fork_server(), waiting_children()
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
        resource.prlimit(the_fork_server(), resource.RLIMIT_NOFILE, (6, 6))
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
        template = the_fork_server()
        psutil.Process(template).suspend()
        begun = time.monotonic()
        warm.teardown()
        assert time.monotonic() - begun < HANG_GUARD_SECS
        wait_until(lambda: not is_alive(template))

    def test_an_idle_template_ends_and_comes_back(self):
        with IsolatedSubprocessExecutor(idle_secs=0.3) as executor:
            self.run_forked(executor, "1")
            wait_until(lambda: not pids_of("fork_server"))
            assert executor.run("1").ok
            self.run_forked(executor, "1")

    def test_a_long_run_keeps_its_template(self):
        with IsolatedSubprocessExecutor(idle_secs=0.2) as executor:
            self.run_forked(executor, "import time\ntime.sleep(1.2)\n1")

    def run_forked(self, executor, code):
        """Until it is forked: on a busy machine an idle template may have ended before the run comes."""

        def is_forked():
            assert executor.warm_up()
            result = executor.run(code)
            assert result.ok
            return result.launch == "forked"

        wait_until(is_forked)

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
        leaving.wait(HANG_GUARD_SECS)
        processes = [psutil.Process(pid) for pid in (os.getpid(), *pids_of("guardian"), the_fork_server())]
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
