"""What the cache leaves out of objects, and that nothing that is looked at is among it."""

import json

from paritygate.cluster.failures import holding_up, of_pod
from paritygate.cluster.manifests import serving
from paritygate.cluster.slim import slim

STATUS = {"name": "convert", "image": "i", "restartCount": 0, "containerID": "c", "started": False}


def pod(**status):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "ns", "name": "p", "uid": "u", "resourceVersion": "7", "finalizers": ["job-tracking"],
                     "managedFields": [{}], "annotations": {"a": "b"}, "labels": {"paritygate.dev/job": "convert"},
                     "ownerReferences": [{"kind": "Job", "name": "j", "uid": "o", "controller": True}]},
        "spec": {
            "nodeName": "n", "volumes": [{"name": "inputs"}],
            "initContainers": [{"name": "convert", "env": [{"name": "PARITYGATE_ORDER", "value": "{}"}],
                                "resources": {"limits": {"memory": "4Gi"}}}],
            "containers": [{"name": "publish", "image": "i"}],
        },
        "status": {"podIP": "10.0.0.1", "startTime": "2026-11-21T12:00:00Z", **status},
    }  # fmt: skip


def test_orders_volumes_and_bookkeeping_are_left_out():
    found = slim(pod(phase="Pending"))
    assert found["metadata"] == {
        "namespace": "ns", "name": "p", "uid": "u", "resourceVersion": "7", "labels": {"paritygate.dev/job": "convert"},
        "ownerReferences": [{"uid": "o", "controller": True}],
    }  # fmt: skip
    assert found["spec"] == {
        "initContainers": [{"name": "convert", "resources": {"limits": {"memory": "4Gi"}}}],
        "containers": [{"name": "publish"}],
    }
    assert found["status"] == {"phase": "Pending", "startTime": "2026-11-21T12:00:00Z"}
    assert slim(found) == found


def test_why_a_pod_failed_and_what_holds_it_up_is_kept():
    killed = {**STATUS, "state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}
    disrupted = {"type": "DisruptionTarget", "status": "True", "message": "node drained"}
    waits = {**STATUS, "state": {"waiting": {"reason": "InvalidImageName"}}}
    for whole in (
        pod(phase="Failed", initContainerStatuses=[killed]),
        pod(phase="Failed", reason="Evicted", message="disk"),
        pod(phase="Failed", conditions=[disrupted]),
    ):
        assert of_pod(slim(whole)) == of_pod(whole) is not None
    for whole in (pod(conditions=[unschedulable]), pod(containerStatuses=[waits])):
        assert holding_up([slim(whole)], None) == holding_up([whole], None) is not None
    scheduled = {"type": "PodScheduled", "status": "True"}
    assert slim(pod(conditions=[scheduled])) == slim(pod())


def test_of_a_revision_what_it_runs_is_kept_and_nothing_that_its_pods_are_merely_given():
    runs = {"name": "server", "image": "i", "command": ["python"], "env": [{"name": "A", "value": "b"}]}
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{**runs, "resources": {"limits": {}}, "volumeMounts": []}], "volumes": [],
                 "nodeSelector": {"disk": "ssd"}},
    }  # fmt: skip
    metadata = {"name": "m-1", "annotations": {serving.CONTENT: serving.content_digest(template)}}
    whole = {"kind": "Deployment", "metadata": metadata, "spec": {"replicas": 2, "template": template}}
    found = slim(whole)
    assert found["spec"] == {
        "replicas": 2, "template": {"spec": {"containers": [runs], "nodeSelector": {"disk": "ssd"}}},
    }  # fmt: skip
    assert not serving.altered(found)
    found["spec"]["template"]["spec"]["containers"][0]["image"] = "another"
    assert serving.altered(found)
    assert slim(found) == found


def test_of_other_objects_only_bookkeeping_is_left_out():
    metadata = {"namespace": "ns", "name": "m", "uid": "u"}
    for kind, kept in (("ModelMigration", True), ("Deployment", False)):
        whole = {
            "kind": kind,
            "metadata": {**metadata, "managedFields": [{}], "finalizers": ["f"]},
            "spec": {"a": [1, "x"]},
        }
        left = {"finalizers": ["f"]} if kept else {}
        assert slim(whole) == {"kind": kind, "metadata": {**metadata, **left}, "spec": {"a": [1, "x"]}}


def test_texts_that_many_objects_have_are_one_in_memory():
    said = '{"kind": "Service", "metadata": {"name": "a text of an object"}}'
    first, second = (slim(json.loads(said)) for _ in range(2))
    assert first["metadata"]["name"] is second["metadata"]["name"]
