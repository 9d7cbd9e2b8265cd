"""The generated CustomResourceDefinition on a real API server, which must judge as the models do."""

from pathlib import Path

import pytest
import yaml

from control_plane.client import Refused, holds, path_of
from paritygate.api import crd
from paritygate.api.located import documents

CORPUS = Path(__file__).parents[1] / "unit" / "api" / "manifests"
ROOT = Path(__file__).parents[2]
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
CREATED = "2026-01-02T03:04:05Z"
VERDICT = {"result": "Failed", "reportDigest": f"sha256:{'0' * 64}"}


def manifest(name="churn", **spec):
    return {
        "apiVersion": "paritygate.dev/v1alpha1",
        "kind": "ModelMigration",
        "metadata": {"name": name},
        "spec": {
            "source": {"format": "SKLearn", "uri": "churn.pkl"},
            "target": {"format": "ONNX"},
            "validation": {"dataset": {"uri": "holdout.parquet", "label": "churned"}},
            **spec,
        },
    }


def applied(api, namespace, value):
    """What kubectl does with a manifest: unknown fields are errors. `status` is sent only where a test means it."""
    value = {**value, "metadata": {**value.get("metadata", {}), "namespace": namespace}}
    return api.request("POST", path_of("ModelMigration", namespace), value, fieldValidation="Strict")


def only(file):
    (document,) = (d for d in documents(file.read_text()) if d.value.get("kind") == "ModelMigration")
    return document.value


def test_the_committed_definition_is_the_generated_one(migrations):
    committed = yaml.safe_load((ROOT / "crds" / crd.FILE_NAME).read_text())
    assert committed == crd.crd()
    served = migrations.get("CustomResourceDefinition", committed["metadata"]["name"])
    (version,) = served["spec"]["versions"]
    assert version["selectableFields"] == committed["spec"]["versions"][0]["selectableFields"]


@pytest.mark.parametrize("file", sorted((CORPUS / "accepted").glob("*.yaml")), ids=lambda file: file.stem)
def test_accepts_what_the_models_accept(migrations, namespace, file):
    stored = applied(migrations, namespace, {key: item for key, item in only(file).items() if key != "status"})
    assert stored["status"]["observedGeneration"] == -1


@pytest.mark.parametrize("file", sorted((CORPUS / "refused").glob("*.yaml")), ids=lambda file: file.stem)
def test_refuses_what_the_models_refuse(migrations, namespace, file):
    found = [d.value for d in documents(file.read_text()) if isinstance(d.value, dict)]
    value = next((v for v in found if v.get("kind") == "ModelMigration"), found[0])
    with pytest.raises(Refused) as refused:
        applied(migrations, namespace, value)
    assert refused.value.code in {400, 422}


def test_says_what_to_do(migrations, namespace):
    wanted = manifest()
    wanted["spec"]["target"]["equivalence"] = "Metric"
    with pytest.raises(Refused, match=r"equivalence Metric needs validation\.metrics, e\.g\. metrics:"):
        applied(migrations, namespace, wanted)


def test_the_status_is_a_part_of_its_own(migrations, namespace):
    stored = applied(migrations, namespace, {**manifest(), "status": {"phase": "Ready", "observedGeneration": 1}})
    assert "phase" not in stored["status"]
    assert stored["status"]["observedGeneration"] == -1
    patched = migrations.patch(
        "ModelMigration", "churn", namespace, {"spec": {"suspend": True}, "status": {"phase": "Ready"}}, part="status"
    )
    assert patched["status"]["phase"] == "Ready"
    assert patched["metadata"]["generation"] == stored["metadata"]["generation"]
    assert patched["spec"] == stored["spec"]
    changed = migrations.patch("ModelMigration", "churn", namespace, {"spec": {"runID": "2"}})
    assert changed["metadata"]["generation"] == stored["metadata"]["generation"] + 1
    assert changed["status"]["phase"] == "Ready"


def test_a_stale_status_write_is_refused(migrations, namespace):
    stored = applied(migrations, namespace, manifest())
    migrations.patch("ModelMigration", "churn", namespace, {"spec": {"runID": "2"}})
    stale = {"metadata": {"resourceVersion": stored["metadata"]["resourceVersion"]}, "status": {"phase": "Ready"}}
    with pytest.raises(Refused) as refused:
        migrations.patch("ModelMigration", "churn", namespace, stale, part="status")
    assert refused.value.code == 409


SERVES = {
    "name": "churn-1a2b3c4d",
    "role": "Stable",
    "state": "Serving",
    "digest": f"sha256:{'1' * 64}",
    "reportDigest": f"sha256:{'2' * 64}",
}


def test_the_columns_tell_the_story(migrations, namespace):
    applied(migrations, namespace, manifest())
    ready = {
        "type": "Ready", "status": "False", "reason": "ParityFailed", "message": "output 'logits' is off",
        "observedGeneration": 1, "lastTransitionTime": CREATED,
    }  # fmt: skip
    status = {"observedGeneration": 1, "phase": "Failed", "conditions": [ready], "verdict": VERDICT,
              "revisions": [SERVES]}  # fmt: skip
    migrations.patch("ModelMigration", "churn", namespace, {"status": status}, part="status")
    table = migrations.request("GET", path_of("ModelMigration", namespace), accept=TABLE)
    names = [column["name"] for column in table["columnDefinitions"]]
    (row,) = table["rows"]
    told = dict(zip(names, row["cells"], strict=True))
    told.pop("Age")
    assert told == {
        "Name": "churn",
        "Ready": "False",
        "Phase": "Failed",
        "Source": "SKLearn",
        "Target": "ONNX",
        "Verdict": "Failed",
        "Serving": "churn-1a2b3c4d",
        "Reason": "ParityFailed",
        "Message": "output 'logits' is off",
    }
    wide = {column["name"] for column in table["columnDefinitions"] if column["priority"]}
    assert wide == {"Reason", "Message"}


def test_selects_by_source_format(migrations, namespace):
    applied(migrations, namespace, manifest("one"))
    applied(migrations, namespace, manifest("two", source={"format": "ONNX", "uri": "model.onnx"}))
    found = migrations.list("ModelMigration", namespace, fieldSelector="spec.source.format=ONNX")
    assert [item["metadata"]["name"] for item in found] == ["two"]


def test_a_condition_of_an_older_generation_does_not_count(migrations, namespace):
    applied(migrations, namespace, manifest())
    ready = {
        "type": "Ready", "status": "True", "reason": "Serving", "message": "",
        "observedGeneration": 1, "lastTransitionTime": CREATED,
    }  # fmt: skip
    status = {"observedGeneration": 1, "conditions": [ready]}
    migrations.patch("ModelMigration", "churn", namespace, {"status": status}, part="status")
    assert holds("Ready")(migrations.get("ModelMigration", "churn", namespace))
    migrations.patch("ModelMigration", "churn", namespace, {"spec": {"runID": "2"}})
    assert not holds("Ready")(migrations.get("ModelMigration", "churn", namespace))


def test_applying_the_same_again_changes_nothing(migrations, namespace):
    value = {**manifest(), "metadata": {"name": "churn", "namespace": namespace}}
    migrations.apply(value)
    # The first write after creation stores the status that was only filled in so far.
    stored = migrations.apply(value)["metadata"]
    again = migrations.apply(value)["metadata"]
    assert again["resourceVersion"] == stored["resourceVersion"]
    assert again["generation"] == 1
