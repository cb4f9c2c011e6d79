"""A whole dataset scored: one run for each row."""

import pytest

from isolated_magic import EvaluationResult, InvalidRequestError, IsolatedSubprocessExecutor

CODE = "1 / data['n']"


@pytest.fixture(scope="module")
def executor():
    with IsolatedSubprocessExecutor() as executor:
        yield executor


def test_each_row_has_its_scores_or_its_error(executor):
    result = executor.evaluate(CODE, [{"n": n} for n in (1, 2, 0, 4)])
    assert isinstance(result, EvaluationResult)
    assert [row.scores[0].value if row.ok else row.error.summary for row in result.rows] == [
        1.0,
        0.5,
        "ZeroDivisionError: division by zero (line 1)",
        0.25,
    ]
    assert result.failures == (result.rows[2],)
    assert not result.ok


def test_what_depends_on_the_row_is_a_function_of_it(executor):
    code = "import os\nprint(os.environ['TENANT_ID'])\n1"
    rows = [{"tenant": f"t{n}"} for n in range(5)]
    result = executor.evaluate(code, rows, env_vars=lambda row: {"TENANT_ID": row["tenant"]})
    assert [row.stdout for row in result] == [f"t{n}\n" for n in range(5)]


def test_rows_are_read_lazily_and_given_back_in_order(executor):
    read = []

    def rows():
        for n in range(1000):
            read.append(n)
            yield {"n": n + 1}

    results = executor.map(CODE, rows(), jobs=2)
    first = [next(results).scores[0].value for _ in range(3)]
    results.close()
    assert first == [1.0, 1 / 2, 1 / 3]
    assert len(read) < 100


def test_an_option_that_is_none(executor):
    with pytest.raises(
        TypeError, match="unexpected keyword argument 'job': the options of an evaluation are data"
    ):
        executor.evaluate(CODE, [], job=2)
    with pytest.raises(InvalidRequestError, match="jobs is 0: give a whole number, 1 or more"):
        executor.evaluate(CODE, [], jobs=0)
