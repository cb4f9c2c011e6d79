"""Carriage returns: progress bars in a cell, on a terminal and in a saved notebook; colours of rich."""

import re
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from isolated_magic.magic.streams import Streams
from isolated_magic.render.terminal import MOST_ABOVE, settled
from tests.kernels import CELL_TIMEOUT_SECS

BAR = """
import sys, time
for done in range(0, 101, 5):
    sys.stderr.write(f"\\r{done:3}%|{'#' * (done // 10):10}|")
    sys.stderr.flush()
    time.sleep(0.05)
sys.stderr.write("\\n")
"""
TQDM = "import time\nfrom tqdm.auto import tqdm\nfor one in tqdm(range(30), desc='rows'):\n    time.sleep(0.03)\n"
NESTED = "from tqdm import tqdm\nfor a in tqdm(range(3), desc='a'):\n    for b in tqdm(range(2), desc='b', leave=False):\n        pass\n"


class TestSettled:
    @pytest.mark.parametrize(
        ("text", "seen"),
        [
            ("abc\ndef", "abc\ndef"),
            ("10%\r20%\r100%\n", "100%\n"),
            ("abcdef\rxy", "xycdef"),
            ("abc\b\bX", "aXc"),
            ("a\r\nb\r\n", "a\r\nb\r\n"),
            ("a\r\nb\rc\r\n", "a\nc\n"),
            ("abc\r\x1b[K", ""),
            ("abcd\x1b[2D\x1b[Kx", "abx"),
            ("one\ntwo\x1b[A\rONE\n", "ONE\ntwo"),
            ("a\n\rb 1\x1b[A\ra 2\n\rb 2\x1b[A\r\n\n", "a 2\nb 2\n"),
            ("\x1b[31m10%\x1b[0m\r\x1b[32m99%\x1b[0m\n", "\x1b[32m99%\x1b[0m\n"),
            ("x\r\x1b]0;title\x07y", "y"),
            ("\x1b[999999999999B\x1b[99999999999C\rx", "x"),
            ("\x1b[5A\x1b[3Fx", "x"),
        ],
    )
    def test_is_what_a_terminal_shows(self, text, seen):
        assert settled(text) == seen
        assert settled(seen) == seen

    def test_of_long_output_only_the_end_can_be_written_over(self):
        text = "".join(f"{line}\n" for line in range(MOST_ABOVE + 50))
        assert settled(f"{text}\x1b[999Ax\r") == text.replace(f"\n{51}\n", "\nx1\n")


class Written:
    def __init__(self, monkeypatch):
        self.text = ""
        monkeypatch.setattr(sys, "stdout", self)
        monkeypatch.setattr(sys, "stderr", self)

    def write(self, text):
        self.text += text

    def flush(self):
        self.text += "" if self.text.endswith("|") else "|"

    def isatty(self):
        return False


class TestUnwatched:
    def test_however_the_text_is_cut_the_same_is_written(self, monkeypatch):
        text = "before\nabc\r10%\r20%\nafter\n"
        for size in range(1, len(text)):
            written = Written(monkeypatch)
            streams = Streams(is_watched=False)
            for start in range(0, len(text), size):
                streams.write("stderr", text[start : start + size])
            streams.end()
            assert written.text == "before\n20%\nafter\n|"

    def test_a_line_without_an_end_is_written_before_a_display(self, monkeypatch):
        written = Written(monkeypatch)
        streams = Streams(is_watched=False)
        streams.write("stdout", "a")
        streams.write("stderr", "1\r2")
        streams.flush()
        assert written.text == "a|"
        streams.write("stdout", "b\n")
        streams.end()
        assert written.text == "a|b\n2|"

    def test_watched_all_is_written_as_it_comes(self, monkeypatch):
        written = Written(monkeypatch)
        streams = Streams(is_watched=True)
        streams.write("stderr", "1\r2")
        assert written.text == "1\r2"


def messages(cells, code, *, allow_stdin):
    found = []

    def take(message):
        if message["msg_type"] == "stream":
            found.append(message["content"]["text"])

    cells.client.execute_interactive(code, output_hook=take, timeout=CELL_TIMEOUT_SECS, allow_stdin=allow_stdin)
    return found


