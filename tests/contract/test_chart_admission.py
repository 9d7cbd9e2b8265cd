"""What the chart's admission policies refuse to everybody but the operator, and what they let pass.

Every request is a dry run on a real API server, of an administrator who may do everything else.
"""

from functools import partial

import pytest

from control_plane.chart import PINNED, of_kind, render, until_refused
from control_plane.client import JSON_PATCH, MERGE, Refused, path_of
from control_plane.fixtures import started
from control_plane.migrations import migration

OPERATOR = "system:serviceaccount:operators:pg-paritygate"
BACKUP = "system:serviceaccount:velero:velero"
NS = "models"
OURS = {"app.kubernetes.io/managed-by": "paritygate", "paritygate.dev/migration": "churn"}
REVISION = {**OURS, "paritygate.dev/revision": "churn-1a2b3c4d"}
JOB = {**OURS, "paritygate.dev/job": "validate", "paritygate.dev/attempt": "1"}
STAMPS = {"paritygate.dev/report-digest": "sha256:1"}
CONTAINERS = [{"name": "server", "image": "judged@sha256:1"}]
OWNER = {"apiVersion": "paritygate.dev/v1alpha1", "kind": "ModelMigration", "name": "churn", "uid": "1",
         "controller": True}  # fmt: skip


def made(kind, name, spec, *, version="v1", **metadata):
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": NS, **metadata}, "spec": spec}


def pods(labels, **spec):
    """A template."""
    return {"metadata": {"labels": labels}, "spec": {"containers": CONTAINERS, **spec}}


def workload(kind, name, labels, /, **metadata):
    """Of apps/v1, whose pods carry these labels."""
    named = {"serviceName": name} if kind == "StatefulSet" else {}
    spec = {"selector": {"matchLabels": labels}, "template": pods(labels), **named}
    return made(kind, name, spec, version="apps/v1", **metadata)


def job(name, labels, /, **metadata):
    return made("Job", name, {"template": pods(labels, restartPolicy="Never")}, version="batch/v1", **metadata)


def cron_job(name, labels):
    spec = job(name, labels)["spec"]
    return made("CronJob", name, {"schedule": "@daily", "jobTemplate": {"spec": spec}}, version="batch/v1")


def pod(name, labels, **metadata):
    return made("Pod", name, pods(labels)["spec"], labels=labels, **metadata)


def service(name, selector, **metadata):
    return made("Service", name, {"selector": selector, "ports": [{"port": 80, "targetPort": 8080}]}, **metadata)


def budget(name, **metadata):
    return made("PodDisruptionBudget", name, {"maxUnavailable": 1}, version="policy/v1", **metadata)


def autoscaler(name, **metadata):
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    spec = {"scaleTargetRef": target, "maxReplicas": 2}
    return made("HorizontalPodAutoscaler", name, spec, version="autoscaling/v2", **metadata)


def claim(name, **metadata):
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    return made("PersistentVolumeClaim", name, spec, **metadata)


THERE = (
    migration(NS),
    service("churn", {"paritygate.dev/revision": "churn-1a2b3c4d"}, labels=OURS, annotations=STAMPS),
    workload("Deployment", "churn-1a2b3c4d", REVISION, labels=REVISION, annotations=STAMPS),
    pod("served", REVISION),
    job("churn-validate-1a2b3c4d-1", JOB, labels=JOB, ownerReferences=[OWNER]),
    pod("judging", JOB),
    service("somebody-s", {"app": "theirs"}),
    workload("Deployment", "theirs", {"app": "theirs"}),
    pod("theirs", {"app": "theirs"}),
)
LABELS = "labels that begin with paritygate.dev/ are set and removed by the operator (ServiceAccount operators/pg-pari"
POINTER = "Service churn is the pointer to what passed the gate, and only the operator"
RUNS = "what revision churn-1a2b3c4d runs passed the gate as it is, and is never changed"
IMAGES = "the images of this pod are those that were judged"
OWNERS = "owner references to a ModelMigration are set and removed by the operator"
STAMPED = "annotations that begin with paritygate.dev/ say why something may serve"


def creates(body):
    return lambda api: api.create(body, dryRun="All")


def patches(kind, name, body, **more):
    content = JSON_PATCH if isinstance(body, list) else MERGE
    return lambda api: api.patch(kind, name, NS, body, content=content, dryRun="All", **more)


def runs(image, at="/spec/template/spec"):
    return [{"op": "replace", "path": f"{at}/containers/0/image", "value": image}]


