"""What is sent for each action, and what must hold just before; on an API server in memory."""

import json

import pytest

from doubles.cluster import NAMESPACE, Cluster
from paritygate.errors import Conflict, Forbidden, Missing, Refused, Unavailable

REVISION = "paritygate.dev/revision"


def said(cluster, reason):
    """The message of the condition Stalled, which must have this reason."""
    found = cluster.condition("Stalled")
    assert (found.get("status"), found.get("reason")) == ("True", reason), cluster.migration.get("status")
    return found["message"]


def passed(**spec):
    """A cluster at the moment when a revision that passed is ready, and traffic may move."""
    cluster = Cluster(**spec)
    for _ in range(2):
        cluster.settle()
        cluster.finish()
    cluster.settle()
    cluster.bring_up()
    cluster.pass_time(60)
    cluster.api.requests.clear()
    return cluster


def at(said, change):
    """Does something once, just before a request is carried out."""
    done = []

    def interfere(request):
        if request.said == said and not done:
            done.append(request)
            change(request)

    return interfere


# --- StartStage


def test_a_job_is_created_once_after_its_pod_was_tried():
    cluster = Cluster()
    cluster.reconcile()
    name = cluster.job["metadata"]["name"]
    asked = [r.said for r in cluster.api.requests]
    assert asked == [
        "GET Service churn", "GET Secret store", f"DRY-RUN Pod {name}", f"CREATE Job {name}",
        "PATCH/status ModelMigration churn",
    ]  # fmt: skip
    cluster.reconcile()
    assert len(cluster.api.all("Job")) == 1


def test_a_job_whose_creation_was_not_answered_is_found_again():
    cluster = Cluster()

    def lost(request):
        if request.verb == "CREATE":
            raise Unavailable("no answer")

    cluster.api.afterwards = lost
    with pytest.raises(Unavailable):
        cluster.reconcile(look=True)
    cluster.api.afterwards = lambda _: None
    cluster.reconcile(look=False)  # nobody told of the Job: it is found by its name
    assert cluster.condition("Ready")["reason"] == "Assessing"
    assert len(cluster.api.all("Job")) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda job: job["metadata"].update(ownerReferences=[{"uid": "another", "controller": True}]),
        lambda job: job["metadata"].pop("ownerReferences"),
        lambda job: job["metadata"]["labels"].update({"paritygate.dev/migration": "another"}),
    ],
    ids=["of another owner", "without an owner", "of another migration"],
)
@pytest.mark.parametrize("known", [True, False], ids=["that was seen", "that was not seen"])
def test_a_job_of_our_name_that_is_not_ours_is_said_and_left_alone(change, known):
    cluster = Cluster()
    cluster.reconcile()
    job = cluster.job
    cluster.api.put({key: value for key, value in cluster.migration.items() if key != "status"})
    change(job)
    cluster.api.put(job)
    cluster.start()
    cluster.look()
    if not known:
        cluster.cache.apply("DELETED", job)
    assert cluster.reconcile(look=False) == 60
    assert f"kubectl delete jobs -n ns {job['metadata']['name']}" in said(cluster, "NameConflict")
    assert cluster.api.find("Job", NAMESPACE, job["metadata"]["name"]) is not None
    assert cluster.slots.held == 0


@pytest.mark.parametrize("error", [Forbidden("violates PodSecurity", status=403), Refused("quota", status=422)])
def test_a_pod_that_admission_refuses_is_said_before_a_job_is_made(error):
    cluster = Cluster()

    def refuse(request):
        if request.verb == "DRY-RUN":
            raise error

    cluster.api.interfere = refuse
    assert cluster.reconcile() == 60
    assert str(error) in said(cluster, "PodRefused")
    assert cluster.api.all("Job") == []
    assert cluster.slots.held == 0


def test_a_pod_of_the_same_name_does_not_speak_against_the_job():
    cluster = Cluster()

    def taken(request):
        if request.verb == "DRY-RUN":
            raise Conflict("exists", status=409)

    cluster.api.interfere = taken
    cluster.reconcile()
    assert len(cluster.api.all("Job")) == 1


