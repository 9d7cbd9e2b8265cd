"""A model that passes comes to serve, one that does not is never served; as users see it, with the examples' manifests.

Both migrations are applied at once, and each test looks at one side of what became of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest

from control_plane.client import Object, condition
from open_inference import asked
from suite import pods
from suite.access import EXAMPLES, Cluster

ASKS = "from urllib.request import urlopen; print(urlopen('http://tumours/v2/models/tumours/ready').read().decode())"


@dataclass(frozen=True)
class Applied:
    """The namespace of both migrations, and what `kubectl get mm -w` printed meanwhile."""

    namespace: str
    watched: Path


@pytest.fixture(scope="module")
def applied(cluster: Cluster, release, images, shared_namespace: str) -> Iterator[Applied]:
    """Given `migration.yaml` and `brought.yaml`, applied as they stand, and a pod that will ask."""
    cluster.api.create(pods.restricted("client", shared_namespace, images["base"].reference, ["sleep", "infinity"]))
    watched = cluster.folder / "get-mm-w.txt"
    watch = cluster.started("--namespace", shared_namespace, "get", "mm", "-w", into=watched)
    try:
        for manifest in ("migration.yaml", "brought.yaml"):
            cluster.apply(EXAMPLES / manifest, shared_namespace)
        yield Applied(shared_namespace, watched)
    finally:
        watch.terminate()
        watch.wait(10)


@pytest.fixture(scope="module")
def first_answer(cluster: Cluster, applied: Applied) -> str:
    """What a pod of the namespace is answered the moment that `kubectl wait --for=condition=Ready` has ended."""
    cluster.waits(applied.namespace, "tumours", "Ready")
    return cluster.kubectl("exec", "client", "--", "python3", "-c", ASKS, namespace=applied.namespace).stdout


@pytest.fixture(scope="module")
def served(cluster: Cluster, applied: Applied, first_answer: str) -> Object:
    """When it is Ready."""
    return cluster.api.get("ModelMigration", "tumours", applied.namespace)


@pytest.fixture(scope="module")
def refused(cluster: Cluster, applied: Applied) -> Object:
    """When `kubectl wait --for=condition=Stalled` has ended."""
    cluster.waits(applied.namespace, "progression", "Stalled")
    return cluster.api.get("ModelMigration", "progression", applied.namespace)


def test_who_waits_for_ready_is_answered(first_answer):
    assert json.loads(first_answer) == {"name": "tumours", "ready": True}


def test_what_passed_answers_a_stock_client_as_the_source_model_does(cluster, applied, served, trained):
    rows = pd.read_parquet(trained / "tumours" / "holdout.parquet").drop(columns="diagnosis")
    model = joblib.load(trained / "tumours" / "tumours.joblib")
    inputs = {name: column.to_numpy(np.float64).reshape(-1, 1) for name, column in rows.items()}
    with cluster.forwarded(applied.namespace, "svc/tumours", 80) as address:
        answers = asked(address, "tumours", inputs)
    np.testing.assert_allclose(answers["probabilities"].reshape(len(rows), -1), model.predict_proba(rows), atol=1e-6)
    assert answers["label"].ravel().tolist() == model.predict(rows).tolist()
    assert served["status"]["url"] == f"http://tumours.{applied.namespace}.svc.cluster.local"


def test_it_serves_with_the_bytes_that_were_judged(cluster, applied, served, images):
    (revision,) = served["status"]["revisions"]
    (candidate,) = served["status"]["candidates"]
    assert (revision["role"], revision["state"], revision["ready"]) == ("Stable", "Serving", 2)
    assert revision["digest"] == candidate["digest"]
    assert revision["image"] == images["server"].reference
    selector = cluster.api.get("Service", "tumours", applied.namespace)["spec"]["selector"]
    assert selector == {"paritygate.dev/revision": revision["name"]}


def test_what_differs_is_stalled_with_the_check_that_says_so_and_nothing_serves(cluster, applied, refused):
    stalled = condition(refused, "Stalled")
    assert stalled["reason"] == "ParityFailed"
    assert re.search(r"candidate 'brought': numeric Failed: \S+ measured on \d+ rows", stalled["message"])
    assert condition(refused, "ParityVerified")["status"] == "False"
    for kind in ("Deployment", "Service"):
        names = [one["metadata"]["name"] for one in cluster.api.list(kind, applied.namespace)]
        assert not [name for name in names if name.startswith("progression")]


def test_waiting_for_the_other_outcome_ends_with_the_timeout(cluster, applied, served, refused):
    for name, never in (("tumours", "Stalled"), ("progression", "Ready")):
        arguments = ("wait", f"--for=condition={never}", f"mm/{name}", "--timeout=1s")
        ended = cluster.kubectl(*arguments, namespace=applied.namespace, check=False)
        assert ended.returncode != 0
        assert "timed out" in ended.stderr


def test_the_watch_reads_like_a_story(cluster, applied, served, refused):
    """The steps in their order, none of them come back to, and the last line of each migration is how it ended."""
    lines = [line.split() for line in applied.watched.read_text().splitlines()]
    assert lines[0] == ["NAME", "READY", "PHASE", "SOURCE", "TARGET", "VERDICT", "SERVING", "AGE"]
    steps = {
        name: [line[2] for line in lines if line[0] == name and len(line) > 4] for name in ("tumours", "progression")
    }
    order = ["Assessing", "Capturing", "Converting", "Validating", "RollingOut", "Promoted"]
    # Between them it may say what a pod waits for.
    seen = [step for step in steps["tumours"] if step in order]
    assert sorted(seen, key=order.index) == seen
    assert {"Converting", "Validating", "RollingOut", "Promoted"} <= set(seen)
    assert steps["tumours"][-1] == "Promoted"
    assert steps["progression"][-1] == "ParityFailed"
    last = [line for line in lines if line[0] == "tumours"][-1]
    assert last[:6] == ["tumours", "True", "Promoted", "SKLearn", "ONNX", "Passed"]


def test_describe_tells_what_was_found_and_where_the_report_lies(cluster, applied, refused, store):
    told = cluster.kubectl("describe", "mm", "progression", namespace=applied.namespace).stdout
    events = told[told.index("Events:") :]
    assert re.search(r"Warning\s+ParityFailed\s+.*numeric Failed", events)
    uri = refused["status"]["verdict"]["reportURI"]
    assert uri in told
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    assert {"report.html", "report.json"} <= {name.rpartition("/")[2] for name in store.listed(bucket, prefix)}


def test_each_job_is_complete_and_none_was_tried_twice(cluster, applied, served, refused):
    jobs = cluster.api.list("Job", applied.namespace)
    assert len(jobs) == 4
    assert all(condition(job, "Complete").get("status") == "True" for job in jobs)
    assert len(cluster.api.list("Pod", applied.namespace, labelSelector="paritygate.dev/job")) == 4
