"""ONNX: models that are ONNX already, raised to what the serving runtime reads; external data stays beside them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

import onnx
from onnx import numpy_helper, version_converter

from paritygate.api.artifacts import Assessment
from paritygate.api.report import Finding, OutputSignature, Signature, TensorSignature
from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.storage.digests import digest_of_path
from paritygate.worker import findings
from paritygate.worker.brought import copy_brought
from paritygate.worker.sources import Conversion, Converted
from paritygate.worker.sources._files import size_of_model
from paritygate.worker.targets.onnx import OLDEST_OPSET, read
from paritygate.worker.targets.tensors import Tensor, graph_inputs, tensors

EXTRA = None
_WHERE: Final = "source.uri"


def assess(model: Path, source: Source) -> Assessment:  # noqa: ARG001 - the protocol of source modules
    """What the graph says. ConfigurationError: it is truncated, of another format, or lacks its external data."""
    path = model_file(model)
    graph = read(path, where=_WHERE)
    inputs, outputs = graph_inputs(graph), tensors(graph.graph.output)
    _require_external_data(graph, path)
    return Assessment(
        format=SourceFormat.ONNX,
        framework="onnx",
        framework_version=str(opset_of(graph)),
        packages={graph.producer_name: graph.producer_version} if graph.producer_version else {},
        digest=digest_of_path(model),
        size=size_of_model(model) + (0 if model.is_dir() else _external_bytes(graph, path)),
        signature=_signature(inputs, outputs),
        parameters=sum(math.prod(tensor.dims) for tensor in graph.graph.initializer),
        custom_code=tuple(sorted({entry.domain for entry in graph.opset_import if _is_foreign(entry.domain)})),
        findings=_findings(graph, inputs),
    )


def convert(conversion: Conversion) -> Converted:
    """Copies the model, raised to the stated operator set, or to the oldest that is served if it is older.

    ConfigurationError: an operator has no counterpart in the operator set.
    """
    copy_brought(model_file(conversion.model), conversion.destination)
    model = read(conversion.destination, where=_WHERE)
    found = opset_of(model)
    wanted = conversion.opset if conversion.opset_stated else max(found, OLDEST_OPSET)
    if wanted == found:
        return Converted(converter={"onnx": onnx.__version__})
    try:
        # The converter moves weights around, so it needs them in memory.
        model = onnx.load(str(conversion.destination))
        raised = version_converter.convert_version(model, wanted)
    except RuntimeError as error:
        raise ConfigurationError(
            "ConversionUnsupported",
            f"source.uri: the model is of operator set {found} and cannot be brought to {wanted}: "
            f"{str(error).splitlines()[0]}; export it again with a newer operator set, or state target.opset: {found}",
        ) from error
    _save(raised, conversion.destination)
    change = findings.ONNX_UPGRADED.found(f"The model is of operator set {found}, and its candidate of {wanted}.")
    return Converted(converter={"onnx": onnx.__version__}, findings=(change,))


def _save(model: onnx.ModelProto, destination: Path) -> None:
    """Writes the model, with its weights beside it where they were beside it before."""
    data = destination.with_name(destination.name + ".data")
    if not data.exists():
        destination.write_bytes(model.SerializeToString(deterministic=True))
        return
    data.unlink()
    for tensor in model.graph.initializer:
        # Only raw bytes can lie outside, and the converter writes typed fields.
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    onnx.save_model(model, str(destination), save_as_external_data=True, location=data.name, size_threshold=0)


def model_file(model: Path) -> Path:
    """The file itself, or the only .onnx file of a folder. ConfigurationError: there is none, or several."""
    if model.is_file():
        return model
    found = sorted(model.glob("*.onnx"))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise ConfigurationError(
            "WrongFormat",
            f"source.uri: the folder {model.name} must hold one .onnx file, and has {names}; name the file",
        )
    return found[0]


def opset_of(model: onnx.ModelProto) -> int:
    """Version of the standard operator set; 0 = the model uses none of it."""
    return max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)


def _signature(inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Signature | None:
    if any(tensor.datatype is None or tensor.shape is None for tensor in (*inputs, *outputs)):
        return None
    return Signature(
        inputs=tuple(TensorSignature(name=t.name, datatype=t.datatype, shape=t.shape) for t in inputs),
        outputs=tuple(OutputSignature(name=t.name, datatype=t.datatype, shape=t.shape) for t in outputs),
    )


def _is_foreign(domain: str) -> bool:
    return domain not in {"", "ai.onnx", "ai.onnx.ml", "com.microsoft"}


def _findings(model: onnx.ModelProto, inputs: tuple[Tensor, ...]) -> tuple[Finding, ...]:
    found = []
    fixed = [str(tensor) for tensor in inputs if tensor.shape and tensor.shape[0] != -1]
    if fixed:
        found.append(findings.ONNX_FIXED_BATCH.found(f"Input {'; '.join(fixed)}."))
    if opset_of(model) < OLDEST_OPSET:
        found.append(findings.ONNX_UPGRADED.found(f"The model is of operator set {opset_of(model)}."))
    return tuple(found)


def _external_files(model: onnx.ModelProto, path: Path) -> set[Path]:
    return {
        path.parent / entry.value
        for tensor in model.graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }


def _external_bytes(model: onnx.ModelProto, path: Path) -> int:
    return sum(file.stat().st_size for file in _external_files(model, path))


def _require_external_data(model: onnx.ModelProto, path: Path) -> None:
    missing = sorted(file.name for file in _external_files(model, path) if not file.is_file())
    if missing:
        raise ConfigurationError(
            "ModelUnreadable",
            f"source.uri: {path.name} keeps its weights in {', '.join(missing)}, which is not beside it; copy it there",
        )
