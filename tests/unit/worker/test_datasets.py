"""Dataset files become one table, exactly as they stand, or an error that says where they cannot."""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from paritygate.agent import exchange
from paritygate.agent.exchange import Category
from paritygate.errors import ConfigurationError
from paritygate.worker import datasets


def read(path: Path, content: str | bytes | None = None) -> Any:
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return datasets.read(path)


def refusal(path: Path, content: str | bytes | None = None) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as error:
        read(path, content)
    return error.value


def test_parquet_keeps_every_type(tmp_path):
    frame = pd.DataFrame(
        {
            "whole": np.arange(3, dtype=np.int32),
            "single": np.asarray([0.5, 1.5, np.nan], dtype=np.float32),
            "flag": [True, False, True],
            "text": pd.Series(["a", None, "ü"], dtype=object),
            "tier": pd.Categorical(["x", None, "y"], categories=["y", "x", "z"], ordered=True),
            "day": pd.to_datetime(["2020-01-01", "2020-01-02", "2020-01-03"]),
        }
    )
    frame.to_parquet(tmp_path / "data.parquet")
    table = read(tmp_path / "data.parquet")
    assert list(table) == list(frame)
    assert [table[name].dtype.str for name in ("whole", "single", "flag")] == ["<i4", "<f4", "|b1"]
    np.testing.assert_array_equal(table["single"], frame["single"].to_numpy())
    assert list(table["text"]) == ["a", None, "ü"]
    tier = table["tier"]
    assert (list(tier.codes), list(tier.categories), tier.ordered) == ([1, -1, 0], ["y", "x", "z"], True)
    assert table["day"].dtype.kind == "M"


def test_integers_with_missing_values_become_floats(tmp_path):
    pq.write_table(pa.table({"n": pa.array([1, None, 3])}), tmp_path / "data.parquet")
    np.testing.assert_array_equal(read(tmp_path / "data.parquet")["n"], [1.0, np.nan, 3.0])
    pq.write_table(pa.table({"n": pa.array([2**53 + 1, None])}), tmp_path / "data.parquet")
    assert "beyond 2**53" in refusal(tmp_path / "data.parquet").message


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_lists_of_one_length_are_a_tensor_and_others_are_ragged(tmp_path, suffix):
    rows = [{"even": [1.5, 2.0], "odd": [1]}, {"even": [3.0, 4.0], "odd": []}, {"even": [5.0, 6.0], "odd": [2, 3]}]
    path = tmp_path / f"data.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    table = read(path)
    assert table["even"].shape == (3, 2)
    assert [list(row) for row in table["odd"]] == [[1], [], [2, 3]]
    assert {row.dtype for row in table["odd"]} == {np.dtype(np.int64)}


def test_nested_lists_keep_their_shape(tmp_path):
    lines = "\n".join(json.dumps({"image": [[row, 1], [2, 3]]}) for row in range(3))
    assert read(tmp_path / "data.jsonl", lines)["image"].shape == (3, 2, 2)


def test_row_index_that_pandas_kept_is_no_column(tmp_path):
    pd.DataFrame({"a": [1, 2, 3]})[lambda frame: frame["a"] > 1].to_parquet(tmp_path / "data.parquet")
    assert list(read(tmp_path / "data.parquet")) == ["a"]


def test_csv_column_is_what_every_cell_of_it_is(tmp_path):
    text = 'id,price,flag,"city, place",gone\n1,0.1,true,"a, b",\n2,,false,,\n3,-inf,true,NA,\n'
    table = read(tmp_path / "data.csv", text)
    assert table["id"].dtype == np.int64
    np.testing.assert_array_equal(table["price"], [0.1, np.nan, -np.inf])
    assert table["flag"].tolist() == [True, False, True]
    assert table["city, place"].tolist() == ["a, b", None, "NA"]
    assert np.isnan(table["gone"]).all()


def test_csv_integers_keep_every_digit(tmp_path):
    assert read(tmp_path / "data.csv", "n\n9007199254740993\n")["n"][0] == 2**53 + 1


def test_npz_arrays_are_as_they_are_and_objects_hold_text_or_rows_of_any_length(tmp_path):
    ragged = np.empty(2, dtype=object)
    ragged[0], ragged[1] = np.asarray([1, 2]), np.asarray([3])
    text = np.asarray(["a", None], dtype=object)
    np.savez(tmp_path / "data.npz", x=np.zeros((2, 3, 4), np.float16), t=text, u=np.asarray(["b", "c"]), r=ragged)
    table = read(tmp_path / "data.npz")
    assert table["x"].shape == (2, 3, 4)
    assert table["x"].dtype == np.float16
    assert (table["t"].tolist(), table["u"].tolist()) == (["a", None], ["b", "c"])
    assert [row.tolist() for row in table["r"]] == [[1, 2], [3]]


