"""Runs in the background, and the commands that list and stop what runs."""

import threading

import pytest

from isolated_magic import BackgroundRun, InvalidRequestError, NoSuchScoreError, StillRunningError
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, HIDING_TREE, is_alive, pids_in, wait_as_promised, wait_until

STAY = "import time\ntime.sleep(1000)"
WAIT_FOR_GATE = "import pathlib, time\nwhile not pathlib.Path(data['gate']).exists(): time.sleep(0.01)\n"


class TestHandle:
    def test_it_returns_at_once_and_the_result_comes(self, executor, tmp_path):
        gate = tmp_path / "gate"
        run = executor.start(
            f"print('before', flush=True)\n{WAIT_FOR_GATE}print('after')\n0.5", {"gate": str(gate)}
        )
        assert isinstance(run, BackgroundRun)
        assert is_alive(run.pid)
        assert executor.active_pids == (run.pid,)
        wait_until(lambda: run.stdout == "before\n")
        assert not run.done()
        with pytest.raises(TimeoutError, match="still going on after"):
            run.result(timeout=0.01)
        gate.touch()
        result = run.result(HANG_GUARD_SECS)
        assert run.done()
        assert (result.scores[0].value, result.stdout, run.stdout) == (0.5, "before\nafter\n", "before\nafter\n")
        wait_as_promised(lambda: not is_alive(run.pid))
        assert run.result() is result

    def test_it_takes_what_it_was_given_at_the_start(self, executor, tmp_path):
        data = {"gate": str(tmp_path / "gate"), "value": 1}
        run = executor.start(f"{WAIT_FOR_GATE}data['value']", data)
        data["value"] = 2
        (tmp_path / "gate").touch()
        assert run.result(HANG_GUARD_SECS).scores[0].value == 1

    def test_a_kill_takes_the_tree(self, executor, tmp_path):
        pids = tmp_path / "pids"
        pids.mkdir()
        run = executor.start(HIDING_TREE + STAY, {"folder": str(pids)})
        wait_until((tmp_path / "ready").exists)
        assert run.kill()
        assert not any(map(is_alive, pids_in(pids)))
        assert run.result().error.kind == "killed"
        assert run.kill()

    def test_an_interrupt_lets_it_clean_up(self, executor):
        run = executor.start(
            "import time\ntry:\n    print('on', flush=True)\n    time.sleep(1000)\nfinally: print('off')"
        )
        wait_until(lambda: run.stdout.endswith("\n"))
        run.interrupt()
        result = run.result(HANG_GUARD_SECS)
        assert (result.error.kind, result.error.code, result.stdout) == ("interrupted", 500, "on\noff\n")

    def test_a_failure_is_a_result(self, executor):
        assert executor.start("1 / 0").result(HANG_GUARD_SECS).error.summary.startswith("ZeroDivisionError")

    def test_what_cannot_be_run_is_refused_at_once(self, executor):
        with pytest.raises(InvalidRequestError, match="file not found"):
            executor.start("missing.py")

    def test_a_kill_before_anything_happened(self, executor):
        for _ in range(20):
            run = executor.start(STAY)
            assert run.kill()
            assert run.result(HANG_GUARD_SECS).error.kind == "killed"
            assert run.pid is None or not is_alive(run.pid)

    def test_a_teardown_ends_it(self, executor):
        run = executor.start(STAY)
        assert is_alive(run.pid)
        executor.teardown()
        assert run.result(HANG_GUARD_SECS).error.kind == "killed"

    def test_many_at_once(self, executor):
        runs = [executor.start("import os\nint(os.environ['N'])", env_vars={"N": n}) for n in range(50)]
        assert [run.result(HANG_GUARD_SECS).scores[0].value for run in runs] == list(range(50))
        assert executor.active_pids == ()

    def test_it_has_the_same_text_on_every_run(self, executor):
        run = executor.start(STAY, label="mine")
        assert repr(run) == "<BackgroundRun 'mine' running>"
        assert run.kill()
        assert repr(run).startswith("<BackgroundRun 'mine' failed: RunResult(error='The run was killed")
        run = executor.start("0.5", label="mine")
        run.result(HANG_GUARD_SECS)
        assert repr(run) == "<BackgroundRun 'mine' done: RunResult(scores={'score': 0.5}, exit_status=0)>"

    def test_it_has_all_that_a_result_has(self, executor):
        run = executor.start("print('out')\n{'scores': [{'name': 'a', 'value': 1}, {'name': 'b', 'value': 0.5}]}")
        result = run.result(HANG_GUARD_SECS)
        assert run.state == "done"
        assert (run["b"], "a" in run, "c" in run, list(run)) == (result["b"], True, False, list(result.scores))
        public = [name for name in dir(result) if not name.startswith("_")]
        public.remove("with_notes")  # it makes another result
        for name in public:
            of_run, of_result = getattr(run, name), getattr(result, name)
            if callable(of_result):
                continue
            assert of_run == of_result, name
        assert (run.to_dict(), len(run.to_pandas())) == (result.to_dict(), 2)
        assert bool(run) == bool(result)
        with pytest.raises(NoSuchScoreError, match="'a', 'b'"):
            run["c"]

    def test_what_it_has_when_it_failed(self, executor):
        run = executor.start("1 / 0")
        run.result(HANG_GUARD_SECS)
        assert (run.state, run.ok, run.error.code, run.scores) == ("failed", False, 400, ())
        assert "failed: RunResult(error='ZeroDivisionError" in repr(run)

    def test_while_it_runs_it_says_so_instead(self, executor):
        run = executor.start(STAY, label="mine")
        for look in (
            lambda: run["score"],
            lambda: "score" in run,
            lambda: list(run),
            lambda: bool(run),
            lambda: run.scores,
            lambda: run.ok,
            lambda: run.error,
            run.to_dict,
            run.to_pandas,
        ):
            with pytest.raises(
                StillRunningError, match=r"The run mine is still running .* wait for it with \.result\(\)"
            ):
                look()
        assert (run.state, run.done(), run.stdout) == ("running", False, "")
        assert run.kill()


