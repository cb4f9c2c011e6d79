"""What a run displays: to the library, and in a notebook."""

import pytest

from isolated_magic import IsolatedSubprocessExecutor, ProcessExecutor
from tests.kernels import CELL_TIMEOUT_SECS

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
FRAME = "import pandas as pd\npd.DataFrame({'a': ['x', 'y']})"
ONE_AXES = "<Figure size 640x480 with 1 Axes>"


@pytest.fixture(scope="module", params=["cold", "forked", "reused"])
def run(request):
    """Runs code in one strategy: a new interpreter, a fork, a worker."""
    if request.param == "reused":
        with ProcessExecutor(workers=1) as executor:
            yield executor.run
    else:
        with IsolatedSubprocessExecutor() as executor:
            if request.param == "forked":
                executor.warm_up()
            yield lambda *args, **settings: executor.run(*args, fresh=request.param == "cold", **settings)


def texts(result):
    return [display.data.get("text/plain") for display in result.displays]


def shown(cells, code):
    """What one cell shows, in its order: streams as text, displays and results by their text."""
    found = []

    def take(message):
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            found.append((content["name"], content["text"]))
        elif kind in {"display_data", "execute_result", "update_display_data", "error", "clear_output"}:
            found.append((kind, content.get("data", {}).get("text/plain", "")))

    cells.client.execute_interactive(code, output_hook=take, timeout=CELL_TIMEOUT_SECS, allow_stdin=False)
    return found


def test_display_is_a_builtin_and_shows_objects_in_order_with_what_is_printed(run):
    happened = []
    result = run(
        "import sys\nprint('a')\ndisplay('x', 1)\nsys.stderr.write('b')\nprint('c', end='')\ndisplay([1])\n0.5",
        on_output=lambda name, text: happened.append(text),
        on_display=lambda display: happened.append(display.data),
    )
    assert result.scores[0].value == 0.5
    assert texts(result) == ["'x'", "1", "[1]"]
    assert [(one.stdout_at, one.stderr_at) for one in result.displays] == [(2, 0), (2, 0), (3, 1)]
    shows = [index for index, one in enumerate(happened) if isinstance(one, dict)]
    assert "".join(happened[: shows[0]]) == "a\n"
    assert sorted("".join(happened[shows[1] + 1 : shows[2]])) == ["b", "c"]


def test_figures_are_shown_by_show_and_at_the_end(run):
    result = run(f"{FIGURE}plt.show()\nprint(plt.get_fignums())\n{FIGURE}0.5")
    assert result.stdout == "[]\n"
    assert texts(result) == [ONE_AXES, ONE_AXES]
    assert all(display.data["image/png"].startswith("iVBOR") for display in result.displays)


def test_a_rich_value_of_the_last_line_is_shown_and_no_result(run):
    result = run(FRAME)
    assert result.error.kind == "no_result"
    assert result.displays[0].data["text/html"].startswith("<div>")


def test_in_a_notebook(cells):
    assert shown(cells, f"%%isolated\nprint('a')\ndisplay('x')\n{FIGURE}plt.show()\nprint('b')\n0.5") == [
        ("stdout", "a\n"),
        ("display_data", "'x'"),
        ("display_data", ONE_AXES),
        ("stdout", "b\n"),
        ("execute_result", "score  0.5  █████░░░░░"),
    ]
    assert shown(cells, f"%%isolated --no-score\n{FRAME}") == [("display_data", "   a\n0  x\n1  y")]
