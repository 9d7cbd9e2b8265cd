"""ParityGate as users install it: our chart, with images by digest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from control_plane.client import Object
from suite.access import ROOT, Cluster, Image

CHART: Final = ROOT / "charts" / "paritygate"
NAMESPACE: Final = "paritygate-system"
LEASE: Final = "paritygate-operator"
_SMALL: Final = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "2Gi"}}
_SERVED: Final = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}


def values(images: Mapping[str, Image]) -> dict[str, Any]:
    """Values of the chart: images, and requests that let several migrations run on a node of two processors."""
    pinned = {
        name: {"repository": images[name].repository, "digest": images[name].digest}
        for name in ("operator", "worker", "server")
    }
    return {"images": pinned, "config": {"defaults": {"convert": _SMALL, "validation": _SMALL, "serving": _SERVED}}}


@dataclass(frozen=True)
class Release:
    """An installed chart."""

    cluster: Cluster
    name: str
    namespace: str

    @property
    def selector(self) -> str:
        """Labels of its pods."""
        return f"app.kubernetes.io/component=operator,app.kubernetes.io/instance={self.name}"

    def pods(self) -> list[Object]:
        """Its operators."""
        return self.cluster.api.list("Pod", self.namespace, labelSelector=self.selector)

    def leader(self) -> str:
        """Name of the pod that leads; empty = none does."""
        lease = self.cluster.api.find("Lease", LEASE, self.namespace)
        return str(lease["spec"].get("holderIdentity", "")) if lease else ""

    def logs(self, lines: int = 80) -> str:
        """The last lines of all its operators."""
        return self.cluster.kubectl(
            "logs", "-l", self.selector, f"--tail={lines}", "--prefix", namespace=self.namespace, check=False
        ).stdout


def install(
    cluster: Cluster, given: Mapping[str, Any], name: str = "paritygate", namespace: str = NAMESPACE, *, chart: str = ""
) -> Release:
    """`helm upgrade --install --wait` into a namespace that enforces `restricted`: it fails, or all is up."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}})
    cluster.helm(
        "upgrade", "--install", name, chart or str(CHART), "--namespace", namespace, "--wait", "--timeout", "5m",
        "--values", "-", given=given,
    )  # fmt: skip
    return Release(cluster, name, namespace)
