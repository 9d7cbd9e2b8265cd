"""Artefacts in a claim, given or made by a template, on volumes of a real storage class; and what the bucket holds."""

from __future__ import annotations

import base64
import json

import pytest

from control_plane.client import condition
from scenes import SECONDS, Scene, at_once
from suite import pods

CLAIM = "models"
INPUTS = {
    "source": {"uri": f"pvc://{CLAIM}/inputs/tumours.joblib"},
    "validation": {"dataset": {"uri": f"pvc://{CLAIM}/inputs/holdout.parquet"}},
}
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def scene(cluster, store, release, shared_namespace):
    return Scene(cluster, store, shared_namespace)


@pytest.fixture(scope="module")
def storage_class(cluster):
    """The cluster's own, whose volumes one node mounts at a time."""
    default = "storageclass.kubernetes.io/is-default-class"
    found = json.loads(cluster.kubectl("get", "storageclass", "-o", "json").stdout)["items"]
    (name,) = [
        one["metadata"]["name"] for one in found if one["metadata"].get("annotations", {}).get(default) == "true"
    ]
    return name


@pytest.fixture(scope="module")
def at_claim(scene, trained, images, storage_class):
    """Runs a command in a pod that sees a claim with a model and its rows; gives what it printed."""
    scene.api.create({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": scene.namespace},
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": storage_class,
            "resources": {"requests": {"storage": "1Gi"}},
        },
    })  # fmt: skip
    files = [trained / "tumours" / name for name in ("tumours.joblib", "holdout.parquet")]
    data = {file.name: base64.b64encode(file.read_bytes()).decode() for file in files}
    metadata = {"name": "files", "namespace": scene.namespace}
    scene.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "binaryData": data})
    volumes = {"/claim": {"persistentVolumeClaim": {"claimName": CLAIM}}, "/files": {"configMap": {"name": "files"}}}

    def run(name, script):
        command = ["sh", "-c", script]
        scene.api.create(pods.restricted(name, scene.namespace, images["base"].reference, command, volumes=volumes))
        ended = {"Succeeded", "Failed"}
        found = scene.api.until("Pod", name, scene.namespace, lambda p: p["status"]["phase"] in ended, 120)
        assert found["status"]["phase"] == "Succeeded", scene.log(name, "main")
        return scene.log(name, "main")

    run("brings", "umask 027; mkdir /claim/inputs; cp /files/*.joblib /files/*.parquet /claim/inputs")
    return run


@pytest.fixture(scope="module")
def stories(scene, at_claim, storage_class):
    """A claim that is there already, and one that is made for a migration."""
    told = {"given": lambda: given(scene), "template": lambda: of_template(scene, storage_class)}
    with at_once(told) as found:
        yield found


def given(scene: Scene):
    # Given a claim with a model and its rows. When a migration reads from it and keeps artefacts in it.
    scene.apply("given", {**INPUTS, "storage": {"object": None, "claimName": CLAIM}})
    # Then it passes and serves.
    return scene.until("given", "Promoted")


def of_template(scene: Scene, storage_class: str):
    # Given a migration whose claim one node alone can mount, and two replicas.
    template = {"accessModes": ["ReadWriteOnce"], "storageClassName": storage_class, "size": "1Gi"}
    storage = {"object": None, "claimTemplate": template}
    scene.apply("template", {**INPUTS, "storage": storage, "serving": {"replicas": 2}})
    # Then it says so before anything is made.
    found = scene.until("template", "InvalidSpec")
    message = condition(found, "Stalled")["message"]
    assert "spec.storage.claimTemplate.accessModes is [ReadWriteOnce], and 2 replicas serve" in message
    assert scene.api.find("PersistentVolumeClaim", "template-artefacts", scene.namespace) is None
    # When one replica is enough, as the message says, then it goes on.
    assert "serving: {replicas: 1}" in message
    scene.edit("template", {"serving": {"replicas": 1}})
    return scene.until("template", "Promoted")


def test_a_claim_that_is_given_holds_model_rows_and_artefacts(scene, stories, at_claim):
    found = stories["given"].result(SECONDS)
    assert condition(found, "ServingAvailable")["status"] == "True"
    claim, _, folder = found["status"]["verdict"]["reportURI"].removeprefix("pvc://").partition("/")
    assert claim == CLAIM
    report = json.loads(at_claim("reads", f"cat /claim/{folder}/report.json"))
    assert report["verdict"] == "Passed"


def test_a_claim_of_a_template_is_made_and_outlives_its_migration(scene, stories):
    found = stories["template"].result(SECONDS)
    claim = scene.api.get("PersistentVolumeClaim", "template-artefacts", scene.namespace)
    assert claim["status"]["phase"] == "Bound"
    assert "ownerReferences" not in claim["metadata"]
    # When the migration is deleted and what serves is started anew, it reads from the claim as before.
    (revision,) = found["status"]["revisions"]
    scene.kubectl("delete", "mm", "template", "--timeout=60s")
    scene.kubectl("delete", "pod", "-l", f"paritygate.dev/revision={revision['name']}", "--timeout=60s")
    scene.kubectl("rollout", "status", f"deployment/{revision['name']}", "--timeout=80s")
    assert scene.serving("template") == [f"Deployment {revision['name']}", "Service template"]


def test_a_bucket_holds_the_report_that_the_status_names(scene, store):
    # Given a migration whose artefacts are kept in a bucket. When it passed.
    scene.apply("bucket", {"rollout": {"strategy": "ValidateOnly"}})
    found = scene.until("bucket", "Verified")
    # Then its report is there, and holds what the verdict rests on.
    verdict = found["status"]["verdict"]
    bucket, _, folder = verdict["reportURI"].removeprefix("s3://").partition("/")
    assert json.loads(store.read(bucket, f"{folder}/report.json"))["verdict"] == verdict["result"] == "Passed"
    assert f"{folder}/report.html" in store.listed(bucket, folder)
