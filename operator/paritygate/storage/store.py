"""A folder of artefacts by digest and of the receipts of finished stages.

    artifacts/<64 hexadecimal digits>/      one complete artefact folder each
    receipts/<Stage>-<64 digits>.json       by stage digest; written after the artefact that it names

Everything is written aside, synchronised and renamed, so a process that is killed leaves either nothing or the whole.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import canonical_json
from paritygate.errors import ConfigurationError, InfrastructureError
from paritygate.storage.digests import digest_of_path

_SWEPT: Final = ".swept"


_ASIDE: Final = ".part-"
"""After the name of a file that is being written; the number of the process that writes it comes last."""


class Store:
    """Artefacts and receipts under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def put(self, folder: Path) -> str:
        """Moves a complete folder of the same file system into the store; its digest."""
        digest = digest_of_path(folder)
        target = self._artifact(digest)
        with disk_full_explained(target):
            if self.get(digest) is not None:
                with suppress(FileNotFoundError):
                    os.utime(target)  # it is wanted again: a sweep that asks for its age must see that
                    shutil.rmtree(folder)
                    return digest
            self.discard(digest)
            target.parent.mkdir(parents=True, exist_ok=True)
            for path in folder.rglob("*"):
                if path.is_file():
                    _synchronise(path)
            os.utime(folder)
            try:
                folder.rename(target)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                shutil.rmtree(folder)  # somebody else has just put the same artefact there
            _synchronise(target.parent)
        return digest

    def discard(self, digest: str) -> None:
        """Removes an artefact. Renamed first: whoever is interrupted leaves no half of it under its digest."""
        target = self._artifact(digest)
        if not target.exists():
            return
        with suppress(FileNotFoundError):
            aside = Path(tempfile.mkdtemp(suffix=_SWEPT, dir=target.parent))
            try:
                target.rename(aside / target.name)
            finally:
                shutil.rmtree(aside)

    def get(self, digest: str) -> Path | None:
        """The folder with that digest, its bytes checked; None where it is missing or was changed."""
        folder = self._artifact(digest)
        try:
            return folder if folder.is_dir() and digest_of_path(folder) == digest else None
        except ConfigurationError:  # it is being replaced, or holds what no artefact can
            return None

    def path(self, digest: str) -> Path:
        """Where the folder with that digest lies; its bytes are not checked."""
        return self._artifact(digest)

    def record(self, receipt: Receipt) -> None:
        """Writes a receipt, after its artefact."""
        write_whole(self._receipt(receipt.stage, receipt.digest), canonical_json(receipt.to_dict()))

    def receipt(self, stage: StageName, digest: str) -> Receipt | None:
        """The receipt of a finished stage whose artefact is still whole; None otherwise."""
        try:
            receipt = Receipt.model_validate_json(self._receipt(stage, digest).read_bytes())
        except (OSError, ValidationError):
            return None
        if (receipt.stage, receipt.digest) != (stage, digest):
            return None
        return receipt if self.get(receipt.output) is not None else None

    def sweep(self, kept: Collection[tuple[StageName, str]], before: datetime) -> None:
        """Removes receipts last written before a moment and not of a `kept` stage and digest, and artefacts of none.

        Nobody else may be at work in the store.
        """
        wanted = {self._receipt(stage, digest) for stage, digest in kept}
        named = set()
        for path in (self.root / "receipts").glob("*"):
            if path in wanted or not _is_older(path, before):
                with suppress(OSError, ValidationError):
                    named.add(self._artifact(Receipt.model_validate_json(path.read_bytes()).output))
            else:
                path.unlink()
        for path in (self.root / "artifacts").glob("*"):
            if path not in named and _is_older(path, before):
                self.discard(path.name)

    def discard_abandoned(self) -> None:
        """Removes receipts that processes which were killed had begun to write."""
        discard_abandoned(self.root / "receipts")

    def _artifact(self, digest: str) -> Path:
        return self.root / "artifacts" / digest.removeprefix("sha256:")

    def _receipt(self, stage: StageName, digest: str) -> Path:
        return self.root / "receipts" / f"{stage.value}-{digest.removeprefix('sha256:')}.json"


def _is_older(path: Path, moment: datetime) -> bool:
    return datetime.fromtimestamp(path.stat().st_mtime, moment.tzinfo) < moment


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file aside, synchronises and renames it. InfrastructureError: DiskFull."""
    # In containers all processes may have one number.
    aside = path.with_name(f"{path.name}{_ASIDE}{secrets.token_hex(4)}-{os.getpid()}")
    with disk_full_explained(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            aside.write_bytes(content)
            _synchronise(aside)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)


def discard_abandoned(folder: Path) -> None:
    """Removes files that `write_whole` had begun in processes that are gone."""
    for aside in folder.glob(f"*{_ASIDE}*"):
        number = aside.name.rpartition("-")[2]
        if number.isdigit() and not _is_running(int(number)):
            aside.unlink(missing_ok=True)


@contextmanager
def disk_full_explained(path: Path, size: int | None = None) -> Iterator[None]:
    """Turns a full disk, quota or file size into an InfrastructureError (DiskFull) that says how much is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        there = next(parent for parent in path.absolute().parents if parent.exists())
        needed = "" if size is None else f", and {size:,} bytes are to be written"
        raise InfrastructureError(
            "DiskFull",
            f"{path}: {os.strerror(error.errno)} ({shutil.disk_usage(there).free:,} bytes are free{needed}); "
            "free space or choose another --workdir",
        ) from error


def _is_running(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def _synchronise(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
