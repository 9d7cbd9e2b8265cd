"""Why a Job failed, or what holds it up, in words that say what to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from paritygate.api.artifacts import FailureClass, StageFailure
from paritygate.cluster.cache import CANCELLED, Object
from paritygate.cluster.manifests.jobs import FAILED, QUEUE

_PULLING: Final = {"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "RegistryUnavailable"}
_INVALID: Final = {"InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"}
CANDIDATE: Final = "candidate"
"""The sidecar that a validate Job judges."""
_PATIENCE: Final = timedelta(minutes=2)
"""How long a registry may stay away before the image is taken for missing."""
_MAX_MESSAGE: Final = 2048


def failure(kind: FailureClass, reason: str, message: str) -> StageFailure:
    """A failure whose message fits conditions."""
    return StageFailure(failure=kind, reason=reason, message=message[:_MAX_MESSAGE])


def configuration(reason: str, message: str) -> StageFailure:
    """Somebody must change something."""
    return failure(FailureClass.CONFIGURATION, reason, message)


def infrastructure(reason: str, message: str) -> StageFailure:
    """Worth another try."""
    return failure(FailureClass.INFRASTRUCTURE, reason, message)


def cancelled(job: Object) -> StageFailure | None:
    """Why we stopped the Job; None = we did not."""
    text = job["metadata"].get("annotations", {}).get(CANCELLED)
    try:
        return StageFailure.model_validate_json(text) if text else None
    except ValidationError:
        return configuration("InternalError", f"annotation {CANCELLED} of the Job is damaged: {text!r}")


def of_failed(job: Object, pods: Iterable[Object]) -> StageFailure:
    """Why a Job that Kubernetes calls failed did so. What the pods say goes before what the Job says."""
    condition: Object = next(
        (c for c in job["status"]["conditions"] if c["type"] == "Failed" and c["status"] == "True"), {}
    )
    if condition.get("reason") == "DeadlineExceeded":
        return configuration("DeadlineExceeded", "the Job ran longer than spec.jobs.deadline; raise it")
    for pod in pods:
        found = of_pod(pod)
        if found is not None:
            return found
    said = ": ".join(filter(None, (condition.get("reason"), condition.get("message"))))
    return infrastructure("PodLost", f"the pod is gone, and with it what it said; the Job says {said or 'nothing'}")


def of_pod(pod: Object) -> StageFailure | None:
    """Why a pod failed; None = it does not say."""
    status = pod.get("status", {})
    name = pod["metadata"]["name"]
    if status.get("reason") == "Evicted":
        return infrastructure("Evicted", f"pod {name} was evicted: {status.get('message', 'no message')}")
    for container, state in terminated(pod):
        found = _of_container(pod, container, state)
        if found is not None:
            return found
    disrupted = next((c for c in status.get("conditions", ()) if c["type"] == "DisruptionTarget"), None)
    if disrupted is not None and disrupted["status"] == "True":
        return infrastructure(
            "PodLost", f"pod {name} was taken down: {disrupted.get('message', disrupted.get('reason'))}"
        )
    if status.get("reason"):
        return infrastructure("PodLost", f"pod {name}: {status['reason']}: {status.get('message', '')}")
    return None


def terminated(pod: Object) -> Iterator[tuple[str, Object]]:
    """Name and end of each container that ended, in the order in which they run."""
    status = pod.get("status", {})
    for one in [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]:
        state = one.get("state", {}).get("terminated") or one.get("lastState", {}).get("terminated")
        if state:
            yield one["name"], state


def _of_container(pod: Object, container: str, state: Object) -> StageFailure | None:
    code = state.get("exitCode", 0)
    # A killed child has the same reason beside the parent's own status: reason goes first.
    if state.get("reason") == "OOMKilled":
        return _out_of_memory(pod, container)
    if code == 0:
        return None
    if code == FAILED:
        try:
            said = StageFailure.model_validate_json(state.get("message", ""))
        except ValidationError:
            return infrastructure("ProcessDied", f"container {container} failed, and why is not readable; see its log")
        return failure(said.failure, said.reason, f"{container}: {said.message}")
    where = f"kubectl logs -n {pod['metadata']['namespace']} {pod['metadata']['name']} -c {container}"
    said_in_log = state.get("message", "").strip()[-300:]
    return infrastructure(
        "ProcessDied",
        f"container {container} ended with status {code} ({state.get('reason', 'no reason')}) and without a result; "
        f"see {where}{': ' + said_in_log if said_in_log else ''}",
    )


def _out_of_memory(pod: Object, container: str) -> StageFailure:
    spec = pod.get("spec", {})
    one: Object = next(
        (c for c in [*spec.get("initContainers", ()), *spec["containers"]] if c["name"] == container), {}
    )
    limit = one.get("resources", {}).get("limits", {}).get("memory")
    job = pod["metadata"].get("labels", {}).get("paritygate.dev/job", "convert")
    field = "spec.serving.resources" if container in {CANDIDATE, "server"} else f"spec.jobs.{job}.resources"
    if limit is None:
        return infrastructure("OutOfMemory", f"container {container} was killed when its node ran out of memory")
    return configuration(
        "OutOfMemory",
        f"container {container} needed more than its limit of {limit}; ask for {doubled(limit)}: "
        f"{field}.limits.memory: {doubled(limit)}",
    )


def doubled(quantity: str) -> str:
    """Twice a memory quantity, in its own unit."""
    number = quantity.rstrip("KMGTPEkim")
    return f"{float(number) * 2:g}{quantity[len(number) :]}"


def suspended(job: Object) -> StageFailure:
    """What holds up a Job that somebody else suspended: Kueue does until its queue has room."""
    metadata = job["metadata"]
    queue = metadata.get("labels", {}).get(QUEUE)
    who = f"queue {queue} of Kueue has no room for it yet" if queue else "somebody suspended it, as Kueue does"
    look = f"kubectl describe -n {metadata['namespace']} job {metadata['name']}"
    return infrastructure("JobSuspended", f"Job {metadata['name']} is suspended: {who}; {look}")


def holding_up(pods: Iterable[Object], now: datetime) -> StageFailure | None:
    """What holds up a pod that has not ended; None = nothing that is known."""
    for pod in pods:
        found = _unscheduled(pod) or next(_waiting(pod, now), None) or _hopeless_candidate(pod)
        if found is not None:
            return found
    return None


def _hopeless_candidate(pod: Object) -> StageFailure | None:
    """Why the candidate's server ends however often it is started again, while the stage that asks it waits for it."""
    ends = (_of_container(pod, name, state) for name, state in terminated(pod) if name == CANDIDATE)
    return next((found for found in ends if found and found.failure is FailureClass.CONFIGURATION), None)


