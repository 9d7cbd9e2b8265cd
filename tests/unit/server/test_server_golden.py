"""Golden rows decide about readiness: a server that answers them wrong is live and never ready."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from paritygate.agent import exchange
from paritygate.server import golden
from paritygate.server.errors import StartError
from paritygate.server.golden import Golden, Tolerance
from paritygate.server.model import Model, find

X = np.array([[1.0, 2.0], [3.0, 4.0], [np.nan, np.inf]], np.float32)


def _folder(tmp_path: Path, table: dict[str, np.ndarray], tolerances: dict[str, object]) -> Path:
    exchange.save(str(tmp_path / "golden.npz"), table)
    (tmp_path / "golden.json").write_text(json.dumps(tolerances))
    return tmp_path


def _moved(row: int, column: int, by: float) -> np.ndarray:
    moved = X.copy()
    moved[row, column] += by
    return moved


def _rows(expected: np.ndarray, rtol: float = 0.0, atol: float = 0.0) -> Golden:
    return Golden({"x": X}, {"y": expected}, {"y": Tolerance(rtol, atol)})


@pytest.fixture(scope="module")
def model(graphs) -> Model:
    return Model(find(graphs.identity()), 1)


@pytest.mark.parametrize(
    ("_name", "rows"),
    [
        ("equal answers, NaN and infinities in place", _rows(X)),
        ("answers within the absolute tolerance", _rows(_moved(0, 0, 0.01), atol=0.011)),
        ("answers within the relative tolerance", _rows(_moved(1, 1, 0.04), rtol=0.011)),
    ],
)
def test_passes(model, _name, rows) -> None:
    assert rows.problem(model) is None


@pytest.mark.parametrize(
    ("_name", "rows", "problem"),
    [
        (
            "an answer that is off",
            _rows(_moved(1, 0, 0.5), atol=0.1),
            "element [1, 0]: 3.0 instead of 3.5, off by 0.5, allowed 0.1",
        ),
        (
            "the answer that is furthest off",
            _rows(_moved(1, 0, 0.5) + np.float32(0.1)),
            "element [1, 0]: 3.0 instead of 3.59",
        ),
        ("a number instead of NaN", _rows(_moved(0, 1, np.nan)), "element [0, 1]: 2.0 instead of nan"),
        ("NaN instead of a number", _rows(np.nan_to_num(X, nan=7.0)), "element [2, 0]: nan instead of 7.0"),
        ("the other infinity", _rows(np.where(np.inf == X, -X, X), rtol=0.5, atol=1e9), "inf instead of -inf"),
        ("a number instead of an infinity", _rows(_moved(0, 0, np.inf), rtol=0.5, atol=1e9), "1.0 instead of inf"),
        ("another number of rows", _rows(X[:2]), "shape [3, 2] instead of [2, 2]"),
    ],
)
def test_names(model, _name, rows, problem) -> None:
    found = rows.problem(model)
    assert found is not None
    assert found.startswith("golden rows are answered wrong: output 'y': ")
    assert problem in found


def test_texts_and_integers_must_be_equal(graphs) -> None:
    mixed = Model(find(graphs.mixed()), 1)
    inputs = {
        "age": np.ones((2, 1), np.float32),
        "count": np.array([[2**53 + 1], [5]]),
        "city": np.array([["a"], [None]], object),
    }
    right = {"count_out": inputs["count"], "city_out": np.array([["a"], [""]], object)}
    assert Golden(inputs, right, {}).problem(mixed) is None
    wrong = Golden(inputs, {"count_out": np.array([[2**53], [5]])}, {"count_out": Tolerance(1, 1)}).problem(mixed)
    assert wrong == (
        "golden rows are answered wrong: output 'count_out': element [0, 0]: "
        "9007199254740993 instead of 9007199254740992"
    )
    wrong = Golden(inputs, {"city_out": np.array([["a"], ["b"]], object)}, {}).problem(mixed)
    assert wrong == "golden rows are answered wrong: output 'city_out': element [1, 0]: '' instead of 'b'"


def test_rows_of_varying_length_are_answered_one_by_one(graphs) -> None:
    free = Model(find(graphs.identity(shape=("N", "M"), name="free")), 1)
    ragged = np.empty(2, object)
    ragged[:] = [np.array([1.0], np.float32), np.array([2.0, 3.0], np.float32)]
    assert Golden({"x": ragged}, {"y": ragged}, {}).problem(free) is None
    other = ragged.copy()
    other[1] = np.array([2.0, 4.0], np.float32)
    problem = Golden({"x": ragged}, {"y": other}, {}).problem(free)
    assert problem is not None
    assert "row 1: element [0, 1]: 3.0 instead of 4.0" in problem


def test_rows_that_the_model_refuses_are_a_problem(graphs) -> None:
    lookup = Model(find(graphs.lookup()), 1)
    problem = Golden({"x": np.array([9])}, {"y": np.array([1.0], np.float32)}, {}).problem(lookup)
    assert problem is not None
    assert problem.startswith("golden rows are not answered: the model does not take this request")


def test_rows_of_another_shape_are_a_problem(model) -> None:
    problem = Golden({"x": X[:, :1]}, {"y": X}, {}).problem(model)
    assert problem is not None
    assert problem.startswith("golden rows are not answered: input 'x': shape [3, 1] came")


@pytest.mark.parametrize("names", [({"z": X}, {"y": X}), ({"x": X, "z": X}, {"y": X}), ({"x": X}, {"z": X})])
def test_rows_of_another_model_end_the_start(model, names) -> None:
    with pytest.raises(StartError, match="give the verdict folder of this candidate"):
        Golden(*names, {}).check_names(model)


def test_reads_a_verdict_folder(tmp_path) -> None:
    rows = golden.read(_folder(tmp_path, {"input:x": X, "output:y": X}, {"y": {"rtol": 1e-3, "atol": "1e-5"}}))
    assert rows.tolerances == {"y": Tolerance(1e-3, 1e-5)}
    np.testing.assert_array_equal(rows.outputs["y"], X)


@pytest.mark.parametrize(
    ("_name", "files", "message"),
    [
        ("an empty folder", {}, "cannot be read"),
        ("no table", {"golden.json": "{}"}, "cannot be read"),
        ("broken JSON", {"golden.json": "{", "golden.npz": ""}, "cannot be read"),
        ("a table that is none", {"golden.json": "{}", "golden.npz": "text"}, "cannot be read"),
        ("tolerances of the wrong kind", {"golden.json": '{"y": 5}', "golden.npz": ""}, "cannot be read"),
    ],
)
def test_refuses_to_read(tmp_path, _name, files, message) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(StartError, match=message):
        golden.read(tmp_path)


@pytest.mark.parametrize("table", [{"input:x": X}, {"output:y": X}, {"input:x": X[:0], "output:y": X[:0]}])
def test_refuses_a_table_without_rows(tmp_path, table) -> None:
    with pytest.raises(StartError, match="holds no rows"):
        golden.read(_folder(tmp_path, table, {}))


def test_a_server_with_right_golden_rows_is_ready(graphs, serve) -> None:
    served = serve(graphs.identity(), golden=_rows(X))
    assert httpx.get(f"{served.url}/v2/health/ready").json() == {"ready": True}


def test_a_server_with_wrong_golden_rows_is_live_but_never_ready(graphs, serve) -> None:
    served = serve(graphs.identity(), golden=_rows(_moved(1, 0, 0.5)), wait=False)
    deadline = time.monotonic() + 20
    while served.service.app.reason != "GoldenRowsWrong" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert httpx.get(f"{served.url}/v2/health/live").json() == {"live": True}
    ready = httpx.get(f"{served.url}/v2/health/ready")
    assert ready.status_code == 503
    assert ready.json()["ready"] is False
    assert "output 'y': element [1, 0]: 3.0 instead of 3.5, off by 0.5" in ready.json()["error"]
    model_ready = httpx.get(f"{served.url}/v2/models/{served.name}/ready")
    assert (model_ready.status_code, model_ready.json()["name"]) == (503, served.name)
    refused = served.infer({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]})
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert "golden rows are answered wrong" in refused.json()["error"]


def test_bf16_answers_are_compared_as_numbers(graphs) -> None:
    model = Model(find(graphs.identity("BF16")), 1)
    column = np.array([[1.0, 2.0]], np.float32)
    assert Golden({"x": column}, {"y": column}, {}).problem(model) is None
    bits = (column.view(np.uint32) >> 16).astype(np.uint16)
    assert Golden({"x": bits}, {"y": bits}, {}).problem(model) is None
    problem = Golden({"x": column}, {"y": column + 1}, {}).problem(model)
    assert problem is not None
    assert "instead of" in problem
