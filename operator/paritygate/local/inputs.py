"""Digests and places of everything that a manifest names, on this machine."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from paritygate.api.digests import digest_of
from paritygate.api.spec import BroughtCandidate, Dataset, ModelMigrationSpec, RecordedCapture, Source
from paritygate.core.observed import Inputs
from paritygate.errors import ConfigurationError
from paritygate.installation import converter_digest, source_digest
from paritygate.local.environments import Environments, Lock
from paritygate.local.processes import stage_environment
from paritygate.storage.captures import Here, require_capture_of
from paritygate.storage.digests import digest_of_path
from paritygate.storage.uris import resolve


@dataclass(frozen=True)
class Places:
    """Where the inputs lie, beside their digests."""

    inputs: Inputs
    source: Path | None
    dataset: Path
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
    with ThreadPoolExecutor(1) as beside:
        # A process, which starts while files are read here.
        runtime = beside.submit(runtime_digest, server)
        return _resolved(spec, base, environments, cancelled, runtime)


def _resolved(
    spec: ModelMigrationSpec,
    base: Path,
    environments: Environments,
    cancelled: threading.Event,
    runtime: Future[str],
) -> Places:
    source, capture, candidate = spec.source, spec.source.capture, spec.target.candidate
    model = _source(spec, base)
    dataset = _found(spec.validation.dataset, base, "spec.validation.dataset")
    recorded = _found(capture, base, "spec.source.capture") if capture else None
    brought = _found(candidate, base, "spec.target.candidate") if candidate else None
    if recorded is not None:
        require_capture_of(
            recorded.path,
            str(recorded.path),
            Here(str(model.path), model.digest) if model else None,
            Here(str(dataset.path), dataset.digest),
        )
    if source.environment and source.environment.image:
        raise ConfigurationError(
            "ImageNeedsCluster",
            f"spec.source.environment.image is {source.environment.image.name!r}, and images run in a cluster only; "
            "on one machine state environment.virtualenv with the versions that are in the image",
        )
    asked = source.environment and source.environment.virtualenv
    lock = environments.solve(asked, cancelled) if asked and capture is None else None
    inputs = Inputs(
        source=model.digest if model else None,
        dataset=dataset.digest,
        environment=lock.digest if lock else source_digest(source.format),
        converter=converter_digest(source.format),
        runtime=runtime.result(),
        capture=recorded.digest if recorded else None,
        candidate=brought.digest if brought else None,
    )
    return Places(
        inputs,
        source=model.path if model else None,
        dataset=dataset.path,
        capture=recorded.path if recorded else None,
        candidate=brought.path if brought else None,
        lock=lock,
    )


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


@dataclass(frozen=True)
class _Found:
    """An input that is here."""

    path: Path
    digest: str


def _source(spec: ModelMigrationSpec, base: Path) -> _Found | None:
    """The model; None = it is not here, and need not be: its answers were recorded, and a candidate is brought."""
    source = spec.source
    path = resolve(source.uri, base, "spec.source.uri")
    if path.exists() or source.capture is None:
        return _found(source, base, "spec.source")
    if spec.target.candidate is None:
        raise ConfigurationError(
            "NotFound",
            f"spec.source.uri: {path}: there is no such file or folder. Its answers were recorded elsewhere, but "
            "converting needs the model itself: bring it, or bring what was converted from it as spec.target.candidate",
        )
    return None


def _found(stated: Source | Dataset | RecordedCapture | BroughtCandidate, base: Path, field: str) -> _Found:
    """Path and digest of one input. ConfigurationError: it is missing, or differs from the digest that is stated."""
    path = resolve(stated.uri, base, f"{field}.uri")
    try:
        digest = digest_of_path(path)
    except ConfigurationError as error:
        raise ConfigurationError(error.reason, f"{field}.uri: {error.message}") from error
    if stated.digest is not None and stated.digest != digest:
        raise ConfigurationError(
            "DigestMismatch",
            f"{field}.digest is {stated.digest}, but {path} has {digest}; bring the file that was meant, or correct "
            "the digest",
        )
    return _Found(path, digest)
