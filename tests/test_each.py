"""``%%isolated --each``: a dataset scored from one cell."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

from isolated_magic import EvaluationResult

ROWS = [{"tenant": f"t{n % 3}", "n": n} for n in range(6)]
KEYS = {f"t{n}": f"sk-abcdef{n}" for n in range(3)}


@pytest.fixture(scope="module")
def session():
    shell = InteractiveShell()
    shell.run_line_magic("load_ext", "isolated_magic")
    yield shell
    shell.run_line_magic("unload_ext", "isolated_magic")


@pytest.fixture
def shell(session):
    session.user_ns.update(rows=[dict(row) for row in ROWS], keys=dict(KEYS))
    yield session
    session.user_ns.pop("scores", None)


def evaluated(shell, line, code="1.0"):
    """The value of a cell, which is bound to -o too."""
    result = shell.run_cell(f"%%isolated {line} -o scores\n{code}")
    assert result.success, result.error_in_exec
    assert result.result is shell.user_ns["scores"]
    assert isinstance(result.result, EvaluationResult)
    return result.result


def refusal(shell, line, code="1.0"):
    """What a cell that cannot run says."""
    result = shell.run_cell(f"%%isolated {line}\n{code}")
    assert type(result.error_in_exec).__name__ == "OptionError"
    return str(result.error_in_exec)


def values(result):
    return [row.scores[0].value if row.ok else row.error.summary for row in result]


def test_the_line_of_the_issue(shell, capsys):
    result = evaluated(
        shell,
        '--each rows --env TENANT_ID={row["tenant"]} --secret API_KEY={keys[row["tenant"]]}',
        "import os\nprint(os.environ['TENANT_ID'], os.environ['API_KEY'])\nassert os.environ['API_KEY'][-1] == "
        "os.environ['TENANT_ID'][-1]\ndata['n'] / 2",
    )
    assert values(result) == [n / 2 for n in range(6)]
    assert [row.stdout for row in result] == [f"t{n % 3} ***\n" for n in range(6)]
    assert "sk-abcdef" not in repr(result.rows) + capsys.readouterr().out