# --- CancelStage


def test_a_suspended_migration_has_its_job_deleted_by_uid():
    cluster = Cluster()
    cluster.reconcile()
    job = cluster.job["metadata"]
    cluster.edit(suspend=True)
    cluster.reconcile()
    assert cluster.api.sent(f"DELETE Job {job['name']}") == [job["uid"]]


def test_a_job_for_an_earlier_spec_is_deleted_before_the_new_one_is_made():
    cluster = Cluster()
    cluster.reconcile()
    old = cluster.job["metadata"]["name"]
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/better.pkl"})
    cluster.settle()
    new = cluster.job["metadata"]["name"]
    writes = [w for w in cluster.api.writes() if " Job " in w]
    assert writes == [f"CREATE Job {old}", f"DELETE Job {old}", f"CREATE Job {new}"]


def test_a_job_over_its_deadline_is_kept_with_the_reason_and_stopped():
    cluster = Cluster(jobs={"deadline": "10m"})
    cluster.reconcile()
    cluster.pass_time(601)
    cluster.reconcile()
    job = cluster.job
    assert job["spec"]["suspend"] is True
    assert json.loads(job["metadata"]["annotations"]["paritygate.dev/cancelled"])["reason"] == "DeadlineExceeded"
    (patch,) = cluster.api.sent(f"PATCH Job {job['metadata']['name']}")
    assert patch["metadata"]["uid"] == job["metadata"]["uid"]
    cluster.reconcile()
    assert "ran longer than spec.jobs.deadline, 10m" in said(cluster, "DeadlineExceeded")


@pytest.mark.parametrize("strange", ["of another owner", "without annotations and an owner"])
def test_a_job_of_somebody_else_is_never_cancelled(strange):
    cluster = Cluster()
    cluster.reconcile()
    ours = cluster.job
    other = {**ours, "metadata": {**ours["metadata"], "name": "other", "ownerReferences": []}}
    del other["metadata"]["uid"]
    if strange != "of another owner":
        other["metadata"] = {
            "namespace": NAMESPACE, "name": "a-other",
            "labels": {"app.kubernetes.io/managed-by": "paritygate", "paritygate.dev/migration": "churn"},
        }  # fmt: skip
    cluster.api.put(other)
    cluster.edit(suspend=True)
    cluster.settle()
    assert [j["metadata"]["name"] for j in cluster.api.all("Job")] == [other["metadata"]["name"]]


# --- ApplyRevision and SetTraffic


def test_traffic_moves_in_one_write_after_all_that_it_rests_on_was_read_anew():
    cluster = passed()
    cluster.reconcile()
    (deployment,) = cluster.api.all("Deployment")
    name = deployment["metadata"]["name"]
    asked = [r.said for r in cluster.api.requests]
    moved = asked.index("CREATE Service churn")
    assert asked.index("GET ModelMigration churn") < asked.index(f"GET Deployment {name}") < moved
    service = cluster.api.find("Service", NAMESPACE, "churn")
    assert service["spec"]["selector"] == {REVISION: name}
    assert (
        service["metadata"]["annotations"]["paritygate.dev/report-digest"]
        == (cluster.migration["status"]["verdict"]["reportDigest"])
    )
    assert "ownerReferences" not in service["metadata"]
    assert "ownerReferences" not in deployment["metadata"]


def recreate(cluster):
    there = cluster.migration
    cluster.api.drop("ModelMigration", NAMESPACE, "churn")
    del there["metadata"]["uid"]
    cluster.api.put(there)


