"""What the README says of the tests is true of them."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = sorted(set(re.findall(r"`(?:tests/)?(test_\w+\.py)(?:::(\w+))?`", (ROOT / "README.md").read_text())))


def test_it_names_some():
    assert len(NAMED) > 10


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_each_test_that_it_names_is_there(file, name):
    source = (ROOT / "tests" / file).read_text()
    assert re.search(rf"^(class|def) {name}\b" if name else r"^\s*def test_", source, re.MULTILINE)
