"""The processes of a scale benchmark: the operator, which is measured, and the stand-in for the kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from control_plane import identities, plane
from paritygate.api import crd

HERE = Path(__file__).resolve().parent
SYSTEM = "paritygate-system"
SAMPLE_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1
_TICKS = os.sysconf("SC_CLK_TCK")
_RULES = (
    ("paritygate.dev", ("modelmigrations",), ("get", "list", "watch")),
    ("paritygate.dev", ("modelmigrations/status",), ("patch",)),
    ("batch", ("jobs",), ("get", "list", "watch", "create", "patch", "delete")),
    ("", ("pods",), ("get", "list", "watch", "create")),
    ("apps", ("deployments",), ("get", "list", "watch", "create", "patch", "delete")),
    ("", ("services", "persistentvolumeclaims"), ("get", "list", "watch", "create", "patch", "delete")),
    ("policy", ("poddisruptionbudgets",), ("get", "list", "watch", "create", "patch", "delete")),
    ("autoscaling", ("horizontalpodautoscalers",), ("get", "list", "watch", "create", "patch", "delete")),
    ("", ("secrets", "serviceaccounts"), ("get", "list", "watch")),
    ("events.k8s.io", ("events",), ("create", "patch")),
    ("coordination.k8s.io", ("leases",), ("get", "create", "update")),
    ("apiextensions.k8s.io", ("customresourcedefinitions",), ("list", "watch")),
    ("", ("namespaces",), ("list", "watch")),
)


@dataclass
class Process:
    """The operator as its kernel sees it."""

    pid: int
    peak_rss: float = 0.0
    """MiB, as all further ones."""
    peak_pss: float = 0.0

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> tuple[float, float]:
        """Resident and proportional set size."""
        found = dict.fromkeys(("Rss", "Pss"), 0.0)
        for line in Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name in found:
                found[name] = int(rest.split()[0]) / 1024
        self.peak_rss, self.peak_pss = max(self.peak_rss, found["Rss"]), max(self.peak_pss, found["Pss"])
        return found["Rss"], found["Pss"]

    async def sample(self) -> None:
        """Follows the memory until cancelled, or until the process ends."""
        with contextlib.suppress(OSError):
            while True:
                self.memory()
                await asyncio.sleep(SAMPLE_SECONDS)


def _dies_with_us() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


@contextlib.contextmanager
def started(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to end where the context ends, and killed if it does not."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stderr=output, preexec_fn=_dies_with_us, **options)  # noqa: PLW1509
        try:
            yield process
        finally:
            if process.stdin:
                process.stdin.close()
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def operating(folder: Path, kubeconfig: Path, caps: Mapping[str, int]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The operator, and the address of its metrics."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    images = {name: {"name": f"registry.example/{name}@sha256:{digit * 64}"} for name, digit in
              (("worker", "1"), ("server", "2"))}  # fmt: skip
    config = folder / "operator.yaml"
    config.write_text(yaml.safe_dump({"images": images, "caps": dict(caps)}))
    command = [sys.executable, "-m", "paritygate", "operator", "--config", str(config), "--port", str(port)]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": SYSTEM}
    with started(command, folder / "operator.log", env=environment) as process:
        yield process, f"http://127.0.0.1:{port}/metrics"


@contextlib.contextmanager
def completing(folder: Path, session: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The stand-in for the kubelet, once it watches."""
    command = [sys.executable, str(HERE / "standin.py"), str(session)]
    with started(command, folder / "standin.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise SystemExit(f"the stand-in for the kubelet did not start; see {folder / 'standin.log'}")
        yield process


def prepare(found: plane.ControlPlane, namespaces: list[str]) -> Path:
    """The definition, the namespaces and the operator's ServiceAccount; a kubeconfig that speaks for it."""
    with found.client() as api:
        api.apply(crd.crd(), force="true")
        api.until_served("ModelMigration")
        restricted = {"pod-security.kubernetes.io/enforce": "restricted"}
        for name in (SYSTEM, *namespaces):
            api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": restricted}})
        for name in namespaces:
            api.until("ServiceAccount", "default", name, lambda _: True)
            metadata = {"name": "store", "namespace": name, "labels": {"paritygate.dev/allowed": "true"}}
            api.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
        rules = [{"apiGroups": [group], "resources": list(plurals), "verbs": list(verbs)}
                 for group, plurals, verbs in _RULES]  # fmt: skip
        return found.kubeconfig(identities.identity(api, SYSTEM, (), rules))


async def metrics(http: aiohttp.ClientSession, url: str) -> dict[str, float]:
    """What the operator says of itself."""
    async with http.get(url, ssl=False, headers={"Authorization": ""}) as answer:
        lines = (await answer.text()).splitlines()
    return {name: float(value) for name, _, value in (one.rpartition(" ") for one in lines if not one.startswith("#"))}


def reconciles(found: Mapping[str, float]) -> int:
    """How many were finished."""
    return int(sum(value for name, value in found.items() if name.startswith("paritygate_reconcile_seconds_count")))
