"""One reconcile: what is written in which order, what happens when a part of it fails, and when it looks again."""

import pytest

from control_plane.scripts import OUT_OF_MEMORY, Outcome
from doubles.cluster import KEY, NAMESPACE, NOW, Cluster
from paritygate.api.report import Verdict
from paritygate.cluster.keys import Key
from paritygate.errors import Conflict, Forbidden, Refused, RightsMissing, Unavailable


def events(cluster):
    return [e["reason"] for e in sorted(cluster.api.all("Event"), key=lambda e: int(e["metadata"]["resourceVersion"]))]


def test_a_promoted_migration_is_at_rest():
    cluster = Cluster()
    cluster.promote()
    assert cluster.condition("Ready")["reason"] == "Promoted"
    cluster.api.requests.clear()
    cluster.pass_time(86_400)
    assert cluster.reconcile() is None
    assert cluster.api.requests == []


def test_the_whole_way_takes_no_more_writes_than_it_must():
    cluster = Cluster()
    cluster.promote()
    writes = [w for w in cluster.api.writes() if " Event " not in w]
    assert len([w for w in writes if w.startswith("PATCH/status")]) == 4, writes
    assert len([w for w in writes if w.startswith("CREATE")]) == 5, writes  # 2 Jobs, Deployment, budget, Service
    assert len(writes) == 10, writes  # and the Deployment is let go of
    assert events(cluster) == ["Promoted"]


def test_events_come_after_the_status_and_on_transitions_only():
    cluster = Cluster()
    cluster.promote()
    asked = cluster.api.writes()
    for index, said in enumerate(asked):
        if " Event " in said:
            assert asked[index - 1].startswith(("PATCH/status", "CREATE Event"))
    assert len(events(cluster)) == len(set(events(cluster)))


def test_a_status_that_could_not_be_stored_tells_no_event_and_is_tried_again():
    cluster = Cluster()
    cluster.work.verdict = Verdict.FAILED
    cluster.settle()
    cluster.finish()
    cluster.settle()
    before = events(cluster)
    cluster.finish()

    def refuse(request):
        if request.verb == "PATCH/status":
            raise Conflict("modified")

    cluster.api.interfere = refuse
    with pytest.raises(Conflict):
        cluster.reconcile()
    assert events(cluster) == before
    cluster.api.interfere = lambda _: None
    cluster.reconcile()
    assert "ParityFailed" in events(cluster)[-1]


def test_an_event_that_cannot_be_told_is_no_failure():
    cluster = Cluster()
    cluster.work.verdict = Verdict.FAILED

    def refuse(request):
        if request.kind == "Event":
            raise Forbidden("events is forbidden")

    cluster.api.interfere = refuse
    for _ in range(2):
        cluster.settle()
        cluster.finish()
    cluster.settle()
    assert cluster.condition("Stalled")["reason"] == "ParityFailed"
    assert [str(error) for error in cluster.told.untold] == ["events is forbidden"] * len(cluster.told.untold) != []


def test_what_was_written_is_known_at_once():
    cluster = Cluster()
    cluster.reconcile()
    assert cluster.cache.snapshot(KEY).migration == cluster.migration
    assert [j["metadata"]["name"] for j in cluster.cache.snapshot(KEY).of("Job")] == [cluster.job["metadata"]["name"]]
    cluster.reconcile(look=False)
    assert len(cluster.api.all("Job")) == 1


def test_a_stale_view_writes_no_status_over_a_newer_one():
    cluster = Cluster()
    cluster.look()
    cluster.edit(suspend=True)
    with pytest.raises(Conflict):
        cluster.reconcile(look=False)
    assert "status" not in cluster.migration


@pytest.mark.parametrize("state", ["that is gone", "that is being deleted", "that never was"])
def test_nothing_is_done_for_a_migration(state):
    cluster = Cluster()
    if state == "that is gone":
        cluster.api.drop("ModelMigration", NAMESPACE, "churn")
    there = cluster.api.find("ModelMigration", NAMESPACE, "churn")
    if state == "that is being deleted":
        there["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        cluster.api.put(there)
    key = Key(NAMESPACE, "nobody") if state == "that never was" else KEY
    assert cluster.reconcile(key=key) is None
    assert cluster.api.requests == []


# --- what cannot go on


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"jobs": {"unheardOf": 1}}, "spec.jobs.unheardOf: Extra inputs are not permitted"),
        ({"jobs": {"retries": 6}}, "spec.jobs.retries is 6; this cluster takes at most 5"),
    ],
    ids=["that this operator cannot read", "that the configuration forbids"],
)
def test_a_spec_is_refused_in_its_status(spec, said):
    cluster = Cluster(**spec)
    cluster.reconcile()
    assert said in cluster.condition("Stalled")["message"]
    assert cluster.condition("Ready")["reason"] == "InvalidSpec"
    assert not cluster.condition("Reconciling")
    assert cluster.migration["status"]["observedGeneration"] == 1
    assert cluster.api.all("Job") == []
    cluster.api.requests.clear()
    cluster.reconcile()
    assert cluster.api.requests == []


