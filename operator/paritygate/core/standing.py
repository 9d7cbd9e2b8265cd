"""How a migration stands, as the whole status that is written once: DESIGN.md §7 in code."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from paritygate.api.artifacts import Receipt, StageName
from paritygate.api.digests import canonical_json
from paritygate.api.report import Verdict
from paritygate.api.status import (
    CandidateStatus,
    CheckStatus,
    ConditionType,
    InputDigests,
    ModelMigrationStatus,
    PromotionStatus,
    RevisionState,
    RevisionStatus,
    RunStatus,
    SourceStatus,
    StageState,
    StageStatus,
    VerdictStatus,
)
from paritygate.core.conditions import PlannedEvent, Standing, conditions, timestamp, transition_events
from paritygate.core.observed import Attempt, Observed, Revision
from paritygate.core.stages import run_id, spec_digest

NOTHING_SERVES: Final = "NothingServes"
"""Reason of ServingAvailable before anything was promoted, when nobody misses it."""
_MAX_FINDINGS: Final = 20
_MAX_HISTORY: Final = 10
_MAX_MESSAGE: Final = 4096
_WORKING: Final = {
    StageName.ASSESS: "Assessing",
    StageName.CAPTURE: "Capturing",
    StageName.CONVERT: "Converting",
    StageName.VALIDATE: "Validating",
}


class Step(Enum):
    """What will happen without anybody doing something."""

    WORKING = auto()
    STALLED = auto()
    DONE = auto()
    SUSPENDED = auto()


@dataclass(frozen=True)
class Outlook:
    """How things stand at the first gate that was not passed, or at the end."""

    step: Step
    reason: str
    message: str
    stage: StageName | None = None
    """Where it stands; None = before or after the stages."""
    judged: bool = False
    """Whether the evidence was accepted, so that its verdict may be shown."""

    @property
    def word(self) -> str:
        """The reason of Ready and Reconciling."""
        return _WORKING[self.stage] if self.stage and self.reason == self.stage.value else self.reason


@dataclass(frozen=True)
class Found:
    """What the gates found out on the way to the outlook."""

    recipe: int
    digests: Mapping[StageName, str]
    """Of the stages reached."""
    outputs: Mapping[StageName, str]
    """Of those finished."""
    verdict: Receipt | None
    """The last receipt."""
    leftovers: Container[str]
    """Revisions that go."""


def status_of(observed: Observed, outlook: Outlook, found: Found) -> ModelMigrationStatus:
    """The whole status."""
    before = observed.status.conditions if observed.status else ()
    accepted = found.verdict if outlook.judged else None
    standings = _standings(observed, outlook, found.outputs, accepted)
    return ModelMigrationStatus(
        observed_generation=observed.generation,
        phase=outlook.word,
        conditions=conditions(before, standings, observed.generation, observed.now),
        run=_run(observed, found.recipe),
        source=_source(observed),
        stages=_stages(observed, found.digests, found.outputs),
        candidates=_candidates(observed, found.outputs, accepted),
        verdict=_verdict(accepted, observed.artifacts),
        revisions=_revisions(observed, found.leftovers),
        url=observed.url if observed.traffic else None,
        history=_history(observed),
    )


def events_of(observed: Observed, status: ModelMigrationStatus) -> tuple[PlannedEvent, ...]:
    """What changed since the status that was last written."""
    return transition_events(observed.status.conditions if observed.status else (), status.conditions)


def _standings(
    observed: Observed, outlook: Outlook, outputs: Mapping[StageName, str], accepted: Receipt | None
) -> dict[ConditionType, Standing]:
    message = _message(observed, outlook, accepted)
    found = {
        ConditionType.ASSESSED: _step(StageName.ASSESS, "SourceAssessed", outlook, outputs),
        ConditionType.CONVERTED: _step(StageName.CONVERT, "CandidateConverted", outlook, outputs),
        ConditionType.PARITY_VERIFIED: _parity(outlook, accepted, observed.artifacts),
    }
    if observed.serving:
        found[ConditionType.SERVING_AVAILABLE] = _serving(observed)
    done = outlook.step is Step.DONE
    found[ConditionType.READY] = Standing("True" if done else "False", outlook.word, message)
    if outlook.step is Step.WORKING:
        found[ConditionType.RECONCILING] = Standing("True", outlook.word, message)
    if outlook.step is Step.STALLED:
        found[ConditionType.STALLED] = Standing("True", outlook.word, message)
    if outlook.step is Step.SUSPENDED:
        found[ConditionType.SUSPENDED] = Standing("True", outlook.word, message)
    return found


def _message(observed: Observed, outlook: Outlook, accepted: Receipt | None) -> str:
    """What is wrong and, where nothing will happen by itself, whether anybody has to hurry: what goes on serving."""
    found = outlook.message[:_MAX_MESSAGE]
    report = _report_uri(accepted, observed.artifacts)
    if report is not None and outlook.step is Step.STALLED and outlook.stage is StageName.VALIDATE:
        found += f"; report in {report}"
    halted = outlook.step in {Step.STALLED, Step.SUSPENDED}
    if halted and observed.serving and _serving(observed).status == "True":
        return f"{found}; revision {observed.traffic} goes on serving"
    return found


def _serving(observed: Observed) -> Standing:
    stable = next((r for r in observed.revisions if r.name == observed.traffic), None)
    if observed.traffic is None:
        return Standing("False", NOTHING_SERVES, "no revision owns the traffic yet")
    if stable is None or not stable.serves:
        return Standing("False", "ServingUnavailable", f"revision {observed.traffic} owns the traffic, none answers")
    if stable.altered:
        return Standing("False", "RevisionAltered", f"somebody changed what revision {observed.traffic} runs")
    return Standing("True", "RevisionServing", f"revision {observed.traffic} serves")


def _step(stage: StageName, reason: str, outlook: Outlook, outputs: Mapping[StageName, str]) -> Standing:
    if stage in outputs:
        return Standing("True", reason, f"artefact {outputs[stage]}")
    return _at_fault(stage, outlook) or Standing("Unknown", "Pending", f"{stage} has not finished")


def _parity(outlook: Outlook, accepted: Receipt | None, artifacts: str | None) -> Standing:
    if accepted is not None and accepted.summary is not None:
        verdict = accepted.summary.verdict
        passed = verdict is Verdict.PASSED
        uri = _report_uri(accepted, artifacts)
        report = f"report {accepted.summary.report}" + (f" in {uri}" if uri else "")
        # What did not pass is Stalled for the same reason, which is told once.
        return Standing("True" if passed else "False", f"Parity{verdict}", report)
    return _at_fault(StageName.VALIDATE, outlook) or Standing("Unknown", "Pending", "there is no evidence yet")


def _at_fault(stage: StageName, outlook: Outlook) -> Standing | None:
    """That nothing goes on because of this step; None = another one is why, or it goes on."""
    # What a model answers is captured to convert it, and has no condition of its own.
    at = StageName.CONVERT if outlook.stage is StageName.CAPTURE else outlook.stage
    if outlook.step is Step.STALLED and at is stage:
        return Standing("False", outlook.reason, outlook.message[:_MAX_MESSAGE])
    return None


def _run(observed: Observed, recipe: int) -> RunStatus | None:
    before = observed.status.run if observed.status else None
    if observed.inputs is None and observed.sought is None:
        return before
    identity = observed.sought or "" if observed.inputs is None else run_id(observed.spec, observed.inputs)
    if before is not None and before.id == identity:
        return before
    spec = spec_digest(observed.spec)
    goes_on = before is not None and before.inputs is None and before.spec == spec
    return RunStatus(
        id=identity,
        spec=spec,
        images=dict(observed.images),
        identities=dict(observed.identities),
        inputs=InputDigests(**vars(observed.inputs)) if observed.inputs else None,
        recipe=recipe,
        started_at=before.started_at if before is not None and goes_on else timestamp(observed.now),
    )


def _source(observed: Observed) -> SourceStatus | None:
    if observed.inputs is None or observed.inputs.source is None:
        return None
    found = observed.assessment
    before = observed.status.source if observed.status else None
    if found is None and before is not None and before.digest == observed.inputs.source:
        return before
    if found is None:
        return SourceStatus(digest=observed.inputs.source)
    return SourceStatus(
        digest=observed.inputs.source,
        framework=" ".join(filter(None, (found.framework, found.framework_version))),
        parameters=found.parameters,
        findings=found.findings[:_MAX_FINDINGS],
    )


def _stages(
    observed: Observed, digests: Mapping[StageName, str], outputs: Mapping[StageName, str]
) -> tuple[StageStatus, ...]:
    """The newest attempt of each stage that has one; what the status remembers stays where nothing newer is seen."""
    found = []
    remembered = {(s.name, s.digest): s for s in observed.status.stages} if observed.status else {}
    for stage, digest in digests.items():
        attempts = [a for a in observed.attempts if (a.stage, a.digest) == (stage, digest)]
        newest = max(attempts, key=lambda a: a.number, default=None)
        before = remembered.get((stage, digest))
        if stage in outputs:
            number, job = _brought_by(observed, stage, digest) or _last_seen(newest, before)
            found.append(
                StageStatus(
                    name=stage,
                    digest=digest,
                    attempt=number,
                    state=StageState.SUCCEEDED,
                    output=outputs[stage],
                    job=job,
                )
            )
        elif newest is not None and (before is None or newest.number >= before.attempt):
            message = newest.failure.message[:_MAX_MESSAGE] if newest.failure else None
            found.append(
                StageStatus(
                    name=stage,
                    digest=digest,
                    attempt=newest.number,
                    state=newest.state,
                    job=newest.job,
                    message=message,
                )
            )
        elif before is not None:
            found.append(before)
    return tuple(found)


def _brought_by(observed: Observed, stage: StageName, digest: str) -> tuple[int, str] | None:
    """The attempt and the Job that brought a stage's result; None = only the result is left of them."""
    found = (one for one in observed.finished if (one.stage, one.digest) == (stage, digest))
    return next(((one.number, one.job) for one in found), None)


