"""Runs one control plane while somebody uses it: `python -m control_plane.daemon FOLDER`, started by `plane.py`.

Users hold a shared lock on FOLDER/users. The kernel gives it back however a user ends, so when this daemon gets the
lock for itself nobody is left: it ends its processes, removes FOLDER, and goes. If the daemon itself is killed, its
processes end with it (see paritygate.local.supervisor) and the next control plane sweeps the folder.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import sys
import threading
import traceback
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from control_plane import binaries, certificates
from paritygate import clock
from paritygate.local.processes import Process, tail

NODE: Final = "worker"
"""The one node, on which the stand-in for the kubelet completes pods."""
STAND_IN: Final = "paritygate.dev/stand-in"
"""The label that tells this node from one with a kubelet."""
AUDIT: Final = "audit.json"
"""The policy by which requests are recorded, where there is one in the folder."""
_READY_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02
_PR_SET_CHILD_SUBREAPER: Final = 36
"""From linux/prctl.h."""
_CONTROLLERS: Final = (
    "bootstrap-signer-controller,cronjob-controller,daemonset-controller,deployment-controller,disruption-controller,"
    "endpointslice-controller,garbage-collector-controller,horizontal-pod-autoscaler-controller,job-controller,"
    "namespace-controller,persistentvolume-binder-controller,persistentvolumeclaim-protection-controller,"
    "persistentvolume-protection-controller,pod-garbage-collector-controller,replicaset-controller,"
    "resourcequota-controller,root-ca-certificate-publisher-controller,serviceaccount-controller,"
    "serviceaccount-token-controller,ttl-after-finished-controller"
)
"""All that our objects meet. Not the ones that watch nodes: the only node sends no heartbeats, so nothing is written
at rest but what is under test."""


class _Plane:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.token = secrets.token_urlsafe(32)
        self.running: dict[str, Process] = {}
        self._flags: dict[str, tuple[str, ...]] = {}
        self._commands = binaries.commands()
        # Held, never listened on: nobody else gets the port while the API server starts, or starts again.
        self._port = socket.socket()
        self._port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._port.bind(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._port.getsockname()[1]}"

    def start(self) -> None:
        certificates.write(self.folder)
        (self.folder / "tokens.csv").touch(mode=0o600)
        (self.folder / "tokens.csv").write_text(f"{self.token},test-administrator,test-administrator,system:masters\n")
        (self.folder / "admin.kubeconfig").touch(mode=0o600)
        (self.folder / "admin.kubeconfig").write_text(kubeconfig(self.url, self.folder / "ca.crt", self.token))
        self._run("etcd", *self._etcd_flags())
        self._run("kube-apiserver", *self._server_flags())
        self._until_ready()
        self._request("POST", "/api/v1/nodes", _node())
        shared = ("--kubeconfig", str(self.folder / "admin.kubeconfig"), "--leader-elect=false", "--secure-port=0")
        fast = ("--kube-api-qps=1000", "--kube-api-burst=2000")
        accounts = ("--root-ca-file=ca.crt", "--service-account-private-key-file=accounts.key")
        self._run(
            "kube-controller-manager", *shared, *fast, *self._inside(accounts), f"--controllers={_CONTROLLERS}",
            "--use-service-account-credentials=false", "--concurrent-job-syncs=10", "--concurrent-gc-syncs=10",
            "--concurrent-namespace-syncs=10", "--namespace-sync-period=10m",
            "--horizontal-pod-autoscaler-sync-period=10m",
        )  # fmt: skip
        self._run("kube-scheduler", *shared, *fast)

    def mend(self) -> None:
        """Starts again what a test has killed."""
        for name, process in list(self.running.items()):
            if process.poll() is not None:
                self._run(name, *self._flags[name])

    def stop(self) -> None:
        for process in self.running.values():
            process.kill()
        self._port.close()
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)

    def _run(self, name: str, *flags: str) -> None:
        # A fifth less work for the processor, for some hundred MiB more of memory.
        extra = {"GOGC": os.environ.get("GOGC", "300")}
        process = Process((*self._commands[name], *flags), self.folder / f"{name}.log", extra=extra)
        self.running[name], self._flags[name] = process, flags
        self.tell()

    def tell(self, **more: object) -> None:
        """Writes what users need to know, whole or not at all."""
        state = {"url": self.url, "token": self.token, "node": NODE} | more
        state["processes"] = {name: process.group for name, process in self.running.items()}
        ready = self.folder / "state.json"
        if ready.exists() or more:
            unfinished = self.folder / "state.unfinished"
            unfinished.touch(mode=0o600)
            unfinished.write_text(json.dumps({**(json.loads(ready.read_text()) if ready.exists() else {}), **state}))
            unfinished.rename(ready)

    def _etcd_flags(self) -> tuple[str, ...]:
        # Sockets in the folder: no port to choose, and nobody else on the machine gets in.
        return (
            f"--data-dir={self.folder}/etcd", f"--listen-client-urls=unix://{self.folder}/client.sock",
            "--advertise-client-urls=http://localhost:2379", f"--listen-peer-urls=unix://{self.folder}/peer.sock",
            "--initial-advertise-peer-urls=http://localhost:2380", "--initial-cluster=default=http://localhost:2380",
            "--unsafe-no-fsync", "--log-level=warn", "--quota-backend-bytes=8589934592", "--snapshot-count=1000000",
        )  # fmt: skip

    def _server_flags(self) -> tuple[str, ...]:
        inside = (
            "--token-auth-file=tokens.csv", "--tls-cert-file=server.crt", "--tls-private-key-file=server.key",
            "--service-account-key-file=accounts.key", "--service-account-signing-key-file=accounts.key",
        )  # fmt: skip
        audit = (f"--audit-policy-file={AUDIT}", "--audit-log-path=audit.log")
        return (
            *self._inside(inside), *(self._inside(audit) if (self.folder / AUDIT).exists() else ()),
            f"--etcd-servers=unix://{self.folder}/client.sock", "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1", f"--secure-port={self.url.rsplit(':', 1)[1]}", "--permit-port-sharing",
            "--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC", "--anonymous-auth=false", "--allow-privileged=true", "--profiling=false",
            "--endpoint-reconciler-type=none", f"--cert-dir={self.folder}",
            # No node is ever not ready: the controller that would say otherwise does not run.
            "--disable-admission-plugins=TaintNodesByCondition",
            # The suites measure what they send, not what a shared cluster would grant them.
            "--enable-priority-and-fairness=false", "--max-requests-inflight=0", "--max-mutating-requests-inflight=0",
        )  # fmt: skip

    def _inside(self, flags: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(flag.replace("=", f"={self.folder}/", 1) for flag in flags)

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


def _adopt() -> None:
    """Makes us the parent of what our processes leave behind: an init that reaps nobody would keep it as zombies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def main() -> int:
    """Serves until the last user is gone. The first user holds the lock before it starts us."""
    folder = Path(sys.argv[1])
    began = clock.monotonic()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    _adopt()
    plane = None
    alive = (folder / "daemon").open("w")
    fcntl.flock(alive, fcntl.LOCK_EX)
    try:
        plane = _Plane(folder)
        plane.start()
        plane.tell(seconds=round(clock.monotonic() - began, 3))
        with (folder / "users").open("w") as users:
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return 0
                plane.mend()
                threading.Event().wait(_POLL_SECONDS)
    except Exception:  # noqa: BLE001 - told to who waits for us
        (folder / "failure.unfinished").write_text(traceback.format_exc())
        (folder / "failure.unfinished").rename(folder / "failure")
        threading.Event().wait(1)
        return 1
    finally:
        if plane:
            plane.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
