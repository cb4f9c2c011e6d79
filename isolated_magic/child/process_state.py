"""The state of a process beside its memory: one list of it, snapshots, and how to restore one.

A worker restores a snapshot after each run. The fork server compares snapshots around its imports: a run has all
of this from its own start, so an import that changes it belongs into the run. And a child takes on what it would
have inherited from its caller (``launch/spawn.py``), whose child it is not.
"""

from __future__ import annotations

import _locale
import _signal  # type: ignore[import-not-found]  # what signal wraps in enums, whose import costs each run 7 ms
import _thread
import builtins
import faulthandler
import gc
import os
import resource
import sys
import time
from contextlib import contextmanager, suppress
from functools import partial

from . import modules
from .signals import users_code

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

GIVE_WAY, MOST_NICE = 5, 19  # of sched(7): at five steps a process has a third of what one at none has
GROUP_TIMEOUT_SECS, GROUP_RETRY_SECS = 1.0, 0.05
LIMITS = sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})
_SIGNALS = sorted(map(int, _signal.valid_signals()))
_TIMERS = (_signal.ITIMER_REAL, _signal.ITIMER_VIRTUAL, _signal.ITIMER_PROF)


class Setting:
    """One thing that belongs to the whole process.

    Args:
        name: what an import that changes it is said to change; None where an import may.
        read: the value now; None while there is none to compare with.
        write: has that value again, None where a worker leaves it as it is. It may raise: the system may refuse.
        always: whether to write even what seems equal: code may have left objects that lie about it.
    """

    __slots__ = ("always", "name", "read", "write")

    def __init__(
        self,
        name: str | None,
        read: Callable[[], Any],
        write: Callable[[Any], object] | None = None,
        *,
        always: bool = False,
    ) -> None:
        self.name, self.read, self.write, self.always = name, read, write, always


class Snapshot:
    """Some settings of this process as they are now."""

    def __init__(self, settings: Iterable[Setting]) -> None:
        self._values = tuple((setting, setting.read()) for setting in settings)
        # What to compare with, None where to write even what seems equal; and what writes it.
        self._writes = tuple(
            (None if setting.always else setting.read, setting.write, value)
            for setting, value in self._values
            if setting.write is not None
        )

    def change(self, later: Snapshot) -> str | None:
        """What to say of an import that made these settings into the later ones, None when all is the same."""
        for (setting, before), (_, after) in zip(self._values, later._values, strict=True):
            if before is not None and before != after:
                return f"it changes {setting.name}"
        return None

    def restore(self) -> None:
        """Have these settings again, and those that no code has changed yet as every new interpreter has them.

        Raises:
            Exception: that is not possible.
        """
        _reset()
        for read, write, value in self._writes:
            if read is None or read() != value:
                write(value)


def credentials() -> tuple[object, ...]:
    """The users and groups that this process acts for."""
    if sys.platform == "darwin":
        return (os.getuid(), os.geteuid(), os.getgid(), os.getegid(), tuple(os.getgroups()))
    return (os.getresuid(), os.getresgid(), tuple(os.getgroups()))


def _refuse(_: object) -> None:
    raise PermissionError("the process acts for another user now")


def limits() -> list[tuple[int, int]]:
    """Soft and hard limit of each resource, in the order of :data:`LIMITS`."""
    return list(map(resource.getrlimit, LIMITS))


def _set_limits(wanted: list[tuple[int, int]]) -> None:
    for number, limit in zip(LIMITS, wanted, strict=True):
        _set_limit(number, limit)


def _set_limit(number: int, limit: tuple[int, int]) -> None:
    if resource.getrlimit(number) != limit:
        resource.setrlimit(number, limit)


def _set_nice(nice: int) -> None:
    os.setpriority(os.PRIO_PROCESS, 0, nice)


def _affinity() -> set[int] | None:
    return os.sched_getaffinity(0) if sys.platform == "linux" else None


