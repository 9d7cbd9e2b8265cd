"""A toy world under hypothesis: whatever is seen late, twice or not at all, the end is the same, and safe."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paritygate.api.artifacts import FailureClass, Receipt, StageFailure, StageName
from paritygate.api.digests import digest_of
from paritygate.api.report import Verdict
from paritygate.api.status import StageState
from paritygate.core.actions import ApplyRevision, CancelStage, RetireRevision, SetTraffic, StartStage
from paritygate.core.observed import Attempt, Revision
from paritygate.core.plan import plan

LOST = StageFailure(failure=FailureClass.INFRASTRUCTURE, reason="ProcessDied", message="gone")


@dataclass
class Toy:
    """Carries out actions idempotently; `step` lets one thing happen."""

    world: object
    verdict: Verdict
    now: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    attempts: dict = field(default_factory=dict)
    receipts: dict = field(default_factory=dict)
    revisions: dict = field(default_factory=dict)
    traffic: str | None = None
    status: object = None

    def observe(self, *, forget):
        hidden = forget % 3
        return self.world.observed(
            now=self.now,
            serving=True,
            status=self.status,
            receipts=tuple(self.receipts.values()),
            attempts=() if hidden == 1 else tuple(self.attempts.values()) * (2 if hidden == 2 else 1),
            revisions=tuple(self.revisions.values()),
            traffic=self.traffic,
        )

    def apply(self, action):
        match action:
            case StartStage():
                key = (action.stage, action.digest, action.attempt)
                self.attempts.setdefault(key, Attempt(*key, StageState.RUNNING, self.now))
            case CancelStage():
                self.fail((action.stage, action.digest, action.attempt))
            case ApplyRevision():
                self.require_passed(action.grounds)
                grounds = action.grounds
                revision = Revision(action.name, grounds.candidate, grounds.runtime, grounds.report)
                self.revisions.setdefault(action.name, revision)
            case SetTraffic():
                self.require_passed(action.grounds)
                assert self.revisions[action.revision].ready
                self.traffic = action.revision
            case RetireRevision():
                assert action.name != self.traffic
                del self.revisions[action.name]

    def require_passed(self, grounds):
        summaries = [r.summary for r in self.receipts.values() if r.summary is not None]
        assert any(
            s.verdict is Verdict.PASSED
            and (s.subject.candidate, s.subject.runtime, s.report)
            == (grounds.candidate, grounds.runtime, grounds.report)
            for s in summaries
        )

    def fail(self, key):
        self.attempts[key] = replace(self.attempts[key], state=StageState.FAILED, ended_at=self.now, failure=LOST)

    def step(self, *, lose):
        """The running attempt ends; a revision that starts becomes ready; time passes."""
        self.now += timedelta(minutes=6)
        for key, attempt in list(self.attempts.items()):
            if attempt.state is StageState.RUNNING:
                if lose and attempt.number == 1:
                    self.fail(key)
                else:
                    self.finish(key)
        self.revisions = {name: replace(r, ready=True) for name, r in self.revisions.items()}

    def finish(self, key):
        stage, digest, _ = key
        self.attempts[key] = replace(self.attempts[key], state=StageState.SUCCEEDED, ended_at=self.now)
        outputs = {r.stage: r.output for r in self.receipts.values()}
        outputs[stage] = digest_of(["output", stage])
        summary = None
        if stage is StageName.VALIDATE:
            summary = self.world.summary(digest, outputs, self.verdict, {}, None)
        self.receipts[stage, digest] = Receipt(stage=stage, digest=digest, output=outputs[stage], summary=summary)

    def turn(self, choice):
        planned = plan(self.observe(forget=choice // 4))
        for action in planned.actions * (1 + choice % 2):  # the second time is a retry after a lost answer
            if not (isinstance(action, RetireRevision) and action.name not in self.revisions):
                self.apply(action)
        self.status = planned.status
        running = [a.stage for a in self.attempts.values() if a.state is StageState.RUNNING]
        assert len(running) == len(set(running))
        kinds = {c.type.value for c in planned.status.conditions}
        assert not {"Reconciling", "Stalled"} <= kinds
        if choice % 5 == 0:
            self.status = None  # a restored backup
        self.step(lose=choice % 7 == 0)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(choices=st.lists(st.integers(0, 11), max_size=25), verdict=st.sampled_from(list(Verdict)[:3]))
def test_any_order_duplication_or_loss_ends_in_the_same_state(world, choices, verdict):
    toy = Toy(world, verdict)
    for choice in choices:
        toy.turn(choice)
    for _ in range(30):
        toy.turn(3)
    final = plan(toy.observe(forget=0))
    assert final.actions == ()
    assert final.status == plan(replace(toy.observe(forget=0), status=final.status)).status
    ready = next(c for c in final.status.conditions if c.type == "Ready")
    assert (ready.status == "True") is (verdict is Verdict.PASSED)
    assert (toy.traffic is not None) is (verdict is Verdict.PASSED)
    assert {s: r.output for (s, _), r in toy.receipts.items()} == {s: digest_of(["output", s]) for s in StageName}
