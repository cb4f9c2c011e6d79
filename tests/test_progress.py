"""The line that tells how far an evaluation is: where it is seen, what becomes of it, and that nothing is left of it."""

import io
import json
import os
import re
import subprocess
import sys

import nbformat
import pytest

from isolated_magic import Progress
from isolated_magic.executors.progress import Pacing, TerminalProgress, progress_text, shown
from tests.kernels import CELL_TIMEOUT_SECS, kernel
from tests.test_terminal import PROMPT, Terminal, plain

NEUTRAL = {"CI": "", "ISOLATED_MAGIC_PROGRESS": ""}  # whatever the environment of the tests says
# Rows wait for a file: an evaluation is over when the test says so.
WAITING = "import os, time\nwhile not os.path.exists(data['go']): time.sleep(0.01)\n{'scores': [{'name': 'a', 'value': 1 / data['n']}]}"
QUICK = "{'scores': [{'name': 'a', 'value': 1 / data['n']}]}"
HEADLINE = "a 0.5 ± 0.5 · 4 of 5 scored · 1 failed"


@pytest.fixture(scope="module")
def cells():
    with kernel(**NEUTRAL) as started:
        yield started


@pytest.fixture
def go(cells, tmp_path):
    """The file that the rows wait for."""
    path = tmp_path / "go"
    cells.ok(f"rows = [{{'n': n, 'go': {str(path)!r}, 'id': f'row-{{n}}'}} for n in range(5)]")
    return path


class Watched:
    """A cell that runs in a front end where somebody watches it."""

    def __init__(self, cells, code, cell_id="a-cell", *, allow_stdin=True):
        self._client = cells.client
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
        }
        metadata = {} if cell_id is None else {"cellId": cell_id}
        message = self._client.session.msg("execute_request", content, metadata=metadata)
        self._client.shell_channel.send(message)
        self._id = message["header"]["msg_id"]

    def next(self):
        """The kind of the next message that is output, and its content; None at the end."""
        while True:
            message = self._client.get_iopub_msg(timeout=CELL_TIMEOUT_SECS)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != self._id or kind == "execute_input":
                continue
            if kind != "status":
                return kind, content
            if content["execution_state"] == "idle":
                return None

    def rest(self):
        return [*iter(self.next, None)]


def text_of(content):
    return content["data"].get("text/plain", "")