def _set_affinity(processors: Iterable[int]) -> None:
    if sys.platform == "linux":
        os.sched_setaffinity(0, processors)


def _umask() -> int:
    umask = os.umask(0)  # the only way to ask; there is one thread
    os.umask(umask)
    return umask


def _locale_of_all(wanted: str | None = None) -> str:
    return _locale.setlocale(_locale.LC_ALL, wanted)


def _set_path(path: list[str]) -> None:
    sys.path[:] = path


def _hooks() -> tuple[Any, ...]:
    return sys.excepthook, sys.displayhook, sys.unraisablehook, sys.gettrace(), sys.getprofile()


def _set_hooks(hooks: tuple[Any, ...]) -> None:
    sys.excepthook, sys.displayhook, sys.unraisablehook, trace, profile = hooks
    sys.settrace(trace)
    sys.setprofile(profile)


def _interpreter() -> tuple[Any, ...]:
    return sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), gc.get_threshold()


def _set_interpreter(wanted: tuple[Any, ...]) -> None:
    recursion_limit, switch_interval, collects, threshold = wanted
    sys.setrecursionlimit(recursion_limit)
    sys.setswitchinterval(switch_interval)
    (gc.enable if collects else gc.disable)()
    gc.set_threshold(*threshold)


def _finders() -> tuple[list[Any], list[Any]]:
    return list(sys.meta_path), list(sys.path_hooks)


def _set_finders(wanted: tuple[list[Any], list[Any]]) -> None:
    lists: tuple[list[Any], list[Any]] = (sys.meta_path, sys.path_hooks)
    for found, before in zip(lists, wanted, strict=True):
        # What modules have added, they need for as long as they are there.
        found[:0] = [finder for finder in before if finder not in found]


def _set_builtins(wanted: dict[str, Any]) -> None:
    names = vars(builtins)
    for name in names.keys() - wanted.keys():
        del names[name]
    names.update(wanted)


def _signals() -> tuple[list[Any], set[int]]:
    return list(map(_signal.getsignal, _SIGNALS)), _signal.pthread_sigmask(_signal.SIG_BLOCK, ())


def _set_signals(wanted: tuple[list[Any], set[int]]) -> None:
    handlers, mask = wanted
    users_code.forget()
    for number in _signal.sigpending():  # of that run: it is over
        _signal.signal(number, _signal.SIG_IGN)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
    now = _signal.getsignal
    for number, handler in zip(_SIGNALS, handlers):  # noqa: B905 - of each run
        # What is None was not set by Python, and Python could not set it again.
        if handler is not None and now(number) is not handler:
            _signal.signal(number, handler)


def _timers() -> list[tuple[float, float]]:
    return [_signal.getitimer(number) for number in _TIMERS[1:]]  # the first ends an import that hangs


def _open_files() -> dict[str, str]:
    """Where the descriptors lead: what was read from one, or written to it, the next fork would see."""
    found: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - pathlib costs each run 5 ms
        try:
            target = os.readlink(f"/proc/self/fd/{name}")  # noqa: PTH115 - likewise
        except OSError:  # that of the listing itself
            continue
        if target != os.devnull:
            found[name] = target
    return found


def _decimal_context() -> str | None:
    decimal = _finished("decimal")
    if decimal is None:
        return None
    from _contextvars import copy_context  # noqa: PLC0415 - without what surrounds it

    return copy_context().run(lambda: str(decimal.getcontext()))  # asking makes one, which every fork would have


def _finished(name: str) -> Any:  # noqa: ANN401 - a module
    """A module that is there; not one whose import goes on."""
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    return None if getattr(spec, "_initializing", None) is True else module


def _shared_memory() -> int:
    """How many pieces of memory the forks of this process share for good (proc(5), /proc/PID/maps)."""
    with open("/proc/self/maps", "rb") as maps:  # noqa: PTH123 - a special file
        return maps.read().count(b" rw-s ")


