"""Takes a brought ONNX artefact into the candidate folder, with its external data in one file beside it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Final

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data

from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx import read

_ALIGNMENT: Final = 4096
"""External tensors start at pages, so that runtimes can map them."""
_FIELD: Final = "target.candidate.uri"


def copy_brought(artefact: Path, destination: Path) -> None:
    """Copies `artefact`, a file or a folder with one `.onnx` file, to `destination`.

    ConfigurationError: there is no ONNX file, it cannot be read, or its external data is missing or lies elsewhere.
    """
    file = _only_onnx_file(artefact) if artefact.is_dir() else artefact
    model = read(file, where=_FIELD)
    external = [tensor for tensor in model.graph.initializer if uses_external_data(tensor)]
    if external:
        with destination.with_name(destination.name + ".data").open("wb") as data:
            for tensor in external:
                _copy_tensor(tensor, file.parent, data, destination.name + ".data")
    destination.write_bytes(model.SerializeToString(deterministic=True))


def _only_onnx_file(folder: Path) -> Path:
    files = sorted(folder.glob("*.onnx"))
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        raise ConfigurationError(
            "ModelUnreadable",
            f"{_FIELD}: folder {folder.name} must hold exactly one .onnx file, found {found}; name the file itself",
        )
    return files[0]


def _copy_tensor(tensor: onnx.TensorProto, folder: Path, data: BinaryIO, location: str) -> None:
    info = ExternalDataInfo(tensor)
    source = folder / info.location
    if source.is_symlink() or not source.resolve().is_relative_to(folder.resolve()) or not source.is_file():
        raise ConfigurationError(
            "ModelUnreadable",
            f"{_FIELD}: tensor {tensor.name} keeps its values in {info.location!r}, which is not a file beside the "
            f"model; bring the folder with the model and its external data",
        )
    data.seek(-(-data.tell() // _ALIGNMENT) * _ALIGNMENT)
    start = data.tell()
    with source.open("rb") as values:
        values.seek(info.offset or 0)
        length = info.length if info.length is not None else source.stat().st_size - (info.offset or 0)
        if source.stat().st_size < (info.offset or 0) + length:
            raise ConfigurationError(
                "ModelUnreadable", f"{_FIELD}: {info.location} is shorter than tensor {tensor.name} says; copy it again"
            )
        remaining = length
        while remaining:
            chunk = values.read(min(remaining, 1 << 24))
            data.write(chunk)
            remaining -= len(chunk)
    del tensor.external_data[:]
    for key, value in (("location", location), ("offset", str(start)), ("length", str(length))):
        tensor.external_data.add(key=key, value=value)
