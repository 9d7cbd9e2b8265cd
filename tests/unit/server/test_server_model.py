"""What a server reads from a model, and which models it does not take."""

from __future__ import annotations

import json

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paritygate.api.spec import Datatype
from paritygate.server.errors import RequestError, StartError
from paritygate.server.model import Model, find, public, revision

SIGNATURE = {
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2], "role": "Prediction"}],
}


def _stated(part: str, **changes: object) -> dict[str, object]:
    return {**SIGNATURE, part: [{**SIGNATURE[part][0], **changes}]}


def test_a_candidate_is_offered_under_its_name_and_signature(graphs) -> None:
    signature = {**SIGNATURE, "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, -1]}]}
    model = Model(find(graphs.candidate(graphs.identity(), signature, name="churn")), 1)
    assert model.metadata()["name"] == "churn"
    assert model.metadata()["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [-1, -1]}]


@pytest.mark.parametrize(
    ("name", "signature", "message"),
    [
        ("another-input", _stated("inputs", name="z"), "states inputs ['z'], but the graph has ['x']"),
        ("another-output", _stated("outputs", name="z"), "states outputs ['z'], but the graph has ['y']"),
        ("a-missing-input", {**SIGNATURE, "inputs": []}, "states inputs [], but the graph has ['x']"),
        (
            "another-datatype",
            _stated("inputs", datatype="FP64"),
            "states input 'x' as FP64 [-1, 2], but the graph has FP32",
        ),
        (
            "another-rank",
            _stated("outputs", shape=[-1]),
            "states output 'y' as FP32 [-1], but the graph has FP32 [-1, 2]",
        ),
    ],
)
def test_a_manifest_that_contradicts_the_graph_is_refused(graphs, name, signature, message) -> None:
    with pytest.raises(StartError) as refusal:
        Model(find(graphs.candidate(graphs.identity(), signature, name=name)), 1)
    assert message in refusal.value.message


def test_a_batch_without_rows_does_not_end_a_recurrent_network(graphs, process) -> None:
    served = process("--model", str(graphs.recurrent()), "--port", "0")
    served.wait_ready()
    x = {"name": "x", "datatype": "FP32", "shape": [0, 3, 1], "data": []}
    answer = httpx.post(f"{served.url}/v2/models/recurrent/infer", json={"inputs": [x]})
    assert answer.json()["outputs"] == [{"name": "y", "datatype": "FP32", "shape": [0, 2], "data": []}]
    assert served.process.poll() is None


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.INT64, Datatype.BOOL, Datatype.BYTES, Datatype.BF16])
def test_a_batch_without_rows_is_answered_without_rows(graphs, datatype) -> None:
    model = Model(find(graphs.identity(datatype, name=f"empty_{datatype}")), 1)
    dtype = model.inputs["x"].dtype
    (answer,) = model.run({"x": np.zeros((0, 2), dtype)}, ("y",))
    assert (answer.shape, answer.dtype) == ((0, 2), dtype)


def test_a_guard_of_an_input_that_is_not_there_is_refused(graphs) -> None:
    folder = graphs.candidate(graphs.identity(), SIGNATURE, guards=[{"input": "age"}], name="stray-guard")
    with pytest.raises(StartError, match="guards name input 'age', but the inputs are"):
        Model(find(folder), 1)


def test_a_missing_path_is_refused(tmp_path) -> None:
    with pytest.raises(StartError, match="there is no such file or folder"):
        find(tmp_path / "nothing.onnx")


def test_a_folder_without_a_manifest_is_refused(tmp_path) -> None:
    with pytest.raises(StartError, match=r"candidate\.json is missing"):
        find(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path) -> None:
    (tmp_path / "candidate.json").write_text("{}")
    with pytest.raises(StartError, match=r"model\.onnx is missing"):
        find(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "cannot be read as JSON"), ("[]", "convert the model again"), ('{"name": "a"}', "modelName: ")],
)
def test_a_broken_manifest_is_refused(tmp_path, content, message) -> None:
    (tmp_path / "candidate.json").write_text(content)
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(StartError, match=message):
        find(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not ONNX at all", b"\x08\x08"])
def test_a_file_that_is_not_onnx_is_refused(tmp_path, content) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(StartError, match="cannot load it"):
        Model(find(path), 1)


@pytest.mark.parametrize(("changes", "message"), [({"opset": 99}, "opset"), ({"ir": 99}, "IR version")])
def test_a_model_of_the_future_is_refused_and_says_why(graphs, changes, message) -> None:
    path = graphs.write(
        "future",
        [helper.make_node("Identity", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N",))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N",))],
        **changes,
    )
    with pytest.raises(StartError) as refusal:
        Model(find(path), 1)
    assert message in refusal.value.message
    assert "onnxruntime_src" not in refusal.value.message


