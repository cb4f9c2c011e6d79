"""Stop: at any moment, from the button or from Ctrl-C, with time for the run to clean up and no way to stay."""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from isolated_magic import IsolatedSubprocessExecutor, RunInterrupted
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, HIDING_TREE, is_alive, pids_in, wait_as_promised, wait_until
from tests.time_limits import time_limit_from

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

SECRET = "xyzzy-4711"


def to_this_process():
    os.kill(os.getpid(), signal.SIGINT)


def to_this_thread():
    """Only its handler goes to the main thread, and nothing ends what that waits in."""
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@contextmanager
def interrupt_when(condition, times=1, send_signal=to_this_process):
    """Send SIGINT from a thread, once the condition holds; once more whenever it holds again."""

    def send():
        for _ in range(times):
            wait_until(condition)
            send_signal()

    thread = threading.Thread(target=send)
    thread.start()
    interrupted = False
    try:
        yield
        thread.join(HANG_GUARD_SECS)
        time.sleep(0)  # a signal that came last is handled here
    except KeyboardInterrupt:
        interrupted = True
        thread.join(HANG_GUARD_SECS)
    assert interrupted
    assert not thread.is_alive()


def ready(folder):
    return (folder / "ready").exists


TOUCH = "import pathlib, signal, time\npathlib.Path(data['folder'], 'ready').touch()\n"


class TestLadder:
    def test_the_code_cleans_up_and_what_it_prints_meanwhile_arrives(self, executor, tmp_path):
        output = []
        code = (
            "import pathlib, time\ntry:\n"
            "    pathlib.Path(data['folder'], 'ready').touch()\n    time.sleep(1000)\n"
            "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n    raise\n"
            "finally:\n    pathlib.Path(data['folder'], 'cleaned').touch()\n"
        )
        with interrupt_when(ready(tmp_path)):
            executor.run(code, {"folder": str(tmp_path)}, on_output=lambda *part: output.append(part))
        assert "".join(text for _, text in output) == "interrupted\n"
        assert (tmp_path / "cleaned").exists()
        assert executor.active_pids == ()

    def test_a_signal_that_does_not_end_the_wait_is_heeded_too(self, executor, tmp_path):
        code = f"{TOUCH}time.sleep(1000)"
        with interrupt_when(ready(tmp_path), send_signal=to_this_thread):
            executor.run(code, {"folder": str(tmp_path)}, timeout_secs=10 * HANG_GUARD_SECS)
        (tmp_path / "ready").unlink()
        with interrupt_when(ready(tmp_path), send_signal=to_this_thread):
            executor.evaluate(code, [{"folder": str(tmp_path)}], timeout_secs=10 * HANG_GUARD_SECS)
        assert executor.active_pids == ()

    def test_code_that_ignores_sigint_is_terminated(self, executor, tmp_path):
        output = []
        code = (
            "import os, signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
            "def end(*_):\n    print('terminated', flush=True)\n    os._exit(3)\n"
            "signal.signal(signal.SIGTERM, end)\n" + TOUCH + "time.sleep(1000)"
        )
        with interrupt_when(ready(tmp_path)):
            executor.run(code, {"folder": str(tmp_path)}, on_output=lambda *part: output.append(part))
        assert "".join(text for _, text in output) == "terminated\n"

    def test_code_that_ignores_both_is_killed_with_its_tree(self, executor, tmp_path):
        pids = tmp_path / "pids"
        pids.mkdir()
        code = (
            "import signal\nfor number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
            + HIDING_TREE
            + "time.sleep(1000)"
        )
        with interrupt_when(ready(tmp_path)):
            executor.run(code, {"folder": str(pids)})
        assert len(pids_in(pids)) == 6
        assert not any(map(is_alive, pids_in(pids)))

    def test_the_second_interrupt_kills_at_once(self, executor, tmp_path):
        code = (
            "import os, pathlib, signal, time\nfolder = pathlib.Path(data['folder'])\n"
            "signal.signal(signal.SIGINT, lambda *_: (folder / 'ready').touch())\n"
            "signal.signal(signal.SIGTERM, lambda *_: (folder / 'terminated').touch())\n"
            "(folder / str(os.getpid())).touch()\n(folder / 'ready').touch()\nwhile True: time.sleep(1000)"
        )
        flag = tmp_path / "ready"
        with interrupt_when(lambda: flag.exists() and (flag.unlink() or True), times=2):
            executor.run(code, {"folder": str(tmp_path)})
        pids = [int(file.name) for file in tmp_path.iterdir() if file.name.isdigit()]
        assert len(pids) == 1
        wait_as_promised(lambda: not is_alive(pids[0]))
        assert not (tmp_path / "terminated").exists()

    def test_the_group_of_the_run_is_interrupted_as_in_a_terminal(self, executor, tmp_path):
        code = (
            "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', '''\n"
            "import pathlib, time\ntry:\n    pathlib.Path('ready').touch(); time.sleep(1000)\n"
            "except KeyboardInterrupt:\n    pathlib.Path('interrupted').touch()\n'''], cwd=data['folder'])\n"
            "try:\n    child.wait()\nexcept KeyboardInterrupt:\n    child.wait()\n    raise\n"
        )
        with interrupt_when(ready(tmp_path)):
            executor.run(code, {"folder": str(tmp_path)})
        assert (tmp_path / "interrupted").exists()