def _last_seen(newest: Attempt | None, before: StageStatus | None) -> tuple[int, str | None]:
    """As far as it is known without what brought the result."""
    number = max(newest.number if newest else 1, before.attempt if before else 1)
    return number, (before.job if before else None) or (newest.job if newest else None)


def _candidates(
    observed: Observed, outputs: Mapping[StageName, str], accepted: Receipt | None
) -> tuple[CandidateStatus, ...]:
    if StageName.CONVERT not in outputs or observed.inputs is None:
        return ()
    summary = accepted.summary if accepted else None
    return (
        CandidateStatus(
            name="brought" if observed.inputs.candidate else "plain",
            digest=outputs[StageName.CONVERT],
            size=observed.candidate.size if observed.candidate else _known_size(observed, outputs[StageName.CONVERT]),
            verdict=summary.verdict if summary else None,
            selected=summary is not None and summary.verdict is Verdict.PASSED,
        ),
    )


def _known_size(observed: Observed, digest: str) -> int | None:
    if observed.candidate_size is not None:
        return observed.candidate_size
    before = observed.status.candidates if observed.status else ()
    return next((one.size for one in before if one.digest == digest), None)


def _verdict(accepted: Receipt | None, artifacts: str | None) -> VerdictStatus | None:
    summary = accepted.summary if accepted else None
    if accepted is None or summary is None:
        return None
    return VerdictStatus(
        result=summary.verdict,
        report_digest=summary.report,
        report_uri=_report_uri(accepted, artifacts),
        evidence=canonical_json(summary.to_dict()).decode(),
        checks=tuple(
            CheckStatus(
                name=line.name,
                result=line.result,
                measured=None if line.measured is None else f"{line.measured:.6g}",
                limit=None if line.limit is None else f"{line.limit:.6g}",
                rows=line.rows,
            )
            for line in summary.checks
        ),
    )


