"""Checkpoints: what an evaluation has done is in a file, and the next one goes on from there."""

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from isolated_magic import InvalidRequestError, IsolatedSubprocessExecutor
from isolated_magic.evaluation.checkpoint import Checkpoint, Session, digests_of
from isolated_magic.evaluation.row_result import RowResult
from isolated_magic.launch.resources import processors
from isolated_magic.models import Score
from tests.processes import HANG_GUARD_SECS, wait_until

CODE = """
import os
with open(os.environ["RAN"], "a") as file:
    file.write(f"{data['n']}\\n")
1 / (data["n"] - 2)"""
ROWS = [{"n": n} for n in range(6)]
FAILED = {2}


def by_n(row):
    return row["n"]


@pytest.fixture(scope="module")
def executor():
    with IsolatedSubprocessExecutor() as executor:
        yield executor


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory, with the file to which each run of CODE appends its row."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    return tmp_path


@pytest.fixture
def evaluate(executor, folder):
    """Evaluates with a checkpoint; gives the result and the rows that ran for it."""

    def evaluate(code=CODE, rows=ROWS, checkpoint="c.jsonl", **options):
        result = executor.evaluate(code, rows, checkpoint=checkpoint, **options)
        return result, taken_ran()

    return evaluate


def taken_ran():
    """The rows that ran since this was last called, sorted."""
    file = Path(os.environ["RAN"])
    ran = sorted(map(int, file.read_text().split())) if file.exists() else []
    file.unlink(missing_ok=True)
    return ran


def scored_in(file):
    """Keys of the rows that complete lines of the file say are scored."""
    lines = Path(file).read_bytes().split(b"\n")[1:-1]
    return {told["key"] for told in map(json.loads, lines) if "error" not in told and "key" in told}


def resumed(result):
    return [row.is_resumed for row in result]


class TestResuming:
    def test_failed_rows_run_again_and_scored_ones_do_not(self, evaluate):
        first, ran = evaluate()
        assert ran == [0, 1, 2, 3, 4, 5]
        seen = []
        second, ran = evaluate(checkpoint=Path("c.jsonl"), progress=seen.append)
        assert ran == [2]
        assert (seen[-1].done, seen[-1].resumed, seen[-1].failed) == (6, 5, 1)
        assert second == first
        assert [row.row for row in second] == ROWS
        assert resumed(second) == [n not in FAILED for n in range(6)]
        assert first.notes == ()
        assert second.notes == ("5 of 6 rows come from the checkpoint c.jsonl. 1 that had failed ran again.",)

    def test_a_row_from_the_file_is_as_if_it_had_run(self, evaluate):
        code = """
import sys
from IPython.display import HTML, display
display(HTML("<b>shown</b>"))
print("out \\U0001f600 \\u2028", data["n"])
print("err", file=sys.stderr)
{"scores": [{"name": "nan", "value": float("nan")}, {"name": "good", "value": 1, "reason": "why", "passed": True,
 "threshold": 0.0, "metadata": {"a": [1, None, float("inf")]}}, {"name": "label", "value": "x"}], "more": [data["n"]]}
"""
        options = {"key": by_n, "cluster": lambda row: row["n"] % 2, "repeat": 2, "rows": ROWS[:2]}
        first, _ = evaluate(code, **options)
        assert first.ok, first.failures[0].error
        second, _ = evaluate(code, **options)
        assert resumed(second) == [True] * 4
        assert second == first
        for row, before in zip(second, first, strict=True):
            for name in ("index", "key", "row", "payload", "displays", "repetition", "cluster"):
                assert getattr(row, name) == getattr(before, name), name
            assert row.timings.execution_ms == pytest.approx(before.timings.execution_ms, abs=0.001)
        assert second.summary["metrics"]["good"] == first.summary["metrics"]["good"]

    def test_rows_with_the_same_content_have_a_line_each(self, evaluate):
        rows = [{"n": 7}] * 3 + [{"n": 2}] * 2
        first, ran = evaluate(rows=rows)
        assert ran == [2, 2, 7, 7, 7]
        second, ran = evaluate(rows=[*rows, {"n": 7}])
        assert ran == [2, 2, 7]
        assert second.rows[:5] == first.rows

    def test_repetitions_are_rows_of_their_own(self, evaluate):
        evaluate(rows=[{"n": 1}, {"n": 3}])
        result, ran = evaluate(rows=[{"n": 1}, {"n": 3}], repeat=3)
        assert ran == [1, 1, 3, 3]
        assert [(row.index, row.repetition, row.is_resumed) for row in result] == [
            (index, repetition, repetition == 0) for index in (0, 1) for repetition in (0, 1, 2)
        ]

    def test_map_takes_what_is_there_and_adds_the_rest(self, executor, folder):
        first = executor.map(CODE, iter(ROWS), checkpoint="c.jsonl", jobs=1)
        assert next(first).key
        first.close()
        done = len(taken_ran())
        assert done > 0
        again = list(executor.map(CODE, iter(ROWS), checkpoint="c.jsonl"))
        assert [row.scores[0].value for row in again if row.ok] == [1 / (n - 2) for n in (0, 1, 3, 4, 5)]
        assert sum(row.is_resumed for row in again) >= 1
        assert len(taken_ran()) == 6 - sum(row.is_resumed for row in again)


