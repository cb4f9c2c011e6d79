"""An evaluation of many rows from one cell of a real kernel: some fail in every way there is, and the kernel is killed.

Whatever happens, each row that can be scored has the right score, each other one its cause, nothing is left of any
process, and a row that was scored is not run again.
"""

import hashlib
import json
import os
import signal
import sys
from collections import Counter

import psutil
import pytest

from tests.kernels import kernel
from tests.processes import is_alive, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="subreapers are Linux's")

EVALUATION_SECS = 900  # hang guard of a cell: half a minute is enough
LEFT_BEHIND = "4711.5"  # seconds that a process which a row leaves behind would sleep

# What is wrong with a row, and what its error says: its kind, and words of its sentence.
FAULTS = {
    "exception": ("user_code", "ValueError: a bad row"),
    "timeout": ("timeout", "timed out after 6 seconds"),
    "segfault": ("died", "SIGSEGV"),
    "exit": ("no_result", "exit status 3"),
    "kill": ("died", "SIGKILL"),
    "memory": ("limit", "memory limit 256 MB exceeded"),
    "flood": ("timeout", "timed out after 6 seconds"),
    "unserialisable": ("no_result", "returned an object"),
    "no result": ("no_result", "returned None"),
    "bad data": ("invalid_request", 'data["text"]: set'),
}

# Rows of so many tenants, one in fifty with a fault, made the same way here and in the kernel.
MAKE_ROWS = f"""
import random

FAULTS = {list(FAULTS)!r}

def make_rows(count, tenants):
    rows = [{{"id": n, "tenant": f"t{{n % tenants}}", "text": f"answer {{n}}", "fault": None}} for n in range(count)]
    chance = random.Random(17)
    for number, row in enumerate(chance.sample(rows, count // 50)):
        row["fault"] = FAULTS[number % len(FAULTS)]
        if row["fault"] == "bad data":
            row["text"] = {{"a", "set"}}
    chance.shuffle(rows)
    return rows
"""

METRIC = f"""
import builtins, ctypes, hashlib, os, signal, subprocess, sys, time

def fail():
    raise ValueError("a bad row")

def leave_a_process():
    subprocess.Popen(["sleep", "{LEFT_BEHIND}"], start_new_session=True)
    time.sleep(600)

def flood():
    while True:
        print("x" * 1000)

FAILS = {{
    "exception": fail,
    "timeout": leave_a_process,
    "segfault": lambda: ctypes.string_at(0),
    "exit": lambda: sys.exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": lambda: bytearray(1 << 30),
    "flood": flood,
    "unserialisable": object,
    "no result": lambda: None,
}}

class Faithful:
    def __init__(self):
        self.tenant = os.environ["TENANT_ID"]

    def score(self, id, tenant, text, fault):
        with open(os.environ["LOG"], "a") as log:
            log.write(f"{{id}} {{os.getpid()}}\\n")
        builtins.met = getattr(builtins, "met", set()) | {{tenant, self.tenant, os.environ["TENANT_ID"]}}
        if met != {{tenant}}:
            raise AssertionError("another tenant was here")
        if fault is not None:
            return FAILS[fault]()
        print("scored for", os.environ["TENANT_ID"], "with", os.environ["API_KEY"])
        digest = hashlib.sha256(f"{{id}} {{text}} {{os.environ['API_KEY']}}".encode()).hexdigest()
        return {{"scores": [{{"name": "digest", "value": int(digest[:8], 16) / 16**8}}, {{"name": "length", "value": len(text)}}]}}

Faithful
"""

CELL = """%%isolated --each rows {how} --key row["id"] -e TENANT_ID={{row["tenant"]}} -e LOG={{log}} --secret API_KEY={{keys[row["tenant"]]}} --timeout 6 --memory 256M --max-output 64K --jobs 6 -o scores
"""
TABLE = """
import json

told = [
    (row.key, row.row["tenant"], {score.name: score.value for score in row.scores}, row.stdout,
     row.error and (row.error.kind, row.error.summary), row.index)
    for row in scores.rows
]
print(json.dumps(told))
"""


def key_of(tenant):
    return f"credential of {tenant} alone"


