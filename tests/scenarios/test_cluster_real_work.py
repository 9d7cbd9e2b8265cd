"""Examples migrated for real in the cluster of the tests: every pod's containers run, and serve.

The same manifests are run on one machine, by the same packages. Stage digests, artefacts, evidence and reports must be
the same, byte for byte.
"""

from __future__ import annotations

import json
import operator
import os
import pickle
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import RadiusNeighborsClassifier

from control_plane.client import condition
from control_plane.fixtures import fresh_namespace
from control_plane.kubelet import Kubelet
from control_plane.machine import Machine
from control_plane.migrations import SETTINGS, is_ready, operating
from control_plane.sandbox import Interpreter, obstacle
from control_plane.volumes import provide
from paritygate.core.rollout import revision_name

EXAMPLES = Path(__file__).parents[2] / "examples"
CODE = Path(__file__).parents[2] / "operator"
WORKER, SERVER = (SETTINGS["images"][name]["name"] for name in ("worker", "server"))
OLD = "registry.example/old:1.2.2"
CLAIM = "models"
PLACE = f"pvc://{CLAIM}/inputs"
SECONDS = 300
pytestmark = [
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
    pytest.mark.timeout(600),
]


@dataclass(frozen=True)
class Cluster:
    """A namespace that is looked after, on a node that works."""

    api: object
    namespace: str
    machine: Machine
    folder: Path
    """Copies of examples, trained, as they lie on one machine."""

    @property
    def store(self) -> Path:
        """The claim's folder on the node."""
        return self.machine.claim(self.namespace, CLAIM)

    def apply(self, example, manifest="migration.yaml"):
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

    def create(self, name, spec):
        """Applies a manifest whose artefacts are kept in the claim."""
        more = {"storage": {"claimName": CLAIM}, "serving": {"replicas": 1}, "jobs": {"retries": 0}}
        self.api.create({
            "apiVersion": "paritygate.dev/v1alpha1", "kind": "ModelMigration",
            "metadata": {"name": name, "namespace": self.namespace}, "spec": {**more, **spec},
        })  # fmt: skip
        return name

    def until(self, name, reason):
        """The migration, as soon as it is Ready, or not, for this reason."""

        def settled(found):
            return (
                is_ready(reason)(found)
                or condition(found, "Stalled")
                or condition(found, "Ready").get("status") == "True"
            )

        found = self.api.until("ModelMigration", name, self.namespace, settled, SECONDS)
        assert is_ready(reason)(found), f"{json.dumps(found['status'], indent=1)}\n{self.logs(name)}"
        return found

    def pods(self, name):
        """Pods of a migration's Jobs, in order of creation."""
        wanted = f"paritygate.dev/migration={name},paritygate.dev/job"
        found = self.api.list("Pod", self.namespace, labelSelector=wanted)
        return sorted(found, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def logs(self, name):
        return "\n".join(self.machine.logs(pod["metadata"]["name"]) for pod in self.pods(name))

    def artefact(self, digest):
        """The folder of an artefact in the claim."""
        (found,) = self.store.rglob(f"artifacts/{digest.removeprefix('sha256:')}")
        return found


def trained(folder, example):
    """An example's folder with its model."""
    there = folder / example
    if not there.exists():
        shutil.copytree(EXAMPLES / example, there, ignore=shutil.ignore_patterns(".paritygate", "__pycache__"))
        for script in ("train.py", *(["export.py"] if (there / "export.py").exists() else [])):
            subprocess.run([sys.executable, script, "."], cwd=there, check=True, capture_output=True)
    return there


def one_processor():
    """A server with one CPU, as the default limit has it, runs one thread."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])


def said(*command, before=None):
    found = subprocess.run(command, capture_output=True, text=True, check=True, preexec_fn=before)
    return found.stdout


@pytest.fixture(scope="module")
def cluster(control_plane, api, migrations, tmp_path_factory):  # noqa: ARG001 - the definition must be there
    ours = Interpreter.of(Path(sys.executable), CODE)
    python = sys.executable
    images = {
        "worker": {"name": WORKER, "identity": json.loads(said(python, "-m", "paritygate.worker", "identity"))},
        "server": {
            "name": SERVER,
            "identity": said(python, "-m", "paritygate.server", "--identity-digest", before=one_processor).strip(),
        },
    }
    folder = tmp_path_factory.mktemp("real-work")
    with (
        fresh_namespace(api) as namespace,
        Machine(folder / "node", {WORKER: ours, SERVER: ours}, api) as machine,
        Kubelet(control_plane, namespace, machine),
        operating(control_plane, namespace, images=images),
    ):
        api.create(claim_of(namespace))
        provide(api, namespace, CLAIM)
        yield Cluster(api, namespace, machine, folder / "here")


def claim_of(namespace):
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


@pytest.fixture(scope="module")
def here(cluster, command_line_in):
    """Runs an example's manifest on this machine; its folder."""

    def run(example, manifest="migration.yaml"):
        line = command_line_in(trained(cluster.folder, example))
        ended = line.run("run", manifest, "--output", "json", before=one_processor)
        assert ended.status in (0, 1), ended.err
        return line

    return run


def assert_same(cluster, found, line):
    """That a migration came to the same in the cluster as on one machine."""
    name, status = found["metadata"]["name"], found["status"]
    local = line.plan(name)
    parts = ("name", "digest", "state", "output")
    assert [{p: s.get(p) for p in parts} for s in status["stages"]] == [
        {p: s.get(p) for p in parts} for s in local["stages"]
    ]
    assert status["run"]["inputs"] == {key: value for key, value in local["inputs"].items() if value is not None}
    assert status["run"]["recipe"] == local["status"]["run"]["recipe"]
    for part in ("result", "reportDigest", "evidence", "checks"):
        assert status["verdict"][part] == local["status"]["verdict"][part]
    outputs = {stage["name"]: stage["output"] for stage in status["stages"]}
    results = line.folder / ".paritygate" / name
    for file in ("report.json", "report.html"):
        assert (cluster.artefact(outputs["Validate"]) / file).read_bytes() == (results / file).read_bytes()
    there = cluster.artefact(outputs["Convert"])
    files = sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(results / "candidate") for p in (results / "candidate").rglob("*"))
    assert all((there / path).read_bytes() == (results / "candidate" / path).read_bytes() for path in files)
    return outputs