def test_npz_cannot_run_code(tmp_path):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    evil = np.empty(1, dtype=object)
    evil[0] = Payload()
    np.savez(tmp_path / "data.npz", evil=evil)
    assert "object arrays may hold text and numeric arrays only" in refusal(tmp_path / "data.npz").message
    assert not (tmp_path / "touched").exists()


def test_folder_of_shards_is_read_in_name_order(tmp_path):
    for name, values in {"part-1": [3.5], "part-0": [1, 2]}.items():
        pd.DataFrame({"a": values, "k": pd.Categorical([str(value) for value in values])}).to_parquet(
            tmp_path / f"{name}.parquet"
        )
    (tmp_path / "_SUCCESS").touch()
    table = read(tmp_path)
    assert table["a"].tolist() == [1, 2, 3.5]
    assert table["k"].values().tolist() == ["1", "2", "3.5"]


def test_ragged_and_even_shards_join(tmp_path):
    (tmp_path / "0.jsonl").write_text('{"x": [1, 2]}\n')
    (tmp_path / "1.jsonl").write_text('{"x": [1]}\n{"x": [1, 2, 3]}\n')
    assert [row.tolist() for row in read(tmp_path)["x"]] == [[1, 2], [1], [1, 2, 3]]


@pytest.mark.parametrize(
    ("name", "content", "reason", "text"),
    [
        pytest.param(
            "data.csv", "a,b\n1\n", "DatasetUnreadable", "line 2 has 1 cells and the header has 2", id="short row"
        ),
        pytest.param(
            "data.csv", "a,a\n1,2\n", "DatasetUnreadable", "several columns named 'a'", id="duplicated column"
        ),
        pytest.param(
            "data.csv", "a\n1\n2\nx\n", "DatasetMixedTypes", "holds numbers in 2 rows and 'x' in data row 3", id="mixed"
        ),
        pytest.param("data.csv", "a,b\n", "DatasetEmpty", "has columns but no rows", id="header only"),
        pytest.param(
            "data.csv", b"a\n\xff\xfe\n", "DatasetUnreadable", "not a whole csv in UTF-8", id="other encoding"
        ),
        pytest.param("data.csv", "", "DatasetUnreadable", "is empty (0 bytes)", id="no bytes"),
        pytest.param("data.csv", 'a\n"1\n', "DatasetUnreadable", "may be truncated", id="open quote"),
        pytest.param(
            "data.csv", "n\n99999999999999999999\n", "DatasetUnreadable", "64 bits cannot hold", id="huge integer"
        ),
        pytest.param(
            "data.jsonl", '{"a": 1}\n{"b": 1}\n', "DatasetUnreadable", "line 2 has other keys", id="other keys"
        ),
        pytest.param("data.jsonl", '{"a": 1}\n{"a"', "DatasetUnreadable", "jsonl (line 2)", id="truncated line"),
        pytest.param("data.jsonl", "[1]\n", "DatasetUnreadable", "line 1 is not a JSON object", id="array line"),
        pytest.param(
            "data.jsonl", '{"a": 1, "a": 2}\n', "DatasetUnreadable", "several columns named 'a'", id="key twice"
        ),
        pytest.param(
            "data.jsonl",
            '{"a": 1}\n{"a": "x"}\n',
            "DatasetMixedTypes",
            "integer and text (first in data row 2",
            id="types",
        ),
        pytest.param(
            "data.jsonl",
            '{"a": true}\n{"a": null}\n',
            "DatasetMixedTypes",
            "boolean and missing values",
            id="null flag",
        ),
        pytest.param("data.jsonl", '{"a": {"b": 1}}\n', "DatasetMixedTypes", "holds objects", id="nested object"),
        pytest.param(
            "data.jsonl", '{"a": [[1], [1, 2]]}\n', "DatasetUnreadable", "ragged inside a row", id="ragged in a row"
        ),
        pytest.param("data.jsonl", '{"a": [1]}\n{"a": [[1]]}\n', "DatasetUnreadable", "different depths", id="depths"),
        pytest.param(
            "data.parquet", b"PAR1" + b"x" * 99, "DatasetUnreadable", "not a whole parquet file", id="no parquet"
        ),
        pytest.param("data.npz", b"PK\x03\x04" + b"x" * 99, "DatasetUnreadable", "not a whole npz file", id="no npz"),
        pytest.param("data.xlsx", b"PK", "DatasetUnreadable", "has no known ending", id="unknown ending"),
        pytest.param("absent.csv", None, "DatasetUnreadable", "there is no dataset at", id="missing file"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(tmp_path, name, content, reason, text):
    error = refusal(tmp_path / name, content)
    assert error.reason == reason
    assert text in error.message
    assert name in error.message


def test_truncated_files_are_refused(tmp_path):
    pd.DataFrame({"a": np.arange(999)}).to_parquet(tmp_path / "whole.parquet")
    np.savez(tmp_path / "whole.npz", a=np.arange(999))
    for suffix in ("parquet", "npz"):
        content = (tmp_path / f"whole.{suffix}").read_bytes()
        assert "truncated" in refusal(tmp_path / f"cut.{suffix}", content[: len(content) // 2]).message


def test_npz_arrays_of_different_lengths_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", a=np.arange(3), b=np.arange(4))
    assert "column 'b' has 4 rows and 'a' has 3" in refusal(tmp_path / "data.npz").message
    np.savez(tmp_path / "data.npz", a=np.float64(1))
    assert "'a' is a single number" in refusal(tmp_path / "data.npz").message


def test_parquet_types_that_no_tensor_carries_are_refused(tmp_path):
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"s": pa.array([{"x": 1}])}), path)
    assert "column 's' has type struct" in refusal(path).message
    pq.write_table(pa.table({"flag": pa.array([True, None])}), path)
    assert "boolean column 'flag' has 1 missing values" in refusal(path).message
    pq.write_table(pa.table({"x": pa.array([[1.0, None]])}), path)
    assert "lists in column 'x' have 1 missing values" in refusal(path).message


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        pytest.param("a,b\n1,2\n", "a\n1\n", "has other columns than", id="fewer columns"),
        pytest.param("a,b\n1,2\n", "b,a\n1,2\n", "has other columns than", id="another order"),
        pytest.param("a\n1\n", "a\nx\n", "is integer in", id="another type"),
    ],
)
def test_shards_that_differ_are_refused(tmp_path, first, second, text):
    (tmp_path / "0.csv").write_text(first)
    (tmp_path / "1.csv").write_text(second)
    error = refusal(tmp_path)
    assert error.reason == "ShardsDiffer"
    assert text in error.message


