"""Hints: what an error of the code says about the notebook, its packages and its data."""

import sys

import numpy as np
import pandas as pd
import pytest

from tests.runs import as_text, run_cell


class TestImports:
    def test_a_missing_package(self, executor):
        result = run_cell(executor, "import nothing_of_this_name.part")
        error = result.error
        assert f"The run used {sys.executable} (Python {sys.version.split()[0]})" in error.hint
        assert f"{sys.executable} -m pip install nothing_of_this_name" in error.hint
        assert "%pip install nothing_of_this_name" in error.hint
        assert error.text.splitlines()[-1] == "ModuleNotFoundError: No module named 'nothing_of_this_name'"
        assert result.to_dict()["error"] == f"{error.text}\n\n{error.hint}"
        assert as_text(result).endswith(f"----> 2 import nothing_of_this_name.part\n\n{error.hint}")

    def test_a_package_with_another_name(self, executor):
        assert "pip install opencv-python" in run_cell(executor, "import cv2").error.hint

    def test_a_name_that_a_module_has_not(self, executor):
        hint = run_cell(executor, "from pandas import nothing").error.hint
        assert sys.executable in hint
        assert "with pandas " in hint
        assert "pip install" not in hint

    def test_a_submodule_that_is_not_there(self, executor):
        hint = run_cell(executor, "import json.nothing").error.hint
        assert sys.executable in hint
        assert "pip install" not in hint

    def test_other_errors_have_none(self, executor):
        assert run_cell(executor, "1/0").error.hint == ""

    def test_in_a_cell(self, cells):
        shown = cells.run("%%isolated\nimport nothing_of_this_name")
        assert "pip install nothing_of_this_name" in shown.traceback
        shown = cells.ok("%%isolated --no-raise\nimport nothing_of_this_name")
        for kind in ("text/plain", "text/html", "text/markdown"):
            assert "pip install nothing" in shown.data[kind].replace("\\", "")


class TestNames:
    @pytest.mark.parametrize(
        ("code", "hint"),
        [
            ("np.mean([1])", "np is not imported in this code: import numpy as np."),
            ("plt.plot([1])", "plt is not imported in this code: import matplotlib.pyplot as plt."),
            (
                "def f():\n    return pandas.DataFrame()\nf()",
                "pandas is not imported in this code: import pandas.",
            ),
            ("get_ipython()", "get_ipython() is IPython's"),
            ("nothing_of_this_name", ""),
            ("raise NameError('np')", ""),
            ("raise NameError('odd', name=['np'])", ""),
        ],
    )
    def test_what_notebooks_mostly_have(self, executor, code, hint):
        error = run_cell(executor, code).error
        assert (hint in error.hint) if hint else error.hint == ""

    @pytest.mark.parametrize(
        ("line", "code"),
        [
            ("import numpy as np", "np.mean([1])"),
            ("import pandas", "def f():\n    return len(pandas.DataFrame())\nf()"),
        ],
    )
    def test_the_line_that_is_told_is_all_that_is_needed(self, executor, line, code):
        assert line in run_cell(executor, code).error.hint
        assert run_cell(executor, f"{line}\n{code}").ok


FRAME = pd.DataFrame({"answer": ["a", "b"], "n": [1, 2]})
OF_FRAME = 'data["df"] was a DataFrame and arrived as a list of its rows, each a dict: make one of it with pd.DataFrame(data["df"]).'
OF_COLUMN = 'data["s"] was a Series and arrived as a list: make one of it with pd.Series(data["s"]).'
OF_ARRAY = 'data["a"] was a ndarray and arrived as a list: make one of it with np.array(data["a"]).'
OF_ROW = 'data["row"] was a Series and arrived as a dict: make one of it with pd.Series(data["row"]).'


class TestArrivals:
    @pytest.mark.parametrize(
        ("code", "hint"),
        [
            ("data['df'].iloc[0]", OF_FRAME),
            ("x = data['df']\nx.columns", OF_FRAME),
            ("def f(frame):\n    return frame.groupby('answer')\nf(data['df'])", OF_FRAME),
            ("data['df'].answer", OF_FRAME),
            ("data['df']['answer']", OF_FRAME),
            ("data['s'].mean()", OF_COLUMN),
            ("data['s'] * 2.5", OF_COLUMN),
            ("data['s'] > 1", OF_COLUMN),
            ("1 + data['s']", OF_COLUMN),
            ("data['s'] / data['s']", OF_COLUMN),
            ("data['a'].shape", OF_ARRAY),
            ("data['a'][0, 1]", OF_ARRAY),
            ("-data['a']", OF_ARRAY),
            ("data['row'].iloc[0]", OF_ROW),
            ("data['plain'].shape", ""),
            ("data['plain'] + 1", ""),
            ("data['df'][5]", ""),
            ("data['plain'].push(1)", ""),
            ("raise TypeError(data['df'])", ""),
        ],
    )
    def test_a_frame_that_arrived_as_a_list_is_told(self, executor, code, hint):
        data = {"df": FRAME, "s": FRAME["n"], "a": FRAME.to_numpy(), "row": FRAME.iloc[0], "plain": [1, 2]}
        assert run_cell(executor, code, data=data).error.hint == hint

    def test_what_is_told_works(self, executor):
        code = "import numpy as np\nimport pandas as pd\n"
        data = {"df": FRAME, "s": FRAME["n"], "a": np.array([[1, 2]])}
        value = f"{code}float(pd.DataFrame(data['df']).n.mean() + pd.Series(data['s']).max() + np.array(data['a'])[0, 1])"
        assert run_cell(executor, value, data=data)["score"].value == 5.5

    def test_in_a_metric_with_all_of_the_data(self, executor):
        metric = "class BaseMetric: pass\nclass M(BaseMetric):\n    def score(self, df, **_):\n        return df.shape[0]"
        assert run_cell(executor, metric, data={"df": FRAME}).error.hint == OF_FRAME
        error = run_cell(executor, "data.shape", data=FRAME, payload_type="trace_thread").error
        assert error.hint.startswith("data was a DataFrame")
        assert error.hint.endswith("pd.DataFrame(data).")

    def test_in_a_cell(self, cells):
        cells.ok("import pandas as pd\nframe = pd.DataFrame({'n': [1]})")
        shown = cells.run("%%isolated -d df=$frame\ndata['df'].mean()")
        assert OF_FRAME in " ".join(shown.traceback.split())
