"""Supervise one live child until nothing of it is left.

One loop, in the thread that asked for the run: it sends the request, passes output on as it comes, answers
the child program, and holds the deadline. The run is over when its reaper reports the end of the process, never at
the end of a stream: a daemon that keeps stdout open delays nothing. A fork that leaves nothing behind says so in
its last message: the run is over then, and its reaper sees the process gone meanwhile.
"""

from __future__ import annotations

import math
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from isolated_magic.child import signals
from isolated_magic.launch.base import LONGEST_WAIT_SECS
from isolated_magic.launch.protocol import BRIEF_SECS, Conversation
from isolated_magic.supervisor import timeout_stack
from isolated_magic.supervisor.run_output import RunOutput

if TYPE_CHECKING:
    from collections.abc import Callable

    from isolated_magic.launch.base import Child
    from isolated_magic.launch.process import ProcessHandle
    from isolated_magic.launch.protocol import Messages, RunEnd
    from isolated_magic.models import DisplayData
    from isolated_magic.redaction.redactor import Redactor
    from isolated_magic.strict_json import Printed
    from isolated_magic.supervisor.displays import OnDisplay
    from isolated_magic.supervisor.output import OnOutput, OutputStream

LAST_CHUNKS = 64  # more than a socket holds: what a process of the run that could not be killed still writes
STACK_TIMEOUT_SECS = 0.25  # after this long code that does not say where it is does not get to
KILL_TIMEOUT_SECS = 5.0  # after this long a killed process counts as one that the system will not let go


@dataclass(frozen=True)
class ExitReport:
    """How a child ended; :func:`~isolated_magic.supervisor.result.build_result` says what that means."""

    pid: int | None  # None when there was no process
    exit_status: int | None  # negative for the signal that ended it; None when nobody could say
    cpu_secs: float  # processor time, with that of those children that it waited for
    timed_out: bool  # we killed it at its deadline
    killed: bool  # somebody asked us to kill it
    interrupted: bool  # somebody asked it to end
    failure: str | None  # the reaper's own words when it could not start the process
    messages: Messages  # what came over its channel
    printed: Printed | None  # the last line of stdout, where it begins like a JSON object
    stdout: str  # what was printed before that
    stderr: str
    created_at: float | None  # when the process existed, by time.monotonic(); None when it never did
    out_of_memory: bool = False  # the kernel's OOM killer was at work meanwhile, somewhere
    memory_exceeded: bool = False  # it killed a process of the run, for the run's own limit
    processes_exceeded: bool = False  # a process of the run could not start another one, for the run's own limit
    peak_memory_bytes: int | None = None  # the most that all its processes had together, where that is known
    can_go_on: bool = False  # its process is a worker, ready for the next run
    displays: tuple[DisplayData, ...] = ()  # what the code displayed
    lost: str | None = None  # why nobody could say how it ended, where that is known


class Deadline:
    """When a run has to be over, and what happens when it is not: it is asked for its stack, then it is killed.

    Args:
        handle: of its process.
        at: by time.monotonic(); infinity for none.
    """

    def __init__(self, handle: ProcessHandle, at: float) -> None:
        self._handle = handle
        self.at = at
        self.stack_asked = False
        self.timed_out = False  # we killed it
        self.given_up = False  # it is not let go, though it was killed

    def renew(self, at: float) -> None:
        """The process runs something else, until then."""
        self.at, self.stack_asked = at, False

    def passed(self, messages: Messages) -> None:
        """It has passed, or there is nothing more to wait for; these are the messages of what runs."""
        if self.timed_out or self._handle.killed:
            self._handle.kill_without_reaper()
            self.given_up = True
        elif self.stack_asked or not self._ask_for_stack(messages):
            self.timed_out = True
            self._handle.kill()
            self.at = time.monotonic() + KILL_TIMEOUT_SECS

    def _ask_for_stack(self, messages: Messages) -> bool:
        """Have the code say where it is, and give it a moment; whether it could be asked."""
        if not messages.started or not self._handle.ask_for_stack():
            return False
        self.stack_asked = True
        messages.expect_stack()
        self.at = time.monotonic() + STACK_TIMEOUT_SECS
        return True

    def has_stack(self, messages: Messages) -> bool:
        """Whether the stack that was asked for is there, and not yet acted upon."""
        return self.stack_asked and not self.timed_out and timeout_stack.is_complete(messages.stack)

    @property
    def ended_it(self) -> bool:
        """Whether the process ended because of it: a program that it had become may die of being asked."""
        died_when_asked = self.stack_asked and self._handle.exit_status == -(signals.STACK_SIGNAL or 0)
        return self.timed_out or died_when_asked


