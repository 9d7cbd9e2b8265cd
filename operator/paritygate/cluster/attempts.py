"""What Jobs and their pods tell: attempts, what they published, and which inputs they found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

from pydantic import ValidationError

from paritygate.api.artifacts import Receipt, StageFailure, StageName
from paritygate.api.orders import Fetched, Published
from paritygate.api.spec import ModelMigrationSpec
from paritygate.api.status import StageState
from paritygate.cluster import failures
from paritygate.cluster.cache import Object, Snapshot, ended, owner_uid
from paritygate.cluster.failures import moment
from paritygate.cluster.manifests import pods
from paritygate.cluster.pinned import Pinned
from paritygate.core import stages
from paritygate.core.observed import Attempt, Finished, Inputs

Message = TypeVar("Message", Fetched, Published)
CONVERT: Final = "convert"
_VALIDATE: Final = "validate"
_LOST: Final = "ArtefactLost"
"""Reason of a Job that did not find what earlier stages left."""
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


def settles(snapshot: Snapshot, now: datetime) -> bool:
    """Whether a Job ended so lately that the last word of its pods may still come."""
    found = (ObservedJob(job, snapshot).ended_at for job in snapshot.of("Job"))
    return any(_lately(moment, now) for moment in found)


def _lately(ended_at: datetime | None, now: datetime) -> bool:
    """Also where the clock that stamped it runs a little ahead; what lies far ahead says nothing."""
    return ended_at is not None and abs(now - ended_at) < SETTLING


class ObservedJob:
    """One of our Jobs with its pods and what they said."""

    def __init__(self, job: Object, snapshot: Snapshot) -> None:
        metadata = job["metadata"]
        self.job = job
        self.name: str = metadata["name"]
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
        if self.kind == _VALIDATE:
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


def inputs_of(run: Pinned, wanted: list[ObservedJob]) -> Inputs | None:
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


def handed_in(ours: Sequence[ObservedJob], sought: str) -> dict[tuple[StageName, str], tuple[Receipt, ObservedJob]]:
    """Receipts that count, each with the Job that handed it in: of several that did, the newest attempt.

    A Job is believed about its own stages only, and only about what it was made for.
    """
    found = {}
    converting = [one for one in ours if one.kind == CONVERT and one.digest == sought and not ended(one.job)]
    began_anew = max((one.number for one in converting), default=0)
    for one in sorted(ours, key=lambda job: job.number):
        if one.kind == CONVERT and one.number < began_anew:
            continue  # or two Jobs would be at work: the one that does it again, and the one that goes on from there
        for receipt in one.trusted.receipts if one.trusted else ():
            own = receipt.stage is StageName.VALIDATE
            if own == (one.kind == _VALIDATE) and (one.digest == receipt.digest if own else one.digest == sought):
                found[receipt.stage, receipt.digest] = receipt, one
    return found


@dataclass(frozen=True)
class Loss:
    """That a Job found an artefact of the stages before it gone from the store, or changed there."""

    found_at: datetime
    failure: StageFailure

    def concerns(self, one: ObservedJob) -> bool:
        """Whether it speaks of what this Job left: who ended later left it there anew."""
        return one.kind == CONVERT and one.ended_at is not None and one.ended_at < self.found_at


def loss(ours: Iterable[ObservedJob], now: datetime) -> Loss | None:
    """The latest loss that the last attempt at a stage ended with; None = there is none."""
    newest = {one.digest: one for one in sorted(ours, key=lambda job: job.number) if one.kind == _VALIDATE}
    found = [
        Loss(one.ended_at, failure)
        for one in newest.values()
        if one.ended_at is not None and (failure := _state(one, now)[1]) is not None and failure.reason == _LOST
    ]
    return max(found, key=lambda one: one.found_at, default=None)


def finished(handed: Mapping[tuple[StageName, str], tuple[Receipt, ObservedJob]]) -> tuple[Finished, ...]:
    """Which attempts brought results."""
    return tuple(Finished(stage, digest, one.number, one.name) for (stage, digest), (_, one) in handed.items())


def attempts_of(  # noqa: PLR0913, PLR0917 - an attempt is seen in the light of the run
    one: ObservedJob,
    run: Pinned,
    inputs: Inputs | None,
    name: str,
    spec: ModelMigrationSpec,
    generation: int,
    now: datetime,
    receipts: Mapping[tuple[StageName, str], Receipt],
    lost: Loss | None,
) -> list[Attempt]:
    """The attempts that a Job stands for: one Job carries the three stages before Validate."""
    state, failure = _state(one, now)
    ended_at = one.ended_at
    if lost is not None and state is StageState.SUCCEEDED and lost.concerns(one):
        # What it made is gone: it counts as failed when that was found, and is tried again as often as others.
        state, failure, ended_at = StageState.FAILED, lost.failure, lost.found_at
    waiting = failures.holding_up(one.pods, now) if state is StageState.RUNNING else None
    if one.held:
        waiting = failures.suspended(one.job)

    def attempt(stage: StageName, digest: str) -> Attempt:
        started = now if one.held else one.started
        return Attempt(
            stage, digest, one.number, state, started, ended_at, failure, waiting,
            one.at, one.generation != generation, one.name, one.replaced,
        )  # fmt: skip

    if one.kind == _VALIDATE:
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


def _state(one: ObservedJob, now: datetime) -> tuple[StageState, StageFailure | None]:
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


def _completed(one: ObservedJob) -> tuple[StageState, StageFailure | None]:
    """A Job that ended well proves nothing by that: what it published does."""
    if one.restarted:
        message = "the candidate's server ended and was started again while it was judged; its log says why"
        return StageState.FAILED, failures.infrastructure("CandidateDied", message)
    if one.published is None:
        message = "the Job ended well, but its pod is gone or published nothing readable"
        return StageState.FAILED, failures.infrastructure("EvidenceMissing", message)
    if one.kind == _VALIDATE and not any(r.digest == one.digest for r in one.published.receipts):
        message = f"the Job was to judge stage {one.digest}, and published evidence for another"
        return StageState.FAILED, failures.configuration("EvidenceInvalid", message)
    return StageState.SUCCEEDED, None