def _report_uri(accepted: Receipt | None, artifacts: str | None) -> str | None:
    """The folder that holds the report; None = there is none, or nobody has said where."""
    if accepted is None or artifacts is None:
        return None
    return artifacts + accepted.output.removeprefix("sha256:")


def _revisions(observed: Observed, leftovers: Container[str]) -> tuple[RevisionStatus, ...]:
    return tuple(
        RevisionStatus(
            name=one.name,
            role="Stable" if one.name == observed.traffic else "Candidate",
            state=_state(one, observed.traffic, leftovers),
            digest=one.candidate,
            report_digest=one.report,
            image=one.image,
            ready=one.available if one.name == observed.traffic else None,
        )
        for one in observed.revisions[:8]
        if one.told
    )


def _state(one: Revision, traffic: str | None, leftovers: Container[str]) -> RevisionState:
    if one.name in leftovers:
        return RevisionState.RETIRING
    return RevisionState.SERVING if one.name == traffic and one.serves else RevisionState.STARTING


def _history(observed: Observed) -> tuple[PromotionStatus, ...]:
    """What is remembered, and before it the promotion that is seen now."""
    before = observed.status.history if observed.status else ()
    stable = next((one for one in observed.revisions if one.name == observed.traffic), None)
    if stable is None or not stable.told or observed.traffic_since is None:
        return before
    now = PromotionStatus(
        revision=stable.name,
        promoted_at=timestamp(observed.traffic_since),
        report_digest=stable.report,
        digest=stable.candidate,
        verdict=stable.verdict,
    )
    known = any((one.revision, one.promoted_at) == (now.revision, now.promoted_at) for one in before)
    return before if known else (now, *before)[:_MAX_HISTORY]