class TestChanges:
    def test_changed_rows_run_again(self, evaluate):
        evaluate(key=by_n)
        rows = [dict(row, new=1) if row["n"] in {0, 5} else row for row in ROWS]
        result, ran = evaluate(rows=rows, key=by_n)
        assert ran == [0, 2, 5]
        assert result.notes == (
            "3 of 6 rows come from the checkpoint c.jsonl. 1 that had failed ran again. 2 that had changed since "
            "they were scored ran again.",
        )
        assert evaluate(rows=rows, key=by_n)[1] == [2]
        assert evaluate(key=by_n)[1] == [0, 2, 5]

    def test_a_row_is_another_one_where_only_what_is_not_its_data_changed(self, evaluate):
        options = {"data": lambda row: {"n": row["n"]}, "env_vars": lambda row: {"TENANT": row["tenant"]}}
        rows = [{"n": 3, "tenant": "a"}, {"n": 3, "tenant": "b"}]
        code = "import os\nprint(os.environ['TENANT'])\n1"
        evaluate(code, rows, **options)
        result, _ = evaluate(code, rows[::-1], **options)
        assert [row.stdout for row in result] == ["b\n", "a\n"]

    def test_more_and_fewer_rows(self, evaluate):
        evaluate(key=by_n)
        result, ran = evaluate(rows=[{"n": n} for n in range(1, 9)], key=by_n)
        assert ran == [2, 6, 7, 8]
        assert [row.index for row in result] == list(range(8))
        assert result.notes == (
            "4 of 8 rows come from the checkpoint c.jsonl. 1 that had failed ran again.",
            "There are 8 rows, and were 6 when the checkpoint c.jsonl was written. 1 scored row of the checkpoint "
            "c.jsonl is not in the input any more: it stays in the file, and is not in this result.",
        )
        result, ran = evaluate(rows=[{"n": n} for n in range(9)], key=by_n)
        assert ran == [2]

    def test_another_key_is_asked_about(self, evaluate):
        evaluate(rows=ROWS[3:])
        result, ran = evaluate(rows=ROWS[3:], key=by_n)
        assert ran == [3, 4, 5]
        assert result.notes == (
            "No scored row of the checkpoint c.jsonl is in the input: have they changed, or their key?",
        )

    def test_changed_code_is_refused_until_the_user_has_chosen(self, evaluate):
        evaluate(rows=ROWS[3:])
        before = Path("c.jsonl").read_bytes()
        with pytest.raises(InvalidRequestError) as refused:
            evaluate(CODE + "+ 1")
        assert str(refused.value) == (
            "checkpoint c.jsonl holds 3 rows scored by other code: the code or its payload type has changed since. "
            "Choose with --checkpoint-mode, or checkpoint_mode=: resume keeps these scores and runs the other rows "
            "with the code as it is now; restart runs all rows, and keeps the old file as c.jsonl.bak."
        )
        assert taken_ran() == []
        assert Path("c.jsonl").read_bytes() == before

    def test_resume_keeps_the_scores_of_other_code_and_says_so(self, evaluate):
        evaluate(rows=ROWS[3:])
        result, ran = evaluate(CODE + "+ 1", checkpoint_mode="resume")
        assert ran == [0, 1, 2]
        assert [row.scores[0].value for row in result if row.ok] == [0.5, 0.0, 1.0, 0.5, 1 / 3]
        assert "3 of them were scored by other code: mode restart runs all again." in result.notes[0]
        result, ran = evaluate(CODE + "+ 1")
        assert ran == [2]
        assert "3 of them were scored by other code" in result.notes[0]
        with pytest.raises(InvalidRequestError, match="holds 5 rows scored by other code"):
            evaluate(CODE)

    def test_restart_runs_all_rows_and_keeps_the_old_file(self, evaluate):
        evaluate()
        before = Path("c.jsonl").read_bytes()
        result, ran = evaluate(CODE + "+ 1", rows=ROWS[1:], checkpoint_mode="restart")
        assert ran == [1, 2, 3, 4, 5]
        assert result.notes == ()
        assert Path("c.jsonl.bak").read_bytes() == before
        assert evaluate(CODE + "+ 1", rows=ROWS[1:])[1] == [2]

    def test_code_in_a_file_and_the_payload_type_are_code(self, evaluate):
        file = Path("metric.py")
        file.write_text(CODE)
        evaluate(file)
        assert evaluate(file)[1] == [2]
        with pytest.raises(InvalidRequestError, match="scored by other code"):
            evaluate(file, payload_type="other")
        file.write_text(CODE + "+ 1")
        with pytest.raises(InvalidRequestError, match="scored by other code"):
            evaluate(file)