def exit_report(
    child: Child,
    messages: Messages,
    deadline: Deadline,
    output: RunOutput | None,
    exit_status: int | None,
    end: RunEnd | None = None,
) -> ExitReport:
    """How a run has ended. ``output`` is None if there was none; ``end`` is what its process says of it."""
    handle = child.handle
    is_idle = end is not None and end is messages.idle
    printed = None
    if output is not None:
        was_ended = deadline.timed_out or handle.killed or handle.interrupted
        printed = output.end(exit_status, messages.outcome, was_ended=was_ended)
    return ExitReport(
        pid=handle.pid,
        exit_status=exit_status,
        cpu_secs=handle.cpu_secs if end is None else end.cpu_secs,
        timed_out=deadline.ended_it,
        killed=handle.killed and not deadline.ended_it,
        interrupted=handle.interrupted,
        failure=handle.failure,
        messages=messages,
        printed=printed,
        stdout="".join(output.stdout.text) if output is not None else "",
        stderr="".join(output.stderr.text) if output is not None else "",
        created_at=child.handed_over_at or handle.created_at,
        can_go_on=is_idle and not deadline.stack_asked and messages.broken is None,
        memory_exceeded=handle.memory_exceeded,
        peak_memory_bytes=handle.peak_memory_bytes,
        displays=output.displays if output is not None else (),
        lost=handle.lost,
    )


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
        on_display: called likewise with what the code displays.
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
        on_display: OnDisplay | None = None,
    ) -> None:
        self._child = child
        self._handle = child.handle
        self._deadline = Deadline(child.handle, deadline)
        self._on_created = on_created
        self._output = RunOutput(child.stdout, child.stderr, output_bytes, redactor, on_output, on_display)
        self._conversation = Conversation(child.channel, request, self._output.answer)
        self._messages = self._conversation.messages
        self._is_worker = child.is_worker
        self._end: RunEnd | None = None  # by the word of its process
        self._starts_silently = child.starts_silently and not child.is_worker
        self._is_watched = on_output is not None or on_display is not None

    def run(self) -> ExitReport:
        """Work until nothing of the run is left. Whatever is raised in between kills it first."""
        try:
            self._begin()
            if not self._is_over():
                self._watch()
            self._finish()
            return self._report()
        except BaseException:
            self._handle.kill_and_wait(self._on_created, KILL_TIMEOUT_SECS)
            raise

    def _begin(self) -> None:
        if self._handle.pid is not None:  # a worker that has done runs before
            self._on_created(self._handle.pid)
            self._messages.presume_started()
        elif self._starts_silently:
            self._on_handle()
        if self._may_be_over_soon():
            self._conversation.wait_briefly(self._is_over)

    def _may_be_over_soon(self) -> bool:
        """Whether there is a process, and nobody waits for what it prints meanwhile, nor for the deadline."""
        return (
            self._handle.pid is not None
            and not self._is_watched
            and self._conversation.has_all
            and self._deadline.at - time.monotonic() > BRIEF_SECS
        )

    def _watch(self) -> None:
        # Unlike epoll, poll takes no descriptor of its own; each run watches four.
        poll = self._poll = select.poll()
        handle, channel = self._handle.socket.fileno(), self._child.channel.fileno()
        streams = {stream.file.fileno(): stream for stream in (self._output.stdout, self._output.stderr)}
        # The handle first, so that whoever is told of output can know the pid: poll keeps the order.
        for descriptor in (handle, *streams):
            poll.register(descriptor, select.POLLIN)
        poll.register(channel, self._conversation.events)
        while not self._is_over():
            left = self._deadline.at - time.monotonic()
            if left <= 0:
                self._settle_start()
                self._deadline.passed(self._messages)
                continue
            for descriptor, event in poll.poll(math.ceil(min(left, LONGEST_WAIT_SECS) * 1000)):
                if descriptor in streams:
                    self._on_stream(streams[descriptor])
                elif descriptor == channel:
                    self._on_channel(event)
                else:
                    self._on_handle()

    def _is_over(self) -> bool:
        if self._end is None:
            self._end = self._end_by_its_word()
        return self._end is not None or self._handle.is_over or self._deadline.given_up

    def _end_by_its_word(self) -> RunEnd | None:
        """How the run ended, where its process goes on, or where nothing is left but to see it gone."""
        if self._is_worker:
            return self._messages.idle
        return self._messages.over if self._handle.can_leave and not self._deadline.timed_out else None

    def _on_stream(self, stream: OutputStream) -> None:
        chunk = stream.read()
        if chunk:
            stream.take(chunk)
        elif chunk is not None:
            self._poll.unregister(stream.file)

    def _on_channel(self, event: int) -> None:
        conversation = self._conversation
        try:
            conversation.go_on(event)
        except ConnectionError:
            self._poll.unregister(conversation.channel)
            return
        self._poll.modify(conversation.channel, conversation.events)
        if self._deadline.has_stack(self._messages):
            self._deadline.passed(self._messages)

    def _on_handle(self) -> None:
        with suppress(BlockingIOError):
            self._handle.take_news(self._on_created)

    def _wait_for_pid(self) -> None:
        """A new worker may be through with its first run before the guardian has said which process it is."""
        self._handle.socket.settimeout(KILL_TIMEOUT_SECS)
        with suppress(OSError):
            while self._handle.pid is None and not self._handle.is_over:
                self._handle.take_news(self._on_created)
        self._handle.socket.setblocking(False)

    def _settle_start(self) -> None:
        """Decide whether the code of a fork has started: it has if the fork has read its request."""
        if self._starts_silently and not self._messages.started and self._handle.pid is not None:
            self._conversation.see_whether_read()
            self._messages.presume_started()

    def _finish(self) -> None:
        self._output.take_rest()
        self._settle_start()
        if self._end is None:
            self._receive_the_rest()
        elif self._handle.pid is None:
            self._wait_for_pid()
        self._messages.end()

    def _receive_the_rest(self) -> None:
        try:
            for _ in range(LAST_CHUNKS):
                self._conversation.receive()
        except OSError:
            return

    def _report(self) -> ExitReport:
        end = self._end
        self._handle.is_leaving = end is not None and not self._is_worker
        exit_status = self._handle.exit_status if end is None else end.status
        return exit_report(self._child, self._messages, self._deadline, self._output, exit_status, end)
