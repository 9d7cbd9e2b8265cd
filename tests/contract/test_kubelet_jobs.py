"""Jobs on the control plane for tests: the real Job controller, and pods that do what a script says."""

import threading
from dataclasses import replace

import pytest

from control_plane.client import Refused, condition, holds
from control_plane.kubelet import Kubelet
from control_plane.scripts import OUT_OF_MEMORY, RUNS, Outcome, cannot_pull, play

SECURITY = {
    "allowPrivilegeEscalation": False,
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def container(name, **more):
    return {"name": name, "image": f"registry.example/{name}:1", "securityContext": SECURITY, **more}


def job(namespace, name="validate", **spec):
    """A Job with the containers of a validate Job, in their order."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            **spec,
            "template": {
                "metadata": {"labels": {"stage": name}},
                "spec": {
                    "restartPolicy": "Never",
                    "initContainers": [
                        container("fetch"),
                        container("candidate", restartPolicy="Always"),
                        container("validate"),
                    ],
                    "containers": [container("publish")],
                },
            },
        },
    }


def pod_of(api, namespace):
    (pod,) = api.list("Pod", namespace)
    return pod


def states(pod):
    status = pod["status"]
    return {c["name"]: c["state"] for c in (*status["initContainerStatuses"], *status["containerStatuses"])}


def has_states(pod):
    return "containerStatuses" in pod["status"]


def test_completes_a_job_with_a_sidecar_and_gives_its_message(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, play(publish=Outcome(message='{"result": 1}'))):
        api.create(job(namespace))
        done = api.until("Job", "validate", namespace, holds("Complete"))
    assert done["status"]["succeeded"] == 1
    pod = pod_of(api, namespace)
    assert pod["status"]["phase"] == "Succeeded"
    ended = {name: state["terminated"] for name, state in states(pod).items()}
    assert {name: end["exitCode"] for name, end in ended.items()} == dict.fromkeys(
        ("fetch", "candidate", "validate", "publish"), 0
    )
    assert ended["publish"]["message"] == '{"result": 1}'
    assert condition(pod, "PodScheduled")["status"] == "True"


def test_shows_every_step_between(control_plane, api, namespace):
    hold = threading.Event()
    with Kubelet(control_plane, namespace, play(validate=Outcome(until=hold))):
        api.create(job(namespace))
        api.until("Job", "validate", namespace, lambda found: found["status"].get("active") == 1)
        name = pod_of(api, namespace)["metadata"]["name"]
        running = api.until(
            "Pod", name, namespace, lambda pod: has_states(pod) and "running" in states(pod)["validate"]
        )
        seen = {name: next(iter(state)) for name, state in states(running).items()}
        assert seen == {"fetch": "terminated", "candidate": "running", "validate": "running", "publish": "waiting"}
        assert running["status"]["phase"] == "Pending"
        assert condition(running, "Initialized")["status"] == "False"
        hold.set()
        api.until("Job", "validate", namespace, holds("Complete"))


def test_writes_only_the_end_where_nothing_lasts(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, steps=False):
        api.create(job(namespace))
        api.until("Job", "validate", namespace, holds("Complete"))
    writers = [
        entry for entry in pod_of(api, namespace)["metadata"]["managedFields"] if entry.get("subresource") == "status"
    ]
    assert any(entry["manager"].startswith("Python") for entry in writers)


def test_fails_a_job_by_its_pod_failure_policy(control_plane, api, namespace):
    rule = {"action": "FailJob", "onExitCodes": {"containerName": "fetch", "operator": "In", "values": [3]}}
    with Kubelet(control_plane, namespace, play(fetch=Outcome(exit_code=3, message="no such file"))):
        api.create(job(namespace, backoffLimit=3, podFailurePolicy={"rules": [rule]}))
        failed = api.until("Job", "validate", namespace, holds("Failed"))
    assert condition(failed, "Failed")["reason"] == "PodFailurePolicy"
    seen = states(pod_of(api, namespace))
    assert seen["fetch"]["terminated"]["message"] == "no such file"
    assert "waiting" in seen["validate"]


@pytest.mark.parametrize(
    ("outcome", "code", "reason"),
    [(Outcome(exit_code=1), 1, "Error"), (OUT_OF_MEMORY, 137, "OOMKilled")],
    ids=["an error", "out of memory"],
)
def test_tells_why_a_container_failed(control_plane, api, namespace, outcome, code, reason):
    with Kubelet(control_plane, namespace, play(validate=outcome)):
        api.create(job(namespace))
        failed = api.until("Job", "validate", namespace, holds("Failed"))
    assert condition(failed, "Failed")["reason"] == "BackoffLimitExceeded"
    ended = states(pod_of(api, namespace))["validate"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (code, reason)


def test_leaves_a_job_active_whose_image_cannot_be_pulled(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, play(fetch=cannot_pull("registry.example/fetch:1"))):
        api.create(job(namespace))
        api.until("Job", "validate", namespace, lambda found: found["status"].get("active") == 1)
        name = pod_of(api, namespace)["metadata"]["name"]
        pod = api.until("Pod", name, namespace, has_states)
        assert states(pod)["fetch"]["waiting"]["reason"] == "ImagePullBackOff"
        api.delete("Job", "validate", namespace)
        api.until_gone("Pod", name, namespace)


def test_leaves_to_the_scheduler_what_fits_nowhere(control_plane, api, namespace):
    wanted = job(namespace)
    wanted["spec"]["template"]["spec"]["nodeSelector"] = {"accelerator": "none-such"}
    with Kubelet(control_plane, namespace) as kubelet:
        api.create(wanted)
        api.until("Job", "validate", namespace, lambda found: found["status"].get("active") == 1)
        name = pod_of(api, namespace)["metadata"]["name"]
        pod = api.until("Pod", name, namespace, lambda pod: condition(pod, "PodScheduled"))
    assert condition(pod, "PodScheduled")["reason"] == "Unschedulable"
    assert kubelet.seen == []


@pytest.mark.parametrize("disruption", [True, False], ids=["by pressure on the node", "by a full volume"])
def test_evicts(control_plane, api, namespace, disruption):
    ignored = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    evicted = Outcome(evicts="The node was low on resource: memory.", disruption=disruption)
    with Kubelet(control_plane, namespace, play(validate=evicted)):
        api.create(job(namespace, podFailurePolicy={"rules": [ignored]}))
        # Only pressure on the node marks the pod, and so only that is forgiven: another follows later.
        judged = api.until(
            "Job",
            "validate",
            namespace,
            lambda found: (
                found["status"].get("active", 0) == 0 and "startTime" in found["status"]
                if disruption
                else holds("Failed")(found)
            ),
        )
    assert judged["status"].get("failed", 0) == (0 if disruption else 1)
    pod = pod_of(api, namespace)
    assert (pod["status"]["phase"], pod["status"]["reason"]) == ("Failed", "Evicted")
    assert states(pod)["candidate"]["terminated"]["exitCode"] == 137


def test_stops_a_pod_that_is_deleted(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, play(validate=RUNS)):
        api.create(job(namespace, activeDeadlineSeconds=1))
        failed = api.until("Job", "validate", namespace, holds("Failed"))
    assert condition(failed, "Failed")["reason"] == "DeadlineExceeded"
    assert api.list("Pod", namespace) == []


def test_cuts_messages_as_the_kubelet_does(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, play(publish=Outcome(message="x" * 5000))):
        api.create(job(namespace))
        api.until("Job", "validate", namespace, holds("Complete"))
    # 12 KiB for four containers.
    assert states(pod_of(api, namespace))["publish"]["terminated"]["message"] == "x" * 3072


def test_shows_a_sidecar_that_restarted(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, play(candidate=replace(OUT_OF_MEMORY, restarts=1))):
        api.create(job(namespace))
        api.until("Job", "validate", namespace, holds("Complete"))
    (candidate,) = [c for c in pod_of(api, namespace)["status"]["initContainerStatuses"] if c["name"] == "candidate"]
    assert candidate["restartCount"] == 1
    assert candidate["lastState"]["terminated"]["reason"] == "OOMKilled"
    assert candidate["state"]["terminated"]["exitCode"] == 0


def test_a_sidecar_that_has_to_be_killed_does_not_fail_the_pod(control_plane, api, namespace):
    with Kubelet(control_plane, namespace, play(candidate=Outcome(exit_code=137))):
        api.create(job(namespace))
        api.until("Job", "validate", namespace, holds("Complete"))
    assert states(pod_of(api, namespace))["candidate"]["terminated"]["exitCode"] == 137


def test_pods_below_the_standard_are_refused(api, namespace):
    bad = {"restartPolicy": "Never", "containers": [{"name": "root", "image": "registry.example/root:1"}]}
    with pytest.raises(Refused) as refused:
        api.create(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad", "namespace": namespace}, "spec": bad}
        )
    assert refused.value.code == 403
    assert "runAsNonRoot" in refused.value.message


def test_a_failing_director_fails_the_test(control_plane, api, namespace):
    def director(_):
        raise KeyError("no script")

    def attend():
        with Kubelet(control_plane, namespace, director) as kubelet:
            api.create(job(namespace))
            kubelet.until_seen(1)

    with pytest.raises(ExceptionGroup, match="stand-in for the kubelet failed"):
        attend()