@pytest.fixture(scope="module")
def cells():
    with kernel() as started:
        yield started


class TestCells:
    def test_the_cell_ends_at_once_and_its_output_is_on_the_handle(self, cells, tmp_path):
        gate = tmp_path / "gate"
        shown = cells.ok(
            f"%%isolated --bg -o run -d gate={gate}\nprint('hello')\n{WAIT_FOR_GATE}print('late')\n0.5"
        )
        assert (shown.text, shown.stdout) == ("BackgroundRun run: running", "")
        assert cells.ok("run.pid > 0, run.done()").text == "(True, False)"
        gate.touch()
        shown = cells.ok(f"run.result({HANG_GUARD_SECS})")
        assert shown.text == "run  0.5  █████░░░░░"
        assert shown.stdout == ""
        assert cells.ok("run.done(), run.stdout").text == r"(True, 'hello\nlate\n')"

    def test_when_it_has_ended_showing_it_gives_its_output_and_scores(self, cells):
        cells.ok("%%isolated --bg -o run\nimport sys\nprint('<b>')\nprint('oops', file=sys.stderr)\n0.5")
        cells.ok(f"_ = run.result({HANG_GUARD_SECS})")
        shown = cells.ok("run")
        assert shown.text.splitlines() == [
            *("BackgroundRun run: done", "", "<b>", "", "stderr:", "oops"),
            *("run  0.5  █████░░░░░",),
        ]
        assert "<strong>BackgroundRun run: done</strong>" in shown.data["text/html"]
        assert "&lt;b&gt;" in shown.data["text/html"]
        assert "| run | 0.5 |" in shown.data["text/markdown"]
        assert shown.metadata == {"isolated_magic": {"scores": [{"name": "score", "value": 0.5, "reason": None}]}}
        assert cells.ok("run['score'].value, run.ok, 'score' in run, [s.name for s in run]").text == (
            "(0.5, True, True, ['score'])"
        )

    def test_a_failed_one_shows_its_error(self, cells):
        cells.ok("%%isolated --bg -o run\nprint('before')\n1/0")
        assert cells.ok(f"run.result({HANG_GUARD_SECS}).ok").text == "False"
        lines = cells.ok("run").text.splitlines()
        assert [line for line in lines if line][:3] == [
            *("BackgroundRun run: failed", "before", "ZeroDivisionError: division by zero (line 3)"),
        ]

    def test_while_it_runs_its_scores_are_an_error_in_one_line(self, cells):
        cells.ok(f"%%isolated --bg -o run\n{STAY}")
        shown = cells.run("run['score']")
        assert shown.ename == "StillRunningError"
        assert " ".join(shown.traceback.split()) == f"StillRunningError: {shown.evalue}"
        cells.ok("run.kill()")

    def test_the_cell_that_starts_it_shows_the_same_however_fast_it_is(self, cells, tmp_path):
        (tmp_path / "metric.py").write_text("0.5")
        start = f"run = %isolated run {tmp_path}/metric.py --bg\n"
        wait = "import time\nwhile run.state == 'running': time.sleep(0.01)\n"
        assert cells.ok(f"{start}{wait}run").text == "BackgroundRun metric.py: running"
        assert cells.ok("run").text.startswith("BackgroundRun metric.py: done")
        for look in ("run.result()", "run.scores", "run.done()"):
            assert cells.ok(f"{start}{wait}{look}\nrun").text.startswith("BackgroundRun metric.py: done")

    def test_nothing_that_it_prints_lands_in_a_later_cell(self, cells):
        cells.ok(
            "%%isolated --bg -o run\nimport time\nfor n in range(20): print(n, flush=True); time.sleep(0.01)\n1"
        )
        shown = [cells.ok("import time; time.sleep(0.05)") for _ in range(5)]
        assert not any(one.stdout or one.stderr for one in shown)
        assert cells.ok("run.result().stdout.split()[-1]").text == "'19'"

    def test_status_lists_what_runs_and_stop_ends_it(self, cells):
        cells.ok("%isolated teardown")
        assert cells.ok("%isolated status").stdout == "Nothing runs.\n"
        assert cells.ok("%isolated stop").stdout == "Nothing runs.\n"
        cells.ok(f"%%isolated --bg -o one -e TENANT_ID=tenant-4711\n{STAY}")
        cells.ok(f"%%isolated --bg -o two\n{STAY}")
        listed = cells.ok("%isolated status").stdout
        pids = cells.ok("one.pid, two.pid").text
        assert [line.split()[0] for line in listed.splitlines()] == ["pid", *pids.strip("()").split(", ")]
        assert [line.split()[-1] for line in listed.splitlines()] == ["label", "one", "two"]
        assert "4711" not in listed
        assert cells.ok(f"%isolated stop {pids.strip('()').split(', ')[0]}").stdout == "1 run stopped.\n"
        assert (
            cells.ok("one.done(), two.done(), str(one.result().error.kind)").text == "(True, False, 'interrupted')"
        )
        assert cells.ok("%isolated stop").stdout == "1 run stopped.\n"
        stopped = "has failed, error: The run was stopped before it ended."
        assert cells.ok("%isolated status").stdout == f"Nothing runs.\none {stopped}\ntwo {stopped}\n"

    def test_status_lists_the_last_ten_that_ended_until_a_teardown(self, cells):
        for number in range(12):
            cells.ok(f"%%isolated --bg -o run{number}\n{number}")
            cells.ok(f"run{number}.result({HANG_GUARD_SECS})")
        assert cells.ok("%isolated status").stdout.splitlines() == [
            "Nothing runs.",
            *[f"run{number} is done: score {number}" for number in range(2, 12)],
        ]
        cells.ok("%isolated teardown")
        assert cells.ok("%isolated status").stdout == "Nothing runs.\n"

    def test_status_lists_what_is_imported_ahead_and_what_is_not(self, cells):
        cells.ok("%config IsolatedMagic.preload = ['numpy', 'this', 'nosuchmodule']")
        try:
            cells.ok("%%isolated\n1")
            wait_until(lambda: "Imported ahead" in cells.ok("%isolated status").stdout)
            ahead = cells.ok("%isolated status").stdout.splitlines()[-3:]
            assert ahead == [
                "Imported ahead of runs: numpy.",
                "Not imported ahead: nosuchmodule (there is no such module).",
                "Not imported ahead: this (it prints).",
            ]
            warned = [cells.ok("%%isolated\n1").stderr for _ in range(3)]
            assert [text.count("UserWarning: this is not imported ahead: it prints.") for text in warned] == [
                1,
                0,
                0,
            ]
        finally:
            cells.ok("%config IsolatedMagic.preload = 'learned'")

    def test_an_executor_of_the_library_finds_what_the_magic_has_imported(self, cells):
        run = "%%isolated -o made\nimport numpy\n1"
        wait_until(lambda: cells.ok(run) and cells.ok("made.launch").text == "'forked'")
        library = (
            "from isolated_magic import IsolatedSubprocessExecutor\nexecutor = IsolatedSubprocessExecutor()\n"
        )
        assert cells.ok(f"{library}executor.run('import numpy\\n1').launch").text == "'forked'"
        cells.ok("executor.teardown()")
        cells.ok(run)
        assert cells.ok("made.launch").text == "'forked'"

    def test_teardown_calls_what_was_registered_once(self, cells):
        cells.ok("def goodbye(): print('goodbye')")
        assert "goodbye() is called" in cells.ok("%isolated on-teardown goodbye").stdout
        cells.ok(f"%%isolated --bg -o run\n{STAY}")
        assert cells.ok("%isolated teardown").stdout.startswith("goodbye\n")
        assert cells.ok("str(run.result().error.kind)").text == "'killed'"
        assert "goodbye" not in cells.ok("%isolated teardown").stdout
        assert cells.ok("%%isolated\n0.5").text.startswith("score")

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("stop 1", "%isolated stop 1 has no run with that pid: `%isolated status` lists them."),
            ("stop 1 2", "%isolated stop takes one pid, or none to stop all."),
            ("status all", "%isolated status takes no words."),
            ("teardown now", "%isolated teardown takes no words."),
            ("on-teardown", "%isolated on-teardown takes the name of a function of the notebook."),
            ("on-teardown cels", "%isolated on-teardown cels: the notebook has no variable of that name."),
            ("on-teardown number", "%isolated on-teardown number: it is int; give a function without arguments."),
        ],
    )
    def test_a_wrong_command_is_one_sentence(self, cells, line, said):
        cells.ok("number = 5")
        shown = cells.run(f"%isolated {line}")
        assert (shown.ename, shown.evalue) == ("OptionError", said)
        assert " ".join(shown.traceback.split()) == f"OptionError: {said}"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            ("--memory 1X", "--memory 1X: give a size, such as 512M or 2G."),
            ("--max-output -1", "--max-output -1: give a size, such as 512M or 2G."),
            ("--cpu 0", "--cpu 0: give a number of seconds greater than zero."),
            ("--open-files many", "--open-files many: give a whole number greater than zero."),
            ("--bg -e A={True}", "Environment variable A is bool: write the text it should have"),
        ],
    )
    def test_a_wrong_option_is_one_sentence(self, cells, words, said):
        shown = cells.run(f"%%isolated {words}\n1")
        assert shown.ename == "OptionError"
        assert shown.evalue.startswith(said)

    def test_limits_on_the_line(self, cells):
        shown = cells.run("%%isolated --memory 512M\nbytearray(10**9)")
        assert shown.evalue == "memory limit 512 MB exceeded (MemoryError (line 2))"
        assert cells.run("%%isolated --cpu 1\nwhile True: pass").evalue.startswith("CPU time limit 1 s exceeded")
        shown = cells.ok("%%isolated --max-output 10\nprint('x' * 100)\n0.5")
        assert shown.stdout == "xxxxxxxxxx\n[stdout is cut here: more than 10 bytes, the limit of output]\n"
        assert shown.text.startswith("score")


