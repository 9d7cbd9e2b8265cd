"""Runs one control plane while somebody uses it: `python -m control_plane.daemon FOLDER`, started by `plane.py`."""

import contextlib
import json
import os
import secrets
import socket
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from control_plane import binaries, certificates, flags, lifetime
from paritygate import clock
from paritygate.local.processes import Process, tail

NODE: Final = "worker"
"""The one node, on which the stand-in for the kubelet completes pods."""
STAND_IN: Final = "paritygate.dev/stand-in"
"""The label that tells this node from one with a kubelet."""
AUDIT: Final = "audit.json"
"""The policy by which requests are recorded, where there is one in the folder."""
_READY_SECONDS: Final = 150.0
_POLL_SECONDS: Final = 0.02
_CONTROLLERS: Final = (
    "bootstrap-signer-controller,cronjob-controller,daemonset-controller,deployment-controller,disruption-controller,"
    "endpointslice-controller,garbage-collector-controller,horizontal-pod-autoscaler-controller,job-controller,"
    "namespace-controller,persistentvolume-binder-controller,persistentvolumeclaim-protection-controller,"
    "persistentvolume-protection-controller,pod-garbage-collector-controller,replicaset-controller,"
    "resourcequota-controller,root-ca-certificate-publisher-controller,serviceaccount-controller,"
    "serviceaccount-token-controller,ttl-after-finished-controller,validatingadmissionpolicy-status-controller"
)
"""All that our objects meet. Not the ones that watch nodes: the only node sends no heartbeats, so nothing is written
at rest but what is under test."""


class _Plane:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(32)
        self.running: dict[str, Process] = {}
        self._given: dict[str, tuple[str, ...]] = {}
        self._commands = binaries.commands()
        # Held, never listened on: nobody else gets the port while the API server starts, or starts again.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._port.getsockname()[1]}"

    def start(self) -> Mapping[str, object]:
        certificates.write(self.folder)
        (self.folder / "tokens.csv").touch(mode=0o600)
        controllers = secrets.token_urlsafe(32)
        users = ((self.token, "test-administrator"), (controllers, "system:kube-controller-manager"))
        (self.folder / "tokens.csv").write_text("".join(f"{t},{name},{name},system:masters\n" for t, name in users))
        # Admission policies know the controllers by their name.
        for name, token in (("admin", self.token), ("controllers", controllers)):
            (self.folder / f"{name}.kubeconfig").touch(mode=0o600)
            (self.folder / f"{name}.kubeconfig").write_text(kubeconfig(self.url, self.folder / "ca.crt", token))
        self._run("etcd", *flags.etcd(self.folder))
        self._run("kube-apiserver", *self._server_flags())
        self._until_ready()
        self._request("POST", "/api/v1/nodes", _node())
        shared = ("--leader-elect=false", "--secure-port=0")
        fast = ("--kube-api-qps=1000", "--kube-api-burst=2000")
        who = {name: ("--kubeconfig", f"{self.folder}/{name}.kubeconfig") for name in ("admin", "controllers")}
        self._run(
            "kube-controller-manager", *who["controllers"], *shared, *fast, *flags.controllers(self.folder),
            f"--controllers={_CONTROLLERS}",
            "--use-service-account-credentials=false", "--concurrent-job-syncs=10", "--concurrent-gc-syncs=10",
            "--concurrent-namespace-syncs=10", "--namespace-sync-period=10m",
            "--horizontal-pod-autoscaler-sync-period=10m",
        )  # fmt: skip
        self._run("kube-scheduler", *who["admin"], *shared, *fast)
        return {"url": self.url, "token": self.token, "node": NODE, **self._groups()}

    def mend(self) -> None:
        """Starts again what a test has killed."""
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                self._run(name, *self._given[name])

    def stop(self) -> None:
        for process in self.running.values():
            process.kill()
        self._port.close()
        lifetime.reap()

    def _run(self, name: str, *given: str) -> None:
        # A fifth less work for the processor, for some hundred MiB more of memory.
        extra = {"GOGC": os.environ.get("GOGC", "300")}
        process = Process((*self._commands[name], *given), self.folder / f"{name}.log", extra=extra)
        self.running[name], self._given[name] = process, given
        if (self.folder / "state.json").exists():
            lifetime.tell(self.folder, **self._groups())

    def _groups(self) -> dict[str, object]:
        return {"processes": {name: process.group for name, process in self.running.items()}}

    def _server_flags(self) -> tuple[str, ...]:
        audit = (f"--audit-policy-file={AUDIT}", "--audit-log-path=audit.log")
        return (
            *flags.server(self.folder), *(flags.inside(self.folder, audit) if (self.folder / AUDIT).exists() else ()),
            "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1",
            f"--secure-port={self.url.rsplit(':', 1)[1]}", "--permit-port-sharing",
            "--authorization-mode=RBAC", "--endpoint-reconciler-type=none",
            # No node is ever not ready: the controller that would say otherwise does not run.
            "--disable-admission-plugins=TaintNodesByCondition",
            # The suites measure what they send, not what a shared cluster would grant them.
            "--enable-priority-and-fairness=false", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
        )  # fmt: skip

    def _until_ready(self) -> None:
        ends = clock.monotonic() + _READY_SECONDS
        while True:
            for name, process in self.running.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.poll()} while it started{tail(process.log)}")
            with contextlib.suppress(OSError):
                self._request("GET", "/readyz")
                return
            if clock.monotonic() > ends:
                raise RuntimeError(f"The API server is not ready{tail(self.folder / 'kube-apiserver.log')}")
            threading.Event().wait(_POLL_SECONDS)

    def _request(self, method: str, path: str, body: object = None) -> None:
        request = urllib.request.Request(  # noqa: S310 - our own URL
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self.folder / "ca.crt"))
        with urllib.request.urlopen(request, context=context, timeout=10) as answer:  # noqa: S310 - our own URL
            answer.read()


def kubeconfig(url: str, authority: Path, token: str) -> str:
    """A kubeconfig file with one user."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": url, "certificate-authority": str(authority)}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
        }
    )


def _node() -> dict[str, object]:
    room = {"cpu": "100000", "memory": "1000Ti", "ephemeral-storage": "1000Ti", "pods": "1000000"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": NODE,
            "labels": {
                STAND_IN: "true",
                "kubernetes.io/hostname": NODE,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
        },
        "status": {
            "capacity": room,
            "allocatable": room,
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "StandIn", "message": "no kubelet, a stand-in"}
            ],
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        },
    }


def main() -> int:
    """Serves until the last user is gone. The first user holds the lock before it starts us."""
    return lifetime.serve(Path(sys.argv[1]), _Plane)


if __name__ == "__main__":
    sys.exit(main())
