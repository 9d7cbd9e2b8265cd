"""Exports of networks do not say where modules are: the first that differs is found by values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from paritygate.api.artifacts import Step
from paritygate.worker.parity.divergence import locate
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.tracing import Graph

ROWS = (0, 5, 9, 400)


def network(path: Any, weights: dict[str, Any]) -> Graph:
    """Two products with a rectifier between, the first with its normalisation folded in, as exporters write it."""
    nodes = [
        helper.make_node("MatMul", ["features", "one"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "two"], ["prediction"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes, "g", [value("features", TensorProto.DOUBLE, ["rows", 4])],
        [value("prediction", TensorProto.DOUBLE, ["rows", 1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, str(path))
    return Graph(path)


def answered(x: Any, weights: dict[str, Any]) -> dict[str, Any]:
    """What a network computes, the two parts of its first layer apart."""
    normal = x @ weights["one"]
    return {"linear": normal / 2 + 1, "norm": normal, "act": np.maximum(normal, 0),
            "last": np.maximum(normal, 0) @ weights["two"]}  # fmt: skip


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        pytest.param("two", "step last (Linear)", id="the last layer"),
        pytest.param("one", "step linear (Linear) or what follows it", id="the first, of which nothing is found"),
    ],
)
def test_the_layer_that_differs_is_named(regressor: Any, tmp_path: Any, broken: str, place: str) -> None:
    random = np.random.default_rng(0)
    weights = {"one": random.normal(size=(4, 6)), "two": random.normal(size=(6, 1))}
    evidence: Evidence = regressor()
    x = evidence.inputs["features"]
    values = answered(x, weights)
    kinds = {"linear": "Linear", "norm": "BatchNorm1d", "act": "ReLU", "last": "Linear"}
    capture = evidence.capture.model_copy(
        update={"steps": tuple(Step(name=n, kind=k) for n, k in kinds.items()), "step_rows": ROWS}
    )
    wrong = {**weights, broken: weights[broken] * 1.2 + 0.1}
    judged = Evidence(
        capture=capture,
        policy=evidence.policy,
        inputs=evidence.inputs,
        reference={"prediction": values["last"][:, 0]},
        candidate={"prediction": answered(x, wrong)["last"][:, 0]},
    )
    steps = {name: array[list(ROWS)] for name, array in values.items()}
    found = locate(judged, steps, network(tmp_path / "model.onnx", wrong))
    assert found is not None
    assert found.place == place, found.sentence
    if broken == "two":
        # The layer that was folded into its neighbour is no divergence.
        assert "2 steps agree before it" in found.sentence
