"""Runs that end, are killed, cancelled and torn down at the same moment: each has one typed result, nothing is left."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from isolated_magic import IsolatedSubprocessExecutor
from isolated_magic.child import process_tree
from isolated_magic.launch.process import ProcessHandle
from tests.processes import HANG_GUARD_SECS, is_alive, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is below a process is looked for in /proc")

STAY = "import time\ntime.sleep(1000)"
SHORT = "import time\ntime.sleep(0.01)\n1"


@pytest.fixture(params=["cold", "forked"])
def own(request):
    """An executor of the test's own, which it may tear down; nothing of it is left afterwards."""
    guardians = set(psutil.Process().children())
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    executor = IsolatedSubprocessExecutor(timeout_secs=60, launch=request.param)
    assert executor.run("1").ok
    assert executor.warm_up()
    yield executor
    executor.teardown()
    below = [process for one in set(psutil.Process().children()) - guardians for process in [one, *one.children()]]
    assert not below
    wait_until(lambda: len(list(Path("/proc/self/fd").iterdir())) <= descriptors)


@contextmanager
def threads(*works):
    """The works go on in threads of their own inside this block, which waits for them in the end."""
    with ThreadPoolExecutor(len(works)) as pool:
        futures = [pool.submit(work) for work in works]
        yield futures
        for future in futures:
            future.result(HANG_GUARD_SECS)


def is_ok_or_killed(result) -> bool:
    return result.ok or result.error.kind == "killed"


class TestCancelling:
    def test_at_random_moments_and_many_at_once(self, executor, tmp_path):
        code = f"import os, time\nopen(os.path.join({str(tmp_path)!r}, str(os.getpid())), 'w').close()\n{STAY}"

        async def cancelled_after(secs):
            task = asyncio.create_task(executor.aexecute(code, {}))
            await asyncio.sleep(secs)
            task.cancel()
            with suppress(asyncio.CancelledError):
                return await task
            return None

        async def all_of_them():
            waits = [0, 0, *(random.uniform(0, 0.3) for _ in range(30))]
            return await asyncio.wait_for(asyncio.gather(*map(cancelled_after, waits)), 2 * HANG_GUARD_SECS)

        assert asyncio.run(all_of_them()) == [None] * 32
        assert not executor.live_runs
        assert not any(is_alive(int(file.name)) for file in tmp_path.iterdir())
        assert executor.run("1").ok

    def test_twice_still_waits_until_the_run_is_gone(self, executor):
        async def cancelled_twice():
            task = asyncio.create_task(executor.aexecute("import signal\n" + STAY, {}))
            while not executor.active_pids:
                await asyncio.sleep(0.001)
            (pid,) = executor.active_pids
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return pid

        pid = asyncio.run(cancelled_twice())
        assert not psutil.pid_exists(pid)
        assert not executor.live_runs

    def test_of_one_that_is_over_changes_nothing(self, executor):
        async def late():
            task = asyncio.create_task(executor.aexecute("1", {}))
            answer = await task
            task.cancel()
            return answer

        assert asyncio.run(late())["scores"]


