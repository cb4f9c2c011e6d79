"""Rows of polars, pyarrow and Hugging Face datasets, and Parquet files, with these libraries."""

import datetime
import functools
import sys

import pytest

from isolated_magic import EvaluationResult, InvalidRequestError, IsolatedSubprocessExecutor, RowResult
from isolated_magic.evaluation.rows import row_source
from tests.evaluations import rich_result
from tests.test_rows import rows_of

pytestmark = pytest.mark.native

WHEN = "2024-02-29T00:00:00"
ROWS = [
    {"n": 1, "when": WHEN, "list": [1], "inner": {"x": 1}},
    {"n": None, "when": WHEN, "list": [2, 3], "inner": {"x": 2}},
]


@functools.cache
def frame():
    import polars

    when = [datetime.datetime(2024, 2, 29)] * 2
    return polars.DataFrame({"n": [1, None], "when": when, "list": [[1], [2, 3]], "inner": [{"x": 1}, {"x": 2}]})


@functools.cache
def dataset():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        import datasets
    return datasets.Dataset.from_dict({"n": [1, 2], "who": ["a", "b"]})


@pytest.mark.parametrize(
    "rows",
    [
        frame,
        lambda: frame().lazy(),
        lambda: frame().to_arrow(),
        lambda: frame().to_arrow().to_batches()[0],
        lambda: frame().to_arrow().to_reader(),
        lambda: {name: frame()[name] for name in frame().columns},
        lambda: {name: frame().to_arrow()[name] for name in frame().columns},
    ],
    ids=["polars", "lazy", "table", "batch", "reader", "series", "chunked"],
)
def test_frames(rows):
    assert rows_of(rows()) == ROWS


def test_repeated_columns_of_a_table():
    import pyarrow

    with pytest.raises(InvalidRequestError, match="several columns called 'a'"):
        row_source(pyarrow.table([[1], [2]], names=["a", "a"]))


@pytest.mark.parametrize("kind", [None, "numpy", "pandas", "polars"])
def test_a_dataset_in_any_format(kind):
    found = rows_of(dataset().with_format(kind))
    assert found == [{"n": 1, "who": "a"}, {"n": 2, "who": "b"}]
    assert type(found[0]["n"]) is int


def test_a_dataset_that_is_only_iterable():
    source = row_source(dataset().to_iterable_dataset())
    assert source.count is None
    assert list(source.rows) == [{"n": 1, "who": "a"}, {"n": 2, "who": "b"}]


def test_a_dataset_of_several_splits():
    import datasets

    told = r"choose one, such as rows\['train'\] \(there are train, test\)"
    with pytest.raises(InvalidRequestError, match=told):
        row_source(datasets.DatasetDict(train=dataset(), test=dataset()))


@pytest.mark.parametrize("without", ["", "pyarrow.parquet"])
def test_parquet(tmp_path, monkeypatch, without):
    frame().write_parquet(tmp_path / "r.parquet")
    if without:
        monkeypatch.setitem(sys.modules, without, None)
    assert rows_of(tmp_path / "r.parquet") == ROWS
    assert row_source(tmp_path / "r.parquet").count == 2
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidRequestError, match=r"broken\.parquet is no Parquet file"):
        row_source(tmp_path / "broken.parquet")


@pytest.mark.parametrize(
    "rows", [frame, lambda: frame().to_arrow(), dataset], ids=["polars", "pyarrow", "datasets"]
)
def test_they_are_scored(rows):
    with IsolatedSubprocessExecutor() as executor:
        result = executor.evaluate("float(data['n'] or 0)", rows())
    assert [row.scores[0].value for row in result] == [float(row["n"] or 0) for row in rows_of(rows())]


@pytest.mark.parametrize("without", ["", "pyarrow"])
def test_an_evaluation_in_a_parquet_file(tmp_path, monkeypatch, without):
    if without:
        monkeypatch.setitem(sys.modules, without, None)
        monkeypatch.setitem(sys.modules, f"{without}.parquet", None)
    result = rich_result()
    loaded = EvaluationResult.load(result.save(tmp_path / "r.parquet"))
    assert loaded == result
    assert loaded.rows[0].row["n"] == 1
    assert loaded.rows[0].row["tags"] == '["a", {"b": null}]'
    assert len(EvaluationResult.load(EvaluationResult().save(tmp_path / "none.parquet"))) == 0


def test_columns_of_several_types_are_text(tmp_path):
    import polars

    values = [1, "a", {"k": 1}, None, 1 << 70, "\ud800"]
    rows = tuple(RowResult(n, str(n), {"v": value, "n": n + 0.5 * n}) for n, value in enumerate(values))
    frame = polars.read_parquet(EvaluationResult(rows).save(tmp_path / "r.parquet"))
    assert frame["v"].to_list() == ["1", "a", '{"k": 1}', None, str(1 << 70), "\\ud800"]
    assert frame["n"].to_list() == [0.0, 1.5, 3.0, 4.5, 6.0, 7.5]