class TestFiles:
    def test_a_torn_last_line_is_cut_off(self, evaluate):
        first, _ = evaluate()
        whole = Path("c.jsonl").read_bytes()
        *lines, last = whole.splitlines(keepends=True)
        for cut in (1, len(last) // 2, len(last) - 1):
            Path("c.jsonl").write_bytes(b"".join(lines) + last[:cut])
            second, ran = evaluate()
            assert len(ran) in {1, 2}  # that which failed, and that of the torn line unless it is the same
            assert second == first
            assert all(map(json.loads, Path("c.jsonl").read_bytes().splitlines()))
            assert second.notes[0].startswith("5 of 6" if len(ran) == 1 else "4 of 6")

    @pytest.mark.parametrize("rest", [b"", b"\0" * 300, b'{"isolated_magic checkpoint":1,"code":"ab'])
    def test_a_file_that_was_left_before_its_first_line_is_new(self, evaluate, rest):
        Path("c.jsonl").write_bytes(rest)
        assert evaluate()[1] == [0, 1, 2, 3, 4, 5]
        assert evaluate()[1] == [2]

    def test_broken_lines_in_the_middle_are_named(self, evaluate):
        evaluate(key=by_n, jobs=1)
        lines = Path("c.jsonl").read_bytes().splitlines(keepends=True)
        lines[1] = b"\0" * 40 + b"\n"  # the row 0
        lines[2] = lines[2].replace(b'"scores"', b'"scores":1,"old"')
        Path("c.jsonl").write_bytes(b"".join(lines))
        result, ran = evaluate(key=by_n)
        assert ran == [0, 1, 2]
        assert result.notes[1] == "Lines 2, 3 are no rows, and were passed over in the checkpoint c.jsonl."
        assert evaluate(key=by_n)[1] == [2]

    def test_whatever_happens_to_the_file_an_evaluation_can_go_on(self, folder):
        rows = [RowResult(n, f"key {n}", None, (Score("x", n / 7),), stdout="text" * (n % 5)) for n in range(30)]
        digests = [digests_of(row.key, b"%d" % row.index) for row in rows]
        chance, session, path = random.Random(17), Session("code", 30, 1), Path("c.jsonl")
        with closing(Checkpoint(path, None, session)) as checkpoint:
            for row, its in zip(rows, digests, strict=True):
                checkpoint.append(row, its)
        whole = path.read_bytes()
        for _ in range(100):
            content = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.6 else whole)
            at, size = chance.randrange(len(whole)), chance.choice([1, 40, 512])
            filler = chance.choice([bytes(size), chance.randbytes(size)])
            if chance.random() < 0.6:
                content[at : at + size] = filler
            path.write_bytes(content)
            if content.strip(b"\0") and not content.startswith(whole[: whole.index(b"1")]):
                with pytest.raises(InvalidRequestError, match="is another file, not a checkpoint"):
                    Checkpoint(path, "resume", session)
                continue
            with closing(Checkpoint(path, "resume", session)) as checkpoint:
                for row, its in zip(rows, digests, strict=True):
                    found = checkpoint.take(its, 0)
                    if found is None:
                        checkpoint.append(row, its)
                    else:  # what a power cut leaves is cut off or zeros, and never read as another result
                        assert found == row or any(filler)
            with closing(Checkpoint(path, "resume", session)) as checkpoint:
                assert all(checkpoint.take(its, 0) for its in digests)

    @pytest.mark.parametrize("content", [b'{"n": 1}\n{"n": 2}\n', b"{", b"\x89PNG", b"\n"])
    def test_any_other_file_is_left_as_it_is(self, evaluate, content):
        Path("mine.jsonl").write_bytes(content)
        for mode in (None, "resume", "restart"):
            with pytest.raises(
                InvalidRequestError, match=r"^checkpoint mine\.jsonl is another file, not a checkp"
            ):
                evaluate(checkpoint="mine.jsonl", checkpoint_mode=mode)
        assert Path("mine.jsonl").read_bytes() == content
        assert taken_ran() == []

    def test_a_backup_replaces_no_file(self, evaluate):
        Path("c.jsonl.bak").write_text("mine")
        for backup in ("c.jsonl.bak2", "c.jsonl.bak3"):
            evaluate(rows=ROWS[2:3], checkpoint_mode="restart")  # without a score, it needs no backup
            assert not Path(backup).exists()
            evaluate()
            before = Path("c.jsonl").read_bytes()
            with pytest.raises(InvalidRequestError, match=rf"keeps the old file as {re.escape(backup)}\.$"):
                evaluate(CODE + "+ 1")
            evaluate(rows=ROWS[2:3], checkpoint_mode="restart")
            assert Path(backup).read_bytes() == before
        assert Path("c.jsonl.bak").read_text() == "mine"

    def test_what_cannot_be_a_checkpoint_is_said_before_the_first_row(self, evaluate, folder):
        for checkpoint, options, problem in [
            ("no/c.jsonl", {}, r"^checkpoint no/c\.jsonl cannot be opened: there is no folder no\.$"),
            (".", {}, r"checkpoint \. is no file: give the path of a file of its own"),
            ("/dev/null", {}, "checkpoint /dev/null is no file"),
            ("", {}, "checkpoint is '': give the path of a file"),
            (7, {}, "checkpoint is 7: give the path of a file"),
            (None, {"checkpoint_mode": "resume"}, "checkpoint_mode is 'resume' without a checkpoint"),
            ("c.jsonl", {"checkpoint_mode": "again"}, "checkpoint_mode is 'again': give 'resume', 'restart'"),
            ("a\0b", {}, "has a NUL in it, and is the path of no file"),
        ]:
            with pytest.raises(InvalidRequestError, match=problem):
                evaluate(checkpoint=checkpoint, **options)
        assert taken_ran() == []
        assert list(folder.iterdir()) == []

    def test_a_file_that_is_removed_meanwhile_is_missed(self, executor, evaluate):
        def rows():
            yield from ROWS[:3]
            Path("c.jsonl").unlink()
            yield from ROWS[3:]

        result, _ = evaluate(rows=rows())
        assert result.notes == (
            "The checkpoint c.jsonl was removed or replaced while it was written: rows that were in it are lost.",
        )
        assert len(result) == 6

    def test_a_file_of_a_newer_version(self, evaluate):
        Path("c.jsonl").write_text('{"isolated_magic checkpoint":2,"what":"ever"}\n')
        with pytest.raises(InvalidRequestError, match="was written by a newer version of isolated_magic"):
            evaluate()


