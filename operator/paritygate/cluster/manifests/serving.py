"""Serving objects: a Deployment for each revision, and the Service whose selector points to the stable one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from paritygate.api.artifacts import StageName
from paritygate.api.digests import digest_of
from paritygate.api.orders import JobOrder
from paritygate.api.spec import Autoscaling, ClaimTemplate, DeletionPolicy, ModelMigrationSpec, Serving
from paritygate.cluster.manifests import pods
from paritygate.cluster.manifests.jobs import server_container
from paritygate.cluster.manifests.pods import Object, Owner
from paritygate.cluster.settings import Defaults
from paritygate.core.actions import Grounds

CANDIDATE: Final = "paritygate.dev/candidate-digest"
RUNTIME: Final = "paritygate.dev/runtime-digest"
REPORT: Final = "paritygate.dev/report-digest"
VERDICT: Final = "paritygate.dev/verdict-digest"
"""Of the artefact with the golden rows: with the candidate, all that its pods fetch."""
OWNER_UID: Final = "paritygate.dev/migration-uid"
PROMOTED_AT: Final = "paritygate.dev/promoted-at"
CONTENT: Final = "paritygate.dev/content-digest"
"""Of what a Deployment runs, so that a change by somebody else is seen."""
SCALE: Final = "paritygate.dev/scale-digest"
"""What was asked for when the scale was last brought in line."""
RUNS: Final = ("name", "image", "command", "args", "env", "envFrom")
"""Fields of a container that say what it runs."""
_WORKER: Final = ("python", "-m", "paritygate.worker")


@dataclass(frozen=True)
class RevisionPlan:
    """A revision to bring up."""

    owner: Owner
    name: str
    spec: ModelMigrationSpec
    grounds: Grounds
    order: JobOrder
    worker: str
    server: str
    store: pods.StoreAccess
    defaults: Defaults
    promoted: bool
    """Whether the pointer is on it already: what serves may outlive its migration, what is only tried may not."""
    selector: Mapping[str, str]
    """Labels of the nodes that have processors of the class that was judged on."""
    replicas: int
    """To begin with."""

    @property
    def serving(self) -> Serving:
        """What the migration asks for."""
        return self.spec.serving

    def metadata(self) -> Object:
        """Head of its Deployment."""
        tried = {} if self.promoted else {"ownerReferences": [self.owner.reference()]}
        return {
            "namespace": self.owner.namespace,
            "name": self.name,
            "labels": {**self.owner.labels(), pods.REVISION: self.name},
            "annotations": {**stamps(self.grounds), **scale_stamp(self.serving)},
            **(tried or owners(self.owner, self.spec.deletion_policy)),
        }


def stamps(grounds: Grounds) -> dict[str, str]:
    """Why a revision may serve; stands on its Deployment, on its pods and on the Service that points to it."""
    return {
        CANDIDATE: grounds.candidate,
        RUNTIME: grounds.runtime,
        REPORT: grounds.report,
        OWNER_UID: grounds.uid,
    }


def content_digest(template: Object) -> str:
    """Of what pods of a template run: images, commands, variables and kind of processor.

    Sizes are left out: the API server writes them in other words than they came.
    """
    spec = template["spec"]
    runs = [
        {key: one[key] for key in RUNS if one.get(key)}
        for one in (*spec.get("initContainers", ()), *spec["containers"])
    ]
    return digest_of({"containers": runs, "nodes": spec.get("nodeSelector") or {}})


def altered(deployment: Object) -> bool:
    """Whether somebody changed what a revision runs."""
    stamped = deployment["metadata"].get("annotations", {}).get(CONTENT)
    return bool(stamped != content_digest(deployment["spec"]["template"]))


def strayed(there: Object, body: Object) -> bool:
    """Whether a Deployment runs something else than it was rendered with, or lost what it says of itself."""
    says = there["metadata"].get("annotations", {})
    lost = any(says.get(key) != value for key, value in body["metadata"]["annotations"].items() if key != SCALE)
    return lost or altered({**there, "metadata": body["metadata"]})


def scale_digest(serving: Serving) -> str:
    """Of what the migration asks for about the number of replicas."""
    return digest_of({key: value for key, value in serving.to_dict().items() if key in {"replicas", "autoscaling"}})


def scale_stamp(serving: Serving) -> dict[str, str]:
    """Says that the scale is in line; an autoscaler is made only for what owns the traffic, so that it is not yet."""
    return {} if serving.autoscaling is not None else {SCALE: scale_digest(serving)}


def in_line(deployment: Object, spec: ModelMigrationSpec) -> bool:
    """Whether scale and owner of what serves are as the spec asks. A number that it does not state is nobody's."""
    metadata, asked = deployment["metadata"], spec.serving
    owned = any(r.get("controller") for r in metadata.get("ownerReferences", ()))
    return (
        metadata.get("annotations", {}).get(SCALE) == scale_digest(asked)
        and owned is (spec.deletion_policy is DeletionPolicy.DELETE)
        and asked.replicas in {None, deployment["spec"].get("replicas", 1)}
    )


