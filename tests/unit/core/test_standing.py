"""What people are told: messages, events and phases."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from paritygate.api.artifacts import FailureClass, StageFailure, StageName
from paritygate.api.digests import digest_of
from paritygate.api.report import Verdict
from paritygate.api.status import StageState
from paritygate.core.actions import CancelStage
from paritygate.core.observed import Attempt, Revision
from paritygate.core.plan import plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STABLE = Revision("m-old", digest_of("old"), digest_of("runtime"), digest_of("r"), ready=True, replicas=1, available=1)


def condition(planned, kind):
    return next(c for c in planned.status.conditions if c.type == kind)


@pytest.fixture
def serving(world):
    return {"receipts": world.receipts(), "serving": True, "revisions": (STABLE,), "traffic": "m-old"}


def test_what_stalls_says_what_goes_on_serving(world, serving):
    failed = plan(world.observed(**{**serving, "receipts": world.receipts(Verdict.FAILED)}))
    assert condition(failed, "Stalled").message.endswith("; revision m-old goes on serving")
    assert failed.events[-1].message == condition(failed, "Stalled").message
    suspended = world.observed(**serving)
    suspended = plan(replace(suspended, spec=suspended.spec.model_copy(update={"suspend": True})))
    assert condition(suspended, "Suspended").message.endswith("; revision m-old goes on serving")


def test_what_stalls_claims_nothing_of_a_revision_that_does_not_answer(world, serving):
    down = replace(STABLE, ready=False, available=0)
    failed = plan(world.observed(**{**serving, "receipts": world.receipts(Verdict.FAILED), "revisions": (down,)}))
    assert "serving" not in condition(failed, "Stalled").message


def test_that_something_serves_is_told_once_and_that_nothing_does_any_more_is_a_warning(world, serving):
    coming = plan(world.observed(receipts=world.receipts(), serving=True))
    grounds = coming.actions[0].grounds
    new = Revision(coming.actions[0].name, grounds.candidate, grounds.runtime, grounds.report, ready=True, available=1)
    seen = {**serving, "revisions": (new,), "traffic": new.name}
    promoted = plan(world.observed(**seen, status=coming.status))
    assert [e.reason for e in promoted.events] == ["Promoted"]
    down = replace(new, ready=False, available=0)
    lost = plan(world.observed(**{**seen, "revisions": (down,)}, status=promoted.status))
    assert [(e.type, e.reason) for e in lost.events] == [("Warning", "ServingUnavailable")]


def test_replicas_that_come_up_one_by_one_are_not_worth_a_write_each(world):
    coming = plan(world.observed(receipts=world.receipts(), serving=True))
    grounds = coming.actions[0].grounds
    name = coming.actions[0].name
    new = Revision(name, grounds.candidate, grounds.runtime, grounds.report, replicas=3)
    seen = {"receipts": world.receipts(), "serving": True}
    told = [
        plan(world.observed(**seen, revisions=(replace(new, ready=number == 3, available=number),))).status
        for number in range(4)
    ]
    assert told[0] == told[1] == told[2] == told[3]
    serves = plan(world.observed(**seen, revisions=(replace(new, ready=True, available=3),), traffic=name)).status
    assert serves.revisions[0].ready == 3


def test_a_stage_reads_the_same_when_it_is_started_and_while_it_runs(world):
    started = plan(world.observed())
    (start,) = started.actions
    attempt = Attempt(start.stage, start.digest, 1, StageState.RUNNING, NOW)
    running = plan(world.observed(attempts=(attempt,), status=started.status))
    assert running.status.conditions == started.status.conditions


def test_passing_through_the_part_of_stages_that_are_finished_is_not_going_back(world):
    receipts = world.receipts()[:2]
    (start,) = plan(world.observed(receipts=receipts)).actions
    assert start.stage is StageName.CONVERT
    attempt = Attempt(start.stage, start.digest, 1, StageState.RUNNING, NOW, at=StageName.ASSESS)
    assert plan(world.observed(receipts=receipts, attempts=(attempt,))).status.phase == "Converting"


def test_a_retry_says_which_it_is_and_what_went_wrong(world):
    (start,) = plan(world.observed()).actions
    why = StageFailure(failure=FailureClass.INFRASTRUCTURE, reason="Evicted", message="the node took it back")
    failed = Attempt(start.stage, start.digest, 2, StageState.FAILED, NOW, NOW, why)
    said = condition(plan(world.observed(attempts=(failed,))), "Reconciling").message
    retries = world.observed().spec.jobs.retries
    assert said == f"attempt 2 of {retries + 1} failed and is made again 10 s later: Evicted: the node took it back"


def test_what_did_not_pass_is_told_with_its_number_and_limit(world):
    said = condition(plan(world.observed(receipts=world.receipts(Verdict.FAILED))), "Stalled").message
    assert "numeric Failed: 1 measured on 9 rows, at most 1 allowed" in said


HELD = StageFailure(failure=FailureClass.INFRASTRUCTURE, reason="CapacityMissing", message="no node takes the pod")


def attempt_of(world, **fields):
    (start,) = plan(world.observed()).actions
    return Attempt(start.stage, start.digest, 1, StageState.RUNNING, NOW, **fields)


def test_what_waits_says_for_what_and_warns(world):
    planned = plan(world.observed(attempts=(attempt_of(world, waiting=HELD),)))
    assert planned.status.phase == "CapacityMissing"
    assert condition(planned, "Reconciling").message == "Assess waits, attempt 1: no node takes the pod"
    assert [(e.type, e.reason) for e in planned.events] == [("Warning", "CapacityMissing")]
    again = plan(world.observed(attempts=(attempt_of(world),), status=planned.status))
    assert (again.status.phase, again.events) == ("Assessing", ())


def test_what_waits_is_begun_anew_when_the_manifest_was_edited(world):
    """Limits and node selectors start no new run, and are what such an edit corrects."""
    stale = attempt_of(world, waiting=HELD, stale=True)
    (action,) = plan(world.observed(attempts=(stale,))).actions
    assert (type(action), action.reason) == (CancelStage, "Superseded")
    assert plan(world.observed(attempts=(replace(stale, waiting=None),))).actions == ()


def test_an_attempt_that_began_anew_says_why(world):
    planned = plan(world.observed(attempts=(attempt_of(world, replaced="pod p was taken down"),)))
    assert condition(planned, "Ready").message == "Assess is running, attempt 1, anew: pod p was taken down"


@pytest.mark.parametrize(
    ("at", "wanted"),
    [
        (StageName.ASSESS, {"Assessed": "False", "Converted": "Unknown", "ParityVerified": "Unknown"}),
        (StageName.CAPTURE, {"Assessed": "Unknown", "Converted": "False", "ParityVerified": "Unknown"}),
        (StageName.CONVERT, {"Assessed": "Unknown", "Converted": "False", "ParityVerified": "Unknown"}),
    ],
)
def test_the_step_at_fault_is_told_from_those_that_nobody_has_tried(world, at, wanted):
    why = StageFailure(failure=FailureClass.CONFIGURATION, reason="OutOfMemory", message="more")
    failed = replace(attempt_of(world, at=at), state=StageState.FAILED, failure=why)
    planned = plan(world.observed(attempts=(failed,)))
    assert {kind: condition(planned, kind).status for kind in wanted} == wanted
    for attempts in ((failed,), ()):  # looked at again; and once what failed was removed
        again = plan(world.observed(attempts=attempts, status=planned.status))
        assert again.status.conditions == planned.status.conditions
        assert again.events == ()


def test_what_did_not_pass_says_where_its_report_lies(world):
    receipts = world.receipts(Verdict.INCONCLUSIVE)
    planned = plan(world.observed(receipts=receipts, artifacts="s3://store/artifacts/"))
    folder = f"s3://store/artifacts/{receipts[-1].output.removeprefix('sha256:')}"
    assert condition(planned, "Stalled").message.endswith(f"; report in {folder}")
    assert condition(planned, "ParityVerified").message.endswith(f" in {folder}")
    assert planned.status.verdict.report_uri == folder
