"""Builds an ONNX graph node by node, with names that follow from the order of calls, so that bytes are repeatable."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from paritygate.api.spec import Datatype
from paritygate.worker.targets.onnx_precision import keep_double

ML: Final = "ai.onnx.ml"
MICROSOFT: Final = "com.microsoft"
ELEMENT_TYPES: Final[dict[Datatype, int]] = {
    Datatype.BOOL: onnx.TensorProto.BOOL,
    Datatype.UINT8: onnx.TensorProto.UINT8,
    Datatype.UINT16: onnx.TensorProto.UINT16,
    Datatype.UINT32: onnx.TensorProto.UINT32,
    Datatype.UINT64: onnx.TensorProto.UINT64,
    Datatype.INT8: onnx.TensorProto.INT8,
    Datatype.INT16: onnx.TensorProto.INT16,
    Datatype.INT32: onnx.TensorProto.INT32,
    Datatype.INT64: onnx.TensorProto.INT64,
    Datatype.FP16: onnx.TensorProto.FLOAT16,
    Datatype.BF16: onnx.TensorProto.BFLOAT16,
    Datatype.FP32: onnx.TensorProto.FLOAT,
    Datatype.FP64: onnx.TensorProto.DOUBLE,
    Datatype.BYTES: onnx.TensorProto.STRING,
}
"""Open Inference datatype → ONNX element type."""

_AXES_BECAME_INPUT = {"ReduceSum": 13, "Squeeze": 13, "Unsqueeze": 13}
_REDUCTIONS_TAKE_AXES_AS_INPUT_FROM = 18


class GraphBuilder:
    """A graph under construction. Tensors are known by their names; methods that add nodes return those."""

    def __init__(self, opset: int, ml_opset: int = 3) -> None:
        self.opset = opset
        self._domains = {"": opset, ML: ml_opset}
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._scopes: list[str] = []
        self._count = 0

    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Prefixes the names of what is added inside, such as 'model/scaler/'."""
        self._scopes.append(name)
        try:
            yield
        finally:
            self._scopes.pop()

    def require(self, domain: str, version: int) -> None:
        """Raises the version of an operator domain to at least `version`."""
        self._domains[domain] = max(version, self._domains.get(domain, 0))
        self.opset = self._domains[""]

    def input(self, name: str, datatype: Datatype, shape: Sequence[int]) -> str:
        """An input of the graph; -1 = any size."""
        self._inputs.append(value_info(name, datatype, shape))
        return name

    def output(self, name: str, tensor: str, datatype: Datatype, shape: Sequence[int]) -> None:
        """Offers `tensor` as the graph's next output."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name], name=f"output/{name}"))
        self._outputs.append(value_info(name, datatype, shape))

    def constant(self, value: Any, dtype: type[np.generic] | None = None) -> str:
        """An initializer; equal arrays share one."""
        array = np.ascontiguousarray(value, dtype=dtype).reshape(np.shape(value))
        if array.dtype.kind in "OUS":
            array = array.astype(object)
            content = repr(array.tolist()).encode()
        else:
            content = array.tobytes()
        key = (str(array.dtype), array.shape, content)
        if key not in self._initializers:
            name = f"constant_{len(self._initializers)}"
            self._initializers[key] = (
                helper.make_tensor(
                    name, onnx.TensorProto.STRING, array.shape, [str(v).encode() for v in array.ravel().tolist()]
                )
                if array.dtype == object
                else numpy_helper.from_array(array, name)
            )
        return str(self._initializers[key].name)

    def add(self, operator: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output and returns that output's name."""
        return self.add_many(operator, *inputs, outputs=1, domain=domain, **attributes)[0]

    def add_many(
        self, operator: str, *inputs: str, outputs: int, domain: str = "", **attributes: Any
    ) -> tuple[str, ...]:
        """Adds a node with several outputs and returns their names."""
        if domain not in self._domains:
            self._domains[domain] = 1
        path = "/".join([*self._scopes, f"{operator.lower()}_{self._count}"])
        self._count += 1
        names = (path,) if outputs == 1 else tuple(f"{path}:{index}" for index in range(outputs))
        self._nodes.append(helper.make_node(operator, inputs, names, name=path, domain=domain, **attributes))
        return names

    def reduce(self, operator: str, tensor: str, axis: int = 1, *, keepdims: bool = True) -> str:
        """A reduction over one axis, whose axes are an attribute before opset 18 and an input from then on."""
        since = _AXES_BECAME_INPUT.get(operator, _REDUCTIONS_TAKE_AXES_AS_INPUT_FROM)
        if self.opset >= since:
            return self.add(operator, tensor, self.constant([axis], np.int64), keepdims=int(keepdims))
        return self.add(operator, tensor, axes=[axis], keepdims=int(keepdims))

    def cast(self, tensor: str, element_type: int) -> str:
        """`tensor` in another element type."""
        return self.add("Cast", tensor, to=element_type)

    def inline(self, model: onnx.ModelProto, feed: str) -> list[str]:
        """Adds the nodes of a model of one input, which becomes `feed`; returns its outputs."""
        graph = model.graph
        for entry in model.opset_import:
            self.require(entry.domain, entry.version)
        prefix = "/".join([*self._scopes, f"inline_{self._count}"])
        self._count += 1
        names = {"": "", graph.input[0].name: feed}
        for tensor in graph.initializer:
            names[tensor.name] = self.constant(_array_of(tensor))
        for node in graph.node:
            for output in node.output:
                names.setdefault(output, f"{prefix}/{len(names)}")
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.input[:] = [names[name] for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            copy.name = f"{prefix}/node_{len(self._nodes)}"
            self._nodes.append(copy)
        return [names[output.name] for output in graph.output]

    def model(self, name: str) -> onnx.ModelProto:
        """The finished model; IR version as old as its operators allow."""
        used = {node.domain for node in self._nodes} | {""}
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=list(self._initializers.values())
        )
        imports = [helper.make_opsetid(domain, version) for domain, version in self._domains.items() if domain in used]
        model = helper.make_model(
            graph, opset_imports=imports, producer_name="paritygate", ir_version=minimum_ir_version(imports)
        )
        keep_double(model)
        return model


def _array_of(tensor: onnx.TensorProto) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = numpy_helper.to_array(tensor)
    if tensor.data_type != onnx.TensorProto.STRING:
        return array
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in array.ravel()]
    return np.array(texts, dtype=object).reshape(array.shape)


def minimum_ir_version(imports: Sequence[onnx.OperatorSetIdProto]) -> int:
    """The oldest IR version that may carry these operator sets, at least 8 for initializers that are not inputs."""
    return max(8, int(helper.find_min_ir_version_for(list(imports), ignore_unknown=True)))


def value_info(name: str, datatype: Datatype, shape: Sequence[int]) -> onnx.ValueInfoProto:
    """A tensor's declaration; the first dimension, where free, is called 'batch'."""
    dimensions = [
        size if size >= 0 else "batch" if position == 0 else f"{name}_{position}" for position, size in enumerate(shape)
    ]
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], dimensions)
