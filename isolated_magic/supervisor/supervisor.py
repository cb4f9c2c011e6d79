"""One live child, from its launch to the moment when nothing of it is left.

One loop, in the thread that asked for the run: it sends the request, passes output on as it comes, answers
the child program, and holds the deadline. The end is what the child's keeper reports, never the end of a
stream: a daemon that keeps stdout open holds nothing up.
"""

from __future__ import annotations

import math
import selectors
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isolated_magic.child import signals
from isolated_magic.launch.protocol import BRIEF_SECS, Conversation
from isolated_magic.supervisor import timeout_stack
from isolated_magic.supervisor.output import OutputStream, Stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.launch.base import Child
    from isolated_magic.launch.protocol import Idle, Messages, Outcome
    from isolated_magic.redaction.redactor import Redactor
    from isolated_magic.strict_json import Printed
    from isolated_magic.supervisor.output import OnOutput


# Unlike epoll, poll takes no descriptor of its own; each run watches four.
_Selector = getattr(selectors, "PollSelector", selectors.DefaultSelector)

LONGEST_WAIT_SECS = 1e6  # select() takes no more than some thirty years
LAST_CHUNKS = 64  # more than a socket holds: what a process of the run that could not be killed still writes
STACK_TIMEOUT_SECS = 0.25  # after this long code that does not say where it is does not get to
KILL_TIMEOUT_SECS = 5.0  # after this long a killed process counts as one that the system will not let go


@dataclass(frozen=True)
class Ending:
    """How a child ended, before anyone judges what that means.

    Args:
        pid: of the process, None when there was none.
        exit_status: negative for the signal that ended it; None when nobody could say.
        cpu_secs: seconds of processor time that it used, with those of its children that it waited for.
        timed_out: the deadline passed and we killed it.
        killed: somebody asked us to kill it.
        interrupted: somebody asked it to end.
        failure: the keeper's own words when it could not start the process.
        said: what came over its channel.
        printed: the last line of stdout, where it begins like a JSON object.
        stdout: what was printed before that.
        stderr: all of it.
        created_at: when the process existed, by time.monotonic(); None when it never did.
        out_of_memory: the kernel's OOM killer was at work meanwhile, somewhere.
        memory_exceeded: it killed a process of the run, for the run's own limit.
        processes_exceeded: a process of the run could not start another one, for the run's own limit.
        peak_memory_bytes: the most that all processes of the run had together, None when nobody can say.
        can_go_on: its process is a worker, ready for the next run.
        lost: why nobody could say how it ended, None when that is not known.
    """

    pid: int | None
    exit_status: int | None
    cpu_secs: float
    timed_out: bool
    killed: bool
    interrupted: bool
    failure: str | None
    said: Messages
    printed: Printed | None
    stdout: str
    stderr: str
    created_at: float | None
    out_of_memory: bool = False
    memory_exceeded: bool = False
    processes_exceeded: bool = False
    peak_memory_bytes: int | None = None
    can_go_on: bool = False
    lost: str | None = None


