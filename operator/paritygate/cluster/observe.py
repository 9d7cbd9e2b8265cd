"""From what the cluster holds of one migration to the planner's `Observed`. Pure: no I/O and no clock."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pydantic import ValidationError

from paritygate.api.artifacts import Receipt, StageFailure, StageName
from paritygate.api.digests import digest_of
from paritygate.api.orders import Fetched, Published
from paritygate.api.report import EvidenceSummary
from paritygate.api.spec import ModelMigrationSpec, Strategy
from paritygate.api.status import InputDigests, ModelMigrationStatus, RunStatus, StageState
from paritygate.cluster import failures, references
from paritygate.cluster.cache import Object, Snapshot, ended, owner_uid
from paritygate.cluster.failures import moment
from paritygate.cluster.floors import violations
from paritygate.cluster.manifests import pods, serving
from paritygate.cluster.settings import Settings, digest_of_image
from paritygate.core import stages
from paritygate.core.observed import Attempt, Inputs, Observed, Revision
from paritygate.errors import InvalidManifest

Message = TypeVar("Message", Fetched, Published)
CONVERT: Final = "convert"
VALIDATE: Final = "validate"
SETTLING: Final = timedelta(seconds=15)
"""How much later than its Job's a pod's last word may come: they are watched apart."""
_ENDED: Final = frozenset({"Succeeded", "Failed"})
"""Phases of pods that will not run again."""
_AT: Final = {
    "fetch": StageName.ASSESS,
    "capture": StageName.CAPTURE,
    "convert": StageName.CONVERT,
    "validate": StageName.VALIDATE,
}
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


def observe(snapshot: Snapshot, settings: Settings, now: datetime, queued: str | None) -> Observed:
    """The snapshot in the planner's terms. InvalidManifest: the spec cannot be read."""
    migration = snapshot.migration
    if migration is None:
        raise ValueError(f"{snapshot.key} is not there")
    spec, status = spec_of(migration), status_of(migration)
    run = pinned(snapshot.key.name, spec, status, settings)
    ours = [_Job(job, snapshot) for job in snapshot.of("Job") if owner_uid(job) == migration["metadata"]["uid"]]
    wanted = [one for one in ours if one.kind == CONVERT and one.digest == run.sought]
    inputs = _inputs(run, wanted)
    problems = [
        *violations(spec, settings),
        *references.problems(spec, settings.defaults.storage, settings.node_local_classes),
    ]
    receipts = {**_remembered(status), **_published(ours, run.sought)}
    pointer = _pointer(snapshot, spec)
    generation = migration["metadata"]["generation"]
    return Observed(
        name=snapshot.key.name,
        uid=migration["metadata"]["uid"],
        generation=generation,
        spec=spec,
        now=now,
        status=status,
        inputs=None if problems else inputs,
        unresolved=failures.configuration("InvalidSpec", "; ".join(problems)) if problems else None,
        receipts=tuple(receipts.values()),
        attempts=tuple(
            a for one in ours for a in _attempts(one, run, inputs, snapshot.key.name, spec, generation, now, receipts)
        ),
        assessment=next((f.assessment for one in reversed(wanted) if (f := one.fetched)), None),
        serving=spec.rollout.strategy is Strategy.BLUE_GREEN,
        revisions=tuple(
            _revision(d, spec) for d in snapshot.of("Deployment") if "deletionTimestamp" not in d["metadata"]
        ),
        traffic=pointer.traffic,
        pointed=pointer.whole,
        lagging=pointer.lagging,
        url=f"http://{service_name(snapshot.key.name, spec)}.{snapshot.key.namespace}.svc.cluster.local",
        sought=run.sought,
        images=run.images(),
        identities=run.identities(),
        queued=queued,
        candidate_size=next((p.candidate_size for one in wanted if (p := one.published)), None),
        traffic_since=pointer.since,
        artifacts=_artifacts(snapshot, spec, settings),
        made=frozenset(r.output for one in ours if one.trusted for r in one.trusted.receipts),
    )


