"""The convert Job and the validate Job (DESIGN.md §2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from paritygate.api.base import duration
from paritygate.api.orders import JobOrder
from paritygate.api.spec import JobPod, ModelMigrationSpec, Resources
from paritygate.cluster.manifests import pods
from paritygate.cluster.manifests.pods import Object, Owner
from paritygate.cluster.settings import Defaults

FAILED: Final = 3
"""Exit status of a container that wrote its StageFailure."""
QUEUE: Final = "kueue.x-k8s.io/queue-name"
"""Label by which Kueue takes a Job for its own, and suspends it until there is room."""
BACKSTOP_SECONDS: Final = 120
"""The planner ends a Job at its deadline and keeps its messages; Kubernetes would delete them, and comes later."""
_WORKER: Final = ("python", "-m", "paritygate.worker")
_AGENT: Final = "/inputs/paritygate-agent.pyz"
_UNLESS_DONE: Final = {"name": "PARITYGATE_UNLESS", "value": pods.DONE}
_UNLESS_CAPTURED: Final = {"name": "PARITYGATE_UNLESS", "value": f"{pods.DONE}:/inputs/captured"}
_TERMINATION: Final = {"name": "PARITYGATE_TERMINATION", "value": pods.TERMINATION}


@dataclass(frozen=True)
class JobPlan:
    """One attempt of a Job."""

    owner: Owner
    spec: ModelMigrationSpec
    order: JobOrder
    digest: str
    """Identity of what it makes."""
    attempt: int
    worker: str
    """Image, by digest."""
    server: str
    store: pods.StoreAccess
    defaults: Defaults
    serving_selector: Mapping[str, str]

    @property
    def stage(self) -> str:
        """Part of names and value of the label."""
        return self.order.job.lower()

    @property
    def name(self) -> str:
        """Of the Job."""
        return pods.child_name(self.owner, self.stage, self.digest, self.attempt)


def job(plan: JobPlan) -> Object:
    """The Job of an attempt."""
    parts = _convert(plan) if plan.order.job == "Convert" else _validate(plan)
    jobs = plan.spec.jobs
    labels = {**plan.owner.labels(), pods.JOB: plan.stage, pods.ATTEMPT: str(plan.attempt)}
    queue = {QUEUE: jobs.queue_name} if jobs.queue_name else {}
    spec = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 10,
        **({"serviceAccountName": jobs.service_account_name} if jobs.service_account_name else {}),
        **({"runtimeClassName": jobs.runtime_class_name} if jobs.runtime_class_name else {}),
        **parts,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "namespace": plan.owner.namespace,
            "name": plan.name,
            "labels": {**labels, **queue},
            "annotations": {pods.DIGEST: plan.digest, pods.GENERATION: str(plan.owner.generation)},
            "ownerReferences": [plan.owner.reference()],
        },
        "spec": {
            # Attempts are the planner's: a Job is one of them.
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": int(duration(jobs.deadline).total_seconds()) + BACKSTOP_SECONDS,
            "podFailurePolicy": {"rules": _failure_rules([c["name"] for c in _containers(parts)])},
            "template": pods.pod_template(labels, spec),
        },
    }


def _containers(parts: Object) -> list[Object]:
    return [*parts["initContainers"], *parts["containers"]]


def _failure_rules(names: Sequence[str]) -> list[Object]:
    """A drained node costs no attempt; a container that says why it failed ends the Job, and is named."""
    disrupted = {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    return [
        disrupted,
        *(
            {"action": "FailJob", "onExitCodes": {"containerName": name, "operator": "In", "values": [FAILED]}}
            for name in names
        ),
    ]


def _convert(plan: JobPlan) -> Object:
    """In order: fetch ─▶ capture (source's image) ─▶ convert ─▶ publish. Each writes to a volume of its own."""
    limit = plan.defaults.scratch
    work = plan.spec.jobs.convert
    resources = work.resources or plan.defaults.convert
    inputs, captured = pods.mount("inputs", read_only=True), pods.mount("captured", read_only=True)
    order = pods.order_variable(plan.order)
    environment = plan.spec.source.environment
    image = environment.image if environment else None
    volumes, mounts = pods.input_claims(tuple(plan.spec.input_uris.values()), plan.store)
    fetch = pods.container(
        "fetch", plan.worker, [*_WORKER, "fetch"], env=[order, _TERMINATION],
        mounts=[pods.mount("inputs"), *mounts], resources=resources,
    )  # fmt: skip
    capture = pods.container(
        "capture", image.name if image else plan.worker,
        [*(image.command if image else ("python",)), _AGENT, "capture",
         "--request", "/inputs/capture.json", "--out", "/captured/out"],
        env=[_UNLESS_CAPTURED, _TERMINATION, *([e.to_dict() for e in image.env] if image else [])],
        mounts=[inputs, pods.mount("captured")], resources=resources, user=image.run_as_user if image else None,
    )  # fmt: skip
    convert = pods.container(
        "convert", plan.worker, [*_WORKER, "convert", "--request", "/inputs/convert.json", "--out", "/converted/out"],
        env=[_UNLESS_DONE, _TERMINATION], mounts=[inputs, captured, pods.mount("converted")], resources=resources,
    )  # fmt: skip
    publish = pods.container(
        "publish", plan.worker, [*_WORKER, "publish"], env=[order, _TERMINATION], resources=resources,
        mounts=[inputs, captured, pods.mount("converted", read_only=True)],
    )  # fmt: skip
    secrets = [{"name": name} for name in image.pull_secrets] if image else []
    return {
        **({"imagePullSecrets": secrets} if secrets else {}),
        **_selected(work, {}),
        "initContainers": [plan.store.given_to(fetch), capture, convert],
        "containers": [plan.store.given_to(publish)],
        "volumes": [
            *(pods.empty(v, limit) for v in ("inputs", "captured", "converted", "scratch")),
            *plan.store.volumes,
            *volumes,
        ],
    }


def _validate(plan: JobPlan) -> Object:
    """In order: fetch ─▶ [candidate, as it will serve] ◀─ validate ─▶ publish."""
    limit = plan.defaults.scratch
    work = plan.spec.jobs.validate_
    serving = plan.spec.serving.resources or plan.defaults.serving
    resources = work.resources or plan.defaults.validation
    order = pods.order_variable(plan.order)
    fetch = pods.container(
        "fetch", plan.worker, [*_WORKER, "fetch"], env=[order, _TERMINATION],
        mounts=[pods.mount("inputs"), pods.mount("model")], resources=resources,
    )  # fmt: skip
    candidate = {**server_container("candidate", plan.server, serving, golden=False), "restartPolicy": "Always"}
    validate = pods.container(
        "validate", plan.worker, [*_WORKER, "validate", "--request", "/inputs/validate.json", "--out", "/judged/out"],
        env=[_UNLESS_DONE, _TERMINATION, {"name": "PARITYGATE_WAIT_READY", "value": "300"}],
        mounts=[pods.mount("inputs", read_only=True), pods.mount("model", read_only=True), pods.mount("judged")],
        resources=resources,
    )  # fmt: skip
    publish = pods.container(
        "publish", plan.worker, [*_WORKER, "publish"], env=[order, _TERMINATION], resources=resources,
        mounts=[pods.mount("inputs", read_only=True), pods.mount("judged", read_only=True)],
    )  # fmt: skip
    return {
        **_selected(work, plan.serving_selector),
        "initContainers": [plan.store.given_to(fetch), candidate, validate],
        "containers": [plan.store.given_to(publish)],
        "volumes": [*(pods.empty(v, limit) for v in ("inputs", "model", "judged", "scratch")), *plan.store.volumes],
    }


def _selected(work: JobPod, always: Mapping[str, str]) -> Object:
    selector = {**work.node_selector, **always}
    return {"nodeSelector": selector} if selector else {}


def server_container(name: str, image: str, resources: Resources, *, golden: bool) -> Object:
    """The server as it is judged and as it serves: same image, arguments and resources.

    What serves also answers golden rows before it is ready, and drains; neither changes an answer.
    """
    command = ["python", "-m", "paritygate.server", "--model", "/model/candidate", "--host", "0.0.0.0"]  # noqa: S104 - in a pod of its own
    command += ["--port", str(pods.PORT), "--drain-seconds", str(pods.DRAIN_SECONDS) if golden else "0"]
    command += ["--golden", "/model/verdict"] if golden else []
    return pods.container(
        name, image, command, env=[_TERMINATION], mounts=[pods.mount("model", read_only=True)], resources=resources
    )
