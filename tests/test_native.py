"""Libraries of native code, whose threads and locks a fork could break: forked, cold, and many at a time."""

import importlib.util
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from isolated_magic import IsolatedSubprocessExecutor
from tests.processes import wait_until

pytestmark = pytest.mark.native

RUNS, THREADS = 36, 8
CAN_BE_AHEAD = {"duckdb", "grpc"}  # the others start threads, or change the environment, when they are imported
TIMEOUT_SECS = 120.0  # a guard against deadlocks: on a busy machine 36 runs that import scikit-learn take a while

# What each one imports, and code that uses it and comes to the sum of 100 numbers from data["n"] on.
LIBRARIES = {
    "polars": (
        ["polars"],
        """
import polars as pl

frame = pl.DataFrame({"key": ["a", "b"] * 50, "value": range(data["n"], data["n"] + 100)})
found = frame.group_by("key").agg(pl.col("value").sum()).sort("key")
float(found["value"].sum())
""",
    ),
    "pyarrow": (
        ["pyarrow", "pyarrow.compute", "pyarrow.parquet"],
        """
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

written = pa.BufferOutputStream()
pq.write_table(pa.table({"value": list(range(data["n"], data["n"] + 100))}), written)
table = pq.read_table(pa.BufferReader(written.getvalue()))
float(pc.sum(table["value"]).as_py())
""",
    ),
    "duckdb": (
        ["duckdb"],
        """
import duckdb

query = "select sum(i) from range(?, ?) numbers(i)"
float(duckdb.connect().execute(query, [data["n"], data["n"] + 100]).fetchone()[0])
""",
    ),
    "grpc": (
        ["grpc"],
        """
from concurrent import futures
import grpc

class Summing(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: str(sum(map(int, request.split()))).encode())

server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((Summing(),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}", [("grpc.enable_http_proxy", 0)]) as channel:
    numbers = " ".join(map(str, range(data["n"], data["n"] + 100)))
    answer = channel.unary_unary("/tests/sum")(numbers.encode(), timeout=60, wait_for_ready=True)
server.stop(None).wait()
float(answer)
""",
    ),
    "sklearn": (
        ["sklearn.cluster", "sklearn.linear_model"],
        """
import joblib
import numpy as np
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression
from threadpoolctl import threadpool_limits

x = np.arange(40.0).reshape(-1, 1)
y = x * np.arange(data["n"], data["n"] + 100)
with joblib.parallel_config(backend="threading"), threadpool_limits(2):
    one, two = (LinearRegression(positive=True, n_jobs=jobs).fit(x, y) for jobs in (1, 2))
    inertia = KMeans(2, n_init=1, random_state=0).fit(np.array([[0.0], [9.0]] * 300)).inertia_
assert np.array_equal(one.coef_, two.coef_), "two threads find something else than one"
float(round(two.coef_.sum() + inertia, 3))
""",
    ),
    "torch": (
        ["torch"],
        """
import torch

torch.set_num_threads(2)
ones = torch.ones(256, 256)
assert (ones @ ones == 256).all()
float(torch.arange(data["n"], data["n"] + 100).sum())
""",
    ),
}


def expected(n):
    return sum(range(n, n + 100))


@pytest.fixture(scope="module", params=LIBRARIES)
def library(request):
    """Its modules and its code. Afterwards nothing of its runs is left."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    before = set(psutil.Process().children(recursive=True))
    yield LIBRARIES[request.param]
    wait_until(lambda: set(psutil.Process().children(recursive=True)) <= before)


@pytest.fixture(scope="module")
def forked(library):
    """An executor, and whether the library is there before a run imports it."""
    with IsolatedSubprocessExecutor(TIMEOUT_SECS, launch="forked", preload=library[0]) as executor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it starts threads and is not imported ahead
            executor.warm_up(TIMEOUT_SECS)
        names = repr(library[0])
        found = executor.run(
            f"import sys\nlen({names}) / 2 if all(name in sys.modules for name in {names}) else -1"
        )
        yield executor, found["score"].value > 0


def test_cold(library):
    with IsolatedSubprocessExecutor(TIMEOUT_SECS, launch="cold") as executor:
        result = executor.run(library[1], {"n": 7})
    assert result.error is None
    assert (result.launch, result["score"].value) == ("cold", expected(7))


def test_forked(library, forked):
    executor, is_ahead = forked
    assert is_ahead or library[0][0] not in CAN_BE_AHEAD
    for n in range(2):
        result = executor.run(library[1], {"n": n})
        assert result.error is None
        assert result["score"].value == expected(n)
        assert result.launch == "forked" or not is_ahead


def test_many_at_a_time(library, forked):
    executor, is_ahead = forked
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(lambda n: executor.run(library[1], {"n": n}), range(RUNS)))
    assert [result.error for result in results] == [None] * RUNS
    assert [result["score"].value for result in results] == [expected(n) for n in range(RUNS)]
    assert {result.launch for result in results} == {"forked"} or not is_ahead


FRAMES = """
import datetime
import polars as pl
import pyarrow as pa

columns = {"n": [1, 2], "text": ["é", None], "at": [datetime.datetime(2026, 1, 2), None], "more": [[0.5], []]}
rows = [{"n": 1, "text": "é", "at": "2026-01-02T00:00:00", "more": [0.5]}, {"n": 2, "text": None, "at": None, "more": []}]
kinds = {"pl": pl.DataFrame(columns), "pa": pa.table(columns), "column": pl.Series([1, 2]), "array": pa.array([1, None])}
expected = {"pl": rows, "pa": rows, "column": [1, 2], "array": [1, None]}
large = {"pl": pl.concat([kinds["pl"]] * 1000), "pa": pa.concat_tables([kinds["pa"]] * 1000)}
code = "import json\\nprint(json.dumps({'back': data}))"
with IsolatedSubprocessExecutor(60) as executor:
    assert executor.execute(code, kinds) == {"back": expected}
    assert executor.execute(code, large) == {"back": {name: rows * 1000 for name in large}}
    hint = executor.run("data['pl'].columns", kinds).error.hint
    assert hint.endswith('make one of it with pl.DataFrame(data["pl"]).'), hint
"""


@pytest.mark.parametrize("needed", ["polars"])
def test_frames_of_other_libraries_are_data(needed):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    code = f"from isolated_magic import IsolatedSubprocessExecutor\n{FRAMES}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT_SECS)
