"""One run after the other, in one process, for as long as nothing of one gets in the way of the next.

Before each run the owner sends what it sends to a process of one run; after it, the worker says that it is idle.
One that is not what it was, and cannot be made so again, ends as a process of one run does: the owner then starts
another. So does one whose request says that it is the last, and one that has grown too large: its exit functions
are called, its threads are waited for.
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
    from json import loads


def main(args: list[str]) -> int:
    """Be a worker. Returns the exit status of the process.

    Args:
        args: the descriptor of the channel.
    """
    before = frozenset(sys.modules)
    owner = Channel(int(args[0]))
    signals.hold_interrupts()
    stdio.install_stdin()
    status = serve(owner, before)
    users_code.resume()
    return status


def serve(owner: Channel, before: Collection[str]) -> int:
    """Do runs until the owner wants no more of them.

    Args:
        owner: who asks for them.
        before: names of the modules that no run has to account for.

    Returns:
        The exit status of the process.
    """
    baseline = Baseline()
    owner.holds_outcome = True
    gc.freeze()
    main = code.Main()
    status, used_before = 0, _cpu_secs()
    while True:
        try:
            request = loads(owner.receive())
        except (EOFError, OSError):  # nobody needs it any more
            return status
        except Exception:  # noqa: BLE001 - the code took apart what we are made of
            owner.refuse()
            return 1
        status = copy_context().run(run.do, owner, request, before)
        main.renew()
        if len(sys.modules) != len(before):
            before = frozenset(sys.modules)
            gc.freeze()  # modules stay: there is nothing of theirs to look for after each run
            main.renew()  # which is not to be among them
        if not owner.is_connected or not _goes_on(request, owner, baseline):
            owner.close()
            return status
        stdio.flush()
        used = _cpu_secs()
        owner.send({"idle": {"status": status, "cpu_secs": max(0.0, used - used_before)}})
        owner.holds_start = True
        used_before = used


def _goes_on(request: dict[str, object], owner: Channel, baseline: Baseline) -> bool:
    if request["is_last"] or owner.has_given_up or not owner.is_mine:
        return False
    largest = request["largest_bytes"]
    if isinstance(largest, int) and baseline.resident_bytes() > largest:
        return False
    try:
        return baseline.restore()
    except Exception:  # noqa: BLE001 - the code took apart what we are made of
        return False


def _cpu_secs() -> float:
    own, childrens = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + childrens.ru_utime + childrens.ru_stime
