"""``--with``, ``--python`` and script blocks in real kernels: what a cell shows, what is saved, and the commands."""

import json
import os
import subprocess
import sys

import pytest

from isolated_magic import IsolatedSubprocessExecutor
from isolated_magic.packages import uv
from tests.kernels import kernel
from tests.processes import wait_until
from tests.wheels import install_from, sdist, wheel

LOOK = "import tinyold\nfloat(tinyold.VERSION)"
PYTHON = ".".join(map(str, sys.version_info[:2]))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The kernel's folder, its cache, and a shelf of wheels, which is all that there is to install from."""
    folder = tmp_path_factory.mktemp("work")
    for version in ("1.0", "2.0", "3.0"):
        wheel(folder / "shelf", "tinyold", version)
    wheel(folder / "shelf", "tinyother", "1.0")
    sdist(folder / "shelf", "tinysource")
    sdist(folder / "shelf", "tinyslow", "import time\ntime.sleep(1000)")
    return folder


@pytest.fixture(scope="module")
def cells(work):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        install_from(work / "shelf", work, patch)
        with kernel() as started:
            yield started


def test_two_versions_in_one_notebook(cells):
    for version in ("1.0", "2.0"):
        shown = cells.ok(f'%%isolated --with "tinyold=={version}" -o made\n{LOOK}')
        assert shown.text.split()[1] == version[0]
        assert shown.metadata["isolated_magic_run"]["packages"]["tinyold"] == version
        assert "tinyold" not in shown.text + shown.data["text/html"]
        assert cells.ok("made.packages['tinyold']").text == f"'{version}'"
    assert cells.run(f"%%isolated\n{LOOK}").evalue.startswith("ModuleNotFoundError")


def test_the_comparison_says_which_packages_differ(cells):
    cells.ok(f'%%isolated --with "tinyold==1.0" -o before\n{LOOK}')
    shown = cells.ok(f'%%isolated --with "tinyold==2.0" --compare before\n{LOOK}')
    assert "packages (tinyold 2.0, before 1.0)" in shown.text


def test_a_script_block(cells):
    block = '# /// script\n# dependencies = ["tinyold<3"]\n# ///\n'
    assert cells.ok(f"%%isolated\n{block}{LOOK}").text.split()[1] == "2"
    assert "No module named 'IPython'" in cells.run(f"%%isolated\n{block}import IPython").evalue
    shown = cells.ok(f"%%isolated --with tinyother\n{block}import tinyother\n{LOOK}")
    assert shown.text.split()[1] == "2"


def test_bare(cells):
    assert cells.ok(f"%%isolated --bare --with tinyold\n{LOOK}").text.split()[1] == "3"
    assert "No module named 'IPython'" in cells.run("%%isolated --bare\nimport IPython").evalue


def test_the_rows_of_an_evaluation(cells):
    cells.ok("rows = [{'x': 1}, {'x': 2}]")
    cells.ok("%%isolated --each rows --with tinyold<3 -o made\nimport tinyold\nfloat(tinyold.VERSION) * data['x']")
    assert cells.ok("[row.scores[0].value for row in made]").text == "[2.0, 4.0]"
    shown = cells.run("%%isolated --each rows --with nosuch\n1")
    assert (shown.ename, "nosuch cannot be installed" in shown.evalue) == ("OptionError", True)


def test_in_the_background(cells):
    cells.ok(f"%%isolated --bg -o run --with tinyold<3\n{LOOK}")
    assert cells.ok("run.result().scores[0].value").text == "2.0"
    assert "nosuch cannot be installed" in cells.run("%%isolated --bg --with nosuch\n1").evalue


def test_a_setting(cells):
    cells.ok("%config IsolatedMagic.packages = ['tinyold<2']")
    try:
        assert cells.ok(f"%%isolated\n{LOOK}").text.split()[1] == "1"
        assert cells.ok(f"%%isolated --with tinyold<3\n{LOOK}").text.split()[1] == "2"
        assert cells.ok("%%isolated --executor process\n1").text.split()[1] == "1"
        block = "# /// script\n# dependencies = []\n# ///\n"
        assert "No module named 'tinyold'" in cells.run(f"%%isolated\n{block}{LOOK}").evalue
    finally:
        cells.ok("%config IsolatedMagic.packages = []")
    said = cells.run("%config IsolatedMagic.packages = 'tinyold'")
    assert "packages is 'tinyold': give a list of requirements" in said.stdout + said.stderr + (said.evalue or "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--with nosuch", "packages (--with): nosuch cannot be installed for Python "),
        ('--with "tiny old"', "'tiny old' is no requirement"),
        ("--with tinysource", "(--allow-build) allows that"),
        ("--python 9.9", "There is no Python 9.9 on this machine."),
        ("--upgrade", "this cell has none of its own: add --with NAME."),
        ("--executor process --with tinyold", "cannot be given to ProcessExecutor: its workers"),
        ("--executor process --python 3.12", "cannot be given to ProcessExecutor: its workers"),
        ("--pip tinyold", "did you mean --with?"),
    ],
)
def test_what_is_wrong_is_one_sentence(cells, line, said):
    shown = cells.run(f"%%isolated {line}\n1")
    assert (shown.ename, said in shown.evalue) == ("OptionError", True), shown.evalue
    assert "Traceback" not in shown.traceback


