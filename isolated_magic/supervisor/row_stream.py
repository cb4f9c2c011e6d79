"""Run one row after the other in one process (``child/rows.py``): send rows ahead, tell what each came to.

One loop, in the thread that has the rows. The process begins a row as soon as it has ended the one before, so the
first of those that were sent is the one that runs: it alone fails if the process is lost.
"""

from __future__ import annotations

import math
import os
import select
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from isolated_magic.child import wire
from isolated_magic.launch.base import LONGEST_WAIT_SECS
from isolated_magic.launch.process import NO_SIGNAL
from isolated_magic.launch.protocol import BROKEN, LONGEST_FRAME, LONGEST_STACK, Messages, RowEnd
from isolated_magic.launch.spawn import rows_message
from isolated_magic.redaction.redactor import redactor_for
from isolated_magic.strict_json import LARGEST_RESULT_BYTES, too_large
from isolated_magic.supervisor.output import CHUNK_BYTES
from isolated_magic.supervisor.run_output import RunOutput
from isolated_magic.supervisor.supervisor import (
    KILL_TIMEOUT_SECS,
    LAST_CHUNKS,
    Deadline,
    exit_report,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from io import FileIO

    from isolated_magic.launch.base import Child
    from isolated_magic.launch.protocol import Question
    from isolated_magic.request import RunRequest
    from isolated_magic.supervisor.supervisor import ExitReport

# What was sent and has not ended: rows, and bytes beyond the first row.
MOST_AHEAD, MOST_BYTES_AHEAD = 64, 1 << 20
QUIET_SECS = 0.001  # without news, after which output is read, too: with each row there is a little of it
MARKER_BYTES = 16


class RowPipe:
    """What the running row writes to an output stream of its process.

    Args:
        file: our end of the pipe, non-blocking.
        marker: what the process writes to it at the end of each row.
    """

    def __init__(self, file: FileIO, marker: bytes) -> None:
        self._file = file
        self._marker = marker
        self._unread = bytearray()

    def fileno(self) -> int:
        """The descriptor of the pipe."""
        return self._file.fileno()

    def pull(self) -> bool:
        """Take in what the pipe holds; False at its end."""
        chunk = self._file.read(CHUNK_BYTES)
        if chunk:
            self._unread += chunk
        return chunk is None or bool(chunk)

    def is_at_marker(self) -> bool:
        """Whether the row has ended, and nothing of what it wrote is unread."""
        return self._unread.startswith(self._marker)

    def read(self, _size: int = -1) -> bytes | None:
        """What the row wrote further; empty at the end of the pipe, None when there is nothing now."""
        is_open = self.pull()
        at = self._unread.find(self._marker)
        if at < 0:
            at = len(self._unread) - (self._begun_marker() if is_open else 0)
        part = bytes(self._unread[:at])
        del self._unread[:at]
        return part or (None if is_open or self._unread else b"")

    def _begun_marker(self) -> int:
        """How much at the end may be the beginning of a marker."""
        for length in range(min(len(self._marker) - 1, len(self._unread)), 0, -1):
            if self._unread.endswith(self._marker[:length]):
                return length
        return 0

    def next_row(self) -> bool:
        """Go on to what the next row writes; False if there is no marker."""
        is_there = self.is_at_marker()
        if is_there:
            del self._unread[: len(self._marker)]
        return is_there


@dataclass
class Row:
    """How one row came out; :func:`~isolated_magic.supervisor.result.build_result` says what that means."""

    request: RunRequest
    report: ExitReport
    ms: float  # from its beginning to its end
    is_first: bool  # of its process
    has_process: bool  # which goes on
    is_plain: bool = field(default=False)  # it has a result, and has printed nothing


class RowStream:
    """The rows of one process.

    Args:
        child: alive. Whoever has it closes it in the end.
        unsent: to be sent first.
        request: of any of the rows; they differ in nothing but their data.
        begun_at: when the process was called for, by time.monotonic().
        on_created: called with its pid as soon as that is known.
        ended: called with each row that has ended, in their order; what it returns is for the caller.
        most_ahead: rows to send that have not ended, at least one: if this process is killed, they may have run.
    """

    def __init__(
        self,
        child: Child,
        unsent: bytes,
        request: RunRequest,
        begun_at: float,
        on_created: Callable[[int], None],
        ended: Callable[[Row], object],
        most_ahead: int = MOST_AHEAD,
    ) -> None:
        marker = b"\0" + os.urandom(MARKER_BYTES - 1)
        self._child, self._handle, self._channel = child, child.handle, child.channel
        self._request = request
        self._redactor = redactor_for(request.secrets)
        self._on_created = on_created
        self._ended = ended
        self._most_ahead = most_ahead
        self._unsent = memoryview(unsent + rows_message(request, marker))
        self._sent: deque[RunRequest] = deque()
        self._bytes_ahead = 0
        self._received = bytearray()
        self._stdout, self._stderr = RowPipe(child.stdout, marker), RowPipe(child.stderr, marker)
        self._messages = Messages()  # of the running row, as the rest
        self._output: RunOutput | None = None  # None as long as it has printed nothing
        self._is_first = True
        self._begun_at = begun_at
        self._deadline = Deadline(child.handle, math.inf)
        self._tolerates_text = False  # what was asked for may come when the row has ended
        self._is_broken = False
        self._make_polls()

    def _make_polls(self) -> None:
        """One for what comes with every row, one for all."""
        self._news, self._all = select.poll(), select.poll()
        for poll in (self._news, self._all):
            poll.register(self._handle.socket, select.POLLIN)
            poll.register(self._channel, select.POLLIN)
        self._pipes = {pipe.fileno(): pipe for pipe in (self._stdout, self._stderr)}
        for descriptor in self._pipes:
            self._all.register(descriptor, select.POLLIN)
        self._has_channel = True

    @property
    def never_started(self) -> bool:
        """Whether no line of the code has run, though nobody stopped it."""
        handle = self._handle
        has_started = not self._is_first or self._messages.started
        return not (has_started or handle.killed or handle.interrupted or self._deadline.timed_out)

    def lives(self) -> bool:
        """Whether a process that waits is still there."""
        return self._handle.lives()

    def run(self, next_request: Callable[[], RunRequest | None]) -> bool:
        """Run rows until there is none. Whatever is raised in between kills the process.

        Args:
            next_request: gives the next row that may run now.

        Returns:
            Whether the process can run further rows; if not, those that were sent and have not ended never began.
        """
        try:
            while not self._is_over():
                self._send_ahead(next_request)
                if not self._sent:
                    return True
                self._wait()
            self._finish()
        except BaseException:
            self.kill_and_wait()
            raise
        return False

    def _is_over(self) -> bool:
        return self._handle.is_over or self._deadline.given_up

    # What goes down.

    def _send_ahead(self, next_request: Callable[[], RunRequest | None]) -> None:
        if len(self._sent) > self._most_ahead // 2 or self._is_broken or self._deadline.timed_out:
            return
        parts: list[bytes] = []
        is_idle = not self._sent
        while len(self._sent) < self._most_ahead and self._bytes_ahead < MOST_BYTES_AHEAD:
            request = next_request()
            if request is None:
                break
            self._sent.append(request)
            self._bytes_ahead += len(request.payload)
            parts += [len(request.payload).to_bytes(wire.LENGTH_BYTES, "big"), request.payload]
        if parts:
            if is_idle:
                self._begin_row(self._begun_at if self._is_first else time.monotonic())
            self._send(b"".join(parts))

    def _send(self, data: bytes) -> None:
        self._unsent = memoryview(b"".join([self._unsent, data]) if self._unsent else data)
        self._send_unsent()

    def _send_unsent(self) -> None:
        while self._unsent:
            try:
                sent = self._channel.send(self._unsent[:CHUNK_BYTES], NO_SIGNAL)
            except BlockingIOError:
                break
            except OSError:  # it has ended: the handle will tell
                self._unsent = memoryview(b"")
                break
            self._unsent = self._unsent[sent:]
        if self._has_channel:
            events = select.POLLIN | select.POLLOUT if self._unsent else select.POLLIN
            for poll in (self._news, self._all):
                poll.modify(self._channel, events)

    # What comes up.

    def _wait(self) -> None:
        left = self._deadline.at - time.monotonic()
        if left <= 0:
            self._on_time_up()
            return
        ready = self._news.poll(QUIET_SECS * 1000)
        if not ready:
            ready = self._all.poll(math.ceil(min(left, LONGEST_WAIT_SECS) * 1000))
        channel, handle = self._channel.fileno(), self._handle.socket.fileno()
        for descriptor, event in ready:
            if descriptor == channel:
                self._on_channel(event)
            elif descriptor == handle:
                with suppress(BlockingIOError):
                    self._handle.take_news(self._on_created)
            else:
                self._on_pipe(descriptor)

    def _on_channel(self, event: int) -> None:
        if event & select.POLLOUT:
            self._send_unsent()
        if event & ~select.POLLOUT and not self._receive():
            self._has_channel = False
            for poll in (self._news, self._all):
                poll.unregister(self._channel)

    def _on_pipe(self, descriptor: int) -> None:
        pipe = self._pipes[descriptor]
        part = pipe.read()
        if part:
            output = self._get_output()
            (output.stdout if pipe is self._stdout else output.stderr).take(part)
        elif part is not None:
            self._all.unregister(descriptor)

    def _get_output(self) -> RunOutput:
        if self._output is None:
            output_bytes = self._request.limits.output_bytes
            self._output = RunOutput(self._stdout, self._stderr, output_bytes, self._redactor)
        return self._output

    def _receive(self) -> bool:
        """Take in what the process has sent; False when there will be no more."""
        try:
            chunk = self._channel.recv(CHUNK_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            chunk = b""
        if not chunk:
            return False
        self._received += chunk
        self._stdout.pull()  # what the rows printed that ended by now
        self._stderr.pull()
        while self._sent and not self._is_broken and (body := self._next_frame()) is not None:
            self._take(body)
        return True

    def _next_frame(self) -> bytes | None:
        received = self._received
        if self._tolerates_text and received and received[0]:  # the first byte of each frame is zero
            end = received.find(0)
            text = received[: end if end >= 0 else len(received)]
            self._messages.stack += text[: LONGEST_STACK - len(self._messages.stack)]
            del received[: len(text)]
            if self._deadline.has_stack(self._messages):
                self._on_deadline()
        if len(received) < wire.LENGTH_BYTES:
            return None
        length = int.from_bytes(received[: wire.LENGTH_BYTES], "big")
        if length > LARGEST_RESULT_BYTES:
            self._break(f"the result {too_large(length)}" if length <= LONGEST_FRAME else BROKEN)
            return None
        end = wire.LENGTH_BYTES + length
        if len(received) < end:
            return None
        body = bytes(received[wire.LENGTH_BYTES : end])
        del received[:end]
        return body

    def _take(self, body: bytes) -> None:
        found: Question | RowEnd | None = self._messages.take_frame(body)
        if isinstance(found, RowEnd):
            self._end_row(found)
        elif found is not None:
            answer = self._get_output().answer(found)
            self._send(wire.frame(answer))
        elif self._messages.broken is not None:
            self._break(self._messages.broken)
        elif self._messages.not_started is not None:  # or it cannot go on
            self._handle.kill()

    def _break(self, reason: str) -> None:
        """It cannot be known any more what the process says: end it."""
        self._messages.broken, self._messages.outcome = reason, None
        self._is_broken = True
        self._handle.kill()

    # The end of a row.

    def _begin_row(self, begun_at: float) -> None:
        self._begun_at = begun_at
        self._deadline.renew(begun_at + self._request.timeout_secs)

    def _end_row(self, end: RowEnd) -> None:
        has_printed = self._output is not None or not (self._stdout.is_at_marker() and self._stderr.is_at_marker())
        if has_printed:
            self._take_rest()
        if not (self._stdout.next_row() and self._stderr.next_row()):
            self._break(BROKEN)
            return
        report = self._report(end.status)
        is_plain = not has_printed and end.outcome.result is not None and not end.outcome.notes
        self._tell(report, end.ms, has_process=True, is_plain=is_plain)
        self._messages, self._output, self._is_first = Messages.of_next_row(), None, False
        self._begin_row(time.monotonic())

    def _take_rest(self) -> None:
        """Take in all that the row has printed."""
        output = self._get_output()
        for pipe, stream in ((self._stdout, output.stdout), (self._stderr, output.stderr)):
            while part := pipe.read():
                stream.take(part)
            stream.take(b"", final=True)

    def _tell(self, report: ExitReport, ms: float, *, has_process: bool, is_plain: bool = False) -> None:
        request = self._sent.popleft()
        self._bytes_ahead -= len(request.payload)
        self._ended(Row(request, report, ms, self._is_first, has_process, is_plain))

    def _report(self, exit_status: int | None) -> ExitReport:
        report = exit_report(self._child, self._messages, self._deadline, self._output, exit_status)
        return replace(report, killed=False) if self._is_broken else report  # by us

    # The end of the process.

    def _on_time_up(self) -> None:
        """The row has no time left; but it may have ended before, without our knowing it."""
        deadline = self._deadline.at
        if self._has_channel:
            self._receive()
        if self._deadline.at == deadline and self._sent:
            self._on_deadline()

    def _on_deadline(self) -> None:
        self._deadline.passed(self._messages)
        self._tolerates_text |= self._deadline.stack_asked

    def _finish(self) -> None:
        """The process is gone: what it wrote before that is in the pipes already."""
        if not self._deadline.timed_out:
            for _ in range(LAST_CHUNKS):
                if not self._has_channel or not self._receive():
                    break
        if not self.never_started:
            self.tell_lost()

    def tell_lost(self) -> None:
        """Have the row that ran end with the process; or the first one, if none of them began."""
        if not self._sent:
            return
        self._take_rest()
        self._messages.end()
        status = 0 if self._is_broken else self._handle.exit_status
        ms = (time.monotonic() - self._begun_at) * 1000
        self._tell(self._report(status), ms, has_process=False)

    def hang_up(self) -> None:
        """Have the process end in order."""
        with suppress(OSError):
            self._channel.shutdown(1)

    def wait_for_end(self, deadline: float) -> None:
        """After :meth:`hang_up`, wait until it has ended, or kill it. What it prints meanwhile is dropped."""
        try:
            while not self._handle.is_over and (left := deadline - time.monotonic()) > 0:
                for descriptor, _ in self._all.poll(left * 1000):
                    if not self._handle.is_over:  # a signal handler may have killed it, and closed them
                        self._drop(descriptor)
        finally:
            if not self._handle.is_over:
                self.kill_and_wait()

    def _drop(self, descriptor: int) -> None:
        if descriptor == self._handle.socket.fileno():
            with suppress(BlockingIOError):
                self._handle.take_news(self._on_created)
            return
        with suppress(BlockingIOError):
            try:
                chunk = os.read(descriptor, CHUNK_BYTES)
            except ConnectionError:
                chunk = b""
            if not chunk:
                self._all.unregister(descriptor)

    def kill_and_wait(self) -> None:
        """Kill the process, and wait until the reaper says that nothing is left."""
        self._handle.kill_and_wait(self._on_created, KILL_TIMEOUT_SECS)
