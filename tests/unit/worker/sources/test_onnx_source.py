"""ONNX models pass through unchanged, or raised to an operator set that is served."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.worker.sources import onnx as source_format

SOURCE = Source(format=SourceFormat.ONNX, uri="model.onnx")
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 7


def written(tmp_path, *, opset=17, batch="batch", operator="Softmax", external=False):
    """Multiplies x [batch, 4] by the weights and normalises: y [batch, 3]."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node(operator, ["z"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=6)
    folder = tmp_path / "source"
    folder.mkdir()
    path = folder / "net.onnx"
    options = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0} if external else {}
    onnx.save_model(model, str(path), **options)
    return path


def softmax(rows):
    scores = np.exp(rows @ WEIGHTS)
    return scores / scores.sum(axis=1, keepdims=True)


def signature(wire):
    return [wire.tensor("x", "FP32", (-1, 4))], [wire.output("y", "Tensor", "FP32", (-1, 3))]


@pytest.mark.parametrize("external", [False, True], ids=["weights inside", "weights beside"])
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_model_answers_as_before(tmp_path, converted_model, wire, opset, external):
    candidate = converted_model("ONNX", written(tmp_path, opset=opset, external=external), *signature(wire))
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    np.testing.assert_allclose(candidate.answer({"x": rows})["y"], softmax(rows), rtol=1e-6)
    assert (candidate.path.parent / "model.onnx.data").exists() == external
    imported = {entry.domain: entry.version for entry in candidate.model.opset_import}
    assert imported[""] == max(opset, 13)
    assert [finding.rule for finding in candidate.converted.findings] == (["ONNX-UPGRADED"] if opset == 11 else [])


def test_assessment_reads_the_signature(tmp_path):
    assessment = source_format.assess(written(tmp_path), SOURCE)
    assert assessment.signature is not None
    assert [(t.name, t.datatype, t.shape) for t in assessment.signature.inputs] == [("x", "FP32", (-1, 4))]
    assert assessment.parameters == WEIGHTS.size
    assert assessment.findings == ()


def test_fixed_batch_is_a_finding(tmp_path):
    findings = source_format.assess(written(tmp_path, batch=1), SOURCE).findings
    assert [finding.rule for finding in findings] == ["ONNX-FIXED-BATCH"]


def test_missing_external_data_is_named(tmp_path):
    path = written(tmp_path, external=True)
    (path.parent / "weights.bin").unlink()
    with pytest.raises(ConfigurationError, match=r"weights\.bin, which is not beside it") as caught:
        source_format.assess(path, SOURCE)
    assert caught.value.reason == "ModelUnreadable"


def test_truncated_file_is_refused(tmp_path):
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigurationError, match="not a readable ONNX file") as caught:
        source_format.assess(path, SOURCE)
    assert caught.value.reason == "ModelUnreadable"


def test_folder_with_several_models_asks_for_one(tmp_path):
    path = written(tmp_path)
    (path.parent / "other.onnx").write_bytes(path.read_bytes())
    with pytest.raises(ConfigurationError, match=r"net\.onnx, other\.onnx; name the file"):
        source_format.assess(path.parent, SOURCE)


def test_a_candidate_may_be_the_next_source(tmp_path, converted_model, wire):
    first = converted_model("ONNX", written(tmp_path), *signature(wire))
    second = converted_model("ONNX", first.path, *signature(wire))
    wider = [wire.tensor("x", "FP64", (-1, 4))], [wire.output("y", "Tensor", "FP64", (-1, 3))]
    third = converted_model("ONNX", converted_model("ONNX", second.path, *wider).path, *signature(wire))
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = first.answer({"x": rows})["y"]
    for candidate in (second, third):
        np.testing.assert_array_equal(candidate.answer({"x": rows})["y"], expected)