def scale_patch(deployment: Object, spec: ModelMigrationSpec, owner: Owner) -> Object:
    """The merge patch that brings a Deployment in line."""
    replicas = {"spec": {"replicas": spec.serving.replicas}} if spec.serving.replicas is not None else {}
    metadata = {
        "uid": deployment["metadata"]["uid"],
        "annotations": {SCALE: scale_digest(spec.serving)},
        "ownerReferences": owners(owner, spec.deletion_policy).get("ownerReferences"),
    }
    return {"metadata": metadata, **replicas}


def owners(owner: Owner, policy: DeletionPolicy) -> Object:
    """Owner references of what serves: under `Retain` it outlives its migration."""
    return {"ownerReferences": [owner.reference()]} if policy is DeletionPolicy.DELETE else {}


def claim(owner: Owner, template: ClaimTemplate, policy: DeletionPolicy) -> Object:
    """The claim of a template. Under `Retain` it stays: what serves reads from it whenever a pod starts."""
    wanted = {"storageClassName": template.storage_class_name} if template.storage_class_name else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "namespace": owner.namespace,
            "name": pods.template_claim(owner.name),
            "labels": owner.labels(),
            **owners(owner, policy),
        },
        "spec": {
            "accessModes": [mode.value for mode in template.access_modes],
            "resources": {"requests": {"storage": template.size}},
            **wanted,
        },
    }


def deployment(plan: RevisionPlan) -> Object:
    """The pods of a revision. Its template is never changed afterwards: another template is another revision."""
    # Of both: a pod is promised the most that one of its containers asks for.
    resources = plan.serving.resources or plan.defaults.serving
    fetch = pods.container(
        "fetch", plan.worker, [*_WORKER, "fetch"], env=[pods.order_variable(plan.order)],
        mounts=[pods.mount("model")], resources=resources,
    )  # fmt: skip
    server = {
        **server_container("server", plan.server, resources, golden=True),
        "ports": [{"name": "http", "containerPort": pods.PORT, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/v2/health/ready", "port": "http"}, "periodSeconds": 2, "timeoutSeconds": 2,
            "failureThreshold": 2,
        },
        "livenessProbe": {
            "httpGet": {"path": "/v2/health/live", "port": "http"}, "periodSeconds": 10, "timeoutSeconds": 5,
            "failureThreshold": 6,
        },
    }  # fmt: skip
    template = pods.pod_template(
        {**plan.owner.labels(), pods.REVISION: plan.name},
        {
            **({"nodeSelector": dict(plan.selector)} if plan.selector else {}),
            "terminationGracePeriodSeconds": pods.GRACE_SECONDS,
            "initContainers": [plan.store.given_to(fetch)],
            "containers": [server],
            "volumes": [pods.empty("model", plan.defaults.scratch), pods.empty("scratch", "1Gi"), *plan.store.volumes],
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": "kubernetes.io/hostname",
                    "whenUnsatisfiable": "ScheduleAnyway",
                    "labelSelector": {"matchLabels": {pods.REVISION: plan.name}},
                }
            ],
        },
    )
    template["metadata"]["annotations"] = stamps(plan.grounds)
    spec: Object = {
        "replicas": plan.replicas,
        "selector": {"matchLabels": {pods.REVISION: plan.name}},
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": template,
    }
    metadata = plan.metadata()
    metadata["annotations"][CONTENT] = content_digest(template)
    metadata["annotations"][VERDICT] = plan.order.artefacts[StageName.VALIDATE]
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


def budget(owner: Owner, name: str, policy: DeletionPolicy) -> Object:
    """At most one replica of the revision `name`, which serves, is taken down on purpose at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {
            "namespace": owner.namespace,
            "name": name,
            "labels": {**owner.labels(), pods.REVISION: name},
            **owners(owner, policy),
        },
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {pods.REVISION: name}}},
    }


def autoscaler(asked: Autoscaling, owner: Owner, name: str, policy: DeletionPolicy) -> Object:
    """The number of replicas by load, for the revision `name` that owns the traffic: without any it would shrink."""
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "namespace": owner.namespace,
            "name": name,
            "labels": {**owner.labels(), pods.REVISION: name},
            **owners(owner, policy),
        },
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": asked.min_replicas,
            "maxReplicas": asked.max_replicas,
            "metrics": [metric.to_dict() for metric in asked.metrics],
        },
    }


def service(  # noqa: PLR0913, PLR0917 - what a pointer says
    owner: Owner, name: str, revision: str, grounds: Grounds, promoted_at: str, policy: DeletionPolicy
) -> Object:
    """A Service that clients use. Its selector is the pointer to the stable revision."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": owner.namespace,
            "name": name,
            "labels": owner.labels(),
            "annotations": {**stamps(grounds), PROMOTED_AT: promoted_at},
            **owners(owner, policy),
        },
        "spec": {
            "selector": {pods.REVISION: revision},
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }
