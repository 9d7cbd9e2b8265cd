"""Bends the inputs and outputs of a graph to those of the wire: names, datatypes and shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias, cast

import onnx
from onnx import helper

from paritygate.api.report import Signature, TensorSignature
from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx_graph import ELEMENT_TYPES, value_info
from paritygate.worker.targets.tensors import Edit, Tensor, described, graph_inputs, tensors

_Step: TypeAlias = Callable[[onnx.GraphProto, str, str], onnx.NodeProto]
_SHOWN: Final = 4
_REAL: Final = {Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64}


def adapt(edit: Edit, signature: Signature, *, where: str, brought: bool) -> None:
    """Puts the signature's tensors around the graph, whose own inputs and outputs become inner tensors."""
    graph = edit.model.graph
    found = graph_inputs(edit.model), tensors(graph.output)
    inputs = _pairs("input", signature.inputs, found[0], where=where, brought=brought)
    outputs = _pairs("output", signature.outputs, found[1], where=where, brought=brought)
    if {tensor.name for tensor in found[0]} - {own.name for own in inputs.values()} or (
        brought and len(inputs) < len(signature.inputs)
    ):
        raise _differs("inputs", signature.inputs, found[0], where)
    if len(outputs) < len(signature.outputs):
        raise _differs("outputs", signature.outputs, found[1], where)
    dropped = sorted({tensor.name for tensor in found[1]} - {own.name for own in outputs.values()})
    edit.adaptations.extend(f"output {name}: dropped, the source has none like it" for name in dropped)
    inner = edit.renamed = _inner_names(graph, signature, found)
    given = [value for value in graph.input if value.name in {tensor.name for tensor in graph.initializer}]
    del graph.input[:]
    del graph.output[:]
    for tensor in signature.inputs:
        graph.input.append(value_info(tensor.name, tensor.datatype, tensor.shape))
        own = inputs.get(tensor.name)
        if own is not None:
            steps = _steps(tensor, own, target=own, where=where)
            _note(edit, "input", tensor, own, steps)
            if own.datatype is Datatype.FP32 and tensor.datatype is not Datatype.FP32:
                edit.narrowed.append(tensor.name)
            edit.before.extend(_chain(graph, tensor.name, inner[own.name], steps))
    graph.input.extend(given)
    for output in signature.outputs:
        own = outputs[output.name]
        steps = _steps(output, own, target=Tensor(output.name, output.datatype, output.shape), where=where)
        _note(edit, "output", output, own, steps)
        edit.after.extend(_chain(graph, inner[own.name], output.name, steps))
        graph.output.append(value_info(output.name, output.datatype, output.shape))


def _inner_names(
    graph: onnx.GraphProto, signature: Signature, found: tuple[Sequence[Tensor], Sequence[Tensor]]
) -> dict[str, str]:
    """Renames the file's inputs and outputs, and whatever bears a name of the signature; old name → new name."""
    names = {tensor.name for side in found for tensor in side}
    names |= {tensor.name for tensor in (*signature.inputs, *signature.outputs)}
    # A file that was finished before has names like those that are about to be added.
    added = tuple(f"{tensor.name}/" for tensor in (*signature.inputs, *signature.outputs))
    taken = {name for node in graph.node for name in (*node.input, *node.output) if name}
    names |= {name for name in taken if name.startswith(added)}
    for node in graph.node:
        if node.name.startswith((*added, "inner/")):
            node.name = ""
    prefix = "inner/"
    while any(prefix + name in taken for name in names):
        prefix = "inner/" + prefix
    inner = {name: prefix + name for name in names}
    _rename(graph, inner)
    return inner


def _pairs(
    kind: str, wanted: Sequence[TensorSignature], found: Sequence[Tensor], *, where: str, brought: bool
) -> dict[str, Tensor]:
    """Signature name → the file's tensor."""
    by_name = {tensor.name: tensor for tensor in found}
    names = [tensor.name for tensor in wanted]
    if set(names) <= set(by_name) or (not brought and set(by_name) <= set(names)):
        return {name: by_name[name] for name in names if name in by_name}
    if len(found) == len(wanted) and (not brought or len(wanted) == 1):
        return dict(zip(names, found, strict=True))
    if not brought:
        raise _differs(f"{kind}s", wanted, found, where)
    pairs = {}
    for tensor in wanted:
        fitting = [own for own in found if _fits(tensor, own)]
        rivals = [other for other in wanted if fitting and _fits(other, fitting[0])]
        if len(fitting) != 1 or len(rivals) != 1:
            raise _differs(f"{kind}s", wanted, found, where)
        pairs[tensor.name] = fitting[0]
    return pairs


