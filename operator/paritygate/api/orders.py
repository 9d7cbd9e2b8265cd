"""What the operator orders from the containers of a Job, and what these publish in their termination messages."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from paritygate.api.artifacts import Assessment, Receipt, StageName
from paritygate.api.base import Digest, MigrationName, Model
from paritygate.api.spec import ModelMigrationSpec
from paritygate.api.status import InputDigests

MESSAGE_BYTES = 2400
"""Most that a termination message may hold: 12,288 bytes are shared by all containers, and proxies are injected."""


class JobOrder(Model):
    """What a Job is to do. Every container finds it in its environment as `PARITYGATE_ORDER`."""

    kind: Literal["JobOrder"] = "JobOrder"
    job: Literal["Convert", "Validate", "Serve"]
    migration: MigrationName
    spec: ModelMigrationSpec | None = None
    """None = Serve: what serves must not change with the manifest."""
    recipe: int = 0
    environment: Digest | None = None
    converter: Digest | None = None
    runtime: Digest | None = None
    server_identity: Digest | None = None
    """What the candidate's server must say of itself, hashed; None = `runtime` stands for its image."""
    store: str
    """Address of the store: s3://…, gs://…, az://…, or file:///… where a claim is mounted."""
    pinned: InputDigests | None = None
    """What the inputs must hash to; None = whatever is found, where the spec states no digest."""
    stage: Digest | None = None
    """Of a Validate Job: the digest of the stage."""
    artefacts: dict[StageName, Digest] = {}
    """Of earlier stages, to be fetched; of Serve: the candidate, and the verdict with its golden rows."""
    kept: Annotated[tuple[Digest, ...], Field(max_length=256)] | None = None
    """Artefacts that must stay when the Job sweeps its migration's store; None = it sweeps nothing."""


class Fetched(Model):
    """What `fetch` of a convert Job found: termination message of that container."""

    kind: Literal["Fetched"] = "Fetched"
    inputs: InputDigests
    assessment: Assessment | None = None
    """Shortened to what people look at; None = the source is not here."""


class Published(Model):
    """What a Job made: termination message of `publish`."""

    kind: Literal["Published"] = "Published"
    inputs: InputDigests | None = None
    """Of a convert Job."""
    receipts: tuple[Receipt, ...]
    candidate_size: int | None = None
    """Bytes of the candidate."""