class Supervisor:
    """Supervises one child.

    Args:
        child: alive, nothing sent to it yet. Whoever has it closes it in the end.
        request: the bytes to send down its channel.
        deadline: by time.monotonic(); infinity for none.
        on_output: called with ``"stdout"`` or ``"stderr"`` and text, in this thread, as output comes.
        on_created: called with the pid as soon as it is known.
        output_bytes: of each stream to keep and to pass on, None for all.
        redactor: hides secrets in the output, None when there are none.
    """

    def __init__(
        self,
        child: Child,
        request: bytes,
        deadline: float,
        on_output: OnOutput | None,
        on_created: Callable[[int], None],
        output_bytes: int | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._child = child
        self._handle = child.handle
        self._deadline = deadline
        self._on_created = on_created
        self._stdout = Stdout(child.stdout, on_output, output_bytes, redactor)
        self._stderr = OutputStream("stderr", child.stderr, on_output, output_bytes, redactor)
        self._conversation = Conversation(child.channel, request, self._stdout.answer)
        self._stack_asked = False
        self._timed_out = False
        self._given_up = False
        self._is_watched = on_output is not None

    def run(self) -> Ending:
        """Work until nothing of the run is left. Whatever is raised in between kills it first."""
        try:
            if self._handle.pid is not None:  # a worker that has done runs before
                self._on_created(self._handle.pid)
                self._conversation.messages.presume_started()
                if self._may_be_over_soon():
                    self._conversation.wait_briefly()
            if not self._is_over():
                self._watch()
            self._finish()
            return self._ending()
        except BaseException:
            self._handle.kill()
            self._wait_until_gone()
            raise

    def _may_be_over_soon(self) -> bool:
        """Whether nobody waits for what is printed meanwhile, nor for the deadline."""
        return (
            not self._is_watched and self._conversation.has_all and self._deadline - time.monotonic() > BRIEF_SECS
        )

    def _watch(self) -> None:
        with _Selector() as self._selector:
            self._register()
            while not self._is_over():
                self._step()

    def _register(self) -> None:
        # First, so that whoever is told of output can know the pid.
        self._selector.register(self._handle.socket, selectors.EVENT_READ, self._on_handle)
        for stream in (self._stdout, self._stderr):
            self._selector.register(stream.file, selectors.EVENT_READ, stream)
        self._selector.register(self._conversation.channel, self._conversation.events, self._on_channel)

    def _is_over(self) -> bool:
        return self._handle.is_over or self._given_up or self._idle is not None

    @property
    def _idle(self) -> Idle | None:
        """How the run ended, where its process goes on."""
        return self._conversation.messages.idle if self._child.is_worker else None

    def _step(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            return self._on_deadline()
        for key, mask in self._selector.select(None if left == math.inf else min(left, LONGEST_WAIT_SECS)):
            if isinstance(key.data, OutputStream):
                self._on_stream(key.data)
            else:
                key.data(mask)
        return None

    def _on_deadline(self) -> None:
        if self._timed_out or self._handle.killed:  # we did kill it, and it is not let go
            self._handle.kill_without_reaper()
            self._given_up = True
        elif self._stack_asked or not self._ask_for_stack():
            self._timed_out = True
            self._handle.kill()
            self._deadline = time.monotonic() + KILL_TIMEOUT_SECS

    def _ask_for_stack(self) -> bool:
        """Have the code say where it is, and give it a moment; whether it could be asked."""
        if not self._conversation.messages.started or not self._handle.ask_for_stack():
            return False
        self._stack_asked = True
        self._conversation.messages.expect_stack()
        self._deadline = time.monotonic() + STACK_TIMEOUT_SECS
        return True

    def _on_stream(self, stream: OutputStream) -> None:
        chunk = stream.read()
        if chunk:
            stream.take(chunk)
        elif chunk is not None:
            self._selector.unregister(stream.file)

    def _on_channel(self, mask: int) -> None:
        conversation, events = self._conversation, self._conversation.events
        try:
            conversation.go_on(mask)
        except ConnectionError:
            self._selector.unregister(conversation.channel)
            return
        if conversation.events != events:
            self._selector.modify(conversation.channel, conversation.events, self._on_channel)
        if self._stack_asked and not self._timed_out and timeout_stack.is_complete(conversation.messages.stack):
            self._on_deadline()

    def _on_handle(self, _mask: int) -> None:
        with suppress(BlockingIOError):
            self._handle.take_news(self._on_created)

    def _wait_until_gone(self) -> None:
        """After a kill, read the handle alone until the keeper says that nothing is left."""
        self._handle.socket.settimeout(KILL_TIMEOUT_SECS)
        try:
            while not self._handle.is_over:
                self._handle.take_news(self._on_created)
        except OSError:
            self._handle.kill_without_reaper()

    def _wait_for_pid(self) -> None:
        """A new worker may be through with its first run before the guardian has said which process it is."""
        self._handle.socket.settimeout(KILL_TIMEOUT_SECS)
        with suppress(OSError):
            while self._handle.pid is None and not self._handle.is_over:
                self._handle.take_news(self._on_created)
        self._handle.socket.setblocking(False)

    def _finish(self) -> None:
        """What was written before the end is in the pipes already."""
        for stream in (self._stdout, self._stderr):
            stream.drain()
            stream.take(b"", final=True)
        if self._idle is not None and self._handle.pid is None:
            self._wait_for_pid()
        if self._idle is None:
            with suppress(OSError):
                for _ in range(LAST_CHUNKS):
                    self._conversation.receive()
        self._conversation.messages.end()

    def _has_failed(self, exit_status: int | None, outcome: Outcome | None) -> bool:
        """Whether what was printed is no result. It is one when only the end of the process went wrong."""
        if outcome is None or exit_status == 0:
            return exit_status != 0 or (outcome is not None and outcome.error is not None)
        was_ended = self._timed_out or self._handle.killed or self._handle.interrupted
        return exit_status is None or was_ended or not outcome.is_end

    def _ending(self) -> Ending:
        printed = self._stdout.line.result()
        outcome, idle = self._conversation.messages.outcome, self._idle
        exit_status = idle.status if idle is not None else self._handle.exit_status
        if self._has_failed(exit_status, outcome):
            printed = None
        rank = outcome.rank if outcome is not None else None
        if printed is not None and rank is not None and not printed.goes_before(rank):
            printed = None
        is_result = printed is not None and printed.value is not None
        self._stdout.emit(self._stdout.line.release(without_result=is_result))
        for stream in (self._stdout, self._stderr):
            stream.end()
        died_when_asked = self._stack_asked and self._handle.exit_status == -(signals.STACK_SIGNAL or 0)
        timed_out = self._timed_out or died_when_asked  # it had become another program
        return Ending(
            pid=self._handle.pid,
            exit_status=exit_status,
            cpu_secs=idle.cpu_secs if idle is not None else self._handle.cpu_secs,
            timed_out=timed_out,
            killed=self._handle.killed and not timed_out,
            interrupted=self._handle.interrupted,
            failure=self._handle.failure,
            said=self._conversation.messages,
            printed=printed,
            stdout="".join(self._stdout.text),
            stderr="".join(self._stderr.text),
            created_at=self._child.handed_over_at or self._handle.created_at,
            can_go_on=idle is not None and not self._stack_asked and self._conversation.messages.broken is None,
            memory_exceeded=self._handle.memory_exceeded,
            peak_memory_bytes=self._handle.peak_memory_bytes,
            lost=self._handle.lost,
        )