def serving(cluster, name):
    """The pod that the migration's Service leads to."""
    selector = cluster.api.get("Service", name, cluster.namespace)["spec"]["selector"]
    label = ",".join(f"{key}={value}" for key, value in selector.items())
    (pod,) = cluster.api.list("Pod", cluster.namespace, labelSelector=label)
    return pod


@pytest.fixture(scope="module")
def tumours(cluster):
    """Example 01, in the cluster."""
    return cluster.until(cluster.apply("01-breast-cancer"), "Promoted")


def test_a_pipeline_is_migrated_in_the_cluster_as_on_one_machine(cluster, here, tumours):
    line = here("01-breast-cancer")
    outputs = assert_same(cluster, tumours, line)
    runtime = line.plan("tumours")["inputs"]["runtime"]
    service = cluster.api.get("Service", "tumours", cluster.namespace)
    assert service["spec"]["selector"] == {
        "paritygate.dev/revision": revision_name("tumours", outputs["Convert"], runtime)
    }


def test_what_passed_serves_and_answers_as_the_model(cluster, tumours, command_line, served_at):
    pod = serving(cluster, tumours["metadata"]["name"])
    work = cluster.machine.pods[pod["metadata"]["name"]]
    rows = pd.read_parquet(cluster.folder / "01-breast-cancer" / "holdout.parquet").drop(columns="diagnosis")
    model = joblib.load(cluster.folder / "01-breast-cancer" / "tumours.joblib")
    with work.forward(8080) as address:
        inputs = {name: column.to_numpy(np.float64).reshape(-1, 1) for name, column in rows.items()}
        answers = command_line.asked(served_at(address), "tumours", inputs)
    np.testing.assert_allclose(answers["probabilities"].reshape(len(rows), -1), model.predict_proba(rows), atol=1e-6)
    assert answers["label"].ravel().tolist() == model.predict(rows).tolist()
    told = [json.loads(line) for line in work.log("server").splitlines()]
    (ready,) = [line for line in told if line.get("message") == "ready"]
    assert ready["golden"] is True


