"""The node: the first process in namespaces of its own, `python -m cluster.node FOLDER`, started by `daemon.py`.

When it ends, the kernel ends everything in there, containers too, and takes mounts and network away.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx

from cluster import cgroups, components, config, images, layout, manifests, programs
from cluster.isolation import connect, isolate
from cluster.layout import ADDRESS, CONTAINERD, NODE, PORT, Layout
from control_plane import certificates
from control_plane.client import Client, Refused, condition
from control_plane.daemon import kubeconfig
from paritygate import clock
from paritygate.local.processes import tail

_SECONDS: Final = 300.0
_POLL_SECONDS: Final = 0.05
_DNS_SECONDS: Final = 1.0
# A question for the address (type 1, class 1) of the API server's Service.
_QUESTION: Final = b"".join(
    (
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
        *(bytes((len(part),)) + part.encode() for part in f"kubernetes.default.svc.{layout.DOMAIN}".split(".")),
        b"\x00\x00\x01\x00\x01",
    )
)


class _Node:
    def __init__(self, folder: Path) -> None:
        self.layout = Layout(folder)
        self.images: Mapping[str, Mapping[str, str]] = json.loads(self.layout.path(layout.IMAGES).read_text())
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.began = clock.monotonic()
        self.seconds: dict[str, float] = {}
        """When each part was ready, since the start."""

    def start(self) -> None:
        isolate(self.layout)
        cgroups.join(self.layout.folder.name, os.getpid())
        self._write_files()
        connect(self.layout)
        found = components.Programs(
            programs.kubernetes(), programs.coredns(), programs.local_path(), programs.network_policies()
        )
        self.commands = components.commands(self.layout, found, self.images["base"]["reference"])
        self._run("containerd", "etcd", "kube-apiserver")
        loaded = ThreadPoolExecutor(1).submit(self._load_images)
        self._bring_up()
        loaded.result()
        layout.tell(self.layout.path(layout.READY), json.dumps(self.seconds))

    def watch(self) -> NoReturn:
        """Reaps what ends in here. RuntimeError: it was a component."""
        while True:
            number, status = os.wait()
            for name, process in self.running.items():
                if process.pid == number:
                    code = os.waitstatus_to_exitcode(status)
                    raise RuntimeError(f"{name} ended with {code}{tail(self.layout.log(name))}")

    def _bring_up(self) -> None:
        token = self.layout.path("tokens.csv").read_text().split(",")[0]
        with Client(f"https://127.0.0.1:{PORT}", self.layout.path("ca.crt"), token) as api:
            self._until("kube-apiserver", lambda: api.request("GET", "/readyz"))
            self._until("containerd", lambda: _answers(CONTAINERD))
            self._run("kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy", "coredns")
            for path, obj in manifests.objects():
                self._until("kube-apiserver", lambda path=path, obj=obj: _created(api, path, obj))
            self._run("local-path-provisioner")
            self._until("kubelet", lambda: condition(api.find("Node", NODE) or {}, "Ready").get("status") == "True")
            self._run("kube-router")
            self._until("coredns", _dns_answers)
            self._until("kube-router", _policies_hold)
            self._until("kube-controller-manager", lambda: api.find("ServiceAccount", "default", "default"))

    def _load_images(self) -> None:
        self._until("containerd", lambda: _answers(CONTAINERD))
        images.load(CONTAINERD, self.images)
        self.seconds["images"] = self._since()

    def _write_files(self) -> None:
        made = self.layout
        authority = certificates.write(made.folder, ADDRESS, layout.FIRST_SERVICE, "kubernetes")
        authority.issue("kubelet-server", f"system:node:{NODE}", names=(ADDRESS, NODE))
        for file, (name, groups) in components.CLIENTS.items():
            authority.issue(file, name, groups)
            _write_private(made.kubeconfig(file), config.kubeconfig(made, components.SERVER, file))
        token = secrets.token_urlsafe(32)
        _write_private(made.path("tokens.csv"), f"{token},test-administrator,test-administrator,system:masters\n")
        _write_private(made.kubeconfig("admin"), kubeconfig(f"https://127.0.0.1:{PORT}", made.path("ca.crt"), token))
        for name, content in config.files(
            made, self.images["pause"]["reference"], self.images["base"]["reference"]
        ).items():
            made.path(name).parent.mkdir(exist_ok=True)
            made.path(name).write_text(content)

    def _run(self, *names: str) -> None:
        for name in names:
            with self.layout.log(name).open("ab") as log:
                self.running[name] = subprocess.Popen(
                    self.commands[name], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=_environment(self.layout)
                )

    def _until(self, who: str, holds: Callable[[], Any]) -> None:
        """Returns as soon as something holds that a component has to bring about. RuntimeError: it never does."""
        ends = clock.monotonic() + _SECONDS
        while True:
            said = ""
            try:
                if holds():
                    self.seconds.setdefault(who, self._since())
                    return
            except (OSError, httpx.TransportError, Refused) as error:
                said = f"; last answer: {type(error).__name__}: {error}"
            for name, process in list(self.running.items()):
                if (code := process.poll()) is not None:
                    raise RuntimeError(f"{name} ended with {code}{tail(self.layout.log(name))}")
            if clock.monotonic() > ends:
                raise RuntimeError(f"{who} is not ready after {_SECONDS:.0f} s{said}{tail(self.layout.log(who))}")
            threading.Event().wait(_POLL_SECONDS)

    def _since(self) -> float:
        return round(clock.monotonic() - self.began, 2)


def _created(api: Client, path: str, obj: manifests.Object) -> bool:
    try:
        api.request("POST", path, obj)
    except Refused as refused:
        # An answer that was lost the first time.
        if refused.code != httpx.codes.CONFLICT:
            raise
    return True


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(path)
    return True


def _dns_answers() -> bool:
    """Whether a name is found by way of the Service that pods ask: CoreDNS and kube-proxy both work."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_DNS_SECONDS)
        asking.sendto(_QUESTION, (layout.DNS, 53))
        answer = asking.recv(512)
    return answer[3] & 0x0F == 0 and int.from_bytes(answer[6:8]) > 0


def _policies_hold() -> bool:
    """Whether what enforces NetworkPolicies says that it does."""
    return httpx.get(f"http://127.0.0.1:{components.HEALTH_PORT}/healthz").is_success


def _write_private(path: Path, content: str) -> None:
    path.touch(mode=0o600)
    path.write_text(content)


def _environment(made: Layout) -> dict[str, str]:
    """Ours, less what leads to places that cannot be reached from in here, or that lie outside."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    path = f"{kept.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**kept, "PATH": path, "HOME": str(made.folder), "TMPDIR": str(made.path("tmp")), "GOGC": "200"}


def main() -> None:
    """Runs the node until something in it ends, which ends it all: `daemon.py` reads why."""
    node = _Node(Path(sys.argv[1]))
    try:
        node.start()
        node.watch()
    except BaseException as error:  # noqa: BLE001 - told to who waits for us
        said = error.stderr.decode(errors="replace") if isinstance(error, subprocess.CalledProcessError) else ""
        layout.tell(node.layout.path(layout.FAILURE), f"{traceback.format_exc()}{said}")
    # Threads that load images are not waited for.
    os._exit(1)


if __name__ == "__main__":
    main()
