"""Files of a source model."""

from __future__ import annotations

from pathlib import Path


def size_of_model(model: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    return sum(path.stat().st_size for path in files_of(model))


def files_of(model: Path) -> list[Path]:
    """The file itself, or all files of a folder in path order."""
    return [model] if model.is_file() else [path for path in sorted(model.rglob("*")) if path.is_file()]
