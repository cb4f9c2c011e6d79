"""Where rows come from: what each source yields, how many, and what is said about those that are none."""

import gzip
import io
import json
import math
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isolated_magic import InvalidRequestError, MissingLibraryError
from isolated_magic.evaluation.columns import ROWS_AT_ONCE
from isolated_magic.evaluation.rows import row_source

ROWS = [{"n": 1, "who": "a"}, {"n": 2, "who": "b"}]


def rows_of(rows):
    """All rows, once it is sure that the source says the same of itself in each of its ways."""
    source = row_source(rows)
    found = list(source.rows)
    assert source.count in {None, len(found)}
    if source.at is not None:
        assert [repr(source.at(n)) for n in range(len(found))] == [repr(row) for row in found]
    return found


class Indexed:
    """Like a dataset of torch: no iterator, and an index beyond its end is an error of its own."""

    def __len__(self):
        return len(ROWS)

    def __getitem__(self, index):
        assert index < len(ROWS)
        return ROWS[index]


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        tuple(ROWS),
        {row["who"]: row for row in ROWS}.values(),
        {"n": [1, 2], "who": ("a", "b")},
        {"n": np.array([1, 2]), "who": pd.Series(["a", "b"], index=[7, 8])},
        {"n": range(1, 3), "who": pd.Index(["a", "b"])},
        pd.DataFrame(ROWS),
        pd.DataFrame(ROWS, index=["x", "x"]),
        pd.DataFrame(ROWS).set_index("n"),
        np.array([(1, "a"), (2, "b")], dtype=[("n", "i8"), ("who", "U1")]),
        np.array(ROWS),
        pd.Series(ROWS, index=["x", "y"]),
        type("Columns", (dict,), {"__module__": "datasets.mine"})({"n": [1, 2], "who": ["a", "b"]}),
        Indexed(),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_what_has_rows(rows):
    assert rows_of(rows) == ROWS
    assert row_source(rows).count == 2


def test_a_frame_without_columns_has_empty_rows():
    assert rows_of(pd.DataFrame(index=[1, 2])) == [{}, {}]
    assert rows_of(pd.DataFrame()) == []


def test_a_dataset_of_opik():
    code = """
from opik.api_objects.dataset.dataset import Dataset
from isolated_magic.evaluation.rows import row_source

class Kept(Dataset):  # a server would have its items
    def __init__(self):
        pass
    def get_items(self):
        return [{"id": "1", "n": 1}, {"id": "2", "n": 2}]

print(list(row_source(Kept()).rows))
"""
    env = {**os.environ, "OPIK_TRACK_DISABLE": "true", "OPIK_ANALYTICS_ENABLE": "false"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert ran.stdout.splitlines()[-1] == "[{'id': '1', 'n': 1}, {'id': '2', 'n': 2}]"


def test_an_iterator_is_read_no_further_than_it_is_asked():
    read = []

    def rows():
        for row in ROWS:
            read.append(row)
            yield row

    source = row_source(rows())
    assert read == []
    assert next(source.rows) == ROWS[0]
    assert (read, source.count, source.at) == (ROWS[:1], None, None)


def test_values_of_a_frame_are_what_the_code_gets():
    frame = pd.DataFrame(
        {
            "nullable": pd.array([1, None], "Int64"),
            "number": np.array([0.5, math.nan], "float32"),
            "when": pd.to_datetime(["2024-02-29", None]),
            "kind": pd.Categorical(["u", "v"]),
            "object": [{"k": np.int64(1)}, np.float64(2.5)],
            3: [True, False],
        }
    )
    first, second = rows_of(frame)
    assert first == {
        "nullable": 1,
        "number": 0.5,
        "when": "2024-02-29T00:00:00",
        "kind": "u",
        "object": {"k": 1},
        "3": True,
    }
    assert math.isnan(second.pop("number"))
    assert second == {"nullable": None, "when": None, "kind": "v", "object": 2.5, "3": False}
    assert [type(value) for value in second.values()] == [type(None), type(None), str, float, bool]


def test_a_frame_is_not_made_into_dicts_all_at_once():
    frame = pd.DataFrame({name: np.arange(200_000) for name in "abcd"})
    list(row_source(frame.head(2)).rows)  # what it imports
    tracemalloc.start()
    try:
        count = sum(1 for _ in row_source(frame).rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 200_000
    assert peak < 4 << 20  # all dicts would take some 60 MB


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("hello", "rows is text, and there is no file 'hello': give the path of a .jsonl, "),
        ("x" * 5000, r"there is no file 'x{80}\.\.\.': give the path"),
        ("a\0b", "there is no file"),
        ("none.csv", r"^There is no file 'none\.csv'\.$"),
        (Path("none"), "^There is no file 'none'"),
        (b"[]", "rows is bytes: give a list of dicts, "),
        (5, "rows is int: give a list of dicts, "),
        (None, "rows is NoneType: give"),
        (rows_of, "rows is a function: call it, or give a list"),
        (dict, "rows is a class: give"),
        (io.StringIO("{}"), "rows is an open file: give its path, or give"),
        ({"n": 1}, r"rows is a dict, and rows\['n'\] is int, which is no column: for one row, give \[row\]; for"),
        ({"n": [1], "who": "a"}, r"rows\['who'\] is str, which is no column"),
        ({"a": {"n": 1}}, r"rows\['a'\] is dict, which is no column: give list\(rows.values"),
        ({"n": [1, 2], "m": [1]}, "The columns in rows have different lengths: n has 2, m has 1"),
        (np.zeros((2, 3)), r"an array of 2 dimensions, whose columns have no names: give pandas.DataFrame\("),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "several columns called 'a': rename all but one"),
        (
            pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])),
            r"called \('a', 'b'\), which is no",
        ),
    ],
)
def test_what_has_none(rows, told):
    with pytest.raises(InvalidRequestError, match=told) as problem:
        row_source(rows)
    assert "\n" not in str(problem.value)


