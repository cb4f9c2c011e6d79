"""What a run displays: formats, order, threads and forks, limits, secrets; in the library."""

import base64
import json
import os
import threading

import pytest

from isolated_magic import FigureSettings, InvalidRequestError, IsolatedSubprocessExecutor, Limits, ProcessExecutor
from tests.runs import run_cell
from tests.time_limits import time_limit_from

FIGURE = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\n"
FRAME = "import pandas as pd\npd.DataFrame({'a': ['x', 'y']})"
ONE_AXES = "<Figure size 640x480 with 1 Axes>"
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
RICH = """
class Rich:
    def __repr__(self): return "rich"
    def _repr_html_(self): return "<b>rich</b>"
    def _repr_markdown_(self): return "**rich**"
    def _repr_svg_(self): return "<svg></svg>"
    def _repr_png_(self): return PNG, {"width": 1}
    def _repr_jpeg_(self): return "aGVsbG8="
    def _repr_latex_(self): return "$x$"
    def _repr_json_(self): return {"a": [1, None, {2: "two"}]}
"""


@pytest.fixture(scope="module", params=["cold", "forked", "reused"])
def run(request):
    """Runs code in one strategy: a new interpreter, a fork, a worker."""
    if request.param == "reused":
        with ProcessExecutor(workers=1) as executor:
            yield executor.run
        return
    with IsolatedSubprocessExecutor(launch=request.param) as executor:
        assert executor.warm_up()
        yield executor.run


def texts(result):
    return [display.text for display in result.displays]


