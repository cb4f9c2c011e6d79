"""What a front end is given of a display, as bytes; test_displays_browser.py has it looked at by a browser."""

import base64
import re
import time
from html import unescape
from xml.etree import ElementTree

import pytest

from isolated_magic.render.clean_html import NOT_SHOWN
from isolated_magic.render.rich import plain_bundle, safe_bundle
from tests.kernels import CELL_TIMEOUT_SECS

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def safe(mime, value, **metadata):
    return safe_bundle({"text/plain": "plain", mime: value}, metadata)[0].get(mime)


def html(text):
    return safe("text/html", text)


def markdown(text):
    return safe("text/markdown", text)


class TestText:
    def test_is_always_there(self):
        assert safe_bundle({}, {}) == ({"text/plain": ""}, {})
        assert safe_bundle({"image/png": PIXEL}, {})[0]["text/plain"] == "<image/png>"
        assert safe_bundle({"text/markdown": "**b**"}, {})[0]["text/plain"] == "**b**"

    def test_keeps_colours_and_no_other_control_of_a_terminal(self):
        text = "\x1b[1;31mred\x1b[0m \x1b[2Jgone \x1b]0;title\x07 \x1b]8;;http://x\x07link \x9b31m \x07 \u202e tab\tend\n"
        assert safe("text/plain", text) == ("\x1b[1;31mred\x1b[0m gone  link \ufffd31m \ufffd \ufffd tab\tend\n")

    def test_a_colour_ends_with_the_text(self):
        assert safe("text/plain", "\x1b[31mred") == "\x1b[31mred\x1b[0m"
        assert safe("text/plain", "\x1b[31mred\x1b[0m\n") == "\x1b[31mred\x1b[0m\n"

    def test_an_escape_that_is_put_together_by_removing_another(self):
        assert "\x1b" not in safe("text/plain", "\x1b\x1b[2J[2J")

    def test_alone(self):
        assert plain_bundle({"text/html": "<b>b</b>", "text/plain": "b"}) == {"text/plain": "b"}
        assert plain_bundle({"image/png": PIXEL}) == {"text/plain": "<image/png>"}

    def test_surrogates_that_no_file_can_hold(self):
        for mime in ("text/plain", "text/html", "text/markdown"):
            assert safe(mime, "a\ud800b").encode()