class TestNotebook:
    CELL = f"%%isolated --each rows --key {{row['id']}} --jobs 2 -o kept\n{WAITING}"

    def test_it_is_one_display_that_becomes_the_summary(self, cells, go):
        cell = Watched(cells, self.CELL)
        kind, line = cell.next()
        assert kind == "display_data"
        assert text_of(line) == "0 of 5 rows"
        assert "0 of 5 rows" in line["data"]["text/html"]
        assert "width:0%" in line["data"]["text/html"]
        go.touch()
        rest = cell.rest()
        assert {kind for kind, _ in rest} == {"update_display_data"}
        assert {content["transient"]["display_id"] for _, content in rest} == {line["transient"]["display_id"]}
        summary = rest[-1][1]
        assert text_of(summary).startswith(f"kept: {HEADLINE}\n")
        assert {*summary["data"]} == {"text/plain", "text/html", "text/markdown"}
        assert summary["metadata"]["isolated_magic"]["metrics"]["a"]["scored"] == 4
        assert cells.ok("_ is kept and Out[max(Out)] is kept and len(kept)").text == "5"

    def test_what_is_over_sooner_looks_the_same(self, cells, go):
        cell = Watched(cells, self.CELL)
        cell.next()
        go.touch()
        slow = cell.rest()[-1][1]
        fast = Watched(cells, self.CELL).rest()  # the file is there
        assert [kind for kind, _ in fast].count("display_data") == 1  # on a busy machine a line may be seen
        unwatched = Watched(cells, self.CELL, allow_stdin=False).rest()
        assert [kind for kind, _ in unwatched] == ["display_data"]
        assert fast[-1][1]["data"] == slow["data"] == unwatched[0][1]["data"]
        told = [content["metadata"]["isolated_magic"] for content in (slow, fast[-1][1], unwatched[0][1])]
        assert told[0] == told[1] == told[2]
        assert "slowest" not in told[0]

    def test_a_console_that_may_not_change_displays_gets_the_summary_as_a_display_of_its_own(self, cells, go):
        cell = Watched(cells, self.CELL, cell_id=None)
        first = cell.next()
        go.touch()
        *_, (blank, nothing), (kind, summary) = [first, *cell.rest()]
        assert (blank, nothing["data"]) == ("update_display_data", {})
        assert kind == "display_data"
        assert HEADLINE in text_of(summary)

    @pytest.mark.parametrize("code", ["kept = %isolated run {} --each rows", "%isolated run {} --each rows;"])
    def test_a_value_that_is_not_shown_leaves_nothing_to_see(self, cells, go, tmp_path, code):
        (tmp_path / "waiting.py").write_text(WAITING)
        cell = Watched(cells, code.format(tmp_path / "waiting.py"))
        assert text_of(cell.next()[1]) == "0 of 5 rows"
        go.touch()
        assert cell.rest()[-1][1]["data"] == {}

    def test_in_a_loop_each_has_its_own(self, cells, go, tmp_path):
        (tmp_path / "quick.py").write_text(QUICK)
        shown = Watched(cells, f"for _ in 'ab':\n    %isolated run {tmp_path / 'quick.py'} --each rows").rest()
        assert [kind for kind, _ in shown].count("display_data") == 2

    def test_an_interrupted_one_becomes_what_was_done(self, cells, go):
        code = self.CELL.replace("os.path.exists(data['go'])", "(data['n'] == 1 or os.path.exists(data['go']))")
        cell = Watched(cells, code)
        cell.next()
        while "1 of 5 rows" not in text_of(cell.next()[1]):
            pass
        cells.manager.interrupt_kernel()
        kind, summary = cell.rest()[-1]
        assert kind == "update_display_data"
        assert text_of(summary).startswith("Interrupted after 1 of 5 rows; 4 were not run.\n")

    def test_a_mistake_on_the_line_takes_it_away(self, cells, go):
        kinds = [kind for kind, _ in Watched(cells, "%%isolated --each rows --data {row['none']}\n1").rest()]
        assert "update_display_data" not in kinds

    def test_the_library_shows_one_too(self, cells, go):
        cells.ok("from isolated_magic import create_executor\nexecutor = create_executor('isolated')")
        cell = Watched(cells, f"found = executor.evaluate({WAITING!r}, rows, progress=True)")
        assert text_of(cell.next()[1]) == "0 of 5 rows"
        go.touch()
        assert cell.rest()[-1][1]["data"] == {}
        assert cells.ok("len(found)").text == "5"

    def test_what_is_captured_is_the_summary_alone(self, cells, go, tmp_path):
        (tmp_path / "waiting.py").write_text(f"import time\ntime.sleep(0.6)\n{QUICK}")
        line = f"%isolated run {tmp_path / 'waiting.py'} --each rows"
        assert Watched(cells, f"%%capture found\n{line}").rest() == []
        assert (
            cells.ok("len(found.outputs), [*found.outputs[0].data]").text
            == "(1, ['text/plain', 'text/html', 'text/markdown'])"
        )

    def test_groups_and_comparisons_are_shown_in_the_style_of_the_house(self, cells, go):
        cells.ok(f"%%isolated --each rows -o kept\n{QUICK}")
        assert cells.ok("kept.by('id')").text.startswith("a by id: 5 groups\n")
        found = cells.ok("kept.compare(kept)")
        assert found.text.startswith("Compared with kept: 5 rows in both\n")
        assert "<table" in found.data["text/html"]