class TestFormats:
    def test_all_that_an_object_has(self, run):
        result = run(f"PNG = {PNG!r}\n{RICH}\ndisplay(Rich())\n0.5")
        (display,) = result.displays
        assert display.data == {
            "text/plain": "rich",
            "text/html": "<b>rich</b>",
            "text/markdown": "**rich**",
            "image/svg+xml": "<svg></svg>",
            "image/png": base64.b64encode(PNG).decode(),
            "image/jpeg": "aGVsbG8=",
            "text/latex": "$x$",
            "application/json": {"a": [1, None, {"2": "two"}]},
        }
        assert display.metadata == {"image/png": {"width": 1}}

    def test_an_error_in_one_costs_no_other(self, executor):
        code = """
            class Odd:
                def __repr__(self): raise ValueError("no repr")
                def _repr_html_(self): raise ValueError("no html")
                def _repr_svg_(self): raise NotImplementedError
                def _repr_png_(self): return 5
                _repr_latex_ = None
                def _repr_markdown_(self): return "**odd**"
            display(Odd())
        """
        result = run_cell(executor, "\n".join(line[12:] for line in code.split("\n")) + "0.5")
        assert result.displays[0].data == {
            "text/plain": "<Odd that cannot be printed>",
            "text/markdown": "**odd**",
        }
        assert "ValueError: no html" in result.stderr
        assert "in _repr_html_" in result.stderr
        assert "isolated_magic" not in result.stderr

    def test_a_bundle_and_what_displays_itself(self, run):
        code = """
class Bundle:
    def _repr_mimebundle_(self, include=None, exclude=None):
        return {"text/html": "<i>bundle</i>", "application/vnd.x+json": {"a": float("nan")}}, {"text/html": {"isolated": True}}
    def _repr_html_(self): return "unused"
    def _repr_latex_(self): return "$y$"
class Itself:
    def _ipython_display_(self): display("by itself")
    def _repr_html_(self): return "unused"
display(Bundle(), Itself())
0.5
"""
        first, second = run(code).displays
        assert first.data["text/html"] == "<i>bundle</i>"
        assert first.data["application/vnd.x+json"] == {"a": "NaN"}
        assert first.data["text/latex"] == "$y$"
        assert first.metadata == {"text/html": {"isolated": True}}
        assert second.data == {"text/plain": "'by itself'"}

    def test_some_formats_raw_data_and_metadata(self, run):
        code = (
            RICH
            + """
PNG = b"x"
display(Rich(), include=["text/html"])
display(Rich(), exclude=["image/png", "image/jpeg", "image/svg+xml", "application/json"])
display({"text/plain": "raw", "image/png": b"abc"}, raw=True, metadata={"image/png": {"height": 5}})
0.5"""
        )
        first, second, third = run(code).displays
        assert first.data == {"text/html": "<b>rich</b>"}
        assert list(second.data) == ["text/plain", "text/html", "text/markdown", "text/latex"]
        assert third.data == {"text/plain": "raw", "image/png": "YWJj"}
        assert third.metadata == {"image/png": {"height": 5}}

    def test_classes_proxies_and_addresses(self, run):
        code = (
            RICH
            + """
class Proxy:
    def __getattribute__(self, name): raise RuntimeError("it connects")
    __class__ = property(lambda self: 1 / 0)
display(Rich, object(), Proxy(), {"key": ["a" * 60, "b" * 60]})
0.5"""
        )
        result = run(code)
        assert texts(result) == [
            "<class '__main__.Rich'>",
            "<object object>",
            "<__main__.Proxy object>",
            "{{'key': ['{}',\n         '{}']}}".format("a" * 60, "b" * 60),
        ]
        assert result.stderr == ""

    def test_of_ipython(self, run):
        code = """
from IPython.display import HTML, JSON, SVG, Image, Latex, Markdown, display, publish_display_data
from IPython import get_ipython
from IPython.core.interactiveshell import InteractiveShell
display(HTML("<b>1</b>"), Markdown("**2**"), Latex("$3$"), SVG(data="<svg></svg>"), JSON({"a": 4}))
display(Image(data=PNG))
publish_display_data({"text/plain": "5"}, {"a": 1})
import IPython.core.display_functions, IPython.display
assert IPython.core.display_functions.display is IPython.display.display is display
[get_ipython(), InteractiveShell.initialized()]
""".replace("PNG", repr(PNG))
        result = run(code)
        html, markdown, latex, svg, as_json, image, published, *_ = (one.data for one in result.displays)
        assert html["text/html"] == "<b>1</b>"
        assert markdown["text/markdown"] == "**2**"
        assert latex["text/latex"] == "$3$"
        assert svg["image/svg+xml"].startswith("<svg")
        assert as_json["application/json"] == {"a": 4}
        assert base64.b64decode(image["image/png"]) == PNG
        assert published == {"text/plain": "5"}
        assert texts(result)[-1] == "[None, False]"

    def test_of_other_libraries(self, run):
        code = """
import altair, pandas, plotly.graph_objects
from PIL import Image
frame = pandas.DataFrame({"a": [1, 2], "b": [3, 4]})
display(plotly.graph_objects.Figure(plotly.graph_objects.Bar(y=[1, 2])))
display(altair.Chart(frame).mark_point().encode(x="a", y="b"))
display(Image.new("RGB", (2, 1)), frame)
0.5"""
        result = run(code)
        plotly, altair, image, frame = (one.data for one in result.displays)
        assert plotly["application/vnd.plotly.v1+json"]["data"][0]["type"] == "bar"
        assert "vega" in altair["text/html"]
        assert image["image/png"].startswith("iVBOR")
        assert "<table" in frame["text/html"]
        assert run(code) == result

    def test_ids_drawn_at_random_are_the_same_on_every_run(self, run):
        code = "import pandas\nframe = pandas.DataFrame({'a': [1]}, index=['0123456789abcdef0123456789abcdef'])\nframe.style"
        first, second = (run(code).displays[0].data["text/html"] for _ in range(2))
        assert first == second
        assert "0123456789abcdef0123456789abcdef" in first


