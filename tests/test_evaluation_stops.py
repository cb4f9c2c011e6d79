"""An evaluation that is interrupted, torn down or killed: nothing is left, and nothing that was done is lost."""

import gc
import os
import queue
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress

import pytest

from isolated_magic import (
    EvaluationInterrupted,
    EvaluationStoppedError,
    IsolatedSubprocessExecutor,
    ProcessExecutor,
)
from tests.processes import HANG_GUARD_SECS, is_alive, pids_in, wait_until

ECHO = "data['n']"
# The first five rows end at once, the others never.
SOME_END = "import time\nif data['n'] >= 5: time.sleep(1000)\ndata['n']"


@pytest.fixture(scope="module")
def executor():
    with IsolatedSubprocessExecutor() as executor:
        yield executor


def rows_of(count):
    return [{"n": n} for n in range(count)]


def numbers(result):
    return [row.scores[0].value for row in result if row.ok]


class Interrupts:
    """Sends this process SIGINT from a thread, once a condition holds, and again after so many seconds each."""

    def __init__(self, condition, *, again_after=()):
        self._condition, self._again_after = condition, again_after
        self._thread = threading.Thread(target=self._send)
        # A join() that a signal interrupts may take the thread for ended: https://bugs.python.org/issue45274
        self._has_ended = threading.Event()

    def _send(self):
        try:
            wait_until(self._condition)
            os.kill(os.getpid(), signal.SIGINT)
            for secs in self._again_after:
                time.sleep(secs)
                os.kill(os.getpid(), signal.SIGINT)
        finally:
            self._has_ended.set()

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        while not self._has_ended.is_set():
            with suppress(KeyboardInterrupt):  # those that come when all is over are the caller's
                self._has_ended.wait()


def is_over(executor):
    return (
        executor.live_runs == ()
        and executor.active_pids == ()
        and not [thread for thread in threading.enumerate() if "evaluation" in thread.name]
    )


def later_pids(executor, count=2):
    """A condition: as many rows run, whose pids are then in the list."""
    pids = []

    def condition():
        pids[:] = executor.active_pids
        return len(pids) >= count

    return condition, pids


