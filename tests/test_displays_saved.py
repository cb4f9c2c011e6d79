"""A notebook with displays, executed and saved by nbconvert, is the same when nbval runs it again."""

import os
import subprocess
import sys

import nbformat
import pytest

CELLS = [
    "%load_ext isolated_magic",
    "%%isolated\nimport pandas as pd\nframe = pd.DataFrame({'a': [1, 2]})\nprint('a')\ndisplay(object(), frame)\nprint('b')\nframe.style.bar()",
    "%%isolated\nimport matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\n0.5",
    "%config InlineBackend.figure_formats = ['svg']",
    "%%isolated\nimport matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.show()\n0.5",
    "%%isolated\nimport plotly.graph_objects as go\ngo.Figure(go.Bar(y=[1, 2]))",
    "%%isolated\nimport altair, pandas\naltair.Chart(pandas.DataFrame({'a': [1, 2]})).mark_bar().encode(x='a')",
    "%%isolated\nhandle = display('one', display_id=True)\nhandle.update('two')\n1",
    "%%isolated\nfrom IPython.display import HTML, Latex, Markdown\ndisplay(HTML('<b>x</b>'), Markdown('**m**'), Latex('$x$'))\n1",
    "%%isolated\nfrom rich.table import Table\nfrom rich import print\ntable = Table('a')\ntable.add_row('1')\nprint(table)\n1",
    "%isolated history",
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "displays.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, CELLS))), path)
    run = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", path.name]
    subprocess.run(run, cwd=path.parent, check=True, capture_output=True)
    return path


def test_it_has_what_was_displayed(saved):
    cells = nbformat.read(saved, 4).cells
    found = [{mime for output in cell.outputs for mime in output.get("data", {})} for cell in cells]
    assert "text/html" in found[1]
    assert "image/png" in found[2]
    assert "image/svg+xml" in found[4]
    assert "application/vnd.plotly.v1+json" in found[5]
    assert "text/markdown" in found[8]
    assert cells[7].outputs[0].data["text/plain"] == "'two'"


def test_it_is_the_same_again(saved):
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    options = ["-p", "nbval.plugin", "-p", "no:cacheprovider", "-c", os.devnull, "--nbval"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, saved.name],
        cwd=saved.parent,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(CELLS)} passed" in done.stdout
