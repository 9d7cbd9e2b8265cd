"""Ways in which exported networks go wrong without an error, reproduced on a sound conversion or before the export."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

from paritygate.api.report import ParityReport

Damage = Callable[["Network"], Any]


@dataclass
class Network:
    """A trained network, ParityGate's own conversion of it, and the gate that captured it."""

    gate: Any
    case: Any
    module: Any
    sound: ParityReport

    def graph(self) -> Any:
        """The sound conversion, to be damaged."""
        return onnx.load(self.gate.artefact)

    def judged(self, damage: Damage) -> ParityReport:
        """The verdict on a damaged artefact."""
        return self.gate.brought(self.case, damage(self))

    def exported(self, change: Callable[[Any], Any]) -> Any:
        """The ONNX of a copy of the module that was changed before it was exported."""
        module = copy.deepcopy(self.module)
        change(module)
        name, rows = next(iter(self.case.rows.items()))
        program = torch.onnx.export(
            module.eval(),
            (torch.from_numpy(rows[:3]),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            input_names=[name],
            output_names=["output"],
            opset_version=18,
            verbose=False,
        )
        return program.model_proto


def attribute(kind: str, place: int = 0, **values: Any) -> Damage:
    """Sets attributes of one node of a kind."""

    def damage(network: Network) -> Any:
        graph = network.graph()
        node = [node for node in graph.graph.node if node.op_type == kind][place]
        kept = [one for one in node.attribute if one.name not in values]
        del node.attribute[:]
        node.attribute.extend([*kept, *(helper.make_attribute(key, value) for key, value in values.items())])
        return graph

    return damage


def weights(change: Callable[[str, Any], Any]) -> Damage:
    """Replaces the floating-point constants of the graph."""

    def damage(network: Network) -> Any:
        graph = network.graph()
        touched = False
        for tensor in graph.graph.initializer:
            value = numpy_helper.to_array(tensor)
            if value.dtype == np.float32 and value.ndim:
                changed = np.asarray(change(tensor.name, value.copy()), np.float32)
                touched |= not np.array_equal(changed, value)
                tensor.CopyFrom(numpy_helper.from_array(changed, tensor.name))
        assert touched, "the graph names its constants otherwise"
        return graph

    return damage


def module(change: Callable[[Any], Any]) -> Damage:
    """Exports another module than the one that was trained."""

    def damage(network: Network) -> Any:
        return network.exported(change)

    return damage


def before(kind: str, *nodes: Any, place: int = 0, **constants: Any) -> Damage:
    """Puts nodes between the first input of a node of a kind and that node; they go from `from` to `to`."""

    def damage(network: Network) -> Any:
        graph = network.graph()
        position, node = [(i, node) for i, node in enumerate(graph.graph.node) if node.op_type == kind][place]
        data = 1 if kind == "Gather" else 0
        for offset, made in enumerate(nodes):
            one = helper.make_node(
                made[0], [node.input[data] if n == "from" else n for n in made[1]], made[2], **made[3]
            )
            graph.graph.node.insert(position + offset, one)
        graph.graph.node[position + len(nodes)].input[data] = "to"
        graph.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
        return graph

    return damage


def only(name: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """The change for one constant."""
    return lambda tensor, value: change(value) if tensor.endswith(name) else value


def to_bfloat16(value: Any) -> Any:
    return torch.from_numpy(value).bfloat16().float().numpy()


def to_int8(value: Any) -> Any:
    """Rounded to 255 steps, each row by its own range, as weight-only quantisation does."""
    if value.ndim < 2:
        return value
    step = np.abs(value).max(axis=tuple(range(1, value.ndim)), keepdims=True) / 127
    return np.where(step > 0, np.round(value / np.where(step > 0, step, 1)) * step, value)


def put(path: str, **values: Any) -> Callable[[Any], None]:
    """Sets attributes of a part of a module."""

    def change(whole: Any) -> None:
        part = whole.get_submodule(path)
        for key, value in values.items():
            setattr(part, key, value)

    return change


class BatchStatistics(torch.nn.Module):
    """Batch normalisation as it is in training mode."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Any) -> Any:
        centred = x - x.mean((0, 2, 3), keepdim=True)
        scaled = centred / (centred.square().mean((0, 2, 3), keepdim=True) + 1e-5).sqrt()
        return scaled * self.weight[:, None, None] + self.bias[:, None, None]


def tanh_gelu(network: Network) -> Any:
    """Replaces each error function by its approximation with tanh."""
    graph = network.graph()
    for place, node in reversed([(i, n) for i, n in enumerate(graph.graph.node) if n.op_type == "Erf"]):
        x, y = node.input[0], node.output[0]
        del graph.graph.node[place]
        made = [
            helper.make_node("Mul", [x, x], [f"{y}_square"]),
            helper.make_node("Mul", [f"{y}_square", "of_cube"], [f"{y}_part"]),
            helper.make_node("Add", [f"{y}_part", "of_line"], [f"{y}_sum"]),
            helper.make_node("Mul", [f"{y}_sum", x], [f"{y}_inner"]),
            helper.make_node("Tanh", [f"{y}_inner"], [y]),
        ]
        for offset, one in enumerate(made):
            graph.graph.node.insert(place + offset, one)
    # erf(u) ≈ tanh(√(2/π) · (√2 u + 0.044715 (√2 u)³)).
    root = np.sqrt(2 / np.pi)
    for name, value in (("of_line", root * np.sqrt(2)), ("of_cube", root * 0.044715 * np.sqrt(8))):
        graph.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    return graph


def gates_reordered(network: Network) -> Any:
    """The gates of the cell in PyTorch's order (i, f, c, o), where ONNX reads i, o, f, c."""
    graph = network.graph()
    cell = next(node for node in graph.graph.node if node.op_type == "LSTM")
    for tensor in graph.graph.initializer:
        if tensor.name in cell.input[1:4]:
            value = numpy_helper.to_array(tensor)
            blocks = value.reshape(value.shape[0], -1, 16, *value.shape[2:])
            order = [0, 2, 3, 1] + ([4, 6, 7, 5] if blocks.shape[1] == 8 else [])
            tensor.CopyFrom(numpy_helper.from_array(blocks[:, order].reshape(value.shape).copy(), tensor.name))
    return graph


def without_mask(network: Network) -> Any:
    """Attention sees the padding."""
    graph = network.graph()
    for node in graph.graph.node:
        if node.op_type == "Where" and node.input[0] == "bitwise_not":
            node.input[1] = node.input[2]
    return graph


def cast(kind: int) -> Damage:
    """Token identifiers go through a narrower type."""
    return before("Gather", ("Cast", ["from"], ["narrow"], {"to": kind}), ("Cast", ["narrow"], ["to"], {"to": 7}))


def rolled(shift: int) -> Callable[[Any], Any]:
    return lambda value: np.roll(value, shift, axis=0)


def set_to(place: Any, value: Any) -> Callable[[Any], Any]:
    def change(array: Any) -> Any:
        array[place] = value(array[place]) if callable(value) else value
        return array

    return change