class TestInterrupt:
    def test_what_was_done_is_kept_and_nothing_runs(self, executor):
        condition, pids = later_pids(executor)
        done = []
        with (
            Interrupts(lambda: len(done) and done[-1].done >= 5 and condition()),
            pytest.raises(EvaluationInterrupted) as caught,
        ):
            executor.evaluate(SOME_END, rows_of(100), jobs=2, progress=done.append)
        result = caught.value.result
        assert numbers(result) == [0, 1, 2, 3, 4]
        assert result.failures == ()
        assert result.not_run == 95
        assert result.stopped == "The evaluation was interrupted."
        assert is_over(executor)
        assert not any(map(is_alive, pids))
        assert done[-1].done == 5
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_a_row_that_waits_for_its_next_attempt_has_failed(self, workers, tmp_path):
        ran = tmp_path / "ran"
        code = f"open({str(ran)!r}, 'a').write(str(data['n']))\nraise ConnectionError('attempt')"

        def each_ran_twice():  # the first attempt is over
            return ran.exists() and all(ran.read_text().count(str(n)) >= 2 for n in range(3))

        with (
            Interrupts(each_ran_twice),
            pytest.raises(EvaluationInterrupted) as caught,
        ):
            workers.evaluate(code, rows_of(3), retries=50)
        result = caught.value.result
        assert [row.error.summary for row in result] == ["ConnectionError: attempt (line 2)"] * 3
        assert all(attempt.error for row in result for attempt in row.attempts)
        assert result.not_run == 0

    def test_again_and_again(self, executor):
        condition, pids = later_pids(executor)
        with (
            Interrupts(condition, again_after=(0, 0, 0.001, 0.005, 0.01)),
            pytest.raises(EvaluationInterrupted),
        ):
            executor.evaluate("import time; time.sleep(1000)", rows_of(20), jobs=2)
        assert is_over(executor)
        assert not any(map(is_alive, pids))

    @pytest.mark.parametrize("where", ["rows", "data", "progress"])
    def test_while_code_of_the_callers_blocks(self, workers, where):
        blocked = threading.Event()

        def block(value=None):
            blocked.set()
            queue.SimpleQueue().get()
            return value

        def rows():
            yield from rows_of(3)
            if where == "rows":
                while workers.active_pids:
                    time.sleep(0.01)
                block()
            yield {"n": 3}

        def data(row):
            return block(row) if where == "data" and row["n"] == 3 else row

        def progress(now):
            if where == "progress" and now.done == 4:
                block()

        with Interrupts(blocked.is_set), pytest.raises(EvaluationInterrupted) as caught:
            workers.evaluate(ECHO, rows(), data=data, progress=progress)
        found = numbers(caught.value.result)
        assert set(found) <= {0, 1, 2, 3}
        assert len(found) == 4 if where == "progress" else len(found) <= 3
        assert is_over(workers)

    def test_progress_that_hangs_is_not_called_again(self, workers):
        blocked = []

        def progress(now):
            if now.done == 1:
                blocked.append(now)
                queue.SimpleQueue().get()

        code = "import time\nif data['n']: time.sleep(1000)\n1"
        with Interrupts(lambda: blocked), pytest.raises(EvaluationInterrupted):
            workers.evaluate(code, rows_of(5), progress=progress)
        assert len(blocked) == 1
        assert is_over(workers)

    def test_raised_by_code_of_the_callers(self, workers):
        def rows():
            yield {"n": 0}
            raise KeyboardInterrupt

        with pytest.raises(EvaluationInterrupted):
            workers.evaluate(ECHO, rows())
        with pytest.raises(KeyboardInterrupt) as caught:
            list(workers.map(ECHO, rows()))
        assert not isinstance(caught.value, EvaluationInterrupted)
        assert is_over(workers)

    def test_map_is_closed(self, workers):
        condition, pids = later_pids(workers)
        found = []
        with Interrupts(lambda: len(found) == 5 and condition()), pytest.raises(KeyboardInterrupt):
            found.extend(workers.map(SOME_END, rows_of(100)))
        assert numbers(found) == [0, 1, 2, 3, 4]
        assert is_over(workers)
        assert not any(map(is_alive, pids))

    def test_between_two_results_of_map(self, workers):
        results = workers.map(ECHO, rows_of(100))
        next(results)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert next(results).index == 1  # it was no interrupt of the evaluation
        results.close()
        assert is_over(workers)

    def test_results_of_map_are_taken_in_another_thread(self, workers):
        results = workers.map(ECHO, rows_of(3))
        next(results)
        found = []
        thread = threading.Thread(target=lambda: found.extend(results))
        thread.start()
        thread.join()
        assert numbers(found) == [1, 2]

    def test_a_handler_that_comes_between_two_results_of_map_stays(self, workers):
        def handler(number, frame):
            pass

        results = workers.map(ECHO, rows_of(3))
        next(results)
        before = signal.signal(signal.SIGINT, handler)
        try:
            next(results)
            assert signal.getsignal(signal.SIGINT) is handler
        finally:
            signal.signal(signal.SIGINT, before)
            results.close()

    def test_rows_that_are_results_of_another_evaluation(self, workers, executor):
        rows = ({"n": row.scores[0].value} for row in executor.map(SOME_END, rows_of(100), jobs=2))
        with Interrupts(lambda: len(executor.active_pids) == 2), pytest.raises(EvaluationInterrupted) as caught:
            workers.evaluate(ECHO, rows)
        assert set(numbers(caught.value.result)) <= {*range(5)}
        del rows, caught  # and with its traceback all that refers to the iterator
        gc.collect()
        wait_until(lambda: is_over(executor) and is_over(workers))

    # One that comes just before or after may hit a callback of a weak reference, where Python drops it.
    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_at_any_moment(self, workers):
        """Nothing is lost, wherever it hits: rows that ended are there, and all else is counted."""
        rows, seed = rows_of(300), random.Random(4711)
        interrupted = 0
        for _ in range(25):
            secs = seed.uniform(0, 0.15)
            ended_at = time.monotonic() + secs
            try:
                with Interrupts(lambda at=ended_at: time.monotonic() > at):
                    result = workers.evaluate(ECHO, rows)
                    time.sleep(secs)  # if it was faster
            except EvaluationInterrupted as caught:
                interrupted += 1
                result = caught.result
                assert len(result) + result.not_run == 300
                assert [row.scores[0].value for row in result] == [row.index for row in result]
            except KeyboardInterrupt:
                pass
            assert is_over(workers)
        assert interrupted >= 3


