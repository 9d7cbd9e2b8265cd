"""Examples migrated for real in the cluster of the tests: every pod's containers run, and serve.

The same manifests are run on one machine, by the same packages. Stage digests, artefacts, evidence and reports must be
the same, byte for byte.
"""

from __future__ import annotations

import json

import joblib
import numpy as np
import pandas as pd
import pytest

from control_plane.real_work import CLAIM, one_processor, trained, working
from control_plane.sandbox import Interpreter, obstacle
from paritygate.core.rollout import revision_name

OLD = "registry.example/old:1.2.2"
pytestmark = [
    pytest.mark.skipif(obstacle() is not None, reason=str(obstacle())),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def cluster(control_plane, api, migrations, tmp_path_factory):  # noqa: ARG001 - the definition must be there
    with working(control_plane, api, tmp_path_factory.mktemp("real-work")) as found:
        yield found


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
