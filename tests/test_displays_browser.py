"""What runs display, in JupyterLab and on a page of nbconvert's: it is seen, and none of it scripts the page."""

import json
import re
import sys

import pytest
from playwright.sync_api import expect

from isolated_magic.render.clean_html import NOT_SHOWN
from tests import jupyterlab
from tests.processes import wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

HOSTILE_HTML = """
<b>harmless</b>
<img src=x onerror="window.broken='img'"><svg onload="window.broken='svg'"></svg>
<style>body, .jp-Notebook { display: none !important } @import 'http://127.0.0.1:9/x.css';</style>
<a href="javascript:window.broken='link'">press</a> <a href="java&#9;script:window.broken='link'">press</a>
<div style="position:fixed;inset:0;z-index:99999;background:red;width:9999px;height:60px" class="jp-Dialog">over</div>
<a data-commandlinker-command="notebook:delete-cell" href="#">press</a>
<svg><a xlink:href="javascript:window.broken='svg link'"><text y="20">press</text></a><style><img src=x
onerror="window.broken='style'"></style></svg>
<details ontoggle="window.broken='details'" open><summary>more</summary>inside</details>
<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=window.broken='math'&gt;">
<meta http-equiv="refresh" content="0;url=about:blank"><base href="http://127.0.0.1:9/">
"""
SCRIPTED = """
<div id="chart" style="height:200px"></div>
<script>
const told = ["drawn"]
for (const attempt of [
    () => { window.parent.broken = 'parent' }, () => { window.top.broken = 'top' },
    () => window.parent.document.title, () => window.localStorage, () => document.cookie,
    () => window.open('about:blank').document.title,
]) { try { attempt(); told.push("reached") } catch (problem) { told.push(problem.name) } }
document.getElementById("chart").textContent = told.join(" ")
</script>
"""
HOSTILE_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="60" height="60" onload="window.broken=\'svg file\'">'
    "<script>window.broken='svg script'</script><rect id='box' width='60' height='60' fill='#2563eb'/></svg>"
)
HOSTILE_MARKDOWN = """
# Title

**bold** <script>window.broken='md'</script> <img src=x onerror="window.broken='md img'"> $a<b$ and `x<y`

| a | b |
|---|---|
| 1<br>2 | ![remote](http://127.0.0.1:9/x.png) |
"""
LINKS_MARKDOWN = "[press](javascript:window.broken='md link')"
LATEX = r"$\frac{a}{b}$"
SCRIPTS = "window.broken = 'javascript'"

DISPLAYS = [
    {"text/html": HOSTILE_HTML, "text/plain": "hostile"},
    {"text/html": SCRIPTED, "text/plain": "scripted"},
    {"image/svg+xml": HOSTILE_SVG, "text/plain": "drawing"},
    {"text/markdown": HOSTILE_MARKDOWN, "text/plain": "markdown"},
    {"text/markdown": LINKS_MARKDOWN, "text/plain": "[press](no link)"},
    {"text/latex": LATEX, "text/plain": "latex"},
    {"application/javascript": SCRIPTS, "text/plain": "no script"},
    {"application/vnd.bokehjs_exec.v0+json": {"id": "1"}, "text/plain": "no bokeh"},
]
HTML, FRAME, DRAWING, MARKDOWN, LINKS, FORMULA, SCRIPT, BOKEH = range(len(DISPLAYS))

FIGURE = """%%isolated
import matplotlib.pyplot as plt
plt.figure(figsize=(4, 2))
plt.plot([1, 3, 2])
plt.title("scores")
plt.show()
0.5"""
TABLES = """%%isolated --no-score
import pandas as pd
frame = pd.DataFrame({"metric": ["tone", "<b>"], "value": [0.25, 0.75]})
display(frame)
frame.style.format({"metric": str.upper}).bar(subset="value", color="#7dd3fc").set_caption("styled")"""
CELLS = [
    "%load_ext isolated_magic",
    f"%%isolated --no-score\nfor bundle in {DISPLAYS!r}:\n    display(bundle, raw=True)",
    FIGURE,
    TABLES,
]
SHOWN, DRAWN, TABLED = 1, 2, 3
THEMES = ("JupyterLab Light", "JupyterLab Dark")


@pytest.fixture(scope="module")
def notebook(server, browser):
    """The cells after Run All."""
    with jupyterlab.opened(server, browser, CELLS, height=2000) as opened:
        opened.run_all()
        yield opened