def test_folder_of_nothing_or_of_several_formats_is_refused(tmp_path):
    assert "holds no files" in refusal(tmp_path).message
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n')
    assert "files of several formats (.csv, .jsonl)" in refusal(tmp_path).message


def run(*arguments: Any, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "paritygate.worker", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_stage_writes_rows_and_progress(tmp_path):
    (tmp_path / "data.csv").write_text("a\n1\n")
    log = tmp_path / "progress"
    done = run("dataset", "--uri", tmp_path / "data.csv", "--out", tmp_path / "out", PARITYGATE_PROGRESS=str(log))
    assert done.returncode == 0, done.stderr
    assert exchange.load(str(tmp_path / "out" / "rows.npz"))["a"].tolist() == [1]
    assert json.loads(log.read_text())["message"] == "reading data.csv"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rows.npz"]


def test_stage_that_fails_leaves_only_its_failure(tmp_path):
    done = run("dataset", "--uri", tmp_path / "absent.csv", "--out", tmp_path / "out")
    assert done.returncode == 3
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failure.json"]
    failure = json.loads((tmp_path / "out" / "failure.json").read_text())
    assert (failure["failure"], failure["reason"]) == ("Configuration", "DatasetUnreadable")
    (tmp_path / "absent.csv").write_text("a\n1\n")
    assert run("dataset", "--uri", tmp_path / "absent.csv", "--out", tmp_path / "out").returncode == 0


def test_stage_does_not_overwrite_what_it_did_not_write(tmp_path):
    (tmp_path / "data.csv").write_text("a\n1\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").touch()
    done = run("dataset", "--uri", tmp_path / "data.csv", "--out", tmp_path / "out")
    assert done.returncode == 4
    assert "OutputExists" in done.stderr
    assert (tmp_path / "out" / "precious").exists()


def test_same_file_gives_the_same_bytes(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5], "k": pd.Categorical(["x", "y"]), "t": ["u", "v"]})
    frame.to_parquet(tmp_path / "data.parquet")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        datasets.run(tmp_path / "data.parquet", tmp_path / name)
    assert (tmp_path / "one/rows.npz").read_bytes() == (tmp_path / "two/rows.npz").read_bytes()
    assert isinstance(exchange.load(str(tmp_path / "one/rows.npz"))["k"], Category)


def test_pickled_arrays_of_old_numpy_are_read(tmp_path):
    array = np.asarray(["a", "b"], dtype=object)
    member = io.BytesIO()
    np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
    member.write(pickle.dumps(array, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    with zipfile.ZipFile(tmp_path / "data.npz", "w") as archive:
        archive.writestr("t.npy", member.getvalue())
    assert read(tmp_path / "data.npz")["t"].tolist() == ["a", "b"]


def test_categories_of_numbers_stay_categories_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pd.DataFrame({"zone": pd.Categorical([10, None, 20, 10])}).to_parquet(path)
    column = read(path)["zone"]
    assert isinstance(column, Category)
    assert list(column.values()) == [10, None, 20, 10]
