"""The status of a ModelMigration: what the operator, or `paritygate run`, has observed and done."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from paritygate.api.artifacts import StageName
from paritygate.api.base import Digest, Model, list_map
from paritygate.api.report import CheckName, Finding, Verdict

Timestamp = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Reason = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", min_length=1, max_length=1024)
]


class ConditionType(StrEnum):
    """Conditions that ParityGate sets. Reconciling and Stalled are kstatus's: at most one stands, and only as True."""

    ASSESSED = "Assessed"
    CONVERTED = "Converted"
    PARITY_VERIFIED = "ParityVerified"
    SERVING_AVAILABLE = "ServingAvailable"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUSPENDED = "Suspended"


class Condition(Model):
    """metav1.Condition."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: Reason
    message: Annotated[str, StringConstraints(max_length=32768)]
    observed_generation: int
    last_transition_time: Timestamp


class InputDigests(Model):
    """Digests of everything that stages read and that no stage makes, as first seen."""

    source: Digest | None = None
    dataset: Digest
    environment: Digest
    converter: Digest
    runtime: Digest
    capture: Digest | None = None
    candidate: Digest | None = None


class RunStatus(Model):
    """What a run pinned when it started; it stays until the spec or spec.runID changes."""

    id: Digest
    """Of the spec with all input digests; until these are known, of what is looked for."""
    spec: Digest | None = None
    """Of the part of the spec that starts a new run when it changes."""
    images: Annotated[dict[str, str], Field(max_length=8)] = {}
    """Images of the run, by use."""
    identities: Annotated[dict[str, Digest], Field(max_length=8)] = {}
    """What stands for these images in digests of stages and runtimes."""
    inputs: InputDigests | None = None
    recipe: int
    """Version of what ParityGate does in its stages."""
    started_at: Timestamp


class SourceStatus(Model):
    """What was found out about the source."""

    digest: Digest
    framework: str | None = None
    parameters: int | None = None
    findings: Annotated[tuple[Finding, ...], Field(max_length=20)] = ()


class StageState(StrEnum):
    """How far a stage is."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class StageStatus(Model):
    """The newest attempt of a stage."""

    name: StageName
    digest: Digest
    attempt: int
    state: StageState
    output: Digest | None = None
    """Of the artefact that it made."""
    job: str | None = None
    """The Job that carried it out; its logs tell more than the message, while it is kept."""
    message: str | None = None


class CandidateStatus(Model):
    """One artefact that may replace the source."""

    name: str
    digest: Digest
    size: int | None = None
    verdict: Verdict | None = None
    selected: bool = False


class CheckStatus(Model):
    """One check of the verdict."""

    name: CheckName
    result: Verdict
    measured: str | None = None
    limit: str | None = None
    rows: int = 0


class VerdictStatus(Model):
    """The verdict that counts for the selected candidate, or for the one that came closest."""

    result: Verdict
    report_digest: Digest
    report_uri: str | None = Field(default=None, alias="reportURI")
    """Folder with report.html and report.json; of a claim: pvc://CLAIM/PATH."""
    evidence: Annotated[str, StringConstraints(max_length=4096)] | None = None
    """The evidence summary as the stage gave it, so that the verdict follows from the status alone."""
    checks: Annotated[tuple[CheckStatus, ...], Field(max_length=16, json_schema_extra=list_map("name"))] = ()


class RevisionState(StrEnum):
    """How far a revision is."""

    STARTING = "Starting"
    SERVING = "Serving"
    RETIRING = "Retiring"


class RevisionStatus(Model):
    """An artefact with its runtime and options, deployed."""

    name: str
    role: Literal["Stable", "Candidate"]
    state: RevisionState
    digest: Digest
    """Of the candidate that it serves."""
    report_digest: Digest
    image: str | None = None
    """Of its server."""
    ready: int | None = None
    """Replicas that answer, of the stable revision. Of a candidate it is not told one by one as they come up."""


class PromotionStatus(Model):
    """A revision came to own the traffic."""

    revision: str
    promoted_at: Timestamp
    report_digest: Digest
    digest: Digest
    """Of the candidate."""
    verdict: Digest | None = None
    """Of the artefact with the report and the golden rows; absent = the Deployment does not say."""


class ModelMigrationStatus(Model):
    """What has been observed and done. `phase` is display text for people and is never read."""

    observed_generation: int = -1
    phase: str | None = None
    conditions: Annotated[tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))] = ()
    run: RunStatus | None = None
    source: SourceStatus | None = None
    stages: Annotated[tuple[StageStatus, ...], Field(max_length=16, json_schema_extra=list_map("name"))] = ()
    candidates: Annotated[tuple[CandidateStatus, ...], Field(max_length=8, json_schema_extra=list_map("name"))] = ()
    verdict: VerdictStatus | None = None
    revisions: Annotated[tuple[RevisionStatus, ...], Field(max_length=8, json_schema_extra=list_map("name"))] = ()
    url: str | None = None
    history: Annotated[tuple[PromotionStatus, ...], Field(max_length=10)] = ()
    """The newest promotions, the newest first."""
