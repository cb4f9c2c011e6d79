"""Runs programs of any language in containers: the program goes to a command of the image, such as ``node -``.

Nothing of ours can run in such an image, but it has a shell. The container's first process is a shell that only
waits for the end of its stdin, which is the connection to the owner: it ends with the owner, and everything in the
container with it. It belongs to another user than the program, which therefore cannot reach it. The program is a
second process (``docker exec``): a shell that reads variables, limits, data and program from its stdin, writes
them to files in memory, and becomes the command. So nothing of a run shows in ``docker inspect``, or lies on a
disk.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from isolated_magic.child import wire
from isolated_magic.child.channel import decode_payload
from isolated_magic.child.result import LONGEST_LINE, elide_middle
from isolated_magic.child.wire import CHANNEL, CONTAINER_FOLDER, STDERR
from isolated_magic.environment import QUIET_DEFAULTS
from isolated_magic.errors import LaunchError
from isolated_magic.launch.containers.bridge import Bridge, ContainerHandle
from isolated_magic.launch.containers.container import AttachedStream, Container, PacketStream
from isolated_magic.launch.containers.settings import (
    FILE_WORD,
    RESERVED_PROCESSES,
    STARTING_PROCESSES,
    processes_of,
)
from isolated_magic.sanitize import without_nan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from isolated_magic.launch.containers.settings import ContainerSettings
    from isolated_magic.request import RunRequest
    from isolated_magic.strict_json import JsonObject

DATA_VARIABLE = "ISOLATED_MAGIC_DATA"
HOLDER = ("sh", "-c", "read -r _")
HOLDER_USER = "0:0"  # with no capability

_DATA, _PROGRAM = f"{CONTAINER_FOLDER}/data", f"{CONTAINER_FOLDER}/program"
_MARK = b"isolated_magic: "
_REFUSED_STATUS = 125
# Its arguments: the bytes of the variables and limits, of the data and of the program, the file of the program,
# that of stdin, and the command. It sets no variable, which might be one of the program's. `head -c` of some
# images reads ahead: so all is read at once.
_STARTER = f"""\
refuse() {{ printf 'isolated_magic: %s\\n' "$1" >&2; exit {_REFUSED_STATUS}; }}
command -v head >/dev/null && command -v tail >/dev/null || refuse tools
{{
    head -c $(($1 + $2 + $3)) >{CONTAINER_FOLDER}/all &&
    head -c $1 {CONTAINER_FOLDER}/all >{CONTAINER_FOLDER}/start &&
    tail -c $(($2 + $3)) {CONTAINER_FOLDER}/all >{CONTAINER_FOLDER}/rest &&
    rm {CONTAINER_FOLDER}/all &&
    head -c $2 {CONTAINER_FOLDER}/rest >{_DATA} &&
    tail -c $3 {CONTAINER_FOLDER}/rest >"$4" &&
    rm {CONTAINER_FOLDER}/rest
}} 2>/dev/null || refuse room
. {CONTAINER_FOLDER}/start
rm {CONTAINER_FOLDER}/start
command -v "$6" >/dev/null || refuse command
exec <"$5"
shift 5
exec "$@"
"""
# Prints how many processes the OOM killer has ended (control groups version 2, version 1), and a last line.
_OOM_KILLS = """\
for file in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r $file ] && while read -r name count; do [ "$name" = oom_kill ] && echo "$count"; done <$file
done
echo end
"""
_NOT_TELLING = re.compile(r"Node\.js v\d")  # the last line of an uncaught exception of Node
MOST_KEPT_BYTES = 4096  # of the end of stderr
# So often it is looked whether the program has ended, as what it left behind may hold its streams; and so soon
# once they have ended, for the daemon takes a moment to notice.
LOOK_SECS, FIRST_LOOK_SECS = 1.0, 0.005
LAST_WORDS_SECS = 0.1  # for what it wrote to come here
STEPS = (("INT", 0.8), ("TERM", 0.4))  # of an interrupt, as elsewhere (``child/reaper.py``)


class CommandContainer(Container):
    """A container in which a command can be run, once."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]  # the same
        self._stream: AttachedStream | None = None
        self._exec = ""

    @property
    def stream(self) -> AttachedStream | None:
        """Where the output of its run comes from."""
        return self._stream

    def make(self) -> None:
        """Create and start it. After a LaunchError it still has to be removed."""
        self.id = self.client.create(self.settings, self.shape, HOLDER, self._label, user=HOLDER_USER)
        self.attached = PacketStream(*self.client.attach(self.id, self.settings))
        self._start(self.id)
        state = self.client.state(self.id)
        self.pid = int(state["Pid"]) if state is not None else 0
        self._limit_processes(self.id)

    def begin(self, request: RunRequest) -> bytes:
        """Start the shell that becomes the command; what it has to be sent."""
        command, program, stdin = arranged(self.settings.command)
        parts = _start_script(request), data_of(request), (request.source or "").encode("utf-8", "surrogatepass")
        sizes = [str(len(part)) for part in parts]
        starter = ("sh", "-c", _STARTER, "sh", *sizes, program, stdin, *command)
        self._exec = self.client.exec_create(self.id or "", starter, self.settings.user)
        self._stream = AttachedStream(*self.client.exec_attach(self._exec))
        return b"".join(parts)

    def _limit_processes(self, own_id: str) -> None:
        """As ever, and one more: before the program starts, its shell has a child."""
        processes = processes_of(self.settings, self.shape) + 1
        if processes + RESERVED_PROCESSES < STARTING_PROCESSES:
            self.client.limit_processes(own_id, processes)

    def exit_code(self) -> int | None:
        """The exit code of the command; None while it runs.

        Raises:
            LaunchError: the daemon does not say.
        """
        return self.client.exec_exit_code(self._exec)

    def signal(self, name: str) -> None:
        """Send a signal to all processes of the run."""
        with suppress(LaunchError):
            self.client.exec_output(self.id or "", ("sh", "-c", f"kill -{name} -1"), self.settings.user)

    def has_run_out_of_memory(self) -> bool | None:
        """Whether the OOM killer has ended a process in it; None if it was killed itself."""
        with suppress(LaunchError):
            told = self.client.exec_output(self.id or "", ("sh", "-c", _OOM_KILLS), HOLDER_USER)
            if told.endswith(b"end\n"):
                return any(count.isdigit() and int(count) > 0 for count in told.split())
        return None

    def end(self) -> None:
        """Kill everything in it, and wait for that."""
        self.hang_up()
        self.client.kill(self.id or "")

    def hang_up(self) -> None:
        """Have it end; any thread may call this."""
        super().hang_up()
        if self._stream is not None:
            self._stream.hang_up()

    def close(self) -> None:
        """Hang up and close the streams; no other thread may use it any more."""
        super().close()
        if self._stream is not None:
            self._stream.hang_up()
            self._stream.close()

    def forget(self) -> None:
        """In a fork of the owner: close our copies; the container belongs to the original."""
        super().forget()
        if self._stream is not None:
            self._stream.close()