class Evaluation:
    """One cell over so many rows, run in as many kernels as it takes."""

    def __init__(self, folder, count, tenants, how):
        self.log = folder / "log"
        self.count, self.how = count, how
        names = {}
        exec(MAKE_ROWS, names)
        self.rows = names["make_rows"](count, tenants)
        self.setup = (
            f"{MAKE_ROWS}\nrows = make_rows({count}, {tenants})\nlog = {str(self.log)!r}\n"
            "keys = {row['tenant']: f\"credential of {row['tenant']} alone\" for row in rows}"
        )
        self.cell = CELL.format(how=how) + METRIC

    def runs(self):
        """The id of the row and the pid of each run that was begun."""
        return [tuple(map(int, line.split())) for line in self.log.read_text().splitlines()]

    def table(self, kernel):
        """What all rows came to, by the notebook's own variable."""
        return json.loads(kernel.ok(TABLE).stdout)

    def check(self, table):
        """Each row that can be scored has the right score, each other one its cause."""
        assert [(key, index) for key, *_, index in table] == [
            (str(row["id"]), number) for number, row in enumerate(self.rows)
        ]
        for row, (_, tenant, scores, stdout, error, _) in zip(self.rows, table, strict=True):
            assert tenant == row["tenant"]
            if row["fault"] is None:
                text = f"{row['id']} {row['text']} {key_of(tenant)}"
                digest = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 16**8
                assert (scores, error) == ({"digest": digest, "length": len(row["text"])}, None), row
                assert stdout == f"scored for {tenant} with ***\n"
            else:
                kind, words = FAULTS[row["fault"]]
                assert not scores
                assert (error[0], words in error[1]) == (kind, True), (row, error)

    def check_nothing_is_left(self):
        pids = {pid for _, pid in self.runs()}
        left = [one for one in psutil.process_iter(["cmdline"]) if LEFT_BEHIND in (one.info["cmdline"] or ())]
        assert not left
        assert not [pid for pid in pids if is_alive(pid)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """5,000 rows of 50 tenants in a process for each tenant: the evaluation, its table, and what the cell showed."""
    evaluation = Evaluation(tmp_path_factory.mktemp("undisturbed"), 5000, 50, '--per row["tenant"]')
    with kernel() as started:
        started.ok(evaluation.setup)
        shown = started.ok(evaluation.cell, EVALUATION_SECS)
        evaluation.check_nothing_is_left()
        yield evaluation, evaluation.table(started), shown


class TestEachRowByItself:
    def test_in_a_process_for_each_tenant(self, undisturbed):
        evaluation, table, shown = undisturbed
        evaluation.check(table)
        assert "4,900 of 5,000 scored" in shown.text
        assert "100 failed" in shown.text
        ran = evaluation.runs()
        assert Counter(row for row, _ in ran) == {
            row["id"]: 1 for row in evaluation.rows if row["fault"] != "bad data"
        }

    def test_in_a_process_for_each_row(self, tmp_path):
        evaluation = Evaluation(tmp_path, 500, 10, "")
        with kernel() as started:
            started.ok(evaluation.setup)
            shown = started.ok(evaluation.cell, EVALUATION_SECS)
            evaluation.check_nothing_is_left()
            evaluation.check(evaluation.table(started))
        assert "490 of 500 scored" in shown.text
        ran = evaluation.runs()
        assert len({pid for _, pid in ran}) == len(ran) == 499


class TestKilledKernel:
    def test_the_cell_goes_on_where_it_was(self, undisturbed, tmp_path):
        _, expected, shown_undisturbed = undisturbed
        file = tmp_path / "scores.jsonl"
        evaluation = Evaluation(tmp_path, 5000, 50, f'--per row["tenant"] --checkpoint {file}')
        with kernel() as started:
            started.ok(evaluation.setup)
            started.start(evaluation.cell)
            wait_until(lambda: file.exists() and file.read_bytes().count(b"\n") > 2000, EVALUATION_SECS)
            os.kill(started.pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(started.pid))
        wait_until(lambda: not [pid for _, pid in evaluation.runs() if is_alive(pid)])
        evaluation.check_nothing_is_left()

        begun = len(evaluation.runs())
        scored = scored_keys(file)
        assert 1900 < len(scored) < 4900
        with kernel() as started:
            started.ok(evaluation.setup)
            shown = started.ok(evaluation.cell, EVALUATION_SECS)
            evaluation.check_nothing_is_left()
            assert evaluation.table(started) == expected
        again = Counter(str(row) for row, _ in evaluation.runs()[begun:])
        assert not again.keys() & scored
        assert set(again.values()) == {1}
        assert without_resumption(shown.text) == shown_undisturbed.text
        assert "credential" not in file.read_text()


def scored_keys(file):
    """The keys of the rows that a checkpoint has scores of. Its last line may be torn."""
    lines = [json.loads(line) for line in file.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return {line["key"] for line in lines if "key" in line and line.get("error") is None}


def without_resumption(text):
    """What a cell showed, without the sentence that says what came from the checkpoint."""
    lines = text.splitlines(keepends=True)
    said = [line for line in lines if "come from the checkpoint" in line]
    assert len(said) == 1
    return "".join(line for line in lines if line not in said)
