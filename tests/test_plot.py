"""The figure of an evaluation: what is in it, where it is readable, and how a notebook shows it."""

import subprocess
import sys
from itertools import pairwise

import pytest

from isolated_magic import EvaluationResult, InvalidRequestError, MissingLibraryError, RowResult, Score
from isolated_magic.evaluation import plot
from isolated_magic.evaluation.plot import HUES, TEXT
from tests.evaluations import rich_result, some_rows
from tests.kernels import kernel


def texts_of(figure):
    from matplotlib.text import Text

    figure.draw_without_rendering()
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def labelled(*labels):
    scores = [(Score("tone", label),) for label in labels]
    return EvaluationResult(tuple(RowResult(n, f"k{n}", {"of": n % 2}, each) for n, each in enumerate(scores)))


def test_the_distribution_with_its_mean_and_interval():
    result = EvaluationResult(some_rows(40))
    figures = result.summary["metrics"]["relevance"]
    (axis,) = result.plot().axes
    assert axis.get_title(loc="left").startswith("relevance  0.")
    assert axis.get_title(loc="left").endswith(", 40 of 40 scored")
    bars = axis.containers[0].patches
    assert [bar.get_height() for bar in bars] == [2] * 20
    assert (bars[0].get_x(), bars[-1].get_x() + bars[-1].get_width()) == (0, 1)
    assert axis.lines[0].get_xdata()[0] == figures["mean"]
    (span,) = [patch for patch in axis.patches if patch not in bars]
    assert [span.get_x(), span.get_x() + span.get_width()] == pytest.approx(figures["interval"])


@pytest.mark.parametrize("values", [(3, 3, 3), (-5, 0, 1e6), (0.5,), (1e-300, 2)])
def test_every_value_is_in_a_bin(values):
    rows = tuple(RowResult(n, f"k{n}", {}, (Score("s", value),)) for n, value in enumerate(values))
    (axis,) = EvaluationResult(rows).plot().axes
    bars = axis.containers[0].patches
    assert sum(bar.get_height() for bar in bars) == len(values)
    assert bars[0].get_x() <= min(values)
    assert bars[-1].get_x() + bars[-1].get_width() == pytest.approx(max(1, *values), rel=1)


def test_groups_are_beside_each_other():
    result = EvaluationResult(some_rows(30))
    figure = result.plot(by="tenant")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["t8  n=10", "t9  n=10", "t10  n=10"]
    assert axis.get_ylabel() == "tenant"
    means = [container.lines[0].get_xdata()[0] for container in axis.containers if hasattr(container, "lines")]
    assert means == [group.summary["metrics"]["relevance"]["mean"] for group in result.by("tenant").values()]
    assert [axis.get_title() for axis in result.by("tenant").plot().axes] == [axis.get_title()]
    assert [*result.plot(by=lambda row: row["n"] > 5).axes[0].get_yticks()] == [0, 1]


def test_labels_are_counted():
    (axis,) = labelled("kind", "rude", "kind").plot().axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["kind", "rude"]
    assert [bar.get_width() for bar in axis.containers[0].patches] == [2, 1]
    (axis,) = labelled("kind", "_rude", "kind", "kind").plot(by="of").axes
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axis.containers[:2]}
    assert widths == {"kind": [1.0], " _rude": [0.0]}
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["kind", " _rude"]


def test_what_is_left_out_is_said(monkeypatch):
    monkeypatch.setattr(plot, "MOST_METRICS", 2)
    monkeypatch.setattr(plot, "MOST_GROUPS", 3)
    scores = tuple(Score(f"m{n}", 0.5) for n in range(5))
    rows = tuple(RowResult(n, f"k{n}", {"n": n}, scores) for n in range(5))
    figure = EvaluationResult(rows).plot("n")
    assert len(figure.axes) == 2
    assert len(figure.axes[0].get_yticks()) == 3
    assert "not shown: 3 more metrics, 2 more groups" in texts_of(figure)


def test_names_are_no_formulas_and_have_an_end():
    name = "$\\frac{1}{" + "x" * 500
    rows = (RowResult(0, "k", {"of": "$a_b$\n\x1b[31m"}, (Score(name, 0.5), Score("好", 1.0))),)
    figure = EvaluationResult(rows).plot("of")
    assert figure._repr_png_().startswith(b"\x89PNG")
    texts = texts_of(figure)
    assert "$a_b$  n=1" in texts
    assert max(map(len, texts)) < 100


def test_a_metric_that_some_groups_do_not_have():
    figure = rich_result().plot("tenant")
    assert [axis.get_title(loc="left").partition("  ")[0] for axis in figure.axes] == [
        "relevance",
        "tone",
        "error",
    ]
    assert figure._repr_png_()


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_it_is_readable_on_white_and_on_black():
    for background in ("#ffffff", "#111111"):
        for colour, least in [(TEXT, 4), *((hue, 3) for hue in HUES)]:
            dark, light = sorted(map(luminance, (background, colour)))
            assert (light + 0.05) / (dark + 0.05) >= least, (background, colour)
    figure = EvaluationResult(some_rows(9)).plot("tenant")
    assert figure.patch.get_alpha() == figure.axes[0].patch.get_alpha() == 0
    for text in figure.axes[0].get_yticklabels() + figure.axes[0].get_xticklabels():
        assert text.get_color() == TEXT


def test_the_same_rows_make_the_same_picture():
    pictures = [EvaluationResult(some_rows(9)).plot("tenant")._repr_png_() for _ in range(2)]
    assert all(one == other for one, other in pairwise(pictures))


def test_nothing_to_plot():
    for result in (EvaluationResult(), EvaluationResult((RowResult(0, "k", {}, (Score("s", float("nan")),)),))):
        with pytest.raises(InvalidRequestError, match="There is nothing to plot: no row has a usable score"):
            result.plot()
    with pytest.raises(InvalidRequestError, match="No row has a column 'x'"):
        EvaluationResult(some_rows(2)).plot("x")


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        MissingLibraryError, match=r"plot\(\) needs matplotlib, which is not installed: pip install"
    ):
        EvaluationResult(some_rows(2)).plot()


def test_pyplot_is_left_alone():
    code = (
        "import sys\nfrom isolated_magic import EvaluationResult\nfrom tests.evaluations import some_rows\n"
        "EvaluationResult(some_rows(5)).plot()._repr_png_()\nprint('matplotlib.pyplot' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_a_notebook_shows_it_once():
    with kernel(loads=False) as notebook:
        notebook.ok(
            "from isolated_magic import EvaluationResult\nfrom tests.evaluations import some_rows\n"
            "result = EvaluationResult(some_rows(9))"
        )
        for before in ("", "%matplotlib inline\n", "import matplotlib.pyplot\n"):
            shown = notebook.ok(f"{before}result.plot('tenant')")
            assert "image/png" in shown.data
            assert (len(shown.results), shown.stdout, shown.stderr) == (1, "", "")
        assert notebook.ok("result.plot();").results == []
