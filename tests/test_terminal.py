"""IPython in a terminal: colour where the terminal has it, and never in anything that is saved."""

import json
import os
import re
import sys

import pexpect
import pytest

from tests.processes import HANG_GUARD_SECS

PROMPT = re.compile(r"In \[\d+\]: ")
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


ROWS = ["b  FAILED", "a  0.5     █████░░░░░  half"]


def test_scores_errors_and_history_have_colour(open_terminal):
    terminal = open_terminal()
    shown = terminal.run("%isolated run metric.py")
    assert f"{ESCAPE}1;31mFAILED{ESCAPE}0m" in shown
    assert [line.rstrip() for line in plain(shown).splitlines() if line.strip()] == ["out", "Out[2]:", *ROWS]
    error = terminal.run("%isolated run broken.py")
    assert error.startswith(f"{ESCAPE}1mZeroDivisionError: division by zero (line 1){ESCAPE}0m")
    assert "----> 1 1/0" in error
    assert ESCAPE in terminal.run("%isolated history")


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