class TestWhere:
    def lines(self, started, tmp_path, *, expected, allow_stdin=True):
        """Whether a line is shown before the summary: the rows take until it is, or long enough for one."""
        (tmp_path / "slow.py").write_text(
            "import os, time\nbegun = time.monotonic()\n"
            f"while time.monotonic() < begun + data['secs'] and not os.path.exists({str(tmp_path / 'seen')!r}):\n"
            "    time.sleep(0.01)\n1.0"
        )
        (tmp_path / "seen").unlink(missing_ok=True)
        started.ok(f"rows = [{{'secs': {60 if expected else 0.7}}} for n in range(3)]")
        line = f"%isolated run {tmp_path / 'slow.py'} --each rows --jobs 1"
        cell = Watched(started, line, allow_stdin=allow_stdin)
        seen = 0
        while message := cell.next():
            if "rows" in text_of(message[1]).split("·")[0]:
                seen += 1
                (tmp_path / "seen").touch()
        return seen

    def test_ci_has_none(self, cells, tmp_path):
        try:
            cells.ok("import os; os.environ['CI'] = 'true'")
            assert not self.lines(cells, tmp_path, expected=False)
            cells.ok("os.environ['CI'] = 'false'")
            assert self.lines(cells, tmp_path, expected=True)
        finally:
            cells.ok("os.environ['CI'] = ''")

    def test_the_setting_and_the_variable_over_it(self, cells, tmp_path):
        try:
            cells.ok("%config IsolatedMagic.progress = 'off'")
            assert not self.lines(cells, tmp_path, expected=False)
            cells.ok("%config IsolatedMagic.progress = 'on'")
            assert self.lines(cells, tmp_path, expected=True, allow_stdin=False)
            cells.ok("import os; os.environ['ISOLATED_MAGIC_PROGRESS'] = 'off'")
            assert not self.lines(cells, tmp_path, expected=False)
            cells.ok("os.environ['ISOLATED_MAGIC_PROGRESS'] = 'perhaps'")
            refused = cells.run("%%isolated --each rows\n1")
            assert (
                refused.evalue
                == "The environment variable ISOLATED_MAGIC_PROGRESS is 'perhaps': give auto, on or off."
            )
        finally:
            cells.ok("os.environ.pop('ISOLATED_MAGIC_PROGRESS', None)\n%config IsolatedMagic.progress = 'auto'")
        refused = cells.run("%config IsolatedMagic.progress = 'maybe'")
        assert "give 'auto', 'on' or 'off'" in refused.stderr + refused.stdout + refused.traceback


SAVED = [
    "%load_ext isolated_magic\nrows = [{'n': n, 'tenant': f't{n % 2}'} for n in range(6)]",
    "%%isolated --each rows -o before\nimport time\ntime.sleep(0.3)\n{'scores': [{'name': 'a', 'value': 1 / data['n']}]}",
    "%%isolated --each rows -o after\n{'scores': [{'name': 'a', 'value': 2 / data['n']}]}",
    "after.compare(before)",
    "after.by('tenant')",
    "kept = %isolated run quick.py --each rows",
    "%isolated run quick.py --each {rows[:2]}",
]


def execute(path, **env):
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", path.name]
    subprocess.run(command, cwd=path.parent, check=True, capture_output=True, env={**os.environ, **env})


def outputs_of(path):
    return [cell.outputs for cell in nbformat.read(path, 4).cells]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved")
    (folder / "quick.py").write_text("import time\ntime.sleep(0.2)\n0.5")
    path = folder / "batch.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[*map(nbformat.v4.new_code_cell, SAVED)]), path)
    execute(path)
    return path


class TestSaved:
    def test_nbconvert_saves_one_frame(self, saved):
        for index, outputs in enumerate(outputs_of(saved)):
            assert len(outputs) == (0 if index in {0, 5} else 1)
            for output in outputs:
                assert "rows/s" not in json.dumps(output)

    def test_a_second_run_saves_the_same_even_with_the_line_switched_on(self, saved, tmp_path):
        for name in ("batch.ipynb", "quick.py"):
            (tmp_path / name).write_bytes((saved.parent / name).read_bytes())
        execute(tmp_path / "batch.ipynb", ISOLATED_MAGIC_PROGRESS="on")
        for before, again in zip(outputs_of(saved), outputs_of(tmp_path / "batch.ipynb"), strict=True):
            for output in (*before, *again):
                output["metadata"].pop("isolated_magic_run", None)
            assert [output for output in again if output["data"]] == before

    def test_nbval_passes_twice(self, saved):
        (saved.parent / "again.ipynb").write_bytes(saved.read_bytes())
        options = ["-p", "nbval.plugin", "-p", "no:cacheprovider", "-c", os.devnull, "--nbval"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *options, saved.name, "again.ipynb"],
            cwd=saved.parent,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | NEUTRAL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        assert f"{2 * len(SAVED)} passed" in done.stdout