class TestInAKernel:
    def test_a_bar_moves_where_somebody_is_watching(self, cells):
        found = messages(cells, f"%%isolated --no-score\n{BAR}", allow_stdin=True)
        assert len(found) > 2
        assert settled("".join(found)) == "100%|##########|\n"

    def test_and_is_one_line_where_nobody_is(self, cells):
        assert messages(cells, f"%%isolated --no-score\n{BAR}", allow_stdin=False) == ["100%|##########|\n"]

    @pytest.mark.parametrize("module", ["tqdm", "tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"])
    def test_tqdm_is_a_bar_of_text(self, cells, module):
        code = TQDM.replace("tqdm.auto", module)
        (line,) = messages(cells, f"%%isolated --no-score\n{code}", allow_stdin=False)
        assert re.fullmatch(r"rows: 100%\|█{10}\| 30/30 \[00:\d\d<00:00, +[\d.]+it/s\]\n", line)

    def test_of_a_run_in_the_background_the_last_state_is_shown(self, cells):
        cells.ok(f"%%isolated --bg -o run --no-score\n{BAR}0.5")
        cells.ok("result = run.result()")
        shown = cells.ok("run").text
        assert "100%|##########|" in shown
        assert shown.count("%") == 1
        assert cells.ok("result.stderr.count('%')").text == "21"

    def test_nested_bars(self, cells):
        (text,) = messages(cells, f"%%isolated --no-score\n{NESTED}", allow_stdin=False)
        assert re.fullmatch(r"a: 100%\|█{10}\| 3/3 \[[^\n]*\]\n", text)


def test_a_saved_notebook_has_one_line_and_it_is_the_same_each_time():
    saved = []
    for _ in range(2):
        cells = ["%load_ext isolated_magic", f"%%isolated\nprint('begin')\n{BAR}\nprint('end')\n0.5"]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        NotebookClient(notebook, kernel_name="python3", timeout=CELL_TIMEOUT_SECS).execute()
        saved.append([(one.name, one.text) for one in notebook.cells[1].outputs if one.output_type == "stream"])
    # What is printed with a pause in between is saved in two parts, as of any cell.
    expected = [("stdout", "begin\n"), ("stdout", "end\n"), ("stderr", "100%|##########|\n")]
    assert saved == [expected, expected]


RICH = """
import io, rich, rich.console, rich.progress, rich.table
table = rich.table.Table(title="Scores")
table.add_column("metric", style="cyan")
table.add_row("tone")
rich.print(table)
console = rich.console.Console()
console.print("[bold red]low")
for one in rich.progress.track(range(3), description="rows"):
    pass
written = io.StringIO()
rich.console.Console(file=written).print("[red]plain")
print(repr(written.getvalue()))
"""
JSON_OF_RICH = """
import rich
rich.print_json('{"scores": [{"name": "tone", "value": 0.5}]}', indent=None)
"""


class TestRich:
    def test_a_table_has_its_colours_in_a_notebook_and_nothing_moves(self, cells):
        text = "".join(messages(cells, f"%%isolated --no-score\n{RICH}", allow_stdin=True))
        assert "\x1b[36mtone  \x1b[0m" in text
        assert "\x1b[1;31mlow\x1b[0m" in text
        assert "'plain\\n'" in text
        assert settled(text) == text
        assert text.count("rows") == 1

    @pytest.mark.parametrize("line", ["%%isolated --no-score --no-rich", "%%isolated --no-score -e NO_COLOR=1"])
    def test_without_colours(self, cells, line):
        text = "".join(messages(cells, f"{line}\n{RICH}", allow_stdin=True))
        assert "\x1b[36m" not in text
        assert "tone" in text

    def test_json_that_it_prints_is_a_result(self, cells):
        assert cells.ok(f"%%isolated\n{JSON_OF_RICH}").text == "tone  0.5  █████░░░░░"

    def test_the_library_has_plain_text(self):
        from isolated_magic import IsolatedSubprocessExecutor

        with IsolatedSubprocessExecutor() as executor:
            assert "\x1b" not in executor.run(RICH).stdout


PLOTLY = "import plotly.graph_objects as go\nfigure = go.Figure(go.Bar(y=[1, 3, 2]))\n"


@pytest.mark.parametrize("last", ["figure", "figure.show()", "display(figure)"])
def test_plotly_gives_its_data_and_html(last):
    from isolated_magic import IsolatedSubprocessExecutor
    from isolated_magic.render.rich import safe_bundle

    with IsolatedSubprocessExecutor() as executor:
        first, second = (executor.run(f"{PLOTLY}{last}\n").displays for _ in range(2))
    (display,) = first
    assert display.data["application/vnd.plotly.v1+json"]["data"][0]["type"] == "bar"
    data, _ = safe_bundle(display.data, display.metadata)
    assert data["text/html"].startswith('<iframe sandbox="allow-scripts"')
    assert safe_bundle(second[0].data, {})[0] == data  # whatever plotly called its element