class TestHtml:
    @pytest.mark.parametrize(
        "text",
        [
            "<img src=x onerror=alert(1)>",
            "<svg onload=alert(1)><g onclick=alert(1)></g></svg>",
            "<svg><a xlink:href='javascript:alert(1)'><text>x</text></a></svg>",
            "<svg><use href='data:image/svg+xml,<svg id=x onload=alert(1)>#x'/></svg>",
            "<svg><animate attributeName=href values=javascript:alert(1) /><set attributeName=onload to=alert(1) /></svg>",
            "<svg><style><img src=x onerror=alert(1)></style></svg>",
            "<svg><foreignObject><body onload=alert(1)></foreignObject></svg>",
            "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror=alert(1)&gt;'>",
            "<a href='javascript:alert(1)'>x</a><a href=' java\tscript:alert(1)'>x</a><a href='&#1;javascript:alert(1)'>x</a>",
            "<a href='data:text/html,<b onclick=alert(1)>'>x</a><a href='vbscript:alert(1)'>x</a>",
            "<base href='http://elsewhere/'><meta http-equiv=refresh content='0;url=http://elsewhere/'>",
            "<link rel=stylesheet href='http://elsewhere/x.css'>",
            "<style>@import 'http://elsewhere/x.css'; b { background: url(http://elsewhere/x) }</style><b>x</b>",
            "<p style='background:url(http://elsewhere/x)'>x</p><p style='background:u\\72l(http://elsewhere/x)'>x</p>",
            "<p style='background:image-set(\"http://elsewhere/x\" 1x)'>x</p><table background=http://elsewhere/x></table>",
            "<p style='width:expression(alert(1));behavior:url(#x);-moz-binding:url(http://elsewhere/x)'>x</p>",
            "<img src=http://elsewhere/x><img srcset='http://elsewhere/x 1x'><video poster=http://elsewhere/x></video>",
            "<audio src=//elsewhere/x></audio><picture><source srcset=http://elsewhere/x></picture>",
            "<a ping=http://elsewhere/x href='#'>x</a><img src='/api/shutdown'><a href='/logout'>x</a>",
            "<div data-commandlinker-command='filebrowser:delete' class='jp-Dialog lm-Widget'>x</div>",
            "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
            "<template><img src=x onerror=alert(1)></template>",
            "<p style='position:fixed;inset:0;z-index:99;transform:scale(9);margin-top:-99px;top:0'>x</p>",
        ],
    )
    def test_has_nothing_that_runs_or_loads_or_lies_on_top(self, text):
        made = html(text)
        for bad in ("alert(1)", "javascript", "position", "z-index", "transform", "margin", "jp-", "data-", "api"):
            assert bad not in re.sub('<a href="https?://[^"]*"[^>]*>', "", unescape(made)), made
        assert not re.search(r"(?:src|srcset|poster|background|ping|url\()\W*http", made), made
        assert not re.search(r"<(?:base|meta|link|style|script|iframe|math|template|noscript)", made), made
        assert html(made) == made  # cleaned again it stays as it is

    def test_keeps_what_tables_are_made_of(self):
        table = (
            '<table class="dataframe" border="1"><thead><tr style="text-align:right"><th colspan="2">a</th></tr></thead>'
            '<tbody><tr><td style="background-color:#abc;color:#000000">1</td><td>&lt;x&gt;</td></tr></tbody></table>'
        )
        assert html(table) == table

    def test_a_style_sheet_is_written_into_the_elements(self):
        made = html(
            "<style scoped>.dataframe thead th, #T_1 .x { color: red; position: fixed } "
            "@media print { td { color: green } } td:hover { color: blue } #T_1_a > b, td { font-weight: bold }</style>"
            "<table id=T_1 class=dataframe><thead><tr><th>a<tbody><tr><td id=T_1_a class=x style='color:blue'>1</table>"
        )
        assert '<th style="color:red">a</th>' in made
        assert '<td style="font-weight:bold;color:blue">1</td>' in made
        assert "T_1" not in made

    def test_the_stronger_selector_wins_as_in_a_browser(self):
        made = html(
            "<style>#i{color:red}p{color:blue;margin:1px!important}</style><p id=i style='margin:2px'>x</p>"
        )
        assert made == '<p style="margin:1px!important;color:red">x</p>'

    def test_ids_are_its_own_and_the_same_whenever_it_is_shown(self):
        drawing = "<svg><defs><linearGradient id={0}></linearGradient></defs><rect fill='url(#{0})'></rect></svg>"
        first, second = html(drawing.format("jp-main-dock-panel")), html(drawing.format("p5cf3"))
        assert first == second
        ((name,),) = {tuple(re.findall(r"id=\"(run-[0-9a-f]{8}-0)\"", first))}
        assert f'fill="url(#{name})"' in first

    def test_a_remote_image_is_a_link(self):
        made = html("<img src='https://elsewhere/x.png' alt='a &quot; b'>")
        assert made == '<a href="https://elsewhere/x.png" rel="noopener noreferrer">a " b</a>'
        assert html("<img src=chart.png alt=chart><img src=/api>") == "chart"
        assert html(f"<img src='data:image/png;base64,{PIXEL}'>") == f'<img src="data:image/png;base64,{PIXEL}">'

    @pytest.mark.parametrize(
        "text",
        [
            "<script>1</script>",
            "<SCRIPT/src=x></script>",
            "<iframe src='javascript:parent.alert(1)'></iframe>",
            "<form action=http://elsewhere><input></form>",
            "<object data=x></object><embed src=x>",
        ],
    )
    def test_what_needs_scripts_is_in_a_frame_that_cannot_reach_the_page(self, text):
        made = html(f'<div style="height:300px">&quot;</div>{text}')
        opening = re.fullmatch(r"<iframe ([^<>]*)>(.*)</iframe>", made)
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', opening[1]))
        assert attributes["sandbox"] == "allow-scripts"
        assert unescape(attributes["srcdoc"]) == f'<div style="height:300px">&quot;</div>{text}'
        assert "height:324px" in attributes["style"]
        assert opening[2] == NOT_SHOWN

    @pytest.mark.parametrize(
        "text", ["<div>" * 200_000, "<b><p>" * 100_000, "<font>" * 300 + "<p>" * 100_000, "<p>x" * (1 << 20)]
    )
    def test_what_would_take_minutes_to_clean_is_in_a_frame(self, text):
        begun = time.process_time()
        assert unescape(html(text)).endswith(f'srcdoc="{text}">{NOT_SHOWN}</iframe>')
        assert time.process_time() - begun < 5

    @pytest.mark.parametrize(
        "text",
        [
            "<style>" * 200_000,
            "<style>" + "a" * 2_000_000 + "</style>",
            "<style>" + "/*" * 500_000 + "</style>",
            "<style>" + "@a{" * 300_000 + "</style>",
            "<style>" + "td{color:red}" * 5_000 + "</style><table>" + "<td>x</td>" * 20_000,
            "<style>" + "a b c d{color:red}" * 20_000 + "</style>" + "<div>" * 300 + "<d>x</d>" * 20_000,
            "<img " * 300_000,
            "<img src" + " " * 2_000_000,
            "<p style='" + "url(" * 300_000 + "'>",
            "<script " * 300_000,
        ],
        ids=range(10),
    )
    def test_no_text_takes_long(self, text):
        begun = time.process_time()
        for mime in ("text/html", "image/svg+xml", "text/markdown"):
            safe_bundle({mime: text}, {})
        assert time.process_time() - begun < 10

    def test_large_tables_are_kept(self):
        table = f"<table>{'<tr><td>1<td>2' * 20_000}</table>"
        assert html(table).count("<td>") == 40_000