def deleted(cluster):
    there = cluster.migration
    there["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    cluster.api.put(there)


def judged(cluster, **verdict):
    there = cluster.migration
    there["status"]["verdict"].update(verdict)
    cluster.api.put(there)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.edit(runID="again"), "changed since it was observed"),
        (recreate, "changed since it was observed"),
        (deleted, "is being deleted"),
        (lambda c: judged(c, result="Failed"), "not the one that stands in the status"),
        (lambda c: judged(c, reportDigest=f"sha256:{'0' * 64}"), "not the one that stands in the status"),
        (lambda c: c.api.put({k: v for k, v in c.migration.items() if k != "status"}), "not the one that stands"),
    ],
    ids=["its spec changed", "it was made anew", "it is being deleted", "its verdict is another",
         "its report is another", "its status is gone"],
)  # fmt: skip
def test_no_traffic_moves_when_meanwhile(change, why):
    cluster = passed()
    cluster.look()
    change(cluster)
    with pytest.raises(Conflict, match=why):
        cluster.reconcile(look=False)
    assert cluster.api.all("Service") == []
    assert cluster.api.writes() == []


@pytest.mark.parametrize("stamp", ["paritygate.dev/candidate-digest", "paritygate.dev/runtime-digest"])
def test_no_traffic_moves_to_a_revision_that_holds_something_else(stamp):
    cluster = passed()
    cluster.look()
    (deployment,) = cluster.api.all("Deployment")
    deployment["metadata"]["annotations"][stamp] = f"sha256:{'0' * 64}"
    cluster.api.put(deployment)
    assert cluster.reconcile(look=False) == 60
    assert stamp in said(cluster, "RevisionMismatch")
    assert cluster.api.all("Service") == []


def test_a_revision_that_is_gone_meanwhile_gets_no_traffic():
    cluster = passed()
    cluster.look()
    cluster.api.drop("Deployment", NAMESPACE, cluster.api.all("Deployment")[0]["metadata"]["name"])
    with pytest.raises(Missing):
        cluster.reconcile(look=False)
    assert cluster.api.all("Service") == []


def second(cluster):
    """Another model passed beside the one that serves; gives the name of the revision that serves."""
    (first,) = cluster.api.all("Deployment")
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/better.pkl"})
    for _ in range(2):
        cluster.settle()
        cluster.finish()
    cluster.settle()
    cluster.bring_up()
    cluster.pass_time(60)
    cluster.api.requests.clear()
    return first["metadata"]["name"]


def test_the_pointer_moves_with_its_version_tested_and_keeps_what_others_wrote_on_it():
    cluster = Cluster()
    cluster.promote()
    service = cluster.api.find("Service", NAMESPACE, "churn")
    service["metadata"]["annotations"]["example.com/theirs"] = "kept"
    service["spec"]["sessionAffinity"] = "ClientIP"
    cluster.api.put(service)
    second(cluster)
    version = cluster.api.find("Service", NAMESPACE, "churn")["metadata"]["resourceVersion"]
    cluster.reconcile()
    (operations,) = cluster.api.sent("JSON-PATCH Service churn")
    assert [(o["op"], o["path"]) for o in operations] == [
        ("test", "/metadata/resourceVersion"), ("replace", "/spec/selector"), ("add", "/metadata/annotations"),
    ]  # fmt: skip
    assert operations[0]["value"] == version
    after = cluster.api.find("Service", NAMESPACE, "churn")
    assert after["metadata"]["annotations"]["example.com/theirs"] == "kept"
    assert after["spec"]["sessionAffinity"] == "ClientIP"


def test_a_service_that_changed_at_that_moment_is_looked_at_anew():
    cluster = Cluster()
    cluster.promote()
    before = second(cluster)

    def touch(_):
        service = cluster.api.find("Service", NAMESPACE, "churn")
        service["metadata"]["labels"]["touched"] = "yes"
        cluster.api.put(service)

    cluster.api.interfere = at("JSON-PATCH Service churn", touch)
    with pytest.raises(Conflict, match="Service churn changed meanwhile"):
        cluster.reconcile()
    assert cluster.api.find("Service", NAMESPACE, "churn")["spec"]["selector"] == {REVISION: before}


def foreign_service(name="churn", **labels):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": NAMESPACE, "name": name, "labels": {"app": "shop", **labels}},
        "spec": {"selector": {"app": "shop"}},
    }


