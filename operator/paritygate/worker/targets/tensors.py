"""Inputs and outputs of a graph, and what is noted while it is changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import onnx

from paritygate.api.spec import Datatype
from paritygate.worker.targets.onnx_graph import ELEMENT_TYPES

_DATATYPES: Final = {element_type: datatype for datatype, element_type in ELEMENT_TYPES.items()}


@dataclass(frozen=True)
class Tensor:
    """An input or output as the file declares it."""

    name: str
    datatype: Datatype | None
    """None = a sequence, map or type that the Open Inference Protocol does not carry."""
    shape: tuple[int, ...] | None
    """-1 = any size; None = the rank is not declared."""

    def __str__(self) -> str:
        return described(self.name, self.datatype, self.shape)


@dataclass
class Edit:
    """A graph being adapted: nodes to put before and after the existing ones."""

    model: onnx.ModelProto
    before: list[onnx.NodeProto] = field(default_factory=list)
    after: list[onnx.NodeProto] = field(default_factory=list)
    adaptations: list[str] = field(default_factory=list)
    narrowed: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)


def described(name: str, datatype: Datatype | None, shape: Sequence[int] | None) -> str:
    """A tensor in words, such as 'features FP32 [-1, 30]'."""
    return f"{name} {datatype or 'of no wire datatype'} {'of unknown shape' if shape is None else list(shape)}"


def tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    """Declared inputs or outputs."""
    return tuple(tensor_of(value) for value in values)


def graph_inputs(model: onnx.ModelProto) -> tuple[Tensor, ...]:
    """Inputs that a caller must give: those without an initializer of the same name."""
    given = {tensor.name for tensor in model.graph.initializer}
    return tensors(value for value in model.graph.input if value.name not in given)


def tensor_of(value: onnx.ValueInfoProto) -> Tensor:
    """A declared input or output as a `Tensor`; what is no tensor has neither datatype nor shape."""
    if value.type.WhichOneof("value") != "tensor_type":
        return Tensor(value.name, None, None)
    declared = value.type.tensor_type
    shape = None
    if declared.HasField("shape"):
        shape = tuple(
            dimension.dim_value if dimension.HasField("dim_value") and dimension.dim_value > 0 else -1
            for dimension in declared.shape.dim
        )
    return Tensor(value.name, _DATATYPES.get(declared.elem_type), shape)
