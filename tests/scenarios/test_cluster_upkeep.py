"""What becomes of what serves when the manifest, or somebody, changes it afterwards."""

import pytest

from control_plane.client import STRATEGIC, condition
from control_plane.migrations import is_ready, migration
from control_plane.scripts import RUNS, Outcome

REVISION = "paritygate.dev/revision"


@pytest.fixture
def promoted(api, namespace, scene):  # noqa: ARG001 - somebody must do the work
    """Applies a migration and returns it once it serves."""

    def promote(**spec):
        api.create(migration(namespace, **spec))
        return api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))

    return promote


def edit(api, namespace, **spec):
    api.patch("ModelMigration", "churn", namespace, {"spec": spec})


def leads_to(api, namespace, service="churn"):
    return api.get("Service", service, namespace)["spec"]["selector"][REVISION]


def test_replicas_and_an_autoscaler_come_and_go_with_the_manifest(api, namespace, promoted):
    promoted()
    name = leads_to(api, namespace)
    edit(api, namespace, serving={"replicas": 3})
    api.until("Deployment", name, namespace, lambda d: d["spec"]["replicas"] == 3)
    edit(api, namespace, serving={"replicas": None, "autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    api.until("HorizontalPodAutoscaler", name, namespace, lambda h: h["spec"]["maxReplicas"] == 5)
    api.patch("Deployment", name, namespace, {"spec": {"replicas": 4}})  # as the autoscaler would
    edit(api, namespace, serving={"autoscaling": {"minReplicas": 2, "maxReplicas": 7}})
    api.until("HorizontalPodAutoscaler", name, namespace, lambda h: h["spec"]["maxReplicas"] == 7)
    assert api.get("Deployment", name, namespace)["spec"]["replicas"] == 4
    edit(api, namespace, serving={"autoscaling": None})
    api.until_gone("HorizontalPodAutoscaler", name, namespace)
    assert len(api.list("Deployment", namespace)) == 1


def test_a_stated_number_of_replicas_is_restored(api, namespace, promoted):
    promoted(serving={"replicas": 1})
    name = leads_to(api, namespace)
    api.patch("Deployment", name, namespace, {"spec": {"replicas": 0}})
    api.until("Deployment", name, namespace, lambda d: d["spec"]["replicas"] == 1)
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))


def test_what_serves_goes_with_its_migration_once_it_is_asked_to(api, namespace, promoted):
    found = promoted()
    name = leads_to(api, namespace)
    edit(api, namespace, deletionPolicy="Delete")
    uid = found["metadata"]["uid"]
    for kind, one in (("Deployment", name), ("PodDisruptionBudget", name), ("Service", "churn")):
        api.until(kind, one, namespace, lambda o: [r["uid"] for r in o["metadata"].get("ownerReferences", ())] == [uid])
    api.delete("ModelMigration", "churn", namespace)
    for kind, one in (("Deployment", name), ("PodDisruptionBudget", name), ("Service", "churn")):
        api.until_gone(kind, one, namespace)


def test_clients_of_an_earlier_service_come_along(api, namespace, promoted):
    promoted()
    edit(api, namespace, serving={"serviceName": "churn-v2"})
    api.until("Service", "churn-v2", namespace, lambda _: True)
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    before = leads_to(api, namespace)
    edit(api, namespace, source={"uri": "s3://models/better.pkl"})
    api.until("Service", "churn", namespace, lambda s: s["spec"]["selector"][REVISION] != before)
    api.until_gone("Deployment", before, namespace)
    assert leads_to(api, namespace) == leads_to(api, namespace, "churn-v2")


def test_an_image_that_somebody_set_by_hand_is_taken_back(api, namespace, promoted):
    promoted()
    name = leads_to(api, namespace)
    judged = api.get("Deployment", name, namespace)["spec"]["template"]["spec"]["containers"][0]["image"]
    other = {"spec": {"template": {"spec": {"containers": [{"name": "server", "image": "registry.example/other"}]}}}}
    api.patch("Deployment", name, namespace, other, content=STRATEGIC)
    found = api.until(
        "Deployment", name, namespace,
        lambda d: d["spec"]["template"]["spec"]["containers"][0]["image"] == judged,
    )  # fmt: skip
    assert found["metadata"]["generation"] > 2
    api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))


def test_a_revision_that_never_served_goes_when_something_else_is_asked_for(api, namespace, scene):
    scene.server = Outcome(exit_code=None, ready=False)
    api.create(migration(namespace))
    (tried,) = api.until_listed("Deployment", namespace, lambda _: True)
    scene.server = RUNS
    edit(api, namespace, source={"uri": "s3://models/better.pkl"})
    api.until_gone("Deployment", tried["metadata"]["name"], namespace)
    done = api.until("ModelMigration", "churn", namespace, is_ready("Promoted"))
    assert [one["revision"] for one in done["status"]["history"]] == [leads_to(api, namespace)]
    assert condition(done, "Stalled") == {}
