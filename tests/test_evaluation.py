"""A whole dataset scored: one run for each row."""

import asyncio
import inspect
import math
import os
import threading
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from isolated_magic import (
    EvaluationResult,
    EvaluationStoppedError,
    InvalidRequestError,
    IsolatedSubprocessExecutor,
)
from tests.runs import rows_of, values

CODE = "1 / data['n']"
ECHO = "data['n']"
# A run notes that it was begun: a line with its number and the time.
NOTED = "import os, time\nos.write(int(os.open(data['file'], os.O_WRONLY | os.O_APPEND)), f\"{data['n']} {time.monotonic()}\\n\".encode())\n"
FLAKY = NOTED + (
    "begun = sum(line.split()[0] == str(data['n']) for line in open(data['file']))\n"
    "if begun <= data['failing']: raise ConnectionError(f'attempt {begun}')\nbegun"
)


@pytest.fixture(scope="module")
def executor():
    with IsolatedSubprocessExecutor() as executor:
        yield executor


@pytest.fixture
def noted(tmp_path):
    """The file in which runs of NOTED say that they have begun."""
    file = tmp_path / "begun"
    file.touch()
    return file


def begun_in(file: Path):
    """The numbers of the rows whose runs have begun, in their order, and when."""
    lines = [line.split() for line in file.read_text().splitlines()]
    return [int(number) for number, _ in lines], [float(at) for _, at in lines]


class TestRows:
    def test_each_row_has_its_scores_or_its_error(self, executor):
        result = executor.evaluate(CODE, [{"n": n} for n in (1, 2, 0, 4)])
        assert isinstance(result, EvaluationResult)
        assert values(result) == [1.0, 0.5, "ZeroDivisionError: division by zero (line 1)", 0.25]
        assert result.failures == (result.rows[2],)
        assert not result.ok
        assert (result.not_run, result.stopped) == (0, "")

    def test_what_depends_on_the_row_is_a_function_of_it(self, executor):
        code = "import os\nprint(os.environ['TENANT_ID'])\ndata['half']"
        rows = [{"tenant": f"t{n}", "n": n} for n in range(5)]
        result = executor.evaluate(
            code,
            rows,
            env_vars=lambda row: {"TENANT_ID": row["tenant"]},
            data=lambda row: {"half": row["n"] / 2},
            key=lambda row: row["n"],
            cluster="tenant",
        )
        assert [row.stdout for row in result] == [f"t{n}\n" for n in range(5)]
        assert values(result) == [0, 0.5, 1, 1.5, 2]
        assert [(row.key, row.cluster) for row in result] == [(str(n), f"t{n}") for n in range(5)]
        assert all(row.row is given for row, given in zip(result, rows, strict=True))

    def test_rows_are_read_lazily_and_given_back_in_order(self, executor):
        read = []

        def rows():
            for n in range(1000):
                read.append(n)
                yield {"n": n + 1}

        results = executor.map(CODE, rows(), jobs=2)
        first = [next(results).scores[0].value for _ in range(3)]
        results.close()
        assert first == [1.0, 1 / 2, 1 / 3]
        assert len(read) < 100
        assert executor.live_runs == ()

    def test_a_slow_row_holds_back_none_that_is_read_but_those_behind_it(self, workers):
        rows = rows_of(60)
        rows[0]["secs"] = 0.3
        found = list(workers.map("import time\ntime.sleep(data.get('secs', 0))\ndata['n']", rows))
        assert [row.scores[0].value for row in found] == [*range(1, 61)]
        assert [row.index for row in found] == [*range(60)]

    def test_repetitions(self, workers):
        result = workers.evaluate("import os\nos.urandom(4)[0]", rows_of(3), repeat=4)
        assert [(row.index, row.repetition) for row in result] == [(n, k) for n in range(3) for k in range(4)]
        assert len({row.key for row in result}) == 3
        assert result.repeat == 4

    def test_keys_are_made_of_the_content_and_differ(self, workers):
        first = workers.evaluate(ECHO, [{"n": 1}, {"n": 2}, {"n": 1}])
        keys = [row.key for row in first]
        assert len(set(keys)) == 3
        assert keys[2] == f"{keys[0]}-2"
        # That of the row, although all runs get the same data.
        other = workers.evaluate("1", [{"n": 1}, {"n": 2}], data={"same": 1})
        assert len({row.key for row in other}) == 2
        assert [row.key for row in workers.evaluate(ECHO, [{"n": 2}, {"n": 1}])] == [keys[1], keys[0]]

    def test_the_options_are_those_of_the_signature(self, executor):
        names = [*inspect.signature(executor.evaluate).parameters]
        assert names[:3] == ["code", "rows", "env_vars"]
        for name in (
            *("data", "jobs", "per", "key", "repeat", "limit", "retries", "fail_on_error", "checkpoint", "rate"),
            *("timeout_secs", "payload_type", "secrets", "progress", "sample", "seed", "cluster"),
        ):
            assert name in names
            assert name in inspect.signature(executor.aevaluate).parameters
        assert "progress" not in inspect.signature(executor.map).parameters


