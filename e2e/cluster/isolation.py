"""What a node sees: mounts and a network of its own, in namespaces that `unshare` has made. Needs root."""

import os
import socket
import subprocess
from pathlib import Path
from typing import Final

from cluster import config, layout
from cluster.layout import ADDRESS, NODE, NODES, Layout

_OWN: Final = {
    "/var/lib": ("cni", "containerd", "kubelet", "local-path"),
    "/var/log": ("containers", "pods"),
}
"""Folders that are the node's alone, on the disk of its folder. Some paths are fixed in kubelet and containerd."""
_ROOM: Final = 10 << 30
"""Bytes of free memory. Our images take two GiB, what pods need comes on top."""
_BRIDGE: Final = "node0"


def isolate(made: Layout) -> None:
    """Gives the node places of its own, so that nothing that it writes stays on the machine."""
    # The machine's /proc still: it knows us by the number that others know.
    layout.tell(made.path(layout.PID), str(Path("/proc/self").readlink()))
    _run("mount", "-t", "proc", "proc", "/proc")
    for path in config.KERNEL:
        _write(made.path(f"kernel/{path.replace('/', '.')}"), f"{config.KERNEL[path]}\n")
        _run("mount", "--bind", str(made.path(f"kernel/{path.replace('/', '.')}")), f"/proc/sys/{path}")
    for place, names in _OWN.items():
        _lay_over(made, place)
        for name in names:
            Path(place, name).mkdir(exist_ok=True)
            if name == "containerd" and _has_room():
                _run("mount", "-t", "tmpfs", "-o", "mode=711", "tmpfs", f"{place}/{name}")
                continue
            source = made.path(f"own{place}/{name}")
            source.mkdir(parents=True)
            _run("mount", "--bind", str(source), f"{place}/{name}")
    made.path("etcd").mkdir(mode=0o700)
    for path in ("/run", str(made.path("etcd"))):
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path)
    # As the first process of a machine has it; without peers outside.
    _run("mount", "--make-rshared", "/")
    for name in ("tmp", "logs"):
        made.path(name).mkdir(exist_ok=True)
    socket.sethostname(NODE)


def connect(made: Layout) -> None:
    """Makes the node's network. It leads nowhere; without a default route Services' addresses would not be tried."""
    prefix = NODES.split("/")[1]
    _run("ip", "link", "set", "lo", "up")
    _run("ip", "link", "add", _BRIDGE, "type", "bridge")
    _run("ip", "address", "add", f"{ADDRESS}/{prefix}", "dev", _BRIDGE)
    _run("ip", "link", "set", _BRIDGE, "up")
    _run("ip", "route", "add", "default", "via", ADDRESS, "dev", _BRIDGE)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _run("nft", "--file", str(made.path("edge.nft")))
    # The machine's servers for names are out of reach.
    _run("mount", "--bind", str(made.path("resolv.conf")), "/etc/resolv.conf")


def _has_room() -> bool:
    """Whether images and containers may lie in memory: to write their files to a disk and remove them takes longer."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    (available,) = (int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return available * 1024 >= _ROOM


def _lay_over(made: Layout, place: str) -> None:
    """Lets a place look as it does, and keeps what is written there in our folder."""
    upper, work = made.path(f"over{place}/upper"), made.path(f"over{place}/work")
    for folder in (upper, work):
        folder.mkdir(parents=True)
    _run("mount", "-t", "overlay", "-o", f"lowerdir={place},upperdir={upper},workdir={work}", "overlay", place)


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)


def _run(*command: str) -> None:
    """RuntimeError: the command failed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    done = subprocess.run(command, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"`{' '.join(command)}` failed: {done.stderr.strip() or done.returncode}")
