"""TorchScript: archives of torch.jit.save, which hold their code compiled."""

from __future__ import annotations

from pathlib import Path

from paritygate.agent.frameworks import torchscript as loading
from paritygate.api.artifacts import Assessment
from paritygate.api.spec import Source, SourceFormat
from paritygate.storage.digests import digest_of_path
from paritygate.worker import findings
from paritygate.worker.sources import Conversion, Converted
from paritygate.worker.sources._files import size_of_model
from paritygate.worker.sources._torch_archive import Archive

EXTRA = "torch"


def assess(model: Path, source: Source) -> Assessment:  # noqa: ARG001 - the protocol of source modules
    """What the archive says. ConfigurationError: it is truncated or of another format."""
    archive = Archive(model, "a TorchScript archive")
    if "constants.pkl" not in archive.names:
        raise archive.unreadable(KeyError("constants.pkl"))
    pickled = archive.pickled("data.pkl")
    found = []
    if pickled.training:
        found.append(findings.TORCH_TRAINING_MODE.found("The file was saved in training mode."))
    if pickled.devices:
        found.append(findings.TORCH_CUDA.found(f"The file was saved from {', '.join(pickled.devices)}."))
    if "traced_inputs.pkl" in archive.names:
        found.append(
            findings.TORCH_DATA_DEPENDENT.found(
                "The file was traced: branches and sizes are those of the example that it was traced with."
            )
        )
    return Assessment(
        format=SourceFormat.TORCHSCRIPT,
        framework="torch",
        digest=digest_of_path(model),
        size=size_of_model(model),
        parameters=pickled.elements,
        estimators=tuple(name for name in pickled.imports if name.startswith("__torch__")),
        hardware=pickled.devices,
        findings=tuple(found),
    )


def convert(conversion: Conversion) -> Converted:
    """Exports the compiled code. AgentError: it cannot be loaded; ConfigurationError: nor exported."""
    from paritygate.worker.sources import _torch_export as exporting  # noqa: PLC0415 - an assessment needs no torch

    module = loading.load(str(conversion.model)).eval()
    names = [one.name for one in module.forward.schema.arguments if one.name != "self"]
    inputs = [tensor.name for tensor in conversion.capture.signature.inputs]
    arguments = inputs if set(inputs) <= set(names) else names[: len(inputs)]
    tensors = exporting.example(conversion, exporting.floating_dtype(module))
    exporting.export_scripted(conversion, module, arguments, tensors)
    return Converted(converter=exporting.converter_versions())
