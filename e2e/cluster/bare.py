"""A cluster on this machine alone: started for somebody, or kept until it is ended."""

import contextlib
import json
import os
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from cluster import layout, models
from cluster.daemon import leave
from cluster.problems import Unavailable
from control_plane import lifetime
from control_plane.lifetime import StartFailed
from paritygate import clock

ROOT: Final = Path(__file__).parents[2]
BUILD: Final = ROOT / ".build" / "cluster"
"""What is there for the cluster that is kept, and logs of the last one."""
TOOLS: Final = ROOT / ".build" / "tools"
"""kubectl and helm, as `make test` installs them."""
_START_SECONDS: Final = 600.0
_STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.05
_LONGEST_PLACE: Final = 50
"""Characters: a socket's whole path may have 107."""
# Names are those of the cluster inside; a command that is left alone ends.
_ENTER: Final = 'mount --bind "$0" /etc/resolv.conf && exec setpriv --pdeathsig TERM -- "$@"'


@dataclass(frozen=True)
class Cluster:
    """One that is up."""

    folder: Path
    images: Path

    @property
    def ready(self) -> Mapping[str, float]:
        """Seconds from the start until each part was ready."""
        return self.state["ready"]

    @property
    def state(self) -> Mapping[str, Any]:
        """What its daemon tells of it."""
        return json.loads((self.folder / "state.json").read_text())

    def inside(self, command: Sequence[str]) -> list[str]:
        """A command line that runs `command` in the cluster's network, with its names, and the machine's files."""
        network, resolv = f"--net=/proc/{self.state['pid']}/ns/net", str(self.folder / "resolv.conf")
        return ["nsenter", network, "unshare", "--mount", "sh", "-c", _ENTER, resolv, *command]

    def environment(self) -> dict[str, str]:
        """What a command is told of the cluster."""
        # Proxies stand outside.
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        told = {"KUBECONFIG": str(self.folder / "admin.kubeconfig"), "PARITYGATE_IMAGES": str(self.images)}
        told["PARITYGATE_MODELS"] = str(models.FOLDER)
        return {**kept, "PATH": f"{TOOLS}:{kept.get('PATH', '')}:/usr/sbin:/sbin", **told}


@contextlib.contextmanager
def started(images: Path) -> Iterator[Cluster]:
    """A fresh cluster, which ends with the caller. StartFailed: it did not come up."""
    folder, users = _begin(images, {})
    try:
        yield Cluster(folder, images)
    finally:
        users.close()
        _until_gone(folder)


@contextlib.contextmanager
def kept() -> Iterator[Cluster]:
    """The one that is up in this checkout, which does not end while it is used. Unavailable: there is none."""
    folder, images = _known()
    users = lifetime.joined(folder)
    if users is None:
        raise Unavailable("No cluster is up in this checkout: `make cluster` starts one.")
    with users:
        yield Cluster(folder, images)


def keep(images: Path) -> Cluster:
    """Starts a cluster that stays until `end`. StartFailed: there is one, or it did not come up."""
    with contextlib.suppress(Unavailable), kept() as found:
        raise StartFailed(f"A cluster is up already in this checkout, in {found.folder}; `make cluster-down` ends it.")
    folder, users = _begin(images, {lifetime.KEPT: ""})
    users.close()
    cluster = Cluster(folder, images)
    BUILD.mkdir(parents=True, exist_ok=True)
    layout.tell(BUILD / "cluster.json", json.dumps({"folder": str(folder), "images": str(images)}))
    for name in ("enter", "kubectl", "helm"):
        layout.tell(BUILD / name, wrapper(cluster, name))
        (BUILD / name).chmod(0o755)
    return cluster


def end() -> None:
    """Ends the cluster that is kept. Unavailable: there is none."""
    with kept() as cluster:
        folder = cluster.folder
        os.kill(cluster.state["daemon"], signal.SIGTERM)
    _until_gone(folder)
    for name in ("cluster.json", "enter", "kubectl", "helm"):
        (BUILD / name).unlink(missing_ok=True)


def wrapper(cluster: Cluster, name: str) -> str:
    """A script that runs kubectl, helm, or with `enter` any command, where the cluster can be reached."""
    environment, state = cluster.environment(), cluster.state
    told = {key: environment[key] for key in ("KUBECONFIG", "PARITYGATE_IMAGES", "PARITYGATE_MODELS")}
    command = cluster.inside([] if name == "enter" else [name])
    return "\n".join(
        (
            "#!/bin/sh",
            f"# {name} inside the cluster that `make cluster` has started.",
            f"if [ \"$(readlink /proc/{state['pid']}/ns/net)\" != '{state['network']}' ]; then",
            "    echo 'The cluster is gone: `make cluster` starts a new one.' >&2",
            "    exit 1",
            "fi",
            *(f"export {key}={shlex.quote(value)}" for key, value in told.items()),
            f'export PATH={shlex.quote(str(TOOLS))}:"$PATH":/usr/sbin:/sbin',
            "unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY all_proxy",
            f'exec {shlex.join(command)} "$@"',
            "",
        )
    )


def place() -> Path:
    """Where clusters' folders are: on a disk, since containers' layers cannot lie on every file system.

    Unavailable: the path is too long for sockets in such a folder.
    """
    named = Path(os.environ.get("PARITYGATE_CLUSTER_FOLDER") or "/var/tmp")  # noqa: S108 - names are random, modes are ours
    if len(str(named)) > _LONGEST_PLACE:
        raise Unavailable(f"PARITYGATE_CLUSTER_FOLDER={named} has more than {_LONGEST_PLACE} characters: shorten it")
    return named


def sweep() -> None:
    """Removes what is left of clusters whose daemon was killed."""
    lifetime.sweep(layout.PREFIX, place(), leave)


def _begin(images: Path, more: Mapping[str, str]) -> tuple[Path, TextIO]:
    sweep()
    folder = lifetime.folder_for(layout.PREFIX, place())
    files = {layout.IMAGES: images.read_text(), layout.LOGS: str(BUILD / "logs"), **more}
    users = lifetime.begin(folder, "cluster.daemon", "The cluster for tests", _START_SECONDS, files)
    return folder, users


def _known() -> tuple[Path, Path]:
    try:
        known = json.loads((BUILD / "cluster.json").read_text())
    except FileNotFoundError:
        return Path("/nonexistent"), Path("/nonexistent")
    return Path(known["folder"]), Path(known["images"])


def _until_gone(folder: Path) -> None:
    ends = clock.monotonic() + _STOP_SECONDS
    while folder.exists():
        if not lifetime.alive(folder):
            sweep()
        if clock.monotonic() > ends:
            raise StartFailed(f"The cluster did not end within {_STOP_SECONDS:.0f} seconds; its files are in {folder}")
        threading.Event().wait(_POLL_SECONDS)
