"""The first process of a container: it imports what a run needs, forks the run, and connects it to the owner.

It does for one run what guardian and fork server do on the owner's machine. The owner talks to it over stdin and
stdout (see ``wire.py``), which the run must not reach: they are closed in the fork, and this process is not
dumpable (prctl(2)), so that /proc/1 is closed to a run of the same user. The run is forked before its request
comes; the first frame of that says whether a fork will do or a new interpreter has to replace it.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from io import FileIO
from json import dumps, loads
from typing import NoReturn

from . import after_fork, code, fork_server, process_state, reaper, run, shutdown, signals, wire
from .channel import Channel, move_descriptor
from .reaper import Escalations
from .wire import (
    CHANNEL,
    COLD,
    DEADLINE,
    ENOUGH_BYTES,
    HANG_UP,
    NEWS,
    NO_ATTRIBUTES,
    ORDER,
    PIECE_BYTES,
    READY,
    STACK,
    STDERR,
    STDOUT,
    Packets,
    packet,
)

PR_SET_DUMPABLE = 4  # linux/prctl.h
OOM_SCORE = 500  # of the run: the OOM killer should choose it, not this process, which reports it

_prctl = ctypes.CDLL(None, use_errno=True).prctl


def main(_args: list[str]) -> int:
    """The role of a container's first process, and of its fork, the run."""
    try:
        channel, original, role = _serve()
        # Called from here, the code stands as deep in the stack as in a new interpreter.
        if role == "rows":
            from . import rows  # noqa: PLC0415 - most containers serve one run

            status = rows.serve(channel, original.modules)
        else:
            status = run.run_next_request(channel, original.modules)
    except (EOFError, ConnectionError):  # the owner hung up
        shutdown.leave(1)
    return shutdown.end(status, original.modules, channel)


def _serve() -> tuple[Channel, after_fork.Original, str]:
    """Connect the run to the owner; returns only in the run, when its request has come."""
    settings = loads(wire.read_frame(FileIO(0, "r", closefd=False)))
    incoming, outgoing, errors = (move_descriptor(os.dup(number)) for number in range(3))
    _put_null_at(0, 1)
    os.chdir(settings["cwd"])
    said: list[dict[str, object]] = []
    settings["attributes"] = NO_ATTRIBUTES
    original = fork_server.prepare(settings, {incoming, outgoing, errors}, said.append)
    _prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    channel, its_channel = socket.socketpair()
    (stdout, its_stdout), (stderr, its_stderr) = os.pipe(), os.pipe()
    pid = os.fork() if original is not None else -1
    if pid == 0 and original is not None:
        return _become_run(reaper.Connection(its_channel.detach(), its_stdout, its_stderr), original)
    os.dup2(errors, 2)  # where the owner reads errors of this process until the run begins
    its_channel.close()
    os.close(its_stdout)
    os.close(its_stderr)
    loop = Multiplexer(incoming, outgoing, pid, channel, {STDOUT: stdout, STDERR: stderr})
    loop.to_owner += packet(READY, dumps(said[-1] | _about()).encode())
    loop.serve(math.inf if settings["idle_secs"] is None else settings["idle_secs"])
    return shutdown.leave(0)


def _about() -> dict[str, object]:
    """The environment of this container. Bytes are sent as characters: JSON has no bytes."""
    pairs = {name.decode("latin-1"): value.decode("latin-1") for name, value in os.environb.items()}
    return {"environment": pairs}