def _unscheduled(pod: Object) -> StageFailure | None:
    conditions = pod.get("status", {}).get("conditions", ())
    scheduled = next((c for c in conditions if c["type"] == "PodScheduled" and c["status"] == "False"), None)
    if scheduled is None or scheduled.get("reason") != "Unschedulable":
        return None
    return infrastructure("CapacityMissing", f"no node takes the pod: {scheduled.get('message', 'no message')}")


def _waiting(pod: Object, now: datetime) -> Iterator[StageFailure]:
    status = pod.get("status", {})
    since = moment(status.get("startTime") or pod["metadata"].get("creationTimestamp"))
    statuses: list[Object] = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    for one in statuses:
        waiting: Object = one.get("state", {}).get("waiting") or {}
        reason, said = waiting.get("reason"), waiting.get("message", "no message")
        if reason in _PULLING:
            hopeless = reason == "ErrImageNeverPull" or (since is not None and now - since > _PATIENCE)
            kind = FailureClass.CONFIGURATION if hopeless else FailureClass.INFRASTRUCTURE
            yield failure(
                kind,
                "ImageUnavailable",
                f"container {one['name']}: image {one.get('image', '?')} cannot be pulled ({reason}): {said}; "
                "check its name, and the secrets that pull it",
            )
        elif reason == "InvalidImageName":
            yield configuration("ImageUnavailable", f"container {one['name']}: {one.get('image')!r} is no image name")
        elif reason in _INVALID:
            yield configuration("ContainerInvalid", f"container {one['name']} cannot be created: {said}")


def moment(text: str | None) -> datetime | None:
    """A metav1.Time."""
    return datetime.fromisoformat(text) if text else None
