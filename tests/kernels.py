"""A real kernel for tests: run cells, read what they show, end it in every way there is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from isolated_magic.sanitize import without_ansi

CELL_TIMEOUT_SECS = 180


@dataclass
class Shown:
    """What one cell showed."""

    stdout: str = ""
    stderr: str = ""
    data: dict = field(default_factory=dict)
    metadata: dict = field(default_factory=dict)
    ename: str | None = None
    evalue: str | None = None
    traceback: str = ""  # without its colours
    painted: str = ""  # with them
    results: list = field(default_factory=list)  # the text of each result in turn

    @property
    def text(self) -> str:
        return self.data.get("text/plain", "")

    def take(self, message):
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            setattr(self, content["name"], getattr(self, content["name"]) + content["text"])
        elif kind in {"execute_result", "display_data"}:
            self.data, self.metadata = content["data"], content["metadata"]
            self.results.append(self.text)
        elif kind == "error":
            self.ename, self.evalue = content["ename"], content["evalue"]
            self.painted = "\n".join(content["traceback"])
            self.traceback = without_ansi(self.painted)


@dataclass
class Kernel:
    manager: KernelManager
    client: BlockingKernelClient

    @property
    def pid(self) -> int:
        return self.manager.provisioner.pid

    def run(self, code: str, timeout_secs: float = CELL_TIMEOUT_SECS) -> Shown:
        shown = Shown()
        self.client.execute_interactive(code, output_hook=shown.take, timeout=timeout_secs, allow_stdin=False)
        return shown

    def ok(self, code: str, timeout_secs: float = CELL_TIMEOUT_SECS) -> Shown:
        shown = self.run(code, timeout_secs)
        assert shown.ename is None, shown.traceback
        return shown

    def answer(self, code: str, *answers: str) -> tuple[Shown, list[dict]]:
        """Run a cell that asks for something; what it shows, and what it asked."""
        shown, asked, left = Shown(), [], list(answers)

        def on_stdin(message):
            asked.append(message["content"])
            self.client.input(left.pop(0))

        self.client.execute_interactive(
            code, output_hook=shown.take, stdin_hook=on_stdin, timeout=CELL_TIMEOUT_SECS, allow_stdin=True
        )
        return shown, asked

    def complete(self, code: str) -> list[str]:
        """What the Tab key offers at the mark ``|``: whole words, as they would stand there."""
        before, _, _ = code.partition("|")
        content = self._completion(code)
        assert content["cursor_end"] == len(before) or not content["matches"]
        return [before[: content["cursor_start"]] + match for match in content["matches"]]

    def kinds(self, code: str) -> dict[str, str]:
        """What the Tab key offers there, and as what a front end shows it."""
        return {
            one["text"]: one["type"] for one in self._completion(code)["metadata"]["_jupyter_types_experimental"]
        }

    def _completion(self, code: str) -> dict:
        before, _, after = code.partition("|")
        self.client.complete(before + after, len(before))
        content = self.client.get_shell_msg(timeout=CELL_TIMEOUT_SECS)["content"]
        assert content["status"] == "ok", content
        return content

    def run_as(self, cell_id: str, code: str) -> Shown:
        """Run a cell as a front end does that tells which cell it is."""
        return self.collect(self.start(code, cell_id=cell_id))

    def start(self, code: str, subshell: str | None = None, cell_id: str | None = None) -> str:
        """Send a cell and return at once; :meth:`collect` takes what it shows."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
        }
        metadata = {} if cell_id is None else {"cellId": cell_id}
        message = self.client.session.msg("execute_request", content, metadata=metadata)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(message)
        return message["header"]["msg_id"]

    def new_subshell(self) -> str:
        """The id of a new subshell (JEP 91), whose cells run while one of the main shell does."""
        message = self.client.session.msg("create_subshell_request", {})
        self.client.control_channel.send(message)
        while True:
            reply = self.client.get_control_msg(timeout=CELL_TIMEOUT_SECS)
            if reply["parent_header"].get("msg_id") == message["header"]["msg_id"]:
                return reply["content"]["subshell_id"]

    def collect(self, request: str) -> Shown:
        shown = Shown()
        while True:
            message = self.client.get_iopub_msg(timeout=CELL_TIMEOUT_SECS)
            if message["parent_header"].get("msg_id") != request:
                continue
            shown.take(message)
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                return shown


@contextmanager
def kernel(*arguments: str, loads: bool = True, **env: str) -> Iterator[Kernel]:
    manager = KernelManager(kernel_name="python3")
    extra = ["--IPKernelApp.log_level=ERROR", *arguments]
    manager.start_kernel(env={**os.environ, **env}, extra_arguments=extra)
    client = manager.blocking_client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=CELL_TIMEOUT_SECS)
        started = Kernel(manager, client)
        if loads:
            started.ok("%load_ext isolated_magic")
        yield started
    finally:
        client.stop_channels()
        if manager.has_kernel:
            manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
        manager.context.destroy(linger=0)
