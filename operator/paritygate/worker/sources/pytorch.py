"""PyTorch: a folder with code and weights, and a loader that returns the module."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Final

from paritygate.agent.frameworks import pytorch as loading
from paritygate.api.artifacts import Assessment
from paritygate.api.report import Finding
from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.storage.digests import digest_of_path
from paritygate.worker import findings
from paritygate.worker.sources import Conversion, Converted
from paritygate.worker.sources._files import files_of, size_of_model
from paritygate.worker.sources._torch_archive import Archive, Pickled, elements_of, read_safetensors

EXTRA = "torch"
_WEIGHTS: Final = (".pt", ".pth")
_TENSORS_ONLY: Final = ("torch.", "collections.", "numpy.", "_codecs.", "builtins.")


def assess(model: Path, source: Source) -> Assessment:
    """What code and weights say. ConfigurationError: no folder, no module of the loader, or damaged weights."""
    if not model.is_dir():
        raise ConfigurationError(
            "WrongFormat",
            f"source.uri: {source.uri} is a file, and format PyTorch takes a folder with the loader's code and the "
            f"weights; name the folder, or use format TorchScript or TorchExport for a file that holds its code",
        )
    code = [path for path in files_of(model) if path.suffix == ".py"]
    _require_loader(model, source, code)
    parameters, pickled = 0, Pickled()
    for path in files_of(model):
        if path.suffix == ".safetensors":
            parameters += elements_of(read_safetensors(path))
        elif path.suffix in _WEIGHTS:
            pickled = Archive(path, "weights saved by torch.save").pickled("data.pkl")
            parameters += pickled.elements
    return Assessment(
        format=SourceFormat.PYTORCH,
        framework="torch",
        digest=digest_of_path(model),
        size=size_of_model(model),
        parameters=parameters or None,
        imports=tuple(pickled.imports),
        custom_code=tuple(path.relative_to(model).as_posix() for path in code),
        hardware=pickled.devices,
        findings=_findings(code, pickled),
    )


def convert(conversion: Conversion) -> Converted:
    """Exports the module in evaluation mode. AgentError: it cannot be loaded; ConfigurationError: nor exported."""
    # Only this needs torch; an assessment does not.
    from paritygate.worker.sources._torch_export import export_module  # noqa: PLC0415

    with loading.only_here(str(conversion.model)):
        module = loading.load(str(conversion.model), conversion.source.loader)
        return export_module(conversion, module, argument_names(conversion, module))


def argument_names(conversion: Conversion, module: Any) -> list[str]:
    """The argument of forward for each input of the signature: by name, else by position."""
    names, _ = loading.adapt(module, {"call": conversion.source.call}).arguments()
    inputs = [tensor.name for tensor in conversion.capture.signature.inputs]
    return inputs if set(inputs) <= set(names) else list(names[: len(inputs)])


def _require_loader(model: Path, source: Source, code: list[Path]) -> None:
    module, _, name = (source.loader or "").partition(":")
    place = model / Path(*module.split("."))
    found = [path for path in (place.with_suffix(".py"), place / "__init__.py") if path in code]
    if not found:
        names = ", ".join(path.relative_to(model).as_posix() for path in code) or "no Python file"
        raise ConfigurationError(
            "LoaderFailed", f"source.loader is {source.loader}, and the folder has no module {module}; it has {names}"
        )
    try:
        ast.parse(found[0].read_bytes())
    except SyntaxError as error:
        raise ConfigurationError(
            "LoaderFailed", f"source.loader: {found[0].name}, line {error.lineno}: {error.msg}; correct {name}'s module"
        ) from error


def _findings(code: list[Path], pickled: Pickled) -> tuple[Finding, ...]:
    found = [findings.TORCH_CUSTOM_CODE.found(f"The folder holds {len(code)} Python files.")]
    foreign = [name for name in pickled.imports if not name.startswith(_TENSORS_ONLY)]
    if foreign:
        found.append(findings.TORCH_PICKLED_WEIGHTS.found(f"The weights name {', '.join(foreign[:5])}."))
    if pickled.devices:
        found.append(findings.TORCH_CUDA.found(f"The weights were saved from {', '.join(pickled.devices)}."))
    return tuple(found)
