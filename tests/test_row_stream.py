"""Rows with one value of `per` stream through one process; those of another never see it."""

import pytest

from isolated_magic import create_executor
from tests import daemon as daemons

STRATEGIES = ["isolated", "cold", "process", "docker"]


def by_tenant(row):
    return row["tenant"]


@pytest.fixture(scope="module", params=STRATEGIES)
def executor(request):
    settings = {}
    if request.param == "docker":
        daemon = request.getfixturevalue("daemon")
        settings = {"image": daemons.IMAGE, "base_url": daemon.url, "standby": 1}
    elif request.param == "cold":
        settings = {"launch": "cold"}
    name = "isolated" if request.param == "cold" else request.param
    with create_executor(name, timeout_secs=60, **settings) as made:
        yield made


@pytest.fixture(scope="module")
def isolated():
    with create_executor("isolated", timeout_secs=60) as made:
        yield made


METRIC = """
import builtins, ctypes, os, signal, subprocess, sys, time
builtins.code_runs = getattr(builtins, "code_runs", 0) + 1

class Faulty:
    made = 0

    def __init__(self):
        Faulty.made += 1
        self.rows = 0

    def score(self, n, do="", **_):
        self.rows += 1
        if do:
            builtins.exec(do)  # by name it would count as something that may use the data
        if do.endswith("return"):
            return object()
        return {"scores": [
            {"name": "n", "value": n},
            {"name": "rows", "value": self.rows},
            {"name": "made", "value": Faulty.made},
            {"name": "pid", "value": os.getpid()},
            {"name": "code", "value": builtins.code_runs},
        ]}

Faulty
"""
# As above, but run for each row.
CODE = METRIC.replace("\nFaulty\n", "\nFaulty().score(**data)\n")

FAULTS = {
    "exception": "raise KeyError('reference')",
    "exit": "sys.exit(3)",
    "exit with a message": "sys.exit('no more')",
    "hard exit": "os._exit(7)",
    "segfault": "ctypes.string_at(0)",
    "kill": "os.kill(os.getpid(), signal.SIGKILL)",
    "no result": "1; return",
}


def rows_with(fault, count=12, at=(3, 4, 9)):
    return [{"tenant": "a", "n": n, **({"do": fault} if n in at else {})} for n in range(count)]


def values(row):
    return {score.name: score.value for score in row.scores}


def told_of(error):
    """What is said of an error, but for the lines of code and their numbers."""
    return error.kind, error.text.splitlines()[-1], error.hint


@pytest.mark.parametrize("code", [METRIC, CODE], ids=["metric", "code"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_row_that_fails_takes_only_itself(isolated, fault, code):
    rows = rows_with(FAULTS[fault])
    result = isolated.evaluate(code, rows, per=by_tenant)
    alone = isolated.run(code, {**rows[3]})
    assert alone.error is not None
    assert [row.index for row in result.failures] == [3, 4, 9]
    for row in result.failures:
        assert told_of(row.error) == told_of(alone.error)
    assert [values(row)["n"] for row in result if row.ok] == [0, 1, 2, 5, 6, 7, 8, 10, 11]


def test_a_row_that_closes_what_is_ours_keeps_its_result(isolated):
    result = isolated.evaluate(METRIC, rows_with("os.closerange(3, 1000)"), per=by_tenant)
    assert [values(row)["n"] for row in result] == list(range(12))
    assert [values(row)["rows"] for row in result] == [1, 2, 3, 4, 1, 1, 2, 3, 4, 5, 1, 2]


def test_a_metric_is_made_once_and_other_code_runs_for_each_row(executor):
    rows = [{"tenant": f"t{n % 2}", "n": n} for n in range(10)]
    once = [values(row) for row in executor.evaluate(METRIC, rows, per=by_tenant)]
    assert [found["n"] for found in once] == list(range(10))
    assert [found["rows"] for found in once] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {(found["made"], found["code"]) for found in once} == {(1, 1)}
    each = [values(row) for row in executor.evaluate(CODE, rows, per=by_tenant)]
    assert [found["code"] for found in each] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert {(found["made"], found["rows"]) for found in each} == {(1, 1)}


def test_rows_of_different_values_never_meet(isolated):
    rows = [{"tenant": f"t{n % 7}", "n": n} for n in range(350)]
    result = isolated.evaluate(METRIC, rows, per=by_tenant, env_vars=lambda row: {"TENANT": row["tenant"]})
    pids = {}
    for row in result:
        pids.setdefault(row.row["tenant"], set()).add(values(row)["pid"])
    assert [len(found) for found in pids.values()] == [1] * 7
    assert len(set.union(*pids.values())) == 7
