"""Migrations on a real API server: the operator, the controllers of Kubernetes, and pods that do as a test says."""

import threading

import pytest

from control_plane.client import condition, path_of
from control_plane.migrations import is_ready, migration
from control_plane.scripts import OUT_OF_MEMORY, Outcome
from paritygate.api.report import Verdict


def test_a_migration_that_passes_comes_to_serve(api, namespace, scene):
    api.create(migration(namespace))
    done = api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    assert scene.jobs == ["Convert", "Validate"]
    assert condition(done, "ParityVerified")["status"] == "True"
    assert done["status"]["verdict"]["result"] == "Passed"
    (deployment,) = api.list("Deployment", namespace)
    service = api.get("Service", "churn", namespace)
    assert service["spec"]["selector"] == {"paritygate.dev/revision": deployment["metadata"]["name"]}
    assert (
        deployment["metadata"]["annotations"]["paritygate.dev/report-digest"]
        == done["status"]["verdict"]["reportDigest"]
    )
    assert "ownerReferences" not in deployment["metadata"]


@pytest.fixture
def nameless(monkeypatch):
    """A user that no file names, as in an image."""

    def nobody():
        raise KeyError("getpwuid(): uid not found: 65532")

    monkeypatch.setattr("getpass.getuser", nobody)


@pytest.mark.usefixtures("nameless", "scene")
def test_an_operator_works_under_a_user_without_a_name(api, namespace):
    api.create(migration(namespace))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))


def test_a_model_that_failed_is_never_deployed(api, namespace, scene):
    scene.verdict = Verdict.FAILED
    api.create(migration(namespace))
    failed = api.until("ModelMigration", "churn", namespace, is_ready("ParityFailed"))
    assert condition(failed, "Stalled")["status"] == "True"
    assert api.list("Deployment", namespace) == []


def test_a_container_without_enough_memory_is_told_how_much_to_ask_for(api, namespace, scene):
    scene.fails["Convert"] = {"convert": OUT_OF_MEMORY}
    api.create(migration(namespace))
    stalled = api.until("ModelMigration", "churn", namespace, is_ready("OutOfMemory"))
    assert "spec.jobs.convert.resources.limits.memory: 8Gi" in condition(stalled, "Stalled")["message"]


def test_a_job_without_evidence_is_tried_again(api, namespace, scene):
    scene.fails["Validate"] = {"publish": Outcome(message='{"kind": "Publ')}
    api.create(migration(namespace, jobs={"retries": 0}))
    stalled = api.until("ModelMigration", "churn", namespace, is_ready("RetriesExhausted"))
    assert "EvidenceMissing" in condition(stalled, "Stalled")["message"]
    assert api.list("Deployment", namespace) == []


def selector(api, namespace):
    return api.get("Service", "churn", namespace)["spec"]["selector"]


def patch(api, namespace, spec):
    """A change of the manifest, as kubectl would make it."""
    found = api.get("ModelMigration", "churn", namespace)
    found["spec"] |= spec
    api.request("PUT", path_of("ModelMigration", namespace, "churn"), found)


def test_what_serves_stays_while_another_candidate_fails_and_while_suspended(api, namespace, scene):
    api.create(migration(namespace))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    before = selector(api, namespace)
    scene.verdict = Verdict.FAILED
    patch(api, namespace, {"source": {"format": "SKLearn", "uri": "s3://models/worse.pkl"}})
    api.until("ModelMigration", "churn", namespace, is_ready("ParityFailed"))
    assert selector(api, namespace) == before
    patch(api, namespace, {"suspend": True})
    suspended = api.until("ModelMigration", "churn", namespace, is_ready("Suspended"))
    assert not condition(suspended, "Stalled")
    assert selector(api, namespace) == before
    assert len(api.list("Deployment", namespace)) == 1


@pytest.mark.usefixtures("scene")
def test_a_new_model_takes_over_and_the_old_revision_goes_last(api, namespace):
    api.create(migration(namespace))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    before = selector(api, namespace)
    patch(api, namespace, {"source": {"format": "SKLearn", "uri": "s3://models/better.pkl"}})
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    after = selector(api, namespace)
    assert after != before
    api.until_gone("Deployment", before["paritygate.dev/revision"], namespace)
    assert [d["metadata"]["name"] for d in api.list("Deployment", namespace)] == list(after.values())


@pytest.mark.usefixtures("scene")
def test_nothing_is_written_at_rest_and_nothing_that_serves_goes_with_its_migration(api, namespace):
    api.create(migration(namespace))
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    versions = [api.get("ModelMigration", "churn", namespace)["metadata"]["resourceVersion"]]
    threading.Event().wait(6)
    versions.append(api.get("ModelMigration", "churn", namespace)["metadata"]["resourceVersion"])
    assert versions[0] == versions[1]
    api.delete("ModelMigration", "churn", namespace)
    api.until_gone("ModelMigration", "churn", namespace)
    threading.Event().wait(3)
    assert len(api.list("Deployment", namespace)) == 1
    assert selector(api, namespace)