@pytest.fixture(scope="module")
def saved(notebook, server):
    """The name of its file, saved."""
    notebook.press("docmanager:save")
    file = server.folder / notebook.name
    wait_until(lambda: '"text/html"' in file.read_text())  # of outputs: the sources have other quotes
    return notebook.name


def press_all(page, area):
    """Press what invites to be pressed; nothing of it may do anything."""
    for link in area.get_by_text("press", exact=True).all():
        link.click(force=True)
    assert page.evaluate("window.broken") is None


def frame_of(output):
    return output.frame_locator("iframe")


class TestTrusted:
    """As it is when the cells have just run: JupyterLab cleans nothing of it."""

    def test_html_is_seen_where_it_stands_and_does_nothing(self, notebook):
        output = notebook.output(SHOWN).nth(HTML)
        expect(output.locator("b")).to_have_text("harmless")
        expect(output.locator("summary")).to_be_visible()
        expect(output.locator("script, style, math, meta, base, link, iframe, form, img")).to_have_count(0)
        over = output.get_by_text("over", exact=True)
        assert over.evaluate("element => getComputedStyle(element).position") == "static"
        box, area = over.bounding_box(), output.bounding_box()
        assert box["y"] >= area["y"]
        expect(notebook.output(DRAWN).first).to_be_visible()  # the style sheet has hidden nothing
        press_all(notebook.page, output)

    def test_what_needs_scripts_has_them_in_a_frame_that_reaches_nothing(self, notebook):
        output = notebook.output(SHOWN).nth(FRAME)
        chart = frame_of(output).locator("#chart")
        expect(chart).to_have_text(re.compile("^drawn SecurityError"))
        expect(chart).not_to_contain_text("reached")
        assert output.locator("iframe").bounding_box()["height"] == 224
        assert notebook.page.evaluate("window.broken") is None

    def test_a_drawing_is_seen(self, notebook):
        image = notebook.output(SHOWN).nth(DRAWING).locator("img")
        expect(image).to_be_visible()
        assert image.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [60, 60]

    def test_markdown_is_seen_without_html_links_and_images(self, notebook):
        output = notebook.output(SHOWN).nth(MARKDOWN)
        expect(output.locator("h1")).to_contain_text("Title")
        expect(output.locator("strong")).to_have_text("bold")
        expect(output.locator("td").first.locator("br")).to_have_count(1)
        expect(output.locator("mjx-container")).to_be_visible()
        expect(output.locator("script, img")).to_have_count(0)
        expect(output).to_contain_text(re.compile("<.script>window.broken='md'"))
        expect(notebook.output(SHOWN).nth(LINKS).locator("a")).to_have_count(0)
        press_all(notebook.page, output)

    def test_formulas_are_set_and_scripts_left_out(self, notebook):
        expect(notebook.output(SHOWN).nth(FORMULA).locator("mjx-mfrac")).to_be_visible()
        expect(notebook.output(SHOWN).nth(SCRIPT)).to_have_text("no script")
        expect(notebook.output(SHOWN).nth(BOKEH)).to_have_text("no bokeh")
        assert notebook.page.evaluate("window.broken") is None

    def test_figures_and_tables_look_as_in_a_notebook(self, notebook):
        image = notebook.output(DRAWN).first.locator("img")
        assert image.evaluate("image => image.naturalWidth") > 300
        plain, styled = notebook.output(TABLED).nth(0), notebook.output(TABLED).nth(1)
        expect(plain.locator("td")).to_have_text(["tone", "0.25", "<b>", "0.75"])
        expect(styled.locator("caption")).to_have_text("styled")
        bar = styled.locator("td").nth(3)
        assert "linear-gradient" in bar.evaluate("cell => getComputedStyle(cell).backgroundImage")

    @pytest.mark.parametrize("theme", THEMES)
    def test_in_both_themes(self, notebook, pictures, theme):
        notebook.wear(theme)
        name = theme.split()[-1].lower()
        notebook.page.screenshot(path=pictures / f"displays_{name}.png")
        frame = frame_of(notebook.output(SHOWN).nth(FRAME))
        assert frame.locator("#chart").evaluate("element => getComputedStyle(element).color") == "rgb(0, 0, 0)"
        style = (
            notebook.output(SHOWN)
            .nth(FRAME)
            .locator("iframe")
            .evaluate("one => getComputedStyle(one).backgroundColor")
        )
        assert style == "rgb(255, 255, 255)"


