"""A worker: one run after the other in one process, for as long as none of them gets in the way of the next.

Before each run the owner sends what it sends to a process that serves one run; after it, the worker says that it
is idle. A worker ends as a process of one run does (exit functions are called, threads are waited for) when it
cannot be made again what it was, when a request says that it is the last, or when it has grown too large.
"""

from __future__ import annotations

import sys

from . import code, modules, run, signals, stdio
from .baseline import Baseline
from .channel import Channel
from .signals import users_code

TYPE_CHECKING = False  # as typing has it, whose import costs each run 3 ms
if TYPE_CHECKING:
    from collections.abc import Collection

with modules.StandardImports():
    import gc
    import resource
    from _contextvars import copy_context  # without what surrounds it


def main(args: list[str]) -> int:
    """The role of a worker; its argument is the descriptor of the channel."""
    before = frozenset(sys.modules)
    channel = Channel(int(args[0]))
    signals.hold_interrupts()
    stdio.install_stdin()
    status = serve(channel, before)
    users_code.resume()
    return status


def serve(channel: Channel, before: Collection[str]) -> int:
    """Run requests until the owner has no more of them.

    Args:
        channel: to the owner.
        before: names of the modules that no run is said to have imported.

    Returns:
        The exit status that the process should have.
    """
    baseline = Baseline()
    channel.holds_outcome = True
    gc.freeze()
    main = code.WorkerMain()
    status, used_before = 0, _cpu_secs()
    while True:
        try:
            request = channel.receive_request()
        except (EOFError, OSError):  # the owner hung up
            return status
        except Exception:  # noqa: BLE001 - the code took apart what we are made of
            channel.refuse()
            return 1
        # Code stands as deep in the stack as in a process of one run, whose main() calls run_next_request().
        status = copy_context().run(run.run_request, channel, request, before)
        main.renew()
        if len(sys.modules) != len(before):
            before = frozenset(sys.modules)
            gc.freeze()  # modules stay: the collector need not look at them after each run
            main.renew()  # frozen with them, it would not be collected
        if not channel.is_connected or not _goes_on(request, channel, baseline):
            channel.close()
            return status
        stdio.flush()
        used = _cpu_secs()
        channel.send({"idle": {"status": status, "cpu_secs": max(0.0, used - used_before)}})
        channel.holds_start = True
        used_before = used


def _goes_on(request: dict[str, object], channel: Channel, baseline: Baseline) -> bool:
    if request["is_last"] or channel.has_given_up or not channel.is_mine:
        return False
    largest = request["largest_bytes"]
    if isinstance(largest, int) and baseline.resident_bytes() > largest:
        return False
    try:
        return baseline.restore()
    except Exception:  # noqa: BLE001 - the code took apart what we are made of
        return False


def _cpu_secs() -> float:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
