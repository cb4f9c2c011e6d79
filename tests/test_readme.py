"""The README is short and true, and what the manual says of the code and the tests is so."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from isolated_magic.magic import parser, settings
from tests.kernels import kernel
from tests.processes import HANG_GUARD_SECS

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MOST_LINES = 200


def manual():
    """Each page of the manual: the README, the Markdown beside the notebooks, and that in them."""
    yield README
    for page in sorted((ROOT / "notebooks").glob("*.md")):
        yield page.read_text()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text())["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


NAMED = sorted(set(re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", "\n".join(manual()))))


def test_it_is_a_front_door():
    assert len(README.splitlines()) <= MOST_LINES


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_its_links_lead_somewhere(link):
    assert (ROOT / link).exists()


def test_its_cells_show_what_it_says():
    blocks = re.findall(r"```(python|text)\n(.*?)```", README.partition("## Without a notebook")[0], re.DOTALL)
    kinds = [kind for kind, _ in blocks]
    assert kinds == ["python", "python", "text", "python", "python", "text"]
    with kernel() as started:
        for (kind, code), (next_kind, text) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
            if kind == "python":
                shown = started.run(code)
                assert shown.ename is None, shown.traceback
                assert next_kind != "text" or _without_ends(shown.stdout + shown.text) == _without_ends(text)


def test_the_library_returns_what_it_says():
    code = README.partition("## Without a notebook\n\n```python\n")[2].partition("```")[0]
    *lines, said = code.strip().splitlines()
    lines[-1] = f"    print({lines[-1].strip()})"
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=HANG_GUARD_SECS,
        check=True,
    )
    assert done.stdout.strip() == said.strip().removeprefix("# ")


def _without_ends(text):
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def test_the_manual_names_tests():
    assert len(NAMED) > 10


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_test_that_it_names_is_there(file, name):
    source = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^(class|def) {name}\b" if name else r"^\s*def test_", source, re.MULTILINE)


@pytest.mark.parametrize(
    "table",
    [parser.reference_table(), parser.commands_table(), settings.reference_table()],
    ids=["options", "commands", "settings"],
)
def test_the_tables_of_options_commands_and_settings_are_those_of_the_code(table):
    assert any(table in text for text in manual()), f"`make notebooks` puts this into the manual:\n{table}"


def test_the_pages_that_are_made_from_the_code_are_up_to_date():
    done = subprocess.run(
        [sys.executable, "notebooks/reference_pages.py", "--check"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=HANG_GUARD_SECS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
