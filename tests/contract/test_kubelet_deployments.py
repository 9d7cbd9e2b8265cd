"""Deployments on the control plane for tests: rolled out by the real controllers, followed by EndpointSlices."""

import pytest

from control_plane.client import Client, condition, holds
from control_plane.kubelet import Kubelet
from control_plane.scripts import Outcome, play

LABELS = {"app": "server"}
SECURITY = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def deployment(namespace, version="1", replicas=2):
    container = {"name": "server", "image": f"registry.example/server:{version}", "securityContext": SECURITY}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "server", "namespace": namespace},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": LABELS},
            "template": {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}},
        },
    }


def service(namespace):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "server", "namespace": namespace},
        "spec": {"selector": LABELS, "ports": [{"port": 80, "targetPort": 8080}]},
    }


def rolled_out(found):
    status = found["status"]
    wanted = found["spec"]["replicas"]
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("updatedReplicas", 0) == wanted
        and status.get("replicas", 0) == wanted
        and status.get("availableReplicas", 0) == wanted
    )


def serving(api: Client, namespace: str) -> set[str]:
    """Names of the pods that the Service's EndpointSlices call ready."""
    slices = api.list("EndpointSlice", namespace, labelSelector="kubernetes.io/service-name=server")
    endpoints = [endpoint for found in slices for endpoint in found.get("endpoints") or ()]
    return {e["targetRef"]["name"] for e in endpoints if e["conditions"]["ready"]}


def until_serving(api, namespace, count):
    def enough(_):
        return len(serving(api, namespace)) == count

    api.until("Service", "server", namespace, enough)
    return serving(api, namespace)


def test_rolls_out_and_serves(control_plane, api, namespace):
    with Kubelet(control_plane, namespace):
        api.create(service(namespace))
        api.create(deployment(namespace))
        api.until("Deployment", "server", namespace, rolled_out)
        first = until_serving(api, namespace, 2)
        addresses = {pod["status"]["podIP"] for pod in api.list("Pod", namespace)}
        assert len(addresses) == 2

        api.apply(deployment(namespace, "2"), force="true")
        api.until("Deployment", "server", namespace, rolled_out)
        assert not until_serving(api, namespace, 2) & first


def test_does_not_serve_what_is_not_ready(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, play(server=Outcome(exit_code=None, ready=False))):
        api.create(service(namespace))
        api.create(deployment(namespace, replicas=1))
        (pod,) = api.until_listed("Pod", namespace, lambda pod: pod["status"]["phase"] == "Running")
        assert condition(pod, "Ready")["status"] == "False"
        assert serving(api, namespace) == set()
        assert not holds("Available")(api.get("Deployment", "server", namespace))


def test_stops_serving_what_is_ready_no_more(control_plane, api, namespace):
    with Kubelet(control_plane, namespace) as kubelet:
        api.create(service(namespace))
        api.create(deployment(namespace))
        unready, still = sorted(until_serving(api, namespace, 2))
        kubelet.set_ready(unready, False)
        assert until_serving(api, namespace, 1) == {still}
        kubelet.set_ready(unready, True)
        until_serving(api, namespace, 2)


def test_scales_to_nothing(control_plane, api, namespace):
    with Kubelet(control_plane, namespace):
        api.create(deployment(namespace))
        api.until("Deployment", "server", namespace, rolled_out)
        api.patch("Deployment", "server", namespace, {"spec": {"replicas": 0}})
        api.until("Deployment", "server", namespace, rolled_out)
        api.until_listed("Pod", namespace, lambda _: False, count=0)


@pytest.mark.parametrize("code", [0, 1])
def test_a_server_that_ends_is_started_again_later(control_plane, api, namespace, code):
    with Kubelet(control_plane, namespace, play(server=Outcome(exit_code=code, message="bye"))):
        api.create(deployment(namespace, replicas=1))

        def backs_off(pod):
            states = [c["state"] for c in pod["status"].get("containerStatuses", ())]
            return any(state.get("waiting", {}).get("reason") == "CrashLoopBackOff" for state in states)

        (pod,) = api.until_listed("Pod", namespace, backs_off)
    (server,) = pod["status"]["containerStatuses"]
    assert server["restartCount"] == 1
    assert server["lastState"]["terminated"]["exitCode"] == code
    assert server["lastState"]["terminated"]["message"] == "bye"


def test_owned_objects_go_with_their_owner(control_plane, api, namespace):
    with Kubelet(control_plane, namespace):
        api.create(deployment(namespace))
        api.until("Deployment", "server", namespace, rolled_out)
        api.delete("Deployment", "server", namespace)
        api.until_listed("ReplicaSet", namespace, lambda _: False, count=0)
        api.until_listed("Pod", namespace, lambda _: False, count=0)