def test_a_spec_that_is_mended_goes_on():
    cluster = Cluster(jobs={"unheardOf": 1})
    cluster.reconcile()
    there = cluster.migration
    cluster.api.put({**there, "spec": {**there["spec"], "jobs": {}}})
    cluster.reconcile()
    assert not cluster.condition("Stalled")
    assert cluster.job


@pytest.mark.parametrize(
    "error",
    [
        Forbidden("POST /apis/apps/v1/…: HTTP 403: exceeded quota: pods", status=403),
        Refused("POST /apis/apps/v1/…: HTTP 422: spec.template is invalid", status=422),
    ],
    ids=["a quota", "a policy"],
)
def test_what_the_api_server_refuses_is_said_in_the_status_beside_the_verdict(error):
    cluster = Cluster()
    for _ in range(2):
        cluster.settle()
        cluster.finish()

    def refuse(request):
        if request.kind == "Deployment":
            raise error

    cluster.api.interfere = refuse
    assert cluster.reconcile() == 60
    stalled = cluster.condition("Stalled")
    assert stalled["reason"] == "ClusterRefused"
    assert str(error) in stalled["message"]
    assert cluster.condition("ParityVerified")["status"] == "True"
    assert cluster.slots.held == 0
    cluster.api.interfere = lambda _: None
    cluster.settle()
    cluster.come_to_serve()
    assert cluster.condition("Ready")["reason"] == "Promoted"


@pytest.mark.parametrize("what", ["CREATE Job", "DRY-RUN Pod", "CREATE Deployment"])
def test_a_right_that_is_missing_is_said_in_the_status_until_it_is_given_back(what):
    cluster = Cluster()

    def refuse(request):
        if request.said.startswith(what):
            raise RightsMissing(f'{what}: HTTP 403: User "operator" cannot create resource', status=403)

    cluster.api.interfere = refuse
    if "Deployment" in what:
        for _ in range(2):
            cluster.settle()
            cluster.finish()
    assert cluster.reconcile() == 60
    stalled = cluster.condition("Stalled")
    assert stalled["reason"] == "RightsMissing"
    assert 'User "operator" cannot create' in stalled["message"]
    assert events(cluster) == ["RightsMissing"]
    cluster.api.interfere = lambda _: None
    cluster.pass_time(60)
    cluster.promote() if "Deployment" not in what else cluster.settle()
    assert not cluster.condition("Stalled")


def test_an_attempt_that_could_not_begin_is_not_in_the_status():
    cluster = Cluster()

    def refuse(request):
        if request.verb == "CREATE" and request.kind == "Job":
            raise Forbidden("exceeded quota: count/jobs.batch", status=403)

    cluster.api.interfere = refuse
    cluster.reconcile()
    assert "exceeded quota" in cluster.condition("Stalled")["message"]
    assert cluster.migration["status"]["stages"] == []


def test_what_may_pass_by_itself_is_left_to_the_queue():
    cluster = Cluster()

    def refuse(_):
        raise Unavailable("HTTP 503")

    cluster.api.interfere = refuse
    with pytest.raises(Unavailable):
        cluster.reconcile()
    assert "status" not in cluster.migration


# --- when to look again


def test_a_stage_that_runs_is_looked_at_when_its_deadline_passes():
    cluster = Cluster(jobs={"deadline": "10m"})
    cluster.reconcile()
    cluster.pass_time(60)
    job = cluster.job
    cluster.api.put({**job, "status": {"startTime": "2026-01-01T00:00:30Z"}})
    assert cluster.reconcile() == 570


def test_a_job_whose_pods_have_not_said_their_last_word_is_looked_at_again_soon():
    cluster = Cluster()
    cluster.settle()
    cluster.finish(convert=OUT_OF_MEMORY)
    name = cluster.api.all("Pod")[0]["metadata"]["name"]
    pod = cluster.api.find("Pod", NAMESPACE, name)
    cluster.api.put({**pod, "status": {**pod["status"], "phase": "Running", "initContainerStatuses": []}})
    assert cluster.reconcile() == 15
    assert not cluster.condition("Stalled")
    cluster.api.put(pod)
    cluster.reconcile()
    assert cluster.condition("Stalled")["reason"] == "OutOfMemory"


def test_a_failed_attempt_is_tried_again_after_its_pause():
    cluster = Cluster()
    cluster.settle()
    cluster.finish(convert=Outcome(exit_code=1))
    pause = cluster.reconcile()
    assert cluster.condition("Ready")["reason"] == "Retrying"
    assert pause is not None
    cluster.pass_time(pause + 1)
    cluster.reconcile()
    assert cluster.job["metadata"]["labels"]["paritygate.dev/attempt"] == "2"


def test_the_clock_of_a_reconcile_is_the_time_at_its_begin():
    cluster = Cluster()
    cluster.reconcile()
    assert cluster.told.plans[0][1].now == NOW
