"""What is worth knowing when a scenario fails: the state of the cluster, and what was said in it."""

from __future__ import annotations

from collections.abc import Iterator

from suite.access import Cluster
from suite.release import NAMESPACE, Release

_SECONDS = 20.0
"""For each question: a cluster that does not answer is not asked on, and the failure is told without."""
_KINDS = "modelmigrations,pods,jobs,deployments,replicasets,services,endpointslices,pvc"


def gathered(cluster: Cluster) -> Iterator[tuple[str, str]]:
    """Headings with text: for each namespace of a scenario, then the operator's."""
    for namespace in (*cluster.namespaces, NAMESPACE):
        yield f"objects of {namespace}", _said(cluster, namespace, "get", _KINDS, "-o", "wide", "--ignore-not-found")
        yield f"events of {namespace}", _said(cluster, namespace, "get", "events", "--sort-by=.lastTimestamp")
    for namespace in cluster.namespaces:
        yield f"migrations of {namespace}", _said(cluster, namespace, "describe", "modelmigrations")
        for pod in cluster.api.list("Pod", namespace):
            if _is_suspicious(pod):
                name = pod["metadata"]["name"]
                yield (
                    f"logs of {namespace}/{name}",
                    _said(cluster, namespace, "logs", name, "--all-containers", "--prefix", "--tail=60"),
                )
    yield "logs of the operator", Release(cluster, "paritygate", NAMESPACE).logs()


def _is_suspicious(pod: dict) -> bool:
    status = pod.get("status", {})
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    return (
        status.get("phase") in {"Failed", "Pending", "Unknown"}
        or any(one.get("restartCount", 0) for one in containers)
        or any(one.get("state", {}).get("terminated", {}).get("exitCode") for one in containers)
    )


def _said(cluster: Cluster, namespace: str, *arguments: str) -> str:
    ended = cluster.kubectl(*arguments, namespace=namespace, check=False, seconds=_SECONDS)
    return ended.stdout + ended.stderr
