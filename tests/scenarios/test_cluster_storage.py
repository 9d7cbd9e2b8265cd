"""Where artefacts are kept, and what a manifest may name for that, on a real API server."""

import asyncio
import contextlib
import json
import threading

import pytest

from control_plane import volumes
from control_plane.client import Refused, condition
from control_plane.kubelet import Kubelet
from control_plane.migrations import Work, is_ready, migration, operating
from control_plane.scripts import Outcome
from paritygate.api.artifacts import FailureClass, StageFailure
from paritygate.api.orders import JobOrder
from paritygate.cluster.client import SECRETS
from paritygate.cluster.client import Client as OperatorClient
from paritygate.cluster.connection import from_kubeconfig

ALLOWED = "paritygate.dev/allowed"
RIGHTS = (
    {"apiGroups": ["paritygate.dev"], "resources": ["modelmigrations"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["paritygate.dev"], "resources": ["modelmigrations/status"], "verbs": ["patch"]},
    {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "create"]},
    {"apiGroups": ["apps"], "resources": ["deployments"],
     "verbs": ["get", "list", "watch", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["services"], "verbs": ["get", "list", "watch", "create", "patch"]},
    {"apiGroups": [""], "resources": ["persistentvolumeclaims"], "verbs": ["get", "create", "patch"]},
    {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"],
     "verbs": ["get", "create", "patch", "delete"]},
    {"apiGroups": [""], "resources": ["secrets", "serviceaccounts"], "verbs": ["get"]},
    {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
)  # fmt: skip


def secret(namespace, name="store", **labels):
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "stringData": {"AWS_SECRET_ACCESS_KEY": "not for the operator"},
    }


def claim(namespace, name):
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "shared",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def template(*modes, storage_class="shared"):
    return {"claimTemplate": {"accessModes": list(modes), "storageClassName": storage_class, "size": "1Gi"}}


@pytest.fixture
def at_work(control_plane, migrations, namespace):  # noqa: ARG001 - the kind must be served
    """Puts an operator with a configuration, and a node, to work in the namespace."""
    with contextlib.ExitStack() as stack:

        def start(token=None, **settings):
            work = Work()
            stack.enter_context(Kubelet(control_plane, namespace, work))
            stack.enter_context(operating(control_plane, namespace, token, **settings))
            return work

        yield start


def reaching(item, storage):
    """Names of the containers of an object's pods that reach the store."""
    spec = item["spec"]["template"]["spec"]
    return {
        one["name"]
        for one in [*spec.get("initContainers", ()), *spec["containers"]]
        if any(m["mountPath"] == "/store" for m in one["volumeMounts"]) or ("object" in storage and one.get("envFrom"))
    }


KINDS = {
    "object store with a Secret": {"object": {"uri": "s3://artefacts/all", "secretName": "store"}},
    "given claim": {"claimName": "given"},
    "claim by template": template("ReadWriteMany"),
}


@pytest.mark.parametrize("stated", [True, False], ids=["in the manifest", "as the administrator's default"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_storage_carries_a_model_to_traffic(api, namespace, at_work, kind, stated):
    storage = KINDS[kind]
    if "object" in storage:
        api.create(secret(namespace, **{ALLOWED: "true"}))
    if "claimName" in storage:
        api.create(claim(namespace, "given"))
        volumes.provide(api, namespace, "given")
    at_work(**({} if stated else {"defaults": {"storage": storage}}))
    manifest = migration(namespace)
    manifest["spec"] |= {"storage": storage} if stated else {}
    if not stated:
        del manifest["spec"]["storage"]
    api.create(manifest)
    if "claimTemplate" in storage:
        volumes.provide(api, namespace, "churn-artefacts")
    done = api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=60)
    assert {frozenset(reaching(job, storage)) for job in api.list("Job", namespace)} == {
        frozenset({"fetch", "publish"})
    }
    (deployment,) = api.list("Deployment", namespace)
    assert reaching(deployment, storage) == {"fetch"}
    place = {"object": "s3://artefacts/all", "claimName": "pvc://given", "claimTemplate": "pvc://churn-artefacts"}
    assert done["status"]["verdict"]["reportURI"].startswith(
        f"{place[next(iter(storage))]}/{namespace}/churn/artifacts/"
    )


def test_only_what_its_owner_labelled_can_be_named_and_it_goes_on_once_that_is_done(api, namespace, at_work, identity):
    api.create(secret(namespace))
    api.create(secret(namespace, "registry", **{ALLOWED: "no"}))
    at_work(identity(*RIGHTS))
    image = {"name": "registry.example/legacy:2021", "pullSecrets": ["registry"]}
    source = {"format": "SKLearn", "uri": "s3://models/churn.pkl", "environment": {"image": image}}
    api.create(migration(namespace, source=source, jobs={"serviceAccountName": "migrations"}))

    def refused(reason, field):
        found = api.until("ModelMigration", "churn", namespace, is_ready(reason))
        message = condition(found, "Stalled")["message"]
        assert field in message
        assert api.list("Job", namespace) == []
        return message

    runs = iter("abc")

    def look():
        """Nobody tells the operator of Secrets: it looks every minute, or when the migration changes."""
        api.patch("ModelMigration", "churn", namespace, {"spec": {"runID": next(runs)}})

    assert "kubectl label -n" in refused("SecretNotAllowed", "spec.storage.object.secretName is 'store'")
    api.patch("Secret", "store", namespace, {"metadata": {"labels": {ALLOWED: "true"}}})
    look()
    api.until(
        "ModelMigration", "churn", namespace,
        lambda m: "pullSecrets[0] is 'registry'" in condition(m, "Stalled").get("message", ""),
    )  # fmt: skip
    api.patch("Secret", "registry", namespace, {"metadata": {"labels": {ALLOWED: "true"}}})
    look()
    assert "there is no ServiceAccount" in refused("ServiceAccountNotAllowed", "spec.jobs.serviceAccountName")
    api.create(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
            "name": "migrations", "namespace": namespace, "labels": {ALLOWED: "true"}}}
    )  # fmt: skip
    look()
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=60)