class TestSvg:
    def test_is_the_same_drawing_without_scripts(self):
        made = safe(
            "image/svg+xml",
            '<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x "y">]><svg width="50pt" viewBox="0 0 5 5"><metadata>'
            "2026</metadata><style>*{stroke-linejoin: round}</style><script>alert(1)</script><rect onload='alert(1)' "
            "style='fill: #ff0000'/><text>a&#160;&lt;b</text><image xlink:href='http://elsewhere/x'/></svg>",
        )
        root = ElementTree.fromstring(made)
        assert root.get("viewBox") == "0 0 5 5"
        assert root.get("style") == "stroke-linejoin:round"
        assert [child.tag.partition("}")[2] for child in root] == ["rect", "text", "image"]
        assert root[0].attrib == {"style": "fill:#ff0000"}
        assert root[1].text == "a\xa0<b"
        assert not root[2].attrib
        assert "2026" not in made

    def test_a_real_figure(self, monkeypatch):
        import io

        import matplotlib as mpl
        from matplotlib.figure import Figure

        drawn = set()
        for salt in ("a", "b"):
            monkeypatch.setitem(mpl.rcParams, "svg.hashsalt", salt)
            axes = (figure := Figure()).subplots()
            axes.plot([1, 2], label="<line>")
            axes.imshow([[1, 2], [3, 4]])
            axes.legend()
            figure.savefig(file := io.StringIO(), format="svg")
            drawn.add(safe("image/svg+xml", file.getvalue()))
        (made,) = drawn  # whatever its own ids were
        used = set(re.findall(r"(?:url\(|href=\")#(run-[^)\"]*)", made))
        assert used == set(re.findall(r' id="([^"]*)"', made))
        assert "data:image/png;base64," in made
        ElementTree.fromstring(made)

    @pytest.mark.parametrize("text", ["", "no drawing", "<svg", "<b><svg></b>"])
    def test_anything_else_is_an_image_without_scripts_or_a_drawing(self, text):
        data, _ = safe_bundle({"image/svg+xml": text}, {})
        made = data.pop("image/svg+xml", None)
        assert made is None or ElementTree.fromstring(made).tag.endswith("svg")
        shown = data.get("text/html")
        assert (made is None) == (shown is not None)

    def test_a_large_one_is_an_image(self):
        text = f"<svg><path d='{'M 0 0 ' * 500_000}'/></svg>"
        encoded = base64.b64encode(text.encode()).decode()
        expected = f'<img src="data:image/svg+xml;base64,{encoded}" alt="drawing">'
        assert safe_bundle({"image/svg+xml": text}, {})[0] == {
            "text/html": expected,
            "text/plain": "<image/svg+xml>",
        }


class TestMarkdown:
    def test_is_kept(self):
        text = "# Title\n\n**b** `a < b` $x_1 < y$ [l](https://a/b), (data: 3)\n\n| a | b |\n|--|--|\n| 1<br>2 | 3 |\n"
        assert markdown(text) == text

    def test_what_is_no_tag_still_looks_the_same(self):
        assert markdown("`a<b` $a<b$ <https://a/b>") == "`a<\u2060b` $a< b$ https://a/b"

    @pytest.mark.parametrize(
        "text",
        [
            "<img src=x onerror=alert(1)>",
            "a<b onclick=alert(1)>c",
            "<\nscript>",
            "<!-- x --><script>alert(1)</script>",
            "```\n</code><script>alert(1)</script>\n```",
            "<details open ontoggle=alert(1)>",
            "<https://x/ onclick=alert(1)>",
        ],
    )
    def test_has_no_html(self, text):
        assert not re.search(r"<[A-Za-z/!?]", markdown(text).replace("</code>", ""))

    @pytest.mark.parametrize(
        "text",
        [
            "[x](javascript:alert(1))",
            "[x](JAVA&#115;cript:alert(1))",
            "[x](java\\script\\:alert(1))",
            "[x](javascript&colon;alert(1))",
            "[x](<java\tscript:alert(1)>)",
            "[x]: javascript:alert(1)",
            "<javascript:alert(1)>",
            "[x](data:text/html,hi)",
            "[x](&#x6A;avascript&#58;alert(1))",
            r"$\href{javascript:alert(1)}{x}$",
        ],
    )
    def test_with_links_that_run_something_is_left_out(self, text):
        assert markdown(text) is None

    def test_loads_no_images(self):
        assert markdown("![chart](http://elsewhere/x)") == "[chart](http://elsewhere/x)"