def test_no_secret_and_no_row_is_in_the_file(executor, folder):
    rows = [{"n": n, "token": f"sk-secret-{n}", "text": "the row itself"} for n in range(4)]
    code = """
import os
print(os.environ["API_KEY"], data["token"])
if data["n"] == 1:
    raise ValueError(data["token"])
{"scores": [{"name": "x", "value": 1, "reason": data["token"]}], "payload": data["token"]}
"""
    options = {
        "env_vars": lambda row: {"API_KEY": row["token"]},
        "secrets": ["API_KEY"],
        "key": lambda row: f"{row['n'] // 2} {row['token']}",
    }
    first = executor.evaluate(code, rows, checkpoint="c.jsonl", **options)
    assert "sk-secret" not in Path("c.jsonl").read_text()
    assert "the row itself" not in Path("c.jsonl").read_text()
    second = executor.evaluate(code, rows, checkpoint="c.jsonl", **options)
    assert second == first
    assert resumed(second) == [True, False, True, True]
    assert "sk-secret" not in Path("c.jsonl").read_text()


class TestOneWriter:
    def test_a_second_evaluation_is_refused_while_one_runs(self, executor, evaluate):
        results = executor.map(CODE, ROWS, checkpoint="c.jsonl", jobs=1)
        next(results)
        with pytest.raises(
            InvalidRequestError, match=r"^checkpoint c\.jsonl is being written by another evaluation"
        ):
            evaluate()
        results.close()
        evaluate()

    def test_an_iterator_that_nobody_keeps_gives_the_file_free(self, executor, evaluate):
        executor.map(CODE, ROWS, checkpoint="c.jsonl")  # never begun
        evaluate()

    def test_a_cancelled_evaluation_gives_the_file_free(self, executor, evaluate, folder):
        async def cancelled():
            slow = executor.aevaluate("import time\ntime.sleep(1000)", ROWS, checkpoint="c.jsonl")
            task = asyncio.ensure_future(slow)
            while not (folder / "c.jsonl").exists():
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        asyncio.run(cancelled())
        evaluate()

    def test_forks_of_this_process_do_not_keep_the_lock(self, executor, evaluate):
        results = executor.map(CODE, ROWS, checkpoint="c.jsonl", jobs=1)
        next(results)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:  # as a process of multiprocessing does: it stays when the evaluation has ended
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        results.close()
        try:
            evaluate()
        finally:
            os.close(writer)
            os.waitpid(pid, 0)
            os.close(reader)


