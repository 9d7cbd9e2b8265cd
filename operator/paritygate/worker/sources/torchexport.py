"""TorchExport: archives of torch.export.save, whole programs with their shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from paritygate.agent.frameworks import torchexport as loading
from paritygate.api.artifacts import Assessment
from paritygate.api.report import Finding
from paritygate.api.spec import Source, SourceFormat
from paritygate.storage.digests import digest_of_path
from paritygate.worker import findings
from paritygate.worker.sources import Conversion, Converted
from paritygate.worker.sources._files import size_of_model
from paritygate.worker.sources._torch_archive import Archive

EXTRA = "torch"
# torch ≥ 2.9 and older releases.
_PROGRAMS: Final = ("models/model.json", "serialized_exported_program.json")
_TRAINING_ARGUMENTS: Final = {"train", "training"}


def assess(model: Path, source: Source) -> Assessment:  # noqa: ARG001 - the protocol of source modules
    """What the archive says. ConfigurationError: it is truncated or of another format."""
    archive = Archive(model, "a program of torch.export")
    name = next((name for name in _PROGRAMS if name in archive.names), None)
    if name is None:
        raise archive.unreadable(KeyError(_PROGRAMS[0]))
    program = archive.json(name)
    try:
        graph = program["graph_module"]["graph"]
        specs = program["graph_module"]["signature"]["input_specs"]
        parameters = [spec["parameter"]["arg"]["name"] for spec in specs if "parameter" in spec]
        inputs = [spec["user_input"]["arg"] for spec in specs if "user_input" in spec]
        values = graph["tensor_values"]
        count = sum(math.prod(_size(size) for size in values[name]["sizes"]) for name in parameters)
        tensors = {arg["as_tensor"]["name"]: values[arg["as_tensor"]["name"]] for arg in inputs if "as_tensor" in arg}
        devices = {value["device"]["type"] for value in values.values()} - {"cpu", "meta"}
        found = _findings(graph, tensors)
    except (KeyError, TypeError, AttributeError) as error:
        raise archive.unreadable(error) from error
    return Assessment(
        format=SourceFormat.TORCHEXPORT,
        framework="torch",
        framework_version=str(program.get("torch_version", "")).split("+")[0] or None,
        digest=digest_of_path(model),
        size=size_of_model(model),
        parameters=count,
        hardware=tuple(sorted(devices)),
        findings=found,
    )


def convert(conversion: Conversion) -> Converted:
    """Writes the program as ONNX. AgentError: it cannot be loaded; ConfigurationError: its batch is frozen."""
    from paritygate.worker.sources import _torch_export as exporting  # noqa: PLC0415 - an assessment needs no torch

    exported = loading.load(str(conversion.model))
    exporting.save_program(conversion, exporting.program_of(conversion, exported))
    return Converted(converter=exporting.converter_versions())


def _size(size: dict[str, Any]) -> int:
    return int(size["as_int"])


def _findings(graph: Any, tensors: dict[str, Any]) -> tuple[Finding, ...]:
    found = []
    fixed = [name for name, value in tensors.items() if value["sizes"] and "as_int" in value["sizes"][0]]
    if fixed:
        sizes = ", ".join(f"{name} takes {tensors[name]['sizes'][0]['as_int']} rows" for name in fixed)
        found.append(findings.TORCH_FROZEN_BATCH.found(f"Input {sizes}."))
    training = sorted(
        {
            str(node["target"]).removeprefix("torch.ops.")
            for node in graph["nodes"]
            for given in node["inputs"]
            if given.get("name") in _TRAINING_ARGUMENTS and given["arg"].get("as_bool") is True
        }
    )
    if training:
        found.append(findings.TORCH_TRAINING_MODE.found(f"It was exported in training mode: {', '.join(training)}."))
    return tuple(found)
