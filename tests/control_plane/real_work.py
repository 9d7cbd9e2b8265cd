"""Migrations that are carried out for real: examples in a claim, an operator, and a node that runs pods."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from control_plane.client import Client, Object, condition
from control_plane.fixtures import fresh_namespace
from control_plane.kubelet import Kubelet
from control_plane.machine import Machine
from control_plane.migrations import SETTINGS, is_ready, operating
from control_plane.plane import ControlPlane
from control_plane.sandbox import Interpreter
from control_plane.volumes import provide

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
CODE: Final = Path(__file__).parents[2] / "operator"
WORKER, SERVER = (SETTINGS["images"][name]["name"] for name in ("worker", "server"))
CLAIM: Final = "models"
"""Where examples, and what is made of them, lie."""
PLACE: Final = f"pvc://{CLAIM}/inputs"
SECONDS: Final = 300
"""Longer than a migration takes on a machine that does much else."""


@dataclass(frozen=True)
class Cluster:
    """A namespace that is looked after, on a node that works."""

    api: Client
    namespace: str
    machine: Machine
    folder: Path
    """Copies of examples, trained, as they lie on one machine."""

    @property
    def store(self) -> Path:
        """The claim's folder on the node."""
        return self.machine.claim(self.namespace, CLAIM)

    def apply(self, example: str, manifest: str = "migration.yaml") -> str:
        """Brings an example's files into the claim and applies its manifest, with addresses in the claim."""
        trained(self.folder, example)
        there = self.store / "inputs" / example
        if not there.exists():
            shutil.copytree(self.folder / example, there)
            if not any(self.store.glob("*/*/artifacts")):
                # The claim's first pod is given all that is there; what comes later must be readable for its group.
                for path in (there, *there.rglob("*")):
                    path.chmod(0o700 if path.is_dir() else 0o600)
        found = yaml.safe_load((self.folder / example / manifest).read_text())
        asked = found["spec"]
        for part in (asked["source"], asked["validation"]["dataset"], asked["target"].get("candidate", {})):
            if "uri" in part:
                part["uri"] = f"{PLACE}/{example}/{part['uri']}"
        return self.create(found["metadata"]["name"], asked)

    def create(self, name: str, spec: Mapping[str, Any]) -> str:
        """Applies a manifest whose artefacts are kept in the claim."""
        more = {"storage": {"claimName": CLAIM}, "serving": {"replicas": 1}, "jobs": {"retries": 0}}
        self.api.create({
            "apiVersion": "paritygate.dev/v1alpha1", "kind": "ModelMigration",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": {**more, **spec},
        })  # fmt: skip
        return name

    def until(self, name: str, reason: str) -> Object:
        """The migration, as soon as it is Ready, or not, for this reason."""

        def settled(found: Object) -> object:
            return (
                is_ready(reason)(found)
                or condition(found, "Stalled")
                or condition(found, "Ready").get("status") == "True"
            )

        found = self.api.until("ModelMigration", name, self.namespace, settled, SECONDS)
        assert is_ready(reason)(found), f"{json.dumps(found['status'], indent=1)}\n{self.logs(name)}"
        return found

    def pods(self, name: str) -> list[Object]:
        """Pods of a migration's Jobs, in order of creation."""
        wanted = f"paritygate.dev/migration={name},paritygate.dev/job"
        found = self.api.list("Pod", self.namespace, labelSelector=wanted)
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def logs(self, name: str) -> str:
        """What all its Jobs' containers wrote."""
        return "\n".join(self.machine.logs(pod["metadata"]["name"]) for pod in self.pods(name))

    def artefact(self, digest: str) -> Path:
        """The folder of an artefact in the claim."""
        (found,) = self.store.rglob(f"artifacts/{digest.removeprefix('sha256:')}")
        return found


def trained(folder: Path, example: str) -> Path:
    """An example's folder with its model."""
    there = folder / example
    if not there.exists():
        shutil.copytree(EXAMPLES / example, there, ignore=shutil.ignore_patterns(".paritygate", "__pycache__"))
        for script in ("train.py", *(["export.py"] if (there / "export.py").exists() else [])):
            subprocess.run([sys.executable, script, "."], cwd=there, check=True, capture_output=True)
    return there


def one_processor() -> None:
    """A server with one CPU, as the default limit has it, runs one thread."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])


def said(*command: str, before: Callable[[], None] | None = None) -> str:
    """What a command prints."""
    found = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=before)
    return found.stdout


@contextlib.contextmanager
def working(control_plane: ControlPlane, api: Client, folder: Path) -> Iterator[Cluster]:
    """A cluster of one working node, whose images say of themselves what this environment is."""
    ours, python = Interpreter.of(Path(sys.executable), CODE), sys.executable
    images = {
        "worker": {"name": WORKER, "identity": json.loads(said(python, "-m", "paritygate.worker", "identity"))},
        "server": {
            "name": SERVER,
            "identity": said(python, "-m", "paritygate.server", "--identity-digest", before=one_processor).strip(),
        },
    }
    with (
        fresh_namespace(api) as namespace,
        Machine(folder / "node", {WORKER: ours, SERVER: ours}, api) as machine,
        Kubelet(control_plane, namespace, machine),
        operating(control_plane, namespace, images=images),
    ):
        api.create(claim_of(namespace))
        provide(api, namespace, CLAIM)
        yield Cluster(api, namespace, machine, folder / "here")


def claim_of(namespace: str) -> Object:
    """The claim that all of it lies in."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": CLAIM, "namespace": namespace},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "",
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
