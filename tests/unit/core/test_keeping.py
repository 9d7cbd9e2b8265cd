"""What is kept: whatever serves, whatever the status refers to, and the Jobs that still have something to say."""

import re
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paritygate.api.artifacts import FailureClass, Receipt, StageFailure, StageName
from paritygate.api.digests import digest_of
from paritygate.api.report import Verdict
from paritygate.api.status import (
    CandidateStatus,
    ModelMigrationStatus,
    PromotionStatus,
    RevisionState,
    RevisionStatus,
    StageState,
    StageStatus,
)
from paritygate.core import keeping
from paritygate.core.actions import DiscardAttempt, StartStage
from paritygate.core.observed import Attempt, Revision
from paritygate.core.plan import plan

LOST = StageFailure(failure=FailureClass.INFRASTRUCTURE, reason="ProcessDied", message="gone")
REPORT, STAGE = digest_of("report"), digest_of("stage")
artefact = st.integers(0, 30).map(lambda number: digest_of(["artefact", number]))
SPARING = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def statuses(draw):
    """Statuses that refer to artefacts in every place that can."""
    names = draw(st.lists(st.sampled_from(list(StageName)), unique=True))
    revisions = draw(st.lists(artefact, max_size=3, unique=True))
    return ModelMigrationStatus(
        stages=tuple(
            StageStatus(name=name, digest=STAGE, attempt=1, state=StageState.SUCCEEDED, output=draw(artefact))
            for name in names
        ),
        candidates=tuple(CandidateStatus(name="plain", digest=d) for d in draw(st.lists(artefact, max_size=1))),
        revisions=tuple(
            RevisionStatus(
                name=f"m-{d[-8:]}", role="Candidate", state=RevisionState.STARTING, digest=d, report_digest=REPORT
            )
            for d in revisions
        ),
        history=tuple(
            PromotionStatus(
                revision="m-1",
                promoted_at="2026-01-01T00:00:00Z",
                report_digest=REPORT,
                digest=d,
                verdict=draw(artefact),
            )
            for d in draw(st.lists(artefact, max_size=10))
        ),
    )


receipts = st.lists(
    st.builds(
        lambda stage, output: Receipt(stage=stage, digest=digest_of(output), output=output),
        st.sampled_from(list(StageName)), artefact,
    ),
    max_size=8,
)  # fmt: skip
revisions = st.lists(
    st.builds(
        lambda candidate, verdict: Revision(f"m-{candidate[-8:]}", candidate, "r", REPORT, verdict=verdict),
        artefact, artefact,
    ),
    max_size=3,
)  # fmt: skip


@SPARING
@given(status=statuses(), receipts=receipts, revisions=revisions, made=st.frozensets(artefact, max_size=3))
def test_nothing_that_serves_or_that_the_status_refers_to_may_go(world, status, receipts, revisions, made):
    observed = world.observed(status=status, receipts=tuple(receipts), revisions=tuple(revisions), made=made)
    kept = keeping.artefacts(observed)
    # The text of the status, so that a field that is added and not thought of here is found out.
    mentioned = set(re.findall(r"sha256:[0-9a-f]{64}", status.model_dump_json())) - {REPORT, STAGE}
    assert mentioned | made <= kept
    assert {receipt.output for receipt in receipts} <= kept
    assert {digest for revision in revisions for digest in (revision.candidate, revision.verdict)} <= kept


def test_where_a_revision_does_not_say_what_it_reads_nothing_may_go(world):
    unknown = Revision("m-1", digest_of("candidate"), "r", REPORT)
    assert keeping.artefacts(world.observed(revisions=(unknown,))) is None


def test_a_job_that_is_started_knows_what_to_keep(world):
    known = world.receipts()[:3]
    revision = Revision("m-1", digest_of("old"), "r", REPORT, ready=True, verdict=digest_of("golden"))
    (start,) = plan(world.observed(receipts=known, revisions=(revision,), traffic="m-1", serving=True)).actions
    assert isinstance(start, StartStage)
    assert start.kept == {*(receipt.output for receipt in known), revision.candidate, revision.verdict}


@st.composite
def attempts(draw, world):
    """Jobs as they pile up while specs change: some for what is asked now, most for what was."""
    receipts = world.receipts()
    digests = {
        receipt.stage: receipt.digest
        for receipt in receipts
        if receipt.stage in {StageName.CAPTURE, StageName.VALIDATE}
    }
    found = {}
    for minute in range(draw(st.integers(0, 12))):
        stage = draw(st.sampled_from(list(digests)))
        digest = draw(st.sampled_from([digests[stage], digest_of("earlier"), digest_of("still earlier")]))
        number = 1 + sum(1 for key in found if key[:2] == (stage, digest))
        state = draw(st.sampled_from([StageState.SUCCEEDED, StageState.FAILED]))
        began = world.observed().now - timedelta(minutes=60 - minute)
        found[stage, digest, number] = Attempt(
            stage, digest, number, state, began, began, LOST if state is StageState.FAILED else None,
            stale=draw(st.booleans()), job=f"m-{stage.value}-{minute}",
        )  # fmt: skip
    return tuple(found.values())


@SPARING
@given(data=st.data(), verdict=st.sampled_from([Verdict.PASSED, Verdict.FAILED]))
def test_jobs_do_not_pile_up_and_the_telling_ones_stay(world, data, verdict):
    piled = data.draw(attempts(world))
    observed = world.observed(receipts=world.receipts(verdict), attempts=piled)
    planned = plan(observed)
    gone = {action.job for action in planned.actions if isinstance(action, DiscardAttempt)}
    left = tuple(one for one in piled if one.job not in gone)
    current = {receipt.digest for receipt in observed.receipts}
    for stage in (StageName.CAPTURE, StageName.VALIDATE):
        of = [one for one in piled if one.stage is stage]
        assert not of or of[-1] in left, "the newest is there, for its logs"
    failed = [one for one in piled if one.digest in current and one.state is StageState.FAILED and not one.stale]
    assert set(failed) <= set(left)
    assert len(left) <= 6 + len(failed)
    again = plan(world.observed(receipts=observed.receipts, attempts=left))
    assert not any(isinstance(action, DiscardAttempt) for action in again.actions)
    assert again.status == planned.status


def test_nothing_is_discarded_while_it_runs_or_while_it_is_not_known_what_is_asked(world):
    began = world.observed().now
    old = [
        Attempt(StageName.VALIDATE, digest_of(number), 1, StageState.RUNNING, began, job=f"m-{number}")
        for number in range(3)
    ]
    running = plan(world.observed(receipts=world.receipts(), attempts=tuple(old))).actions
    assert not any(isinstance(action, DiscardAttempt) for action in running)
    ended = tuple(Attempt(a.stage, a.digest, 1, StageState.SUCCEEDED, began, began, job=a.job) for a in old)
    unknown = plan(world.observed(inputs=None, sought=digest_of("sought"), attempts=ended)).actions
    assert not any(isinstance(action, DiscardAttempt) for action in unknown)
    suspended = world.spec.model_copy(update={"suspend": True})
    assert plan(world.observed(spec=suspended, receipts=world.receipts(), attempts=ended)).actions == ()
