"""Stage Convert: makes the candidate, or takes the brought one, and finishes it for the serving runtime."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from paritygate.agent import exchange
from paritygate.api.artifacts import CandidateManifest, CandidateStep, CaptureManifest, ConvertRequest, InputGuard
from paritygate.api.report import Finding
from paritygate.api.spec import Datatype, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.worker import findings
from paritygate.worker.brought import copy_brought
from paritygate.worker.guards import guards
from paritygate.worker.sources import Conversion, Converted, source_module
from paritygate.worker.stage import progress, read_capture, read_request, write_json
from paritygate.worker.targets import DATA_FILE, MODEL_FILE
from paritygate.worker.targets.onnx import Finished, finish

DEFAULT_OPSET: Final = 18
"""The oldest that the torch exporter writes by itself and that serving stacks of the last years read."""
_SAMPLE_ROWS: Final = 8
_ROW_BY_ROW: Final = frozenset({SourceFormat.SKLEARN, SourceFormat.XGBOOST, SourceFormat.LIGHTGBM})
"""Formats whose models answer each row by itself, and so do our conversions of them."""
_FP32_INTEGERS: Final = 2**24


def run(request_file: Path, out: Path) -> None:
    """Writes the candidate folder (docs/reference/formats.md).

    Raises:
        ConfigurationError: the model cannot be converted, or what was converted or brought cannot offer the signature.
    """
    request = read_request(ConvertRequest, request_file)
    capture = read_capture(Path(request.capture))
    inputs = exchange.load(str(Path(request.capture) / "inputs.npz"))
    out.mkdir(parents=True, exist_ok=True)
    destination = out / MODEL_FILE
    if request.target.candidate is not None:
        progress("copying the brought candidate")
        converted = _brought(request, destination)
    else:
        progress("converting")
        converted = _convert(request, capture, inputs, destination)
    progress("finishing the candidate")
    brought = request.target.candidate is not None
    finished = finish(destination, capture.signature, brought=brought)
    added = [findings.candidate_adapted(finished.adaptations)] if brought and finished.adaptations else []
    added += _rounded(capture, inputs, finished)
    write_json(
        out / "candidate.json",
        _manifest(
            request, capture, finished, _guards(request, capture, inputs, converted), [*converted.findings, *added]
        ).model_copy(
            update={
                "size": _size(out),
                "converter": dict(converted.converter),
                "steps": candidate_steps(converted.steps, finished.renamed),
            }
        ),
    )


def candidate_steps(steps: Mapping[str, tuple[str, ...]], renamed: Mapping[str, str]) -> tuple[CandidateStep, ...]:
    """Where the source's steps are found in the finished graph."""
    return tuple(
        CandidateStep(name=name, tensors=tuple(renamed.get(tensor, tensor) for tensor in tensors))
        for name, tensors in steps.items()
    )


def sample_of(table: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
    """The first rows of each wire input."""
    return {name: np.asarray(column[:_SAMPLE_ROWS]) for name, column in table.items()}


def _convert(
    request: ConvertRequest, capture: CaptureManifest, inputs: Mapping[str, Any], destination: Path
) -> Converted:
    if request.model is None:
        raise ConfigurationError(
            "SourceMissing",
            "source.uri: the model is not here, so nothing can be converted; bring it, or state target.candidate",
        )
    return source_module(request.source.format).convert(
        Conversion(
            source=request.source,
            model=Path(request.model),
            capture=capture,
            sample=sample_of(inputs),
            opset=request.target.opset or DEFAULT_OPSET,
            opset_stated=request.target.opset is not None,
            destination=destination,
        )
    )


def _brought(request: ConvertRequest, destination: Path) -> Converted:
    if request.brought is None:
        raise ConfigurationError(
            "SourceMissing", "target.candidate.uri: the artefact is not here; check that the path exists"
        )
    copy_brought(Path(request.brought), destination)
    return Converted(converter={})


def _guards(
    request: ConvertRequest, capture: CaptureManifest, inputs: Mapping[str, Any], converted: Converted
) -> tuple[InputGuard, ...]:
    probes = Path(request.capture) / "probes.npz"
    return guards(
        capture,
        exchange.load(str(probes)) if probes.exists() else {},
        inputs,
        known={name: tuple(values) for name, values in converted.categories.items()},
    )


def _manifest(
    request: ConvertRequest,
    capture: CaptureManifest,
    finished: Finished,
    guarded: tuple[InputGuard, ...],
    found: Iterable[Finding],
) -> CandidateManifest:
    ours = request.target.candidate is None
    return CandidateManifest(
        name="plain" if ours else "brought",
        model_name=request.model_name,
        signature=capture.signature,
        opset=finished.opset,
        ir_version=finished.ir_version,
        size=0,
        guards=guarded,
        independent_rows=ours and finished.trees and request.source.format in _ROW_BY_ROW,
        findings=tuple(found),
    )


def _rounded(capture: CaptureManifest, inputs: Mapping[str, Any], finished: Finished) -> list[Finding]:
    """Inputs whose values single precision cannot hold apart."""
    found = []
    for tensor in capture.signature.inputs:
        if tensor.datatype is not Datatype.FP32 and tensor.name not in finished.narrowed:
            continue
        values = np.asarray(inputs[tensor.name])
        if values.dtype.kind not in "fiu":
            continue
        largest = np.nanmax(np.abs(np.where(np.isfinite(values), values, 0.0)), initial=0.0) if values.size else 0.0
        if largest > _FP32_INTEGERS:
            found.append(findings.FLOAT64_ABOVE_2_24.found(f"input {tensor.name} reaches {largest:.9g}"))
    return found


def _size(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in (MODEL_FILE, DATA_FILE) if (folder / name).exists())
