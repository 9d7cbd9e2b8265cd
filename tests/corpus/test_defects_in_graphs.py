"""Silent defects that exporters and hands have put into graphs, reproduced by ONNX surgery: each must be stopped."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.tree import DecisionTreeClassifier

from paritygate.api.report import CheckName, Verdict
from paritygate.api.spec import SourceFormat

pytestmark = pytest.mark.filterwarnings("ignore")
DOUBLE, FLOAT, INT64 = TensorProto.DOUBLE, TensorProto.FLOAT, TensorProto.INT64


def graph(
    nodes: list[Any], inputs: list[Any], outputs: list[Any], constants: dict[str, Any] | None = None, opset: int = 18
) -> Any:
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, values), opset_imports=[helper.make_opsetid("", opset)]
    )
    model.ir_version = 8
    return model


def value(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, ["rows", *shape])


def logistic(model: Any, *, before: list[Any] | None = None, feed: str = "features", after: str = "softmax") -> Any:
    """A logistic regression as a graph, to be broken in one place."""
    coefficients = np.vstack([-model.coef_, model.coef_]) / 2 if len(model.classes_) == 2 else model.coef_
    intercept = (
        np.concatenate([-model.intercept_, model.intercept_]) / 2 if len(model.classes_) == 2 else model.intercept_
    )
    classes = len(model.classes_)
    nodes = [
        *(before or []),
        helper.make_node("MatMul", [feed, "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["logits"]),
    ]
    constants = {
        "w": coefficients.T.copy(),
        "b": intercept,
        "order": np.arange(classes)[::-1].copy(),
        "one": np.asarray([1]),
    }
    label = "logits"
    if after == "softmax":
        nodes.append(helper.make_node("Softmax", ["logits"], ["p"], axis=1))
    elif after == "swapped":
        nodes += [
            helper.make_node("Softmax", ["logits"], ["q"], axis=1),
            helper.make_node("Gather", ["q", "order"], ["p"], axis=1),
        ]
    elif after == "none":
        nodes.append(helper.make_node("Identity", ["logits"], ["p"]))
    elif after == "sigmoid":
        nodes.append(helper.make_node("Sigmoid", ["logits"], ["p"]))
    elif after == "over rows":
        nodes.append(helper.make_node("Softmax", ["logits"], ["p"], axis=0))
    if after == "off by one":
        nodes += [
            helper.make_node("Softmax", ["logits"], ["p"], axis=1),
            helper.make_node("ArgMax", [label], ["raw"], axis=1, keepdims=0),
            helper.make_node("Add", ["raw", "one"], ["label"]),
        ]
    else:
        nodes.append(helper.make_node("ArgMax", [label], ["label"], axis=1, keepdims=0))
    nodes.append(helper.make_node("Cast", ["p"], ["probabilities"], to=FLOAT))
    return graph(
        nodes,
        [value("features", DOUBLE, 8)],
        [value("label", INT64), value("probabilities", FLOAT, classes)],
        constants,
    )


def test_the_gate_passes_the_unbroken_graph(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, truth = corpus.classification(classes=3)
    model = LogisticRegression().fit(x, y)
    assert gate.brought(case(model, corpus.matrix(held, y=truth), label="y"), logistic(model)).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("after", "check", "symptom"),
    [
        pytest.param("swapped", CheckName.CONTRACT, "another order", id="class order swapped"),
        pytest.param("none", CheckName.NUMERIC, "softmax is missing", id="softmax missing"),
        pytest.param("sigmoid", CheckName.NUMERIC, "", id="logistic function per class instead of softmax"),
        pytest.param("over rows", CheckName.CONTRACT, "", id="softmax over the batch instead of the classes"),
        pytest.param("off by one", CheckName.CONTRACT, "off by 1", id="label encoder off by one"),
    ],
)
def test_the_end_of_a_classifier_is_wrong(
    gate: Any, case: Any, corpus: Any, after: str, check: CheckName, symptom: str
) -> None:
    x, y, held, _ = corpus.classification(classes=3)
    model = LogisticRegression().fit(x, y)
    report = gate.brought(case(model, corpus.matrix(held)), logistic(model, after=after))
    assert report.verdict is Verdict.FAILED
    assert report.diagnosis.check is check
    assert symptom in report.diagnosis.where


def test_batch_normalization_is_left_in_training_mode(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    model = LogisticRegression().fit((x - x.mean(axis=0)) / x.std(axis=0), y)
    held = (held - held.mean(axis=0)) / held.std(axis=0)
    before = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["features", "mean"], ["centred"]),
        helper.make_node("ReduceL2", ["centred"], ["norm"], axes=[0], keepdims=1),
        helper.make_node("Shape", ["features"], ["shape"], start=0, end=1),
        helper.make_node("Cast", ["shape"], ["count"], to=DOUBLE),
        helper.make_node("Sqrt", ["count"], ["root"]),
        helper.make_node("Div", ["norm", "root"], ["deviation"]),
        helper.make_node("Add", ["deviation", "tiny"], ["safe"]),
        helper.make_node("Div", ["centred", "safe"], ["normal"]),
    ]
    artefact = logistic(model, before=before, feed="normal")
    artefact.opset_import[0].version = 17
    artefact.graph.initializer.append(numpy_helper.from_array(np.asarray([1e-12]), "tiny"))
    report = gate.brought(case(model, corpus.matrix(held)), artefact)
    assert report.verdict is Verdict.FAILED
    assert report.diagnosis.check is CheckName.CONTRACT
    assert "batch" in report.sentence


def test_dropout_is_left_on(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    model = LogisticRegression().fit(x, y)
    before = [
        helper.make_node("RandomUniformLike", ["features"], ["noise"], seed=1.0),
        helper.make_node("Less", ["keep", "noise"], ["kept"]),
        helper.make_node("Where", ["kept", "features", "zero"], ["dropped"]),
    ]
    artefact = logistic(model, before=before, feed="dropped")
    artefact.graph.initializer.extend(
        [numpy_helper.from_array(np.asarray(0.1), "keep"), numpy_helper.from_array(np.asarray(0.0), "zero")]
    )
    assert gate.brought(case(model, corpus.matrix(held)), artefact).verdict is Verdict.FAILED


def test_the_batch_is_frozen_by_a_reshape(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    model = LogisticRegression().fit(x, y)
    before = [helper.make_node("Reshape", ["features", "one_row"], ["row"])]
    artefact = logistic(model, before=before, feed="row")
    artefact.graph.initializer.append(numpy_helper.from_array(np.asarray([1, 8]), "one_row"))
    report = gate.brought(case(model, corpus.matrix(held)), artefact)
    assert report.verdict is Verdict.FAILED
    assert report.diagnosis.check is CheckName.CONTRACT


def test_float16_overflows(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    model = LinearRegression().fit(x, y)
    model.coef_ = model.coef_ * 3e4
    constants = {"w": model.coef_.reshape(8, 1), "b": np.asarray([model.intercept_]), "flat": np.asarray([-1])}
    nodes = [
        helper.make_node("MatMul", ["features", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["wide"], to=FLOAT),
        helper.make_node("Reshape", ["wide", "flat"], ["prediction"]),
    ]
    artefact = graph(nodes, [value("features", DOUBLE, 8)], [value("prediction", FLOAT)], constants)
    report = gate.brought(case(model, corpus.matrix(held)), artefact)
    assert report.verdict is Verdict.FAILED
    assert "float16" in report.diagnosis.where


def test_the_features_are_reordered(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    model = LogisticRegression().fit(x, y)
    before = [helper.make_node("Gather", ["features", "alphabetical"], ["sorted"], axis=1)]
    artefact = logistic(model, before=before, feed="sorted")
    artefact.graph.initializer.append(numpy_helper.from_array(np.asarray([1, 0, 2, 3, 4, 5, 6, 7]), "alphabetical"))
    assert gate.brought(case(model, corpus.matrix(held)), artefact).verdict is Verdict.FAILED


def test_missing_values_become_zero(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(np.where(x > 1.5, np.nan, x), y)
    held = np.where(held > 1.5, np.nan, held)
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    artefact = to_onnx(
        model, initial_types=[("features", FloatTensorType([None, 8]))], options={"zipmap": False}, target_opset=18
    )
    for node in artefact.graph.node:
        node.input[:] = ["filled" if name == "features" else name for name in node.input]
    artefact.graph.node.insert(0, helper.make_node("IsNaN", ["features"], ["missing"]))
    artefact.graph.node.insert(1, helper.make_node("Where", ["missing", "nought", "features"], ["filled"]))
    artefact.graph.initializer.append(numpy_helper.from_array(np.asarray(0, np.float32), "nought"))
    report = gate.brought(case(model, corpus.matrix(held)), artefact)
    assert report.verdict is Verdict.FAILED


def test_thresholds_compare_with_less_instead_of_less_or_equal(gate: Any, case: Any, corpus: Any) -> None:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    random = np.random.default_rng(0)
    x = random.integers(0, 9, size=(1800, 3)).astype(np.float32)
    y = ((x[:, 0] > 4) ^ (x[:, 1] > 2)).astype(int)
    model = DecisionTreeClassifier(max_depth=4, random_state=0).fit(x[:600] / 2, y[:600])
    artefact = to_onnx(
        model, initial_types=[("features", FloatTensorType([None, 3]))], options={"zipmap": False}, target_opset=18
    )
    for attribute in artefact.graph.node[0].attribute:
        if attribute.name == "nodes_modes":
            attribute.strings[:] = [b"BRANCH_LT" if mode == b"BRANCH_LEQ" else mode for mode in attribute.strings]
    held = x[600:] / 2
    held[:, 0] = np.where(held[:, 0] == 2.5, 2.25, held[:, 0])
    assert gate.brought(case(model, corpus.matrix(held)), artefact).verdict is Verdict.FAILED


def test_identifiers_overflow_int32(gate: Any, case: Any) -> None:
    def hashed(*, narrow: bool) -> Any:
        nodes = [helper.make_node("Cast", ["id"], ["narrow"], to=TensorProto.INT32)] if narrow else []
        nodes += [
            helper.make_node("Cast", ["narrow" if narrow else "id"], ["wide"], to=INT64),
            helper.make_node("Mod", ["wide", "buckets"], ["bucket"]),
            helper.make_node("Cast", ["bucket"], ["score"], to=FLOAT),
        ]
        return graph(nodes, [value("id", INT64)], [value("score", FLOAT)], {"buckets": np.asarray(97)})

    rows = {"id": np.arange(400, dtype=np.int64) * 20_000_003}
    source = case(hashed(narrow=False), rows, SourceFormat.ONNX)
    report = gate.brought(source, hashed(narrow=True))
    assert report.verdict is Verdict.FAILED


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({"coordinate_transformation_mode": "asymmetric"}, id="resize without aligned corners"),
        pytest.param({"coordinate_transformation_mode": "half_pixel"}, id="resize of an older opset"),
    ],
)
def test_resize_samples_other_points(gate: Any, case: Any, attributes: dict[str, str]) -> None:
    def resized(**settings: str) -> Any:
        return graph(
            [helper.make_node("Resize", ["image", "", "scales"], ["large"], mode="linear", **settings)],
            [value("image", FLOAT, 1, 6, 6)],
            [value("large", FLOAT, 1, 12, 12)],
            {"scales": np.asarray([1, 1, 2, 2], np.float32)},
        )

    images = np.random.default_rng(0).random((200, 1, 6, 6)).astype(np.float32)
    source = case(resized(coordinate_transformation_mode="align_corners"), {"image": images}, SourceFormat.ONNX)
    assert gate.brought(source, resized(**attributes)).verdict is Verdict.FAILED


def test_images_are_flattened_channels_last(gate: Any, case: Any) -> None:
    weights = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)

    def flattened(order: list[int]) -> Any:
        nodes = [
            helper.make_node("Transpose", ["image"], ["moved"], perm=order),
            helper.make_node("Flatten", ["moved"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "w"], ["scores"]),
        ]
        return graph(nodes, [value("image", FLOAT, 3, 4, 4)], [value("scores", FLOAT, 3)], {"w": weights})

    images = np.random.default_rng(1).random((300, 3, 4, 4)).astype(np.float32)
    source = case(flattened([0, 1, 2, 3]), {"image": images}, SourceFormat.ONNX)
    assert gate.brought(source, flattened([0, 2, 3, 1])).verdict is Verdict.FAILED


def test_the_output_scaling_is_lost(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    model = MLPRegressor(hidden_layer_sizes=(4,), max_iter=50, random_state=0).fit(x, y)
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import DoubleTensorType

    artefact = to_onnx(model, initial_types=[("features", DoubleTensorType([None, 8]))])
    last = next(t for t in reversed(artefact.graph.initializer) if numpy_helper.to_array(t).dtype.kind == "f")
    last.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(last) * 1.001, last.name))
    assert gate.brought(case(model, corpus.matrix(held)), artefact).verdict is Verdict.FAILED
