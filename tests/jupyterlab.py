"""A real JupyterLab in a real Chromium: open a notebook, run its cells, press what there is to press."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.processes import wait_until

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
# Hang guards: on a busy machine a server takes its time, and so does a page of many megabytes of JavaScript.
START_SECS = 120.0
STEP_SECS = 60.0
ATTEMPTS = 6
STARTED, ENDED = re.compile(r"^\[(\*|\d+)\]:$"), re.compile(r"^\[\d+\]:$")
DIRECTORIES = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
}


@dataclass(frozen=True)
class Server:
    """A JupyterLab that runs.

    Args:
        process: of the server; it is the parent of the kernels.
        port: on 127.0.0.1.
        token: opens it.
        folder: of the notebooks.
    """

    process: subprocess.Popen
    port: int
    token: str
    folder: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str) -> list | dict:
        request = urllib.request.Request(
            f"{self.url}/api/{path}", headers={"Authorization": f"token {self.token}"}
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=STEP_SECS) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        assert self.process.poll() is None, (self.folder.parent / "log").read_text()
        with suppress(OSError):
            return bool(self.ask("status"))
        return False

    def kernel_of(self, notebook: str) -> dict | None:
        """What the server says about the kernel of a notebook, if there is one."""
        return next((session["kernel"] for session in self.ask("sessions") if session["path"] == notebook), None)

    def kernel_process(self, notebook: str) -> psutil.Process:
        """The process of the kernel: it was started with a file that is named after the kernel's id."""
        name = f"kernel-{self.kernel_of(notebook)['id']}.json"
        (found,) = [
            process
            for process in psutil.Process(self.process.pid).children()
            if process.status() != psutil.STATUS_ZOMBIE and any(name in word for word in process.cmdline())
        ]
        return found


def environment_in(folder: Path) -> dict[str, str]:
    """What is inherited, but for the configuration of whoever runs the tests; files go below the folder.

    Nor is it told that nobody watches, as it is where CI runs: the browser does.
    """
    personal = ("IPYTHON", "JPY_", "JUPYTER", "XDG_", "ISOLATED_MAGIC_PROGRESS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(personal) and name != "CI"}
    return {**kept, "HOME": str(folder), **{name: str(folder / path) for name, path in DIRECTORIES.items()}}


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    notebooks = folder / "notebooks"
    labconfig = folder / DIRECTORIES["JUPYTER_CONFIG_DIR"] / "labconfig"
    for made in (notebooks, labconfig):
        made.mkdir(parents=True)
    # It would ask whether to fetch news, in a box on top of the page.
    without = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (labconfig / "page_config.json").write_text(json.dumps(without))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
    ]
    command += [
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={token}",
        f"--ServerApp.root_dir={notebooks}",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=notebooks,
            env=environment_in(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    started = Server(process, port, token, notebooks)
    try:
        wait_until(started.answers, START_SECS)
        yield started
    finally:
        stop(process)


def stop(process: subprocess.Popen) -> None:
    """End a server, and the kernels that it leaves."""
    if process.poll() is not None:
        return
    kernels = psutil.Process(process.pid).children()
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STEP_SECS)
    for left in (process, *kernels):
        with suppress(psutil.NoSuchProcess):
            left.kill()
    process.wait()


def executable() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("There is no Chromium here. Install one: apt-get install chromium")
    return found


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    program = executable()
    expect.set_options(timeout=STEP_SECS * 1000)
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=program,
            args=SWITCHES.split(),
            env=environment_in(folder),
            timeout=START_SECS * 1000,
        )
        try:
            yield started
        finally:
            started.close()


