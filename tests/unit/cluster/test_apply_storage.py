"""Claims, Secrets and Jobs that go: what is sent, and what must hold just before; on an API server in memory."""

import pytest

from doubles.cluster import NAMESPACE, SETTINGS, Cluster
from paritygate.api.orders import JobOrder
from paritygate.cluster.manifests.pods import ALLOWED
from paritygate.errors import Conflict

TEMPLATE = {"claimTemplate": {"accessModes": ["ReadWriteMany"], "storageClassName": "shared", "size": "5Gi"}}
CLAIM = ("PersistentVolumeClaim", NAMESPACE, "churn-artefacts")


def stalled(cluster):
    found = cluster.condition("Stalled")
    return found.get("reason"), found.get("message")


def owners(item):
    return [one["uid"] for one in item["metadata"].get("ownerReferences") or ()]


def order_of(job):
    fetch = job["spec"]["template"]["spec"]["initContainers"][0]
    text = next(v["value"] for v in fetch["env"] if v["name"] == "PARITYGATE_ORDER")
    return JobOrder.model_validate_json(text)


def served(**spec):
    """A cluster whose first model serves."""
    cluster = Cluster(**spec)
    cluster.promote()
    return cluster


def passes(cluster):
    """Lets the Jobs for what is asked now end well."""
    for _ in range(2):
        cluster.settle()
        cluster.finish()
    cluster.settle()


def next_model(cluster, name):
    """Asks for another model, and brings it to serve."""
    cluster.pass_time(60)
    cluster.edit(source={"format": "SKLearn", "uri": f"s3://models/{name}.pkl"})
    goes_on(cluster)


def goes_on(cluster):
    """Lets what is asked for pass and come to serve."""
    passes(cluster)
    cluster.bring_up()
    cluster.pass_time(60)
    cluster.settle()
    cluster.pass_time(60)
    cluster.settle()


# --- Secrets


def secret(cluster, **labels):
    cluster.api.put({"apiVersion": "v1", "kind": "Secret", "metadata": {
        "namespace": NAMESPACE, "name": "store", "labels": labels}})  # fmt: skip


def test_a_secret_without_the_label_stalls_and_is_looked_at_again_without_being_told():
    cluster = Cluster()
    secret(cluster)
    assert cluster.reconcile() == 60
    reason, message = stalled(cluster)
    assert reason == "SecretNotAllowed"
    assert "spec.storage.object.secretName is 'store'" in message
    assert cluster.api.all("Job") == []
    secret(cluster, **{ALLOWED: "true"})
    cluster.reconcile()
    assert len(cluster.api.all("Job")) == 1
    assert not cluster.condition("Stalled")


def test_a_revision_is_not_brought_up_with_a_secret_that_lost_its_label():
    cluster = Cluster()
    for _ in range(2):
        cluster.settle()
        cluster.finish()
    secret(cluster)
    cluster.reconcile()
    assert stalled(cluster)[0] == "SecretNotAllowed"
    assert cluster.api.all("Deployment") == []


# --- Claims


def test_the_claim_of_a_template_is_made_before_the_job_that_needs_it():
    cluster = Cluster(storage=TEMPLATE)
    cluster.reconcile()
    said = cluster.api.writes()
    assert said.index("CREATE PersistentVolumeClaim churn-artefacts") < said.index(
        f"CREATE Job {cluster.job['metadata']['name']}"
    )
    claim = cluster.api.find(*CLAIM)
    assert claim["spec"]["storageClassName"] == "shared"
    assert owners(claim) == []


def test_the_claim_of_a_template_changes_its_owner_with_the_deletion_policy():
    cluster = served(storage=TEMPLATE)
    uid = cluster.migration["metadata"]["uid"]
    cluster.edit(deletionPolicy="Delete")
    cluster.settle()
    assert owners(cluster.api.find(*CLAIM)) == [uid]
    cluster.edit(deletionPolicy="Retain")
    cluster.settle()
    assert owners(cluster.api.find(*CLAIM)) == []


def test_a_default_template_is_held_to_the_deletion_policy_as_well():
    cluster = Cluster({"defaults": {"storage": TEMPLATE}}, storage=None, deletionPolicy="Delete")
    cluster.promote()
    assert owners(cluster.api.find(*CLAIM)) == [cluster.migration["metadata"]["uid"]]
    cluster.edit(deletionPolicy="Retain")
    cluster.settle()
    assert owners(cluster.api.find(*CLAIM)) == []


def left_claim(cluster, **metadata):
    labels = {"app.kubernetes.io/managed-by": "paritygate", "paritygate.dev/migration": "churn"}
    cluster.api.put({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": {}, "metadata": {
        "namespace": NAMESPACE, "name": "churn-artefacts", "labels": labels, **metadata}})  # fmt: skip


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        ({"deletionTimestamp": "2026-01-01T00:00:00Z"}, "churn-artefacts is being deleted; it is made anew"),
        ({"ownerReferences": [{"uid": "of-an-earlier-one", "controller": True}]}, "goes with an earlier migration"),
    ],
    ids=["is being deleted", "will be deleted with its owner"],
)
def test_a_claim_that_goes_with_an_earlier_migration_is_waited_for(metadata, why):
    cluster = Cluster(storage=TEMPLATE)
    left_claim(cluster, **metadata)
    with pytest.raises(Conflict, match=why):
        cluster.reconcile()
    assert cluster.api.all("Job") == []