class TestFigures:
    def test_show_and_the_end_show_those_that_are_open(self, run):
        result = run(f"{FIGURE}plt.show()\nprint(plt.get_fignums())\n{FIGURE}plt.figure()\nplt.close()\n0.5")
        assert result.stdout == "[]\n"
        assert texts(result) == [ONE_AXES, ONE_AXES]
        assert all(display.data["image/png"].startswith("iVBOR") for display in result.displays)

    def test_as_last_expression_it_is_shown_once(self, run):
        assert texts(run("import matplotlib.pyplot as plt\nf, a = plt.subplots()\na.plot([1])\nf")) == [ONE_AXES]
        assert texts(run("from matplotlib.figure import Figure\nf = Figure()\nf.subplots()\nf")) == [ONE_AXES]

    def test_one_that_has_changed_since_it_was_displayed_is_shown_again(self, run):
        assert texts(run(f"{FIGURE}display(plt.gcf())\n0.5")) == [ONE_AXES]
        assert texts(run(f"{FIGURE}display(plt.gcf())\nplt.title('a')\n0.5")) == [ONE_AXES, ONE_AXES]
        assert texts(run(f"{FIGURE}plt.gcf().show()\nplt.title('a')\n0.5")) == [ONE_AXES, ONE_AXES]

    @pytest.mark.parametrize(
        "last", ["plt.plot([1, 2])", "plt.gca()", "plt.subplots(2)", "plt.hist([1, 2])", "plt.title('a')"]
    )
    def test_what_drew_it_is_not_told(self, executor, last):
        result = executor.run(f"{FIGURE}{last}")
        assert set(texts(result)) <= {ONE_AXES, "<Figure size 640x480 with 2 Axes>"}
        assert result.error.found == "the code displays something, and does not end with a value"

    def test_without_an_open_figure_it_is_told_what_the_code_ends_with(self, executor):
        result = executor.run("from matplotlib.figure import Figure\nFigure().subplots()")
        assert result.displays == ()
        assert result.error.found == "the value of the last line is an Axes"

    def test_after_an_exception_and_an_exit(self, run):
        result = run(f"{FIGURE}1/0")
        assert result.error.summary == "ZeroDivisionError: division by zero (line 3)"
        assert texts(result) == [ONE_AXES]
        assert texts(run(f"{FIGURE}import sys; sys.exit()")) == [ONE_AXES]

    def test_what_cannot_be_drawn(self, run):
        result = run(f"{FIGURE}plt.title('$\\\\nosuch$')\n0.5")
        assert result.scores[0].value == 0.5
        assert result.displays[0].data == {"text/plain": ONE_AXES}
        assert "Unknown symbol" in result.stderr
        assert run("import matplotlib.pyplot as plt\nplt.figure()\n0.5").displays[0].data == {
            "text/plain": "<Figure size 640x480 with 0 Axes>"
        }

    def test_nothing_else_of_matplotlib_is_another(self, executor, tmp_path):
        code = (
            f"import matplotlib, os\n{FIGURE}plt.savefig({str(tmp_path / 'a.png')!r}, dpi=10)\n"
            "display(matplotlib.get_backend().lower(), os.environ.get('MPLBACKEND'), matplotlib.is_interactive())\n0.5"
        )
        result = executor.run(code, env_vars={"MPLBACKEND": "svg"})
        assert texts(result)[:3] == ["'svg'", "'svg'", "False"]
        assert (tmp_path / "a.png").read_bytes()[16:24] == (64).to_bytes(4, "big") + (48).to_bytes(4, "big")

    def test_in_the_formats_and_sizes_that_are_asked_for(self, run):
        figures = FigureSettings(("retina", "svg"), savefig=(("dpi", 20),), rc=(("figure.figsize", [2, 1]),))
        code = f"{FIGURE}plt.show()\nplt.rcParams['figure.figsize'] = 3, 3\n{FIGURE}0.5"
        first, second = run(code, figures=figures).displays
        assert first.text == "<Figure size 200x100 with 1 Axes>"
        assert first.metadata == {"image/png": {"width": 20, "height": 10}}
        assert first.data["image/svg+xml"].startswith("<?xml")
        assert second.text == "<Figure size 300x300 with 1 Axes>"
        if run.__self__.__class__ is not ProcessExecutor:  # a worker keeps what the code has set in a module
            assert texts(run(f"{FIGURE}0.5")) == [ONE_AXES]

    def test_a_worker_has_its_own_sizes_again(self):
        figures = FigureSettings(rc=(("figure.figsize", [2, 1]),))
        with ProcessExecutor(workers=1) as executor:
            assert texts(executor.run(f"{FIGURE}0.5", figures=figures)) == ["<Figure size 200x100 with 1 Axes>"]
            assert texts(executor.run(f"{FIGURE}0.5")) == [ONE_AXES]

    @pytest.mark.parametrize("name", ["png", "retina", "jpeg", "svg", "pdf"])
    def test_the_same_bytes_on_every_run(self, executor, name):
        first, second = (executor.run(f"{FIGURE}0.5", figures=FigureSettings((name,))) for _ in range(2))
        assert first == second
        assert len(first.displays[0].data) == 2

    @pytest.mark.parametrize(
        ("figures", "why"),
        [
            ("png", "figures is str: give FigureSettings"),
            (FigureSettings(("bmp",)), "there is no format 'bmp': give some of png, retina, jpeg, svg, pdf"),
            (FigureSettings(()), "it has no format"),
            (FigureSettings(savefig=(("x", {1}),)), "its values have to be JSON"),
        ],
    )
    def test_settings_that_cannot_be(self, executor, figures, why):
        with pytest.raises(InvalidRequestError, match=why):
            executor.prepare("1", figures=figures)