def test_a_build_that_is_allowed(cells):
    code = "import tinysource\nfloat(tinysource.VERSION)"
    assert cells.ok(f"%%isolated --with tinysource --allow-build\n{code}").text.split()[1] == "1"


def test_an_upgrade(cells, work):
    code = "import tinygrows\nfloat(tinygrows.VERSION)"
    for version, options, expected in (
        ("1.0", "", "1"),
        ("2.0", "", "1"),
        ("2.0", "--upgrade", "2"),
        ("2.0", "", "2"),
    ):
        wheel(work / "shelf", "tinygrows", version)
        assert cells.ok(f"%%isolated --with tinygrows {options}\n{code}").text.split()[1] == expected


def test_the_hint_for_a_missing_module(cells):
    shown = cells.run("%%isolated\nimport tinyold")
    assert "--with tinyold" in shown.traceback


class TestSaving:
    def test_the_file_has_a_block_and_runs_the_same(self, cells, work, monkeypatch):
        code = f"import yaml, json\n{LOOK} + len(yaml.safe_load('[1, 2]'))"
        said = cells.ok(f"%%isolated --with tinyold<3 --save saved.py\n{code}").stdout
        assert said.endswith("Wrote saved.py\n")
        text = (work / "saved.py").read_text()
        block = text[text.index("# /// script") :]
        assert f'# requires-python = "=={PYTHON}.*"' in block
        assert '#     "tinyold<3",\n#     "PyYAML==' in block
        assert text.index(code) < text.index(block)

    def test_a_bare_cell(self, cells, work):
        cells.ok(f"%%isolated --bare --with tinyold<3 --save bare.py\n{LOOK}")
        block = f'# /// script\n# requires-python = "=={PYTHON}.*"\n# dependencies = [\n#     "tinyold<3",\n# ]\n# ///\n'
        assert (work / "bare.py").read_text().endswith(f"{LOOK}\n\n\n{block}")
        assert cells.ok("%isolated run bare.py").text.split()[1] == "2"
        with IsolatedSubprocessExecutor(60) as executor:
            assert executor.execute(work / "bare.py")["scores"][0]["value"] == 2.0
        (work / "loud.py").write_text(f"{(work / 'bare.py').read_text()}\nprint(tinyold.VERSION)\n")
        command = [uv.find(), "run", "--no-project", work / "loud.py"]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "2.0\n"

    def test_one_without_packages_has_none(self, cells, work):
        cells.ok("%%isolated --save plain.py\n1")
        assert "script" not in (work / "plain.py").read_text()

    def test_a_cell_with_a_block_keeps_its_own(self, cells, work):
        block = '# /// script\n# dependencies = ["tinyold<3"]\n# ///\n'
        cells.ok(f"%%isolated --save own.py\n{block}{LOOK}")
        assert (work / "own.py").read_text().count("# /// script") == 1
        shown = cells.run(f"%%isolated --with tinyother --save other.py\n{block}{LOOK}")
        assert "the cell has an inline script block" in shown.evalue
        assert not (work / "other.py").exists()


class TestCommand:
    def test_it_lists_and_prunes(self, cells, work):
        cells.ok(f"%%isolated --with tinyold==3.0\n{LOOK}")
        said = cells.ok("%isolated packages").stdout
        assert said.splitlines()[0].split() == ["last", "used", "size", "Python", "packages"]
        assert any(line.split()[0] == "today" and line.endswith("tinyold==3.0") for line in said.splitlines())
        assert cells.ok("%isolated packages prune").stdout.startswith("Nothing to remove: ")
        for pointer in (work / "cache" / "isolated_magic" / "environments").glob("*.json"):
            if json.loads(pointer.read_text())["requirements"] == ["tinyold==3.0"]:
                os.utime(pointer, (1, 1))
        assert cells.ok("%isolated packages prune").stdout.startswith(
            "Removed 1 environment that was unused for 30 days: "
        )
        assert "tinyold==3.0" not in cells.ok("%isolated packages").stdout
        assert cells.ok(f"%%isolated --with tinyold==3.0\n{LOOK}").text.split()[1] == "3"

    def test_a_wrong_word(self, cells):
        assert cells.run("%isolated packages all").evalue == "%isolated packages takes prune, or nothing."


class TestProgress:
    def test_nobody_who_does_not_watch_sees_any(self, cells):
        shown = cells.ok("%%isolated --with tinyother --no-score\npass")
        assert (shown.stdout, shown.stderr, shown.results) == ("", "", [])

    def test_it_is_told_after_a_second_and_an_interrupt_ends_it(self, cells):
        cells.ok("%config IsolatedMagic.progress = 'on'")
        try:
            request = cells.start("%%isolated --with tinyslow --allow-build\n1")
            message = wait_until(lambda: _display_of(cells, request))
            assert "tinyslow" in message["content"]["data"]["text/plain"]
            cells.manager.interrupt_kernel()
            shown = cells.collect(request)
            assert shown.ename == "RunInterrupted"
            assert shown.data == {}  # the line is gone
        finally:
            cells.ok("%config IsolatedMagic.progress = 'auto'")
        assert cells.ok(f"%%isolated --with tinyold<3\n{LOOK}").text.split()[1] == "2"


def _display_of(cells, request):
    message = cells.client.get_iopub_msg(timeout=60)
    is_ours = message["parent_header"].get("msg_id") == request
    return message if is_ours and message["msg_type"] == "display_data" else None
