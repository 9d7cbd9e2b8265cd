"""The programs of a cluster and their command lines. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster.layout import (
    ADDRESS,
    KUBELET,
    NODE,
    OURS,
    PLUGINS,
    PORT,
    SERVICES,
    STORAGE_NAMESPACE,
    Layout,
)
from control_plane import flags

HEALTH_PORT: Final = 20244
"""Where kube-router says whether it is well."""
SERVER: Final = f"https://{ADDRESS}:{PORT}"
CLIENTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "kubelet": (f"system:node:{NODE}", ("system:nodes",)),
    "kube-proxy": ("system:kube-proxy", ()),
    "kube-scheduler": ("system:kube-scheduler", ()),
    "kube-controller-manager": ("system:kube-controller-manager", ()),
    "kubelet-client": ("kube-apiserver-kubelet-client", ("system:masters",)),
}
"""By file: the name and the groups of who has a certificate, as kubeadm gives them."""


@dataclass(frozen=True)
class Programs:
    """Where they are."""

    kubernetes: Path
    """One binary for etcd and all of Kubernetes: its first argument is the component."""
    coredns: Sequence[str]
    local_path: Path
    network_policies: Path


def commands(layout: Layout, programs: Programs, helper: str) -> dict[str, tuple[str, ...]]:
    """By component. `helper`: the image of the provisioner's pods."""
    ours = str(programs.kubernetes)
    return {
        "containerd": ("containerd", "--config", str(layout.path("containerd.toml")), "--log-level", "warn"),
        "etcd": (ours, "etcd", *flags.etcd(layout.folder)),
        "kube-apiserver": (ours, "kube-apiserver", *_server(layout)),
        "kube-controller-manager": (
            ours, "kube-controller-manager", *_client(layout, "kube-controller-manager"),
            *flags.controllers(layout.folder),
            f"--flex-volume-plugin-dir={PLUGINS}", "--use-service-account-credentials", f"--cluster-name={NODE}",
            "--kube-api-qps=200", "--kube-api-burst=400",
        ),
        "kube-scheduler": (ours, "kube-scheduler", *_client(layout, "kube-scheduler")),
        "kubelet": (
            ours, "kubelet", f"--kubeconfig={layout.kubeconfig('kubelet')}", f"--config={layout.path('kubelet.json')}",
            f"--root-dir={KUBELET}", f"--cert-dir={KUBELET}/pki", f"--hostname-override={NODE}", f"--node-ip={ADDRESS}",
            f"--node-labels={OURS}=true",
        ),
        "kube-proxy": (ours, "kube-proxy", f"--config={layout.path('kube-proxy.json')}"),
        "coredns": (*programs.coredns, "-conf", str(layout.path("Corefile"))),
        "local-path-provisioner": (
            str(programs.local_path), "start", "--config", str(layout.path("local-path.json")),
            "--kubeconfig", str(layout.kubeconfig("admin")), "--namespace", STORAGE_NAMESPACE,
            "--helper-image", helper, "--helper-pod-file", str(layout.path("helper-pod.json")),
            "--configmap-name", "local-path-config", "--service-account-name", "default",
        ),
        # Routes are the plug-in's and Services kube-proxy's: it does nothing but what policies say.
        "kube-router": (
            str(programs.network_policies), f"--kubeconfig={layout.kubeconfig('admin')}", f"--hostname-override={NODE}",
            "--run-firewall=true", "--run-router=false", "--run-service-proxy=false", "--enable-cni=false",
            "--enable-ipv6=false", f"--service-cluster-ip-range={SERVICES}", f"--health-port={HEALTH_PORT}",
            "--metrics-port=0",
        ),
    }  # fmt: skip


def _server(layout: Layout) -> tuple[str, ...]:
    files = (
        "--client-ca-file=ca.crt", "--kubelet-certificate-authority=ca.crt",
        "--kubelet-client-certificate=kubelet-client.crt", "--kubelet-client-key=kubelet-client.key",
    )  # fmt: skip
    return (
        *flags.server(layout.folder), *flags.inside(layout.folder, files), "--bind-address=0.0.0.0",
        f"--advertise-address={ADDRESS}", f"--secure-port={PORT}", "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction", "--kubelet-preferred-address-types=InternalIP",
    )  # fmt: skip


def _client(layout: Layout, who: str) -> tuple[str, ...]:
    return (f"--kubeconfig={layout.kubeconfig(who)}", "--leader-elect=false", "--secure-port=0")
