"""Finishes an ONNX file: exactly the wire signature, nothing that the serving runtime cannot read, repeatable bytes.

Works on the file without its external data, so models above 2 GB cost no memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import helper

from paritygate.api.report import Signature
from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.targets.adapting import adapt
from paritygate.worker.targets.onnx_graph import MICROSOFT, ML, minimum_ir_version, value_info
from paritygate.worker.targets.tensors import Edit, tensor_of

# What onnxruntime 1.31, the serving runtime that pyproject.toml pins, reads.
NEWEST_OPSET: Final = 26
NEWEST_IR_VERSION: Final = 13
SERVED_DOMAINS: Final[dict[str, int]] = {"": NEWEST_OPSET, "ai.onnx": NEWEST_OPSET, ML: 5, MICROSOFT: 1}
OLDEST_OPSET: Final = 13

_CLASSIFIERS: Final = {"LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier"}


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


def finish(path: Path, signature: Signature, *, brought: bool = False) -> Finished:
    """Rewrites the model at `path` so that it offers exactly `signature`.

    Tensors are matched by name, else by position or, in a brought artefact, by what only one of them can be; missing
    casts and reshapes are added. ConfigurationError: the model cannot offer it, and what differs.
    """
    where = "target.candidate.uri" if brought else "the converted model"
    model = read(path, where=where)
    _check_versions(model, where)
    edit = Edit(model)
    _bypass_zipmaps(edit)
    if brought:
        _free_labels(edit)
    adapt(edit, signature, where=where, brought=brought)
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


def _bypass_zipmaps(edit: Edit) -> None:
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


def _free_labels(edit: Edit) -> None:
    """Corrects labels declared as one value although their classifier gives one per row, as onnxmltools declares them.

    Only where nothing but casts stands between: elsewhere a declared size of 1 may be meant.
    """
    graph = edit.model.graph
    made_by = {output: node for node in graph.node for output in node.output}
    for output in graph.output:
        tensor = tensor_of(output)
        if tensor.shape != (1,) or tensor.datatype is None:
            continue
        name = output.name
        while name in made_by and made_by[name].op_type in {"Identity", "Cast"}:
            name = made_by[name].input[0]
        node = made_by.get(name)
        if node is not None and node.op_type in _CLASSIFIERS and node.output[0] == name:
            edit.adaptations.append(f"output {output.name}: declared as [1], its {node.op_type} gives one per row")
            output.CopyFrom(value_info(output.name, tensor.datatype, (-1,)))


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