class TestUntrusted:
    def test_what_was_saved_by_another_person(self, server, browser, saved, pictures):
        content = json.loads((server.folder / saved).read_text())
        content["cells"][0]["source"] += "\n# changed, so that the signature is of something else"
        name = f"untrusted_{saved}"
        (server.folder / name).write_text(json.dumps(content))
        with jupyterlab.opened_file(server, browser, name, height=2000) as notebook:
            shown = notebook.output(SHOWN)
            expect(shown.nth(HTML).locator("b")).to_have_text("harmless")
            expect(shown.nth(FRAME)).to_contain_text(NOT_SHOWN)
            expect(shown.nth(DRAWING)).to_have_text("drawing")
            expect(shown.nth(MARKDOWN).locator("h1")).to_contain_text("Title")
            expect(notebook.output(DRAWN).first.locator("img")).to_be_visible()
            bar = notebook.output(TABLED).nth(1).locator("td").nth(3)
            assert "linear-gradient" in bar.evaluate("cell => getComputedStyle(cell).backgroundImage")
            press_all(notebook.page, shown.nth(HTML))
            notebook.page.screenshot(path=pictures / "displays_untrusted.png")


class TestProgress:
    def test_the_line_becomes_the_summary_and_leaves_nothing(self, server, browser, tmp_path, pictures):
        go = tmp_path / "go"
        rows = f"rows = [{{'n': n, 'go': {str(go)!r}}} for n in range(5)]"
        code = "import os, time\nwhile not (data['n'] < 2 or os.path.exists(data['go'])): time.sleep(0.01)\n1 / data['n']"
        cells = [f"%load_ext isolated_magic\n{rows}", f"%%isolated --each rows --jobs 2\n{code}"]
        with jupyterlab.opened(server, browser, cells) as notebook:
            notebook.run(0)
            notebook.start(1)
            output = notebook.output(1)
            expect(output).to_contain_text(re.compile(r"2 of 5 rows.* 1 failed · score 1"))
            notebook.page.screenshot(path=pictures / "progress.png")
            go.touch()
            notebook.wait_for_end(1)
            expect(output).to_contain_text("4 of 5 scored")
            expect(output).to_have_count(1)
            expect(output.locator("table")).to_have_count(3)  # one of them is folded
            notebook.choose("File", "Save Notebook")
            file = server.folder / notebook.name
            wait_until(lambda: "of 5 scored" in file.read_text() and file.read_text().rstrip().endswith("}"))
            (saved,) = json.loads(file.read_text())["cells"][1]["outputs"]
            assert saved["output_type"] == "display_data"
            assert "rows/s" not in json.dumps(saved)


class TestNbconvert:
    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_the_page_shows_it_and_none_of_it_runs(self, server, browser, saved, tmp_path, pictures, theme):
        import nbformat  # loads for seconds, as nbconvert does
        from nbconvert import HTMLExporter

        page_file = tmp_path / "displays.html"
        content = nbformat.read(server.folder / saved, 4)
        page_file.write_text(HTMLExporter(theme=theme).from_notebook_node(content)[0], encoding="utf-8")
        with browser.new_context(viewport={"width": 1200, "height": 2000}) as context:
            page = context.new_page()
            asked = []
            page.route(re.compile("^https?:"), lambda route: (asked.append(route.request.url), route.abort()))
            page.goto(page_file.as_uri())
            shown = page.locator(".jp-CodeCell").nth(SHOWN).locator(".jp-OutputArea-output")
            expect(shown.nth(HTML).locator("b")).to_have_text("harmless")
            expect(frame_of(shown.nth(FRAME)).locator("#chart")).to_have_text(re.compile("^drawn SecurityError"))
            assert shown.nth(DRAWING).locator("img, svg").first.bounding_box()["width"] == 60
            expect(shown.nth(MARKDOWN).locator("h1")).to_contain_text("Title")
            expect(page.locator(".jp-CodeCell").nth(TABLED).locator("caption")).to_be_visible()
            press_all(page, shown.nth(HTML))
            press_all(page, shown.nth(MARKDOWN))
            assert not [url for url in asked if "127.0.0.1:9" in url]
            page.screenshot(path=pictures / f"displays_nbconvert_{theme}.png")