class TestChoice:
    def test_the_first_ones(self, workers):
        read = []
        rows = (read.append(n) or {"n": n} for n in range(100))
        result = workers.evaluate(ECHO, rows, limit=5)
        assert values(result) == [0, 1, 2, 3, 4]
        assert read == [0, 1, 2, 3, 4]
        assert result.ok
        assert len(workers.evaluate(ECHO, rows_of(3), limit=0)) == 0

    def test_a_sample_is_the_same_every_time_and_in_order(self, workers):
        def sampled(rows, **options):
            return [row.index for row in workers.evaluate(ECHO, rows, sample=8, **options)]

        first = sampled(rows_of(100))
        assert first == sampled(rows_of(100)) == sorted(first)
        assert len(set(first)) == 8
        assert first != sampled(rows_of(100), seed=1)
        unsized = sampled({"n": n} for n in range(100))
        assert unsized == sampled({"n": n} for n in range(100)) == sorted(unsized)
        assert all(index < 10 for index in sampled(rows_of(100), limit=10))
        assert sampled(rows_of(5)) == [*range(5)]
        assert sampled(iter(rows_of(5))) == [*range(5)]

    def test_a_sample_reads_no_more_than_it_has_to(self, workers):
        class Rows:
            read = []  # noqa: RUF012 - of this test

            def __len__(self):
                return 1000

            def __getitem__(self, index):
                if not 0 <= index < 1000:
                    raise IndexError(index)
                self.read.append(index)
                return {"n": index}

        result = workers.evaluate(ECHO, Rows(), sample=3)
        assert Rows.read == values(result)

    def test_each_row_has_the_same_chance(self):
        from isolated_magic.evaluation.rows import RowSource, taken

        chosen = Counter(
            index for seed in range(2000) for index, _ in taken(RowSource(iter(range(10))), None, 3, seed).rows
        )
        assert set(chosen) == {*range(10)}
        assert all(abs(count - 600) < 120 for count in chosen.values())  # six standard deviations


