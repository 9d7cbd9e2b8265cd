"""No request is lost, whatever happens to what answers: 100 a second over kept connections and as many over new ones.

Every failure counts, also during the change. The one exception is a server that is killed without a word: until the
node has noticed, new connections to it are refused, and no order of steps can help it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pandas as pd
import pytest

from control_plane.client import Object, Refused, condition, path_of
from paritygate import clock
from suite.access import EXAMPLES, Cluster

LAG = 1.5
"""Seconds after the flip in which new connections may still reach the revision before: data planes lag up to 0.92 s."""
NOTICED = 5.0
"""Seconds in which a node notices that a container was killed, and new connections no longer lead to it."""


class Served:
    """The migration `tumours` of `migration.yaml`, with two replicas."""

    def __init__(self, cluster: Cluster, namespace: str, body: Object) -> None:
        self.cluster, self.namespace, self.body = cluster, namespace, body

    def apply(self, manifest: str, condition_: str) -> Object:
        """An edit, once it has come to a condition."""
        self.cluster.apply(EXAMPLES / manifest, self.namespace)
        self.cluster.waits(self.namespace, "tumours", condition_)
        return self.cluster.api.get("ModelMigration", "tumours", self.namespace)

    def revision(self) -> str:
        """Where the Service leads to."""
        found = self.cluster.api.get("Service", "tumours", self.namespace)
        return str(found["spec"]["selector"]["paritygate.dev/revision"])

    def pods(self, revision: str = "") -> dict[str, str]:
        """Names of a revision's pods by UID."""
        label = f"paritygate.dev/revision={revision or self.revision()}"
        found = self.cluster.api.list("Pod", self.namespace, labelSelector=label)
        return {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in found}

    def until_replaced(self, before: dict[str, str]) -> None:
        """Returns once none of these pods is there, and two others are ready."""
        revision = self.revision()
        self.cluster.until(lambda: not before.keys() & self.pods().keys(), "the pods before are gone", 180)
        self.cluster.api.until(
            "Deployment", revision, self.namespace, lambda d: d["status"].get("readyReplicas") == 2, 180
        )


@pytest.fixture(scope="module")
def served(cluster: Cluster, release, shared_namespace: str, trained: Path) -> Iterator[Served]:
    """Given a model that serves with two replicas."""
    row = pd.read_parquet(trained / "tumours" / "holdout.parquet").drop(columns="diagnosis").iloc[0]
    inputs = [{"name": name, "datatype": "FP64", "shape": [1, 1], "data": [value]} for name, value in row.items()]
    found = Served(cluster, shared_namespace, {"inputs": inputs})
    found.apply("migration.yaml", "Ready")
    return found


@pytest.fixture
def flow(served: Served, load) -> Iterator:
    """When clients ask without pause."""
    with load(served.namespace, "tumours", "tumours", served.body) as traffic:
        threading.Event().wait(1)
        yield traffic


def assert_nothing_lost(traffic) -> None:
    """Stops the traffic, a while after the change, and looks at every answer."""
    threading.Event().wait(2)
    traffic.stop()
    assert not traffic.lost, f"{traffic.lost}\n{traffic.summary}"
    for way in ("kept", "new"):
        for revision, answers in traffic.revisions(way).items():
            assert len(answers["bodies"]) == 1, f"{revision} answered one request differently: {answers}"


def test_a_candidate_that_fails_leaves_the_first_revision_answering(served, flow):
    before = served.revision()
    stalled = served.apply("stale.yaml", "Stalled")
    assert condition(stalled, "Stalled")["reason"] == "ParityFailed"
    assert f"revision {before} goes on serving" in condition(stalled, "Stalled")["message"]
    assert served.revision() == before
    assert_nothing_lost(flow)
    (digest,) = flow.revisions("new")
    assert list(flow.revisions("kept")) == [digest]


def test_a_better_model_takes_over_and_only_it_answers_afterwards(served, flow):
    first = served.revision()
    promoted = served.apply("better.yaml", "Ready")
    second = served.revision()
    assert second != first
    served.cluster.api.until_gone("Deployment", first, served.namespace, 120)
    served.cluster.until(lambda: not served.pods(first), "the pods of the first revision are gone", 120)
    gone = clock.now().timestamp()
    assert_nothing_lost(flow)
    flipped = datetime.fromisoformat(promoted["status"]["history"][0]["promotedAt"]).timestamp()
    for way, until in (("new", flipped + 1 + LAG), ("kept", gone)):  # stamps are of whole seconds
        (_, old), (_, new) = flow.revisions(way).items()
        assert new["first"] >= flipped, f"{way}: the second revision answered before the flip"
        assert old["last"] <= until, f"{way}: the first revision answered {old['last'] - flipped:.2f} s after the flip"
        assert flow.report[way]["went_back"] == 0
    verified = condition(promoted, "ParityVerified")
    assert datetime.fromisoformat(verified["lastTransitionTime"]).timestamp() <= flipped


def test_pods_that_are_made_anew_one_by_one_lose_nothing(served, flow):
    before, deployment = served.pods(), f"deployment/{served.revision()}"
    served.cluster.kubectl("rollout", "restart", deployment, namespace=served.namespace)
    served.cluster.kubectl("rollout", "status", deployment, "--timeout=90s", namespace=served.namespace, seconds=120)
    served.until_replaced(before)
    assert_nothing_lost(flow)


def test_pods_that_are_evicted_lose_nothing(served, flow):
    """All of them, one after the other, as draining a node does: the budget lets the next one go when it may."""
    before = served.pods()
    for name in before.values():
        served.cluster.until(lambda name=name: evicted(served, name), f"the budget lets {name} go", 90)
    served.until_replaced(before)
    assert_nothing_lost(flow)


def evicted(served: Served, name: str) -> bool:
    """Whether the pod goes, through the Eviction API; False = its budget allows it later."""
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": served.namespace}}
    try:
        served.cluster.api.request("POST", path_of("Pod", served.namespace, name) + "/eviction", body)
    except Refused as refused:
        if refused.code == httpx.codes.TOO_MANY_REQUESTS:
            return False
        raise
    return True


def test_a_pod_that_is_deleted_loses_nothing(served, flow):
    uid, name = next(iter(served.pods().items()))
    served.cluster.kubectl("delete", "pod", name, namespace=served.namespace)
    served.until_replaced({uid: name})
    assert_nothing_lost(flow)


def test_a_server_that_is_killed_costs_only_what_comes_before_the_node_notices(served, flow, sigkill):
    pod = next(iter(served.pods().values()))
    killed = clock.now().timestamp()
    sigkill(served.namespace, pod)
    served.cluster.api.until(
        "Pod", pod, served.namespace, lambda p: p["status"]["containerStatuses"][0]["restartCount"] == 1, 180
    )
    served.cluster.api.until(
        "Deployment", served.revision(), served.namespace, lambda d: d["status"].get("readyReplicas") == 2, 180
    )
    threading.Event().wait(2)
    flow.stop()
    for way in ("kept", "new"):
        tally = flow.report[way]
        late = tally["last_failure"] - killed
        assert late <= NOTICED, f"{way}: a request was lost {late:.1f} s after the kill\n{flow.summary}"
        assert tally["failed"] < tally["answered"] / 4, flow.summary
        (answers,) = flow.revisions(way).values()
        assert len(answers["bodies"]) == 1
