"""A frozen snapshot of one migration: all that a plan follows from."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from paritygate.api.artifacts import Assessment, CandidateManifest, Receipt, StageFailure, StageName
from paritygate.api.spec import ModelMigrationSpec
from paritygate.api.status import ModelMigrationStatus, StageState


@dataclass(frozen=True)
class Inputs:
    """Digests of everything that stages read and that no stage makes."""

    source: str | None
    """None = the model is not here: its answers were recorded elsewhere and a candidate is brought."""
    dataset: str
    environment: str
    """Where the source runs: its lock, its image, or the converter's own environment."""
    converter: str
    """Environment in which candidates are made."""
    runtime: str
    """Of the serving runtime's identity."""
    capture: str | None = None
    """Answers that were recorded elsewhere."""
    candidate: str | None = None
    """A brought artefact."""


@dataclass(frozen=True)
class Attempt:
    """One try at a stage that has not succeeded: what succeeded has a receipt."""

    stage: StageName
    digest: str
    number: int
    state: StageState
    started_at: datetime
    ended_at: datetime | None = None
    failure: StageFailure | None = None
    waiting: StageFailure | None = None
    """What holds it up while it runs. Of class Configuration: it will not go on by itself."""
    at: StageName | None = None
    """What it is at, where one attempt carries several stages; None = `stage`."""
    stale: bool = False
    """It is of an earlier generation: it counts for numbering, not for whether to try again, and goes if it waits."""
    job: str | None = None
    """Name of what carries it out, where people can look at it."""
    replaced: str | None = None
    """Why it had to begin anew, where what carries it was lost and replaced without an attempt being counted."""


@dataclass(frozen=True)
class Finished:
    """The attempt that brought the result of a finished stage."""

    stage: StageName
    digest: str
    number: int
    job: str
    """Name of what carried it out."""


@dataclass(frozen=True)
class Revision:
    """A candidate with its runtime, deployed."""

    name: str
    candidate: str
    """Empty = it does not say; so with `runtime` and `report`."""
    runtime: str
    report: str
    ready: bool = False
    """Its golden rows were answered rightly through the address that clients would use."""
    ready_since: datetime | None = None
    """None = not known; then nothing is waited for."""
    failure: StageFailure | None = None
    image: str | None = None
    """Of its server."""
    replicas: int | None = None
    """Asked for; None = there is no such number."""
    available: int | None = None
    """Replicas that answer; None = all or none, as `ready` says."""
    unavailable_since: datetime | None = None
    """Since when it has too few replicas; None = it has not, or it is not known."""
    verdict: str | None = None
    """Digest of the verdict folder whose golden rows its pods answer; None = it does not say."""
    in_line: bool = True
    """Whether its scale and its owner are as the spec asks."""

    altered: bool = False
    """Whether somebody changed what it runs: it is then not what passed."""

    @property
    def told(self) -> bool:
        """Whether it says what it holds and why it may serve; somebody may have taken that away."""
        return bool(self.candidate and self.runtime and self.report)

    @property
    def serves(self) -> bool:
        """Whether requests are answered, by however few."""
        return self.ready if self.available is None else self.available > 0


@dataclass(frozen=True)
class Observed:
    """What is there, at one moment."""

    name: str
    uid: str
    generation: int
    spec: ModelMigrationSpec
    now: datetime
    status: ModelMigrationStatus | None = None
    """As last written; holds what the run pinned and since when conditions stand."""
    inputs: Inputs | None = None
    """None = not resolved: see `unresolved`."""
    unresolved: StageFailure | None = None
    """Why the inputs cannot be resolved; None = they are, or are being looked at."""
    receipts: tuple[Receipt, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    finished: tuple[Finished, ...] = ()
    """For the receipts whose attempts have left a trace other than the receipt."""
    assessment: Assessment | None = None
    candidate: CandidateManifest | None = None
    serving: bool = False
    """Whether a candidate that passed is to serve."""
    revisions: tuple[Revision, ...] = field(default=())
    traffic: str | None = None
    """Name of the revision that owns the traffic."""
    pointed: bool = True
    """Whether every address of the migration leads to it, the one that the spec names among them."""
    lagging: tuple[str, ...] = ()
    """Other revisions that an address of the migration leads to."""
    url: str | None = None
    """Where the traffic goes in."""
    sought: str | None = None
    """Identity of what is looked for while `inputs` is None, where the first stage finds inputs; None = elsewhere."""
    images: tuple[tuple[str, str], ...] = ()
    """Images of the run by use, for the status to pin."""
    identities: tuple[tuple[str, str], ...] = ()
    """Digests that stand for these images, by use, for the status to pin."""
    queued: str | None = None
    """Why no stage may start now; None = one may."""
    candidate_size: int | None = None
    """Bytes of the candidate, where its manifest is not at hand."""
    traffic_since: datetime | None = None
    """When the revision came to own the traffic; None = not known; then nothing is waited for."""
    artifacts: str | None = None
    """Where artefacts are found by people, as a URI that ends in a slash; None = it is not told."""
    made: frozenset[str] = frozenset()
    """Artefacts that attempts made whose traces are still there, whatever they were for: a spec that is rolled back
    finds them by these."""