class TestRetries:
    def test_a_row_is_run_again_and_counted_once(self, workers, noted):
        rows = [{"n": n, "file": str(noted), "failing": n % 2} for n in range(4)]
        seen = []
        result = workers.evaluate(FLAKY, rows, retries=2, progress=seen.append)
        assert values(result) == [1, 2, 1, 2]
        assert [len(row.attempts) for row in result] == [1, 2, 1, 2]
        first, last = result.rows[1].attempts
        assert first.error.summary.startswith("ConnectionError: attempt 1")
        assert first.timings.execution_ms > 0
        assert last.error is None
        assert (seen[-1].done, seen[-1].failed) == (4, 0)
        assert Counter(begun_in(noted)[0]) == {0: 1, 1: 2, 2: 1, 3: 2}

    def test_a_row_that_waits_holds_no_job(self, workers, noted):
        rows = [{"n": n, "file": str(noted), "failing": n == 0} for n in range(4)]
        workers.evaluate(FLAKY, rows, retries=1, jobs=1)
        assert begun_in(noted)[0] == [0, 1, 2, 3, 0]

    def test_the_wait_doubles(self, workers, noted):
        rows = [{"n": 0, "file": str(noted), "failing": 2}]
        result = workers.evaluate(FLAKY, rows, retries=2)
        at = begun_in(noted)[1]
        assert at[1] - at[0] >= 0.5
        assert at[2] - at[1] >= 1
        assert len(result.rows[0].failed_attempts) == 2

    def test_the_last_error_stays_when_there_are_no_more(self, workers, noted):
        result = workers.evaluate(FLAKY, [{"n": 0, "file": str(noted), "failing": 9}], retries=1)
        assert result.rows[0].error.summary.startswith("ConnectionError: attempt 2")
        assert [attempt.error.summary[:26] for attempt in result.rows[0].attempts] == [
            "ConnectionError: attempt 1",
            "ConnectionError: attempt 2",
        ]

    @pytest.mark.parametrize(
        ("code", "options"),
        [
            ("def f(:", {}),
            ("class BaseMetric: pass\nclass M(BaseMetric):\n    def score(self, a): return 1", {}),
            ("import sys; sys.exit(3)", {}),
            ("x = 1", {}),
            ("raise KeyError('x')", {"retry_on": ["ValueError", "timeout"]}),
            ("1", {"data": lambda row: row["missing"], "retry_on": ["KeyError"]}),
        ],
    )
    def test_what_would_fail_again_is_not_run_again(self, workers, code, options):
        result = workers.evaluate(code, [{"n": 1}], retries=3, **options)
        assert [len(row.attempts) for row in result.failures] == [1]

    @pytest.mark.parametrize(
        ("code", "named"),
        [
            ("raise KeyError('x')", "KeyError"),
            ("raise KeyError('x')", "LookupError"),  # a base
            ("class MyError(Exception): pass\nraise MyError", "MyError"),
            ("import json; json.loads('{')", "json.decoder.JSONDecodeError"),
            ("import json; json.loads('{')", "json.JSONDecodeError"),  # as one imports it
            ("import json; json.loads('{')", "JSONDecodeError"),
            ("import os; os._exit(3)", "no_result"),
            ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "died"),
        ],
    )
    def test_what_is_named_is_run_again(self, workers, code, named):
        result = workers.evaluate(code, [{"n": 1}], retries=1, retry_on=[named])
        assert [len(row.attempts) for row in result.failures] == [2]

    def test_a_timeout_is_run_again_when_it_is_named(self, workers):
        result = workers.evaluate(
            "import time; time.sleep(100)", [{"n": 1}], retries=1, retry_on=["timeout"], timeout_secs=0.2
        )
        assert [attempt.error.kind for attempt in result.rows[0].attempts] == ["timeout", "timeout"]


class TestRate:
    def test_starts_are_paced(self, workers, noted):
        rows = rows_of(8, file=str(noted))
        begun_at = time.monotonic()
        workers.evaluate(NOTED + "1", rows, rate="20/s", jobs=2)
        at = begun_in(noted)[1]
        assert all(noted_at - begun_at >= nth * 0.05 for nth, noted_at in enumerate(sorted(at)))

    def test_a_second_attempt_is_a_start_too(self, workers, noted):
        rows = [{"n": n, "file": str(noted), "failing": 1} for n in range(3)]
        begun_at = time.monotonic()
        result = workers.evaluate(FLAKY, rows, retries=1, rate="5/s")
        assert result.ok
        assert time.monotonic() - begun_at >= 5 * 0.2

    @pytest.mark.parametrize(
        ("rate", "per_sec"), [("10/s", 10), ("90 / min", 1.5), ("3600/hour", 1), (2.5, 2.5), (4, 4)]
    )
    def test_ways_to_write_it(self, rate, per_sec):
        from isolated_magic.executors.evaluation_options import EvaluationSettings

        assert math.isclose(EvaluationSettings(rate=rate).rate_per_sec, per_sec)


