"""The operator's configuration: images, floors, caps and defaults, checked as a whole when the operator starts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from paritygate.api.base import (
    DecimalString,
    Digest,
    DurationString,
    Model,
    Namespace,
    PinnedImage,
    ProbabilityString,
    Registry,
    duration,
)
from paritygate.api.digests import digest_of_bytes
from paritygate.api.rules import Place
from paritygate.api.spec import (
    Confidence,
    Equivalence,
    LabelValue,
    ObjectName,
    Quantity,
    Resources,
    SourceFormat,
    Storage,
)

_SHORTEST_RESYNC: Final = timedelta(seconds=30)
_SHORTEST_DEADLINE: Final = timedelta(minutes=1)
_UNITS: Final = {
    "": Decimal(1), "m": Decimal("0.001"), "k": Decimal(1000),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("MGTPE", 2)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)},
}  # fmt: skip


def digest_of_image(name: str) -> str:
    """What stands for an image of which nothing but its name is known."""
    return digest_of_bytes(name.encode())


class Environments(Model):
    """Digests of an image's packages, as far as work on one format depends on them."""

    converter: Digest
    source: Digest
    """The same, where models of the format answer in this image."""


class WorkerImage(Model):
    """The image of Jobs, by digest, so that it is known what does the work."""

    name: PinnedImage
    """The image with its digest."""
    identity: Annotated[dict[SourceFormat, Environments], Field(max_length=64)] = {}
    """What `python -m paritygate.worker identity` prints in the image, as its build recorded it. With it, stage digests
    equal those of a machine with the same packages; a format that is not listed goes by the image's digest."""

    def environments(self, source_format: SourceFormat) -> Environments:
        """What stands for the image in stage digests."""
        unstated = digest_of_image(self.name)
        return self.identity.get(source_format) or Environments(converter=unstated, source=unstated)


class ServerImage(Model):
    """The image of the candidate, by digest, so that what was judged is what serves."""

    name: PinnedImage
    """The image with its digest."""
    identity: Digest | None = None
    """What `python -m paritygate.server --identity-digest` prints in a pod of the image with `defaults.serving`;
    None = the image's digest. With it, Validate's digest equals that of a machine with the same packages, processor
    features and threads."""

    @property
    def digest(self) -> str:
        """What stands for the image in stage digests."""
        return self.identity or digest_of_image(self.name)


class Images(Model):
    """What Jobs and revisions run."""

    worker: WorkerImage
    """fetch, convert, validate and publish; and capture, where the source states no image of its own."""
    server: ServerImage
    """The candidate, judged and serving."""


class Floors(Model):
    """The loosest that a manifest may state; it can tighten, and not loosen."""

    loosest_equivalence: Equivalence = Equivalence.METRIC
    max_flip_rate: ProbabilityString | None = None
    """Highest `maxFlipRate` of `validation.decisions` and of slices; None = any."""
    max_tie_rate: ProbabilityString | None = None
    """Highest `validation.decisions.maxTieRate`; None = any."""
    max_drop: DecimalString | None = None
    """Highest `maxDrop` of metrics and of slices, whatever the metric; None = any."""
    rtol: DecimalString | None = None
    """Highest relative tolerance that is stated; None = any. What is not stated is derived, whatever stands here."""
    atol: DecimalString | None = None
    """Highest absolute tolerance that is stated; None = any."""
    min_confidence: Confidence = "0.5"
    """Lowest `validation.confidence`."""
    registries: Annotated[tuple[Registry, ...], Field(max_length=64)] = ()
    """Registries, with or without a folder, of images that sources may run in; none = any."""


