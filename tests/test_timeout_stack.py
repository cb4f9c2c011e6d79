"""A timeout shows where the code was."""

from types import SimpleNamespace

import pytest

from isolated_magic.supervisor.timeout_stack import is_complete, place_in
from tests.runs import OURS, as_text, run_cell


class TestTimeout:
    @pytest.mark.parametrize(
        ("code", "line"),
        [
            ("import time\ndef wait():\n    time.sleep(1000)\nwait()", "----> 4     time.sleep(1000)"),
            ("while True:\n    x = 1", "----> "),
            ("import subprocess\nsubprocess.run(['sleep', '1000'])", "----> 3 subprocess.run(['sleep', '1000'])"),
            ("import re\nre.match('(a+)+$', 'a' * 40 + 'b')", "----> 3 re.match("),
            (
                "import threading\nthread = threading.Thread(target=threading.Event().wait)\nthread.start()\nthread.join()",
                "----> 5 thread.join()",
            ),
            ("import asyncio\nasyncio.run(asyncio.sleep(1000))", "----> 3 asyncio.run("),
            (
                "import signal, time\nfor number in signal.valid_signals() - {9, 19, 32, 33}: signal.signal(number, signal.SIG_IGN) if number < 32 else None\ntime.sleep(1000)",
                "----> 4 time.sleep(1000)",
            ),
        ],
    )
    def test_it_shows_where_the_code_was(self, executor, code, line):
        result = run_cell(executor, code, timeout_secs=1)
        assert result.to_dict() == {"code": 500, "error": "Execution timed out after 1 seconds"}
        assert line in result.error.excerpt
        assert result.error.stack.startswith('Stack (most recent call last):\n  File "<cell>", line ')
        assert not any(name in result.error.stack for name in OURS)
        assert as_text(result).startswith("Execution timed out after 1 seconds\n\nCell, line ")

    def test_a_metric_of_a_file_with_an_odd_name(self, executor, tmp_path):
        file = tmp_path / "metrik-ü-漢.py"
        file.write_text("import time\ndef f_ü():\n    time.sleep(1000)\nf_ü()\n")
        error = executor.run(file, timeout_secs=1).error
        assert f"{file}, line 3, in f_ü" in error.excerpt
        assert "    time.sleep(1000)" in error.stack

    def test_code_that_cannot_say_where_it_is(self, executor):
        error = run_cell(executor, "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", timeout_secs=1).error
        assert error.text == "Execution timed out after 1 seconds"

    def test_code_that_became_another_program(self, executor):
        error = run_cell(executor, "import os\nos.execvp('sleep', ['sleep', '1000'])", timeout_secs=1).error
        assert (error.text, error.excerpt) == ("Execution timed out after 1 seconds", "")

    def test_one_after_the_code_had_finished_says_so(self, executor):
        code = "import atexit, time\natexit.register(time.sleep, 1000)\n0.5"
        result = run_cell(executor, code, timeout_secs=1)
        assert result.error.text == (
            "Execution timed out after 1 seconds (the code had finished; a thread, an exit function or a finalizer "
            "of its had not)"
        )

    def test_in_a_cell(self, cells):
        shown = cells.run("%%isolated -t 1\nimport time\ntime.sleep(1000)")
        assert "----> 3 time.sleep(1000)" in shown.traceback
        page = cells.ok("%%isolated -t 1 --no-raise\nimport time\ntime.sleep(1000)").data["text/html"]
        assert "----&gt; 3 time.sleep(1000)" in page.split("<details")[0]


WRITTEN = b"""Thread 0x00007fb4 (most recent call first):
  File "/x/threading.py", line 10 in wait
  File "/x/threading.py", line 20 in _bootstrap

Current thread 0x00007fb5 (most recent call first):
  File "<cell>", line 2 in f
  File "<cell>", line 3 in <module>
  File "CHILD/program.py", line 49 in execute
  File "CHILD/start.py", line 24 in <module>
"""


class TestStacks:
    request = SimpleNamespace(path=None, source="\nf()\nf()\n", source_name="<cell>", cwd="/", container=None)

    def written(self, *lines):
        from isolated_magic.supervisor.timeout_stack import OWN_FOLDER

        return b"\n".join(lines or [WRITTEN]).replace(b"CHILD", OWN_FOLDER.encode())

    def test_the_main_thread_is_the_one_that_has_our_frames(self):
        place = place_in(self.written(), self.request)
        assert place.stack.splitlines() == [
            "Stack (most recent call last):",
            '  File "<cell>", line 3, in <module>',
            "    f()",
            '  File "<cell>", line 2, in f',
            "    f()",
        ]

    @pytest.mark.parametrize("end", range(0, len(WRITTEN), 7))
    def test_a_part_of_it_is_no_reason_to_fail(self, end):
        place_in(self.written(WRITTEN[:end]), self.request)
        assert is_complete(self.written(WRITTEN[:end])) == (end >= len(WRITTEN))

    def test_whatever_else_was_written(self):
        for noise in (
            b"",
            b"\xff\xfe\0",
            b"Thread 0x1 (most recent call first):\n",
            b'  File "<cell>", line 99999 in x\n',
        ):
            assert place_in(noise, self.request).excerpt == ""

    def test_many_calls_are_cut(self):
        frames = b"".join(b'  File "<cell>", line 2 in f\n' for _ in range(90))
        written = (
            b"Current thread 0x1 (most recent call first):\n"
            + frames
            + b'  File "CHILD/start.py", line 24 in <module>\n'
        )
        stack = place_in(self.written(written), self.request).stack
        assert "[60 calls left out]" in stack
        assert stack.count("File") == 30


@pytest.mark.parametrize("depth", [50, 150, 900])
def test_a_timeout_in_deep_calls_shows_where_the_code_was(executor, depth):
    code = f"import time\ndef f(n):\n    if n == 0:\n        time.sleep(1000)\n    f(n - 1)\nf({depth})"
    error = executor.run(code, timeout_secs=1).error
    assert "time.sleep(1000)" in error.excerpt
    assert "time.sleep(1000)" in error.stack
