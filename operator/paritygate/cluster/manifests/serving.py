"""Serving objects: a Deployment for each revision, and the Service whose selector points to the stable one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from paritygate.api.orders import JobOrder
from paritygate.api.spec import DeletionPolicy, ModelMigrationSpec, Serving
from paritygate.cluster.manifests import pods
from paritygate.cluster.manifests.jobs import server_container
from paritygate.cluster.manifests.pods import Object, Owner
from paritygate.cluster.settings import Defaults
from paritygate.core.actions import Grounds

CANDIDATE: Final = "paritygate.dev/candidate-digest"
RUNTIME: Final = "paritygate.dev/runtime-digest"
REPORT: Final = "paritygate.dev/report-digest"
OWNER_UID: Final = "paritygate.dev/migration-uid"
PROMOTED_AT: Final = "paritygate.dev/promoted-at"
DEFAULT_REPLICAS: Final = 2
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

    @property
    def serving(self) -> Serving:
        """What the migration asks for."""
        return self.spec.serving

    def metadata(self, *, stamped: bool = True) -> Object:
        """Head of each object of the revision."""
        tried = {} if self.promoted else {"ownerReferences": [self.owner.reference()]}
        return {
            "namespace": self.owner.namespace,
            "name": self.name,
            "labels": {**self.owner.labels(), pods.REVISION: self.name},
            **({"annotations": stamps(self.grounds)} if stamped else {}),
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


def owners(owner: Owner, policy: DeletionPolicy) -> Object:
    """Owner references of what serves: under `Retain` it outlives its migration."""
    return {"ownerReferences": [owner.reference()]} if policy is DeletionPolicy.DELETE else {}


def objects(plan: RevisionPlan) -> tuple[Object, ...]:
    """Everything that a revision consists of, in the order of creation."""
    found = [deployment(plan), budget(plan)]
    if plan.serving.autoscaling is not None:
        found.append(autoscaler(plan))
    return tuple(found)


def deployment(plan: RevisionPlan) -> Object:
    """The pods of a revision. Its template is never changed afterwards: another template is another revision."""
    serving = plan.serving
    fetch = pods.container(
        "fetch", plan.worker, [*_WORKER, "fetch"], env=[pods.order_variable(plan.order)],
        mounts=[pods.mount("model")], resources=plan.defaults.serving,
    )  # fmt: skip
    server = {
        **server_container("server", plan.server, serving.resources or plan.defaults.serving, golden=True),
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
            "terminationGracePeriodSeconds": 60,
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
        "selector": {"matchLabels": {pods.REVISION: plan.name}},
        "revisionHistoryLimit": 0,
        "progressDeadlineSeconds": 600,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": template,
    }
    if serving.autoscaling is None:  # else the number belongs to the autoscaler
        spec["replicas"] = serving.replicas or DEFAULT_REPLICAS
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": plan.metadata(), "spec": spec}


def budget(plan: RevisionPlan) -> Object:
    """At most one replica is taken down on purpose at a time."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": plan.metadata(stamped=False),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {pods.REVISION: plan.name}}},
    }


def autoscaler(plan: RevisionPlan) -> Object:
    """The number of replicas by load."""
    asked = plan.serving.autoscaling
    if asked is None:
        raise ValueError("the migration asks for no autoscaling")
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": plan.metadata(stamped=False),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": plan.name},
            "minReplicas": asked.min_replicas,
            "maxReplicas": asked.max_replicas,
            "metrics": [metric.to_dict() for metric in asked.metrics],
        },
    }


def service(plan: RevisionPlan, name: str, promoted_at: str) -> Object:
    """The Service that clients use. Its selector is the pointer to the stable revision."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "namespace": plan.owner.namespace,
            "name": name,
            "labels": plan.owner.labels(),
            "annotations": {**stamps(plan.grounds), PROMOTED_AT: promoted_at},
            **owners(plan.owner, plan.spec.deletion_policy),
        },
        "spec": {
            "selector": {pods.REVISION: plan.name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        },
    }
