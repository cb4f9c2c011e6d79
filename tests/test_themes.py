"""What scores look like, measured in JupyterLab's light and dark: contrast, sizes, where numbers and bars end."""

import secrets
import sys
from dataclasses import replace

import pytest
from playwright.sync_api import expect

from isolated_magic import EvaluationResult, RowResult, Score
from isolated_magic.evaluation.report import view_of_evaluation
from isolated_magic.models import ErrorKind, RunError, RunResult, parse_scores
from isolated_magic.render.html import to_html
from isolated_magic.render.view import view_of
from tests import jupyterlab
from tests.processes import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

THEMES = ("JupyterLab Light", "JupyterLab Dark")
SCORES = [
    {"name": "relevance", "value": 0.9333, "reason": "on topic", "passed": True, "threshold": 0.5},
    {"name": "tone", "value": 0, "scoring_failed": True, "reason": "no model"},
    {"name": "safety", "value": 0.37, "passed": False, "threshold": 0.5},
    {"name": "brevity", "value": 1, "reason": "because " * 100},
    {"name": "words", "value": 120},
    {"name": "style", "value": "terse"},
]
BEFORE = [{"name": "relevance", "value": 0.8}, {"name": "safety", "value": 0.9}, {"name": "words", "value": 120}]
WIDE = [{"name": "w" * 60, "value": "v" * 60, "category_name": "x", "reason": "r" * 200}]
ERROR = RunError(
    ErrorKind.USER_CODE,
    'ValueError: bad\nTraceback (most recent call last):\n  File "a", line 1\n  File "b", line 2\nValueError: bad',
    "ValueError: bad",
    "Cell, line 2\n----> 2 bad()\n      3 good()",
)

# The contrast of WCAG 2.2 between the text of an element and what is behind it, through all that is translucent.
CONTRAST = """element => {
    const numbers = text => text.match(/[0-9.]+/g).map(Number)
    const layers = []
    for (let behind = element; behind; behind = behind.parentElement) {
        const [r, g, b, alpha = 1] = numbers(getComputedStyle(behind).backgroundColor)
        if (alpha > 0) layers.push([r, g, b, alpha])
        if (alpha === 1) break
    }
    let ground = layers.pop()
    while (layers.length) {
        const [r, g, b, alpha] = layers.pop()
        ground = [r, g, b].map((one, index) => one * alpha + ground[index] * (1 - alpha))
    }
    const luminance = color => {
        const [r, g, b] = color.slice(0, 3).map(one => one / 255)
            .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const both = [numbers(getComputedStyle(element).color), ground].map(luminance)
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05)
}"""
# Where the points of numbers stand, or their ends if they have none.
POINTS = """cells => cells.map(cell => {
    const text = cell.firstChild, range = document.createRange()
    const at = text.data.includes(".") ? text.data.indexOf(".") : text.data.trimEnd().length
    range.setStart(text, 0); range.setEnd(text, at)
    return range.getBoundingClientRect().right
})"""
SIZE = "element => parseFloat(getComputedStyle(element).fontSize)"


def result_of(scores, **settings):
    payload = {"scores": scores}
    return RunResult(payload, parse_scores(payload), **settings)


def evaluation(shift, **settings):
    rows = [
        RowResult(n, f"row-{n}", {}, error=ERROR)
        if n < 3
        else RowResult(n, f"row-{n}", {}, (Score("a", n / 50 + shift, passed=n > 9), Score("b", n / 50 - shift)))
        for n in range(40)
    ]
    return EvaluationResult(tuple(rows), **settings)


STOPPED = evaluation(0.1, stopped="The evaluation was interrupted.", not_run=60, notes=("a note",))
PAGES = {
    "scores": view_of(result_of(SCORES, compared_with=parse_scores({"scores": BEFORE}), notes=("a note",))),
    "many": view_of(result_of([{"name": f"m{n % 3}", "value": n / 1000} for n in range(1000)])),
    "wide": view_of(result_of(WIDE)),
    "error": view_of(RunResult(error=ERROR)),
    "evaluation": view_of_evaluation(replace(STOPPED, comparison=STOPPED.compare(evaluation(0)))),
}


