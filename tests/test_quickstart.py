"""The quickstart where its readers are: in JupyterLab, in both themes, and as a page of nbconvert's."""

import json
import re
import sys

import pytest
from playwright.sync_api import expect

from tests import jupyterlab
from tests.conftest import NOTEBOOKS
from tests.processes import is_alive, wait_as_promised, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

QUICKSTART = "quickstart.ipynb"
CELLS = json.loads((NOTEBOOKS / QUICKSTART).read_text())["cells"]
CODE = [cell for cell in CELLS if cell["cell_type"] == "code"]
THEMES = ("JupyterLab Light", "JupyterLab Dark")


def index_of(part):
    """Which code cell it is that begins so."""
    (found,) = [index for index, cell in enumerate(CODE) if "".join(cell["source"]).startswith(part)]
    return found


SCORED = index_of("%%isolated --data row -o result")
COMPARED = index_of("%%isolated --data row --compare first")
HISTORY = index_of("%isolated history")
SECRET = index_of("%%isolated --secret")
FAILED = index_of("%%isolated --data row\ndef ratio")
SHOWN_ERROR = index_of("%%isolated --no-raise --data row")
TIMED_OUT = index_of("%%isolated --timeout 1")


@pytest.fixture(scope="module")
def quickstart(server, browser):
    """The quickstart after Run All, in a window that is high enough to show all of it."""
    with jupyterlab.opened_file(server, browser, QUICKSTART, height=9000) as notebook:
        notebook.run_all()
        yield notebook


class TestOnScreen:
    def test_each_cell_shows_what_it_should(self, quickstart):
        for index, cell in enumerate(CODE):
            if cell["outputs"]:
                expect(quickstart.output(index).first).to_be_visible()
        raised = quickstart.page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.stderr"]')
        expect(raised).to_have_count(1)  # the cell that is there to fail

    def test_scores(self, quickstart):
        output = quickstart.output(SCORED)
        expect(output.first).to_have_text("scoring: How do I block a lost card?\n")
        table = output.last.get_by_role("table")
        expect(table.get_by_role("columnheader")).to_have_text(["score", "value", "reason"])
        expect(table.get_by_role("rowheader")).to_have_text(["tone", "length", "concrete", "brevity"])
        expect(table.locator("tbody tr").first).to_have_text("toneFAILEDthere is no model here")

    def test_what_changed(self, quickstart):
        row = quickstart.output(COMPARED).last.locator("tbody tr")
        expect(row).to_have_text("overlap0.9333█████████░▲ +0.1333, was 0.8")
        expect(quickstart.output(HISTORY).locator("tbody tr")).to_have_count(4)

    def test_a_secret_is_hidden(self, quickstart):
        expect(quickstart.output(SECRET).first).to_have_text("logging in with ***\nin the header: ***\n")

    def test_an_error_shows_the_marked_line(self, quickstart):
        expect(quickstart.output(FAILED)).to_contain_text("----> 3     return len(answer) / len(reference)")

    @pytest.mark.parametrize("index", [SHOWN_ERROR, TIMED_OUT])
    def test_the_full_text_is_in_a_fold_that_opens(self, quickstart, index):
        output = quickstart.output(index).last
        expect(output.locator("strong").first).to_be_visible()
        expect(output.locator("pre strong").first).to_contain_text("---->")
        inside = output.locator("details pre")
        expect(inside).not_to_be_visible()
        output.locator("summary").click()
        expect(inside).to_be_visible()
        expect(inside).to_contain_text("(most recent call last)")
        output.locator("summary").click()

    @pytest.mark.parametrize("theme", THEMES)
    def test_in_both_themes_text_and_bars_can_be_told_from_what_is_behind(self, quickstart, pictures, theme):
        quickstart.wear(theme)
        name = theme.split()[-1].lower()
        quickstart.page.screenshot(path=pictures / f"quickstart_{name}.png")
        for index, part in (
            (SCORED, "scored"),
            (COMPARED, "compared"),
            (FAILED, "failed"),
            (TIMED_OUT, "timed_out"),
        ):
            quickstart.cell(index).screenshot(path=pictures / f"{part}_{name}.png")
        for selector, least in (("tbody td", 4.5), ("tbody th", 4.5), ("thead th", 4.5), ("td:nth-child(3)", 3)):
            cell = quickstart.output(SCORED).last.locator(selector).last
            assert contrast(cell) >= least, selector


