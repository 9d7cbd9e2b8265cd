"""Why a Job failed or waits, told apart and said plainly."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from paritygate.cluster import failures

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JOB = {
    "metadata": {"name": "j"},
    "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}]},
}


def pod(*, state=None, status=None, **more):
    statuses = [{"name": "convert", "image": "x:1", "state": state}] if state else []
    return {
        "metadata": {"name": "p", "namespace": "ns", "labels": {"paritygate.dev/job": "convert"}},
        "spec": {"initContainers": [{"name": "convert", "resources": {"limits": {"memory": "4Gi"}}}], "containers": []},
        "status": {"initContainerStatuses": statuses, "startTime": NOW.isoformat(), **(status or {}), **more},
    }


def ended(code, **more):
    return pod(state={"terminated": {"exitCode": code, **more}})


SAID = json.dumps({"failure": "Configuration", "reason": "ModelUnloadable", "message": "no such class"})


@pytest.mark.parametrize(
    ("seen", "reason", "kind", "said"),
    [
        (ended(3, message=SAID), "ModelUnloadable", "Configuration", "convert: no such class"),
        (ended(3, message="{"), "ProcessDied", "Infrastructure", "not readable"),
        (ended(3, message=SAID.replace("Unloadable", "Un" * 1000)), "ProcessDied", "Infrastructure", "not readable"),
        (ended(137, reason="OOMKilled"), "OutOfMemory", "Configuration",
         "spec.jobs.convert.resources.limits.memory: 8Gi"),
        (ended(0, reason="OOMKilled"), "OutOfMemory", "Configuration", "ask for 8Gi"),
        (ended(1, reason="Error"), "ProcessDied", "Infrastructure", "kubectl logs -n ns p -c convert"),
        (pod(status={"reason": "Evicted", "message": "low on disk"}), "Evicted", "Infrastructure", "low on disk"),
        (pod(status={"conditions": [{"type": "DisruptionTarget", "status": "True", "message": "drained"}]}),
         "PodLost", "Infrastructure", "drained"),
    ],
)  # fmt: skip
def test_a_failed_pod_is_classified(seen, reason, kind, said):
    found = failures.of_failed(JOB, [seen])
    assert (found.reason, found.failure) == (reason, kind)
    assert said in found.message


def test_a_job_without_pods_is_a_lost_pod_and_one_over_its_deadline_is_not():
    assert failures.of_failed(JOB, []).reason == "PodLost"
    late = {
        "metadata": {},
        "status": {"conditions": [{"type": "Failed", "status": "True", "reason": "DeadlineExceeded"}]},
    }
    assert failures.of_failed(late, []).reason == "DeadlineExceeded"


@pytest.mark.parametrize(
    ("seen", "later", "reason", "kind"),
    [
        (pod(state={"waiting": {"reason": "ImagePullBackOff"}}), 10, "ImageUnavailable", "Infrastructure"),
        (pod(state={"waiting": {"reason": "ImagePullBackOff"}}), 200, "ImageUnavailable", "Configuration"),
        (pod(state={"waiting": {"reason": "InvalidImageName"}}), 0, "ImageUnavailable", "Configuration"),
        (pod(state={"waiting": {"reason": "CreateContainerConfigError"}}), 0, "ContainerInvalid", "Configuration"),
        (pod(status={"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]}), 0,
         "CapacityMissing", "Infrastructure"),
    ],
)  # fmt: skip
def test_what_holds_up_a_pod_is_known(seen, later, reason, kind):
    found = failures.holding_up([seen], NOW + timedelta(seconds=later))
    assert (found.reason, found.failure) == (reason, kind)


def test_a_pod_that_only_starts_is_not_held_up():
    assert failures.holding_up([pod(state={"waiting": {"reason": "PodInitializing"}})], NOW) is None


def candidate(**state):
    beside = {"name": "candidate", "restartCount": 2, "state": {"waiting": {"reason": "CrashLoopBackOff"}}, **state}
    found = pod(status={"initContainerStatuses": [beside]})
    found["spec"]["initContainers"] = [{"name": "candidate", "resources": {"limits": {"memory": "1Gi"}}}]
    return found


@pytest.mark.parametrize(
    ("ended", "reason"),
    [
        ({"exitCode": 137, "reason": "OOMKilled"}, "OutOfMemory"),
        ({"exitCode": 3, "message": SAID}, "ModelUnloadable"),
    ],
)
def test_a_candidate_that_can_never_serve_is_not_waited_for(ended, reason):
    for seen in (candidate(lastState={"terminated": ended}), candidate(state={"terminated": ended})):
        found = failures.holding_up([seen], NOW)
        assert (found.reason, found.failure) == (reason, "Configuration")


@pytest.mark.parametrize("code", [0, 1, 143])
def test_a_candidate_that_may_serve_the_next_time_is_waited_for(code):
    assert failures.holding_up([candidate(lastState={"terminated": {"exitCode": code}})], NOW) is None
