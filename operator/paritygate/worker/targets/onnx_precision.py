"""Keeps double precision where onnxruntime would lose it.

Its MatMulScaleFusion merges a product with a constant of one element before or behind a MatMul, and holds that constant
in single precision whatever the tensors are. Here such constants are multiplied into the MatMul's own constant instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

_MATRIX_RANK = 2


def keep_double(model: onnx.ModelProto) -> None:
    """Moves every one-element double factor beside a MatMul into the MatMul's constant operand, in place."""
    graph = model.graph
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.data_type == onnx.TensorProto.DOUBLE
    }
    for node in list(graph.node):
        factor = _factor(node, constants)
        if factor is None:
            continue
        scaled, number = factor
        for product in [
            other for other in graph.node if other.op_type == "MatMul" and other.input[0] == node.output[0]
        ]:
            if product.input[1] in constants:
                product.input[1] = _scaled(graph, constants, product.input[1], number)
                product.input[0] = scaled
        producer = next((other for other in graph.node if scaled in other.output), None)
        if producer is not None and producer.op_type == "MatMul" and producer.input[1] in constants:
            own = onnx.NodeProto()
            own.CopyFrom(producer)
            own.input[1] = _scaled(graph, constants, producer.input[1], number)
            own.output[0], own.name = node.output[0], node.name
            node.CopyFrom(own)
    _drop_unused(graph)


def _factor(node: onnx.NodeProto, constants: dict[str, Any]) -> tuple[str, float] | None:
    """The tensor that a node multiplies, and by which number; None = it does something else."""
    if node.op_type == "Mul":
        pairs = [(node.input[0], node.input[1]), (node.input[1], node.input[0])]
    elif node.op_type == "Div":
        pairs = [(node.input[0], node.input[1])]
    else:
        return None
    for tensor, number in pairs:
        value = constants.get(number)
        if value is not None and tensor not in constants and value.size == 1 and value.ndim <= _MATRIX_RANK:
            return tensor, float(value.ravel()[0]) if node.op_type == "Mul" else 1.0 / float(value.ravel()[0])
    return None


def _scaled(graph: onnx.GraphProto, constants: dict[str, Any], name: str, number: float) -> str:
    scaled = np.ascontiguousarray(constants[name] * number)
    new = f"{name}/scaled_{len(constants)}"
    constants[new] = scaled
    graph.initializer.append(numpy_helper.from_array(scaled, new))
    return new


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Removes nodes and constants that nothing reads any more."""
    while True:
        read = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        dead = [node for node in graph.node if not read & set(node.output)]
        if not dead:
            break
        for node in dead:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in read]:
        graph.initializer.remove(tensor)
