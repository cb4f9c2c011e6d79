"""IPython in a terminal: colour where the terminal has it, and never in anything that is saved."""

import json
import os
import re
import sys

import pexpect
import pytest

from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS, wait_until

PROMPT = re.compile(r"In \[\d+\]: ")
CONTINUED = re.compile(r"   \.\.\.: ")
ESCAPE = "\x1b["
SCORES = "{'scores': [{'name': 'a', 'value': 0.5, 'reason': 'half'}, {'name': 'b', 'value': 0, 'scoring_failed': True}]}"


class Terminal:
    def __init__(self, folder, **env):
        kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "TERM"}}
        kept |= {"IPYTHONDIR": str(folder), "TERM": "xterm-256color", **env}
        arguments = ["-m", "IPython", "--simple-prompt", "--no-banner", "--no-confirm-exit"]
        self.child = pexpect.spawn(
            sys.executable,
            arguments,
            cwd=folder,
            env=kept,
            encoding="utf-8",
            timeout=HANG_GUARD_SECS,
            dimensions=(60, 200),
        )
        self.child.expect(PROMPT)
        self.run("%load_ext isolated_magic")

    def run(self, line):
        """What a line shows, without its echo and IPython's own prompt."""
        self.child.sendline(line)
        self.child.expect(PROMPT)
        _, _, shown = self.child.before.replace("\r\n", "\n").partition("\n")
        return re.sub(r"^Out\[\d+\]: ", "", shown).strip("\n")

    def type(self, *lines):
        """What a cell of several lines shows that is typed line by line and ended as IPython's own are."""
        for line in (*lines, ""):
            self.child.sendline(line)
            is_run = self.child.expect([CONTINUED, PROMPT])
            assert not is_run, f"it ran behind {line!r}"
        return self.run("")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "metric.py").write_text(f"print('out')\n{SCORES}")
    (tmp_path / "broken.py").write_text("1/0")
    return tmp_path


@pytest.fixture
def open_terminal(folder):
    opened = []

    def open_one(**env):
        opened.append(Terminal(folder, **env))
        return opened[-1]

    yield open_one
    for terminal in opened:
        terminal.child.close(force=True)


def plain(text):
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


ROWS = [
    *("b  FAILED", "a  0.5     █████░░░░░  half"),
    "note: 1 of 2 scores could be computed; failed: b: scoring failed",
]


def test_scores_errors_and_history_have_colour(open_terminal):
    terminal = open_terminal()
    shown = terminal.run("%isolated run metric.py")
    assert f"{ESCAPE}1;31mFAILED{ESCAPE}0m" in shown
    assert [line.rstrip() for line in plain(shown).splitlines() if line.strip()] == ["out", "Out[2]:", *ROWS]
    error = terminal.run("%isolated run broken.py")
    assert error.startswith(f"{ESCAPE}31mZeroDivisionError: division by zero (line 1){ESCAPE}0m")
    assert "----> 1 1/0" in error
    history = plain(terminal.run("%isolated history")).split("\n")
    rows = [line.split() for line in history if line.strip()]
    assert [row[0] for row in rows] == ["run", "[1]", "[2]"]
    assert rows[0][1] == "when"
    assert all(re.fullmatch(r"\[\d\] +\d+ s ago .*", line.strip()) for line in history if "ago" in line)
    assert sum("ago" in line for line in history) == 2


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_none_where_the_terminal_or_the_user_wants_none(open_terminal, env):
    terminal = open_terminal(**env)
    for line in ("%isolated run metric.py", "%isolated run broken.py", "%isolated history"):
        assert ESCAPE not in terminal.run(line)


def test_none_with_ipythons_own_setting(open_terminal):
    terminal = open_terminal()
    terminal.run("%colors nocolor")
    assert ESCAPE not in terminal.run("%isolated run metric.py")