class TestFailOnError:
    def test_a_number(self, workers):
        result = workers.evaluate(CODE, [{"n": n % 2} for n in range(100)], fail_on_error=3, jobs=1)
        assert len(result.failures) == 3
        assert len(result) == 5
        assert result.not_run == 95
        assert result.stopped == "The evaluation was stopped: 3 rows failed, and fail_on_error is 3."
        assert not result.ok

    def test_a_share_of_all_rows(self, workers):
        result = workers.evaluate(CODE, [{"n": n % 2} for n in range(50)], fail_on_error=0.1, jobs=1)
        assert len(result.failures) == 5
        below = workers.evaluate(CODE, [{"n": n} for n in range(20)], fail_on_error=0.1, jobs=1)
        assert len(below.failures) == 1
        assert (below.not_run, below.stopped) == (0, "")

    def test_a_share_of_rows_that_nobody_has_counted(self, workers):
        few = workers.evaluate(CODE, ({"n": n} for n in range(20)), fail_on_error=0.1, jobs=1)
        assert (few.not_run, few.stopped) == (0, "")
        many = workers.evaluate(CODE, ({"n": 0} for n in range(100_000)), fail_on_error=0.1, jobs=1)
        assert len(many.failures) == 10
        assert many.not_run is None

    def test_the_rows_that_run_are_killed_and_count_as_not_run(self, workers, noted):
        both = "while len(open(data['file']).readlines()) < 2: time.sleep(0.01)\n"
        code = NOTED + both + "if data['n'] == 1: 1 / 0\ntime.sleep(1000)"
        rows = rows_of(2, file=str(noted))
        rows.reverse()
        result = workers.evaluate(code, rows, fail_on_error=True)
        assert sorted(begun_in(noted)[0]) == [1, 2]
        assert [row.row["n"] for row in result] == [1]
        assert result.not_run == 1
        assert workers.active_pids == ()

    def test_what_comes_last_stops_nothing(self, workers):
        result = workers.evaluate(CODE, [{"n": 1}, {"n": 0}], fail_on_error=1, jobs=1)
        assert (len(result), result.not_run, result.stopped) == (2, 0, "")

    def test_map_says_so_after_the_rows_that_were_done(self, workers):
        found = []
        with pytest.raises(EvaluationStoppedError, match="2 rows failed"):
            found.extend(workers.map(CODE, [{"n": n % 2} for n in range(100)], fail_on_error=2))
        assert sum(not row.ok for row in found) >= 2
        assert len(found) < 50


class TestProgress:
    def test_it_is_told_in_this_thread_and_at_the_end(self, workers):
        told, threads = [], set()

        def progress(now):
            told.append(now)
            threads.add(threading.get_ident())

        workers.evaluate(
            "import time; time.sleep(0.05)\n1 / data['n']", [{"n": n} for n in range(20)], progress=progress
        )
        assert threads == {threading.get_ident()}
        assert len(told) >= 2
        last = told[-1]
        assert (last.done, last.total, last.failed) == (20, 20, 1)
        assert last.means == {"score": pytest.approx(sum(1 / n for n in range(1, 20)) / 19)}
        assert last.elapsed_secs > 0
        assert [now.done for now in told] == sorted(now.done for now in told)

    def test_how_many_there_are_is_known_when_all_are_read(self, workers):
        told = []
        workers.evaluate(ECHO, iter(rows_of(3)), progress=told.append)
        assert told[-1].total == 3

    def test_what_it_raises_ends_the_evaluation(self, workers):
        def progress(now):
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            workers.evaluate("import time; time.sleep(1000)", rows_of(5), progress=progress)
        assert workers.live_runs == ()


