"""The store of one migration in a cluster: in a bucket or on a mounted volume, in the layout of `storage.store`.

Every read is checked by digest. An artefact is named by a receipt only once it is whole, and several publishers of the
same artefact, or of others, do not disturb each other.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

from pydantic import ValidationError

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import canonical_json, digest_of
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.storage.digests import digest_of_path
from paritygate.storage.store import Store
from paritygate.storage.sweeping import Shelf, Stored, unwanted

_ANEW: Final = "set another spec.runID to make it anew"


class Artefacts(Protocol):
    """Where artefacts are kept, whatever that is."""

    def put(self, folder: Path) -> str:
        """Keeps a copy of a complete folder; its digest. ConfigurationError (SymbolicLink)."""

    def fetch(self, digest: str, into: Path) -> None:
        """Brings an artefact. InfrastructureError (ArtefactLost): it is missing, or not what its digest says."""

    def record(self, receipt: Receipt) -> None:
        """Writes a receipt, after its artefact; it then counts as new."""

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """The receipt of a finished stage whose artefact is whole; None = there is none."""

    def sweep(self, kept: Collection[str], before: datetime) -> int:
        """Removes what was last written before a moment and is not `kept`, as `sweeping` says; how many artefacts.

        Args:
            kept: digests of artefacts.
            before: what is younger stays.
        """


class MountedStore:
    """A store on a volume that is mounted here."""

    def __init__(self, root: Path) -> None:
        self._store = Store(root)
        self._root = root

    def put(self, folder: Path) -> str:
        """Keeps a copy of a complete folder; its digest. ConfigurationError (SymbolicLink)."""
        _refuse_links(folder)
        incoming = self._root / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=incoming))
        try:
            return self._store.put(Path(shutil.copytree(folder, aside / "whole", symlinks=True)))
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def fetch(self, digest: str, into: Path) -> None:
        """Brings an artefact. InfrastructureError (ArtefactLost)."""
        found = self._store.path(digest)
        try:
            if found.is_dir():
                shutil.copytree(found, into)
        except (FileNotFoundError, shutil.Error) as error:
            if self._store.get(digest) is not None:
                raise InfrastructureError("StoreUnavailable", f"artefact {digest} cannot be copied: {error}") from error
            shutil.rmtree(into, ignore_errors=True)
        _check(into, digest)

    def record(self, receipt: Receipt) -> None:
        """Writes a receipt, after its artefact."""
        self._store.record(receipt)

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """The receipt of a finished stage; None = there is none, or its artefact is damaged."""
        return self._store.receipt(stage, digest)

    def sweep(self, kept: Collection[str], before: datetime) -> int:
        """Removes what is old and not kept, and what publishers that were killed had begun to copy."""
        for path in (self._root / "incoming").glob("*"):
            if _written(path, before) < before:
                shutil.rmtree(path, ignore_errors=True)
        receipts = [Stored(p.name, _written(p, before), _output(p.read_bytes())) for p in self._files("receipts")]
        artefacts = [Stored(p.name, _written(p, before), f"sha256:{p.name}") for p in self._files("artifacts")]
        gone = unwanted(Shelf(tuple(receipts), tuple(artefacts)), kept, before)
        for name in gone.receipts:
            (self._root / "receipts" / name).unlink(missing_ok=True)
        for name in gone.artefacts:
            self._store.discard(f"sha256:{name}")
        return len(gone.artefacts)

    def _files(self, folder: str) -> list[Path]:
        return sorted((self._root / folder).glob("*"))


class ObjectStore:
    """A store in a bucket. Receipts name artefacts that were complete when they were written."""

    def __init__(self, bucket: Any) -> None:
        self._bucket = bucket

    def put(self, folder: Path) -> str:
        """Keeps a copy of a complete folder; its digest. Objects of an artefact that it does not hold are removed.

        Raises:
            ConfigurationError: SymbolicLink.
        """
        import obstore  # noqa: PLC0415 - needs the extra `store`

        _refuse_links(folder)
        digest = digest_of_path(folder)
        names = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        with store_explained():
            for name, path in names.items():
                obstore.put(self._bucket, f"{_prefix(digest)}/{name}", path)
            for entry in self._list(_prefix(digest)):
                if entry["path"].removeprefix(f"{_prefix(digest)}/") not in names:
                    obstore.delete(self._bucket, entry["path"])
        return digest

    def fetch(self, digest: str, into: Path) -> None:
        """Brings an artefact. InfrastructureError (ArtefactLost)."""
        with store_explained(), suppress(FileNotFoundError):
            download(self._bucket, _prefix(digest), into)
        _check(into, digest)

    def record(self, receipt: Receipt) -> None:
        """Writes a receipt, after its artefact."""
        import obstore  # noqa: PLC0415 - needs the extra `store`

        with store_explained():
            obstore.put(self._bucket, _receipt(receipt.stage, receipt.digest), canonical_json(receipt.to_dict()))

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """The receipt of a finished stage whose artefact is whole; None = there is none."""
        import obstore  # noqa: PLC0415 - needs the extra `store`

        with store_explained():
            try:
                content = obstore.get(self._bucket, _receipt(stage, digest)).bytes()
                found = Receipt.model_validate_json(bytes(content))
            except (FileNotFoundError, ValidationError):
                return None
            whole = (found.stage, found.digest) == (stage, digest) and self._digest(found.output) == found.output
        return found if whole else None

    def sweep(self, kept: Collection[str], before: datetime) -> int:
        """Removes what is old and not kept."""
        import obstore  # noqa: PLC0415 - needs the extra `store`

        with store_explained():
            receipts = [
                Stored(e["path"], e["last_modified"], _output(bytes(obstore.get(self._bucket, e["path"]).bytes())))
                for e in self._list("receipts")
            ]
            newest: dict[str, datetime] = {}
            objects: dict[str, list[str]] = {}
            for entry in self._list("artifacts"):
                name = entry["path"].split("/")[1]
                objects.setdefault(name, []).append(entry["path"])
                newest[name] = max(newest.get(name, entry["last_modified"]), entry["last_modified"])
            artefacts = [Stored(name, written, f"sha256:{name}") for name, written in newest.items()]
            gone = unwanted(Shelf(tuple(receipts), tuple(artefacts)), kept, before)
            for path in (*gone.receipts, *(path for name in gone.artefacts for path in objects[name])):
                with suppress(FileNotFoundError):
                    obstore.delete(self._bucket, path)
        return len(gone.artefacts)

    def _list(self, prefix: str) -> Iterator[Any]:
        import obstore  # noqa: PLC0415 - needs the extra `store`

        for batch in obstore.list(self._bucket, prefix=prefix):
            yield from batch

    def _digest(self, digest: str) -> str | None:
        """What the objects of an artefact hash to, without keeping them; None = there are none."""
        import obstore  # noqa: PLC0415 - needs the extra `store`

        listing = []
        for entry in self._list(_prefix(digest)):
            found = hashlib.sha256()
            for chunk in obstore.get(self._bucket, entry["path"]):
                found.update(chunk)
            listing.append([entry["path"].removeprefix(f"{_prefix(digest)}/"), f"sha256:{found.hexdigest()}"])
        return digest_of(sorted(listing)) if listing else None


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


@contextmanager
def store_explained() -> Iterator[None]:
    """Turns what an object store says into StageErrors.

    Raises:
        ConfigurationError: StoreRefused: the credentials are wrong, or allow too little; NotFound: no such bucket.
        InfrastructureError: StoreUnavailable.
    """
    from obstore import exceptions  # noqa: PLC0415 - needs the extra `store`

    try:
        yield
    except FileNotFoundError as error:
        raise ConfigurationError(
            "NotFound", f"the object store has no such place: {_first_line(error)}; check the bucket"
        ) from error
    except exceptions.BaseError as error:
        said = _first_line(error)
        # A listing that is refused comes as a general error, whose text alone tells.
        refused = isinstance(error, (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError))
        if refused or re.search(r"status code: 40[13]\b", str(error)):
            raise ConfigurationError(
                "StoreRefused", f"the object store refuses: {said}; check spec.storage.object.secretName"
            ) from error
        raise InfrastructureError("StoreUnavailable", f"the object store failed: {said}") from error


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


def _refuse_links(folder: Path) -> None:
    """What the source's code wrote may lead to what only the publisher can read: its environment, others' artefacts."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            raise ConfigurationError(
                "SymbolicLink", f"{path}: is a symbolic link, which is never published; put the file itself there"
            )


def _prefix(digest: str) -> str:
    return f"artifacts/{digest.removeprefix('sha256:')}"


def _receipt(stage: StageName, digest: str) -> str:
    return f"receipts/{stage.value}-{digest.removeprefix('sha256:')}.json"


def _output(content: bytes) -> str | None:
    """The artefact that a receipt names; None = it cannot be read."""
    try:
        return Receipt.model_validate_json(content).output
    except ValidationError:
        return None


def _written(path: Path, gone: datetime) -> datetime:
    """When a file or folder was last written; `gone`, where somebody removed it meanwhile."""
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, gone.tzinfo)
    except FileNotFoundError:
        return gone


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def _check(folder: Path, digest: str) -> None:
    if not folder.is_dir():
        raise InfrastructureError(
            "ArtefactLost", f"artefact {digest} is not in the store, or spec.storage changed; {_ANEW}"
        )
    found = digest_of_path(folder)
    if found != digest:
        shutil.rmtree(folder)
        raise InfrastructureError(
            "ArtefactLost", f"artefact {digest} was changed in the store, where it is {found} now; {_ANEW}"
        )
