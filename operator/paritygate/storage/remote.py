"""Artefacts and receipts in an object store, in the layout of `paritygate.storage.store`; every read is checked."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import canonical_json
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.storage.digests import digest_of_path
from paritygate.storage.store import Store


class Artefacts(Protocol):
    """Where artefacts are kept, whatever that is."""

    def put(self, folder: Path) -> str:
        """Keeps a copy of a complete folder; its digest."""

    def fetch(self, digest: str, into: Path) -> None:
        """Brings an artefact. InfrastructureError (ArtefactLost): it is missing, or not what its digest says."""

    def record(self, receipt: Receipt) -> None:
        """Writes a receipt, after its artefact."""

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """The receipt of a finished stage; None = there is none. The artefact is checked when it is fetched."""


class MountedStore:
    """A store on a volume that is mounted here."""

    def __init__(self, root: Path) -> None:
        self._store = Store(root)
        self._root = root

    def put(self, folder: Path) -> str:
        """Keeps a copy of a complete folder; its digest."""
        aside = self._root / "incoming" / digest_of_path(folder).removeprefix("sha256:")
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(folder, aside)
        return self._store.put(aside)

    def fetch(self, digest: str, into: Path) -> None:
        """Brings an artefact. InfrastructureError (ArtefactLost)."""
        found = self._store.path(digest)
        if found.is_dir():
            shutil.copytree(found, into)
        _check(into, digest)

    def record(self, receipt: Receipt) -> None:
        """Writes a receipt, after its artefact."""
        self._store.record(receipt)

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """The receipt of a finished stage; None = there is none, or its artefact is damaged."""
        return self._store.receipt(stage, digest)


class ObjectStore:
    """A store in a bucket. Receipts name artefacts that were complete when they were written."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    def put(self, folder: Path) -> str:
        """Keeps a copy of a complete folder; its digest."""
        import obstore  # noqa: PLC0415 - needs the extra `store`

        digest = digest_of_path(folder)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                obstore.put(self._bucket, f"{_prefix(digest)}/{path.relative_to(folder).as_posix()}", path)
        return digest

    def fetch(self, digest: str, into: Path) -> None:
        """Brings an artefact. InfrastructureError (ArtefactLost)."""
        download(self._bucket, _prefix(digest), into)
        _check(into, digest)

    def record(self, receipt: Receipt) -> None:
        """Writes a receipt, after its artefact."""
        import obstore  # noqa: PLC0415 - needs the extra `store`

        obstore.put(self._bucket, _receipt(receipt.stage, receipt.digest), canonical_json(receipt.to_dict()))

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """The receipt of a finished stage; None = there is none, or none that can be read."""
        import obstore  # noqa: PLC0415 - needs the extra `store`

        try:
            content = obstore.get(self._bucket, _receipt(stage, digest)).bytes()
            found = Receipt.model_validate_json(bytes(content))
        except (FileNotFoundError, ValidationError):
            return None
        return found if (found.stage, found.digest) == (stage, digest) else None


def open_store(uri: str) -> Artefacts:
    """The store at an address: s3://, gs://, az://, or file:// for a mounted volume."""
    if uri.startswith("file://"):
        return MountedStore(Path(uri.removeprefix("file://")))
    return ObjectStore(bucket_of(uri))


def bucket_of(uri: str) -> Any:
    """The bucket and prefix at an address, with the credentials of the environment. ConfigurationError."""
    try:
        from obstore.store import from_url  # noqa: PLC0415 - needs the extra `store`

        return from_url(uri)
    except ImportError as error:
        raise ConfigurationError("MissingExtra", "install ParityGate with pip install 'paritygate[store]'") from error
    except Exception as error:
        raise ConfigurationError("UnsupportedScheme", f"{uri}: {error}; use s3://, gs://, az:// or https://") from error


def download(bucket: Any, prefix: str, into: Path) -> int:
    """Brings every object below a prefix; how many there were."""
    import obstore  # noqa: PLC0415 - needs the extra `store`

    count = 0
    for batch in obstore.list(bucket, prefix=prefix or None):
        for entry in batch:
            inner = entry["path"].removeprefix(prefix).lstrip("/")
            target = into / inner
            if not target.resolve().is_relative_to(into.resolve()):
                raise ConfigurationError(
                    "InputsMismatch", f"object {entry['path']!r} would be written outside its folder"
                )
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("wb") as stream:
                for chunk in obstore.get(bucket, entry["path"]):
                    stream.write(chunk)
            count += 1
    return count


def _prefix(digest: str) -> str:
    return f"artifacts/{digest.removeprefix('sha256:')}"


def _receipt(stage: StageName, digest: str) -> str:
    return f"receipts/{stage.value}-{digest.removeprefix('sha256:')}.json"


def _check(folder: Path, digest: str) -> None:
    if not folder.is_dir():
        raise InfrastructureError("ArtefactLost", f"artefact {digest} is not in the store; run again to make it anew")
    found = digest_of_path(folder)
    if found != digest:
        raise InfrastructureError("ArtefactLost", f"artefact {digest} was changed in the store, and is {found} now")