def _fits(wanted: TensorSignature, own: Tensor) -> bool:
    if own.datatype is None or _kind(own.datatype) != _kind(wanted.datatype):
        return False
    return own.shape is None or _same_shape(own.shape, wanted.shape)


def _same_shape(own: Sequence[int], wanted: Sequence[int]) -> bool:
    """Whether one shape can stand for the other: equal but for free dimensions, or but for dimensions of size 1."""
    if len(own) == len(wanted):
        return all(a == b or -1 in (a, b) for a, b in zip(own, wanted, strict=True))
    return _without_ones(own) == _without_ones(wanted)


def _kind(datatype: Datatype) -> str:
    if datatype is Datatype.BYTES:
        return "text"
    return "real" if datatype in _REAL else "integer"


def _without_ones(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _steps(wanted: TensorSignature, own: Tensor, *, target: Tensor, where: str) -> list[_Step]:
    """Nodes that lead from the one to the other, `target`: at most a cast and a reshape."""
    offered = described(wanted.name, wanted.datatype, wanted.shape)
    problem = None
    if own.datatype is None or target.datatype is None:
        problem = "it is not a tensor; export it so that it is one"
    elif (own.datatype is Datatype.BYTES) != (wanted.datatype is Datatype.BYTES):
        problem = "text and numbers do not convert into each other; export it with the source's datatypes"
    elif own.shape and wanted.shape[0] == -1 and own.shape[0] != -1 and not (len(wanted.shape) < len(own.shape)):
        problem = "its first dimension is fixed, and requests bring any number of rows; export it with a dynamic batch"
    elif own.shape is not None and not _same_shape(own.shape, wanted.shape):
        problem = "the shapes differ"
    if problem is not None:
        raise ConfigurationError("CandidateSignatureDiffers", f"{where}: {own} cannot stand for {offered}: {problem}")
    steps: list[_Step] = []
    if own.datatype is not wanted.datatype:
        to = ELEMENT_TYPES[cast(Datatype, target.datatype)]
        steps.append(lambda _, x, y: helper.make_node("Cast", [x], [y], name=f"{y}/cast", to=to))
    if target.shape is not None and (own.shape is None or len(own.shape) != len(wanted.shape)):
        shape = target.shape
        if sum(size == -1 for size in shape) <= 1:
            steps.append(lambda graph, x, y: _reshape(graph, x, y, shape))
    return steps


def _reshape(graph: onnx.GraphProto, tensor: str, result: str, shape: Sequence[int]) -> onnx.NodeProto:
    name = f"{result}/shape"
    graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [len(shape)], list(shape)))
    return helper.make_node("Reshape", [tensor, name], [result], name=f"{result}/reshape")


def _chain(
    graph: onnx.GraphProto,
    start: str,
    end: str,
    steps: Sequence[_Step],
) -> list[onnx.NodeProto]:
    if not steps:
        return [helper.make_node("Identity", [start], [end], name=f"{end}/identity")]
    nodes, tensor = [], start
    for position, step in enumerate(steps):
        result = end if position == len(steps) - 1 else f"{end}/step_{position}"
        nodes.append(step(graph, tensor, result))
        tensor = result
    return nodes


def _note(edit: Edit, kind: str, wanted: TensorSignature, own: Tensor, steps: Sequence[object]) -> None:
    if steps or own.name != wanted.name:
        edit.adaptations.append(f"{kind} {own} is offered as {described(wanted.name, wanted.datatype, wanted.shape)}")


def _differs(kind: str, wanted: Sequence[TensorSignature], found: Sequence[Tensor], where: str) -> ConfigurationError:
    """Shows what has no counterpart by name, and how many have one."""
    both = {tensor.name for tensor in wanted} & {tensor.name for tensor in found}
    theirs = [str(tensor) for tensor in found if tensor.name not in both]
    ours = [described(t.name, t.datatype, t.shape) for t in wanted if t.name not in both]
    beside = f", beside {len(both)} of the same name" if both else ""
    return ConfigurationError(
        "CandidateSignatureDiffers",
        f"{where} has the {kind} {_first(theirs)}, and the source has {_first(ours)}{beside}; "
        f"export it with the same names, or state source.{kind} as the candidate has them",
    )


def _first(texts: Sequence[str]) -> str:
    """A model may have hundreds of inputs, and a message goes into a condition."""
    more = len(texts) - _SHOWN
    return ("; ".join(texts[:_SHOWN]) or "none") + (f" and {more} more" if more > 0 else "")


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Renames tensors wherever they stand, in nested graphs too."""
    if not names:
        return
    for value in [*graph.input, *graph.output, *graph.value_info, *graph.initializer]:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            for nested in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
                _rename(nested, names)