class TestTeardown:
    @pytest.mark.parametrize("how", ["teardown", "kill_all_processes"])
    def test_of_the_executor(self, how):
        with ProcessExecutor(workers=2) as executor:
            condition, pids = later_pids(executor)
            done = []

            def stop():
                wait_until(lambda: done and done[-1].done == 5 and condition())
                getattr(executor, how)()

            thread = threading.Thread(target=stop)
            thread.start()
            result = executor.evaluate(SOME_END, rows_of(50), progress=done.append)
            thread.join(HANG_GUARD_SECS)
            assert numbers(result) == [0, 1, 2, 3, 4]
            assert result.failures == ()
            assert result.not_run == 45
            assert result.stopped == "The evaluation was stopped: all runs of its executor were."
            assert not any(map(is_alive, pids))
            assert numbers(executor.evaluate(ECHO, rows_of(3))) == [0, 1, 2]  # it can be used again

    def test_while_map_waits_for_its_caller(self, workers):
        results = workers.map("import time\nif data['n'] > 2: time.sleep(1000)\ndata['n']", rows_of(50))
        assert next(results).index == 0
        begun_at = time.monotonic()
        workers.kill_all_processes(timeout=HANG_GUARD_SECS)
        assert time.monotonic() - begun_at < HANG_GUARD_SECS / 2
        assert is_over(workers)
        with pytest.raises(EvaluationStoppedError, match="all runs of its executor were"):
            list(results)

    def test_when_all_rows_of_map_are_done(self, workers, tmp_path):
        code = textwrap.dedent(
            f"""
            import pathlib, time
            folder = pathlib.Path({str(tmp_path)!r})
            (folder / str(data["n"])).touch()
            while data["n"] == 0 and len(list(folder.iterdir())) < 4: time.sleep(0.01)
            data["n"]
            """
        )
        results = workers.map(code, rows_of(4))
        assert next(results).index == 0
        wait_until(lambda: not workers.active_pids)
        workers.kill_all_processes()
        assert numbers(results) == [1, 2, 3]

    def test_one_process_is_one_row(self, executor, tmp_path):
        hangs = f"os.mkdir({str(tmp_path)!r} + f'/{{os.getpid()}}'); time.sleep(1000)"
        code = f"import os, time\nif data['n'] == 3: {hangs}\ndata['n']"

        def kill():
            wait_until(lambda: pids_in(tmp_path))
            executor.kill_process(*pids_in(tmp_path))

        thread = threading.Thread(target=kill)
        thread.start()
        result = executor.evaluate(code, rows_of(6))
        thread.join(HANG_GUARD_SECS)
        assert numbers(result) == [0, 1, 2, 4, 5]
        assert [row.error.kind for row in result.failures] == ["killed"]
        assert (result.not_run, result.stopped) == (0, "")

    def test_while_a_row_waits_to_be_run_again_or_to_begin(self, workers):
        for options in ({"retries": 9, "retry_on": ["ValueError"]}, {"rate": "1/hour"}):
            told = []
            with Interrupts(lambda told=told: told), pytest.raises(EvaluationInterrupted) as caught:
                workers.evaluate("raise ValueError", rows_of(3), progress=told.append, **options)
            result = caught.value.result
            assert len(result) + result.not_run == 3
            assert result.not_run >= (2 if "rate" in options else 0)
            assert is_over(workers)

    def test_while_a_process_of_rows_is_being_closed(self, executor):
        """Each thread takes two locks, that of the run first: any other order is a deadlock."""

        def stop_when_it_is_gone(live):
            process = live._control
            with live._lock:  # as LiveRun.stop() takes it
                os.kill(live.pid, signal.SIGKILL)
                wait_until(lambda: process._is_closed)
                process.kill()

        code = "import time\ntime.sleep(1000)"
        evaluation = threading.Thread(
            target=lambda: executor.evaluate(code, rows_of(4), per=lambda row: 0), daemon=True
        )
        evaluation.start()
        wait_until(lambda: any(live.pid for live in executor.live_runs))
        [live] = [live for live in executor.live_runs if live.pid]
        stopper = threading.Thread(target=stop_when_it_is_gone, args=[live], daemon=True)
        stopper.start()
        stopper.join(HANG_GUARD_SECS)
        assert not stopper.is_alive()
        executor.kill_all_processes()
        evaluation.join(HANG_GUARD_SECS)
        assert not evaluation.is_alive()

    def test_a_fault_of_ours_is_raised(self, workers, monkeypatch):
        def broken(*_):
            raise ZeroDivisionError("ours")

        monkeypatch.setattr(workers, "_run", broken)
        with pytest.raises(ZeroDivisionError, match="ours"):
            workers.evaluate(ECHO, rows_of(5))
        with pytest.raises(ZeroDivisionError, match="ours"):
            list(workers.map(ECHO, rows_of(5)))
        assert is_over(workers)


