"""Digests of files and folders, as docs/reference/formats.md defines them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from paritygate.api.digests import digest_of
from paritygate.errors import ConfigurationError


def digest_of_path(path: Path) -> str:
    """`sha256:…` of a file's bytes or of a folder's listing.

    Raises:
        ConfigurationError: NotFound, Unreadable, SymbolicLink (inside a folder: what it shows may change).
    """
    try:
        if path.is_dir():
            return _digest_of_folder(path)
        return _digest_of_file(path)
    except FileNotFoundError as error:
        raise ConfigurationError("NotFound", f"{path}: there is no such file or folder; check the path") from error
    except OSError as error:
        raise ConfigurationError(
            "Unreadable", f"{error.filename or path}: cannot be read ({error.strerror}); check its permissions"
        ) from error


def _digest_of_file(path: Path) -> str:
    with path.open("rb") as stream:
        return "sha256:" + hashlib.file_digest(stream, "sha256").hexdigest()


def _digest_of_folder(folder: Path) -> str:
    listing = []
    for path in folder.rglob("*"):
        if path.is_symlink():
            raise ConfigurationError(
                "SymbolicLink", f"{path}: is a symbolic link; put the file itself there, so that its digest can be told"
            )
        if path.is_file():
            listing.append([path.relative_to(folder).as_posix(), _digest_of_file(path)])
        elif not path.is_dir():
            raise ConfigurationError("Unreadable", f"{path}: is neither file nor folder; take it out of {folder}")
    return digest_of(sorted(listing))
