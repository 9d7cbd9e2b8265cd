"""Digests and places of everything that a manifest names, on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path

from paritygate.api.artifacts import CaptureManifest
from paritygate.api.digests import digest_of
from paritygate.api.spec import ModelMigrationSpec
from paritygate.core.observed import Inputs
from paritygate.errors import ConfigurationError
from paritygate.local.environments import Environments, Lock
from paritygate.local.processes import stage_environment
from paritygate.storage.digests import digest_of_path
from paritygate.storage.uris import resolve


@dataclass(frozen=True)
class Places:
    """Where the inputs lie, beside their digests."""

    inputs: Inputs
    source: Path | None
    dataset: Path | None
    capture: Path | None
    candidate: Path | None
    lock: Lock | None
    """The solved environment of the source; None = our own interpreter."""


def resolve_inputs(
    spec: ModelMigrationSpec, base: Path, environments: Environments, server: Sequence[str], cancelled: threading.Event
) -> Places:
    """Finds every input and computes its digest. StageError: one is missing, differs from its digest, or fails.

    A model whose answers were recorded elsewhere, with a candidate brought, need not be here.
    """
    source, capture, candidate = spec.source, spec.source.capture, spec.target.candidate
    source_path, source_digest = _found(
        source.uri, source.digest, base, "spec.source", absent=bool(capture and candidate)
    )
    dataset = spec.validation.dataset
    dataset_path, dataset_digest = _found(dataset.uri, dataset.digest, base, "spec.validation.dataset")
    capture_path = capture_digest = candidate_path = candidate_digest = None
    if capture is not None:
        capture_path, capture_digest = _found(capture.uri, capture.digest, base, "spec.source.capture")
    if candidate is not None:
        candidate_path, candidate_digest = _found(candidate.uri, candidate.digest, base, "spec.target.candidate")
    if capture_path is not None:
        _check_capture(capture_path, source_digest, dataset_digest or "")
    if source.environment and source.environment.image:
        raise ConfigurationError(
            "ImageNeedsCluster",
            f"spec.source.environment.image is {source.environment.image.name!r}, and images run in a cluster only; "
            "on one machine state environment.virtualenv with the versions that are in the image",
        )
    asked = source.environment and source.environment.virtualenv
    lock = environments.solve(asked, cancelled) if asked and capture is None else None
    own = own_environment()
    inputs = Inputs(
        source=source_digest,
        dataset=dataset_digest or "",
        environment=lock.digest if lock else own,
        converter=own,
        runtime=runtime_digest(server),
        capture=capture_digest,
        candidate=candidate_digest,
    )
    return Places(inputs, source_path, dataset_path, capture_path, candidate_path, lock)


def own_environment() -> str:
    """Digest of the Python that runs us and of all that is installed beside us."""
    found = {(one.metadata["Name"] or "").lower(): one.version for one in distributions()}
    return digest_of({"python": sys.version, "packages": found})


def runtime_digest(server: Sequence[str]) -> str:
    """Digest of what the serving runtime says it is. ConfigurationError (RuntimeUnknown): it does not say."""
    ended = subprocess.run(  # noqa: S603 - the command is ours
        [*server, "--identity"], capture_output=True, check=False, env=stage_environment({}), stdin=subprocess.DEVNULL
    )
    try:
        if ended.returncode == 0:
            return digest_of(json.loads(ended.stdout))
    except ValueError:
        pass
    said = ended.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing"]
    raise ConfigurationError(
        "RuntimeUnknown",
        f"`{' '.join(server)} --identity` ended with status {ended.returncode} and said {said[0]!r}; "
        "install the server with pip install 'paritygate[server]'",
    )


def _found(
    uri: str, stated: str | None, base: Path, field: str, *, absent: bool = False
) -> tuple[Path, str] | tuple[None, None]:
    """Path and digest of one input. `absent`: it need not be here, and is (None, None) then."""
    path = resolve(uri, base, f"{field}.uri")
    if absent and not path.exists():
        return None, None
    return path, _checked(path, stated, field)


def _checked(path: Path, stated: str | None, field: str) -> str:
    try:
        found = digest_of_path(path)
    except ConfigurationError as error:
        raise type(error)(error.reason, f"{field}.uri: {error.message}") from error
    if stated is not None and stated != found:
        raise ConfigurationError(
            "DigestMismatch",
            f"{field}.digest is {stated}, but {path} has {found}; bring the file that was meant, or correct the digest",
        )
    return found


def _check_capture(folder: Path, source: str | None, dataset: str) -> None:
    """ConfigurationError (CaptureUnreadable, CaptureMismatch): answers of another model, or to another dataset."""
    try:
        manifest = CaptureManifest.model_validate_json((folder / "capture.json").read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            "CaptureUnreadable",
            f"spec.source.capture.uri: {folder} holds no readable capture.json ({error}); record it with "
            "`paritygate capture MANIFEST --out FOLDER`",
        ) from error
    for what, field, found, wanted in (
        ("model", "source", manifest.source, source or manifest.source),
        ("dataset", "validation.dataset", manifest.dataset, dataset),
    ):
        if found != wanted:
            raise ConfigurationError(
                "CaptureMismatch",
                f"spec.source.capture.uri: {folder} was recorded on a {what} with digest {found}, and spec.{field}.uri "
                f"has {wanted}; record it anew, or name that {what}",
            )