def arranged(command: Sequence[str]) -> tuple[tuple[str, ...], str, str]:
    """The command without placeholder, the path of the program, and that of what is on stdin."""
    for word in command:
        if found := FILE_WORD.search(word):
            path = _PROGRAM + (found[1] or "")
            return tuple(FILE_WORD.sub(path, each) for each in command), path, _DATA
    return tuple(command), _PROGRAM, _PROGRAM


def data_of(request: RunRequest) -> bytes:
    """The data as JSON that any parser reads: without NaN and infinities, which are null."""
    message = without_nan(decode_payload(request.payload))  # type: ignore[arg-type]  # it is JSON
    try:
        return json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return json.dumps(message).encode()


def _start_script(request: RunRequest) -> bytes:
    """Shell code that sets the variables and the limits of a run."""
    limits, target = request.limits, request.container
    # The image may say otherwise.
    lines = [f'export {name}="${{{name}-{value}}}"'.encode() for name, value in QUIET_DEFAULTS.items()]
    lines += [b"unset %b" % name for name in (target.unset if target is not None else ())]
    lines += [b"export %b=%b" % (name, _quoted(value)) for name, value in request.environment.items()]
    lines.append(f"export {DATA_VARIABLE}={_DATA}".encode())
    if limits.cpu_secs is not None:
        secs = max(1, round(limits.cpu_secs))
        lines.append(f"ulimit -S -t {secs}; ulimit -H -t {secs + 1}".encode())
    if limits.file_size_bytes is not None:
        lines.append(f"ulimit -f {-(-limits.file_size_bytes // 512)}".encode())
    if limits.open_files is not None:
        lines.append(f"ulimit -n {limits.open_files}".encode())
    return b"\n".join([*lines, b""])


def _quoted(value: bytes) -> bytes:
    return b"'" + value.replace(b"'", b"'\\''") + b"'"


class CommandHandle(ContainerHandle):
    """The handle of a run of a command."""

    def ask_for_stack(self) -> bool:
        """Do nothing: only Python can be asked; see :class:`ProcessHandle`."""
        return False


