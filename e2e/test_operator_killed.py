"""The operator is killed without a word in each phase of a migration: it ends the same, and nothing is served early."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from control_plane.client import Client, Object, condition, holds
from paritygate import clock
from suite.access import EXAMPLES, Cluster

PHASES = ("Assessing", "Capturing", "Converting", "Validating", "RollingOut")
RUNS = 5
"""Phases follow each other quickly: while another operator takes over, some pass unseen; the next run meets them."""
SECONDS = 800
pytestmark = pytest.mark.timeout(1800)


@contextlib.contextmanager
def watched(api: Client, namespace: str) -> Iterator[list[str]]:
    """What was seen to be wrong: a Service of a migration whose status does not say that it passed."""
    wrong: list[str] = []
    ends = threading.Event()

    def look() -> None:
        while not ends.wait(0.05):
            if not api.list("Service", namespace):
                continue
            found = api.get("ModelMigration", "tumours", namespace)
            if condition(found, "ParityVerified").get("status") != "True":
                wrong.append(f"a Service is there while {found.get('status')}")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield wrong
    finally:
        ends.set()
        thread.join()


def result(found: Object) -> Object:
    """What a migration came to, without times and names of Jobs."""
    status = found["status"]
    return {
        "stages": [{key: stage[key] for key in ("name", "digest", "output")} for stage in status["stages"]],
        "report": status["verdict"]["reportDigest"],
        "revisions": [one["name"] for one in status["revisions"]],
    }


def migrated(cluster: Cluster, release, sigkill, namespace: str, left: list[str]) -> Object:
    """A migration, with the leader killed whenever a phase of those that are left is seen; these are then taken off."""
    cluster.apply(EXAMPLES / "migration.yaml", namespace)
    ends = clock.monotonic() + SECONDS
    while True:
        found = cluster.api.get("ModelMigration", "tumours", namespace)
        if holds("Ready")(found):
            return found
        phase = found.get("status", {}).get("phase")
        if phase in left and (leader := release.leader()):
            sigkill(release.namespace, leader)
            left.remove(phase)
        assert clock.monotonic() < ends, f"after {SECONDS} s it is {phase}: {found.get('status')}"
        threading.Event().wait(0.05)


def test_an_operator_that_is_killed_in_any_phase_changes_nothing_of_what_comes_out(cluster, release, store, sigkill):
    left, results = list(PHASES), []
    while left:
        assert len(results) < RUNS, f"in {RUNS} runs no operator was seen in phase {left}"
        with cluster.fresh_namespace() as namespace:
            cluster.api.create(store.secret(namespace))
            with watched(cluster.api, namespace) as wrong:
                found = migrated(cluster, release, sigkill, namespace, left)
            assert not wrong
            assert [stage["attempt"] for stage in found["status"]["stages"]] == [1, 1, 1, 1]
            assert len(cluster.api.list("Job", namespace)) == 2
            assert len(cluster.api.list("Deployment", namespace)) == 1
            results.append(result(found))
    assert all(one == results[0] for one in results)
    restarts = [pod["status"]["containerStatuses"][0]["restartCount"] for pod in release.pods()]
    assert sum(restarts) >= len(PHASES)
