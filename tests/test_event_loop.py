"""Code that awaits: at top level, in its last expression, in a metric; one event loop for all of a run."""

import pytest

from isolated_magic import IsolatedSubprocessExecutor, ProcessExecutor
from tests.runs import LIGHT, as_text, refusal, run_cell, scores
from tests.time_limits import time_limit_from

AWAITS = "import asyncio\nasync def f(value=0.5):\n    await asyncio.sleep(0)\n    return value\n"


def value_of(executor, code):
    (score,) = scores(executor, AWAITS + code)
    return score["value"]


class TestTopLevelAwait:
    @pytest.mark.parametrize(
        "code",
        [
            "await f()",
            "x = await f()\nx",
            "f()",
            "async def g():\n    for _ in range(3):\n        yield 0.5\nasync for x in g(): pass\nx",
            "async def g():\n    yield 0.5\n[x async for x in g()][0]",
            "[await f() for _ in range(2)][0]",
            "class C:\n    async def __aenter__(self): return 0.5\n    async def __aexit__(self, *_): pass\nasync with C() as x: pass\nx",
            "task = asyncio.create_task(f())\nawait asyncio.sleep(0)\ntask",
            "await asyncio.sleep(0)\nasyncio.gather(f())\n0.5",
            "async def g(): return f()\ng()",
        ],
    )
    def test_it_works_as_in_a_notebook(self, executor, code):
        assert value_of(executor, code) == 0.5

    def test_names_and_features_hold_for_the_last_expression(self, executor):
        code = "from __future__ import annotations\n" + AWAITS
        code += "x = await f()\ndef g(a: nowhere): pass\nfloat(x == await f() and g.__annotations__ == {'a': 'nowhere'})"
        assert scores(executor, code)[0]["value"] == 1.0

    def test_body_last_expression_and_metric_share_one_loop(self, executor):
        code = (
            AWAITS
            + LIGHT
            + (
                "await f()\nloop = asyncio.get_running_loop()\n"
                "class Mine(BaseMetric):\n    async def score(self): return float(asyncio.get_running_loop() is loop)\nMine()"
            )
        )
        assert scores(executor, code)[0]["value"] == 1.0

    def test_context_variables_of_the_body_are_there_in_the_last_expression(self, executor):
        code = "import contextvars\nv = contextvars.ContextVar('v')\nv.set(await f())\nv.get()"
        assert value_of(executor, code) == 0.5

    def test_the_traceback_is_that_of_the_code(self, executor):
        error = run_cell(executor, "async def g():\n    raise ValueError('boom')\nawait g()").error
        assert error.text == (
            'Traceback (most recent call last):\n  File "<cell>", line 4, in <module>\n    await g()\n'
            "  File \"<cell>\", line 3, in g\n    raise ValueError('boom')\nValueError: boom"
        )
        assert error.excerpt.startswith("Cell, line 3, in g")

    def test_code_without_it_imports_no_asyncio(self):
        with IsolatedSubprocessExecutor(launch="cold") as executor:
            assert scores(executor, "import sys\nfloat('asyncio' in sys.modules)")[0]["value"] == 0.0

    def test_asyncio_run_goes_on_working_without_it(self, executor):
        assert value_of(executor, "asyncio.run(f())") == 0.5
        assert value_of(executor, "x = asyncio.run(f())\nf()") == 0.5

    def test_both_at_once_say_what_to_write(self, executor):
        result = run_cell(executor, AWAITS + "await f()\nasyncio.run(f())")
        assert result.error.summary == (
            "RuntimeError: asyncio.run() cannot be called from a running event loop (line 7)"
        )
        assert result.error.hint.endswith("write await in place of asyncio.run().")
        assert result.stderr == ""

    def test_await_in_a_plain_function_is_still_an_error(self, executor):
        assert "'await' outside async function" in executor.execute("def g():\n    await f()", {})["error"]

    def test_a_file_may_await_too(self, executor, tmp_path):
        (tmp_path / "metric.py").write_text(AWAITS + "await f()")
        assert executor.execute(str(tmp_path / "metric.py"), {})["scores"][0]["value"] == 0.5

    def test_the_code_is_scanned_for_its_imports(self):
        with IsolatedSubprocessExecutor(launch="forked") as executor:
            for _ in range(2):
                assert value_of(executor, "import numpy\nawait f(float(numpy.float64(0.5)))") == 0.5

    def test_a_worker_runs_it_again_and_again(self):
        with ProcessExecutor(workers=1) as executor:
            for number in range(5):
                assert value_of(executor, f"await f({number})") == number
                assert value_of(executor, "x = await f()\nx") == 0.5
                assert value_of(executor, "asyncio.run(f())") == 0.5
                assert (
                    "asyncio.run() cannot" in executor.execute(AWAITS + "await f()\nasyncio.run(f())", {})["error"]
                )


