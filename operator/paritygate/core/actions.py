"""What a plan may ask for: a closed union, in terms of migrations and not of what carries them out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from paritygate.api.artifacts import StageName


@dataclass(frozen=True)
class StartStage:
    """Begin an attempt of a stage. Starting the same attempt twice must change nothing."""

    stage: StageName
    digest: str
    attempt: int
    deadline: timedelta
    inputs: tuple[tuple[StageName, str], ...] = ()
    """Earlier stages whose artefacts it reads, with the artefacts' digests."""
    kept: frozenset[str] | None = None
    """Artefacts that must stay when it sweeps its migration's store; None = nothing may be swept."""


@dataclass(frozen=True)
class CancelStage:
    """Stop an attempt, which then counts as failed for `reason`."""

    stage: StageName
    digest: str
    attempt: int
    reason: str
    message: str
    job: str | None = None
    """Name of what carries it out, where it has one: equal numbers of attempts for other inputs are not meant."""


@dataclass(frozen=True)
class Grounds:
    """Why traffic may move. Checked against a live read of the migration just before the action is carried out."""

    uid: str
    generation: int
    candidate: str
    runtime: str
    report: str


@dataclass(frozen=True)
class ApplyRevision:
    """Bring up a revision beside what serves, without traffic; or bring one back to what it was made as."""

    name: str
    grounds: Grounds
    verdict: str
    """Artefact digest of the verdict folder, whose golden rows the revision must answer before it is ready."""
    replicas: int = 1


@dataclass(frozen=True)
class SetTraffic:
    """Let a ready revision own the traffic."""

    revision: str
    grounds: Grounds


@dataclass(frozen=True)
class AdjustRevision:
    """Bring scale and owner of the revision that owns the traffic in line with the spec. Its pods' template stays."""

    name: str


@dataclass(frozen=True)
class RetireRevision:
    """Drain and take down a revision that owns no traffic."""

    name: str


@dataclass(frozen=True)
class DiscardAttempt:
    """Remove what is left of an attempt that has ended: its logs. Its result lies elsewhere, or is not wanted."""

    stage: StageName
    digest: str
    attempt: int
    job: str


Action = StartStage | CancelStage | ApplyRevision | SetTraffic | AdjustRevision | RetireRevision | DiscardAttempt
