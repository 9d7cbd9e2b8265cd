"""Finishes an ONNX file: exactly the wire signature, nothing that the serving runtime cannot read, repeatable bytes.

Works on the file without its external data, so models above 2 GB cost no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper

from paritygate.api.report import Signature, TensorSignature
from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx_graph import ELEMENT_TYPES, MICROSOFT, ML, minimum_ir_version, value_info

# What onnxruntime 1.31, the serving runtime that pyproject.toml pins, reads.
NEWEST_OPSET: Final = 26
NEWEST_IR_VERSION: Final = 13
SERVED_DOMAINS: Final[dict[str, int]] = {"": NEWEST_OPSET, "ai.onnx": NEWEST_OPSET, ML: 5, MICROSOFT: 1}
OLDEST_OPSET: Final = 13

_DATATYPES: Final = {element_type: datatype for datatype, element_type in ELEMENT_TYPES.items()}
_CLASSIFIERS: Final = {"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"}
_Step: TypeAlias = Callable[[onnx.GraphProto, str, str], onnx.NodeProto]
_REAL: Final = {Datatype.FP16, Datatype.BF16, Datatype.FP32, Datatype.FP64}


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


@dataclass(frozen=True)
class Finished:
    """What a finished file is, and what was changed to make it offer the signature."""

    opset: int
    ir_version: int
    adaptations: tuple[str, ...]
    narrowed: tuple[str, ...] = ()
    """Inputs that the model itself takes in single precision, though the wire carries more."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Tensors whose names had to change, old → new."""
    trees: bool = False
    """Whether ensembles of trees do the work."""


@dataclass
class _Edit:
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