def test_a_second_run_finds_what_the_first_made_and_computes_nothing(cluster, tumours):
    before = kept(cluster)
    cluster.api.delete("ModelMigration", "tumours", cluster.namespace)
    cluster.api.until_gone("ModelMigration", "tumours", cluster.namespace)
    jobs = [pod["metadata"]["name"] for pod in cluster.pods("tumours")]
    for name in jobs:
        cluster.api.until_gone("Pod", name, cluster.namespace)
    again = cluster.until(cluster.apply("01-breast-cancer"), "Promoted")
    assert again["metadata"]["uid"] != tumours["metadata"]["uid"]
    for part in ("stages", "verdict"):
        assert without_jobs(again["status"][part]) == without_jobs(tumours["status"][part])
    assert kept(cluster) == before
    works = [cluster.machine.pods[pod["metadata"]["name"]] for pod in cluster.pods("tumours")]
    assert len(works) == 2
    for work in works:
        done = {"capture", "convert", "validate"} & set(work.seconds)
        assert all(work.log(name) == "" for name in done), [work.log(name) for name in done]


def kept(cluster):
    """What is in the store, and when artefacts were written; receipts that are used are used again, and marked so."""
    files = [path for path in cluster.store.rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), "receipts" in path.parts or path.stat().st_mtime_ns) for path in files}


def without_jobs(part):
    return [{k: v for k, v in one.items() if k != "job"} for one in part] if isinstance(part, list) else part


def test_a_wrong_export_is_stopped_in_the_cluster_as_on_one_machine(cluster, here):
    found = cluster.until(cluster.apply("02-diabetes", "brought.yaml"), "ParityFailed")
    assert_same(cluster, found, here("02-diabetes", "brought.yaml"))
    assert found["status"]["verdict"]["result"] == "Failed"
    label = f"paritygate.dev/migration={found['metadata']['name']}"
    assert cluster.api.list("Deployment", cluster.namespace, labelSelector=label) == []


@pytest.mark.torch
def test_a_network_is_migrated_in_the_cluster_as_on_one_machine(cluster, here):
    pytest.importorskip("torch")
    found = cluster.until(cluster.apply("03-digits-cnn"), "Promoted")
    assert_same(cluster, found, here("03-digits-cnn"))


def test_a_source_answers_in_an_image_and_as_a_user_of_its_own(cluster, old_python, old_model):
    cluster.machine.images[OLD] = Interpreter.of(old_python)
    there = cluster.store / "old"
    there.mkdir(parents=True)
    old_model(there)
    image = {"name": OLD, "command": ["python"], "runAsUser": 1001, "env": [{"name": "LANG", "value": "C.UTF-8"}]}
    cluster.create("old", {
        "source": {"format": "SKLearn", "uri": f"pvc://{CLAIM}/old/model.pkl", "environment": {"image": image}},
        "target": {"format": "ONNX"},
        "validation": {"dataset": {"uri": f"pvc://{CLAIM}/old/data.csv", "label": "diagnosis"}},
        "rollout": {"strategy": "ValidateOnly"},
    })  # fmt: skip
    found = cluster.until("old", "Verified")
    outputs = {stage["name"]: stage["output"] for stage in found["status"]["stages"]}
    report = json.loads((cluster.artefact(outputs["Validate"]) / "report.json").read_bytes())
    assert report["sourceEnvironment"]["packages"]["scikit-learn"] == "1.2.2"
    assert "paritygate" not in report["sourceEnvironment"]["packages"]
    assert report["candidateEnvironment"]["packages"]["paritygate"]


# What goes wrong in pods.


