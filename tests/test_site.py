"""The site of the manual: it builds without a warning, its links lead somewhere, and it needs no network."""

import re
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest
from playwright.sync_api import expect

from tests.processes import HANG_GUARD_SECS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the browser of the tests is that of Linux")

ROOT = Path(__file__).parents[1]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "sphinx",
            "-q",
            "-W",
            "-n",
            "--keep-going",
            "-c",
            "notebooks/site",
            "notebooks",
            folder,
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=2 * HANG_GUARD_SECS,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return folder


@pytest.fixture(scope="module")
def address(site):
    """Where the site is served: on this machine, to which a page may go."""
    handler = partial(Quiet, directory=site)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Nothing: pytest shows what is written to stderr."""


@pytest.fixture
def look(browser, address):
    """Opens a page of the site at a size; fails when the page asked for anything that is not there, or not here."""
    contexts, wrong = [], []

    def opened(name, size, scheme="light"):
        context = browser.new_context(viewport=size, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.on("response", lambda response: wrong.append(response.url) if response.status >= 400 else None)
        page.on("request", lambda request: None if request.url.startswith(address) else wrong.append(request.url))
        page.on("pageerror", lambda problem: wrong.append(str(problem)))
        page.goto(f"{address}/{name}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not wrong


def pages():
    return sorted(path.stem for suffix in ("ipynb", "md") for path in (ROOT / "notebooks").glob(f"*.{suffix}"))


def test_each_page_of_the_manual_is_there_and_in_the_contents(site):
    contents = (site / "index.html").read_text()
    for name in pages():
        assert (site / f"{name}.html").exists()
        assert name == "index" or f'href="{name}.html"' in contents, f"{name} is not in notebooks/index.md"


def test_each_link_inside_leads_somewhere(site):
    texts = {path: path.read_text() for path in site.glob("*.html")}
    ids = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in texts.items()}
    broken = []
    for page, text in texts.items():
        for link in re.findall(r'<(?:a|img|link|script)\b[^>]*?\b(?:href|src)="([^"]+)"', text):
            if re.match(r"[a-z]+:", link):
                continue
            address, fragment = urldefrag(link)
            target = page.parent / unquote(address.partition("?")[0]) if address else page
            if not target.exists() or (fragment and target in ids and unquote(fragment) not in ids[target]):
                broken.append(f"{page.name}: {link}")
    assert not broken


@pytest.mark.parametrize("size", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_no_page_is_wider_than_the_window(look, size):
    page = look("index.html", size)
    for name in pages():
        page.goto(f"{page.url.rpartition('/')[0]}/{name}.html")
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], name


def test_a_search_finds_an_option(look):
    page = look("search.html", DESKTOP)
    page.goto(f"{page.url}?q=checkpoint")
    expect(page.locator("#search-results a", has_text="Scoring a dataset").first).to_be_visible()


def test_it_is_dark_where_the_reader_is(look):
    page = look("quickstart.html", DESKTOP, "dark")
    background = "getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)"
    assert max(page.evaluate(background)[:3]) < 64
    page.emulate_media(color_scheme="light")
    assert min(page.evaluate(background)[:3]) > 192