CONTRAST = """
element => {
    const numbers = text => text.match(/[0-9.]+/g).map(Number)
    let behind = element
    while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement
    const luminance = color => {
        const [r, g, b] = numbers(color).slice(0, 3).map(one => one / 255)
            .map(one => one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b
    }
    const both = [getComputedStyle(element).color, getComputedStyle(behind).backgroundColor].map(luminance)
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05)
}
"""


def contrast(cell):
    """As WCAG 2.2 reckons it: 21 for black on white."""
    return cell.evaluate(CONTRAST)


class TestSaved:
    def test_what_was_saved_is_readable_before_it_is_trusted(self, server, browser, pictures):
        with jupyterlab.opened_file(server, browser, QUICKSTART, height=9000) as notebook:
            expect(notebook.prompt(0)).not_to_have_text("[ ]:")
            table = notebook.output(SCORED).last.get_by_role("table")
            expect(table.get_by_role("rowheader")).to_have_text(["tone", "length", "concrete", "brevity"])
            expect(notebook.output(SHOWN_ERROR).last.locator("details pre")).not_to_be_visible()
            notebook.page.screenshot(path=pictures / "quickstart_untrusted.png")

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_as_a_page_of_nbconvert(self, browser, tmp_path, pictures, theme):
        import nbformat  # loads for seconds, as nbconvert does
        from nbconvert import HTMLExporter

        notebook = nbformat.read(NOTEBOOKS / QUICKSTART, 4)
        page_file = tmp_path / "quickstart.html"
        page_file.write_text(HTMLExporter(theme=theme).from_notebook_node(notebook)[0], encoding="utf-8")
        with browser.new_context(viewport={"width": 1200, "height": 9000}) as context:
            page = context.new_page()
            # Its formulas and widgets come from elsewhere; ours need nothing.
            page.route(re.compile("^https?:"), lambda route: route.abort())
            page.goto(page_file.as_uri())
            cells = page.locator(".jp-CodeCell")
            expect(cells).to_have_count(len(CODE))
            table = cells.nth(SCORED).get_by_role("table")
            expect(table.get_by_role("columnheader")).to_have_text(["score", "value", "reason"])
            assert contrast(table.locator("tbody td").first) >= 4.5
            fold = cells.nth(SHOWN_ERROR).locator("details")
            expect(fold.locator("pre")).not_to_be_visible()
            fold.locator("summary").click()
            expect(fold.locator("pre")).to_be_visible()
            page.screenshot(path=pictures / f"nbconvert_{theme}.png")


NASTY = """%%isolated
{"scores": [
    {"name": "<img src=x onerror='window.broken=1'>", "value": 0.5, "reason": "<script>window.broken=1</script> $x^2$ $y$"},
    {"name": "a | b", "value": "$z$ `code` **bold**", "reason": "\\x1b[31mred\\x1b[0m\\u202eabc"},
    {"name": "rtl", "value": 1, "reason": "\\u05e9\\u05dc\\u05d5\\u05dd (5)"},
    {"name": "long", "value": 1, "reason": "because " * 1250},
    {"name": "word", "value": 1, "reason": "x" * 10_000},
    {"name": "n" * 200, "value": float("nan"), "reason": "tone", "scoring_failed": True},
    *[{"name": f"more {n}", "value": n / 100} for n in range(40)],
]}"""


