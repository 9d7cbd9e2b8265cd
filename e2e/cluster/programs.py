"""The Go programs of a cluster for tests. `python -m cluster.programs` builds what is missing.

They are kept in the user's cache; see `control_plane.binaries`.
"""

import sys
from pathlib import Path
from typing import Final

from control_plane import binaries
from control_plane.binaries import NotBuilt, NoToolchain, Program

_COMMAND: Final = "make e2e"
# It is built in the module of Kubernetes, so that both share what is compiled.
_LOCAL_PATH: Final = Program(
    name="local-path-provisioner",
    folder="control-plane",
    title="the provisioner of volumes",
    command=_COMMAND,
    time="some seconds after Kubernetes, a minute and a half alone",
    package="github.com/rancher/local-path-provisioner",
    sources=("go.mod", "go.sum"),
)
_S3: Final = Program(
    name="versitygw",
    folder="object-store",
    title="the S3 server",
    command=_COMMAND,
    time="about a minute",
    package="github.com/versity/versitygw/cmd/versitygw",
    sources=("go.mod", "go.sum"),
)
_NETWORK_POLICIES: Final = Program(
    name="kube-router",
    folder="network-policies",
    title="what enforces NetworkPolicies",
    command=_COMMAND,
    time="about two minutes",
    package="github.com/cloudnativelabs/kube-router/v2/cmd/kube-router",
    sources=("go.mod", "go.sum"),
)
_PAUSE: Final = Program(
    name="pause",
    folder="pause",
    title="what holds the namespaces of pods",
    command=_COMMAND,
    time="some seconds",
    sources=("go.mod", "main.go"),
)


def kubernetes() -> Path:
    """Every process of Kubernetes, etcd and CoreDNS; the first argument says which. NoToolchain, NotBuilt."""
    return binaries.binary()


def coredns() -> list[str]:
    """The beginning of CoreDNS's command line. NoToolchain, NotBuilt: it is not there."""
    return [str(kubernetes()), "coredns"]


def local_path() -> Path:
    """The provisioner of volumes on the node's disk, local-path-provisioner. NoToolchain, NotBuilt."""
    return _LOCAL_PATH.path


def network_policies() -> Path:
    """What enforces NetworkPolicies on a node, kube-router. NoToolchain, NotBuilt: it is not there."""
    return _NETWORK_POLICIES.path


def s3() -> Path:
    """The S3 server, versitygw. NoToolchain, NotBuilt: it is not there."""
    return _S3.path


def pause() -> Path:
    """What holds a pod's namespaces. NoToolchain, NotBuilt: it is not there."""
    return _PAUSE.path


def build_for_images() -> tuple[Path, Path]:
    """Builds what images consist of: the S3 server and what holds a pod's namespaces. NoToolchain, NotBuilt."""
    return _S3.build(), _PAUSE.build()


def build() -> list[Path]:
    """Builds all that is missing. NoToolchain, NotBuilt: something cannot be built."""
    return [binaries.build(), _LOCAL_PATH.build(), _NETWORK_POLICIES.build(), *build_for_images()]


def main() -> int:
    """Builds, and says where the programs are. Exit status 1: something cannot be built."""
    try:
        for path in build():
            print(path)
    except (NoToolchain, NotBuilt) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
