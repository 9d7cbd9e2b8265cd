"""The configuration files of a cluster's parts. Pure: what they say follows from the arguments."""

import json
from pathlib import Path
from typing import Any, Final

from cluster.layout import (
    ADDRESS,
    CONTAINERD,
    DNS,
    DOMAIN,
    NODE,
    NODES,
    PLUGINS,
    PODS,
    SERVICES,
    VOLUMES,
    Layout,
)

NETWORK_PLUGINS: Final = "/usr/lib/cni"
"""Where Debian puts them."""
KERNEL: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}
"""What a kubelet sets for the whole machine. It is shown these values instead, and so has nothing to set."""


def files(layout: Layout, pause: str, helper: str) -> dict[str, str]:
    """All files by name. `pause`, `helper`: images of sandboxes, and of pods that make and remove volumes' folders."""
    return {
        "containerd.toml": containerd(layout, pause),
        "cni/10-pods.conflist": json.dumps(network(), indent=1),
        "kubelet.json": json.dumps(kubelet(layout), indent=1),
        "kube-proxy.json": json.dumps(proxy(layout), indent=1),
        "Corefile": corefile(layout.kubeconfig("admin")),
        "local-path.json": json.dumps({"nodePathMap": [{"node": NODE, "paths": [VOLUMES]}]}),
        "helper-pod.json": json.dumps(helper_pod(helper)),
        "resolv.conf": f"nameserver {ADDRESS}\nsearch svc.{DOMAIN} {DOMAIN}\noptions timeout:2 attempts:2\n",
        "node-resolv.conf": "# What pods inherit: no server and no domain of the machine.\n",
        "edge.nft": edge(),
    }


def containerd(layout: Layout, pause: str) -> str:
    """containerd: everything that it would put elsewhere on the machine stays in the node's own /var/lib and /run."""
    return f"""version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
temp = "{layout.path("tmp")}"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{CONTAINERD}"

[plugins."io.containerd.internal.v1.opt"]
path = "/var/lib/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
# Without CAP_SYS_RESOURCE, as in many containers and virtual machines, sandboxes would not start.
restrict_oom_score_adj = true
# It would load a profile into the machine's kernel.
disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{NETWORK_PLUGINS}"
conf_dir = "{layout.path("cni")}"
"""


def network() -> dict[str, Any]:
    """Pods' network. Every pod is a routed host of its own, so that Services also work within the one node."""
    addresses = {"type": "host-local", "ranges": [[{"subnet": PODS}]], "routes": [{"dst": "0.0.0.0/0"}]}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": addresses}]}


def kubelet(layout: Layout) -> dict[str, Any]:
    """KubeletConfiguration. What is not set is as on any node."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.path("ca.crt"))},
        },
        "tlsCertFile": str(layout.path("kubelet-server.crt")),
        "tlsPrivateKeyFile": str(layout.path("kubelet-server.key")),
        "address": ADDRESS,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
        "clusterDNS": [DNS],
        "clusterDomain": DOMAIN,
        "resolvConf": str(layout.path("node-resolv.conf")),
        "volumePluginDir": PLUGINS,
        "podLogsDir": "/var/log/pods",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": layout.cgroup,
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "makeIPTablesUtilChains": False,
        # A full disk of the machine is not for tests to find out about; images cannot be pulled a second time.
        "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        # A full emptyDir is then noticed within 20 seconds instead of a minute and a half.
        "volumeStatsAggPeriod": "10s",
        # Else operators that tests kill are away for minutes.
        "crashLoopBackOff": {"maxContainerRestartPeriod": "5s"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
    }


def proxy(layout: Layout) -> dict[str, Any]:
    """KubeProxyConfiguration."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(layout.kubeconfig("kube-proxy"))},
        "hostnameOverride": NODE,
        "mode": "nftables",
        "clusterCIDR": PODS,
        "oomScoreAdj": 0,
        # The table of connections is the whole machine's to size.
        "conntrack": {"maxPerCore": 0, "min": 0},
    }


def corefile(kubeconfig: Path) -> str:
    """CoreDNS: names of the cluster, and for every other that it does not exist, at once: nothing can be asked."""
    return f"""{DOMAIN}:53 in-addr.arpa:53 ip6.arpa:53 {{
    errors
    kubernetes {DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods disabled
        ttl 5
    }}
    cache 5
}}
.:53 {{
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def helper_pod(image: str) -> dict[str, Any]:
    """The pod by which the provisioner makes and removes volumes' folders, less what it fills in itself."""
    container = {"name": "helper", "image": image, "imagePullPolicy": "IfNotPresent"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "helper"}, "spec": spec}


def edge() -> str:
    """A rule of nftables. There is no way out of the network; who tries one is told so at once, and need not wait."""
    inside = f"{NODES}, {PODS}, {SERVICES}, 127.0.0.0/8"
    chains = "".join(
        f"""
    chain {hook} {{
        type filter hook {hook} priority 100; policy accept;
        ip daddr != {{ {inside} }} reject with icmp type admin-prohibited
    }}"""
        for hook in ("output", "forward")
    )
    return f"table ip paritygate-edge {{{chains}\n}}\n"


def kubeconfig(layout: Layout, server: str, who: str) -> str:
    """A kubeconfig file of a component that has a certificate."""
    user = {"client-certificate": str(layout.path(f"{who}.crt")), "client-key": str(layout.path(f"{who}.key"))}
    cluster = {"server": server, "certificate-authority": str(layout.path("ca.crt"))}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "node",
            "clusters": [{"name": "node", "cluster": cluster}],
            "users": [{"name": who, "user": user}],
            "contexts": [{"name": "node", "context": {"cluster": "node", "user": who}}],
        }
    )
