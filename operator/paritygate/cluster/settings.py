"""The operator's configuration: images, floors, caps and defaults, checked as a whole when the operator starts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import yaml
from pydantic import Field, StringConstraints, ValidationError, model_validator

from paritygate.api.base import DecimalString, Digest, DurationString, Model, decimal, duration
from paritygate.api.digests import digest_of_bytes
from paritygate.api.spec import Equivalence, ModelMigrationSpec, ObjectName, Quantity, Resources, SourceFormat, Storage
from paritygate.errors import InvalidSettings

_STRICTEST_FIRST: Final = (Equivalence.NUMERIC, Equivalence.DECISION, Equivalence.METRIC)
PinnedImage = Annotated[str, StringConstraints(strict=True, pattern=r"^[^\s@]+@sha256:[0-9a-f]{64}$", max_length=512)]


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
    max_flip_rate: DecimalString | None = None
    """Highest `validation.decisions.maxFlipRate`; None = any."""
    rtol: DecimalString | None = None
    """Highest stated relative tolerance; None = any."""
    min_confidence: DecimalString = "0.5"
    registries: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    """Prefixes of images that sources may run in; none = any."""


class Caps(Model):
    """How much may run at once, and how long."""

    active_runs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Migrations with work at hand, over all namespaces."""
    active_runs_per_namespace: Annotated[int, Field(ge=1, le=100_000)] = 10
    deadline: DurationString = "24h"
    """Longest `jobs.deadline`."""
    retries: Annotated[int, Field(ge=0, le=10)] = 5
    replicas: Annotated[int, Field(ge=1, le=1000)] = 100
    workers: Annotated[int, Field(ge=1, le=256)] = 16
    """Migrations that are reconciled at once."""
    requests_per_second: Annotated[int, Field(ge=1, le=10_000)] = 100
    """That we allow ourselves on the API server."""
    burst: Annotated[int, Field(ge=1, le=10_000)] = 200


class Defaults(Model):
    """What holds where a manifest says nothing."""

    storage: Storage | None = None
    """None = every manifest must say where its artefacts are kept."""
    convert: Resources = Resources(requests={"cpu": "500m", "memory": "1Gi"}, limits={"memory": "4Gi"})
    validation: Resources = Resources(requests={"cpu": "500m", "memory": "1Gi"}, limits={"memory": "4Gi"})
    serving: Resources = Resources(requests={"cpu": "500m", "memory": "512Mi"}, limits={"cpu": "1", "memory": "1Gi"})
    scratch: Quantity = "10Gi"
    """Most that a Job's working volumes may hold, each."""


class Settings(Model):
    """All of it. A file of this shape is named to `paritygate operator --config`."""

    images: Images
    floors: Floors = Floors()
    caps: Caps = Caps()
    defaults: Defaults = Defaults()
    namespaces: Annotated[tuple[str, ...], Field(max_length=1000)] = ()
    """That are looked after; none = all."""
    resync: DurationString = "10m"
    """How often everything is listed anew, to find deletions that no event told of."""
    node_selector: Annotated[dict[str, str], Field(max_length=16)] = {}
    """Of pods that judge and pods that serve: their processors must be of one class."""
    node_local_classes: Annotated[tuple[ObjectName, ...], Field(max_length=64)] = ()
    """Storage classes whose volumes bind their pods to one node, so that replicas can share a ReadWriteOnce claim."""

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        caps = self.caps
        if caps.active_runs_per_namespace > caps.active_runs:
            raise ValueError(
                f"caps.activeRunsPerNamespace is {caps.active_runs_per_namespace}, above caps.activeRuns, "
                f"{caps.active_runs}; lower it"
            )
        if duration(self.resync).total_seconds() < 30:  # noqa: PLR2004 - the field's own floor
            raise ValueError(f"resync is {self.resync}; every listing loads the API server: use at least 30s, e.g. 10m")
        return self


def load_settings(file: Path) -> Settings:
    """The configuration in a file. InvalidSettings: every problem at once."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        return Settings.model_validate(content)
    except (OSError, yaml.YAMLError) as error:
        raise InvalidSettings([f"{file}: cannot be read ({error})"]) from error
    except ValidationError as error:
        raise InvalidSettings(
            [f"{file}: {'.'.join(map(str, p['loc'])) or 'the whole'}: {p['msg']}" for p in error.errors()]
        ) from error


def violations(spec: ModelMigrationSpec, settings: Settings) -> list[str]:
    """What a manifest asks for that cannot work here, or that the configuration forbids; one sentence each."""
    floors, caps = settings.floors, settings.caps
    found = []
    if spec.source.environment is not None and spec.source.environment.virtualenv is not None:
        found.append(
            "spec.source.environment.virtualenv is for one machine; in a cluster state environment.image, "
            "e.g. image: {name: registry.example/model:1.2}"
        )
    image = spec.source.environment.image.name if spec.source.environment and spec.source.environment.image else None
    if image and floors.registries and not image.startswith(floors.registries):
        found.append(
            f"spec.source.environment.image.name is {image!r}; images must come from {', '.join(floors.registries)}"
        )
    if _STRICTEST_FIRST.index(spec.equivalence) > _STRICTEST_FIRST.index(floors.loosest_equivalence):
        found.append(f"equivalence is {spec.equivalence}; this cluster takes {floors.loosest_equivalence} or stricter")
    found += _loosened(
        "spec.validation.decisions.maxFlipRate", spec.validation.decisions.max_flip_rate, floors.max_flip_rate
    )
    found += _loosened("spec.validation.numeric.rtol", spec.validation.numeric.rtol, floors.rtol)
    for output in spec.validation.numeric.outputs:
        found += _loosened(f"spec.validation.numeric.outputs[{output.name}].rtol", output.rtol, floors.rtol)
    if decimal(spec.validation.confidence) < decimal(floors.min_confidence):
        found.append(
            f"spec.validation.confidence is {spec.validation.confidence}; at least {floors.min_confidence} is asked"
        )
    if duration(spec.jobs.deadline) > duration(caps.deadline):
        found.append(f"spec.jobs.deadline is {spec.jobs.deadline}; at most {caps.deadline} is allowed")
    if spec.jobs.retries > caps.retries:
        found.append(f"spec.jobs.retries is {spec.jobs.retries}; at most {caps.retries} are allowed")
    most = spec.serving.autoscaling.max_replicas if spec.serving.autoscaling else spec.serving.replicas or 0
    if most > caps.replicas:
        found.append(f"spec.serving asks for {most} replicas; at most {caps.replicas} are allowed")
    return found


def _loosened(field: str, stated: str | None, floor: str | None) -> list[str]:
    if stated is None or floor is None or decimal(stated) <= decimal(floor):
        return []
    return [f"{field} is {stated}; this cluster takes at most {floor}"]