# An evaluation in a process of its own, which is killed, interrupted, or has no room left.
OWNER = """
import os, pathlib, resource, signal, sys

from isolated_magic import EvaluationInterrupted, IsolatedSubprocessExecutor

options = eval(os.environ["OPTIONS"])
limit = options.pop("most_bytes", None)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
rows = [{"n": n, "tenant": n % 3} for n in range(200)]
code = pathlib.Path("code.py").read_text()
try:
    with IsolatedSubprocessExecutor() as executor:
        result = executor.evaluate(code, rows, key=lambda row: row["n"], checkpoint="c.jsonl", **options)
    print("whole" if result.ok else result.stopped)
except EvaluationInterrupted as interrupted:
    result = interrupted.result
    print("interrupted", result.not_run + len(result.rows))
print(len(result.rows), *result.notes, sep="\\n")
sys.exit(any(row.ok and row.scores[0].value != row.row["n"] for row in result))
"""
OWNER_CODE = """
import os, time
with open(os.environ["RAN"], "a") as file:
    file.write(f"{data['n']}\\n")
print("x" * 200)
float(data["n"])
"""


def start_owner(code=OWNER_CODE, **options):
    Path("code.py").write_text(code)
    environment = os.environ | {"OPTIONS": repr(options)}
    return subprocess.Popen([sys.executable, "-c", OWNER], env=environment, stdout=subprocess.PIPE, text=True)


