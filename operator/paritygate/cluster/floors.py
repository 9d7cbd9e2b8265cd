"""What the operator's configuration forbids a manifest: it can tighten, and not loosen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from paritygate.api.base import Model, decimal, duration
from paritygate.api.spec import Equivalence, ModelMigrationSpec, Strategy
from paritygate.cluster.settings import Caps, Floors, Settings
from paritygate.core.rollout import DEFAULT_REPLICAS

_STRICTEST_FIRST: Final = (Equivalence.NUMERIC, Equivalence.DECISION, Equivalence.METRIC)


def violations(spec: ModelMigrationSpec, settings: Settings) -> list[str]:
    """What a manifest asks for that cannot work here, or that the configuration forbids; one sentence each."""
    return [*_source(spec, settings.floors), *_judged(spec, settings.floors), *_sized(spec, settings.caps)]


def _source(spec: ModelMigrationSpec, floors: Floors) -> Iterator[str]:
    environment = spec.source.environment
    if environment is not None and environment.virtualenv is not None:
        yield (
            "spec.source.environment.virtualenv is for one machine; in a cluster state environment.image, "
            "e.g. image: {name: registry.example/model:1.2}"
        )
    image = environment.image.name if environment and environment.image else None
    if image and floors.registries and not any(_within(image, registry) for registry in floors.registries):
        yield f"spec.source.environment.image.name is {image!r}; images must come from {', '.join(floors.registries)}"


def _within(image: str, registry: str) -> bool:
    """By whole parts: registry.example is no prefix of registry.example.org, nor team of team-b."""
    return image.startswith(f"{registry.rstrip('/')}/")


def _judged(spec: ModelMigrationSpec, floors: Floors) -> Iterator[str]:
    if _STRICTEST_FIRST.index(spec.equivalence) > _STRICTEST_FIRST.index(floors.loosest_equivalence):
        field = "spec.target.candidate.equivalence" if spec.target.candidate else "spec.target.equivalence"
        yield f"{field} is {spec.equivalence}; this cluster takes {floors.loosest_equivalence} or stricter"
    validation = spec.validation
    numeric, decisions = validation.numeric, validation.decisions
    yield from _above("spec.validation.decisions.maxFlipRate", decisions, "max_flip_rate", floors.max_flip_rate)
    yield from _above("spec.validation.decisions.maxTieRate", decisions, "max_tie_rate", floors.max_tie_rate)
    for metric in validation.metrics:
        yield from _above(f"spec.validation.metrics[{metric.name}].maxDrop", metric, "max_drop", floors.max_drop)
    for one in validation.dataset.slices:
        place = f"spec.validation.dataset.slices[{one.column}]"
        yield from _above(f"{place}.maxDrop", one, "max_drop", floors.max_drop)
        yield from _above(f"{place}.maxFlipRate", one, "max_flip_rate", floors.max_flip_rate)
    for place, stated in (
        ("spec.validation.numeric", numeric),
        *((f"spec.validation.numeric.outputs[{o.name}]", o) for o in numeric.outputs),
    ):
        yield from _above(f"{place}.rtol", stated, "rtol", floors.rtol)
        yield from _above(f"{place}.atol", stated, "atol", floors.atol)
    if decimal(validation.confidence) < decimal(floors.min_confidence):
        stated_as = _stated(validation, "confidence")
        yield f"spec.validation.confidence is {stated_as}; this cluster takes at least {floors.min_confidence}"


def _sized(spec: ModelMigrationSpec, caps: Caps) -> Iterator[str]:
    jobs, serving = spec.jobs, spec.serving
    if duration(jobs.deadline) > duration(caps.deadline):
        yield f"spec.jobs.deadline is {_stated(jobs, 'deadline')}; this cluster takes at most {caps.deadline}"
    if jobs.retries > caps.retries:
        yield f"spec.jobs.retries is {_stated(jobs, 'retries')}; this cluster takes at most {caps.retries}"
    if spec.rollout.strategy is not Strategy.BLUE_GREEN:
        return
    if serving.autoscaling is not None:
        field, most, why = "spec.serving.autoscaling.maxReplicas", serving.autoscaling.max_replicas, ""
    else:
        why = " by default" if serving.replicas is None else ""
        field, most = "spec.serving.replicas", serving.replicas or DEFAULT_REPLICAS
    if most > caps.replicas:
        yield f"{field} is {most}{why}; this cluster takes at most {caps.replicas}"


def _above(place: str, model: Model, field: str, floor: str | None) -> Iterator[str]:
    value: str | None = getattr(model, field)
    if value is not None and floor is not None and decimal(value) > decimal(floor):
        yield f"{place} is {_stated(model, field)}; this cluster takes at most {floor}"


def _stated(model: Model, field: str) -> str:
    """A value, and whether it was the manifest that stated it."""
    return f"{getattr(model, field)}{'' if field in model.model_fields_set else ' by default'}"