class TestTerminal:
    def test_it_is_gone_in_the_end(self, tmp_path):
        (tmp_path / "waiting.py").write_text(WAITING)
        terminal = Terminal(tmp_path, **NEUTRAL)
        try:
            go = tmp_path / "go"
            terminal.run(f"rows = [{{'n': n, 'go': {str(go)!r}}} for n in range(5)]")
            terminal.child.sendline("%isolated run waiting.py --each rows")
            terminal.child.expect(r"0/5 \[\d\d:\d\d<\?, \? rows/s\]")
            go.touch()
            terminal.child.expect(PROMPT)
            after = plain(terminal.child.before.rpartition("\r")[2]) + plain(terminal.child.before)
            assert HEADLINE in after.replace("waiting.py: ", "")
            assert "slowest rows" in after
            assert "\x1b[1mwaiting.py: a " in terminal.child.before
        finally:
            terminal.child.close(force=True)

    def test_nothing_is_started_for_it(self):
        code = (
            "import io, threading, sys\n"
            "from isolated_magic import Progress\n"
            "from isolated_magic.executors.progress import TerminalProgress\n"
            "line = TerminalProgress(io.StringIO())\n"
            "line(Progress(1, 2, 0, 2.0, {}))\n"
            "print(threading.active_count(), 'multiprocessing.synchronize' in sys.modules)\n"
            "line.end()"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout == "1 False\n"

    def test_its_words(self):
        stream = io.StringIO()
        line = TerminalProgress(stream)
        line(Progress(1, 10, 0, 0.5, {}))
        assert not stream.getvalue()
        line(Progress(5, 10, 1, 2.0, {"relevance": 0.5}))
        frame = stream.getvalue()
        assert "5/10" in frame
        assert "1 failed, relevance 0.5" in frame
        line.end()
        assert stream.getvalue().endswith("\r")

    def test_none_where_stderr_is_no_terminal(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        with shown(True) as line:
            assert line is None
        with shown(None) as line:
            assert line is None
        with shown(print) as line:
            assert line is print


class TestWords:
    @pytest.mark.parametrize(
        ("progress", "text"),
        [
            (Progress(0, 1000, 0, 1.0, {}), "0 of 1,000 rows"),
            (Progress(312, 1000, 3, 20.0, {"relevance": 0.81234}), "312 of 1,000 rows · 16 rows/s · 44 s left · 3 failed · relevance 0.8123"),
            (Progress(10, None, 0, 20.0, {}), "10 rows · 0.5 rows/s"),
            (Progress(10, 10, 0, 5.0, {}), "10 of 10 rows · 2 rows/s"),
            (Progress(1, 100_000, 0, 10.0, {}), "1 of 100,000 rows · 0.1 rows/s · 277 h 46 min left"),
            (Progress(1, 2, 0, 10.0, {f"m{n}": n for n in range(6)}), "1 of 2 rows · 0.1 rows/s · 10 s left · m0 0 · m1 1 · m2 2 · m3 3 · 2 more metrics"),
        ],
    )  # fmt: skip
    def test_what_the_line_says(self, progress, text):
        pacing = Pacing()
        assert pacing.is_due(progress)
        assert re.sub(r"\s", " ", progress_text(progress, pacing.rows_per_sec)) == text

    def test_hostile_names_stay_on_one_line(self):
        text = progress_text(Progress(1, 2, 0, 2.0, {"a\n\x1b[31m" + "b" * 10_000: 0.5}), 1.0)
        assert len(text) < 100
        assert text.isprintable()

    def test_it_begins_after_a_second_and_changes_a_few_times_in_one(self):
        pacing = Pacing()
        due = [pacing.is_due(Progress(n, 1000, 0, n / 100, {})) for n in range(400)]
        assert not any(due[:100])
        assert 8 <= sum(due) <= 13