class Caps(Model):
    """How much may run at once, and how long."""

    active_runs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Migrations with work at hand, over all namespaces."""
    active_runs_per_namespace: Annotated[int, Field(ge=1, le=100_000)] = 10
    """Of these, in one namespace."""
    deadline: DurationString = "24h"
    """Longest `jobs.deadline`."""
    retries: Annotated[int, Field(ge=0, le=10)] = 5
    """Highest `jobs.retries`."""
    replicas: Annotated[int, Field(ge=1, le=1000)] = 100
    """Most replicas that a migration may serve with, `serving.autoscaling.maxReplicas` included."""
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Migrations that are reconciled at once."""
    requests_per_second: Annotated[int, Field(ge=1, le=10_000)] = 200
    """That we allow ourselves on the API server."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 400
    """Requests that may go at once."""


class Defaults(Model):
    """What holds where a manifest says nothing."""

    storage: Storage | None = None
    """None = every manifest must say where its artefacts are kept."""
    convert: Resources = Resources(requests={"cpu": "500m", "memory": "1Gi"}, limits={"memory": "4Gi"})
    """Of each container of a convert Job, where `jobs.convert.resources` says nothing."""
    validation: Resources = Resources(requests={"cpu": "500m", "memory": "1Gi"}, limits={"memory": "4Gi"})
    """The same in a validate Job, where `jobs.validate.resources` says nothing."""
    serving: Resources = Resources(requests={"cpu": "500m", "memory": "512Mi"}, limits={"cpu": "1", "memory": "1Gi"})
    """Of each replica, where `serving.resources` says nothing. Part of what is judged: another value has models that go
    by it judged anew."""
    scratch: Quantity = "10Gi"
    """Most that a Job's working volumes may hold, each."""


class Unchecked(Model):
    """All of it, each value right in itself."""

    images: Images
    floors: Floors = Floors()
    caps: Caps = Caps()
    defaults: Defaults = Defaults()
    namespaces: Annotated[tuple[Namespace, ...], Field(max_length=1000)] = ()
    """That are looked after; none = all."""
    resync: DurationString = "10m"
    """How often everything is listed anew, to find deletions that no event told of."""
    node_selector: Annotated[dict[str, LabelValue], Field(max_length=16)] = {}
    """Of pods that judge and pods that serve: their processors must be of one class. Part of what is judged."""
    node_local_classes: Annotated[tuple[ObjectName, ...], Field(max_length=64)] = ()
    """Storage classes whose volumes bind their pods to one node, so that replicas can share a ReadWriteOnce claim."""


class Settings(Unchecked):
    """All of it. A file of this shape is named to `paritygate operator --config`."""

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        found = contradictions(self)
        if found:
            raise PydanticCustomError("contradiction", "{said}", {"said": "; ".join(one.message for one in found)})
        return self


@dataclass(frozen=True)
class Contradiction:
    """Values that do not go together."""

    place: Place
    """Where it is said, as fields of the file."""
    message: str
    others: tuple[Place, ...] = ()
    """What it does not go together with."""


def contradictions(settings: Unchecked) -> list[Contradiction]:
    """All of them."""
    caps, found = settings.caps, []
    # A default that is out of reach bounds nothing, and nobody asked for it.
    if "active_runs_per_namespace" in caps.model_fields_set and caps.active_runs_per_namespace > caps.active_runs:
        found.append(
            Contradiction(
                ("caps", "activeRunsPerNamespace"),
                f"is {caps.active_runs_per_namespace}, above caps.activeRuns, {caps.active_runs}; lower it",
                (("caps", "activeRuns"),),
            )
        )
    if duration(settings.resync) < _SHORTEST_RESYNC:
        said = f"is {settings.resync}; every listing loads the API server: use at least 30s, e.g. 10m"
        found.append(Contradiction(("resync",), said))
    if duration(caps.deadline) < _SHORTEST_DEADLINE:
        said = f"is {caps.deadline}, in which no stage ends; use at least 1m, e.g. 24h"
        found.append(Contradiction(("caps", "deadline"), said))
    for use in ("convert", "validation", "serving"):
        resources: Resources = getattr(settings.defaults, use)
        for name, asked in resources.requests.items():
            limit = resources.limits.get(name)
            if limit is not None and amount(asked) > amount(limit):
                at: Place = ("defaults", use, "requests", name)
                said = f"is {asked}, above the limit, {limit}; Kubernetes would refuse every pod"
                found.append(Contradiction(at, said, (("defaults", use, "limits", name),)))
    return found


def amount(quantity: str) -> Decimal:
    """The number that a quantity of Kubernetes names."""
    number = quantity.rstrip("mkKMGTPEi")
    return Decimal(number) * _UNITS[quantity[len(number) :]]