def service_name(name: str, spec: ModelMigrationSpec) -> str:
    """Of the Service that clients use."""
    return spec.serving.service_name or name


def settles(snapshot: Snapshot, now: datetime) -> bool:
    """Whether a Job ended so lately that the last word of its pods may still come."""
    found = (_Job(job, snapshot).ended_at for job in snapshot.of("Job"))
    return any(_lately(moment, now) for moment in found)


def _lately(ended_at: datetime | None, now: datetime) -> bool:
    """Also where the clock that stamped it runs a little ahead; what lies far ahead says nothing."""
    return ended_at is not None and abs(now - ended_at) < SETTLING


class _Job:
    """One of our Jobs with its pods and what they said."""

    def __init__(self, job: Object, snapshot: Snapshot) -> None:
        metadata = job["metadata"]
        self.job = job
        own = [pod for pod in snapshot.of("Pod") if owner_uid(pod) == metadata["uid"]]
        self.pods = sorted(own, key=_age)
        """The oldest first. One that a node gave up is followed by another, without an attempt being lost."""
        self.kind: str = metadata.get("labels", {}).get(pods.JOB, "")
        self.digest: str = metadata.get("annotations", {}).get(pods.DIGEST, "")
        self.number = _number(metadata.get("labels", {}).get(pods.ATTEMPT), 1)
        self.generation = _number(metadata.get("annotations", {}).get(pods.GENERATION), 0)
        self.fetched = _said(self.pods, "fetch", Fetched) if self.kind == CONVERT else None
        self.published = _said(self.pods, "publish", Published)

    @property
    def complete(self) -> bool:
        """Whether Kubernetes calls it complete."""
        conditions = self.job.get("status", {}).get("conditions", ())
        return any(c["type"] == "Complete" and c["status"] == "True" for c in conditions)

    @property
    def restarted(self) -> bool:
        """Whether the candidate's server died while it was judged."""
        statuses = [s for pod in self.pods for s in pod.get("status", {}).get("initContainerStatuses", ())]
        return any(s["name"] == "candidate" and s.get("restartCount", 0) > 0 for s in statuses)

    @property
    def trusted(self) -> Published | None:
        """What a complete Job published, where it can be evidence."""
        return self.published if self.complete and not self.restarted else None

    @property
    def told(self) -> bool:
        """Whether all pods that we see have ended, and there are some."""
        phases = [pod.get("status", {}).get("phase") for pod in self.pods]
        return bool(phases) and all(phase in _ENDED for phase in phases)

    @property
    def started(self) -> datetime:
        """When it began, or was asked for."""
        text = self.job.get("status", {}).get("startTime") or self.job["metadata"]["creationTimestamp"]
        return datetime.fromisoformat(text)

    @property
    def held(self) -> bool:
        """Whether somebody else lets it wait: it has no pods, and its time has not begun."""
        return bool(self.job.get("spec", {}).get("suspend")) and not ended(self.job)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended; None = it runs."""
        conditions = self.job.get("status", {}).get("conditions", ())
        found = [c for c in conditions if c["type"] in {"Complete", "Failed"} and c["status"] == "True"]
        return moment(found[0].get("lastTransitionTime")) if found else None

    @property
    def replaced(self) -> str | None:
        """Why another pod took the place of the first; None = none did."""
        lost = (failures.of_pod(pod) for pod in self.pods[:-1])
        return next((why.message for why in lost if why is not None), None)

    @property
    def at(self) -> StageName:
        """The stage that the pod is at: that of the last container that began."""
        begun = [
            s["name"]
            for pod in self.pods[-1:]
            for s in pod.get("status", {}).get("initContainerStatuses", ())
            if s["name"] in _AT and not s.get("state", {}).get("waiting")
        ]
        if self.kind == VALIDATE:
            return StageName.VALIDATE
        return _AT[begun[-1]] if begun else StageName.ASSESS


def _number(text: str | None, otherwise: int) -> int:
    """A label or annotation, which anybody may have changed."""
    return int(text) if text is not None and text.isdecimal() else otherwise


def _age(pod: Object) -> tuple[str, bool]:
    """Grows the younger a pod is. Of two that were made within a second, the one that has ended is the older."""
    return str(pod["metadata"].get("creationTimestamp", "")), pod.get("status", {}).get("phase") not in _ENDED


def _said(found: list[Object], container: str, model: type[Message]) -> Message | None:
    """The newest termination message of a container that ended well, where it is what it should be."""
    for pod in reversed(found):
        for name, state in failures.terminated(pod):
            if name == container and state.get("exitCode") == 0:
                try:
                    return model.model_validate_json(state.get("message", ""))
                except ValidationError:
                    continue
    return None


def _inputs(run: Pinned, wanted: list[_Job]) -> Inputs | None:
    """What the status pinned, else what a Job found. What runs where follows from images, never from a container."""
    seen = run.inputs
    for one in wanted:
        found = one.fetched.inputs if one.fetched else one.published.inputs if one.published else None
        seen = seen or found
    if seen is None:
        return None
    return Inputs(
        source=seen.source,
        dataset=seen.dataset,
        environment=run.environment,
        converter=run.converter,
        runtime=run.runtime,
        capture=seen.capture,
        candidate=seen.candidate,
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


def _published(ours: list[_Job], sought: str) -> dict[tuple[StageName, str], Receipt]:
    found = {}
    for one in ours:
        for receipt in one.trusted.receipts if one.trusted else ():
            own = receipt.stage is StageName.VALIDATE
            if own == (one.kind == VALIDATE) and (one.digest == receipt.digest if own else one.digest == sought):
                found[receipt.stage, receipt.digest] = receipt
    return found


def _attempts(  # noqa: PLR0913, PLR0917 - an attempt is seen in the light of the run
    one: _Job,
    run: Pinned,
    inputs: Inputs | None,
    name: str,
    spec: ModelMigrationSpec,
    generation: int,
    now: datetime,
    receipts: Mapping[tuple[StageName, str], Receipt],
) -> list[Attempt]:
    """The attempts that a Job stands for: one Job carries the three stages before Validate."""
    state, failure = _state(one, now)
    waiting = failures.holding_up(one.pods, now) if state is StageState.RUNNING else None
    if one.held:
        waiting = failures.suspended(one.job)

    def attempt(stage: StageName, digest: str) -> Attempt:
        started = now if one.held else one.started
        return Attempt(
            stage, digest, one.number, state, started, one.ended_at, failure, waiting,
            one.at, one.generation != generation, one.job["metadata"]["name"], one.replaced,
        )  # fmt: skip

    if one.kind == VALIDATE:
        return [attempt(StageName.VALIDATE, one.digest)]
    if one.digest != run.sought or inputs is None:
        return [attempt(StageName.ASSESS, one.digest)]
    # One Job is one attempt: it counts for the first of its stages that has no receipt, which is what is waited for.
    outputs: dict[StageName, str] = {}
    for stage in stages.wanted_stages(inputs)[:-1]:
        digest = stages.stage_digest(stage, name, spec, inputs, outputs, run.recipe)
        receipt = receipts.get((stage, digest))
        if receipt is None:
            break
        outputs[stage] = receipt.output
    return [attempt(stage, digest)]


def _state(one: _Job, now: datetime) -> tuple[StageState, StageFailure | None]:
    stopped = failures.cancelled(one.job)
    if stopped is not None:
        return StageState.FAILED, stopped
    if ended(one.job) and not one.told and _lately(one.ended_at, now):
        return StageState.RUNNING, None
    if one.complete:
        return _completed(one)
    if ended(one.job):
        return StageState.FAILED, failures.of_failed(one.job, one.pods)
    return StageState.RUNNING, None


def _completed(one: _Job) -> tuple[StageState, StageFailure | None]:
    """A Job that ended well proves nothing by that: what it published does."""
    if one.restarted:
        message = "the candidate's server ended and was started again while it was judged; its log says why"
        return StageState.FAILED, failures.infrastructure("CandidateDied", message)
    if one.published is None:
        message = "the Job ended well, but its pod is gone or published nothing readable"
        return StageState.FAILED, failures.infrastructure("EvidenceMissing", message)
    if one.kind == VALIDATE and not any(r.digest == one.digest for r in one.published.receipts):
        message = f"the Job was to judge stage {one.digest}, and published evidence for another"
        return StageState.FAILED, failures.configuration("EvidenceInvalid", message)
    return StageState.SUCCEEDED, None


@dataclass(frozen=True)
class _Pointer:
    """Where the Services of a migration lead to."""

    traffic: str | None = None
    since: datetime | None = None
    whole: bool = False
    """Whether the one that the spec names is there, and all lead to the same."""
    lagging: tuple[str, ...] = ()


def _pointer(snapshot: Snapshot, spec: ModelMigrationSpec) -> _Pointer:
    """Read from the Services themselves. One of an earlier `serviceName` counts until somebody removes it."""
    wanted = service_name(snapshot.key.name, spec)
    found = sorted(
        (s for s in snapshot.of("Service") if pods.REVISION in s["spec"].get("selector", {})),
        key=lambda s: s["metadata"]["name"] != wanted,
    )
    if not found:
        return _Pointer()
    leads = [s["spec"]["selector"][pods.REVISION] for s in found]
    since = found[0]["metadata"].get("annotations", {}).get(serving.PROMOTED_AT)
    lagging = tuple(sorted({one for one in leads if one != leads[0]}))
    return _Pointer(leads[0], moment(since), found[0]["metadata"]["name"] == wanted and not lagging, lagging)


def _artifacts(snapshot: Snapshot, spec: ModelMigrationSpec, settings: Settings) -> str | None:
    """Where people find artefacts; without storage there are none."""
    storage = spec.storage or settings.defaults.storage
    if storage is None:
        return None
    claim = storage.claim_name or pods.template_claim(snapshot.key.name)
    where = f"pvc://{claim}" if storage.object is None else storage.object.uri.rstrip("/")
    return f"{where}/{pods.store_folder(snapshot.key.namespace, snapshot.key.name)}/artifacts/"


def _stamp(deployment: Object, key: str) -> str | None:
    """A digest that stands on a Deployment; None = somebody took it away or wrote something else there."""
    text = deployment["metadata"].get("annotations", {}).get(key, "")
    return text if re.fullmatch(r"sha256:[0-9a-f]{64}", text) else None


def _revision(deployment: Object, spec: ModelMigrationSpec) -> Revision:
    status = deployment.get("status", {})
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    wanted, present = deployment["spec"].get("replicas", 1), status.get("availableReplicas", 0)
    # Judged by numbers: Available may still speak of the generation before.
    ready = (
        status.get("observedGeneration") == deployment["metadata"]["generation"]
        and wanted > 0
        and status.get("updatedReplicas", 0) >= wanted
        and present >= wanted
    )
    since = moment(conditions.get("Available", {}).get("lastTransitionTime"))
    progressing = conditions.get("Progressing", {})
    failed = not ready and progressing.get("reason") == "ProgressDeadlineExceeded"
    return Revision(
        name=deployment["metadata"]["name"],
        candidate=_stamp(deployment, serving.CANDIDATE) or "",
        runtime=_stamp(deployment, serving.RUNTIME) or "",
        report=_stamp(deployment, serving.REPORT) or "",
        verdict=_stamp(deployment, serving.VERDICT),
        ready=ready,
        ready_since=since if ready else None,
        failure=failures.configuration(
            "RevisionFailed", f"revision {deployment['metadata']['name']}: {progressing.get('message', 'not ready')}"
        )
        if failed
        else None,
        image=next(iter(c["image"] for c in deployment["spec"]["template"]["spec"]["containers"]), None),
        replicas=wanted,
        available=present,
        unavailable_since=since if present == 0 else None,
        in_line=serving.in_line(deployment, spec),
        altered=serving.altered(deployment),
    )