def test_a_look_at_a_secret_brings_no_data(api, control_plane, namespace):
    api.create(secret(namespace, **{ALLOWED: "true"}))

    async def look():
        async with OperatorClient(from_kubeconfig(control_plane.kubeconfig())) as client:
            return await client.metadata(SECRETS, namespace, "store")

    found = asyncio.run(look())
    assert found["kind"] == "PartialObjectMetadata"
    assert set(found) == {"kind", "apiVersion", "metadata"}
    assert found["metadata"]["labels"] == {ALLOWED: "true"}


def test_a_claim_for_one_node_is_refused_for_several_replicas_unless_its_class_is_node_local(api, namespace, at_work):
    at_work(nodeLocalClasses=["local-disks"])
    once = template("ReadWriteOnce")
    api.create(migration(namespace, storage=once, serving={"replicas": 2}))
    refused = api.until("ModelMigration", "churn", namespace, is_ready("InvalidSpec"))
    message = condition(refused, "Stalled")["message"]
    assert message.startswith("spec.storage.claimTemplate.accessModes is [ReadWriteOnce], and 2 replicas serve")
    assert "accessModes: [ReadWriteMany]" in message
    assert "(local-disks)" in message
    assert api.list("PersistentVolumeClaim", namespace) == []
    local = template("ReadWriteOnce", storage_class="local-disks")
    api.create(migration(namespace, "local", storage=local, serving={"replicas": 2}))
    volumes.provide(api, namespace, "local-artefacts")
    api.until("ModelMigration", "local", namespace, is_ready("Promoted"), seconds=60)


@pytest.mark.parametrize("policy", ["Retain", "Delete"])
def test_the_claim_of_a_template_follows_the_deletion_policy(api, namespace, at_work, policy):
    at_work()
    api.create(migration(namespace, storage=template("ReadWriteMany"), deletionPolicy=policy))
    volumes.provide(api, namespace, "churn-artefacts")
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=60)
    api.delete("ModelMigration", "churn", namespace)
    api.until_gone("ModelMigration", "churn", namespace)
    if policy == "Delete":
        api.until_gone("PersistentVolumeClaim", "churn-artefacts", namespace, seconds=60)
        assert api.list("Deployment", namespace) == []
        return
    threading.Event().wait(3)  # as long as the garbage collector could take
    kept = api.get("PersistentVolumeClaim", "churn-artefacts", namespace)
    assert "deletionTimestamp" not in kept["metadata"]
    api.create(migration(namespace, storage=template("ReadWriteMany"), deletionPolicy="Delete"))
    again = api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=60)
    owned = api.until(
        "PersistentVolumeClaim", "churn-artefacts", namespace, lambda c: c["metadata"].get("ownerReferences")
    )
    assert owned["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"]
    assert owned["metadata"]["uid"] == kept["metadata"]["uid"]