class TestKills:
    def test_against_the_exit_of_the_run_itself(self, executor):
        """Whichever comes first: a typed result, and what was said to be gone is gone."""
        results, over = [], threading.Event()

        def run():
            codes = [f"import time\ntime.sleep({number % 5 / 1000})\n1" for number in range(200)]
            results.extend(map(executor.run, codes))
            over.set()

        def kill():
            while not over.is_set():
                for pid in executor.active_pids:
                    time.sleep(random.uniform(0, 0.02))
                    if executor.kill_process(pid):
                        assert pid not in executor.active_pids
                time.sleep(random.uniform(0, 0.01))

        with threads(run, kill, kill):
            pass
        assert all(map(is_ok_or_killed, results)), {str(result.error) for result in results}
        assert len(results) == 200
        assert not executor.kill_process(os.getpid())

    def test_of_one_run_touches_no_other(self, executor):
        """An order to a run that ends goes to nobody who has its descriptor's number next."""
        with ThreadPoolExecutor(8) as pool:
            short = [pool.submit(executor.run, SHORT) for _ in range(100)]
            long = pool.submit(executor.run, "import time\ntime.sleep(3)\n1", timeout_secs=HANG_GUARD_SECS)
            while not long.done():
                for live in executor.live_runs:
                    if live.pid is not None and time.monotonic() - live.begun_at < 0.02:
                        executor.kill_process(live.pid)
                time.sleep(0.001)
        assert all(is_ok_or_killed(future.result()) for future in short)
        assert is_ok_or_killed(long.result())

    def test_in_on_output(self, executor):
        def kill(_stream, _text):
            (pid,) = executor.active_pids
            executor.kill_process(pid)

        result = executor.run("print('now', flush=True)\n" + STAY, on_output=kill)
        assert (result.error.kind, result.stdout.strip()) == ("killed", "now")
        assert executor.run("1").ok

    def test_teardown_in_on_output(self, own):
        result = own.run("print('now', flush=True)\n" + STAY, on_output=lambda *_: own.teardown())
        assert result.error.kind == "killed"
        assert own.run("1").ok


class TestBackground:
    def test_kills_at_random_moments(self, executor):
        for number in range(60):
            run = executor.start(SHORT if number % 2 else STAY)
            time.sleep(random.uniform(0, 0.03))
            assert run.kill()
            assert run.done()
            assert is_ok_or_killed(run.result(0))
        assert not executor.live_runs

    def test_everybody_who_waits_gets_the_same_result(self, executor):
        run = executor.start("import time\ntime.sleep(0.2)\n0.5")
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda _: run.result(HANG_GUARD_SECS), range(8)))
        assert results[0].ok
        assert all(result is results[0] for result in results)

    def test_kills_from_several_threads(self, executor):
        run = executor.start(STAY)
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: run.kill(), range(8)))
        assert run.result(0).error.kind == "killed"


class TestLostGuardians:
    def test_one_that_is_killed_meanwhile_ends_no_program_by_sigpipe(self):
        owner = """
            import os, signal, sys
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            import psutil
            from isolated_magic import IsolatedSubprocessExecutor
            executor = IsolatedSubprocessExecutor(launch=sys.argv[1], standby=0)
            executor.run("1"), executor.warm_up()
            for _ in range(5):
                for process in psutil.Process().children(recursive=True):
                    process.kill()
                    psutil.wait_procs([process], 10)
                assert executor.run("1").error is None or executor.run("1").error is None
        """
        for launch in ("cold", "forked"):
            subprocess.run(
                [sys.executable, "-c", textwrap.dedent(owner), launch], timeout=HANG_GUARD_SECS, check=True
            )


class TestTeardown:
    def test_while_others_execute(self, own):
        results, over = [], threading.Event()

        def execute():
            while not over.is_set():
                results.append(own.run(random.choice(["1", SHORT, STAY])))

        def tear_down():
            for _ in range(8):
                time.sleep(random.uniform(0, 0.2))
                own.teardown()

        with threads(execute, execute, execute) as executing:
            with threads(tear_down, tear_down):
                pass
            over.set()
            wait_until(lambda: [own.kill_all_processes(), all(future.done() for future in executing)][1])
        assert results
        assert all(map(is_ok_or_killed, results)), {str(result.error) for result in results}
        assert own.run("1").ok

    def test_two_at_once_call_each_callback_once(self, own):
        called = []
        for number in range(50):
            own.register_teardown_callback(lambda number=number: called.append(number))
        with threads(*[own.teardown] * 8):
            pass
        assert sorted(called) == list(range(50))

    def test_in_a_callback(self, own):
        called = []
        own.register_teardown_callback(lambda: (called.append(1), own.teardown()))
        own.register_teardown_callback(lambda: called.append(own.run("2").scores[0].value))
        own.teardown()
        own.teardown()
        assert called == [1, 2]

    @pytest.mark.parametrize("secs", [0.05, 0.15, 0.3])
    def test_while_a_template_starts(self, secs):
        """That it had to go is no fault of the module that it was importing."""
        before = set(psutil.Process().children(recursive=True))
        with IsolatedSubprocessExecutor(
            timeout_secs=60, idle_secs=599
        ) as executor:  # as no other: nothing is shared
            assert executor.run("import numpy\n1").ok  # a template with numpy starts
            time.sleep(secs)
            executor.teardown()
            assert executor.run("import numpy\n1").ok
            assert executor.warm_up()
            loaded = "'numpy' in vars(__import__('sys'))['modules']"
            result = executor.run(f"had = {loaded}\nimport numpy\nfloat(had)")
            assert (result.launch, result.scores[0].value) == ("forked", 1)
        own = psutil.Process()
        # Templates of other executors, which were there, may have new children.
        wait_until(lambda: not [new for new in set(own.children()) - before if new.is_running()])