def output_of(owner):
    with owner:
        try:
            output, _ = owner.communicate(timeout=4 * HANG_GUARD_SECS)
        finally:
            owner.kill()
    assert owner.returncode == 0, output
    return output.splitlines()


def lines_in(file):
    return file.read_bytes().count(b"\n") if file.exists() else 0


class TestEnds:
    @pytest.mark.parametrize("options", [{}, {"per": "tenant"}], ids=["fresh", "per"])
    @pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
    def test_no_scored_row_runs_again_whenever_the_owner_ends(self, folder, signal_number, options):
        seed = random.randrange(10**6)
        chance, file = random.Random(seed), folder / "c.jsonl"
        scored = set()
        for most in (60, 120, 180):
            owner = start_owner(**options)
            stop_at = len(scored) + 2 + chance.randrange(max(1, most - len(scored)))
            wait_until(lambda at=stop_at, owner=owner: lines_in(file) >= at or owner.poll() is not None)
            owner.send_signal(signal_number)
            owner.communicate(timeout=HANG_GUARD_SECS)
            ran = set(map(str, taken_ran()))
            assert not scored & ran, seed
            scored = scored_in(file)
            assert len(ran - scored) <= processors(), seed  # those that were running just then
        output = output_of(start_owner(**options))
        ran = taken_ran()
        assert output[:2] == ["whole", "200"], seed
        assert not scored & set(map(str, ran)), seed
        assert set(map(str, ran)) == {str(n) for n in range(200)} - scored, seed
        assert scored_in(file) == {str(n) for n in range(200)}, seed
        assert output[2] == f"{len(scored)} of 200 rows come from the checkpoint c.jsonl."

    def test_an_interrupt_keeps_what_is_done(self, folder):
        owner = start_owner(f"{OWNER_CODE}if data['n'] >= 100: time.sleep(1000)\nfloat(data['n'])")
        wait_until(lambda: lines_in(folder / "c.jsonl") > 20)
        owner.send_signal(signal.SIGINT)
        told, count, *_ = output_of(owner)
        assert told == "interrupted 200"
        assert len(scored_in("c.jsonl")) == int(count)

    @pytest.mark.parametrize("options", [{}, {"per": "tenant"}], ids=["fresh", "per"])
    def test_a_full_disk_stops_the_evaluation_and_loses_nothing(self, folder, options):
        stopped, count, *_ = output_of(start_owner(most_bytes=20_000, **options))
        assert stopped == (
            "The checkpoint c.jsonl could not be written: File too large. It holds the rows that ended before; when "
            "this is mended, run the evaluation again to go on."
        )
        content = (folder / "c.jsonl").read_bytes()
        assert len(content) <= 20_000
        assert content.endswith(b"\n")
        scored = scored_in("c.jsonl")
        assert 20 < len(scored) < int(count) < 200  # those that could not be written are in the result
        taken_ran()
        assert output_of(start_owner(**options))[0] == "whole"
        assert not scored & set(map(str, taken_ran()))
