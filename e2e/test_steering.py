"""What people do to a migration while it runs and after it: edits, suspension, deletion under each policy."""

from __future__ import annotations

import threading
from collections.abc import Callable

import joblib
import numpy as np
import pandas as pd
import pytest

from control_plane.client import Object, condition
from open_inference import asked
from suite.access import EXAMPLES, Cluster

QUIET = 4.0
"""Seconds in which something would happen if it were to happen at all."""


@pytest.fixture
def answers(cluster: Cluster, namespace: str, trained) -> Callable[[], str]:
    """Which of the two models answers: `tumours` or `better`."""
    rows = pd.read_parquet(trained / "tumours" / "holdout.parquet").drop(columns="diagnosis")
    inputs = {name: column.to_numpy(np.float64).reshape(-1, 1) for name, column in rows.items()}
    expected = {
        name: joblib.load(trained / "tumours" / f"{name}.joblib").predict_proba(rows) for name in ("tumours", "better")
    }

    def who() -> str:
        with cluster.forwarded(namespace, "svc/tumours", 80) as address:
            found = asked(address, "tumours", inputs)["probabilities"].reshape(len(rows), -1)
        (name,) = (name for name, values in expected.items() if np.allclose(found, values, atol=1e-6))
        return name

    return who


@pytest.fixture
def apply(cluster: Cluster, release, namespace: str) -> Callable[[str], None]:
    """`kubectl apply` of an example's manifest, as it stands."""
    return lambda manifest: cluster.apply(EXAMPLES / manifest, namespace)


def patch(cluster: Cluster, namespace: str, spec: str) -> None:
    """`kubectl patch`, as people do it."""
    arguments = ("patch", "mm", "tumours", "--type=merge", "-p", f'{{"spec": {spec}}}')
    cluster.kubectl(*arguments, namespace=namespace)


def running(cluster: Cluster, namespace: str) -> Object:
    """The first pod of a Job, once it runs a container."""

    def found() -> Object | None:
        pods = cluster.api.list("Pod", namespace, labelSelector="paritygate.dev/job")
        statuses = [(pod, one) for pod in pods for one in pod["status"].get("initContainerStatuses", ())]
        return next((pod for pod, one in statuses if "running" in one["state"]), None)

    return cluster.until(found, "a Job's pod runs", 180)


def serving(cluster: Cluster, namespace: str) -> set[str]:
    """UIDs of the pods that serve."""
    pods = cluster.api.list("Pod", namespace, labelSelector="paritygate.dev/revision")
    return {pod["metadata"]["uid"] for pod in pods}


def test_an_edit_in_the_middle_of_a_run_starts_it_anew(cluster, namespace, apply, answers):
    apply("migration.yaml")
    first = running(cluster, namespace)["metadata"]
    apply("better.yaml")
    cluster.waits(namespace, "tumours", "Ready")
    assert answers() == "better"
    found = cluster.api.get("ModelMigration", "tumours", namespace)
    assert len(found["status"]["history"]) == 1
    assert len(cluster.api.list("Deployment", namespace)) == 1
    assert cluster.api.find("Pod", first["name"], namespace) is None
    assert all(condition(job, "Complete") for job in cluster.api.list("Job", namespace))


def test_suspension_stops_the_work_and_resumption_brings_it_to_its_end(cluster, namespace, apply, answers):
    apply("migration.yaml")
    running(cluster, namespace)
    patch(cluster, namespace, '{"suspend": true}')
    cluster.waits(namespace, "tumours", "Suspended")
    cluster.api.until_listed("Pod", namespace, bool, count=0, seconds=120)
    threading.Event().wait(QUIET)
    for kind in ("Job", "Pod", "Deployment", "Service"):
        assert cluster.api.list(kind, namespace) == []
    patch(cluster, namespace, '{"suspend": false}')
    cluster.waits(namespace, "tumours", "Ready")
    assert answers() == "tumours"


def test_what_serves_stays_under_retain_is_taken_over_and_goes_under_delete(cluster, namespace, apply, answers):
    apply("migration.yaml")
    cluster.waits(namespace, "tumours", "Ready")
    (deployment,), servers = cluster.api.list("Deployment", namespace), serving(cluster, namespace)

    # `Retain`, the default: what serves outlives its migration.
    cluster.kubectl("delete", "mm", "tumours", namespace=namespace)
    cluster.api.until_listed("Job", namespace, bool, count=0, seconds=120)
    threading.Event().wait(QUIET)
    assert answers() == "tumours"

    # A migration of the same name takes it over: nothing is brought up anew.
    apply("migration.yaml")
    cluster.waits(namespace, "tumours", "Ready")
    (same,) = cluster.api.list("Deployment", namespace)
    assert same["metadata"]["uid"] == deployment["metadata"]["uid"]
    assert serving(cluster, namespace) == servers

    # `Delete`: all of it goes with the migration.
    patch(cluster, namespace, '{"deletionPolicy": "Delete"}')
    cluster.waits(namespace, "tumours", "Ready")
    cluster.api.until("Deployment", same["metadata"]["name"], namespace, lambda d: d["metadata"].get("ownerReferences"))
    cluster.kubectl("delete", "mm", "tumours", namespace=namespace)
    for kind in ("Service", "Deployment", "PodDisruptionBudget", "Job", "Pod"):
        cluster.api.until_listed(kind, namespace, bool, count=0, seconds=120)
