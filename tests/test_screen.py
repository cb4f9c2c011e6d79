"""What a run displays, in a notebook: messages of a real kernel, in their order."""

from tests.kernels import CELL_TIMEOUT_SECS

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
FRAME = "import pandas as pd\npd.DataFrame({'a': ['x', 'y']})"
ONE_AXES = "<Figure size 640x480 with 1 Axes>"
SCORE = ("execute_result", "score  0.5  █████░░░░░")
KINDS = {"execute_result", "display_data", "update_display_data", "clear_output", "error"}


def shown(cells, code, *, is_watched=False):
    """What one cell shows: streams as text, anything else by its text."""
    found = []

    def take(message):
        kind, content = message["msg_type"], message["content"]
        if kind == "stream" and found and found[-1][0] == content["name"]:
            found[-1] = content["name"], found[-1][1] + content["text"]
        elif kind == "stream":
            found.append((content["name"], content["text"]))
        elif kind in KINDS:
            found.append((kind, content.get("data", {}).get("text/plain", "")))

    cells.client.execute_interactive(code, output_hook=take, timeout=CELL_TIMEOUT_SECS, allow_stdin=is_watched)
    return found


def test_displays_stand_where_they_were_made(cells):
    assert shown(cells, f"%%isolated\nprint('a')\ndisplay('x')\n{FIGURE}plt.show()\nprint('b')\n0.5") == [
        ("stdout", "a\n"),
        ("display_data", "'x'"),
        ("display_data", ONE_AXES),
        ("stdout", "b\n"),
        SCORE,
    ]


def test_a_cell_that_only_displays_is_no_failure(cells):
    assert shown(cells, f"%%isolated --no-score\n{FRAME}") == [("display_data", "   a\n0  x\n1  y")]
    for code, found in ((FRAME, ": the cell ended with a DataFrame"), (FIGURE, ""), ("display('x')", "")):
        kinds = shown(cells, f"%%isolated\n{code}")
        note = f"note: no score{found}. If none is meant, --no-score leaves this note out."
        assert kinds[-1] == ("execute_result", note)
        assert [kind for kind, _ in kinds] == ["display_data", "execute_result"]


def test_a_value_that_is_no_score_is_shown_after_a_display_and_not_printed_again(cells):
    first, second, _ = shown(cells, "%%isolated\nprint('a')\ndisplay(1)\n'done'")[1:]
    assert (first, second) == (("display_data", "1"), ("display_data", "'done'"))


UPDATES = "%%isolated\nh = display('a', display_id=True)\nprint('x')\nh.update('b')\n0.5"
CLEARS = """%%isolated
from IPython.display import clear_output
for n in range(3):
    clear_output(wait=True)
    display(n)
0.5"""


def test_updates_and_clears_where_somebody_is_watching(cells):
    assert shown(cells, UPDATES, is_watched=True) == [
        ("display_data", "'a'"),
        ("stdout", "x\n"),
        ("update_display_data", "'b'"),
        SCORE,
    ]
    kinds = [kind for kind, _ in shown(cells, CLEARS, is_watched=True)]
    assert kinds == ["clear_output", "display_data"] * 3 + ["execute_result"]


def test_programs_that_run_notebooks_see_the_last_state(cells):
    assert shown(cells, UPDATES) == [("display_data", "'b'"), ("stdout", "x\n"), SCORE]
    assert [one for one in shown(cells, CLEARS) if one[0] != "clear_output"] == [("display_data", "2"), SCORE]


def test_a_run_in_the_background_shows_them_when_it_has_ended(cells):
    code = "%%isolated --bg -o run\nprint('a')\ndisplay('x')\nprint('b')\n0.5"
    assert [kind for kind, _ in shown(cells, code)] == ["execute_result"]
    assert shown(cells, "_ = run.result()\nrun") == [
        ("stdout", "a\n"),
        ("display_data", "'x'"),
        ("stdout", "b\n"),
        ("execute_result", "BackgroundRun run: done\n\nrun  0.5  █████░░░░░"),
    ]


def test_displays_of_a_result_are_shown_as_they_were(cells):
    cells.ok(f"%%isolated -o result\ndisplay('x')\n{FIGURE}0.5")
    assert cells.ok("result.displays").text == f"('x', {ONE_AXES})"
    assert set(cells.ok("result.displays[1]").data) == {"text/plain", "image/png"}


def test_figures_have_the_format_and_size_of_the_notebook(cells):
    cells.ok("%config InlineBackend.figure_formats = ['svg']")
    cells.ok("import matplotlib.pyplot\nmatplotlib.pyplot.rcParams['figure.figsize'] = 2, 1")
    try:
        data = cells.ok(f"%%isolated --no-score\n{FIGURE}plt.show()").data
        assert data["text/plain"] == "<Figure size 200x100 with 1 Axes>"
        assert "image/png" not in data
    finally:
        cells.ok("%config InlineBackend.figure_formats = ['png']\nmatplotlib.pyplot.rcdefaults()")