class Call:
    """Pickles as a call of a function, which is made while the model is loaded."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def surprising(call):
    found = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    found.surprise_ = call
    return found


@dataclass(frozen=True)
class Bad:
    """A migration that must end before there is a verdict."""

    reason: str
    says: tuple[str, ...]
    """Parts of the message."""
    ends: dict | None
    """Exit status of each container that ran; None = it was stopped from outside, and its pod is gone."""
    model: object = field(default_factory=lambda: LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    source: dict = field(default_factory=dict)
    spec: dict = field(default_factory=dict)


BAD = {
    "wrong-digest": Bad(
        "DigestMismatch", ("fetch: spec.source.digest is sha256:000", "correct the digest"), {"fetch": 3},
        source={"digest": "sha256:" + 64 * "0"},
    ),
    "nothing-there": Bad(
        "NotFound", ("fetch: spec.source.uri", "pvc://models/bad/nothing-there.pkl"), {"fetch": 3}, model=None,
    ),
    "raises": Bad(
        "ModelUnreadable", ("capture: ", "division by zero"), {"fetch": 0, "capture": 3},
        model=surprising(Call(operator.truediv, 1, 0)),
    ),
    "unsupported": Bad(
        "ConversionUnsupported", ("convert: ", "RadiusNeighborsClassifier"), {"fetch": 0, "capture": 0, "convert": 3},
        model=RadiusNeighborsClassifier(9.0).fit([[0.0], [1.0]], [0, 1]),
    ),
    "greedy": Bad(
        "OutOfMemory", ("container capture", "limit of 700Mi", "spec.jobs.convert.resources.limits.memory: 1400Mi"),
        {"fetch": 0, "capture": 137},
        model=surprising(Call(np.ones, 1 << 28)),
        spec={"jobs": {"retries": 0, "convert": {"resources": {"limits": {"memory": "700Mi"}}}}},
    ),
    "heavy": Bad(
        "OutOfMemory", ("container candidate", "limit of 32Mi", "spec.serving.resources.limits.memory: 64Mi"), None,
        spec={"serving": {"replicas": 1, "resources": {"limits": {"memory": "32Mi"}}}},
    ),
    "slow": Bad(
        "DeadlineExceeded", ("ran longer than spec.jobs.deadline, 20s",), None,
        model=surprising(Call(time.sleep, 600)), spec={"jobs": {"retries": 0, "deadline": "20s"}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def bad(cluster):
    """All of them, applied at once."""
    folder = cluster.store / "bad"
    folder.mkdir(parents=True)
    pd.DataFrame({"x": np.linspace(0, 1, 60), "y": np.arange(60) % 2}).to_csv(folder / "rows.csv", index=False)
    for name, one in BAD.items():
        if one.model is not None:
            (folder / f"{name}.pkl").write_bytes(pickle.dumps(one.model))
        source = {"format": "SKLearn", "uri": f"pvc://{CLAIM}/bad/{name}.pkl", **one.source}
        dataset = {"uri": f"pvc://{CLAIM}/bad/rows.csv", "label": "y"}
        spec = {"source": source, "target": {"format": "ONNX"}, "validation": {"dataset": dataset}, **one.spec}
        cluster.create(name, spec)


@pytest.mark.usefixtures("bad")
@pytest.mark.parametrize("name", BAD)
def test_what_goes_wrong_in_a_pod_is_said_in_the_migration(cluster, name):
    one = BAD[name]
    found = cluster.until(name, one.reason)
    message = condition(found, "Stalled")["message"]
    assert all(part in message for part in one.says), message
    pods = cluster.pods(name)
    if one.ends is None:
        for pod in pods:
            if pod["status"]["phase"] != "Succeeded":  # an earlier Job's
                cluster.api.until_gone("Pod", pod["metadata"]["name"], cluster.namespace)
    else:
        (pod,) = pods
        states = [*pod["status"]["initContainerStatuses"], *pod["status"]["containerStatuses"]]
        ended = {s["name"]: s["state"]["terminated"]["exitCode"] for s in states if "terminated" in s["state"]}
        assert ended == one.ends
    assert not list(cluster.store.glob(f"*/{name}/receipts/Validate-*"))