class TestOthers:
    @pytest.mark.parametrize(
        "mime",
        [
            "application/javascript",
            "text/javascript",
            "application/vnd.bokehjs_exec.v0+json",
            "application/vnd.holoviews_exec.v0+json",
            "application/vnd.jupyter.widget-view+json",
            "application/vnd.vega.v6+json",
            "application/vnd.vegalite.v6+json",
            "application/x-unknown",
            "text/vnd.mermaid",
        ],
    )
    def test_what_runs_in_the_page_is_left_out(self, mime):
        assert safe_bundle({mime: "alert(1)", "text/plain": "p"}, {}) == ({"text/plain": "p"}, {})

    @pytest.mark.parametrize("mime", ["application/json", "application/vnd.plotly.v1+json"])
    def test_data_is_kept(self, mime):
        assert safe(mime, {"data": [1, float("nan")]}) == {"data": [1, "NaN"]}

    def test_an_image_is_base64(self):
        assert safe("image/png", f"{PIXEL[:40]}\n{PIXEL[40:]}\n") == PIXEL
        for bad in ('" onerror="alert(1)', "a", "", "AAAA\u00e9AAA", ["x"], {"a": 1}):
            assert safe("image/png", bad) is None
        assert base64.b64decode(PIXEL).startswith(b"\x89PNG")

    def test_metadata_are_sizes(self):
        given = {"width": 100, "height": '1" onload="x', "needs_background": "light", "unconfined": True, "x": 1}
        data, metadata = safe_bundle({"image/png": PIXEL}, {"image/png": given, "text/html": {"isolated": True}})
        assert metadata == {"image/png": {"width": 100, "needs_background": "light", "unconfined": True}}
        assert list(data) == ["image/png", "text/plain"]

    @pytest.mark.parametrize("value", [None, 1, {"a": 1}, [1], [None]])
    def test_a_value_of_another_type_is_left_out(self, value):
        for mime in ("text/html", "text/plain", "text/markdown", "text/latex", "image/svg+xml", "image/png"):
            data, _ = safe_bundle({mime: value}, {mime: value})
            assert set(data) == {"text/plain"}


HOSTILE = """
class Hostile:
    def __repr__(self):
        return "\\x1b[31mred\\x1b[0m\\x1b]0;title\\x07"
    def _repr_html_(self):
        return "<b onclick='alert(1)'>bold</b>"
    def _repr_javascript_(self):
        return "alert(1)"
display(Hostile())
0.5
"""


class TestInANotebook:
    """What is sent to the front end."""

    def displays(self, cells, line):
        found = []

        def take(message):
            if message["msg_type"] == "display_data":
                found.append(message["content"]["data"])

        cells.client.execute_interactive(f"{line}\n{HOSTILE}", output_hook=take, timeout=CELL_TIMEOUT_SECS)
        return found

    def test_is_safe(self, cells):
        expected = {"text/html": "<b>bold</b>", "text/plain": "\x1b[31mred\x1b[0m"}
        assert self.displays(cells, "%%isolated") == [expected]

    def test_html_with_tags_in_a_secret_is_left_out(self, cells):
        code = "display({'text/html': 'x sk-<b>4711</b>-long <i>y</i>', 'text/plain': 'x sk-4711-long'}, raw=True)\n0.5"
        found = []

        def take(message):
            if message["msg_type"] == "display_data":
                found.append(message["content"]["data"])

        cells.ok("KEY = 'sk-4711-long'")
        line = "%%isolated --secret KEY"
        cells.client.execute_interactive(f"{line}\n{code}", output_hook=take, timeout=CELL_TIMEOUT_SECS)
        assert found == [{"text/plain": "x ***"}]

    def test_is_text_alone_with_no_rich_and_all_is_kept(self, cells):
        assert self.displays(cells, "%%isolated --no-rich -o kept") == [{"text/plain": "\x1b[31mred\x1b[0m"}]
        assert cells.ok("kept.displays[0].data['text/html']").text == "\"<b onclick='alert(1)'>bold</b>\""

    def test_is_text_alone_with_the_setting_unless_the_line_says_otherwise(self, cells):
        cells.ok("%config IsolatedMagic.rich = False")
        try:
            (plain,) = self.displays(cells, "%%isolated")
            (rich,) = self.displays(cells, "%%isolated --rich")
        finally:
            cells.ok("%config IsolatedMagic.rich = True")
        assert "text/html" not in plain
        assert "text/html" in rich