class TestOrder:
    def test_with_what_is_printed(self, run):
        happened = []
        code = """
import os, sys
print("a")
display("x", 1)
sys.stderr.write("b")
print("c", end="")
os.write(1, b"d")
display([1])
print("e")
0.5"""
        result = run(
            code,
            on_output=lambda name, text: happened.append((name, text)),
            on_display=lambda display: happened.append(display.text),
        )
        assert result.scores[0].value == 0.5
        assert texts(result) == ["'x'", "1", "[1]"]
        assert result.stdout == "a\ncde\n"
        assert [(one.stdout_at, one.stderr_at) for one in result.displays] == [(2, 0), (2, 0), (4, 1)]
        at = [index for index, one in enumerate(happened) if isinstance(one, str)]
        assert "".join(text for _, text in happened[: at[0]]) == "a\n"
        assert at[1] == at[0] + 1
        between = happened[at[1] + 1 : at[2]]
        assert {
            name: "".join(text for which, text in between if which == name) for name in ("stdout", "stderr")
        } == {
            "stdout": "cd",
            "stderr": "b",
        }
        assert "".join(text for _, text in happened[at[2] + 1 :]) == "e\n"

    def test_a_line_that_looks_like_a_result_is_where_it_was(self, run):
        code = "for n in range(3):\n    print({'n': n})\n    print('{\"n\": %d}' % n)\n    display(n)\n0.5"
        result = run(code)
        lines = [f"{{'n': {n}}}\n{{\"n\": {n}}}\n" for n in range(3)]
        assert result.stdout == "".join(lines)
        assert [one.stdout_at for one in result.displays] == [len("".join(lines[: n + 1])) for n in range(3)]

    @pytest.mark.parametrize("late", ["display(1)", FIGURE, FRAME, "'text'"])
    def test_printed_scores_are_the_result_whatever_is_displayed_after_them(self, run, late):
        result = run('print(\'before\')\nprint(\'{"scores": [{"name": "a", "value": 1}]}\')\n' + late)
        assert result["a"].value == 1
        assert result.stdout == "before\n"
        assert len(result.displays) == 1

    def test_a_printed_object_may_be_the_result_too(self, run):
        result = run("print('{\"n\": 1}')\ndisplay('x')")
        assert (result.payload, texts(result)) == ({"n": 1}, ["'x'"])
        result = run(f"print('{{\"n\": 1}}')\n{FIGURE}")
        assert (result.payload, result.stdout, texts(result)) == ({"n": 1}, "", [ONE_AXES])