class TestFromAnotherThread:
    """A subshell's cells run in a thread of the kernel beside the main one."""

    def test_a_cell_of_the_main_shell_is_stopped(self, cells, tmp_path):
        cells.ok(
            "import threading, pathlib, time\n"
            "def stop_when(path):\n"
            "    while not pathlib.Path(path).exists(): time.sleep(0.01)\n"
            "    get_ipython().run_line_magic('isolated', 'stop')\n"
            f"thread = threading.Thread(target=stop_when, args=({str(tmp_path / 'ready')!r},)); thread.start()"
        )
        touch = f"import pathlib\npathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        shown = cells.run(f"%%isolated\n{touch}{STAY}")
        assert shown.ename == "RunInterrupted"
        assert shown.traceback == f"RunInterrupted: {shown.evalue}"
        cells.ok("thread.join()")
        assert cells.ok("%%isolated\n0.5").text.startswith("score")

    def test_from_a_real_subshell(self, cells, tmp_path):
        subshell = cells.new_subshell()
        ready = tmp_path / "ready"
        request = cells.start(f"%%isolated\nimport pathlib\npathlib.Path({str(ready)!r}).touch()\n{STAY}")
        wait_until(ready.exists)
        cells.start("%isolated stop", subshell=subshell)
        assert cells.collect(request).ename == "RunInterrupted"
        assert cells.ok("%%isolated\n0.5").text.startswith("score")


def test_a_run_in_a_thread_is_stopped_while_another_goes_on(executor):
    results = []
    thread = threading.Thread(target=lambda: results.append(executor.run(STAY)))
    thread.start()
    wait_until(lambda: executor.live_runs and executor.live_runs[0].pid)
    other = executor.start("import time\ntime.sleep(0.2)\n0.5")
    executor.live_runs[0].interrupt()
    thread.join(HANG_GUARD_SECS)
    assert results[0].error.kind == "interrupted"
    assert other.result(HANG_GUARD_SECS).ok