@dataclass(frozen=True)
class Notebook:
    """A notebook that is open in the browser. Each of its cells can be run once: its prompt tells how far it is.

    Args:
        server: that it came from.
        name: of its file.
        page: that shows it.
    """

    server: Server
    name: str
    page: Page

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-CodeCell").nth(index)

    def output(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-OutputArea-output")

    def prompt(self, index: int) -> Locator:
        return self.cell(index).locator(".jp-InputPrompt")

    def wait_until_ready(self) -> None:
        """Wait until what is pressed arrives: before that JupyterLab loses it without a word."""
        self.page.locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').first.wait_for()
        expect(self.page.locator("#jp-main-statusbar")).to_contain_text("| Idle")
        wait_until(self._is_connected, STEP_SECS)

    def _is_connected(self) -> bool:
        kernel = self.server.kernel_of(self.name)
        return bool(kernel) and kernel["execution_state"] == "idle" and kernel["connections"] >= 1

    def run_all(self) -> None:
        """Run all cells, and return when the last one is through."""
        for _ in range(ATTEMPTS):
            self.choose("Run", "Run All Cells")
            with suppress(AssertionError):
                expect(self.page.locator(".jp-InputPrompt", has_text=STARTED).first).to_be_attached(
                    timeout=STEP_SECS * 1000 / ATTEMPTS
                )
                break
        wait_until(self._has_run_all, START_SECS)

    def _has_run_all(self) -> bool:
        prompts = self.page.locator(".jp-Notebook .jp-CodeCell .jp-InputPrompt").all_text_contents()
        return bool(prompts) and all(map(ENDED.match, prompts))

    def wear(self, theme: str) -> None:
        """Put on a theme, and wait until the page wears it."""
        self.page.locator('.lm-MenuBar-itemLabel:text-is("Settings")').click()
        self.page.locator('.lm-Menu-itemLabel:text-is("Theme")').hover()
        self.page.locator(f'.lm-Menu-itemLabel:text-is("{theme}")').click()
        is_light = str("Light" in theme).lower()
        self.page.locator(f'body[data-jp-theme-light="{is_light}"]').wait_for(state="attached")
        self.page.keyboard.press("Escape")

    def start(self, index: int) -> None:
        """Run a cell, and return when JupyterLab has heard. Now and then it has not, and is told again."""
        expect(self.prompt(index)).to_have_text("[ ]:")
        for _ in range(ATTEMPTS):
            self.cell(index).locator(".cm-content").click()
            self.page.keyboard.press("Control+Enter")
            with suppress(AssertionError):
                expect(self.prompt(index)).not_to_have_text("[ ]:", timeout=STEP_SECS * 1000 / ATTEMPTS)
                return
        raise AssertionError(f"cell {index} did not start")

    def wait_for_end(self, index: int) -> None:
        expect(self.prompt(index)).to_have_text(ENDED)

    def run(self, index: int) -> None:
        self.start(index)
        self.wait_for_end(index)

    def press(self, command: str) -> None:
        self.page.locator(f'.jp-NotebookPanel-toolbar [data-command="{command}"]').click()

    def choose(self, menu: str, entry: str) -> None:
        self.page.locator(f'.lm-MenuBar-itemLabel:text-is("{menu}")').click()
        self.page.locator(f'.lm-Menu-itemLabel:text-is("{entry}")').click()

    def accept(self) -> None:
        self.page.locator(".jp-Dialog .jp-mod-accept").click()


def opened(
    started: Server, browser: Browser, cells: list[str], **window: float
) -> AbstractContextManager[Notebook]:
    """A notebook with these cells, open and connected to its kernel."""
    import nbformat  # loads for seconds

    name = f"{secrets.token_hex(4)}.ipynb"
    content = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(content, started.folder / name)
    return opened_file(started, browser, name, **window)


@contextmanager
def opened_file(
    started: Server, browser: Browser, name: str, *, width: float = 1200, height: float = 1600, scale: float = 1
) -> Iterator[Notebook]:
    """A notebook that is in the server's folder, open and connected to its kernel, in a window of that size."""
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
    context.set_default_timeout(STEP_SECS * 1000)
    try:
        page = context.new_page()
        workspace = secrets.token_hex(4)
        page.goto(f"{started.url}/lab/workspaces/{workspace}/tree/{name}?token={started.token}")
        notebook = Notebook(started, name, page)
        notebook.wait_until_ready()
        yield notebook
    finally:
        context.close()