def test_a_service_of_the_wanted_name_that_is_not_ours_gets_no_traffic_of_ours():
    cluster = passed()
    cluster.api.put(foreign_service())
    assert cluster.reconcile() == 60
    assert "kubectl delete services -n ns churn" in said(cluster, "NameConflict")
    assert cluster.api.find("Service", NAMESPACE, "churn")["spec"]["selector"] == {"app": "shop"}


@pytest.mark.parametrize(
    ("labels", "spec", "name"),
    [
        ({}, {}, "churn"),
        ({}, {"serving": {"serviceName": "shop"}}, "shop"),
        ({"app.kubernetes.io/managed-by": "paritygate", "paritygate.dev/migration": "another"}, {}, "churn"),
        ({"paritygate.dev/migration": "churn"}, {}, "churn"),
    ],
    ids=["of somebody else", "under a stated name", "of another migration", "that only bears the migration's name"],
)
def test_a_service_that_cannot_be_had_is_told_before_any_work(labels, spec, name):
    cluster = Cluster(**spec)
    cluster.api.put(foreign_service(name, **labels))
    assert cluster.reconcile() == 60
    assert f"Service {name} exists and is not of this migration; state another spec.serving.serviceName" in said(
        cluster, "NameConflict"
    )
    assert cluster.api.all("Job") == []
    assert cluster.slots.held == 0
    cluster.api.drop("Service", NAMESPACE, name)
    cluster.promote()
    assert cluster.condition("Ready")["reason"] == "Promoted"


def test_a_service_that_appears_while_a_model_is_converted_is_told_before_it_is_judged():
    cluster = Cluster()
    cluster.settle()
    cluster.finish()
    cluster.api.put(foreign_service())
    cluster.reconcile()
    said(cluster, "NameConflict")
    assert len(cluster.api.all("Job")) == 1


def test_what_serves_under_the_name_already_is_no_conflict_and_what_is_not_to_serve_needs_none():
    cluster = Cluster()
    cluster.promote()
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/better.pkl"})
    cluster.promote()
    assert cluster.condition("Ready")["reason"] == "Promoted"
    verified = Cluster(rollout={"strategy": "ValidateOnly"})
    verified.api.put(foreign_service())
    verified.settle()
    assert verified.job


# --- RetireRevision


def test_the_revision_before_goes_last_and_by_uid():
    cluster = Cluster()
    cluster.promote()
    before = second(cluster)
    uid = cluster.api.find("Deployment", NAMESPACE, before)["metadata"]["uid"]
    cluster.reconcile()
    assert cluster.api.sent(f"DELETE Deployment {before}") == []
    cluster.pass_time(10)
    cluster.settle()
    assert cluster.api.sent(f"DELETE Deployment {before}") == [uid]
    writes = cluster.api.writes()
    assert writes.index(f"DELETE Deployment {before}") > writes.index("JSON-PATCH Service churn")
    assert cluster.api.find("PodDisruptionBudget", NAMESPACE, before) is None


def test_a_revision_that_somebody_led_traffic_back_to_is_not_taken_down():
    cluster = Cluster()
    cluster.promote()
    before = second(cluster)
    cluster.reconcile()
    cluster.pass_time(10)
    cluster.look()
    service = cluster.api.find("Service", NAMESPACE, "churn")
    service["spec"]["selector"] = {REVISION: before}
    cluster.api.put(service)
    with pytest.raises(Conflict, match=f"leads to {before} again"):
        cluster.reconcile(look=False)
    assert cluster.api.find("Deployment", NAMESPACE, before) is not None


def test_a_deployment_without_our_labels_is_not_taken_down():
    cluster = Cluster()
    cluster.promote()
    before = second(cluster)
    cluster.reconcile()
    cluster.pass_time(10)
    cluster.look()
    deployment = cluster.api.find("Deployment", NAMESPACE, before)
    deployment["metadata"]["labels"] = {REVISION: before}
    cluster.api.put(deployment)
    cluster.reconcile(look=False)
    assert cluster.api.find("Deployment", NAMESPACE, before) is not None