class TestAsync:
    def test_as_evaluate(self, workers):
        told, threads = [], set()

        def progress(now):
            told.append(now)
            threads.add(threading.get_ident())

        async def both():
            return await asyncio.gather(
                workers.aevaluate(CODE, [{"n": n} for n in range(3)], progress=progress),
                workers.aevaluate(ECHO, rows_of(3)),
            )

        first, second = asyncio.run(both())
        assert values(first) == ["ZeroDivisionError: division by zero (line 1)", 1, 0.5]
        assert values(second) == [1, 2, 3]
        assert threads == {threading.get_ident()}
        assert told[-1].done == 3

    def test_cancelling_it_kills_all_runs(self, workers):
        async def cancelled():
            task = asyncio.create_task(workers.aevaluate("import time; time.sleep(1000)", rows_of(50)))
            while len(workers.active_pids) < 2:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return workers.live_runs

        assert asyncio.run(cancelled()) == ()

    def test_cancelling_it_while_code_of_the_callers_blocks(self, workers):
        blocks, goes_on = threading.Event(), threading.Event()

        def rows():
            yield from rows_of(2)
            blocks.set()
            goes_on.wait()

        async def cancelled():
            task = asyncio.create_task(workers.aevaluate("import time; time.sleep(1000)", rows()))
            while not (blocks.is_set() and len(workers.active_pids) == 2):
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return workers.live_runs

        try:
            assert asyncio.run(cancelled()) == ()
        finally:
            goes_on.set()

    def test_cancelling_it_at_once(self, workers):
        async def cancelled():
            task = asyncio.create_task(workers.aevaluate("import time; time.sleep(1000)", rows_of(50)))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return workers.live_runs

        assert asyncio.run(cancelled()) == ()

    def test_mistakes(self, workers):
        async def rows():
            yield {"n": 1}

        with pytest.raises(InvalidRequestError, match="rows is"):
            asyncio.run(workers.aevaluate(ECHO, rows()))
        with pytest.raises(InvalidRequestError, match="jobs is 0"):
            asyncio.run(workers.aevaluate(ECHO, [], jobs=0))

        def progress(now):
            raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            asyncio.run(workers.aevaluate(ECHO, rows_of(3), progress=progress))


class TestMemory:
    def test_a_row_takes_less_than_a_kilobyte(self, workers):
        workers.evaluate(ECHO, rows_of(20))
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            result = workers.evaluate("{'relevance': 0.5, 'length': data['n']}", ({"n": n} for n in range(600)))
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert len(result) == 600
        assert taken / 600 < 1024 + 2 * 200  # with two scores

    def test_map_keeps_nothing(self, workers):
        def most_over(count):
            tracemalloc.start()
            try:
                before = tracemalloc.get_traced_memory()[0]
                for _ in workers.map(ECHO, map(int, range(count))):  # no dicts: errors, made without a run
                    pass
                return tracemalloc.get_traced_memory()[1] - before
            finally:
                tracemalloc.stop()

        most_over(100)
        assert most_over(12_000) < most_over(2_000) + 100_000


class TestThreads:
    def test_several_at_once(self, workers):
        found = {}

        def evaluate(number):
            found[number] = values(workers.evaluate("data['n']", [{"n": 10 * number + n} for n in range(10)]))

        threads = [threading.Thread(target=evaluate, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert found == {number: [10 * number + n for n in range(10)] for number in range(4)}
        assert not [thread for thread in threading.enumerate() if "evaluation" in thread.name]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="of forks")
    def test_in_a_fork(self, workers):
        begun = workers.map(ECHO, rows_of(200))
        next(begun)
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                begun.close()  # ends at once: nothing of it is in this process
                status = 0 if values(workers.evaluate(ECHO, rows_of(5))) == [1, 2, 3, 4, 5] else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert [row.scores[0].value for row in begun] == [*range(2, 201)]