class TestMoments:
    def test_at_random_moments_nothing_of_ours_is_shown_and_the_next_run_works(self, executor):
        moments = random.Random(4)
        for _ in range(60):
            delay = moments.uniform(0, 0.04)
            output = []
            timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                executor.run(
                    "print('a')\nimport json\n1", on_output=lambda *part, output=output: output.append(part)
                )
                timer.join()
                time.sleep(0)
            except KeyboardInterrupt:
                timer.join()
            assert not [part for part in output if part[0] == "stderr"]
            assert executor.active_pids == ()
        assert executor.run("0.5").ok

    def test_during_a_large_send(self, executor):
        data = {"text": "x" * 100_000_000}
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            executor.run("import time\ntime.sleep(1000)", data)
        assert executor.active_pids == ()

    def test_during_a_flood(self, executor, tmp_path):
        with interrupt_when(ready(tmp_path)):
            executor.run(
                TOUCH + "while True: print('x' * 10_000)", {"folder": str(tmp_path)}, on_output=lambda *_: None
            )
        assert executor.active_pids == ()

    def test_a_handler_of_the_callers_own_is_left_alone(self, executor, tmp_path):
        came = []
        before = signal.signal(signal.SIGINT, lambda *_: (came.append(1), (tmp_path / "go on").touch()))
        try:
            thread = threading.Thread(
                target=lambda: (wait_until(ready(tmp_path)), os.kill(os.getpid(), signal.SIGINT))
            )
            thread.start()
            code = TOUCH + "while not pathlib.Path(data['folder'], 'go on').exists(): time.sleep(0.01)\n0.5"
            assert executor.run(code, {"folder": str(tmp_path)}).ok
            thread.join(HANG_GUARD_SECS)
        finally:
            signal.signal(signal.SIGINT, before)
        assert came == [1]

    def test_a_plain_program_sees_one_keyboard_interrupt(self, tmp_path):
        program = (
            "import sys\nfrom isolated_magic import IsolatedSubprocessExecutor\n"
            "executor = IsolatedSubprocessExecutor()\n"
            f"code = '''{TOUCH}time.sleep(1000)'''\n"
            "try:\n    executor.run(code, {'folder': sys.argv[1]})\n"
            "except KeyboardInterrupt:\n    print('interrupted', executor.active_pids, executor.run('0.5').ok)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as owner:
            wait_until(ready(tmp_path))
            owner.send_signal(signal.SIGINT)
            assert owner.communicate(timeout=HANG_GUARD_SECS)[0] == "interrupted () True\n"


class TestMishaps:
    def test_a_reaper_that_was_stopped_does_not_save_its_run(self, tmp_path):
        with IsolatedSubprocessExecutor(launch="cold") as executor:
            executor.run("1")
            guardian = executor._launcher._guardian._running.process.pid
            pids = tmp_path / "pids"
            pids.mkdir()
            stopped = threading.Event()
            stop = threading.Thread(
                target=lambda: (wait_until(ready(tmp_path)), os.kill(guardian, signal.SIGSTOP), stopped.set())
            )
            stop.start()
            try:
                with time_limit_from(stopped.is_set):
                    result = executor.run(HIDING_TREE + "time.sleep(1000)", {"folder": str(pids)}, timeout_secs=1)
                assert "timed out" in result.error.text
                wait_as_promised(lambda: not any(map(is_alive, pids_in(pids))))
            finally:
                os.kill(guardian, signal.SIGCONT)


class TestCells:
    def test_at_random_moments_a_cell_shows_one_short_error_or_its_result(self):
        moments = random.Random(7)
        with kernel() as cells:
            cells.ok(f"key = {SECRET!r}")
            cell = f"%%isolated -e KEY=$key -e OTHER={SECRET} -d a={{[1] * 1000}}\nprint('{SECRET}'[0])\n0.5"
            cells.ok(cell)
            seen = set()
            for _ in range(80):
                request = cells.start(cell)
                time.sleep(moments.uniform(0, 0.03))
                cells.manager.interrupt_kernel()
                shown = cells.collect(request)
                seen.add(shown.ename)
                everything = f"{shown.traceback}{shown.evalue}{shown.stderr}{shown.stdout}"
                assert SECRET not in everything
                assert "isolated " not in shown.traceback
                assert shown.ename in {None, "RunInterrupted"}, shown.traceback
                if shown.ename:
                    assert shown.traceback == f"RunInterrupted: {RunInterrupted()}"
                assert cells.ok("%%isolated\n0.25").text.startswith("score  0.25")
            assert "RunInterrupted" in seen

    def test_the_button_gives_the_code_time_to_clean_up(self, tmp_path):
        with kernel() as cells:
            code = (
                "import pathlib, time\ntry:\n"
                "    pathlib.Path(data['folder'], 'ready').touch()\n    time.sleep(1000)\n"
                "finally:\n    print('cleaned')\n"
            )
            request = cells.start(f"%%isolated -d folder={tmp_path}\n{code}")
            wait_until(ready(tmp_path))
            cells.manager.interrupt_kernel()
            shown = cells.collect(request)
            assert shown.stdout == "cleaned\n"
            assert shown.ename == "RunInterrupted"
            assert shown.stderr == ""

    def test_other_cells_keep_their_traceback(self, tmp_path):
        with kernel() as cells:
            cells.ok("%%isolated\n0.5")
            code = f"import pathlib, time\npathlib.Path({str(tmp_path)!r}, 'ready').touch()\ntime.sleep(1000)"
            request = cells.start(code)
            wait_until(ready(tmp_path))
            cells.manager.interrupt_kernel()
            shown = cells.collect(request)
            assert shown.ename == "KeyboardInterrupt"
            assert "time.sleep(" in shown.traceback
