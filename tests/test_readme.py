"""What the README says of the tests is true of them."""

import json
import re
from pathlib import Path

import pytest

from isolated_magic.magic import parser, settings

ROOT = Path(__file__).parents[1]
NAMED = sorted(set(re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", (ROOT / "README.md").read_text())))


def test_it_names_some():
    assert len(NAMED) > 10


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_test_that_it_names_is_there(file, name):
    source = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^(class|def) {name}\b" if name else r"^\s*def test_", source, re.MULTILINE)


def manual():
    """All that the manual says: the README, and the Markdown of the notebooks."""
    yield (ROOT / "README.md").read_text()
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(notebook.read_text())["cells"]
        yield from ("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize(
    "table", [parser.reference_table(), settings.reference_table()], ids=["options", "settings"]
)
def test_the_tables_of_options_and_settings_are_those_of_the_code(table):
    assert any(table in text for text in manual()), f"put this into the manual:\n{table}"
