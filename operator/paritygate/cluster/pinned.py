"""What a run goes by: images, and digests that stand for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from paritygate.api.digests import digest_of
from paritygate.api.spec import ModelMigrationSpec
from paritygate.api.status import InputDigests, ModelMigrationStatus, RunStatus
from paritygate.cluster.settings import Settings, digest_of_image
from paritygate.core import stages

_IMAGES: Final = {"candidate": "candidate", "capture": "convert", "convert": "convert"}
"""Use → the use whose image it has."""


@dataclass(frozen=True)
class Pinned:
    """What the run goes by, whatever the operator's configuration says by now."""

    worker: str
    server: str
    environment: str
    """Digests, from here on."""
    converter: str
    capture: str
    """What stands for the worker's image where models answer in it."""
    candidate: str
    """What stands for the server's image."""
    runtime: str
    recipe: int
    sought: str
    inputs: InputDigests | None
    """As the status remembers them."""

    def images(self) -> tuple[tuple[str, str], ...]:
        """For the status."""
        return (("candidate", self.server), ("convert", self.worker))

    def identities(self) -> tuple[tuple[str, str], ...]:
        """For the status."""
        return (("candidate", self.candidate), ("capture", self.capture), ("convert", self.converter))


def pinned(name: str, spec: ModelMigrationSpec, status: ModelMigrationStatus | None, settings: Settings) -> Pinned:
    """Images and recipe of the run: as the status pinned them while the spec stays, else as configured now."""
    run = status.run if status else None
    goes_on = run is not None and run.spec == stages.spec_digest(spec)
    run = run if goes_on else None
    images = settings.images
    known = images.worker.environments(spec.source.format)
    worker, converter = _image("convert", images.worker.name, known.converter, run)
    _, capture = _image("capture", images.worker.name, known.source, run)
    server, candidate = _image("candidate", images.server.name, images.server.digest, run)
    image = spec.source.environment.image if spec.source.environment else None
    environment = capture if image is None else digest_of(image.to_dict())
    recipe = run.recipe if run is not None else stages.RECIPE
    return Pinned(
        worker=worker,
        server=server,
        environment=environment,
        converter=converter,
        capture=capture,
        candidate=candidate,
        runtime=_runtime(server, candidate, spec, settings),
        recipe=recipe,
        sought=stages.sought_digest(name, spec, environment, converter, recipe),
        inputs=run.inputs if run is not None else None,
    )


def _image(use: str, configured: str, identity: str, run: RunStatus | None) -> tuple[str, str]:
    """An image of the run and the digest that stands for it."""
    name = run.images.get(_IMAGES[use], configured) if run is not None else configured
    known = run.identities.get(use) if run is not None else None
    return name, known or (identity if name == configured else digest_of_image(name))


def _runtime(server: str, identity: str, spec: ModelMigrationSpec, settings: Settings) -> str:
    """Image, resources and kind of processor. As the image names itself where nothing else is asked for."""
    names_itself = identity != digest_of_image(server)
    if names_itself and spec.serving.resources is None and not settings.node_selector:
        return identity
    resources = spec.serving.resources or settings.defaults.serving
    return digest_of(
        {"server": identity, "resources": resources.to_dict(), "nodes": dict(sorted(settings.node_selector.items()))}
    )