class TestValues:
    def test_coroutines_in_a_list_or_a_dict_are_awaited(self, executor):
        code = AWAITS + LIGHT + "async def g(name, value): return ScoreResult(name, await f(value))\n"
        found = scores(executor, code + "[g('a', 0.1), ScoreResult('b', 0.2), g('c', 0.3)]")
        assert [(score["name"], score["value"]) for score in found] == [("a", 0.1), ("b", 0.2), ("c", 0.3)]
        found = scores(executor, code + "async def h(): return [await g('a', 0.1)]\n{'scores': h()}")
        assert [(score["name"], score["value"]) for score in found] == [("a", 0.1)]

    def test_an_asynchronous_generator_is_named(self, executor):
        assert "is an async_generator" in refusal(executor, "async def g():\n    yield 1\ng()")

    def test_its_exception_is_the_codes(self, executor):
        error = run_cell(executor, "async def g():\n    return 1 / 0\n[g()]").error
        assert error.text.splitlines()[1] == '  File "<cell>", line 3, in g'
        assert error.summary == "ZeroDivisionError: division by zero (line 3)"


class TestEnd:
    def test_tasks_that_are_left_are_cancelled_and_may_clean_up(self, executor):
        code = AWAITS + (
            "async def forever():\n    try:\n        await asyncio.sleep(1000)\n    finally:\n        print('cleaned up')\n"
            "task = asyncio.create_task(forever())\nawait f()"
        )
        result = executor.run(code)
        assert (result.scores[0].value, result.stdout, result.stderr) == (0.5, "cleaned up\n", "")

    def test_generators_that_are_left_are_finished(self, executor):
        code = "async def g():\n    try:\n        yield 0.5\n    finally:\n        print('finished')\nkept = g()\nawait anext(kept)"
        result = executor.run(code)
        assert (result.scores[0].value, result.stdout) == (0.5, "finished\n")

    @pytest.mark.parametrize(
        "code", ["await f()\nimport sys\nsys.exit(3)", "import sys\nasync def g(): sys.exit(3)\nawait g()"]
    )
    def test_leaving_with_sys_exit(self, executor, code):
        assert executor.run(AWAITS + code).exit_status == 3

    def test_a_timeout_shows_the_codes_own_stack(self, executor):
        with time_limit_from(secs=4):
            result = run_cell(
                executor, "import time\nasync def g():\n    time.sleep(1000)\nawait g()", timeout_secs=1
            )
        assert result.error.excerpt.startswith("Cell, line 4, in g")
        assert result.error.stack.count("  File ") == 2
        assert "event_loop" not in as_text(
            run_cell(executor, AWAITS + "await asyncio.sleep(1000)", timeout_secs=1)
        )

    def test_an_interrupt_reaches_what_is_awaited(self, executor):
        code = AWAITS + (
            "import os, signal\nasyncio.get_running_loop().call_later(0.05, os.kill, os.getpid(), signal.SIGINT)\n"
            "try:\n    await asyncio.sleep(1000)\nexcept asyncio.CancelledError:\n    print('cancelled')\n    raise\n"
        )
        result = executor.run(code)
        assert result.stdout == "cancelled\n"
        assert result.error.summary.startswith("KeyboardInterrupt")

    def test_an_alarm_of_its_own_goes_off(self, executor):
        code = AWAITS + (
            "import signal\ndef ring(*_): raise TimeoutError('rang')\nsignal.signal(signal.SIGALRM, ring)\n"
            "signal.setitimer(signal.ITIMER_REAL, 0.05)\nawait asyncio.sleep(1000)"
        )
        assert executor.run(code).error.summary.startswith("TimeoutError: rang")

    def test_nothing_of_the_loop_is_left_in_a_worker(self):
        with ProcessExecutor(workers=1) as executor:
            count = "import os\nlen(os.listdir('/proc/self/fd'))"
            assert value_of(executor, "await f()") == 0.5
            before = executor.run(count).scores[0].value
            for _ in range(3):
                executor.run(AWAITS + "await f()")
            assert executor.run(count).scores[0].value == before