PROGRAM = """
import os, signal, sys, threading, time
from isolated_magic import EvaluationInterrupted, IsolatedSubprocessExecutor

executor = IsolatedSubprocessExecutor()
CODE = "import os, time\\nopen(os.path.join(data['folder'], str(os.getpid())), 'w').close()\\ntime.sleep(1000)"
rows = [{"folder": sys.argv[1], "n": n} for n in range(20)]

told = threading.Event()

def evaluate():
    result = executor.evaluate(CODE, rows, jobs=2)
    print(result.stopped, result.not_run, flush=True)
    told.set()

def wait_for_runs():
    while len(os.listdir(sys.argv[1])) < 2:
        time.sleep(0.01)
"""


class TestEndOfTheProgram:
    @pytest.fixture
    def ended(self, tmp_path):
        """What a program prints, and how it ends; none of its runs is left."""

        def run(code):
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM + textwrap.dedent(code), str(tmp_path)],
                capture_output=True,
                text=True,
                timeout=2 * HANG_GUARD_SECS,
                check=False,
            )
            pids = pids_in(tmp_path)
            assert len(pids) >= 2  # threads go on until the interpreter ends, and may have begun the next rows
            wait_until(lambda: not any(map(is_alive, pids)))
            return done

        return run

    def test_with_an_evaluation_in_a_daemon_thread(self, ended):
        done = ended("threading.Thread(target=evaluate, daemon=True).start()\nwait_for_runs()")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    @pytest.mark.parametrize("per", [None, "n"])
    def test_with_an_iterator_that_nobody_closed(self, ended, per):
        done = ended(
            f"""
            code = "exec(" + repr(CODE) + ") if data['n'] else None\\n1.0"
            results = executor.map(code, rows, jobs=2, per={per!r})
            next(results)
            wait_for_runs()
            """
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    def test_that_tears_down(self, ended):
        done = ended(
            """
            executor.register_teardown_callback(lambda: told.wait(60))
            threading.Thread(target=evaluate, daemon=True).start()
            wait_for_runs()
            """
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "The evaluation was stopped: all runs of its executor were. 20\n"

    def test_by_sigterm_that_nobody_handles(self, ended):
        done = ended(
            """
            threading.Thread(target=lambda: (wait_for_runs(), os.kill(os.getpid(), signal.SIGTERM))).start()
            evaluate()
            """
        )
        assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")

    def test_by_sigterm_that_tears_down(self, ended):
        done = ended(
            """
            signal.signal(signal.SIGTERM, lambda *_: executor.teardown())
            threading.Thread(target=lambda: (wait_for_runs(), os.kill(os.getpid(), signal.SIGTERM))).start()
            evaluate()
            """
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "The evaluation was stopped: all runs of its executor were. 20\n"

    def test_by_sigint_in_a_thread_of_its_own(self, ended):
        """SIGINT is the main thread's: the evaluation of another one goes on until it is torn down."""
        done = ended(
            """
            thread = threading.Thread(target=evaluate)
            thread.start()
            wait_for_runs()
            try:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            except KeyboardInterrupt:
                executor.teardown()
            thread.join()
            """
        )
        assert done.stdout == "The evaluation was stopped: all runs of its executor were. 20\n"
