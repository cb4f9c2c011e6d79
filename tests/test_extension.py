"""%load_ext, %reload_ext and %unload_ext: nothing double, nothing left behind."""

import json

import psutil
import pytest

from tests.kernels import kernel
from tests.processes import wait_until

# All that the extension touches in a shell, counted.
STATE = """
import signal as _signal
def _state():
    ip = get_ipython()
    formatter = ip.display_formatter
    printers = [*formatter.mimebundle_formatter.type_printers, *formatter.ipython_display_formatter.type_printers,
                *formatter.mimebundle_formatter.deferred_printers]
    return {
        'magics': sorted(ip.magics_manager.magics['cell']) + sorted(ip.magics_manager.magics['line']),
        'registry': sorted(ip.magics_manager.registry),
        'matchers': len(ip.Completer.custom_matchers),
        'events': {name: len(callbacks) for name, callbacks in ip.events.callbacks.items()},
        'transformers': len(ip.input_transformers_cleanup),
        'configurables': sorted(type(one).__name__ for one in ip.configurables),
        'printers': sorted(map(str, printers)),
        'signals': [str(_signal.getsignal(one)) for one in (_signal.SIGINT, _signal.SIGTERM)],
    }
"""


@pytest.fixture
def cells():
    with kernel(loads=False) as started:
        started.ok("%unload_ext nothing_of_this_name")  # IPython loads these magics of its own when they are used
        started.ok(STATE)
        yield started


def state(cells):
    return json.loads(cells.ok("import json; print(json.dumps(_state()))").stdout)


def test_unloading_leaves_the_shell_as_it_was(cells):
    before = state(cells)
    cells.ok("%load_ext isolated_magic")
    loaded = state(cells)
    assert loaded != before
    cells.ok("%%isolated --compare -o result\n0.5")
    cells.ok("%unload_ext isolated_magic")
    assert state(cells) == before
    assert cells.ok("result").text.startswith("RunResult(scores={'score': 0.5}")
    cells.ok("%load_ext isolated_magic")
    assert state(cells) == loaded


@pytest.mark.parametrize("again", ["%load_ext isolated_magic", "%reload_ext isolated_magic"])
def test_loading_again_doubles_nothing(cells, again):
    cells.ok("%load_ext isolated_magic")
    loaded = state(cells)
    for _ in range(3):
        cells.ok(again)
    assert state(cells) == loaded
    assert cells.ok("%%isolated\n0.5").text.startswith("score  0.5")
    assert cells.complete("%%isolated --compa|\npass") == ["%%isolated --compare"]


def test_reloading_and_unloading_end_what_the_magics_had_started(cells):
    cells.ok("%load_ext isolated_magic")
    for leave in ("%reload_ext isolated_magic", "%unload_ext isolated_magic"):
        cells.ok("%%isolated --bg -t 1000 -o run\nimport time\ntime.sleep(1000)")
        cells.ok("assert run.pid")
        started = psutil.Process(cells.pid).children(recursive=True)
        assert started
        cells.ok(leave)
        wait_until(
            lambda started=started: (
                not any(process.is_running() and process.status() != "zombie" for process in started)
            )
        )
        assert cells.ok("run.result(60).error.kind.value").text == "'killed'"


def test_a_history_that_was_shown_is_kept_and_a_new_one_begins(cells):
    cells.ok("%load_ext isolated_magic")
    cells.ok("%%isolated\n0.5")
    cells.ok("history = %isolated history")
    cells.ok("%reload_ext isolated_magic")
    assert cells.ok("len(history)").text == "1"
    assert cells.ok("%isolated history").text == "No cell has been run yet."
