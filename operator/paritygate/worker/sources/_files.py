"""Sizes and digests of source models, and findings that several formats share."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from paritygate.api.digests import digest_of
from paritygate.errors import ConfigurationError

_CHUNK: Final = 1 << 20


def digest_of_model(model: Path) -> str:
    """Digest of a file or folder as docs/reference/formats.md defines it. ConfigurationError: a symbolic link."""
    if model.is_file():
        return _digest_of_file(model)
    files = {path.relative_to(model).as_posix(): _digest_of_file(path) for path in files_of(model)}
    return digest_of(sorted([path, digest] for path, digest in files.items()))


def size_of_model(model: Path) -> int:
    """Bytes of a file, or of a folder's files."""
    return sum(path.stat().st_size for path in files_of(model))


def files_of(model: Path) -> list[Path]:
    """The file itself, or all files of a folder in path order. ConfigurationError: a symbolic link among them."""
    if model.is_file():
        return [model]
    found = sorted(model.rglob("*"))
    for path in found:
        if path.is_symlink():
            raise ConfigurationError(
                "SourceHasLink", f"source.uri: {path.name} is a symbolic link; put the file itself into the folder"
            )
    return [path for path in found if path.is_file()]


def _digest_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return "sha256:" + digest.hexdigest()
