"""Stage digests: recipe, inputs, and the part of the spec that changes a stage's output. Same digest, same result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from paritygate.api.artifacts import StageName
from paritygate.api.digests import digest_of
from paritygate.api.spec import ModelMigrationSpec
from paritygate.core.observed import Inputs

RECIPE: Final = 1
"""Version of what stages do. Raised when a stage would give another output for the same inputs."""

ORDER: Final = (StageName.ASSESS, StageName.CAPTURE, StageName.CONVERT, StageName.VALIDATE)

_READS: Final = {
    StageName.ASSESS: (),
    StageName.CAPTURE: (),
    StageName.CONVERT: (StageName.CAPTURE,),
    StageName.VALIDATE: (StageName.ASSESS, StageName.CAPTURE, StageName.CONVERT),
}


def wanted_stages(inputs: Inputs) -> tuple[StageName, ...]:
    """The stages of a migration in order. A source that is not here cannot be assessed."""
    return ORDER if inputs.source is not None else ORDER[1:]


def inputs_of(stage: StageName, outputs: Mapping[StageName, str]) -> tuple[tuple[StageName, str], ...]:
    """The artefacts of earlier stages that `stage` reads, of those that the migration has."""
    return tuple((earlier, outputs[earlier]) for earlier in _READS[stage] if earlier in outputs)


def stage_digest(  # noqa: PLR0913, PLR0917 - everything that a result depends on, and nothing else
    stage: StageName, name: str, spec: ModelMigrationSpec, inputs: Inputs, outputs: Mapping[StageName, str], recipe: int
) -> str:
    """Identity of a stage's result.

    Args:
        stage: which one.
        name: of the migration; candidates and reports carry it.
        spec: what the user asks for.
        inputs: digests of what no stage makes.
        outputs: digests of what earlier stages made, as far as this one reads them.
        recipe: version that the run pinned.
    """
    parts = {
        StageName.ASSESS: _assess,
        StageName.CAPTURE: _capture,
        StageName.CONVERT: _convert,
        StageName.VALIDATE: _validate,
    }[stage](spec, inputs)
    if stage in (StageName.CONVERT, StageName.VALIDATE):
        parts["migration"] = name
    parts["reads"] = {earlier.value: digest for earlier, digest in inputs_of(stage, outputs)}
    return digest_of({"stage": stage.value, "recipe": recipe, "runID": spec.run_id, **parts})


_NO_NEW_RUN: Final = ("jobs", "rollout", "serving", "storage", "deletionPolicy", "suspend")
"""Limits of the work, and what becomes of its result. What serving means for the verdict is part of the runtime."""


def run_id(spec: ModelMigrationSpec, inputs: Inputs) -> str:
    """Identity of a run: the spec with all input digests."""
    return digest_of({"spec": _run_spec(spec), "inputs": vars(inputs)})


def spec_digest(spec: ModelMigrationSpec) -> str:
    """Identity of the part of the spec that starts a new run when it changes."""
    return digest_of(_run_spec(spec))


def sought_digest(name: str, spec: ModelMigrationSpec, environment: str, converter: str, recipe: int) -> str:
    """Identity of what is looked for and made before validation, while digests of inputs are not known.

    Args:
        name: of the migration.
        spec: what the user asks for.
        environment: digest of where the source runs.
        converter: digest of where candidates are made.
        recipe: version that the run pinned.
    """
    validation = spec.validation
    return digest_of(
        {
            "migration": name,
            "source": spec.source.to_dict(),
            "target": {key: value for key, value in spec.target.to_dict().items() if key != "equivalence"},
            "dataset": validation.dataset.to_dict(),
            "groupBy": validation.decisions.group_by,
            "task": validation.task,
            "environment": environment,
            "converter": converter,
            "recipe": recipe,
            "runID": spec.run_id,
        }
    )


def _run_spec(spec: ModelMigrationSpec) -> dict[str, object]:
    return {key: value for key, value in spec.to_dict().items() if key not in _NO_NEW_RUN}


def _assess(spec: ModelMigrationSpec, inputs: Inputs) -> dict[str, object]:
    # Findings about versions depend on where the source answers.
    answers = {"environment": spec.source.to_dict().get("environment"), "recorded": inputs.capture is not None}
    return {"source": inputs.source, "spec": _source(spec), "worker": inputs.converter, "answers": answers}


def _capture(spec: ModelMigrationSpec, inputs: Inputs) -> dict[str, object]:
    if inputs.capture is not None:
        return {"capture": inputs.capture}
    dataset = spec.validation.dataset
    return {
        "source": inputs.source,
        "dataset": inputs.dataset,
        "environment": inputs.environment,
        "worker": inputs.converter,
        "spec": {
            **_source(spec),
            "label": dataset.label,
            "group": dataset.group,
            "slices": [one.column for one in dataset.slices],
            "groupBy": spec.validation.decisions.group_by,
            "task": spec.validation.task,
        },
    }


def _convert(spec: ModelMigrationSpec, inputs: Inputs) -> dict[str, object]:
    brought = inputs.candidate is not None
    return {
        "source": None if brought else inputs.source,
        "candidate": inputs.candidate,
        "worker": inputs.converter,
        "spec": {**_source(spec), "format": spec.target.format, "opset": spec.target.opset},
    }


def _validate(spec: ModelMigrationSpec, inputs: Inputs) -> dict[str, object]:
    validation = spec.validation.to_dict()
    dataset = {key: value for key, value in spec.validation.dataset.to_dict().items() if key not in ("uri", "digest")}
    return {
        # The report names all three, and a capture need not differ where they do.
        "source": inputs.source,
        "dataset": inputs.dataset,
        "runtime": inputs.runtime,
        "worker": inputs.converter,
        "spec": {"equivalence": spec.equivalence, "validation": {**validation, "dataset": dataset}},
    }


def _source(spec: ModelMigrationSpec) -> dict[str, object]:
    """How the source is read, without where it lies and where it runs."""
    left_out = ("uri", "digest", "environment", "capture")
    return {key: value for key, value in spec.source.to_dict().items() if key not in left_out}