def _put_null_at(*targets: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for target in targets:
        os.dup2(null, target)
    os.close(null)


def _become_run(
    connection: reaper.Connection, original: after_fork.Original
) -> tuple[Channel, after_fork.Original, str]:
    channel = original.channel
    original.restore(connection)
    _prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - a special file
        file.write(str(OOM_SCORE))
    if wire.read_frame(channel.stream) == COLD:
        _become_interpreter(channel)
    role = original.take_on()
    code.new_main()  # see fork_server.py
    return channel, original, role


def _become_interpreter(channel: Channel) -> NoReturn:
    """Replace this process by a new interpreter."""
    start = os.path.join(os.path.dirname(__file__), "start.py")  # noqa: PTH118, PTH120 - pathlib is not loaded
    try:
        launch = loads(wire.read_frame(channel.stream))
        environment = wire.environment_in(bytes(wire.read_frame(channel.stream)))
        os.chdir(launch["cwd"])
        process_state.limit_stack(launch["stack_bytes"])
        os.set_inheritable(channel.descriptor, True)
        os.execve(sys.executable, [sys.executable, start, launch["role"], str(channel.descriptor)], environment)  # noqa: S606 - starting it is what we are for
    except (OSError, MemoryError) as problem:
        number = getattr(problem, "errno", None) or errno.ENOMEM
        failure = {"errno": number, "path": getattr(problem, "filename", None)}
        channel.send({"not_started": failure})
        shutdown.leave(127)


SWEEP_TIMEOUT_SECS = 1.5  # a process in uninterruptible sleep cannot be waited for
LONGEST_WAIT_SECS = 1e6  # poll(2) takes an int of milliseconds
PIPE_BYTES = 1 << 20  # the most that a pipe of a user holds (fs.pipe-max-size, proc(5))
# Of the container's own control group: version 2, version 1.
MEMORY_EVENTS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
MEMORY_PEAK = ("/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes")


class Multiplexer:
    """The loop of this process: it passes packets between the owner and the run, and reaps every process.

    As the first process of its pid namespace it inherits every orphan, and no signal from inside can kill or stop
    it. It ends when its stdin is closed, as it is when the owner dies; the kernel then kills all other processes.

    Args:
        incoming: descriptor for what the owner sends.
        outgoing: descriptor for what is sent to the owner.
        pid: of the run, a child of this process.
        channel: this end of the run's channel.
        outputs: this end of the run's stdout and stderr, by the kind of their packets.
    """

    def __init__(
        self, incoming: int, outgoing: int, pid: int, channel: socket.socket, outputs: dict[bytes, int]
    ) -> None:
        self.incoming, self.outgoing, self.pid = incoming, outgoing, pid
        self.sources = {channel.fileno(): CHANNEL} | {number: kind for kind, number in outputs.items()}
        self.channel = channel
        self.to_owner = bytearray()
        self.to_channel = bytearray()
        self.packets = Packets()
        self.escalations = Escalations()
        self.poll = select.poll()
        self.wakeup = signals.wake_on_child()
        self.is_over = False
        self.hangs_up = False
        self.was_asked = False
        self.deadline = math.inf
        self.kills_before = _out_of_memory_kills()
        for descriptor in (incoming, outgoing, *self.sources):
            os.set_blocking(descriptor, False)

    def serve(self, idle_secs: float) -> None:
        """Work until the owner hangs up, or has sent nothing for so many seconds."""
        while True:
            self._register()
            ready = self.poll.poll(self._timeout_ms(idle_secs))
            if (not ready and not self.was_asked) or time.monotonic() > self.deadline:
                return
            for descriptor, mask in ready:
                if descriptor == self.incoming:
                    if mask & ~select.POLLIN or not self._receive_from_owner():
                        return
                elif descriptor == self.outgoing:
                    if not self._send_to_owner():
                        return
                elif descriptor == self.wakeup:
                    signals.drain(self.wakeup)
                else:
                    self._serve_stream(descriptor, mask)
            if self.escalations.take_steps():
                _kill_all()
            self._reap()

    def _register(self) -> None:
        """Wait only for what can be handled now: a pipe whose other end is closed is always ready."""
        wanted = {self.incoming: select.POLLIN if len(self.to_channel) < ENOUGH_BYTES else 0}
        if self.to_owner:
            wanted[self.outgoing] = select.POLLOUT
        for descriptor in self.sources:
            mask = select.POLLIN if len(self.to_owner) < ENOUGH_BYTES else 0
            if descriptor == self.channel.fileno() and self.to_channel:
                mask |= select.POLLOUT
            if mask:
                wanted[descriptor] = mask
        wanted[self.wakeup] = select.POLLIN
        for descriptor in (self.incoming, self.outgoing, self.wakeup, *self.sources):
            if descriptor in wanted:
                self.poll.register(descriptor, wanted[descriptor])
            else:
                with suppress(KeyError):
                    self.poll.unregister(descriptor)

    def _timeout_ms(self, idle_secs: float) -> float:
        left = max(0.0, self.deadline - time.monotonic())
        secs = min(self.escalations.secs_to_next_step(), left) if self.was_asked else idle_secs
        return min(secs, LONGEST_WAIT_SECS) * 1000

    def _receive_from_owner(self) -> bool:
        """Read what the owner has sent; False when it hung up."""
        said = os.read(self.incoming, PIECE_BYTES)
        self.was_asked = True
        for kind, body in self.packets.feed(said):
            if kind == CHANNEL:
                self.to_channel += body
            elif kind == DEADLINE:
                self.deadline = time.monotonic() + float(body)
            elif kind == ORDER and not self.is_over:
                self._obey(body)
        return bool(said)

    def _obey(self, order: bytes) -> None:
        if order == wire.INTERRUPT:
            self.escalations.begin(self.pid)
        elif order == STACK and signals.STACK_SIGNAL is not None:
            os.kill(self.pid, signals.STACK_SIGNAL)
        elif order == HANG_UP:
            self.hangs_up = True
            self._hang_up()
        elif order == wire.KILL:
            self.escalations.end(self.pid)
            _kill_all()

    def _hang_up(self) -> None:
        """Have the run read the end of its channel, once it was sent everything."""
        if self.hangs_up and not self.to_channel:
            with suppress(OSError):  # it has closed it, too
                self.channel.shutdown(socket.SHUT_WR)

    def _send_to_owner(self) -> bool:
        """Send what there is to send; False when the owner hung up."""
        try:
            del self.to_owner[: os.write(self.outgoing, self.to_owner[:PIECE_BYTES])]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return True

    def _serve_stream(self, descriptor: int, mask: int) -> None:
        if mask & select.POLLOUT and self.to_channel:
            try:
                del self.to_channel[: self.channel.send(self.to_channel[:PIECE_BYTES])]
            except BlockingIOError:
                pass
            except OSError:  # the run closed it
                self.to_channel.clear()
            self._hang_up()
        if mask & ~select.POLLOUT:
            if descriptor == self.channel.fileno():
                self._read_printed()
            self._read(descriptor)

    def _read_printed(self) -> None:
        """Read what was printed before the run's message, which may be a question about it, or a display."""
        for descriptor in [number for number, kind in self.sources.items() if kind in {STDOUT, STDERR}]:
            for _ in range(PIPE_BYTES // PIECE_BYTES + 1):
                if not self._read(descriptor):
                    break

    def _read(self, descriptor: int) -> bool:
        """Read from a stream of the run's; whether there may be more."""
        try:
            chunk = os.read(descriptor, PIECE_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # from a socket whose other end was closed with something unread
            chunk = b""
        if not chunk:
            with suppress(KeyError):
                self.poll.unregister(descriptor)
            self.sources.pop(descriptor, None)
            return False
        self.to_owner += packet(self.sources[descriptor], chunk)
        return True

    def _reap(self) -> None:
        """Reap what has ended. After the run, kill all that it started, and only then tell the owner."""
        with suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    return
                if pid == self.pid and not self.is_over:
                    cpu_secs = used.ru_utime + used.ru_stime
                    self._end(f"exit {os.waitstatus_to_exitcode(status)} {cpu_secs:.3f}\n")

    def _end(self, news: str) -> None:
        self.is_over = True
        self.escalations.end(self.pid)
        deadline = time.monotonic() + SWEEP_TIMEOUT_SECS
        while _reap_ended() and time.monotonic() < deadline:
            _kill_all()
            select.select([self.wakeup], [], [], 0.05)
            signals.drain(self.wakeup)
        for descriptor in list(self.sources):
            while self._read(descriptor):  # as much as a pipe holds: nobody writes any more
                pass
        if _out_of_memory_kills() > self.kills_before:
            self.to_owner += packet(NEWS, b"memory\n")
        peak = _peak_memory_bytes()
        if peak is not None:
            self.to_owner += packet(NEWS, b"peak %d\n" % peak)
        self.to_owner += packet(NEWS, news.encode())
        for descriptor in self.sources:  # of a process that could not be killed
            with suppress(KeyError):
                self.poll.unregister(descriptor)
        self.sources.clear()


def _kill_all() -> None:
    """Kill everything in the container but this process (kill(2))."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(-1, signal.SIGKILL)


def _reap_ended() -> bool:
    """Reap the children that have ended; whether others are left."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return False
    return True


def _out_of_memory_kills() -> int:
    """How many processes the OOM killer has killed here; 0 where the system does not say."""
    for path in MEMORY_EVENTS:
        with suppress(OSError, ValueError), open(path, "rb") as file:  # noqa: PTH123 - a special file
            return sum(int(line.split()[1]) for line in file if line.startswith(b"oom_kill "))
    return 0


def _peak_memory_bytes() -> int | None:
    """The most memory that the container has used; None where the system does not say."""
    for path in MEMORY_PEAK:
        with suppress(OSError, ValueError), open(path, "rb") as file:  # noqa: PTH123 - a special file
            return int(file.read())
    return None
