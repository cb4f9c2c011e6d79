"""A timeout shows where the code was."""

from types import SimpleNamespace

import pytest

from isolated_magic.supervisor.timeout_stack import is_complete, place_in
from tests.runs import OURS, as_text, run_cell
from tests.time_limits import time_limit_from

# What code says right before it gets to where it stays.
THERE = "open(data['there'], 'w').close()"


@pytest.fixture
def cut_off(executor, tmp_path):
    """Runs code with a time limit of one second, from when it has begun, or from when it says that it is there."""
    there = tmp_path / "there"

    def cut_off(code, run=run_cell):
        says_so = THERE in code if isinstance(code, str) else True
        with time_limit_from(there.exists if says_so else lambda: True):
            return run(executor, code, data={"there": str(there)}, timeout_secs=1)

    return cut_off


def run_file(executor, file, **settings):
    return executor.run(file, **settings)


class TestTimeout:
    @pytest.mark.parametrize(
        ("code", "line"),
        [
            (
                f"import time\ndef wait():\n    {THERE}; time.sleep(1000)\nwait()",
                f"----> 4     {THERE}; time.sleep(1000)",
            ),
            ("while True:\n    x = 1", "----> "),
            (
                f"import subprocess; {THERE}\nsubprocess.run(['sleep', '1000'])",
                "----> 3 subprocess.run(['sleep', '1000'])",
            ),
            (f"import re; {THERE}\nre.match('(a+)+$', 'a' * 40 + 'b')", "----> 3 re.match("),
            (
                f"import threading\nthread = threading.Thread(target=threading.Event().wait)\nthread.start(); {THERE}\nthread.join()",
                "----> 5 thread.join()",
            ),
            (f"import asyncio; {THERE}\nasyncio.run(asyncio.sleep(1000))", "----> 3 asyncio.run("),
            (
                f"import signal, time\nfor number in signal.valid_signals() - {{9, 19, 32, 33}}: signal.signal(number, signal.SIG_IGN) if number < 32 else None\n{THERE}; time.sleep(1000)",
                f"----> 4 {THERE}; time.sleep(1000)",
            ),
        ],
    )
    def test_it_shows_where_the_code_was(self, cut_off, code, line):
        result = cut_off(code)
        assert result.to_dict() == {"code": 500, "error": "Execution timed out after 1 seconds"}
        assert line in result.error.excerpt
        assert result.error.stack.startswith('Stack (most recent call last):\n  File "<cell>", line ')
        assert not any(name in result.error.stack for name in OURS)
        assert as_text(result).startswith("Execution timed out after 1 seconds\n\nCell, line ")

    def test_a_metric_of_a_file_with_an_odd_name(self, cut_off, tmp_path):
        file = tmp_path / "metrik-ü-漢.py"
        file.write_text(f"import time\ndef f_ü():\n    time.sleep(1000)\n{THERE}; f_ü()\n")
        error = cut_off(file, run_file).error
        assert f"{file}, line 3, in f_ü" in error.excerpt
        assert "    time.sleep(1000)" in error.stack

    def test_code_that_cannot_say_where_it_is(self, cut_off):
        error = cut_off(f"import os, signal\n{THERE}; os.kill(os.getpid(), signal.SIGSTOP)").error
        assert error.text == "Execution timed out after 1 seconds"

    def test_code_that_became_another_program(self, cut_off):
        error = cut_off(f"import os\n{THERE}; os.execvp('sleep', ['sleep', '1000'])").error
        assert (error.text, error.excerpt) == ("Execution timed out after 1 seconds", "")

    def test_one_after_the_code_had_finished_says_so(self, cut_off):
        result = cut_off(f"import atexit, time\natexit.register(time.sleep, 1000)\n{THERE}\n0.5")
        assert result.error.text == (
            "Execution timed out after 1 seconds (the code had finished; a thread, an exit function or a finalizer "
            "of its had not)"
        )

    def test_in_a_cell(self, cells):
        cells.ok("%%isolated\nimport time\n1")  # its launch is no part of what the next cells have
        shown = cells.run("%%isolated -t 4\nimport time\ntime.sleep(1000)")
        assert "----> 3 time.sleep(1000)" in shown.traceback
        page = cells.ok("%%isolated -t 4 --no-raise\nimport time\ntime.sleep(1000)").data["text/html"]
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
def test_a_timeout_in_deep_calls_shows_where_the_code_was(cut_off, depth):
    code = f"import time\ndef f(n):\n    if n == 0:\n        {THERE}\n        time.sleep(1000)\n    f(n - 1)\nf({depth})"
    error = cut_off(code, run_file).error
    assert "time.sleep(1000)" in error.excerpt
    assert "time.sleep(1000)" in error.stack
