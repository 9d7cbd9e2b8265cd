"""Clients of a served model: many that ask all the time."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from control_plane.client import Object
from suite import pods
from suite.access import Cluster, Image

_SCRIPT: Final = Path(__file__).parents[1] / "load.py"
_START_SECONDS: Final = 180.0
RATE: Final = 100


class Traffic:
    """Requests for a model, 100 a second over connections that are kept and as many over new ones."""

    def __init__(self, cluster: Cluster, namespace: str, pod: str) -> None:
        self._cluster, self._namespace, self._pod = cluster, namespace, pod
        self._report: Object | None = None

    def stop(self) -> None:
        """Ends the asking; what has begun is still waited for."""
        if self._report is not None:
            return
        ends = ("import os, signal; os.kill(1, signal.SIGTERM)",)
        # Where it ended by itself meanwhile there is nobody to tell.
        self._cluster.kubectl("exec", self._pod, "--", "python3", "-c", *ends, namespace=self._namespace, check=False)
        done = self._cluster.api.until(
            "Pod", self._pod, self._namespace, lambda p: p["status"]["phase"] in {"Succeeded", "Failed"}, 180
        )
        log = self._cluster.kubectl("logs", self._pod, namespace=self._namespace).stdout
        assert done["status"]["phase"] == "Succeeded", log
        self._report = json.loads(log.splitlines()[-1])
        assert self._report["event"] == "ended", log

    @property
    def report(self) -> Object:
        """What `load.py` counted; the asking has ended."""
        assert self._report is not None, "the traffic still flows: stop it first"
        return self._report

    @property
    def lost(self) -> dict[str, Any]:
        """Requests without a right answer, by way of asking; empty = none was lost, and enough were sent."""
        found = {}
        for way in ("kept", "new"):
            tally, wanted = self.report[way], RATE * self.report["seconds"]
            if tally["failed"]:
                found[way] = {"failed": tally["failed"], "of": tally["sent"], "first": tally["failures"][:5]}
            elif tally["sent"] < 0.8 * wanted:
                found[way] = f"only {tally['sent']} requests of {wanted:.0f} were sent: the machine was too slow for it"
        return found

    def revisions(self, way: str) -> dict[str, Object]:
        """Answers by revision, in the order of the first of each."""
        return dict(sorted(self.report[way]["revisions"].items(), key=lambda one: one[1]["first"]))

    @property
    def summary(self) -> str:
        """In a few lines."""
        told = []
        for way in ("kept", "new"):
            tally, counts = self.report[way], {name[:15]: one["count"] for name, one in self.revisions(way).items()}
            told.append(
                f"{way}: {tally['failed']} of {tally['sent']} lost, {tally['connections']} connections, "
                f"slowest {tally['slowest']:.2f} s, revisions {counts}"
            )
        return "\n".join(told)


class Load:
    """Starts traffic."""

    def __init__(self, cluster: Cluster, image: Image) -> None:
        self._cluster, self._image = cluster, image

    @contextlib.contextmanager
    def __call__(self, namespace: str, service: str, model: str, body: Object, seconds: int = 240) -> Iterator[Traffic]:
        """Traffic to a Service, stopped at the end at the latest, and after so many seconds whatever happens."""
        name = f"load-{secrets.token_hex(3)}"
        metadata = {"name": name, "namespace": namespace}
        data = {"load.py": _SCRIPT.read_text(), "body.json": json.dumps(body)}
        self._cluster.api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
        command = ["python3", "/load/load.py", "--url", f"http://{service}.{namespace}.svc/v2/models/{model}/infer"]
        command += ["--body", "/load/body.json", "--rate", str(RATE), "--seconds", str(seconds)]
        volumes = {"/load": {"configMap": {"name": name}}}
        pod = pods.restricted(name, namespace, self._image.reference, command, volumes=volumes)
        self._cluster.api.create(pod)
        traffic = Traffic(self._cluster, namespace, name)
        self._cluster.until(lambda: self._flows(namespace, name), "load.py starts to ask", _START_SECONDS)
        try:
            yield traffic
        finally:
            traffic.stop()
            print(traffic.summary)

    def _flows(self, namespace: str, name: str) -> bool:
        status = self._cluster.api.get("Pod", name, namespace)["status"]
        if status.get("phase") in {"Succeeded", "Failed"}:
            log = self._cluster.kubectl("logs", name, namespace=namespace, check=False).stdout
            pytest.fail(f"load.py ended before it was told to: {log}", pytrace=False)
        if status.get("phase") != "Running":
            return False
        log = self._cluster.kubectl("logs", name, namespace=namespace, check=False).stdout
        return "started" in log
