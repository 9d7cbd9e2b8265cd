"""Tells what a file is from its first bytes, so that an error can say which source.format it looks like."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from paritygate.api.spec import SourceFormat

_HEAD: Final = 4096


@dataclass(frozen=True)
class Looks:
    """What a file looks like."""

    what: str
    format: SourceFormat | None = None
    """None = not a model that ParityGate takes."""

    @property
    def hint(self) -> str | None:
        """What to do about it, as a clause."""
        if self.format is not None:
            return f"use source.format: {self.format}"
        return "name the model's file instead"


_MAGIC: Final[tuple[tuple[bytes, Looks], ...]] = (
    (b"PAR1", Looks("a parquet table")),
    (b"ARROW1", Looks("an arrow table")),
    (b"\x89HDF", Looks("an HDF5 file, such as Keras writes")),
    (b"\x93NUMPY", Looks("a numpy array")),
    (b"%PDF", Looks("a PDF document")),
    (b"version https://git-lfs", Looks("a Git LFS pointer, which stands for a file that was not fetched")),
    (b"tree\nversion=", Looks("a LightGBM text model", SourceFormat.LIGHTGBM)),
    (b"binf", Looks("an XGBoost binary model of an old version, which must be saved again as .json or .ubj")),
)

_NAMES: Final = {
    ".ipynb": Looks("a notebook"),
    ".py": Looks("a Python script"),
    ".csv": Looks("a CSV table"),
    ".jsonl": Looks("a table of JSON lines"),
    ".yaml": Looks("a YAML document"),
    ".yml": Looks("a YAML document"),
}
"""What is text is told by its name, once its content says nothing."""


def sniffed(path: Path) -> Looks | None:
    """What the file looks like; None = it cannot be told, or it is a pickle."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    by_magic = next((looks for magic, looks in _MAGIC if head.startswith(magic)), None)
    if by_magic is None and zipfile.is_zipfile(path):
        return _archive(path)
    by_name = None if head.startswith(b"\x80") else _NAMES.get(path.suffix.lower())
    return by_magic or _by_content(head) or by_name


def _by_content(head: bytes) -> Looks | None:
    if b"learner" in head and (head.lstrip()[:1] == b"{"):
        return Looks("an XGBoost model", SourceFormat.XGBOOST)
    if head.replace(b"\r\n", b"\n").startswith(b"tree\n"):
        return Looks("a LightGBM text model", SourceFormat.LIGHTGBM)
    return Looks("an ONNX model", SourceFormat.ONNX) if _is_onnx(head) else None


def _archive(path: Path) -> Looks:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    if "schema.json" in names:
        return Looks("a skops file", SourceFormat.SKLEARN)
    if any(name.endswith("archive_format") for name in names) or "serialized_exported_program.json" in names:
        return Looks("a program of torch.export", SourceFormat.TORCHEXPORT)
    if any(name.endswith("constants.pkl") for name in names):
        return Looks("a TorchScript archive", SourceFormat.TORCHSCRIPT)
    if any(name.endswith("data.pkl") for name in names):
        return Looks("weights saved by torch.save", SourceFormat.PYTORCH)
    if names and all(name.endswith(".npy") for name in names):
        return Looks("a numpy archive (.npz)")
    return Looks("a ZIP archive")


def _is_onnx(head: bytes) -> bool:
    """Whether a file begins with ModelProto's ir_version (field 1) and another of its fields."""
    known_fields = {0x12, 0x1A, 0x22, 0x28, 0x32, 0x3A, 0x42}
    return len(head) > 2 and head[0] == 0x08 and 1 <= head[1] <= 32 and head[2] in known_fields  # noqa: PLR2004