def _seed() -> list[object] | None:
    random: Any = sys.modules.get("random")
    # The position aside: what a seed leaves behind differs, what a few numbers drawn leave behind does not.
    return None if random is None else [random.getstate()[1][:-1]]


class _Environment:
    """The environment variables of this process as they are now, in Python and, on Linux, in C (environ(7))."""

    def __init__(self) -> None:
        self._environ = os.environ
        self._data: Any = os.environ._data  # type: ignore[attr-defined]
        self._saved = dict(self._data)
        self._c: Any = None
        if sys.platform == "linux":
            with modules.StandardImports():
                import ctypes  # noqa: PLC0415 - where it is used
            self._c, libc = ctypes, ctypes.PyDLL(None)
            self._table = ctypes.c_void_p.in_dll(libc, "environ")
            self._entries = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
        self._seen = self._look()

    def restore(self) -> None:
        os.environ = self._environ  # noqa: B003 - the object that every module has
        if self._data == self._saved and self._look() == self._seen:
            return
        in_c = self._in_c()
        for name in {*in_c, *self._data} - set(self._saved):
            os.unsetenv(name)
        for name, value in self._saved.items():
            if in_c.get(name) != value:
                os.putenv(name, value)
        self._data.clear()
        self._data.update(self._saved)
        self._seen = self._look()

    def _look(self) -> object:
        """What differs when C's ``environ`` was written to: its addresses, without a call for each variable."""
        if self._c is None or self._table.value is None:
            return None
        count = len(self._data) + 1  # with the null at the end
        return self._table.value, self._c.string_at(self._table.value, count * self._c.sizeof(self._c.c_void_p))

    def _in_c(self) -> dict[bytes, bytes]:
        if self._c is None:
            return dict(self._data)
        found: dict[bytes, bytes] = {}
        index = 0
        while self._entries and (entry := self._entries[index]) is not None:
            name, _, value = entry.partition(b"=")
            found.setdefault(name, value)
            index += 1
        return found


def _reset() -> None:
    """Have as it is in a new interpreter what nothing of ours changes."""
    for timer in _TIMERS:
        _signal.setitimer(timer, 0)
    _signal.set_wakeup_fd(-1)
    faulthandler.cancel_dump_traceback_later()
    faulthandler.disable()
    for number in (_signal.SIGUSR1, _signal.SIGUSR2):
        faulthandler.unregister(number)
    vars(sys).pop("tracebacklimit", None)
    sys.set_asyncgen_hooks(None, None)
    sys.set_coroutine_origin_tracking_depth(0)
    loaded: Callable[[str], Any] = sys.modules.get
    threading, socket, tracemalloc = loaded("threading"), loaded("_socket"), loaded("_tracemalloc")
    if threading is not None:
        threading.excepthook = threading.__excepthook__
        threading.settrace(None)
        threading.setprofile(None)
    if socket is not None:
        socket.setdefaulttimeout(None)
    if tracemalloc is not None and tracemalloc.is_tracing():
        tracemalloc.stop()
    if (linecache := loaded("linecache")) is not None:  # the source of this run is not that of the next
        linecache.clearcache()