class TestReading:
    @pytest.fixture
    def nasty(self, server, browser):
        with jupyterlab.opened(server, browser, ["%load_ext isolated_magic", NASTY]) as notebook:
            notebook.run(0)
            notebook.run(1)
            yield notebook

    def test_nothing_breaks_out_and_everything_can_be_read(self, nasty, pictures):
        output = nasty.output(1).last
        expect(output.locator("mjx-container")).to_have_count(0)
        assert nasty.page.evaluate("window.broken") is None
        expect(output.locator("img, script")).to_have_count(0)
        expect(output).to_contain_text("<script>window.broken=1</script> $x^2$ $y$")
        expect(output).to_contain_text("46 scores; 1 FAILED")
        more = output.locator("details", has_text="26 more scores").last
        expect(more.locator("table")).not_to_be_visible()
        more.locator("summary").first.click()
        expect(more.locator("tbody tr")).to_have_count(26)
        reason = output.locator("td details", has_text="because").first
        assert len(reason.locator("summary").inner_text()) < 300
        reason.locator("summary").click()
        expect(reason).to_contain_text("because " * 1249)
        nasty.page.screenshot(path=pictures / "nasty.png")

    @pytest.mark.parametrize("zoom", [1, 2])
    def test_enlarged_nothing_sticks_out(self, server, browser, pictures, zoom):
        window = {"width": 2400 // zoom, "height": 2000 // zoom, "scale": zoom}
        with jupyterlab.opened(server, browser, ["%load_ext isolated_magic", NASTY], **window) as notebook:
            notebook.page.keyboard.press("Control+b")  # the list of files takes the room of the notebook
            notebook.run_all()
            output = notebook.output(1).last
            output.scroll_into_view_if_needed()
            wide, seen = output.evaluate("element => [element.scrollWidth, element.clientWidth]")
            assert wide <= seen + 1
            notebook.page.screenshot(path=pictures / f"zoom_{zoom}00.png")


class TestTyping:
    def test_the_tab_key_offers_options_and_variables(self, server, browser):
        cells = ["%load_ext isolated_magic\nzebra_row = {}", "%%isolated --comp", "%%isolated --data zebra_"]
        with jupyterlab.opened(server, browser, cells) as notebook:
            notebook.run(0)
            for index, line, word in ((1, "%%isolated", "--compare"), (2, "%%isolated --data", "zebra_row")):
                notebook.cell(index).locator(".cm-content").click()
                notebook.page.keyboard.press("End")
                notebook.page.keyboard.press("Tab")
                expect(notebook.page.locator(".jp-Completer-item", has_text=word)).to_be_visible()
                notebook.page.keyboard.press("Enter")
                expect(notebook.cell(index).locator(".cm-line").first).to_have_text(f"{line} {word}")

    def test_a_secret_that_is_typed_is_shown_nowhere_and_saved_nowhere(self, server, browser):
        secret = "sk-typed-4711"
        cell = "%%isolated --secret LOGIN\nimport os\nprint('<' + os.environ['LOGIN'] + '>')\nlen(os.environ['LOGIN'])"
        with jupyterlab.opened(server, browser, ["%load_ext isolated_magic", cell]) as notebook:
            notebook.run(0)
            notebook.start(1)
            asked = notebook.cell(1).locator("input.jp-Stdin-input")
            expect(asked).to_have_attribute("type", "password")
            asked.fill(secret)
            asked.press("Enter")
            notebook.wait_for_end(1)
            expect(notebook.cell(1)).to_contain_text("<***>")
            expect(notebook.output(1).last.locator("tbody tr")).to_have_text(f"score{len(secret)}")
            assert secret not in notebook.page.content()
            notebook.page.keyboard.press("Control+s")
            file = server.folder / notebook.name
            wait_until(lambda: "<***>" in file.read_text())
            assert secret not in file.read_text()


class TestTheEnd:
    def test_restart_and_shutdown_leave_nothing_of_it(self, server, browser):
        with jupyterlab.opened_file(server, browser, QUICKSTART, height=3000) as notebook:
            notebook.run_all()
            first = notebook.server.kernel_process(QUICKSTART)
            below = [process.pid for process in first.children(recursive=True)]
            assert below
            notebook.choose("Kernel", "Restart Kernel and Run All Cells…")
            notebook.accept()
            wait_until(lambda: not is_alive(first.pid), jupyterlab.STEP_SECS)
            wait_as_promised(lambda: not any(map(is_alive, below)))
            wait_until(
                lambda: notebook.prompt(len(CODE) - 1).inner_text() == f"[{len(CODE)}]:", jupyterlab.START_SECS
            )
            second = notebook.server.kernel_process(QUICKSTART)
            below = [second.pid, *(process.pid for process in second.children(recursive=True))]
            notebook.choose("Kernel", "Shut Down Kernel")
            wait_until(lambda: not is_alive(second.pid), jupyterlab.STEP_SECS)
            wait_as_promised(lambda: not any(map(is_alive, below)))
