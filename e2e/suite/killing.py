"""SIGKILL to a container's processes, as the kernel sends it: from outside, as nothing within a container can."""

from __future__ import annotations

from typing import Final

from suite import pods
from suite.access import Cluster, Image

NAMESPACE: Final = "e2e-node"
_NAME: Final = "killer"
_SCRIPT: Final = """
import os, signal, sys
killed = 0
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if sys.argv[1] in open(f"/proc/{pid}/cgroup").read():
            os.kill(int(pid), signal.SIGKILL)
            killed += 1
    except OSError:
        continue
print(killed)
"""


class Killer:
    """A pod that sees the node's processes."""

    def __init__(self, cluster: Cluster, image: Image) -> None:
        self._cluster = cluster
        api = cluster.api
        labels = {"pod-security.kubernetes.io/enforce": "privileged"}
        cluster.has(NAMESPACE)
        api.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}})
        api.until("ServiceAccount", "default", NAMESPACE, lambda _: True)
        if api.find("Pod", _NAME, NAMESPACE) is None:
            pod = pods.restricted(_NAME, NAMESPACE, image.reference, ["sleep", "infinity"], hostPID=True)
            pod["spec"]["securityContext"] = {"runAsUser": 0}
            pod["spec"]["containers"][0]["securityContext"] = {"capabilities": {"drop": ["ALL"], "add": ["KILL"]}}
            api.create(pod)
        cluster.kubectl("wait", "--for=condition=Ready", f"pod/{_NAME}", "--timeout=60s", namespace=NAMESPACE)

    def __call__(self, namespace: str, pod: str, container: str | None = None) -> None:
        """Kills all processes of a container, by default the pod's first. AssertionError: there were none."""
        statuses = self._cluster.api.get("Pod", pod, namespace)["status"]["containerStatuses"]
        named = next(s for s in statuses if container in {None, s["name"]})
        identity = named["containerID"].rpartition("/")[2]
        command = ("exec", _NAME, "--", "python3", "-c", _SCRIPT, identity)
        killed = int(self._cluster.kubectl(*command, namespace=NAMESPACE).stdout)
        assert killed, f"container {named['name']} of pod {pod} had no processes"