CHILDREN = "import subprocess, sys\np = subprocess.Popen(['sleep', '1000'])\nprint(p.pid, flush=True)\np.wait()"


@pytest.fixture
def stranger():
    """A process with a child, and the child's pid."""
    with subprocess.Popen([sys.executable, "-c", CHILDREN], stdout=subprocess.PIPE) as process:
        child = int(process.stdout.readline())
        yield process, child
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        process.kill()


@pytest.fixture
def ended():
    """A descriptor of a process that ended and was reaped."""
    with subprocess.Popen(["true"]) as process:
        descriptor = os.pidfd_open(process.pid)
    yield descriptor
    os.close(descriptor)


class TestPids:
    """A pid that was reaped may be somebody else's: no signal goes there."""

    def test_of_a_run_that_ended(self, stranger, ended):
        process, child = stranger
        process_tree.kill([process.pid], ended)
        time.sleep(0.1)
        for pid in (process.pid, child):
            wait_until(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_SLEEPING)

    def test_of_a_child_that_is_nobodys_any_more(self, stranger):
        process, child = stranger
        process_tree._send_below(child, signal.SIGKILL, {1 << 22: 0, child: 1 << 22})
        time.sleep(0.1)
        assert is_alive(child)
        process_tree._send_below(child, signal.SIGKILL, {process.pid: 0, child: process.pid})
        wait_until(lambda: not is_alive(child))

    def test_of_a_run_whose_reaper_was_lost_after_it_had_ended(self, stranger, ended):
        """The owner has heard of the pid and has a descriptor; by now the pid is a stranger's."""
        import socket

        process, child = stranger
        ours, theirs = socket.socketpair()
        handle = ProcessHandle(ours)
        socket.send_fds(theirs, [b"pid %d\n" % process.pid], [ended])
        handle.take_news(lambda _: None)
        theirs.close()  # the reaper is killed
        handle.take_news(lambda _: None)
        handle.close()
        assert handle.is_over
        time.sleep(0.1)
        wait_until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_SLEEPING)
        assert is_alive(child)

    def test_descriptors_of_runs_are_not_inherited(self, executor):
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(executor.run, STAY)
            wait_until(lambda: executor.active_pids)
            inheritable = [
                str(entry.readlink())
                for entry in Path("/proc/self/fd").iterdir()
                if int(entry.name) > 2 and entry.exists() and os.get_inheritable(int(entry.name))
            ]
            executor.kill_all_processes()
            future.result(HANG_GUARD_SECS)
        assert not [link for link in inheritable if "pidfd" in link]

    @pytest.mark.alone  # of the whole machine
    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose the next pid")
    def test_that_the_system_gives_out_again(self, executor):
        """Runs and strangers take turns with the same few pids, while runs are killed by pid."""
        last = Path("/proc/sys/kernel/ns_last_pid")
        over, strangers = threading.Event(), []

        def kill():
            while not over.is_set():
                for pid in executor.active_pids:
                    executor.kill_process(pid)
                time.sleep(0.001)

        with threads(kill):
            for _ in range(60):
                result = executor.run(SHORT)
                assert is_ok_or_killed(result), result.error
                with suppress(OSError):
                    last.write_text(str((result.pid or 2) - 1))
                strangers.append(subprocess.Popen(["sleep", "1000"]))
            over.set()
        try:
            assert all(process.poll() is None for process in strangers)
        finally:
            for process in strangers:
                process.kill()
                process.wait()