# All of it, in the order in which a worker restores it. Warning filters are left out: nearly every large library
# adds some, for its own warnings.
SETTINGS = (
    Setting(None, credentials, _refuse),
    Setting("a limit", limits, _set_limits),
    Setting(None, lambda: os.getpriority(os.PRIO_PROCESS, 0), _set_nice),
    Setting("the processors that it may use", _affinity, _set_affinity),
    Setting("the locale", _locale_of_all, _locale_of_all),
    Setting(None, _thread.stack_size, _thread.stack_size),
    Setting(None, sys.get_int_max_str_digits, sys.set_int_max_str_digits),
    Setting(None, gc.get_debug, gc.set_debug),
    Setting(None, _finders, _set_finders, always=True),
    Setting("sys.excepthook", _hooks, _set_hooks, always=True),
    Setting(None, lambda: sys.breakpointhook, partial(setattr, sys, "breakpointhook"), always=True),
    Setting("sys.path", lambda: list(sys.path), _set_path, always=True),
    Setting("an interpreter setting", _interpreter, _set_interpreter),
    Setting(None, lambda: dict(vars(builtins)), _set_builtins),
    Setting("signal handling", _signals, _set_signals, always=True),
    Setting("the working directory", os.getcwd, os.chdir, always=True),
    Setting("the umask", _umask, os.umask, always=True),
    Setting(None, _Environment, _Environment.restore, always=True),
    Setting("the time zone", lambda: time.tzname),
    Setting("the open files", _open_files),
    Setting("a timer", _timers),
    Setting("faulthandler", faulthandler.is_enabled),
    Setting("the decimal context", _decimal_context),
)
RESTORED = tuple(setting for setting in SETTINGS if setting.write is not None)
AUDITED = tuple(setting for setting in SETTINGS if setting.name is not None)
AUDITED_IN_FULL = (  # with what takes longer to find out
    *AUDITED,
    Setting("shared memory", _shared_memory),
    Setting("the seed of random", _seed),
)


def take_on(attributes: dict[str, Any]) -> None:
    """Become as the caller's thread was when it asked for the run, as far as the system allows."""
    if attributes["umask"] is not None:
        os.umask(attributes["umask"])
    for number, soft, hard in attributes["limits"]:
        with suppress(ValueError, OSError):  # the caller may do more than we can, and some are fixed
            _set_limit(number, (soft, hard))
    with suppress(OSError):
        _set_nice(attributes["nice"])
    if attributes["affinity"] is not None:
        with suppress(OSError):
            _set_affinity(attributes["affinity"])


@contextmanager
def giving_way() -> Iterator[None]:
    """Other processes have the processors first inside this block, as far as that can be taken back after it."""
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    may_rise = nice + GIVE_WAY <= MOST_NICE and _may_rise(nice)
    if may_rise:
        os.setpriority(os.PRIO_PROCESS, 0, nice + GIVE_WAY)
    set_group_nice("self", GIVE_WAY)
    try:
        yield
    finally:
        set_group_nice("self", 0)
        if may_rise:
            os.setpriority(os.PRIO_PROCESS, 0, nice)


def _may_rise(nice: int) -> bool:
    """Whether the system would give this process its priority back: not every user's (RLIMIT_NICE)."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setpriority(os.PRIO_PROCESS, 0, nice + 1)
            os.setpriority(os.PRIO_PROCESS, 0, nice)
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def set_group_nice(process: str | int, nice: int) -> None:
    """Where it has autogroups, the kernel goes by this among sessions (sched(7)); any user may take it back.

    Args:
        process: its number, or ``"self"``.
        nice: zero at least.
    """
    deadline = time.monotonic() + GROUP_TIMEOUT_SECS
    while True:
        try:
            with open(f"/proc/{process}/autogroup", "w", encoding="ascii") as file:  # noqa: PTH123 - a special file
                file.write(str(nice))
        except BlockingIOError:  # ten times a second at most
            if time.monotonic() < deadline:
                time.sleep(GROUP_RETRY_SECS)
                continue
        except OSError:  # there are none
            return
        return


def limit_stack(stack_bytes: int) -> None:
    """Limit the stack of the main thread.

    Args:
        stack_bytes: size. Best before exec: the kernel lays the address space out by the limit that it finds then
            (setrlimit(2)), and the C library takes it for the stacks of threads.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if hard != resource.RLIM_INFINITY:
        stack_bytes = min(stack_bytes, hard)
    with suppress(ValueError, OSError):  # macOS refuses some sizes: the run then has the inherited limit
        resource.setrlimit(resource.RLIMIT_STACK, (stack_bytes, stack_bytes))