class CommandBridge(Bridge):
    """Carries one run of a command, and speaks for it on the channel, of which it knows nothing.

    Args:
        container: whose command has begun.
        unsent: what the command has to be sent.
    """

    handle_type = CommandHandle

    def __init__(self, container: CommandContainer, unsent: bytes) -> None:
        self._command = container
        self._steps: list[tuple[float, str]] = []  # of an interrupt, the next one first: when, and which signal
        self._pause_secs = LOOK_SECS
        self._look_at = time.monotonic() + self._pause_secs
        self._has_end = False  # its streams have ended
        self._code: int | None = None
        self._stderr_end = b""
        self._refusal = ""
        super().__init__(container, None)
        self._unsent += unsent
        self._unread[CHANNEL] += wire.frame(wire.STARTED)

    def _set_deadline(self, timeout_secs: float | None) -> None:
        """Only the owner knows it: a shell cannot keep time and wait."""

    def _wakes_at(self) -> float:
        return min([self._look_at, *(at for at, _ in self._steps[:1])])

    def _on_time(self) -> None:
        now = time.monotonic()
        if self._steps and now >= self._steps[0][0]:
            _, name = self._steps.pop(0)
            if name == "KILL":
                self._be_over("exit -9 0.000\n")
            else:
                self._command.signal(name)
        if now >= self._look_at and not self._is_over:
            self._look()

    def _look(self) -> None:
        """See whether the program has ended; it is over as soon as it had a moment for its last words to come."""
        if self._code is not None:
            self._be_over(self._news_of(self._code))
            return
        self._look_at = time.monotonic() + self._pause_secs
        self._pause_secs = min(2 * self._pause_secs, LOOK_SECS)
        try:
            self._code = self._command.exit_code()
        except LaunchError as problem:
            if self._has_end:  # else the stream will tell
                self._be_over(f"lost {str(problem).rstrip('.')}\n")
            return
        if self._code is not None:
            self._look_at = time.monotonic() + (0.0 if self._has_end else LAST_WORDS_SECS)

    def _on_end_of_stream(self) -> None:
        """Nothing holds the program's streams any more: mostly it ends just now."""
        self._has_end, self._pause_secs = True, FIRST_LOOK_SECS
        self._unsent.clear()
        self._look()

    def _wanted(self) -> dict[int, int]:
        wanted = super()._wanted()
        if self._has_end and self._command.stream is not None:
            wanted.pop(self._command.stream.socket.fileno(), None)
        return wanted

    def _obey(self, order: bytes) -> None:
        if order == wire.KILL:
            self._be_over("exit -9 0.000\n")
        elif order == wire.INTERRUPT and not self._steps:
            at = time.monotonic()
            for name, grace_secs in STEPS:
                self._steps.append((at, name))
                at += grace_secs
            self._steps.append((at, "KILL"))

    def _pass_on(self, piece: bytes) -> None:
        """Nobody there understands it."""

    def _take(self, packets: Sequence[tuple[bytes, bytes]]) -> None:
        for kind, body in packets:
            if kind == STDERR and body.startswith(_MARK) and not self._stderr_end:
                self._refusal = body[len(_MARK) :].decode("ascii", "replace").strip()
                continue
            if kind == STDERR:
                self._stderr_end = (self._stderr_end + body)[-MOST_KEPT_BYTES:]
            super()._take([(kind, body)])

    def _news_of(self, code: int) -> str:
        if code == _REFUSED_STATUS and self._refusal:
            return f"refused {refusal(self._command.settings, self._refusal)}\n"
        status = 128 - code if 128 < code <= 192 else code  # as shells tell a signal
        if status == -9:
            out_of_memory = self._command.has_run_out_of_memory()
            if out_of_memory is None:
                return f"lost {self._command.why_ended()}\n"
            self._news += b"memory\n" if out_of_memory else b""
        if status >= 0:
            self._unread[CHANNEL] += wire.frame(json.dumps({"outcome": self._outcome(status)}).encode())
        return f"exit {status} 0.000\n"

    def _outcome(self, status: int) -> JsonObject:
        if status == 0:
            return {"found": "the program printed nothing on stdout", "found_kind": "nothing"}
        lines = self._stderr_end.decode("utf-8", "replace").splitlines()
        telling = [line.rstrip() for line in lines if line[:1].strip() and not _NOT_TELLING.match(line)]
        return {"exit_message": elide_middle(telling[-1] if telling else "", LONGEST_LINE), "status": status}

    def _be_over(self, line: str) -> None:
        if not self._is_over:
            self._command.end()
        super()._be_over(line)


def refusal(settings: ContainerSettings, which: str) -> str:
    """Why the command was not started, as a part of a sentence."""
    if which == "command":
        return f"the image {settings.image} has no command {settings.command[0]} on its PATH"
    if which == "tools":
        return f"the image {settings.image} has no head and tail, which a command is started with"
    return "there is no room for its program and data in the container: raise tmpfs_bytes or memory_bytes"
