"""The buttons of JupyterLab leave nothing of a run behind, nor does the end of its server."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import expect

from tests import jupyterlab
from tests.processes import HIDING_TREE, is_alive, pids_in, wait_as_promised, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

LOAD = "%load_ext isolated_magic"
SCORE = "%%isolated\n0.5"
# An interrupt reaches the processes in the run's group too; what those say to it is theirs, and not what is tested.
QUIETLY = """
import functools, subprocess
subprocess.Popen = functools.partial(subprocess.Popen, stderr=subprocess.DEVNULL)
"""
# How many rows the text takes, counted by where its characters stand.
ROWS = """element => {
    const range = document.createRange();
    range.selectNodeContents(element);
    return new Set([...range.getClientRects()].filter(one => one.width > 0).map(one => Math.round(one.top))).size
        + element.innerText.trim().split("\\n").filter(line => !line).length;
}"""
STAY = "\ntime.sleep(1000)"


@dataclass(frozen=True)
class Busy:
    """A notebook whose second cell runs, with a tree of processes that hide.

    Args:
        notebook: to press something in.
        kernel: of the notebook, as it is now.
        tree: the pids of what the cell started.
        below: those, and whatever else the kernel started.
    """

    notebook: jupyterlab.Notebook
    kernel: psutil.Process
    tree: list[int]
    below: list[int]


def begin(notebook: jupyterlab.Notebook, folder: Path) -> Busy:
    notebook.run(0)
    notebook.start(1)
    wait_until((folder.parent / "ready").exists)
    kernel = notebook.server.kernel_process(notebook.name)
    tree = pids_in(folder)
    assert len(tree) == 6
    assert all(map(is_alive, tree))
    return Busy(notebook, kernel, tree, [*tree, *(process.pid for process in kernel.children(recursive=True))])


def cells(folder: Path, *after: str) -> list[str]:
    line = f"%%isolated -t 1000 -d folder={{{str(folder)!r}}}"
    return [LOAD, line + QUIETLY + HIDING_TREE + STAY, *after]


def test_a_hint_does_not_break_inside_words(server, browser, pictures):
    codes = [
        "%%isolated\nget_ipython()",
        "rows = [1]",
        "%%isolated --data rows\n1",
        "%%isolated --no-raise\nget_ipython()",
    ]
    with jupyterlab.opened(server, browser, [LOAD, *codes]) as notebook:
        for index in range(len(codes) + 1):
            notebook.run(index)
        notebook.page.screenshot(path=pictures / "hints.png")
        for index in (1, 3):
            text = notebook.output(index).locator("pre")
            assert text.inner_text().strip().count("\n") > 0
            assert text.evaluate(ROWS) == len(text.inner_text().strip().split("\n"))
        hint = notebook.output(4).locator("div", has_text=re.compile(r"^get_ipython\(\) is IPython's"))
        assert hint.evaluate("element => getComputedStyle(element).wordBreak") == "normal"


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "pids"
    made.mkdir()
    return made


@pytest.fixture
def busy(server, browser, folder):
    with jupyterlab.opened(server, browser, cells(folder, LOAD, SCORE)) as notebook:
        yield begin(notebook, folder)


def none_alive(pids: list[int]) -> bool:
    return not any(map(is_alive, pids))


def expect_score(notebook: jupyterlab.Notebook, index: int) -> None:
    notebook.run(index)
    expect(notebook.output(index)).to_have_count(1)
    expect(notebook.output(index).locator("tbody tr")).to_have_text(["score0.5█████░░░░░"])


def test_interrupt_stops_the_tree_and_the_next_cell_runs(busy):
    busy.notebook.press("notebook:interrupt-kernel")
    busy.notebook.wait_for_end(1)
    wait_as_promised(lambda: none_alive(busy.tree))
    said = busy.notebook.output(1)
    expect(said).to_have_text(["RunInterrupted: The run was stopped, with everything that it had started."])
    assert is_alive(busy.kernel.pid)
    expect_score(busy.notebook, 3)


def test_restart_stops_the_tree_and_the_new_kernel_runs(busy):
    busy.notebook.choose("Kernel", "Restart Kernel…")
    busy.notebook.accept()
    wait_until(lambda: not is_alive(busy.kernel.pid), jupyterlab.STEP_SECS)
    wait_as_promised(lambda: none_alive(busy.below))
    busy.notebook.wait_until_ready()
    busy.notebook.run(2)
    expect_score(busy.notebook, 3)


def test_shutting_down_the_kernel_stops_the_tree(busy):
    busy.notebook.choose("Kernel", "Shut Down Kernel")
    wait_until(lambda: not is_alive(busy.kernel.pid), jupyterlab.STEP_SECS)
    wait_as_promised(lambda: none_alive(busy.below))
    wait_until(lambda: not busy.notebook.server.kernel_of(busy.notebook.name))


def test_the_end_of_the_server_leaves_no_process(browser, folder):
    with (
        jupyterlab.server(folder.parent / "jupyterlab") as server,
        jupyterlab.opened(server, browser, cells(folder)) as notebook,
    ):
        busy = begin(notebook, folder)
        server.process.terminate()
        server.process.wait(jupyterlab.STEP_SECS)
        wait_as_promised(lambda: none_alive([busy.kernel.pid, *busy.below]))