def test_an_output_that_is_no_tensor_is_refused_with_what_to_do(graphs) -> None:
    path = graphs.write(
        "sequence",
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N",))],
        [helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)],
    )
    with pytest.raises(StartError, match="zipmap=False"):
        Model(find(path), 1)


def test_a_scalar_input_is_taken(graphs) -> None:
    path = graphs.write(
        "scalar",
        [helper.make_node("Neg", ["x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [])],
    )
    (answer,) = Model(find(path), 1).run({"x": np.array(2.0)}, ["y"])
    assert answer.shape == ()
    assert answer == -2


def test_the_revision_follows_the_bytes_and_not_the_name(graphs, tmp_path) -> None:
    path = graphs.identity()
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(path.read_bytes())
    assert revision(copy) == revision(path)
    copy.write_bytes(path.read_bytes() + b"\0")
    assert revision(copy) != revision(path)


def test_the_revision_covers_external_data(tmp_path) -> None:
    weights = numpy_helper.from_array(np.ones(64, np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (64,))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (64,))],
        [weights],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    before = revision(path)
    data = tmp_path / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-4] + np.float32(5).tobytes())
    assert revision(path) != before
    (answer,) = Model(find(path), 1).run({"x": np.zeros(64, np.float32)}, ["y"])
    assert answer[-1] == 5


def test_errors_of_onnxruntime_lose_what_is_not_for_clients() -> None:
    raw = (
        "[ONNXRuntimeError] : 1 : FAIL : Non-zero status code returned while running Reshape node. Name:'' Status "
        "Message: /onnxruntime_src/onnxruntime/core/providers/cpu/tensor/reshape_helper.h:91 "
        "onnxruntime::ReshapeHelper::ReshapeHelper(const onnxruntime::TensorShape&, bool) "
        "input_shape_size == 4 was false."
    )
    assert public(RuntimeError(raw)) == (
        "Non-zero status code returned while running Reshape node. Name:'' Status Message: "
        "input_shape_size == 4 was false."
    )


def test_an_unreadable_model_is_reported(tmp_path) -> None:
    manifest = tmp_path / "candidate.json"
    manifest.write_text(json.dumps({"name": "a"}))
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(StartError, match=r"model\.onnx is missing"):
        find(tmp_path)


def _seen_together(graphs, rows: int, threads: int, **stated: object) -> tuple[list[float], list[float]]:
    """Of a model that answers each row with itself and the size of the batch it saw: the rows, and these sizes."""
    vector = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N",))
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Cast", ["shape"], ["size"], to=TensorProto.FLOAT),
        helper.make_node("Expand", ["size", "shape"], ["seen"]),
        helper.make_node("Identity", ["x"], ["y"]),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ("N",)) for name in ("y", "seen")]
    path = graphs.write(f"together_{rows}_{threads}_{len(stated)}", nodes, [vector], outputs)
    one = {"datatype": "FP32", "shape": [-1]}
    signature = {
        "inputs": [{"name": "x", **one}],
        "outputs": [{"name": name, "role": "Prediction", **one} for name in ("y", "seen")],
    }
    model = Model(find(graphs.candidate(path, signature, name=path.stem, **stated)), threads)
    y, seen = model.run({"x": np.arange(rows, dtype=np.float32)}, ("y", "seen"))
    return y.tolist(), seen.tolist()


@pytest.mark.parametrize(
    ("rows", "threads", "parts"),
    [
        (1, 2, [1]),
        (20, 2, [20]),
        (100, 2, [50, 50]),
        (101, 2, [51, 50]),
        (1300, 2, [512, 512, 276]),
        (600, 1, [512, 88]),
    ],
)
def test_independent_rows_are_answered_in_parts_and_stay_in_order(graphs, rows, threads, parts) -> None:
    answered, seen = _seen_together(graphs, rows, threads, independentRows=True)
    assert answered == list(range(rows))
    assert seen == [size for size in parts for _ in range(size)]


def test_rows_of_which_nothing_is_known_stay_together(graphs) -> None:
    _, seen = _seen_together(graphs, 1300, 2)
    assert seen == [1300] * 1300


def test_what_fails_in_one_part_fails_the_request(graphs) -> None:
    rows = helper.make_tensor_value_info("x", TensorProto.INT64, ("N",))
    table = numpy_helper.from_array(np.zeros(10, np.float32), "table")
    nodes = [helper.make_node("Gather", ["table", "x"], ["y"])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("N",))]
    path = graphs.write("lookup_in_parts", nodes, [rows], outputs, initializers=[table])
    signature = {
        "inputs": [{"name": "x", "datatype": "INT64", "shape": [-1]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1], "role": "Prediction"}],
    }
    model = Model(find(graphs.candidate(path, signature, name="lookup_in_parts", independentRows=True)), 3)
    index = np.zeros(2000, np.int64)
    assert model.run({"x": index}, ("y",))[0].shape == (2000,)
    index[1999] = 10
    with pytest.raises(RequestError, match="does not take this request"):
        model.run({"x": index}, ("y",))