class TestLastExpression:
    def test_a_rich_one_is_shown_and_no_result(self, run):
        result = run(FRAME)
        assert result.error.kind == "no_result"
        assert result.error.found == "the value of the last line is a DataFrame"
        assert result.displays[0].data["text/html"].startswith("<div>")

    def test_any_other_is_shown_after_scores_and_displays_alone(self, run):
        score = 'print(\'{"scores": [{"name": "a", "value": 1}]}\')\n'
        assert texts(run(f"{score}['a', object()]")) == ["['a', <object object>]"]
        assert texts(run("display(1)\n'done'")) == ["1", "'done'"]
        assert run("print('a')\n'done'").displays == ()
        assert run("'done'").displays == ()

    def test_scores_are_not_displayed(self, run):
        code = "import pandas as pd\ndisplay(1)\npd.Series({'a': 0.5, 'b': 1.0})"
        result = run(code)
        if result.ok:
            assert texts(result) == ["1"]
        assert texts(run("display(1)\n0.5")) == ["1"]

    def test_one_beside_a_metric(self, run):
        code = f"class BaseMetric: pass\nclass Mine(BaseMetric):\n    def score(self, **_): return 1\n{FRAME}"
        result = run(code)
        assert result.scores[0].value == 1
        assert len(result.displays) == 1


class TestUpdates:
    def test_the_last_state_stands_where_the_first_was(self, run):
        code = """
from IPython.display import update_display
print("a")
handle = display("first", display_id=True)
print("b")
display("other")
handle.update("second")
update_display("third", display_id=handle.display_id)
display(repr(handle))
0.5"""
        seen = []
        result = run(code, on_display=lambda one: seen.append((one.action, one.text)))
        assert texts(result)[:2] == ["'third'", "'other'"]
        assert [one.stdout_at for one in result.displays] == [2, 4, 4]
        assert seen[2:4] == [("update", "'second'"), ("update", "'third'")]

    def test_an_empty_place_to_be_filled(self, run):
        result = run("place = display(display_id='mine')\nplace.update('x')\nplace.display('y')\n0.5")
        assert texts(result) == ["'x'", "'y'"]
        assert "display_id required" in run("display(1, update=True)").error.summary

    @pytest.mark.parametrize("wait", ["True", "False"])
    def test_cleared_displays_are_gone_and_what_was_printed_is_not(self, run, wait):
        code = f"from IPython.display import clear_output\nfor n in range(3):\n    clear_output({wait})\n    print(n)\n    display(n)\n0.5"
        result = run(code)
        assert (result.stdout, texts(result)) == ("0\n1\n2\n", ["2"])

    def test_what_is_to_be_cleared_when_something_else_comes(self, run):
        clear = "from IPython.display import clear_output\ndisplay(1)\nclear_output(wait=True)\n"
        assert texts(run(f"{clear}0.5")) == ["1"]
        assert texts(run(f"{clear}print('a')\n0.5")) == []


