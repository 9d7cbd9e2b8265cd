"""A control plane as a test sees it: started once for all workers of a session, or one that is already there."""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from control_plane import binaries, lifetime
from control_plane.client import Client
from control_plane.daemon import AUDIT, STAND_IN, kubeconfig
from control_plane.lifetime import StartFailed

_PREFIX: Final = "paritygate-control-plane-"
_DAEMON: Final = "control_plane.daemon"
_START_SECONDS: Final = 180.0


@dataclass(frozen=True)
class ControlPlane:
    """Where a control plane is, and who may do everything on it."""

    folder: Path
    """Logs, certificates and state.json; of an existing cluster only what was taken from its kubeconfig."""
    url: str
    authority: Path
    """The certificate of who signed the server's."""
    token: str | None
    """Of an administrator; None = `certificate` speaks for us."""
    certificate: tuple[Path, Path] | None = None
    """Client certificate and key."""
    node: str | None = None
    """The node whose pods a stand-in completes; None = an existing cluster with nodes of its own."""

    def client(self, token: str | None = None, acting_as: str | None = None) -> Client:
        """A client of the administrator, or of whom `token` names; `acting_as`: under another name, with all rights."""
        certificate = None if token else self.certificate
        return Client(self.url, self.authority, token or self.token, certificate, acting_as)

    def kubeconfig(self, token: str | None = None) -> Path:
        """A kubeconfig file of the administrator, or of whom `token` names."""
        if token is None:
            return self.folder / "admin.kubeconfig"
        path = self.folder / f"{secrets.token_hex(8)}.kubeconfig"
        path.touch(mode=0o600)
        path.write_text(kubeconfig(self.url, self.authority, token))
        return path

    @property
    def processes(self) -> Mapping[str, int]:
        """Process groups by component; empty for an existing cluster."""
        state = self.folder / "state.json"
        return json.loads(state.read_text())["processes"] if state.exists() else {}

    def signal(self, component: str, number: signal.Signals) -> None:
        """Stops, continues or kills a component. What was killed is started again at once, under the same address."""
        os.killpg(self.processes[component], number)


@contextlib.contextmanager
def shared(session: Path, audit: Mapping[str, Any] | None = None) -> Iterator[ControlPlane]:
    """The control plane of all who name the same folder `session`; the first starts it, the last ends it.

    `audit`: a policy by which who starts it has requests recorded, in `audit*.log` of its folder.
    NoToolchain, NotBuilt: there is nothing to start. StartFailed: it did not come up.
    """
    binaries.commands()
    folder = lifetime.folder_for(_PREFIX, _memory())
    with binaries.locked(session / "control-plane.lock"):
        known = session / "control-plane"
        if known.exists():
            folder = Path(known.read_text())
        users = lifetime.joined(folder)
        if users is None:
            lifetime.sweep(_PREFIX, _memory())
            files = {} if audit is None else {AUDIT: json.dumps(audit)}
            users = lifetime.begin(folder, _DAEMON, "The control plane for tests", _START_SECONDS, files)
            known.write_text(str(folder))
    with users:
        yield _described(folder)


@contextlib.contextmanager
def existing(path: Path, folder: Path) -> Iterator[ControlPlane]:
    """The cluster of a kubeconfig file's current context; what belongs to it is kept in `folder`."""
    config = yaml.safe_load(path.read_text())
    context = _named(config, "context", config["current-context"])
    cluster, user = _named(config, "cluster", context["cluster"]), _named(config, "user", context["user"])
    if not ("token" in user or "client-certificate" in user or "client-certificate-data" in user):
        raise StartFailed(f"{path}: user {context['user']!r} has neither a token nor a client certificate")
    authority = _file(cluster, "certificate-authority", path, folder)
    certificate = _file(user, "client-certificate", path, folder), _file(user, "client-key", path, folder)
    shutil.copy(path, folder / "admin.kubeconfig")
    if authority is None:
        raise StartFailed(f"{path}: cluster {context['cluster']!r} names no certificate-authority")
    plane = ControlPlane(
        folder,
        cluster["server"],
        authority,
        user.get("token"),
        (certificate[0], certificate[1]) if certificate[0] and certificate[1] else None,
    )
    with plane.client() as client:
        ours = [node["metadata"]["name"] for node in client.list("Node", labelSelector=STAND_IN)]
    yield replace(plane, node=ours[0]) if ours else plane


def kubeconfig_given() -> Path | None:
    """The first file that KUBECONFIG names, as far as it exists; never `~/.kube/config`, which is private."""
    paths = map(Path, filter(None, os.environ.get("KUBECONFIG", "").split(os.pathsep)))
    return next((path for path in paths if path.is_file()), None)


def meant_for_tests(path: Path) -> bool:
    """Whether tests may use the cluster of this kubeconfig file: it is on this machine, or somebody says so.

    They create definitions and cluster roles, which nobody wants in the cluster that happens to be selected.
    """
    if os.environ.get("USE_EXISTING_CLUSTER") == "true":
        return True
    config = yaml.safe_load(path.read_text()) or {}
    if not config.get("current-context"):
        return False
    context = _named(config, "context", config["current-context"])
    return urlsplit(_named(config, "cluster", context["cluster"])["server"]).hostname in (
        "127.0.0.1",
        "localhost",
        "::1",
    )


def _named(config: Mapping[str, Any], kind: str, name: str) -> dict[str, Any]:
    return next(item[kind] for item in config[f"{kind}s"] if item["name"] == name)


def _file(section: Mapping[str, str], key: str, beside: Path, folder: Path) -> Path | None:
    if key in section:
        return beside.parent / section[key]
    if f"{key}-data" not in section:
        return None
    path = folder / key
    path.touch(mode=0o600)
    path.write_bytes(base64.b64decode(section[f"{key}-data"]))
    return path


def _memory() -> Path:
    """Where files live in memory, if there is such a place: etcd writes a lot, and nothing needs to last."""
    shm = Path("/dev/shm")  # noqa: S108 - names are random, modes are ours
    return shm if os.access(shm, os.W_OK) else Path(tempfile.gettempdir())


def _described(folder: Path) -> ControlPlane:
    state = json.loads((folder / "state.json").read_text())
    return ControlPlane(folder, state["url"], folder / "ca.crt", state["token"], node=state["node"])