def test_a_claim_that_was_retained_is_taken_over():
    cluster = Cluster(storage=TEMPLATE, deletionPolicy="Delete")
    left_claim(cluster)
    cluster.reconcile()
    assert owners(cluster.api.find(*CLAIM)) == [cluster.migration["metadata"]["uid"]]
    assert len(cluster.api.all("Job")) == 1


def test_a_claim_of_somebody_else_is_left_alone():
    cluster = Cluster(storage=TEMPLATE)
    left_claim(cluster, labels={})
    cluster.reconcile()
    assert stalled(cluster)[0] == "NameConflict"
    assert owners(cluster.api.find(*CLAIM)) == []


# --- What a Job is told to keep


def test_a_validate_job_is_told_what_must_stay_and_a_convert_job_sweeps_nothing():
    cluster = served()
    (revision,) = cluster.api.all("Deployment")
    stamps = revision["metadata"]["annotations"]
    cluster.pass_time(60)
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/next.pkl"})
    cluster.settle()
    assert order_of(cluster.job).kept is None
    cluster.finish()
    cluster.settle()
    order = order_of(cluster.job)
    assert order.job == "Validate"
    assert {stamps["paritygate.dev/candidate-digest"], stamps["paritygate.dev/verdict-digest"]} <= set(order.kept)
    serves = JobOrder.model_validate_json(
        next(v["value"] for v in revision["spec"]["template"]["spec"]["initContainers"][0]["env"]
             if v["name"] == "PARITYGATE_ORDER")
    )  # fmt: skip
    assert set(serves.artefacts.values()) <= set(order.kept), "what its pods fetch whenever they start"


def test_the_history_names_the_artefacts_of_what_served_and_they_stay():
    cluster = served()
    first = cluster.api.all("Deployment")[0]["metadata"]["annotations"]
    next_model(cluster, "second")
    newest, before = cluster.migration["status"]["history"]
    assert before["digest"] == first["paritygate.dev/candidate-digest"]
    assert before["verdict"] == first["paritygate.dev/verdict-digest"]
    cluster.pass_time(60)
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/third.pkl"})
    cluster.settle()
    cluster.finish()
    cluster.settle()
    assert {newest["digest"], before["digest"], before["verdict"]} <= set(order_of(cluster.job).kept)


def test_artefacts_stay_while_a_spec_could_be_rolled_back_to_by_its_jobs():
    cluster = Cluster()
    passes(cluster)  # and is never promoted
    made = {stage["output"] for stage in cluster.migration["status"]["stages"]}
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/next.pkl"})
    cluster.settle()
    cluster.finish()
    cluster.settle()
    order = order_of(cluster.job)
    assert order.job == "Validate"
    assert made <= set(order.kept)


# --- Jobs that go


def test_jobs_of_the_spec_before_last_go_when_the_newest_has_come_to_its_end():
    cluster = served()
    first = {job["metadata"]["name"] for job in cluster.api.all("Job")}
    next_model(cluster, "second")
    second = {job["metadata"]["name"] for job in cluster.api.all("Job")} - first
    assert len(first) == len(second) == 2
    cluster.pass_time(60)
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/third.pkl"})
    cluster.settle()
    assert first <= {job["metadata"]["name"] for job in cluster.api.all("Job")}, "not while work goes on"
    goes_on(cluster)
    left = {job["metadata"]["name"] for job in cluster.api.all("Job")}
    assert second <= left
    assert not first & left
    assert len(left) == 4


def test_a_spec_that_is_rolled_back_needs_no_job():
    cluster = served()
    next_model(cluster, "second")
    jobs = {job["metadata"]["name"] for job in cluster.api.all("Job")}
    cluster.edit(source={"format": "SKLearn", "uri": "s3://models/churn.pkl"})
    cluster.settle()
    assert {job["metadata"]["name"] for job in cluster.api.all("Job")} == jobs
    assert cluster.migration["status"]["verdict"]["result"] == "Passed"
    assert cluster.condition("Ready")["reason"] == "RollingOut"


# --- Orders


@pytest.mark.parametrize("stated", [True, False])
def test_the_judging_server_must_be_the_one_whose_identity_is_stated(stated):
    images = {role: dict(image) for role, image in SETTINGS["images"].items()}
    images["server"].pop("identity", None)
    identity = f"sha256:{'1d' * 32}"
    cluster = Cluster(
        {"images": {**images, "server": {**images["server"], **({"identity": identity} if stated else {})}}}
    )
    cluster.settle()
    cluster.finish()
    cluster.settle()
    judged = next(order for order in map(order_of, cluster.api.all("Job")) if order.job == "Validate")
    assert judged.server_identity == (identity if stated else None)
    assert (judged.runtime == identity) is stated


def test_stamps_that_somebody_took_away_come_back_and_nothing_is_swept_meanwhile():
    cluster = served()
    (revision,) = cluster.api.all("Deployment")
    stamps = dict(revision["metadata"]["annotations"])
    history = cluster.migration["status"]["history"]
    cluster.api.put({**revision, "metadata": {**revision["metadata"], "annotations": {"of": "somebody"}}})
    cluster.settle()
    (back,) = cluster.api.all("Deployment")
    assert stamps.items() <= back["metadata"]["annotations"].items()
    assert cluster.migration["status"]["history"] == history