class TestThreadsAndForks:
    def test_from_many_threads(self, run):
        code = """
import threading
def work(number):
    for n in range(25):
        print(number, n)
        display((number, n))
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
0.5"""
        result = run(code)
        assert result.scores[0].value == 0.5
        assert sorted(texts(result)) == sorted(f"({number}, {n})" for number in range(4) for n in range(25))

    def test_in_a_forked_process_their_text_is_printed(self, run):
        code = """
import multiprocessing
process = multiprocessing.get_context("fork").Process(target=lambda: display([1]))
process.start()
process.join()
display([2])
0.5"""
        result = run(code)
        assert (result.stdout, texts(result)) == ("[1]\n", ["[2]"])

    def test_at_exit_their_text_is_printed(self, executor):
        code = """
import atexit, threading
atexit.register(lambda: display(["at exit"]))
main = threading.main_thread()
threading.Thread(target=lambda: (main.join(), display(["in a thread"]))).start()
display(1)
0.5"""
        result = executor.run(code)
        assert (result.stdout, texts(result)) == ("['in a thread']\n['at exit']\n", ["1"])

    def test_in_the_middle_of_another_one(self, run):
        code = """
class Nested:
    def _repr_html_(self):
        display("inner")
        return "outer"
import signal
signal.signal(signal.SIGUSR1, lambda *_: display("from a signal"))
display(Nested())
signal.raise_signal(signal.SIGUSR1)
0.5"""
        assert [min(one.data.values()) for one in run(code).displays] == [
            "'inner'",
            "<__main__.Nested object>",
            "'from a signal'",
        ]

    def test_an_alarm_that_interrupts_the_code_tears_no_display(self, executor):
        code = """
import signal
class Late(BaseException): pass
def handler(*_): raise Late
signal.signal(signal.SIGALRM, handler)
display("first")  # an import, in which Python may lose what a handler raises
shown, late = 1, 0
while late < 100:
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.001 + late * 0.00005)
        for _ in range(5000):
            display("x" * 3000)
            shown += 1
        late += 1
    except Late:
        late += 1
display(shown)
0.5"""
        result = executor.run(code)
        assert result.scores[0].value == 0.5, result.error
        shown = int(result.displays[-1].text)
        assert 0 < shown <= len(result.displays) - 1 <= shown + 100

    def test_from_coroutines(self, run):
        code = "import asyncio\nasync def f(n):\n    display(n)\nawait asyncio.gather(*map(f, range(3)))\n0.5"
        assert texts(run(code)) == ["0", "1", "2"]

    def test_a_worker_has_display_again(self):
        with ProcessExecutor(workers=1) as executor:
            assert executor.run("import builtins\ndel builtins.display\n0.5").ok
            assert texts(executor.run("display(1)\n0.5")) == ["1"]


class TestLimits:
    def test_one_beyond_the_limit_of_output_is_a_line(self, run):
        result = run("display('x' * 5000)\ndisplay(1)\n0.5", limits=Limits(output_bytes=2000))
        assert texts(result) == ["[a display of 4.9 KB is left out: more than 2 KB, the limit of output]", "1"]

    def test_a_flood_of_them_ends(self, executor):
        code = "for n in range(2000): display(n)\n0.5"
        result = executor.run(code, limits=Limits(output_bytes=10_000))
        assert result.ok
        assert 50 < len(result.displays) < 500
        assert "left out" in texts(result)[-1]

    def test_one_beyond_all_limits(self, executor):
        result = executor.run("display({'text/html': 'x' * (70 << 20)}, raw=True)\n0.5")
        assert result.scores[0].value == 0.5
        assert texts(result) == ["[not shown: it has 73,400,320 characters, and 62,914,560 are the most]"]

    def test_a_large_one(self, run):
        result = run("display({'text/html': 'x' * (20 << 20)}, raw=True)\n0.5")
        assert len(result.displays[0].data["text/html"]) == 20 << 20

    def test_what_no_json_can_hold(self, run):
        code = """
import sys
deep = []
for _ in range(100_000): deep = [deep]
sys.set_int_max_str_digits(0)
display({"application/json": deep, "text/plain": "deep"}, raw=True)
display({"application/json": {1: "a", "1": "b"}}, raw=True)
display({"application/json": 10 ** 6000}, raw=True)
display({"text/plain": "\\ud800", 5: {1, 2}}, raw=True)
0.5"""
        result = run(code)
        assert result.scores[0].value == 0.5, result.error
        first, second, third, fourth = (one.data for one in result.displays)
        assert first == {"text/plain": "deep"}
        assert second == {"application/json": {"1": "b"}}
        assert "digits" in third["text/plain"]
        assert fourth == {"text/plain": "\\ud800"}

    def test_a_run_that_is_killed_keeps_what_it_displayed(self, run):
        printed = threading.Event()
        code = f"display(1)\n{FIGURE}plt.show()\nprint('a', flush=True)\nwhile True: pass"
        with time_limit_from(printed.is_set):
            result = run(code, timeout_secs=1, on_output=lambda *_: printed.set())
        assert result.error.kind == "timeout"
        assert texts(result) == ["1", ONE_AXES]
        result = run("display(1)\nimport os\nos._exit(3)")
        assert (result.exit_status, texts(result)) == (3, ["1"])


