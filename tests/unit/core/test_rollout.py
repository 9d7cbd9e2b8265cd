"""How a revision comes to serve, and what becomes of it afterwards."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from paritygate.api.artifacts import FailureClass, StageFailure
from paritygate.api.digests import digest_of
from paritygate.api.report import Verdict
from paritygate.api.spec import Serving
from paritygate.core.actions import AdjustRevision, ApplyRevision, RetireRevision, SetTraffic, StartStage
from paritygate.core.observed import Revision
from paritygate.core.plan import plan
from paritygate.core.rollout import DRAIN_HOLD, FLIP_HOLD, READY_HOLD, UNAVAILABLE_LIMIT, replicas_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = Revision("m-old", digest_of("old"), digest_of("runtime"), digest_of("r"), ready=True, replicas=4, available=4)
REFUSED = StageFailure(failure=FailureClass.CONFIGURATION, reason="InvalidSpec", message="no")


def condition(planned, kind):
    return next((c for c in planned.status.conditions if c.type == kind), None)


class Stage:
    """A migration whose candidate passed, or did not, and the revisions beside it."""

    def __init__(self, world, verdict=Verdict.PASSED):
        self.world, self.seen = world, {"receipts": world.receipts(verdict), "serving": True}
        planned = plan(world.observed(receipts=world.receipts(), serving=True))
        applied, self.passed = planned.actions[0], planned.status
        grounds = applied.grounds
        self.new = Revision(applied.name, grounds.candidate, grounds.runtime, grounds.report, ready=True)

    def plan(self, *revisions, **fields):
        return plan(self.world.observed(**{**self.seen, "revisions": revisions, **fields}))


@pytest.fixture
def scene(world):
    return Stage(world)


@pytest.mark.parametrize(
    ("serving", "present", "wanted"),
    [
        ({}, None, 2),
        ({}, 7, 7),
        ({"replicas": 1}, 7, 1),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}, None, 2),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}, 4, 4),
        ({"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}, 9, 6),
    ],
)
def test_a_revision_comes_up_with_as_many_replicas_as_carry_its_traffic_today(serving, present, wanted):
    stable = None if present is None else replace(OLD, replicas=present)
    assert replicas_of(Serving.model_validate(serving), stable) == wanted


def test_what_takes_over_is_brought_up_as_large_as_what_it_replaces(scene):
    (apply,) = scene.plan(OLD, traffic="m-old").actions
    assert isinstance(apply, ApplyRevision)
    assert apply.replicas == 4


def test_a_clock_that_was_set_back_holds_nothing_up(scene):
    seen = {"traffic": "m-old", "status": scene.passed}
    ahead = replace(scene.new, ready_since=NOW + timedelta(hours=1))
    assert isinstance(scene.plan(OLD, ahead, **seen).actions[0], SetTraffic)
    a_little = replace(scene.new, ready_since=NOW + READY_HOLD / 2)
    planned = scene.plan(OLD, a_little, **seen)
    assert planned.actions == ()
    assert planned.requeue_at == NOW + READY_HOLD * 1.5


def test_nobody_is_called_for_an_outage_of_the_future(scene):
    dead = replace(scene.new, ready=False, available=0, unavailable_since=NOW + timedelta(hours=1))
    planned = scene.plan(dead, traffic=dead.name, pointed=True)
    assert condition(planned, "Stalled") is None
    assert condition(planned, "Ready").reason == "ServingUnavailable"


def test_traffic_waits_until_the_data_plane_has_heard_of_the_revision(scene):
    fresh = replace(scene.new, ready_since=NOW)
    seen = {"traffic": "m-old", "status": scene.passed}
    planned = scene.plan(OLD, fresh, **seen)
    assert planned.actions == ()
    assert planned.requeue_at == NOW + READY_HOLD
    assert isinstance(scene.plan(OLD, fresh, **seen, now=NOW + READY_HOLD).actions[0], SetTraffic)


def test_who_waits_for_ready_is_answered_by_the_new_revision(scene):
    seen = {"traffic": scene.new.name, "traffic_since": NOW, "status": scene.passed}
    planned = scene.plan(scene.new, **seen)
    assert (planned.actions, planned.requeue_at) == ((), NOW + FLIP_HOLD)
    assert planned.status == scene.passed
    later = scene.plan(scene.new, **seen, now=NOW + FLIP_HOLD)
    assert (later.requeue_at, condition(later, "Ready").reason) == (None, "Promoted")


def test_the_verdict_is_written_before_traffic_moves_on_it(scene):
    """As when a spec is rolled back to a revision that is still there: all evidence is at hand, and none is written."""
    of_another = scene.plan(OLD, traffic="m-old", receipts=scene.world.receipts(Verdict.FAILED)).status
    for status in (None, of_another):
        planned = scene.plan(OLD, scene.new, traffic="m-old", status=status)
        assert planned.actions == ()
        assert planned.requeue_at == NOW
        assert planned.status.verdict.result is Verdict.PASSED
    again = scene.plan(OLD, scene.new, traffic="m-old", status=planned.status)
    assert [type(action) for action in again.actions] == [SetTraffic]


def test_the_revision_before_goes_once_its_requests_are_answered(scene):
    moved = {"traffic": scene.new.name, "traffic_since": NOW}
    planned = scene.plan(OLD, scene.new, **moved)
    assert (planned.actions, planned.requeue_at) == ((), NOW + FLIP_HOLD)
    answered = scene.plan(OLD, scene.new, **moved, now=NOW + FLIP_HOLD)
    assert answered.requeue_at == NOW + DRAIN_HOLD
    assert {r.name: r.state for r in planned.status.revisions} == {"m-old": "Retiring", scene.new.name: "Serving"}
    later = scene.plan(OLD, scene.new, **moved, now=NOW + DRAIN_HOLD)
    assert later.actions == (RetireRevision("m-old"),)


def test_a_revision_that_nobody_waits_for_goes_while_the_next_is_made(scene):
    tried = replace(OLD, name="m-tried")
    planned = scene.plan(OLD, tried, traffic="m-old", receipts=())
    assert [type(a) for a in planned.actions] == [StartStage, RetireRevision]
    assert planned.actions[1].name == "m-tried"


def test_a_rejected_candidate_leaves_what_serves_alone(world):
    planned = Stage(world, Verdict.FAILED).plan(OLD, traffic="m-old")
    assert planned.actions == ()
    assert condition(planned, "ServingAvailable").status == "True"


def test_a_lost_pointer_takes_down_only_what_was_never_promoted(scene):
    tried = replace(OLD, name="m-tried")
    promoted = scene.plan(OLD, traffic="m-old", receipts=()).status
    assert scene.plan(OLD, tried, receipts=(), status=None).actions[1:] == ()
    assert scene.plan(OLD, tried, receipts=(), status=promoted).actions[1:] == ()
    trying = scene.plan(tried, receipts=(), status=None).status
    assert scene.plan(tried, receipts=(), status=trying).actions[1:] == (RetireRevision("m-tried"),)


def test_what_an_earlier_address_leads_to_stays(scene):
    planned = scene.plan(OLD, traffic="m-other", pointed=False, lagging=("m-old",), receipts=())
    assert not any(isinstance(a, RetireRevision) for a in planned.actions)


def test_every_address_is_brought_along(scene):
    planned = scene.plan(OLD, scene.new, traffic=scene.new.name, status=scene.passed, pointed=False, lagging=("m-old",))
    (move,) = planned.actions
    assert move == SetTraffic(scene.new.name, move.grounds)
    assert condition(planned, "Ready").status == "False"


@pytest.mark.parametrize("verdict", list(Verdict)[:3])
def test_scale_and_owner_of_what_serves_follow_the_manifest_whatever_the_verdict(world, verdict):
    planned = Stage(world, verdict).plan(replace(OLD, in_line=False), traffic="m-old")
    assert AdjustRevision("m-old") in planned.actions


def test_nothing_is_adjusted_while_suspended_or_while_the_manifest_is_refused(scene):
    suspended = scene.world.spec.model_copy(update={"suspend": True})
    drifted = replace(OLD, in_line=False)
    assert scene.plan(drifted, traffic="m-old", spec=suspended).actions == ()
    refused = scene.plan(drifted, traffic="m-old", inputs=None, unresolved=REFUSED)
    assert refused.actions == ()


def test_what_somebody_changed_is_brought_back_to_what_passed(scene):
    changed = replace(scene.new, altered=True, replicas=5)
    planned = scene.plan(changed, traffic=changed.name)
    (apply,) = planned.actions
    assert (type(apply), apply.name, apply.replicas) == (ApplyRevision, changed.name, 5)
    assert condition(planned, "ServingAvailable").reason == "RevisionAltered"
    assert condition(planned, "Ready").status == "False"


def test_fewer_replicas_than_asked_for_still_serve(scene):
    some = replace(scene.new, ready=False, replicas=4, available=1)
    assert condition(scene.plan(some, traffic=some.name), "Ready").reason == "Promoted"


def test_what_answers_nothing_is_told_and_in_the_end_somebody_is_called(scene):
    none = replace(scene.new, ready=False, replicas=4, available=0, unavailable_since=NOW)
    seen = {"traffic": none.name}
    planned = scene.plan(none, **seen)
    assert condition(planned, "Ready").reason == "ServingUnavailable"
    assert condition(planned, "Reconciling").status == "True"
    assert condition(planned, "ServingAvailable").status == "False"
    assert planned.requeue_at == NOW + UNAVAILABLE_LIMIT
    later = scene.plan(none, **seen, now=NOW + UNAVAILABLE_LIMIT)
    assert condition(later, "Stalled").reason == "ServingUnavailable"
    assert later.requeue_at is None


def test_promotions_are_remembered_newest_first_and_not_without_end(scene):
    status = None
    for number in range(12):
        stable = replace(OLD, name=f"m-{number}")
        since = NOW + timedelta(hours=number)
        for _ in range(2):
            status = scene.plan(stable, traffic=stable.name, traffic_since=since, receipts=(), status=status).status
    assert [one.revision for one in status.history] == [f"m-{number}" for number in range(11, 1, -1)]
    forgotten = scene.plan(stable, receipts=(), status=status).status
    assert forgotten.history == status.history


def test_the_status_tells_where_the_report_lies(scene):
    planned = scene.plan(artifacts="s3://artefacts/models/artifacts/")
    output = scene.seen["receipts"][3].output.removeprefix("sha256:")
    assert planned.status.verdict.report_uri == f"s3://artefacts/models/artifacts/{output}"
