"""What to do next: a pure function of what is observed. Level-triggered: nothing is remembered between calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from paritygate.api.artifacts import FailureClass, Receipt, StageFailure, StageName
from paritygate.api.base import duration
from paritygate.api.report import Verdict
from paritygate.api.status import ConditionType, ModelMigrationStatus, StageState
from paritygate.core import evidence, keeping, rollout, stages
from paritygate.core.actions import Action, CancelStage, Grounds, StartStage
from paritygate.core.conditions import PlannedEvent
from paritygate.core.observed import Attempt, Inputs, Observed
from paritygate.core.standing import Found, Outlook, Step, events_of, status_of

FIRST_RETRY: Final = timedelta(seconds=5)
LONGEST_RETRY: Final = timedelta(minutes=5)

_STEPS: Final = {
    ConditionType.ASSESSED: StageName.ASSESS,
    ConditionType.CONVERTED: StageName.CONVERT,
    ConditionType.PARITY_VERIFIED: StageName.VALIDATE,
}
"""The stage that is at fault where the condition is False."""


@dataclass(frozen=True)
class Plan:
    """What to do, what to write, what to tell, and when to look again without being woken."""

    actions: tuple[Action, ...]
    status: ModelMigrationStatus
    events: tuple[PlannedEvent, ...]
    requeue_at: datetime | None


@dataclass
class _Draft:
    """What the gates that were passed so far have found out."""

    observed: Observed
    recipe: int
    actions: list[Action] = field(default_factory=list)
    outputs: dict[StageName, str] = field(default_factory=dict)
    digests: dict[StageName, str] = field(default_factory=dict)
    verdict: Receipt | None = None
    wanted: str | None = None
    """Name of the revision that is to serve; None = no candidate passed for what is asked."""
    requeue_at: datetime | None = None
    tells: bool = True
    """Whether how it stands is worth a write, where one tells of this generation already."""

    def cancel(self, attempt: Attempt, reason: str, message: str) -> None:
        """Stops an attempt."""
        self.actions.append(CancelStage(attempt.stage, attempt.digest, attempt.number, reason, message, attempt.job))

    def look_again(self, moment: datetime | None) -> None:
        """The plan returns then, or earlier."""
        if moment is not None:
            self.requeue_at = moment if self.requeue_at is None else min(self.requeue_at, moment)


def plan(observed: Observed) -> Plan:
    """The next actions and the whole status. Calling it again on the same snapshot gives the same plan."""
    draft = _Draft(observed, _pinned_recipe(observed))
    outlook = _outlook(draft)
    if observed.spec.suspend:
        outlook = _suspended(draft, outlook)
    else:
        _cancel_superseded(draft)
        _keep_up(draft)
        if observed.inputs is not None and outlook.step in {Step.DONE, Step.STALLED}:
            draft.actions.extend(keeping.discards(observed, set(draft.digests.values())))
    leftovers = rollout.leftovers(observed, draft.wanted)
    found = Found(draft.recipe, draft.digests, draft.outputs, draft.verdict, leftovers)
    status = status_of(observed, outlook, found)
    if not draft.tells and observed.status is not None and observed.status.observed_generation == observed.generation:
        status = observed.status
    return Plan(tuple(draft.actions), status, events_of(observed, status), draft.requeue_at)


def backoff(failures: int) -> timedelta:
    """How long to wait after the given number of failures in a row, at least 1."""
    doublings = min(failures - 1, 20)
    return min(FIRST_RETRY * (1 << doublings), LONGEST_RETRY)


def _outlook(draft: _Draft) -> Outlook:
    """The gates in order; the first that is not passed says how things stand."""
    inputs = draft.observed.inputs
    if inputs is None:
        return _unresolved(draft)
    for stage in stages.wanted_stages(inputs):
        held = _stage_gate(draft, stage, inputs)
        if held is not None:
            return held
    return _verdict_gate(draft, inputs) or _serving_gate(draft, inputs)


def _suspended(draft: _Draft, outlook: Outlook) -> Outlook:
    """Work stops; what serves is left alone, and what is finished stays known."""
    draft.actions.clear()
    draft.requeue_at, draft.tells = None, True
    for attempt in draft.observed.attempts:
        if attempt.state is StageState.RUNNING:
            message = "spec.suspend is true"
            draft.cancel(attempt, "Suspended", message)
    message = "spec.suspend is true; set it to false to go on"
    return Outlook(Step.SUSPENDED, "Suspended", message, judged=outlook.judged)


def _unresolved(draft: _Draft) -> Outlook:
    observed = draft.observed
    if observed.unresolved is None and observed.sought is not None:
        # The first stage finds the inputs; until it has, what it looks for stands for its digest.
        draft.digests[StageName.ASSESS] = observed.sought
        return _attempted(draft, StageName.ASSESS, observed.sought)
    if observed.unresolved is None:
        return Outlook(Step.WORKING, "Resolving", "looking at the source, the dataset and the environment")
    return Outlook(Step.STALLED, observed.unresolved.reason, observed.unresolved.message)


def _stage_gate(draft: _Draft, stage: StageName, inputs: Inputs) -> Outlook | None:
    """None = the stage is finished and its output known."""
    observed = draft.observed
    digest = stages.stage_digest(stage, observed.name, observed.spec, inputs, draft.outputs, draft.recipe)
    draft.digests[stage] = digest
    receipt = next((r for r in observed.receipts if (r.stage, r.digest) == (stage, digest)), None)
    if receipt is not None:
        draft.outputs[stage] = receipt.output
        if stage is StageName.VALIDATE:
            draft.verdict = receipt
        return None
    return _attempted(draft, stage, digest)


def _attempted(draft: _Draft, stage: StageName, digest: str) -> Outlook:
    observed = draft.observed
    attempts = [a for a in observed.attempts if (a.stage, a.digest) == (stage, digest)]
    running = [a for a in attempts if a.state is StageState.RUNNING]
    if running:
        return _running(draft, stage, max(running, key=lambda a: a.number))
    if _superseded(draft):
        # One migration has one active attempt: nothing begins before what nobody wants any more has stopped.
        message = f"{stage} begins once the attempt for what was asked before has stopped"
        return Outlook(Step.WORKING, stage.value, message, stage)
    return _not_running(draft, stage, digest, [a for a in attempts if a.state is StageState.FAILED])


def _running(draft: _Draft, stage: StageName, attempt: Attempt) -> Outlook:
    limit = draft.observed.spec.jobs.deadline
    at = _at(stage, attempt)
    ends = attempt.started_at + duration(limit)
    held = attempt.waiting
    if held is not None and attempt.stale:
        # What holds it up may be what was edited since: limits and node selectors start no new run by themselves.
        draft.cancel(attempt, "Superseded", "the manifest changed")
    elif held is not None and held.failure is FailureClass.CONFIGURATION:
        draft.cancel(attempt, held.reason, held.message)
    elif draft.observed.now >= ends:
        why = f" ({held.reason}: {held.message})" if held else ""
        message = f"{at} ran longer than spec.jobs.deadline, {limit}; raise it, or find out why the stage hangs{why}"
        draft.cancel(attempt, "DeadlineExceeded", message)
    else:
        draft.look_again(ends)
    if held is not None:
        return Outlook(Step.WORKING, held.reason, f"{at} waits, attempt {attempt.number}: {held.message}", at)
    anew = f", anew: {attempt.replaced}" if attempt.replaced else ""
    return Outlook(Step.WORKING, at.value, f"{at} is running, attempt {attempt.number}{anew}", at)


def _at(stage: StageName, attempt: Attempt) -> StageName:
    """What an attempt is at. Where earlier stages are finished, passing through their part is not going back."""
    return max(stage, attempt.at or stage, key=stages.ORDER.index)


def _not_running(draft: _Draft, stage: StageName, digest: str, failed: list[Attempt]) -> Outlook:
    observed, jobs = draft.observed, draft.observed.spec.jobs
    number = max((a.number for a in failed), default=0) + 1
    known = _last_known(observed, stage, digest)
    if known is not None and known[0] > number:
        number, stalled = known
        if stalled is not None:
            return stalled
    if failed:
        last = max(failed, key=lambda a: a.number)
        held = None if last.stale else _failed(draft, stage, last, jobs.retries)
        if held is not None:
            return held
    if observed.queued is not None:
        return Outlook(Step.WORKING, "Queued", observed.queued, stage)
    earlier = stages.inputs_of(stage, draft.outputs)
    kept = keeping.artefacts(observed)
    draft.actions.append(StartStage(stage, digest, number, duration(jobs.deadline), earlier, kept))
    # In the words of `_running`: one thing to read, and one write, for what is one step to a person.
    return Outlook(Step.WORKING, stage.value, f"{stage} is running, attempt {number}", stage)


def _last_known(observed: Observed, stage: StageName, digest: str) -> tuple[int, Outlook | None] | None:
    """The attempt to go on with where the status remembers more than is there, and the stall that it recorded."""
    if observed.status is None:
        return None
    recorded = next((s for s in observed.status.stages if (s.name, s.digest) == (stage, digest)), None)
    if recorded is None or recorded.state is StageState.SUCCEEDED:
        return None
    if recorded.state is StageState.RUNNING:
        return recorded.attempt, None
    stalled = next((c for c in observed.status.conditions if c.type == "Stalled"), None)
    if stalled is not None and stalled.observed_generation == observed.generation:
        # What the API server refused stalls as well, without a step being at fault, and is tried again.
        fault = ("False", stalled.reason)
        steps = (_STEPS.get(c.type) for c in observed.status.conditions if (c.status, c.reason) == fault)
        at = next((step for step in steps if step is not None), None)
        if at is not None:
            return recorded.attempt + 1, Outlook(Step.STALLED, stalled.reason, stalled.message, at)
    return recorded.attempt + 1, None


def _failed(draft: _Draft, stage: StageName, last: Attempt, retries: int) -> Outlook | None:
    """How things stand after a failed attempt; None = try again now."""
    failure = last.failure or StageFailure(
        failure=FailureClass.INFRASTRUCTURE, reason="ProcessLost", message=f"{stage} ended without saying why"
    )
    at = _at(stage, last)
    if failure.failure is FailureClass.CONFIGURATION:
        return Outlook(Step.STALLED, failure.reason, failure.message, at)
    if last.number > retries:
        message = f"{failure.message} ({failure.reason}; tried {last.number} times, spec.jobs.retries is {retries})"
        return Outlook(Step.STALLED, "RetriesExhausted", message, at)
    pause = backoff(last.number)
    ended_at = last.ended_at or last.started_at
    again = ended_at + pause
    # What ended far ahead of now was stamped by another clock, or ours was set back: nothing is waited for.
    if abs(draft.observed.now - ended_at) >= pause:
        return None
    draft.look_again(again)
    message = (
        f"attempt {last.number} of {retries + 1} failed and is made again {pause.total_seconds():g} s later: "
        f"{failure.reason}: {failure.message}"
    )
    return Outlook(Step.WORKING, "Retrying", message, at)


def _verdict_gate(draft: _Draft, inputs: Inputs) -> Outlook | None:
    """None = there is evidence for exactly what was asked, and it passed."""
    receipt = draft.verdict
    assert receipt is not None  # noqa: S101 - every wanted stage has its receipt here, and Validate is always wanted
    spec = draft.observed.spec
    asked = evidence.Asked(
        draft.digests[StageName.VALIDATE], inputs, dict(draft.outputs), spec.equivalence, spec.validation
    )
    wrong = evidence.objection(receipt, asked)
    if wrong is not None or receipt.summary is None:
        return Outlook(Step.STALLED, "EvidenceInvalid", f"{wrong}; nothing follows from it", StageName.VALIDATE)
    if receipt.summary.verdict is Verdict.PASSED:
        return None
    reason = f"Parity{receipt.summary.verdict}"
    return Outlook(Step.STALLED, reason, evidence.decided(receipt.summary), StageName.VALIDATE, judged=True)


def _serving_gate(draft: _Draft, inputs: Inputs) -> Outlook:
    observed, receipt = draft.observed, draft.verdict
    assert receipt is not None  # noqa: S101 - only reached once the verdict gate is passed
    assert receipt.summary is not None  # noqa: S101 - the same
    message = evidence.decided(receipt.summary)
    if not observed.serving:
        return Outlook(Step.DONE, "Verified", message, judged=True)
    candidate = draft.outputs[StageName.CONVERT]
    grounds = Grounds(observed.uid, observed.generation, candidate, inputs.runtime, receipt.summary.report)
    draft.wanted = rollout.revision_name(observed.name, candidate, inputs.runtime)
    turn = rollout.serve(observed, grounds, receipt.output, message)
    draft.actions.extend(turn.actions)
    draft.look_again(turn.requeue_at)
    draft.tells = turn.tells
    return turn.outlook


def _keep_up(draft: _Draft) -> None:
    """What serves follows the spec also while a stage is at work or nothing can go on."""
    actions, until = rollout.upkeep(draft.observed, draft.wanted)
    draft.actions.extend(actions)
    draft.look_again(until)


def _superseded(draft: _Draft) -> list[Attempt]:
    """Attempts at work for inputs that are no longer wanted."""
    return [
        one
        for one in draft.observed.attempts
        if one.state is StageState.RUNNING and draft.digests.get(one.stage) != one.digest
    ]


def _cancel_superseded(draft: _Draft) -> None:
    """Stops what is superseded. While inputs are unknown nothing is stopped."""
    if draft.observed.inputs is None and draft.observed.sought is None:
        return
    for attempt in _superseded(draft):
        message = "the migration or its inputs changed"
        draft.cancel(attempt, "Superseded", message)


def _pinned_recipe(observed: Observed) -> int:
    """The recipe that the run started with, while spec and inputs stay the same."""
    run = observed.status.run if observed.status else None
    if run is None:
        return stages.RECIPE
    if run.spec is not None and run.spec == stages.spec_digest(observed.spec) and observed.sought is not None:
        return run.recipe  # what was found is pinned with the spec; another runtime alone changes no recipe
    known = observed.inputs is not None and run.id == stages.run_id(observed.spec, observed.inputs)
    return run.recipe if known else stages.RECIPE