def test_a_model_in_a_claim_is_mounted_into_fetch_alone_and_what_no_pod_can_read_is_told_at_once(api, namespace, scene):
    api.create(claim(namespace, "models"))
    volumes.provide(api, namespace, "models")
    api.create(migration(namespace, source={"format": "SKLearn", "uri": "pvc://models/churn/model.pkl"}))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=60)
    mounts = [
        (job["metadata"]["labels"]["paritygate.dev/job"], one["name"], mount["mountPath"], mount.get("readOnly"))
        for job in api.list("Job", namespace)
        for one in job["spec"]["template"]["spec"]["initContainers"]
        for mount in one["volumeMounts"]
        if mount["mountPath"].startswith("/claims")
    ]
    assert mounts == [("convert", "fetch", "/claims/models", True)]
    before = list(scene.jobs)
    api.create(migration(namespace, "on-my-laptop", source={"format": "SKLearn", "uri": "churn.pkl"}))
    refused = api.until("ModelMigration", "on-my-laptop", namespace, is_ready("InvalidSpec"))
    message = condition(refused, "Stalled")["message"]
    assert message.startswith("spec.source.uri is 'churn.pkl', a path on one machine; in a cluster use s3://")
    for uri in ("hf://churn", "oci://registry.example/churn:1", "http://models.example/churn.pkl"):
        with pytest.raises(Refused, match=r"spec\.source: Invalid value.*uri is a path or begins with"):
            api.create(migration(namespace, "elsewhere", source={"format": "SKLearn", "uri": uri}))
    with pytest.raises(Refused, match=r"pvc://claim/path, without \. and \.\."):
        api.create(migration(namespace, "outside", source={"format": "SKLearn", "uri": "pvc://models/../x"}))
    assert scene.jobs == before


def test_a_digest_that_differs_stalls_with_both_and_is_not_tried_again(api, namespace, scene):
    stated, found = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
    message = f"spec.source.digest is {stated}, but what is there has {found}; bring what was meant"
    failure = StageFailure(failure=FailureClass.CONFIGURATION, reason="DigestMismatch", message=message)
    scene.fails["Convert"] = {"fetch": Outcome(exit_code=3, message=failure.model_dump_json(by_alias=True))}
    api.create(migration(namespace, source={"format": "SKLearn", "uri": "s3://models/churn.pkl", "digest": stated}))
    stalled = api.until("ModelMigration", "churn", namespace, is_ready("DigestMismatch"))
    said = condition(stalled, "Stalled")["message"]
    assert stated in said
    assert found in said
    assert scene.jobs == ["Convert"]


def lost():
    """How a Job ends that does not find what an earlier one left."""
    failure = StageFailure(
        failure=FailureClass.INFRASTRUCTURE, reason="ArtefactLost", message="was changed in the store"
    )
    return {"fetch": Outcome(exit_code=3, message=failure.model_dump_json(by_alias=True))}


def test_an_artefact_that_is_lost_is_made_anew(api, namespace, scene):
    scene.fails["Validate"] = lost()
    api.create(migration(namespace))
    done = api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=90)
    assert scene.jobs == ["Convert", "Validate", "Convert", "Validate"]
    assert [(s["name"], s["attempt"]) for s in done["status"]["stages"]] == [
        ("Assess", 2), ("Capture", 2), ("Convert", 2), ("Validate", 2),
    ]  # fmt: skip


def test_an_artefact_that_is_lost_is_no_evidence(api, namespace, scene):
    scene.fails["Validate"] = lost()
    api.create(migration(namespace, jobs={"retries": 0}))
    stalled = api.until("ModelMigration", "churn", namespace, is_ready("RetriesExhausted"))
    assert "ArtefactLost" in condition(stalled, "Stalled")["message"]
    assert "verdict" not in stalled["status"]
    assert api.list("Deployment", namespace) == []


def test_jobs_do_not_pile_up_and_the_newest_is_told_what_to_keep(api, namespace, scene):
    api.create(migration(namespace))
    for name in ("second", "third"):
        api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=60)
        uri = f"s3://models/{name}.pkl"
        api.patch("ModelMigration", "churn", namespace, {"spec": {"source": {"uri": uri}}})
    done = api.until("ModelMigration", "churn", namespace, is_ready("Promoted"), seconds=60)
    api.until_listed("Job", namespace, lambda _: True, count=4)
    newest = done["status"]["history"][0]
    assert len(done["status"]["history"]) == 3
    judged = [
        job for job in api.list("Job", namespace) if job["metadata"]["labels"]["paritygate.dev/job"] == "validate"
    ]
    orders = [
        JobOrder.model_validate_json(variable["value"])
        for job in judged
        for variable in job["spec"]["template"]["spec"]["initContainers"][0]["env"]
        if variable["name"] == "PARITYGATE_ORDER"
    ]
    last = next(order for order in orders if newest["digest"] in order.artefacts.values())
    for promotion in done["status"]["history"][1:]:
        assert {promotion["digest"], promotion["verdict"]} <= set(last.kept), json.dumps(promotion)
    assert scene.jobs == ["Convert", "Validate"] * 3
