"""What the plan is for what is observed, row by row."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from paritygate.api.artifacts import FailureClass, StageFailure, StageName
from paritygate.api.digests import digest_of
from paritygate.api.report import CheckName, SummaryLine, Verdict
from paritygate.api.status import ConditionType, StageState
from paritygate.core.actions import ApplyRevision, CancelStage, RetireRevision, SetTraffic, StartStage
from paritygate.core.observed import Attempt, Revision
from paritygate.core.plan import LONGEST_RETRY, backoff, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def condition(planned, kind):
    return next((c for c in planned.status.conditions if c.type == kind), None)


def failed(action, failure, number=1, ended=NOW):
    reason = StageFailure(failure=failure, reason="Broken", message="it broke")
    return Attempt(action.stage, action.digest, number, StageState.FAILED, NOW, ended, reason)


def first(world):
    (action,) = plan(world.observed()).actions
    return action


def test_nothing_is_done_before_inputs_are_known(world):
    planned = plan(world.observed(inputs=None))
    assert planned.actions == ()
    assert condition(planned, "Reconciling").reason == "Resolving"


def test_inputs_that_cannot_be_resolved_stall(world):
    failure = StageFailure(failure=FailureClass.CONFIGURATION, reason="DigestMismatch", message="differs")
    planned = plan(world.observed(inputs=None, unresolved=failure))
    assert condition(planned, "Stalled").reason == "DigestMismatch"
    assert condition(planned, "Reconciling") is None


def test_stages_start_in_order_each_with_what_it_reads(world):
    receipts = world.receipts()
    for count, stage in enumerate(StageName):
        (action,) = plan(world.observed(receipts=receipts[:count])).actions
        assert (action.stage, action.digest, action.attempt) == (stage, receipts[count].digest, 1)
    assert dict(action.inputs) == {r.stage: r.output for r in receipts[:3]}


def test_a_running_stage_is_waited_for_until_its_deadline(world):
    start = first(world)
    running = Attempt(start.stage, start.digest, 1, StageState.RUNNING, NOW)
    planned = plan(world.observed(attempts=(running,)))
    assert planned.actions == ()
    assert planned.requeue_at == NOW + timedelta(hours=1)
    (action,) = plan(world.observed(attempts=(running,), now=planned.requeue_at)).actions
    assert isinstance(action, CancelStage)
    assert action.reason == "DeadlineExceeded"


def test_an_attempt_for_other_inputs_is_cancelled_before_the_next_starts(world):
    start = first(world)
    stale = Attempt(start.stage, digest_of("other"), 1, StageState.RUNNING, NOW)
    (action,) = plan(world.observed(attempts=(stale,))).actions
    assert isinstance(action, CancelStage)
    assert action.reason == "Superseded"


def test_infrastructure_failures_are_retried_with_growing_pauses_and_then_stall(world):
    start = first(world)
    attempts = ()
    now = NOW
    for number in (1, 2, 3):
        attempts = (*attempts, failed(start, FailureClass.INFRASTRUCTURE, number, now))
        planned = plan(world.observed(attempts=attempts, now=now))
        assert planned.actions == ()
        if number == 3:
            break
        assert condition(planned, "Reconciling").reason == "Retrying"
        assert planned.requeue_at == now + backoff(number)
        now = planned.requeue_at
        (again,) = plan(world.observed(attempts=attempts, now=now)).actions
        assert again.attempt == number + 1
    assert condition(planned, "Stalled").reason == "RetriesExhausted"


def test_a_failure_that_lies_in_the_future_is_not_waited_for(world):
    start = first(world)
    attempt = failed(start, FailureClass.INFRASTRUCTURE, 1, NOW + timedelta(hours=1))
    (again,) = plan(world.observed(attempts=(attempt,), now=NOW)).actions
    assert again.attempt == 2


def test_pauses_double_and_are_bounded():
    assert backoff(2) == 2 * backoff(1)
    assert backoff(1000) == LONGEST_RETRY


def test_configuration_failures_stall_at_once(world):
    planned = plan(
        world.observed(attempts=(failed(first(world), FailureClass.CONFIGURATION),), now=NOW + LONGEST_RETRY)
    )
    assert planned.actions == ()
    assert condition(planned, "Stalled").reason == "Broken"
    assert condition(planned, "Ready").status == "False"


def test_a_stall_outlives_the_record_of_its_attempt(world):
    stalled = plan(world.observed(attempts=(failed(first(world), FailureClass.CONFIGURATION),)))
    planned = plan(world.observed(status=stalled.status))
    assert planned.actions == ()
    assert planned.status == stalled.status
    assert planned.events == ()


def test_what_the_api_server_refused_does_not_outlive_the_record_of_an_attempt_that_may_be_made_again(world):
    """A stall that no step is at fault for came from elsewhere, and ends when the next try succeeds."""
    planned = plan(world.observed(attempts=(failed(first(world), FailureClass.INFRASTRUCTURE),)))
    stall = {"type": ConditionType.STALLED, "status": "True", "reason": "RightsMissing"}
    conditions = (
        *(c for c in planned.status.conditions if c.type != "Reconciling"),
        condition(planned, "Reconciling").model_copy(update=stall),
    )
    (again,) = plan(world.observed(status=planned.status.model_copy(update={"conditions": conditions}))).actions
    assert (again.stage, again.attempt) == (StageName.ASSESS, 2)


def test_an_attempt_that_is_not_seen_yet_is_started_under_the_same_number(world):
    start = first(world)
    running = Attempt(start.stage, start.digest, 2, StageState.RUNNING, NOW)
    status = plan(world.observed(attempts=(running,))).status
    (again,) = plan(world.observed(status=status)).actions
    assert again.attempt == 2


@pytest.mark.parametrize(
    ("verdict", "reason"), [(Verdict.FAILED, "ParityFailed"), (Verdict.INCONCLUSIVE, "ParityInconclusive")]
)
def test_what_does_not_pass_stalls_and_is_not_served(world, verdict, reason):
    planned = plan(world.observed(receipts=world.receipts(verdict), serving=True))
    assert planned.actions == ()
    assert condition(planned, "Stalled").reason == reason
    assert condition(planned, "ParityVerified").status == "False"
    assert planned.status.verdict.result is verdict


@pytest.mark.parametrize("name", ["source", "dataset", "capture", "candidate", "runtime", "stage"])
def test_evidence_about_other_digests_is_never_a_pass(world, name):
    planned = plan(world.observed(receipts=world.receipts(subject={name: digest_of("other")}), serving=True))
    assert planned.actions == ()
    assert condition(planned, "Stalled").reason == "EvidenceInvalid"
    assert planned.status.verdict is None


@pytest.mark.parametrize("lines", [(), "failed"])
def test_a_verdict_that_does_not_follow_from_its_lines_is_never_a_pass(world, lines):
    if lines:
        lines = (SummaryLine(name=CheckName.NUMERIC, result=Verdict.FAILED, blocking=True),)
    planned = plan(world.observed(receipts=world.receipts(Verdict.PASSED, lines=lines), serving=True))
    assert planned.actions == ()
    assert condition(planned, "Stalled").reason == "EvidenceInvalid"


def test_a_validate_stage_without_summary_is_never_a_pass(world):
    receipts = world.receipts()
    planned = plan(world.observed(receipts=(*receipts[:3], receipts[3].model_copy(update={"summary": None}))))
    assert condition(planned, "Stalled").reason == "EvidenceInvalid"


def test_a_pass_that_is_not_to_serve_is_done(world):
    planned = plan(world.observed(receipts=world.receipts()))
    assert planned.actions == ()
    assert condition(planned, "Ready").reason == "Verified"
    assert condition(planned, "Stalled") is condition(planned, "Reconciling") is None


def test_traffic_moves_only_to_a_ready_revision_and_the_old_one_goes_last(world):
    old = Revision("m-old", digest_of("old"), world.inputs.runtime, digest_of("r"), ready=True)
    seen = {"receipts": world.receipts(), "serving": True, "traffic": "m-old"}
    (apply,) = plan(world.observed(**seen, revisions=(old,))).actions
    assert isinstance(apply, ApplyRevision)
    seen["status"] = plan(world.observed(**seen)).status
    assert apply.grounds.candidate == seen["receipts"][2].output
    new = Revision(apply.name, apply.grounds.candidate, apply.grounds.runtime, apply.grounds.report)
    assert plan(world.observed(**seen, revisions=(old, new))).actions == ()
    new = replace(new, ready=True)
    assert plan(world.observed(**seen, revisions=(old, new))).actions == (SetTraffic(new.name, apply.grounds),)
    seen["traffic"] = new.name
    planned = plan(world.observed(**seen, revisions=(old, new)))
    assert planned.actions == (RetireRevision("m-old"),)
    assert condition(planned, "Ready").reason == "Promoted"


def test_a_revision_of_that_name_with_other_bytes_gets_no_traffic(world):
    seen = {"receipts": world.receipts(), "serving": True}
    (apply,) = plan(world.observed(**seen)).actions
    other = Revision(apply.name, digest_of("other"), apply.grounds.runtime, apply.grounds.report, ready=True)
    planned = plan(world.observed(**seen, revisions=(other,)))
    assert planned.actions == ()
    assert condition(planned, "Stalled").reason == "RevisionMismatch"


def test_a_revision_that_fails_stalls(world):
    seen = {"receipts": world.receipts(), "serving": True}
    (apply,) = plan(world.observed(**seen)).actions
    failure = StageFailure(failure=FailureClass.INFRASTRUCTURE, reason="CandidateDied", message="gone")
    broken = Revision(apply.name, apply.grounds.candidate, apply.grounds.runtime, apply.grounds.report, failure=failure)
    assert condition(plan(world.observed(**seen, revisions=(broken,))), "Stalled").reason == "RevisionFailed"


def test_events_come_once_and_conditions_keep_their_time(world):
    done = plan(world.observed(receipts=world.receipts()))
    assert [e.reason for e in done.events] == ["Verified"]
    later = plan(world.observed(receipts=world.receipts(), status=done.status, now=NOW + timedelta(hours=1)))
    assert later.events == ()
    assert later.status == done.status


def test_a_pinned_recipe_stays_while_spec_and_inputs_do(world):
    status = plan(world.observed()).status
    pinned = status.model_copy(update={"run": status.run.model_copy(update={"recipe": 0})})
    assert plan(world.observed(status=pinned)).actions[0].digest != first(world).digest
    changed = replace(world.inputs, source=digest_of("new"))
    fresh = plan(world.observed(status=pinned, inputs=changed))
    assert fresh.status.run.recipe != 0


def test_limits_of_the_work_start_no_new_stage(world):
    other = type(world)(jobs={"deadline": "5m", "retries": 0})
    assert first(other).digest == first(world).digest
    assert first(type(world)(runID="2")).digest != first(world).digest


def test_only_judging_is_done_again_when_the_tolerance_changes(world):
    numeric = {**world.spec.to_dict()["validation"], "numeric": {"rtol": "1e-3"}}
    other = type(world)(validation=numeric)
    assert [r.digest == s.digest for r, s in zip(world.receipts(), other.receipts(), strict=True)] == [
        True, True, True, False,
    ]  # fmt: skip


def test_a_source_that_is_not_here_is_not_assessed(world):
    inputs = replace(world.inputs, source=None, capture=digest_of("c"), candidate=digest_of("b"))
    (action,) = plan(world.observed(inputs=inputs)).actions
    assert isinstance(action, StartStage)
    assert action.stage is StageName.CAPTURE


def test_what_is_looked_for_stands_for_the_inputs_until_the_first_stage_has_found_them(world):
    sought = digest_of("sought")
    observed = world.observed(inputs=None)
    planned = plan(replace(observed, sought=sought, images=(("convert", "worker@sha256:1"),)))
    (action,) = planned.actions
    assert (action.stage, action.digest, action.attempt) == (StageName.ASSESS, sought, 1)
    assert planned.status.run.id == sought
    assert planned.status.run.images == {"convert": "worker@sha256:1"}
    running = Attempt(StageName.ASSESS, sought, 1, StageState.RUNNING, NOW, at=StageName.CONVERT)
    waiting = plan(replace(observed, sought=sought, attempts=(running,), status=planned.status))
    assert waiting.actions == ()
    assert condition(waiting, "Reconciling").reason == "Converting"
    known = plan(replace(world.observed(), status=planned.status))
    assert known.status.run.started_at == planned.status.run.started_at
    assert known.status.run.inputs.dataset == known.status.run.inputs.to_dict()["dataset"]


def test_a_suspended_migration_stops_its_work_and_keeps_what_it_knows(world):
    receipts = world.receipts()[:2]
    start = next(iter(plan(world.observed(receipts=receipts)).actions))
    running = Attempt(start.stage, start.digest, 1, StageState.RUNNING, NOW)
    observed = world.observed(receipts=receipts, attempts=(running,))
    spec = observed.spec.model_copy(update={"suspend": True})
    planned = plan(replace(observed, spec=spec))
    (action,) = planned.actions
    assert (action.stage, action.attempt, action.reason) == (start.stage, 1, "Suspended")
    assert condition(planned, "Suspended").status == "True"
    assert condition(planned, "Ready").reason == "Suspended"
    assert condition(planned, "Reconciling") is None
    assert [s.output for s in planned.status.stages] == [*(r.output for r in receipts), None]
    resumed = plan(replace(world.observed(receipts=receipts), status=planned.status))
    assert [a.attempt for a in resumed.actions] == [1]


def test_nothing_begins_before_what_nobody_wants_any_more_has_stopped(world):
    """Whatever stage that is at: one migration has one active attempt."""
    judging = Attempt(StageName.VALIDATE, digest_of("as it was asked before"), 1, StageState.RUNNING, NOW)
    planned = plan(world.observed(attempts=(judging,)))
    assert [(type(a), a.stage) for a in planned.actions] == [(CancelStage, StageName.VALIDATE)]
    assert condition(planned, "Ready").reason == "Assessing"
    assert [type(a) for a in plan(world.observed()).actions] == [StartStage]


def test_nothing_is_started_while_the_migration_is_queued(world):
    planned = plan(replace(world.observed(), queued="4 of 4 runs are active"))
    assert planned.actions == ()
    assert condition(planned, "Ready").reason == "Queued"
    assert condition(planned, "Reconciling").message == "4 of 4 runs are active"


def test_a_failure_of_an_earlier_generation_is_tried_again_under_the_next_number(world):
    start = first(world)
    failure = replace(failed(start, FailureClass.CONFIGURATION), stale=True)
    (action,) = plan(world.observed(attempts=(failure,))).actions
    assert action.attempt == 2


@pytest.mark.parametrize(
    "environment", [{"virtualenv": {"requirements": ["numpy"]}}, {"virtualenv": {"requirements": ["numpy<2"]}}]
)
def test_another_environment_of_the_source_is_assessed_anew(world, environment):
    source = {"format": "SKLearn", "uri": "m.pkl", "environment": environment}
    assert first(type(world)(source=source)).digest != first(world).digest


def test_where_inputs_lie_changes_no_digest(world):
    source = {"format": "SKLearn", "uri": "/elsewhere/m.pkl"}
    dataset = {"uri": "/elsewhere/d.csv", "label": "y"}
    moved = type(world)(source=source, validation={"dataset": dataset})
    assert moved.receipts() == world.receipts()