class TestFiles:
    @pytest.fixture
    def write(self, tmp_path):
        def write(name, content):
            path = tmp_path / name
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            return path

        return write

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("r.jsonl", '\ufeff{"n": 1, "who": "a"}\n\n{"n": 2, "who": "b"}'),
            ("r.ndjson", '{"n": 1, "who": "a"}\r\n{"n": 2, "who": "b"}\r\n'),
            ("r.jsonl.gz", gzip.compress(b'{"n": 1, "who": "a"}\n{"n": 2, "who": "b"}\n', mtime=0)),
            ("r.json", json.dumps(ROWS, indent=1)),
            ("r.json", '{"n": [1, 2], "who": ["a", "b"]}'),
            ("r.json", '{"n": 1, "who": "a"}\n{"n": 2, "who": "b"}\n'),
            ("r.csv", "n,who\n1,a\n\n2,b\n"),
            ("r.csv", '\ufeffn;who\r\n1;"a"\r\n2;b'),
            ("r.csv", ",n,who\n0,1,a\n1,2,b\n"),  # with the index, as pandas writes it
            ("r.csv.gz", gzip.compress(b"n,who\n1,a\n2,b\n", mtime=0)),
            ("R.CSV", "n,who\n1,a\n2,b\n"),
            ("r.tsv", "n\twho\n1\ta\n2\tb\n"),
        ],
    )
    def test_rows(self, write, name, content):
        path = write(name, content)
        assert rows_of(path) == rows_of(str(path)) == ROWS
        assert row_source(path).count == 2

    def test_a_path_in_the_home_folder(self, write, tmp_path, monkeypatch):
        write("r.jsonl", '{"n": 1}\n')
        monkeypatch.setenv("HOME", str(tmp_path))
        assert rows_of("~/r.jsonl") == [{"n": 1}]

    def test_cells_are_numbers_where_all_of_their_column_are(self, write):
        long = "x" * 300_000
        path = write(
            "r.csv",
            "whole,gaps,part,zip,phone,truth,mixed,text,none\n"
            f'12,,0.5,01234,+49,True,1,"{long}",\n'
            '-3,7,1e3,10115,+33,false,x,"say ""a,\nb""",\n',
        )
        assert rows_of(path) == [
            {"whole": 12, "gaps": None, "part": 0.5, "zip": "01234", "phone": "+49", "truth": True}
            | {"mixed": "1", "text": long, "none": ""},
            {"whole": -3, "gaps": 7, "part": 1000.0, "zip": "10115", "phone": "+33", "truth": False}
            | {"mixed": "x", "text": 'say "a,\nb"', "none": ""},
        ]

    def test_kinds_of_cells_do_not_depend_on_where_they_are_read(self, write):
        path = write("r.csv", "n\n" + "1\n" * (2 * ROWS_AT_ONCE) + "one\n")
        assert {type(row["n"]) for row in rows_of(path)} == {str}

    def test_a_file_is_not_held_in_memory(self, write):
        path = write("r.jsonl", "".join(json.dumps({"n": n, "text": "x" * 200}) + "\n" for n in range(50_000)))
        tracemalloc.start()
        try:
            assert sum(1 for _ in row_source(path).rows) == 50_000
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < path.stat().st_size / 5

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            (
                "r.jsonl",
                '{"n": 1}\n{"key": "hunter2"\n',
                r"r\.jsonl, line 2: this is no JSON \(Expecting ',' delimiter",
            ),
            ("r.jsonl", '{"n": 1}\n{"n": 1, "n": 2}\n', 'line 2: its JSON has the key "n" twice in one object'),
            ("r.jsonl", b'{"n": 1}\n"\xff"\n', "line 2: this is not UTF-8 text"),
            ("r.jsonl", "[" * 100_000, "line 1: its JSON is nested too deeply"),
            ("r.jsonl", '{"isolated_magic checkpoint": 1}\n', "holds results, not rows: give the rows of a saved"),
            ("r.jsonl.gz", "{}", "cannot be read: Not a gzipped file"),
            ("r.json", "[1,", "is no JSON: Expecting value at line 1, column 4"),
            ("r.json", '{"n": 1}', "holds one dict: it should be a list of the rows"),
            ("r.csv", "", "is empty: its first line should be the names of its columns"),
            ("r.csv", "a,b\n1,2\n1,2,3\n", "line 3: its cells are 3, and there are 2 columns"),
            ("r.csv", "a,a\n1,2\n", "several columns called 'a': rename all but one"),
            ("r.csv", 'a\n"1\n', "line 2: unexpected end of data"),
            ("r.csv", b"a\n1\n\xff\n", "line 3: this is not UTF-8 text"),
            ("r.txt", "", "ends in '.txt': rows are read from .jsonl, .json, .csv or .parquet files"),
        ],
    )
    def test_what_is_wrong_is_said_before_the_first_row(self, write, name, content, told):
        with pytest.raises(InvalidRequestError, match=told) as problem:
            row_source(write(name, content))
        assert "\n" not in str(problem.value)
        assert "hunter2" not in str(problem.value)

    def test_a_folder(self, tmp_path):
        with pytest.raises(InvalidRequestError, match="is a folder: give the path of a file in it"):
            row_source(tmp_path)

    def test_parquet_without_a_library_for_it(self, write, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        monkeypatch.setitem(sys.modules, "polars", None)
        with pytest.raises(MissingLibraryError, match="needs pyarrow or polars, and neither is installed: pip"):
            row_source(write("r.parquet", ""))
