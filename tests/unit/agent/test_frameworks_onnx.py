"""ONNX sources: declared types, external data, classes, mistakes."""

import numpy as np
import onnx
import pytest
import skl2onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LogisticRegression

from paritygate.agent.failures import AgentError


def graph(kind=TensorProto.FLOAT, rows="rows"):
    """A graph that multiplies rows of four by a (4, 2) matrix."""
    weights = numpy_helper.from_array(np.arange(8, dtype=np.float32).reshape(4, 2), "w")
    inputs = [helper.make_tensor_value_info("x", kind, [rows, 4])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, 2])]
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    made = helper.make_graph(nodes, "g", inputs, outputs, [weights])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_graph_with_external_data_is_answered(tmp_path, take, columns, features):
    path = tmp_path / "model.onnx"
    onnx.save(graph(), path, save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    taken = take("ONNX", path, columns, label="y")
    assert taken.inputs == {"x": ("FP32", (-1, 4))}
    expected = features.astype(np.float32) @ np.arange(8, dtype=np.float32).reshape(4, 2)
    np.testing.assert_allclose(taken.table("reference")["y"], expected, rtol=1e-5)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(AgentError, match="lack its external data"):
        take("ONNX", path, columns, label="y")


def test_declared_datatype_is_the_wires(tmp_path, take, columns):
    onnx.save(graph(TensorProto.DOUBLE), tmp_path / "model.onnx")
    assert take("ONNX", tmp_path / "model.onnx", columns, label="y").inputs == {"x": ("FP64", (-1, 4))}
    onnx.save(graph(TensorProto.INT64), tmp_path / "model.onnx")
    whole = {name: np.arange(80) for name in "abcd"}
    assert take("ONNX", tmp_path / "model.onnx", whole).inputs == {"x": ("INT64", (-1, 4))}
    with pytest.raises(AgentError, match="holds fractions, NaN or infinities"):
        take("ONNX", tmp_path / "model.onnx", {**columns, "a": np.full(80, np.nan)}, label="y")


def test_classes_come_from_the_graph(tmp_path, take, columns, features):
    model = LogisticRegression().fit(features, np.where(columns["y"] == 1, "yes", "no"))
    sample = features[:1].astype(np.float32)
    proto = skl2onnx.to_onnx(model, sample, options={"zipmap": False}, target_opset=17)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    taken = take("ONNX", tmp_path / "model.onnx", columns, label="y")
    assert taken.outputs["label"] == ("BYTES", (-1,), "Label")
    assert [output.classes for output in taken.signature.outputs] == [("no", "yes")] * 2
    assert taken.manifest.task == "Classification"
    proto = skl2onnx.to_onnx(model, sample, target_opset=17)
    (tmp_path / "model.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(AgentError, match="zipmap=False") as error:
        take("ONNX", tmp_path / "model.onnx", columns, label="y")
    assert error.value.reason == "WrongFormat"


def test_fixed_batch_of_one_is_asked_row_by_row(tmp_path, take, columns):
    onnx.save(graph(rows=1), tmp_path / "model.onnx")
    assert take("ONNX", tmp_path / "model.onnx", columns, label="y").rules == ["FIXED-BATCH"]
    onnx.save(graph(rows=5), tmp_path / "model.onnx")
    with pytest.raises(AgentError, match="exactly 5 rows"):
        take("ONNX", tmp_path / "model.onnx", columns, label="y")


def test_truncated_graph_is_refused(tmp_path, take, columns):
    content = graph().SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(AgentError, match=r"cannot be read by onnxruntime") as error:
        take("ONNX", tmp_path / "model.onnx", columns)
    assert error.value.reason == "ModelUnreadable"


def test_a_recurrent_network_outlives_a_batch_without_rows(tmp_path, take):
    nodes = [
        helper.make_node("Transpose", ["series"], ["steps"], perm=[1, 0, 2]),
        helper.make_node("LSTM", ["steps", "w", "r"], ["", "last"], hidden_size=2),
        helper.make_node("Squeeze", ["last", "first"], ["state"]),
    ]
    values = [
        numpy_helper.from_array(np.full((1, 8, 3), 0.1, np.float32), "w"),
        numpy_helper.from_array(np.full((1, 8, 2), 0.1, np.float32), "r"),
        numpy_helper.from_array(np.asarray([0]), "first"),
    ]
    inputs = [helper.make_tensor_value_info("series", TensorProto.FLOAT, ["rows", 5, 3])]
    outputs = [helper.make_tensor_value_info("state", TensorProto.FLOAT, ["rows", 2])]
    made = helper.make_graph(nodes, "g", inputs, outputs, values)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), tmp_path / "m.onnx")
    series = np.random.default_rng(0).normal(size=(40, 5, 3)).astype(np.float32)
    taken = take("ONNX", tmp_path / "m.onnx", {"series": series})
    (empty,) = taken.probes("empty-batch")
    assert empty.refused is None
