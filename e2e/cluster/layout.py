"""Where things are in a cluster of one node: addresses in its network, files in its folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PREFIX: Final = "paritygate-cluster-"
NODE: Final = "node"
OURS: Final = "paritygate.dev/cluster-for-tests"
"""The label that tells this node from those of clusters that are not of our making."""
ADDRESS: Final = "10.98.0.1"
"""The node's. Its network ends at this machine's edge, so every cluster has the same addresses."""
PORT: Final = 6443
NODES: Final = "10.98.0.0/24"
PODS: Final = "10.244.0.0/16"
SERVICES: Final = "10.96.0.0/16"
FIRST_SERVICE: Final = "10.96.0.1"
"""What Kubernetes gives its own API server's Service."""
DNS: Final = "10.96.0.10"
DOMAIN: Final = "cluster.local"
STORAGE_CLASS: Final = "local-path"
STORAGE_NAMESPACE: Final = "local-path-storage"

CONTAINERD: Final = "/run/containerd/containerd.sock"
"""Its socket, as the node sees it: the node's /run is its own."""
KUBELET: Final = "/var/lib/kubelet"
PLUGINS: Final = f"{KUBELET}/volume-plugins"
VOLUMES: Final = "/var/lib/local-path"

IMAGES: Final = "images.json"
"""In the folder: what `python -m cluster.images` wrote."""
LOGS: Final = "keep-logs"
"""In the folder: where components' logs are put when the cluster ends."""
# What the node writes into its folder, for the daemon.
PID: Final = "pid"
READY: Final = "node.ready"
FAILURE: Final = "node.failure"


@dataclass(frozen=True)
class Layout:
    """Files of one cluster."""

    folder: Path

    @property
    def cgroup(self) -> str:
        """Where its pods' control groups hang, in every hierarchy."""
        return f"/{self.folder.name}"

    def path(self, name: str) -> Path:
        """A file of the folder."""
        return self.folder / name

    def log(self, component: str) -> Path:
        """What a component says."""
        return self.folder / "logs" / f"{component}.log"

    def kubeconfig(self, who: str) -> Path:
        """The credentials of a component; `admin` may do everything."""
        return self.folder / f"{who}.kubeconfig"


def tell(path: Path, content: str) -> None:
    """Writes a file whole or not at all."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    unfinished.write_text(content)
    unfinished.rename(path)