class TestSecrets:
    def test_texts_are_masked_and_pictures_are_not(self, executor):
        code = """
import base64, os
key = os.environ["API_KEY"]
class Rich:
    def __repr__(self): return key
    def _repr_html_(self): return f"<b>{key}</b>"
    def _repr_json_(self): return {key: [key]}
    def _repr_svg_(self): return f"<svg>{key}</svg>"
    def _repr_png_(self): return key.encode()
display(Rich(), metadata={"a": key})
display(1)
[key]
"""
        seen = []
        result = executor.run(
            code, env_vars={"API_KEY": "sk-12345-abc"}, secrets=["API_KEY"], on_display=seen.append
        )
        first = result.displays[0]
        assert first.data == {
            "text/plain": "***",
            "text/html": "<b>***</b>",
            "application/json": {"***": ["***"]},
            "image/svg+xml": "<svg>***</svg>",
            "image/png": base64.b64encode(b"sk-12345-abc").decode(),
        }
        assert first.metadata == {"a": "***"}
        assert texts(result)[2] == "['***']"
        assert seen[0] == first
        assert "12345" not in repr(result.displays)


class TestResult:
    def test_as_json_and_as_text(self, run):
        result = run(f"{FRAME}\ndisplay(_ := 1)\n{FIGURE}0.5")
        assert "displays" not in result.to_dict()
        told = result.to_dict(displays=True)
        assert told["scores"] == result.payload["scores"]
        assert [list(one["data"]) for one in told["displays"]] == [["text/plain"], ["text/plain", "image/png"]]
        json.dumps(told)
        assert run(FRAME).to_dict(displays=True)["displays"][0]["metadata"] == {}
        assert len(repr(result.displays)) < 300
        assert result == run(f"{FRAME}\ndisplay(_ := 1)\n{FIGURE}0.5")

    def test_in_the_background(self, executor):
        handle = executor.start(f"print('a')\ndisplay(1)\n{FIGURE}0.5")
        assert texts(handle.result()) == ["1", ONE_AXES]
        assert handle.displays == handle.result().displays
        assert "displays" in handle.to_dict(displays=True)

    def test_a_callback_that_raises_ends_the_run(self, executor):
        def stop(_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            executor.run("display(1)\nimport time\ntime.sleep(60)", on_display=stop)

    def test_nothing_is_loaded_by_a_run_that_displays_nothing(self, executor):
        code = "import sys, json\nprint(json.dumps([n for n in sys.modules if n.endswith(('.display', '.figures'))]))\n0.5"
        assert executor.run(code).stdout == "[]\n"


def test_a_forged_display_costs_nobody_else_anything():
    forged = """
import os, json, stat
for channel in range(500, 600):
    try:
        if stat.S_ISSOCK(os.fstat(channel).st_mode): break
    except OSError: pass
body = json.dumps({"display": {"data": {"text/plain": "forged"}, "metadata": {}}}).encode()
os.write(channel, len(body).to_bytes(8, "big") + body)
0.5"""
    with ProcessExecutor(workers=1) as executor:
        for _ in range(3):
            result = executor.run(forged)
            assert set(texts(result)) <= {"forged"}
            assert executor.run("display(data['a'])\ndata['a'] / 2", {"a": 1}).scores[0].value == 0.5


def test_the_environment_is_not_touched(executor):
    assert "MPLBACKEND" not in os.environ or executor.run("1").ok
