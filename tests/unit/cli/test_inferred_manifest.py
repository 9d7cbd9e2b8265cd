"""`paritygate run MODEL DATASET`: the manifest that is written, and when none is."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from paritygate.api.manifest import load_manifest
from paritygate.cli.infer import inferred_manifest
from paritygate.errors import UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    age = np.linspace(20, 60, 80)
    data = pd.DataFrame({"age": age, "spend": age % 7, "churned": (age > 40).astype(int)})
    data.to_parquet("holdout.parquet")
    model = LogisticRegression().fit(data[["age", "spend"]], data["churned"])
    (tmp_path / "Churn Model.pkl").write_bytes(pickle.dumps(model))
    return tmp_path


def infer(folder, label="churned"):
    said = []
    model, dataset = folder / "Churn Model.pkl", folder / "holdout.parquet"
    file = inferred_manifest(
        model.relative_to(folder), dataset.relative_to(folder), label=label, loader=None, say=said.append
    )
    return file, said


def test_writes_a_manifest_that_can_be_run_and_says_why(folder):
    file, said = infer(folder)
    migration = load_manifest(file)
    assert migration.metadata.name == "churn-model"
    assert (folder / migration.spec.source.uri).exists()
    assert "  task       Classification  (LogisticRegression is a classifier)" in said
    assert said[-1].startswith("wrote churn-model.yaml")
    assert file.read_text().startswith(
        "# Inferred by `paritygate run 'Churn Model.pkl' holdout.parquet --label churned`."
    )


def test_says_so_when_nothing_changes(folder):
    infer(folder)
    assert infer(folder)[1][-1] == "churn-model.yaml says the same already"


def test_writes_its_own_manifest_anew(folder):
    infer(folder)
    assert infer(folder, label=None)[1][-1].startswith("rewrote churn-model.yaml")


def test_leaves_a_manifest_that_a_person_changed(folder):
    file, _ = infer(folder)
    changed = file.read_text().replace("accuracy", "roc_auc")
    file.write_text(changed)
    with pytest.raises(UsageError, match="written or changed by hand, so it stays"):
        infer(folder)
    assert file.read_text() == changed


def test_a_wrong_label_is_a_usage_error_and_writes_nothing(folder):
    with pytest.raises(UsageError, match="did you mean 'churned'"):
        infer(folder, label="churn")
    assert not list(folder.glob("*.yaml"))
