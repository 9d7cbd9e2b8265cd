"""Brings what a manifest names, from object stores, web servers and mounted claims."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from paritygate.api import addresses
from paritygate.errors import ConfigurationError
from paritygate.storage.remote import bucket_of, download, store_explained

_SHOWN: Final = 5


@dataclass(frozen=True)
class Inbound:
    """Inputs of a Job."""

    claims: Path
    """Holds a folder for each claim that is mounted, by its name."""

    def bring(self, uri: str, into: Path, field: str, *, optional: bool = False) -> Path | None:
        """A copy of the file or folder in `into`, under its own name; None = it is optional and not there.

        Args:
            uri: where it lies.
            into: a folder that need not exist.
            field: where the address stands in the manifest, for the message.
            optional: whether it may be missing.

        Raises:
            ConfigurationError: UnsupportedScheme, NotFound, Unreadable, OutsideClaim, StoreRefused.
            InfrastructureError: StoreUnavailable.
        """
        # A path of this container, such as that of its own environment, is nobody's model.
        if addresses.scheme_of(uri) not in addresses.IN_A_CLUSTER:
            raise ConfigurationError("UnsupportedScheme", f"{field} is {uri!r}; in a cluster {addresses.HINT}")
        if addresses.is_cut(uri):
            raise ConfigurationError("UnsupportedScheme", f"{field} is {uri!r}; {addresses.CUT}")
        into.mkdir(parents=True, exist_ok=True)
        place = addresses.in_claim(uri)
        found = _from_bucket(uri, into) if place is None else self._from_claim(*place, into, f"{field} is {uri!r}")
        if found is None and not optional:
            there = "" if place is None else self._beside(*place)
            raise ConfigurationError("NotFound", f"{field}: there is nothing at {uri}{there}; check the address")
        return found

    def _from_claim(self, claim: str, path: str, into: Path, what: str) -> Path | None:
        root = self.claims / claim
        found = root / path
        if not found.resolve().is_relative_to(root.resolve()):
            raise ConfigurationError(
                "OutsideClaim", f"{what}, which leads out of the claim; put the file itself into it"
            )
        target = into / found.name
        try:
            if found.is_dir():
                # Links stay links, which the digest then refuses: what they show may change.
                shutil.copytree(found, target, symlinks=True)
            elif found.exists():
                shutil.copyfile(found, target)
            else:
                return None
        except (OSError, shutil.Error) as error:
            denied = isinstance(error, PermissionError) or "Permission denied" in str(error)
            hint = f"; in the volume let group {os.getgid()} read it, as which pods run: chgrp -R, chmod -R g+rX"
            raise ConfigurationError(
                "Unreadable", f"{what}, and cannot be read: {error}{hint if denied else ''}"
            ) from error
        return target

    def _beside(self, claim: str, path: str) -> str:
        """What there is in the nearest folder that exists, for the message."""
        root = self.claims / claim
        folder = next((p for p in (root / path).parents if p.is_dir()), root)
        names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        more = ", …" if len(names) > _SHOWN else ""
        inside = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else "."
        return f" (folder {inside!r} of claim {claim} holds {', '.join(names[:_SHOWN]) or 'nothing'}{more})"


def _from_bucket(uri: str, into: Path) -> Path | None:
    parts = urlsplit(uri)
    path = parts.path.rstrip("/")
    folder, _, last = path.rpartition("/")
    target = into / (last or "content")
    bucket = bucket_of(f"{parts.scheme}://{parts.netloc}{folder or '/'}")
    with store_explained():
        found = _one(bucket, last, target)
        # Web servers list no folders.
        return target if found or (parts.scheme != "https" and download(bucket, last, target)) else None


def _one(bucket: object, path: str, target: Path) -> bool:
    """Whether there is one object of this very name; it is then brought."""
    import obstore  # noqa: PLC0415 - needs the extra `store`

    try:
        found = obstore.get(bucket, path)  # type: ignore[arg-type]
    except (FileNotFoundError, IsADirectoryError):
        return False
    with target.open("wb") as stream:
        for chunk in found:
            stream.write(chunk)
    return True