def test_what_is_saved_has_no_colour(open_terminal, folder):
    terminal = open_terminal()
    terminal.run("%logstart -o log.txt")
    terminal.run("result = %isolated run metric.py")
    assert ESCAPE in terminal.run("result")
    terminal.run("%isolated run broken.py")
    terminal.run("print(result, file=open('printed.txt', 'w'))")
    terminal.run("from IPython.utils.capture import capture_output")
    terminal.run("with capture_output() as captured: display(result)")
    terminal.run("open('captured.txt', 'w').write(captured.stdout)")
    terminal.run("%notebook saved.ipynb")
    assert ESCAPE not in terminal.run("%history -o")
    assert "█████░░░░░" in (folder / "log.txt").read_text()
    assert "RunResult(" in (folder / "printed.txt").read_text()
    for name in ("log.txt", "printed.txt", "captured.txt"):
        assert ESCAPE not in (folder / name).read_text()
    saved = json.loads((folder / "saved.ipynb").read_text())
    ours = [
        cell for cell in saved["cells"] if "isolated" in "".join(cell["source"]) or cell["source"] == ["result"]
    ]
    assert ours
    assert "\\u001b" not in json.dumps([cell["outputs"] for cell in ours])


def test_an_interrupt_while_a_secret_is_asked_for_stands_on_a_line_of_its_own(open_terminal):
    terminal = open_terminal()
    terminal.child.sendline("%isolated run metric.py --secret MYSEC")
    terminal.child.expect("MYSEC: ")
    terminal.child.sendintr()
    terminal.child.expect(PROMPT)
    shown = terminal.child.before.replace("\r\n", "\n").removeprefix("^C")
    assert shown.startswith("\n")
    assert "RunInterrupted: Stopped before anything was started." in shown
    assert "Traceback" not in shown


CELL = (
    "%%isolated --data row",
    "import os",
    "where = os.getpid()",
    'open("ran", "w").write(str(where))',
    '{"scores": [{"name": "length", "value": len(data["answer"])}]}',
)
CHECK = "open('checked', 'w').write(f\"{'where' in globals()} {open('ran').read() == str(__import__('os').getpid())}\")"


def test_a_cell_is_typed_line_by_line_and_all_of_it_runs_elsewhere(open_terminal, folder):
    terminal = open_terminal(NO_COLOR="1")
    terminal.run("row = {'answer': 'yes'}")
    assert terminal.type(*CELL).split() == ["length", "3"]
    terminal.run(CHECK)
    assert (folder / "checked").read_text() == "False False"
    assert terminal.type("%%time", "1").startswith("CPU times")  # as before


def test_what_has_no_body_runs(open_terminal):
    terminal = open_terminal(NO_COLOR="1")
    assert terminal.run("%isolated status") == "Nothing runs."
    for shown in (terminal.run("%isolated run metric.py"), terminal.type("%%isolated --file metric.py")):
        assert [line.rstrip() for line in shown.splitlines() if line.strip()][-3:] == ROWS


def test_a_cell_is_typed_in_a_terminal_that_is_edited_in(folder):
    """With prompt_toolkit, where Enter asks whether the cell is complete; above, IPython reads plain lines."""
    env = {**os.environ, "IPYTHONDIR": str(folder), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    arguments = ["-m", "IPython", "--no-banner", "--no-confirm-exit", "--ext=isolated_magic"]
    child = pexpect.spawn(
        sys.executable, arguments, cwd=folder, env=env, encoding="utf-8", timeout=HANG_GUARD_SECS
    )
    try:
        for lines in (["row = {'answer': 'yes'}"], [*CELL, "", ""], [CHECK]):
            child.expect(r"In .*\[.*\d+.*\].*: ")
            for line in lines:
                child.send(f"{line}\r")
        wait_until((folder / "checked").exists)
        wait_until((folder / "checked").read_text)
    finally:
        child.close(force=True)
    assert (folder / "checked").read_text() == "False False"


def test_a_kernel_that_is_asked_whether_a_cell_is_complete():
    """As `jupyter console` does behind each line."""
    with kernel() as cells:

        def status(code):
            cells.client.is_complete(code)
            return cells.client.get_shell_msg(timeout=HANG_GUARD_SECS)["content"]["status"]

        for first in ("%%isolated", "%%isolated --data row", "%%isolated --file metric.py", "%%time"):
            typed = [first, f"{first}\n", f"{first}\n0.5", f"{first}\n0.5\n", f"{first}\n0.5\n\n"]
            assert [status(code) for code in typed] == ["incomplete"] * 4 + ["complete"]
            assert status(f"{first}\n\n") == "complete"
        for line in ("%isolated status", "%isolated run metric.py", "result = %isolated run metric.py"):
            assert status(line) == "complete"