@pytest.fixture(scope="module", params=[True, False], ids=["trusted", "untrusted"])
def shown(request, server, browser):
    """A notebook that shows each of the pages: as its kernel has just sent them, or as they were saved."""
    import nbformat  # loads for seconds

    pages = {name: to_html(view) for name, view in PAGES.items()}
    cells = [
        nbformat.v4.new_code_cell(f"from IPython.display import HTML\nHTML({page!r})") for page in pages.values()
    ]
    for cell, page in zip(cells, pages.values(), strict=True):
        cell.outputs = [nbformat.v4.new_output("display_data", {"text/html": page})]
    content = nbformat.v4.new_notebook(cells=cells)
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    name = f"{secrets.token_hex(4)}.ipynb"
    nbformat.write(content, server.folder / name)
    with jupyterlab.opened_file(server, browser, name, height=4000) as notebook:
        if request.param:
            notebook.run_all()
        yield {name: notebook.output(index).last for index, name in enumerate(pages)}, notebook


@pytest.mark.parametrize("theme", THEMES)
def test_all_text_can_be_read_and_each_bar_be_seen(shown, theme, pictures):
    outputs, notebook = shown
    notebook.wear(theme)
    notebook.page.screenshot(path=pictures / f"looks_{theme.split()[-1].lower()}.png")
    kinds = "td, th, strong, span:has(> strong), div, summary, pre"
    measured = [
        (one, text)
        for name in ("scores", "error", "evaluation")
        for one, text in outputs[name]
        .locator(kinds)
        .evaluate_all(f"all => all.map(element => [({CONTRAST})(element), element.textContent.trim()])")
        if text
    ]
    assert len(measured) > 40
    assert min(measured)[0] >= 4.5, min(measured)
    words = outputs["scores"].locator("span:has(> strong)")
    expect(words).to_have_text(["FAILED", "✓ PASS", "▲ +0.1333", "✗ FAIL", "▼ -0.53"])
    grounds = words.evaluate_all("all => all.map(one => getComputedStyle(one).backgroundColor)")
    red, green = "rgb(198, 40, 40)", "rgb(27, 122, 61)"
    assert grounds == [red, green, green, red, red]


def test_an_evaluation_has_the_marks_of_what_it_says(shown):
    output = shown[0]["evaluation"]
    words = output.locator("span:has(> strong)")
    expect(words.first).to_have_text("Interrupted after 40 of 100 rows; 60 were not run.")
    expect(words.filter(has_text="better")).to_have_text(["✓ better"])
    expect(words.filter(has_text="worse")).to_have_text(["✗ worse"])
    heights = output.locator("td", has_text="▁").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert heights  # the columns of a histogram are one line of text
    assert max(heights) < 30
    expect(output.locator("details")).to_have_count(2)


def test_points_line_up_and_bars_end_where_the_values_do(shown):
    output = shown[0]["scores"]
    numbers = output.locator('td[align="right"]')
    expect(numbers).to_have_text(["0.9333", "0.3700", "1.0000", "120.0000"])
    points = numbers.evaluate_all(POINTS)
    assert max(points) - min(points) < 0.5
    widths = output.locator("td > span > span").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().width / one.parentElement.getBoundingClientRect().width)"
    )
    assert widths == pytest.approx([0.93, 0.37, 1], abs=0.002)
    expect(output.locator("text=█████████░")).not_to_be_visible()
    expect(output.get_by_role("columnheader")).to_have_text(["score", "value", "pass", "change", "reason"])


def test_nothing_is_larger_than_the_table(shown):
    for name in ("scores", "many"):
        output = shown[0][name]
        table = output.locator("td").first.evaluate(SIZE)
        others = output.locator("div, summary, th, td").evaluate_all(f"all => all.map({SIZE})")
        assert max(others) <= table


def test_a_reason_wraps_and_folds(shown):
    output = shown[0]["scores"]
    reason = output.locator("td details")
    assert reason.evaluate("element => element.getBoundingClientRect().height") > 30
    assert len(reason.locator("summary").inner_text()) < 300
    assert reason.get_attribute("open") is None


def test_a_wide_table_scrolls_in_its_box_alone(shown):
    outputs, notebook = shown
    box = outputs["wide"].locator("div:has(> table)")
    notebook.page.set_viewport_size({"width": 700, "height": 4000})

    def scrolls():  # once the page is laid out anew
        wide, seen = box.evaluate("element => [element.scrollWidth, element.clientWidth]")
        return wide > seen + 20

    wait_until(scrolls)
    assert box.evaluate("element => getComputedStyle(element).overflowX") == "auto"
    wide, seen = outputs["wide"].evaluate("element => [element.scrollWidth, element.clientWidth]")
    assert wide <= seen + 1
    notebook.page.set_viewport_size({"width": 1200, "height": 4000})