def read(path: Path, *, where: str) -> onnx.ModelProto:
    """The model without its external data. ConfigurationError: not an ONNX file; `where` names the manifest's field."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ConfigurationError(
            "ModelUnreadable", f"{where}: {path.name} is not a readable ONNX file ({error}); export it again"
        ) from error
    if not model.HasField("graph") or not model.opset_import:
        raise ConfigurationError(
            "ModelUnreadable", f"{where}: {path.name} holds no ONNX graph; it is empty, truncated or of another format"
        )
    return model


def tensors(values: Iterable[onnx.ValueInfoProto]) -> tuple[Tensor, ...]:
    """Declared inputs or outputs."""
    return tuple(_tensor(value) for value in values)


def graph_inputs(model: onnx.ModelProto) -> tuple[Tensor, ...]:
    """Inputs that a caller must give: those without an initializer of the same name."""
    given = {tensor.name for tensor in model.graph.initializer}
    return tensors(value for value in model.graph.input if value.name not in given)


def finish(path: Path, signature: Signature, *, brought: bool = False) -> Finished:
    """Rewrites the model at `path` so that it offers exactly `signature`.

    Tensors are matched by name, else by position or, in a brought artefact, by what only one of them can be; missing
    casts and reshapes are added. ConfigurationError: the model cannot offer it, and what differs.
    """
    where = "target.candidate.uri" if brought else "the converted model"
    model = read(path, where=where)
    _check_versions(model, where)
    edit = _Edit(model)
    _bypass_zipmaps(edit)
    if brought:
        _free_labels(edit)
    _adapt(edit, signature, where=where, brought=brought)
    nodes = [*edit.before, *model.graph.node, *edit.after]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _strip(model)
    imports = [entry for entry in model.opset_import if entry.domain in SERVED_DOMAINS]
    model.ir_version = min(max(model.ir_version, minimum_ir_version(imports)), NEWEST_IR_VERSION)
    path.write_bytes(model.SerializeToString(deterministic=True))
    try:
        onnx.checker.check_model(str(path))
    except onnx.checker.ValidationError as error:
        raise ConfigurationError("CandidateInvalid", f"{where} is not a valid ONNX model: {error}") from error
    opset = max(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    trees = any(node.op_type.startswith("TreeEnsemble") for node in nodes)
    return Finished(opset, model.ir_version, tuple(edit.adaptations), tuple(edit.narrowed), edit.renamed, trees)


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
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


def _check_versions(model: onnx.ModelProto, where: str) -> None:
    local = {function.domain for function in model.functions}
    for entry in model.opset_import:
        newest = SERVED_DOMAINS.get(entry.domain)
        if newest is None and entry.domain not in local and _uses_domain(model, entry.domain):
            raise ConfigurationError(
                "CandidateUnservable",
                f"{where} uses operators of domain {entry.domain!r}, which the serving onnxruntime does not have; "
                f"export it with standard ONNX operators only",
            )
        if newest is not None and entry.version > newest:
            raise ConfigurationError(
                "CandidateUnservable",
                f"{where} uses version {entry.version} of operator set {entry.domain or 'ai.onnx'!r}, and the serving "
                f"onnxruntime reads up to {newest}; export it with opset {newest} or older",
            )


def _uses_domain(model: onnx.ModelProto, domain: str) -> bool:
    return any(node.domain == domain for node in _all_nodes(model))


def _all_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    stack: list[Any] = [model.graph, *model.functions]
    while stack:
        for node in stack.pop().node:
            yield node
            for attribute in node.attribute:
                stack.extend(attribute.graphs)
                if attribute.HasField("g"):
                    stack.append(attribute.g)


def _bypass_zipmaps(edit: _Edit) -> None:
    """Offers the tensor that a ZipMap turns into a list of dictionaries, which no tensor protocol carries."""
    graph = edit.model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    for output in graph.output:
        node = made_by.get(output.name)
        if node is not None and node.op_type == "ZipMap":
            edit.adaptations.append(f"output {output.name}: ZipMap removed, its scores are offered as a tensor")
            graph.node.remove(node)
            graph.node.append(helper.make_node("Identity", [node.input[0]], [output.name], name=node.name))
            output.CopyFrom(value_info(output.name, Datatype.FP32, (-1, -1)))


def _free_labels(edit: _Edit) -> None:
    """Corrects labels declared as one value although their classifier gives one per row, as onnxmltools declares them.

    Only where nothing but casts stands between: elsewhere a declared size of 1 may be meant.
    """
    graph = edit.model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    for output in graph.output:
        tensor = _tensor(output)
        if tensor.shape != (1,) or tensor.datatype is None:
            continue
        name = output.name
        while name in made_by and made_by[name].op_type in {"Identity", "Cast"}:
            name = made_by[name].input[0]
        node = made_by.get(name)
        if node is not None and node.op_type in _CLASSIFIERS and node.output[0] == name:
            edit.adaptations.append(f"output {output.name}: declared as [1], its {node.op_type} gives one per row")
            output.CopyFrom(value_info(output.name, tensor.datatype, (-1,)))


def _adapt(edit: _Edit, signature: Signature, *, where: str, brought: bool) -> None:
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


def _note(edit: _Edit, kind: str, wanted: TensorSignature, own: Tensor, steps: Sequence[object]) -> None:
    if steps or own.name != wanted.name:
        edit.adaptations.append(f"{kind} {own} is offered as {described(wanted.name, wanted.datatype, wanted.shape)}")


def _differs(kind: str, wanted: Sequence[TensorSignature], found: Sequence[Tensor], where: str) -> ConfigurationError:
    return ConfigurationError(
        "CandidateSignatureDiffers",
        f"{where} has the {kind} {'; '.join(map(str, found)) or 'none'}, and the source has "
        f"{'; '.join(described(t.name, t.datatype, t.shape) for t in wanted)}; "
        f"export it with the same names, or state source.{kind} as the candidate has them",
    )


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


def _strip(model: onnx.ModelProto) -> None:
    """Removes what says where, when and by whom the file was made, and what no runtime reads."""
    model.graph.name = "model"
    for holder in (model, model.graph, *model.functions):
        holder.ClearField("doc_string")
        holder.ClearField("metadata_props")
    for node in _all_nodes(model):
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info, *model.graph.initializer]:
        value.ClearField("doc_string")
        if value.metadata_props:
            value.ClearField("metadata_props")
    del model.graph.value_info[:]
    model.ClearField("producer_version")
    model.ClearField("model_version")
    model.ClearField("domain")