REFUSED = {
    "a forged verdict": (
        patches("ModelMigration", "churn", {"status": {"phase": "Promoted"}}, part="status"),
        "only the operator (ServiceAccount operators/pg-paritygate) writes the status of a migration",
    ),
    "a pointer that is moved": (
        patches("Service", "churn", [{"op": "replace", "path": "/spec/selector", "value": {"app": "mine"}}]), POINTER),
    "a pointer to another port": (
        patches("Service", "churn", [{"op": "replace", "path": "/spec/ports/0/targetPort", "value": 9}]), POINTER),
    "a pointer by name": (
        patches("Service", "churn", {"spec": {"type": "ExternalName", "externalName": "mine.example"}}), POINTER),
    "a pointer to pods that are not ready": (
        patches("Service", "churn", {"spec": {"publishNotReadyAddresses": True}}), POINTER),
    "a pointer without labels": (
        patches("Service", "churn", {"metadata": {"labels": {"paritygate.dev/migration": None}}}), LABELS),
    "a pointer with other stamps": (
        patches("Service", "churn", {"metadata": {"annotations": dict.fromkeys(STAMPS, "sha256:2")}}), STAMPED),
    "a pointer of somebody else": (creates(service("new", {"app": "mine"}, labels=OURS)), LABELS),
    "another image in a revision": (patches("Deployment", "churn-1a2b3c4d", runs("mine")), RUNS),
    "a revision that goes with the migration": (
        patches("Deployment", "churn-1a2b3c4d", {"metadata": {"ownerReferences": [OWNER]}}), OWNERS),
    "a revision of somebody else": (creates(workload("Deployment", "new", REVISION)), LABELS),
    "a replica set for a revision": (creates(workload("ReplicaSet", "new", REVISION)), LABELS),
    "a stateful set for a revision": (creates(workload("StatefulSet", "new", REVISION)), LABELS),
    "a daemon set for a revision": (creates(workload("DaemonSet", "new", REVISION)), LABELS),
    "a cron job for a revision": (creates(cron_job("new", REVISION)), LABELS),
    "a pod that asks for requests": (creates(pod("new", REVISION)), LABELS),
    "a pod that comes to ask for requests": (
        patches("Pod", "theirs", {"metadata": {"labels": {"paritygate.dev/revision": "churn-1a2b3c4d"}}}), LABELS),
    "pods that come to ask for requests": (
        patches("Deployment", "theirs", {"spec": {"template": {"metadata": {"labels": REVISION}}}}), LABELS),
    "another image in a pod that serves": (patches("Pod", "served", runs("mine", "/spec")), IMAGES),
    "another image in a pod that judges": (patches("Pod", "judging", runs("mine", "/spec")), IMAGES),
    "a pod that claims to judge": (creates(pod("new", JOB)), LABELS),
    "forged evidence": (creates(job("churn-validate-1a2b3c4d-2", JOB, labels=JOB, ownerReferences=[OWNER])), LABELS),
    "forged evidence without labels": (creates(job("new", {"app": "mine"}, ownerReferences=[OWNER])), OWNERS),
    "evidence for another stage": (
        patches("Job", "churn-validate-1a2b3c4d-1", {"metadata": {"annotations": {"paritygate.dev/digest": "other"}}}),
        STAMPED),
    "a claim to be taken over": (creates(claim("churn-artefacts", labels=OURS)), LABELS),
    "a budget to be taken over": (creates(budget("churn-1a2b3c4d", labels=REVISION)), LABELS),
    "an autoscaler to be taken over": (creates(autoscaler("churn-1a2b3c4d", labels=REVISION)), LABELS),
}  # fmt: skip
ALLOWED = {
    "labels and annotations of one's own": patches(
        "Service", "churn", {"metadata": {"labels": {"team": "ml"}, "annotations": {"cost": "1"}}}),
    "a load balancer": patches("Service", "churn", {"spec": {"type": "LoadBalancer"}}),
    "another number of replicas": patches("Deployment", "churn-1a2b3c4d", {"spec": {"replicas": 3}}),
    "a restart": patches(
        "Deployment", "churn-1a2b3c4d",
        {"spec": {"template": {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}}}),
    "a pod that is taken aside": patches(
        "Pod", "served", {"metadata": {"labels": {"paritygate.dev/revision": None}}}),
    "a Job that waits in a queue": patches("Job", "churn-validate-1a2b3c4d-1", {"spec": {"suspend": True}}),
    "another spec": patches("ModelMigration", "churn", {"spec": {"runID": "2"}}),
    "a second way to what serves": creates(service("internal", {"paritygate.dev/revision": "churn-1a2b3c4d"})),
    "a Secret that may be named": creates(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": "new", "namespace": NS, "labels": {"paritygate.dev/allowed": "true"}}}),
    "a Service": creates(service("new", {"app": "mine"})),
    "a Deployment": creates(workload("Deployment", "new", {"app": "mine"})),
    "another image in what is not ours": patches("Deployment", "theirs", runs("mine")),
    "another Service's selector": patches("Service", "somebody-s", {"spec": {"selector": {"app": "mine"}}}),
    "a Job": creates(job("new", {})),
    "a CronJob": creates(cron_job("new", {})),
    "a Pod without labels": creates(made("Pod", "new", pods({})["spec"])),
    "a claim": creates(claim("new")),
}  # fmt: skip
BY_CONTROLLERS = {
    "deployment-controller": creates(workload("ReplicaSet", "churn-1a2b3c4d-x", REVISION, labels=REVISION)),
    "replicaset-controller": creates(pod("new", REVISION)),
    "job-controller": creates(pod("new", JOB)),
    "generic-garbage-collector": patches("Job", "churn-validate-1a2b3c4d-1", {"metadata": {"ownerReferences": []}}),
}


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A control plane of its own, for policies hold for all who use it; with what the operator made."""
    with started(tmp_path_factory.mktemp("guarded")) as plane, plane.client() as api:
        api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NS}})
        api.until("ServiceAccount", "default", NS, lambda _: True)
        rendered = render(PINNED | {"admissionPolicy": {"exempt": {"users": [BACKUP]}}}, "operators")
        kinds = ("CustomResourceDefinition", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
        for one in of_kind(rendered, *kinds):
            api.apply(one)
        api.until_served("ModelMigration")
        with plane.client(acting_as=OPERATOR) as operator:
            for one in THERE:
                operator.create(one)
        for attempt, told in (REFUSED["a pod that asks for requests"], REFUSED["a forged verdict"]):
            until_refused(partial(attempt, api), told)
        yield plane


@pytest.fixture(scope="module")
def stranger(guarded):
    with guarded.client() as api:
        yield api


def test_the_api_server_finds_no_fault_with_the_policies(stranger):
    for one in stranger.list("ValidatingAdmissionPolicy"):
        found = stranger.until(
            "ValidatingAdmissionPolicy", one["metadata"]["name"], None, lambda o: o["status"].get("observedGeneration")
        )
        assert found["status"].get("typeChecking", {}) == {}


@pytest.mark.parametrize(("attempt", "told"), REFUSED.values(), ids=REFUSED)
def test_what_is_the_operators_is_refused_to_others(stranger, attempt, told):
    with pytest.raises(Refused) as refused:
        attempt(stranger)
    assert refused.value.code == 403
    assert told in refused.value.message


@pytest.mark.parametrize("attempt", ALLOWED.values(), ids=ALLOWED)
def test_the_rest_is_nobody_s_business(stranger, attempt):
    attempt(stranger)


def test_scaling_and_deleting_is_allowed(stranger):
    stranger.patch("Deployment", "churn-1a2b3c4d", NS, {"spec": {"replicas": 2}}, part="scale", dryRun="All")
    for kind, name in (("Service", "churn"), ("Deployment", "churn-1a2b3c4d"), ("Pod", "served")):
        stranger.request("DELETE", path_of(kind, NS, name), dryRun="All")


@pytest.mark.parametrize("who", [OPERATOR, BACKUP], ids=["operator", "who is exempt"])
def test_the_operator_and_who_is_exempt_may(guarded, who):
    with guarded.client(acting_as=who) as api:
        for attempt, _ in REFUSED.values():
            attempt(api)


@pytest.mark.parametrize("controller", BY_CONTROLLERS)
@pytest.mark.parametrize("apart", [True, False], ids=["apart", "together"])
def test_controllers_may_do_their_part(guarded, controller, apart):
    who = f"system:serviceaccount:kube-system:{controller}" if apart else "system:kube-controller-manager"
    with guarded.client(acting_as=who) as api:
        BY_CONTROLLERS[controller](api)


def test_another_controller_of_the_cluster_may_not(guarded):
    another = "system:serviceaccount:kube-system:statefulset-controller"
    with guarded.client(acting_as=another) as api, pytest.raises(Refused, match="labels that begin with"):
        creates(pod("new", REVISION))(api)
