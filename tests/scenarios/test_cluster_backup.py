"""A cluster that was restored, from a backup or from Git: statuses are lost, and what serves is there."""

import contextlib

import pytest

from control_plane.client import Refused, condition
from control_plane.kubelet import Kubelet
from control_plane.migrations import Work, is_ready, migration, operating
from paritygate.api.report import Verdict

KIND = "ModelMigration"


@pytest.fixture
def work():
    return Work()


@pytest.fixture
def node(control_plane, migrations, namespace, work):
    metadata = {"name": "store", "namespace": namespace, "labels": {"paritygate.dev/allowed": "true"}}
    migrations.create({"apiVersion": "v1", "kind": "Secret", "metadata": metadata})
    with Kubelet(control_plane, namespace, work):
        yield


@pytest.fixture
def served(control_plane, api, namespace, node):  # noqa: ARG001 - pods need a node
    """What served when the operator was last seen."""
    with operating(control_plane, namespace):
        api.create(migration(namespace))
        api.until(KIND, "churn", namespace, is_ready("Promoted"))
    return serving(api, namespace)


def serving(api, namespace):
    """Everything that answers, as far as it matters to those who ask."""
    service = api.get("Service", "churn", namespace)
    deployments = [(d["metadata"]["uid"], d["metadata"]["generation"]) for d in api.list("Deployment", namespace)]
    return service["spec"]["selector"], deployments


def lose_status(api, namespace):
    found = api.get(KIND, "churn", namespace)["status"]
    left = api.patch(KIND, "churn", namespace, {"status": dict.fromkeys(found)}, part="status")["status"]
    assert not any(left[field] for field in left if field != "observedGeneration"), "defaults only"


def lose_jobs(api, namespace):
    for job in api.list("Job", namespace):
        with contextlib.suppress(Refused):  # the garbage collector may have been faster
            api.delete("Job", job["metadata"]["name"], namespace)
    api.until_listed("Job", namespace, bool, count=0)


def restore(api, namespace):
    """As a backup brings it back: the same manifest under another UID, and neither status nor Jobs."""
    api.delete(KIND, "churn", namespace)
    api.until_gone(KIND, "churn", namespace)
    lose_jobs(api, namespace)
    api.create(migration(namespace))


def test_a_status_that_was_lost_is_written_anew_from_what_is_there(control_plane, api, namespace, served, work):
    lose_status(api, namespace)
    with operating(control_plane, namespace):
        done = api.until(KIND, "churn", namespace, is_ready("Promoted"))
    assert done["status"]["verdict"]["result"] == "Passed"
    assert work.jobs == ["Convert", "Validate"]
    assert serving(api, namespace) == served


def lose_all(api, namespace):
    lose_status(api, namespace)
    lose_jobs(api, namespace)


@pytest.mark.parametrize("lost", [lose_all, restore])
def test_what_serves_goes_on_while_the_evidence_is_made_again(control_plane, api, namespace, served, work, lost):
    lost(api, namespace)
    release = work.hold()
    with operating(control_plane, namespace):
        running = api.until(KIND, "churn", namespace, is_ready("Capturing"))
        assert condition(running, "ServingAvailable")["status"] == "True"
        assert serving(api, namespace) == served
        release.set()
        api.until(KIND, "churn", namespace, is_ready("Promoted"))
    assert serving(api, namespace) == served


def test_what_serves_stays_when_the_evidence_is_made_again_and_does_not_pass(
    control_plane, api, namespace, served, work
):
    """Nobody asked for it to be taken down, and whoever is called can read what to do."""
    restore(api, namespace)
    work.verdict = Verdict.FAILED
    with operating(control_plane, namespace):
        failed = api.until(KIND, "churn", namespace, is_ready("ParityFailed"))
    assert "goes on serving" in condition(failed, "Stalled")["message"]
    assert serving(api, namespace) == served
