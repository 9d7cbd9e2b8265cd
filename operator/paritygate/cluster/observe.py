"""From what the cluster holds of one migration to the planner's `Observed`. Pure: no I/O and no clock."""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.report import EvidenceSummary
from paritygate.api.spec import ModelMigrationSpec, Strategy
from paritygate.api.status import ModelMigrationStatus, StageState
from paritygate.cluster import attempts, failures, references, revisions
from paritygate.cluster.cache import Object, Snapshot, owner_uid
from paritygate.cluster.floors import violations
from paritygate.cluster.manifests import pods
from paritygate.cluster.pinned import pinned
from paritygate.cluster.settings import Settings
from paritygate.core.observed import Observed
from paritygate.errors import InvalidManifest


def spec_of(migration: Object) -> ModelMigrationSpec:
    """The spec. InvalidManifest: the CRD that is installed takes what this operator does not know."""
    try:
        return ModelMigrationSpec.model_validate(migration["spec"])
    except ValidationError as error:
        raise InvalidManifest([f"spec.{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()]) from error


def status_of(migration: Object) -> ModelMigrationStatus | None:
    """The status as last written; None = there is none, or it is not ours to read."""
    try:
        return ModelMigrationStatus.model_validate(migration.get("status") or {})
    except ValidationError:
        return None


def observe(snapshot: Snapshot, settings: Settings, now: datetime, queued: str | None) -> Observed:
    """The snapshot in the planner's terms. InvalidManifest: the spec cannot be read."""
    migration = snapshot.migration
    if migration is None:
        raise ValueError(f"{snapshot.key} is not there")
    name, spec, status = snapshot.key.name, spec_of(migration), status_of(migration)
    uid, generation = migration["metadata"]["uid"], migration["metadata"]["generation"]
    run = pinned(name, spec, status, settings)
    ours = [attempts.ObservedJob(job, snapshot) for job in snapshot.of("Job") if owner_uid(job) == uid]
    wanted = [one for one in ours if one.kind == attempts.CONVERT and one.digest == run.sought]
    inputs = attempts.inputs_of(run, wanted)
    problems = [
        *violations(spec, settings),
        *references.problems(spec, settings.defaults.storage, settings.node_local_classes),
    ]
    handed, remembered = attempts.handed_in(ours, run.sought), _remembered(status)
    # What was judged needs nothing that was lost before.
    judged = any(stage is StageName.VALIDATE for stage, _ in remembered)
    lost = None if judged else attempts.loss(ours, now)
    if lost is not None:
        remembered = {}
        handed = {key: found for key, found in handed.items() if not lost.concerns(found[1])}
    receipts = {**remembered, **{key: receipt for key, (receipt, _) in handed.items()}}
    pointer = revisions.pointer(snapshot, spec)
    return Observed(
        name=name,
        uid=uid,
        generation=generation,
        spec=spec,
        now=now,
        status=status,
        inputs=None if problems else inputs,
        unresolved=failures.configuration("InvalidSpec", "; ".join(problems)) if problems else None,
        receipts=tuple(receipts.values()),
        attempts=tuple(
            a
            for one in ours
            for a in attempts.attempts_of(one, run, inputs, name, spec, generation, now, receipts, lost)
        ),
        finished=attempts.finished(handed),
        assessment=next((f.assessment for one in reversed(wanted) if (f := one.fetched)), None),
        serving=spec.rollout.strategy is Strategy.BLUE_GREEN,
        revisions=tuple(
            revisions.revision_of(d, spec)
            for d in snapshot.of("Deployment")
            if "deletionTimestamp" not in d["metadata"]
        ),
        traffic=pointer.traffic,
        pointed=pointer.whole,
        lagging=pointer.lagging,
        url=f"http://{revisions.service_name(name, spec)}.{snapshot.key.namespace}.svc.cluster.local",
        sought=run.sought,
        images=run.images(),
        identities=run.identities(),
        queued=queued,
        candidate_size=next((p.candidate_size for one in wanted if (p := one.published)), None),
        traffic_since=pointer.since,
        artifacts=_artifacts(snapshot, spec, settings),
        made=frozenset(r.output for one in ours if one.trusted for r in one.trusted.receipts),
    )


def _remembered(status: ModelMigrationStatus | None) -> dict[tuple[StageName, str], Receipt]:
    """Receipts that the status holds, for when a Job is gone."""
    found = {}
    evidence = _evidence(status)
    for stage in status.stages if status else ():
        if stage.state is not StageState.SUCCEEDED or stage.output is None:
            continue
        if stage.name is StageName.VALIDATE and (evidence is None or evidence.stage != stage.digest):
            continue
        summary = evidence if stage.name is StageName.VALIDATE else None
        found[stage.name, stage.digest] = Receipt(
            stage=stage.name, digest=stage.digest, output=stage.output, summary=summary
        )
    return found


def _evidence(status: ModelMigrationStatus | None) -> EvidenceSummary | None:
    text = status.verdict.evidence if status and status.verdict else None
    try:
        return EvidenceSummary.model_validate_json(text) if text else None
    except ValidationError:
        return None


def _artifacts(snapshot: Snapshot, spec: ModelMigrationSpec, settings: Settings) -> str | None:
    """Where people find artefacts; without storage there are none."""
    storage = spec.storage or settings.defaults.storage
    if storage is None:
        return None
    claim = storage.claim_name or pods.template_claim(snapshot.key.name)
    where = f"pvc://{claim}" if storage.object is None else storage.object.uri.rstrip("/")
    return f"{where}/{pods.store_folder(snapshot.key.namespace, snapshot.key.name)}/artifacts/"
