"""What a cluster on this machine alone needs of it: Linux, root, and a few packages of Debian's or Ubuntu's."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from cluster import builders
from cluster.config import NETWORK_PLUGINS
from cluster.problems import Unavailable

NEEDED: Final = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    f"{NETWORK_PLUGINS}/ptp": "containernetworking-plugins",
    "nft": "nftables",
    "conntrack": "conntrack",
    "ipset": "ipset",
    "iptables-restore": "iptables",
    "ip": "iproute2",
    "mount": "mount",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setpriv": "util-linux",
}
"""By program: the package that brings it."""
BUILDING: Final = {"buildah": "buildah", "debootstrap": "debootstrap"}
"""The same, for building images where neither Docker nor Podman does it."""
_INSTEAD: Final = (
    "Instead, let KUBECONFIG name a cluster for tests, or install kind with Docker or Podman: "
    "see docs/explanation/test-cluster.md."
)
_POLICY: Final = Path("/usr/sbin/policy-rc.d")
_NO_SERVICES: Final = (
    "#!/bin/sh\n# Of ParityGate's tests, while they install packages: no service is started.\nexit 101\n"
)


def packages(wanted: dict[str, str], found: Callable[[str], object]) -> list[str]:
    """Packages that are missing, of those that bring the programs `wanted`."""
    return sorted({package for program, package in wanted.items() if not found(program)})


def check(system: str, user: int) -> None:
    """Unavailable: no cluster can be brought up by this user, on such a system."""
    if system != "linux":
        raise Unavailable(f"The cluster for tests needs Linux, and this is {system}. {_INSTEAD}")
    if user:
        raise Unavailable(
            f"The cluster for tests needs root (mounts, control groups, networks), and this is user {user}: "
            f"run the same with sudo. {_INSTEAD}"
        )


def ensure() -> None:
    """Installs the packages that are missing. Unavailable: that cannot be done."""
    check(sys.platform, os.geteuid())
    wanted = dict(NEEDED)
    if not builders.builds("docker", "podman"):
        wanted |= BUILDING
    missing = packages(wanted, _found)
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(
            f"These programs are missing, and there is no apt-get to install them: {', '.join(missing)} "
            f"(names of Debian's packages). Install them. {_INSTEAD}"
        )
    sys.stderr.write(f"Installing with apt-get, without starting any service: {' '.join(missing)}\n")
    with _no_services():
        # Lists may be missing or old: then once more with new ones.
        if not _apt("install", "--yes", "--quiet", "--no-install-recommends", *missing, quiet=True):
            _apt("update", "--quiet")
            _apt("install", "--yes", "--quiet", "--no-install-recommends", *missing)
    if missing := packages(wanted, _found):
        raise Unavailable(f"apt-get did not install {', '.join(missing)}; its words stand above. {_INSTEAD}")


def _found(program: str) -> object:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def _apt(*arguments: str, quiet: bool = False) -> bool:
    done = subprocess.run(
        ["apt-get", *arguments], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False,
        stdout=subprocess.DEVNULL if quiet else sys.stderr, stderr=subprocess.DEVNULL if quiet else None,
    )  # fmt: skip
    return done.returncode == 0


@contextlib.contextmanager
def _no_services() -> Iterator[None]:
    """Has Debian start no service of a package that is installed meanwhile."""
    ours = not _POLICY.exists() or _POLICY.read_text() == _NO_SERVICES
    if ours:
        _POLICY.write_text(_NO_SERVICES)
        _POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            _POLICY.unlink()
