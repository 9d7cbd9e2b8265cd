"""Scikit-learn sources: every kind of estimator, of file, and of mistake."""

import importlib
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks import trees
from paritygate.agent.frameworks.sklearn import load

MATRIX = {"features": ("FP64", (-1, 4))}
LABEL = {"label": ("INT64", (-1,), "Label")}


def jitter(rows):
    return rows + np.random.default_rng().normal(size=rows.shape)


def saved(tmp_path: Path, estimator: Any, name: str = "model.joblib") -> Path:
    joblib.dump(estimator, tmp_path / name)
    return tmp_path / name


def test_classifier_gives_labels_and_probabilities_as_they_were(tmp_path, take, columns, features):
    model = LogisticRegression().fit(features, columns["y"])
    taken = take("SKLearn", saved(tmp_path, model), columns, label="y")
    assert taken.inputs == MATRIX
    assert taken.outputs == {**LABEL, "probabilities": ("FP32", (-1, 2), "Probabilities")}
    assert [output.classes for output in taken.signature.outputs] == [(0, 1), (0, 1)]
    reference = taken.table("reference")
    np.testing.assert_array_equal(reference["probabilities"], model.predict_proba(features))
    np.testing.assert_array_equal(reference["label"], model.predict(features))
    np.testing.assert_array_equal(taken.table("inputs")["features"], features)
    np.testing.assert_array_equal(taken.table("annotations")["y"], columns["y"])
    assert taken.manifest.task == "Classification"
    assert taken.manifest.cast_exact
    assert not (taken.folder / "cast.npz").exists()
    assert taken.manifest.source_datatypes == {"label": "int64", "probabilities": "float64"}
    assert taken.manifest.columns == ("a", "b", "c", "d")
    assert not any(noise.stochastic for noise in taken.manifest.noise)


@pytest.mark.parametrize(
    ("estimator", "target", "outputs", "task"),
    [
        pytest.param(
            LinearSVC(),
            "y",
            {**LABEL, "scores": ("FP32", (-1,), "Scores")},
            "Classification",
            id="decision function only",
        ),
        pytest.param(Ridge(), "float", {"prediction": ("FP32", (-1,), "Prediction")}, "Regression", id="regressor"),
        pytest.param(Ridge(), "two", {"prediction": ("FP32", (-1, 2), "Prediction")}, "Regression", id="two targets"),
        pytest.param(
            KMeans(2, n_init=1, random_state=0),
            None,
            {"prediction": ("INT64", (-1,), "Prediction")},
            "Generic",
            id="clusterer",
        ),
        pytest.param(
            StandardScaler(), None, {"transformed": ("FP32", (-1, 4), "Transformed")}, "Generic", id="transformer"
        ),
        pytest.param(
            MultiOutputClassifier(LogisticRegression()),
            "two labels",
            {
                "label": ("INT64", (-1, 2), "Label"),
                "probabilities_0": ("FP32", (-1, 2), "Probabilities"),
                "probabilities_1": ("FP32", (-1, 2), "Probabilities"),
            },
            "Classification",
            id="several outputs",
        ),
        pytest.param(
            LogisticRegression(),
            "text",
            {"label": ("BYTES", (-1,), "Label"), "probabilities": ("FP32", (-1, 2), "Probabilities")},
            "Classification",
            id="text labels",
        ),
        pytest.param(
            LogisticRegression(),
            "bool",
            {"label": ("BOOL", (-1,), "Label"), "probabilities": ("FP32", (-1, 2), "Probabilities")},
            "Classification",
            id="boolean labels",
        ),
        pytest.param(
            LogisticRegression(),
            "float labels",
            {**LABEL, "probabilities": ("FP32", (-1, 2), "Probabilities")},
            "Classification",
            id="integral float labels",
        ),
    ],
)
def test_outputs_follow_the_kind_of_estimator(tmp_path, take, columns, features, estimator, target, outputs, task):
    y = columns["y"]
    targets = {
        "y": y,
        "float": features[:, 0] * 2,
        "two": features[:, :2],
        "two labels": np.stack([y, 1 - y], axis=1),
        "text": np.where(y == 1, "yes", "no"),
        "bool": y.astype(bool),
        "float labels": y.astype(float),
        None: None,
    }
    taken = take("SKLearn", saved(tmp_path, estimator.fit(features, targets[target])), columns, label="y")
    assert taken.outputs == outputs
    assert taken.manifest.task == task


def test_pipeline_on_a_data_frame_gets_its_own_columns_and_types(tmp_path, take, features, columns):
    frame = pd.DataFrame(features[:, :2], columns=["age", "income"])
    frame["visits"] = np.arange(80)
    frame["city"] = pd.Series(["Oslo", "Bergen", None, "Tromsø"] * 20, dtype=object)
    frame["tier"] = pd.Categorical(np.where(features[:, 2] > 0, "gold", "iron"))
    steps = make_column_transformer(
        (StandardScaler(), ["income", "age"]),
        (make_pipeline(SimpleImputer(strategy="most_frequent", missing_values=None), OneHotEncoder()), ["city"]),
        (OneHotEncoder(handle_unknown="ignore"), ["tier"]),
        ("passthrough", ["visits"]),
    )
    model = make_pipeline(steps, DecisionTreeClassifier(max_depth=4, random_state=0)).fit(frame, columns["y"])
    tier = Category(frame["tier"].cat.codes, np.asarray(frame["tier"].cat.categories, dtype=object))
    table = {
        "note": np.asarray(["-"] * 80, dtype=object),
        "tier": tier,
        "city": frame["city"].to_numpy(dtype=object),
        **{name: frame[name].to_numpy() for name in ("visits", "income", "age")},
        "y": columns["y"],
    }
    taken = take("SKLearn", saved(tmp_path, model), table, label="y", slices=["city"])
    assert taken.inputs == {
        "age": ("FP64", (-1, 1)),
        "income": ("FP64", (-1, 1)),
        "visits": ("INT64", (-1, 1)),
        "city": ("BYTES", (-1, 1)),
        "tier": ("BYTES", (-1, 1)),
    }
    np.testing.assert_array_equal(taken.table("reference")["probabilities"], model.predict_proba(frame))
    assert taken.manifest.cast_exact
    assert list(taken.table("annotations")) == ["y", "city"]
    assert set(taken.rules) == {"MISSING-TEXT", "UNUSED-COLUMNS"}
    assert taken.table("inputs")["city"][2, 0] == ""
    unseen = [probe for probe in taken.probes("unseen-category") if "text" in probe.description]
    assert {probe.refused is None for probe in unseen} == {True, False}


def test_text_vectoriser_takes_one_column_of_text(tmp_path, take, columns):
    text = np.asarray([f"a {'good' if y else 'bad'} film {n % 7}" for n, y in enumerate(columns["y"])], dtype=object)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(text, columns["y"])
    taken = take("SKLearn", saved(tmp_path, model), {"review": text, "y": columns["y"]}, label="y")
    assert taken.inputs == {"review": ("BYTES", (-1, 1))}
    assert taken.table("inputs")["review"].shape == (80, 1)
    np.testing.assert_array_equal(taken.table("reference")["probabilities"], model.predict_proba(text))


def test_single_precision_dataset_stays_single_precision(tmp_path, take, columns, features):
    narrow = features.astype(np.float32)
    model = LogisticRegression().fit(narrow, columns["y"])
    taken = take("SKLearn", saved(tmp_path, model), {"features": narrow, "y": columns["y"]}, label="y")
    assert taken.inputs == {"features": ("FP32", (-1, 4))}


def test_stated_datatype_that_loses_digits_records_the_answers_to_the_cast_rows(tmp_path, take, columns, features):
    precise = features + 1e-9
    model = LogisticRegression(C=1e3).fit(precise, columns["y"])
    table = {"features": precise, "y": columns["y"]}
    stated = [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    taken = take("SKLearn", saved(tmp_path, model), table, label="y", inputs=stated)
    assert taken.inputs == {"x": ("FP32", (-1, 4))}
    assert not taken.manifest.cast_exact
    expected = model.predict_proba(precise.astype(np.float32).astype(np.float64))
    np.testing.assert_array_equal(taken.table("cast")["probabilities"], expected)
    assert taken.table("inputs")["x"].dtype == np.float32


def test_call_narrows_to_one_method_and_outputs_rename(tmp_path, take, columns, features):
    model = saved(tmp_path, LogisticRegression().fit(features, columns["y"]))
    taken = take(
        "SKLearn", model, columns, label="y", call="predict_proba", outputs=[{"name": "p", "datatype": "FP64"}]
    )
    assert taken.outputs == {"p": ("FP64", (-1, 2), "Probabilities")}
    with pytest.raises(AgentError, match=r"source\.call is 'score_all', which LogisticRegression does not have"):
        take("SKLearn", model, columns, label="y", call="score_all")
    with pytest.raises(AgentError, match=r"source\.outputs states 1 outputs .*the model gives 2") as error:
        take("SKLearn", model, columns, label="y", outputs=[{"name": "p"}])
    assert error.value.reason == "OutputsMismatch"


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(DecisionTreeClassifier(max_depth=3, random_state=0), id="a tree"),
        pytest.param(RandomForestClassifier(3, max_depth=3, random_state=0), id="a forest"),
        pytest.param(GradientBoostingRegressor(n_estimators=3, random_state=0), id="gradient boosting"),
        pytest.param(HistGradientBoostingClassifier(max_iter=3, random_state=0), id="histogram gradient boosting"),
        pytest.param(
            make_pipeline(StandardScaler(), RandomForestRegressor(3, random_state=0)), id="trees after a scaler"
        ),
    ],
)
def test_probes_stand_one_step_beside_the_thresholds_of(tmp_path, take, columns, features, estimator):
    taken = take("SKLearn", saved(tmp_path, estimator.fit(features, columns["y"])), columns, label="y")
    assert taken.probes("threshold")
    rows = [row for row, probe in enumerate(taken.manifest.probes) if probe.kind == "threshold"]
    values = taken.table("probes")["features"][rows[:5]]
    (column,) = np.flatnonzero((values != values[0]).any(axis=0))
    at, below, single_below, above, single_above = values[:, column]
    assert (below, above) == (np.nextafter(at, -np.inf), np.nextafter(at, np.inf))
    assert np.float32(single_below) < np.float32(at) < np.float32(single_above)


def test_thresholds_of_trees_on_some_columns_name_the_columns_of_the_model(features):
    estimator = IsolationForest(n_estimators=5, max_features=2, random_state=0).fit(features)
    drawn = {
        (int(chosen[feature]), float(value))
        for member, chosen in zip(estimator.estimators_, estimator.estimators_features_, strict=True)
        for feature, value in zip(member.tree_.feature, member.tree_.threshold, strict=True)
        if feature >= 0
    }
    found = trees.thresholds_of_sklearn(estimator, "features", None)
    assert {(feature, float(value)) for _, feature, values in found for value in values} == drawn


def test_integers_are_probed_by_integers_on_both_sides_of_thresholds(tmp_path, take, features):
    """The source cannot be asked 20.5 in a column of integers; what it would be asked instead is another row."""
    integers = (features * 20).astype(np.int64)
    y = (integers[:, 0] > 3).astype(int)
    table = {f"c{i}": integers[:, i] for i in range(4)} | {"y": y}
    model = DecisionTreeClassifier(max_depth=2, random_state=0).fit(integers, y)
    taken = take("SKLearn", saved(tmp_path, model), table, label="y")
    values = taken.table("probes")["features"]
    assert taken.probes("threshold")
    assert (values == np.floor(values)).all()


def test_thresholds_of_histogram_boosting_with_categories_name_the_right_column(tmp_path, take, columns, features):
    frame = pd.DataFrame(features[:, :2], columns=["a", "b"])
    frame.insert(1, "k", pd.Categorical(np.where(features[:, 2] > 0, "u", "v")))
    y = (features[:, 0] > 0.25).astype(int)
    model = HistGradientBoostingClassifier(max_iter=1, categorical_features="from_dtype").fit(frame, y)
    kinds = Category(frame["k"].cat.codes, np.asarray(frame["k"].cat.categories, dtype=object))
    table = {"a": columns["a"], "k": kinds, "b": columns["b"]}
    taken = take("SKLearn", saved(tmp_path, model), table)
    first = taken.probes("threshold")[0].description
    assert first.endswith("in a")
    assert taken.inputs["k"] == ("BYTES", (-1, 1))


def test_what_the_source_refuses_is_recorded_with_its_error(tmp_path, take, columns, features):
    taken = take("SKLearn", saved(tmp_path, LogisticRegression().fit(features, columns["y"])), columns, label="y")
    refused = [probe.refused for probe in taken.probes("nan")]
    assert len(refused) == 4
    assert all("contains NaN" in text for text in refused)
    # Not by numpy's warnings about them, which are errors in tests.
    assert all("contains infinity" in probe.refused for probe in taken.probes("inf"))
    assert taken.probes("empty-batch")[0].refused.startswith("ValueError: Found array with 0 sample(s)")
    assert not any(probe.inside_domain for probe in taken.probes("nan") + taken.probes("inf"))
    assert all(probe.inside_domain for probe in taken.probes("extreme") if "est value" in probe.description)
    rows = len(taken.manifest.probes) - 1
    assert len(taken.table("probes")["features"]) == len(taken.table("probes_reference")["label"]) == rows <= 256


def test_same_model_and_dataset_give_the_same_bytes(tmp_path, take, columns, features):
    model = saved(tmp_path, RandomForestClassifier(5, n_jobs=2, random_state=0).fit(features, columns["y"]))
    one, two = (take("SKLearn", model, columns, label="y").folder for _ in range(2))
    for path in one.iterdir():
        assert path.read_bytes() == (two / path.name).read_bytes(), path.name


def test_source_that_answers_differently_each_time_is_stochastic(tmp_path, take, columns):
    taken = take("SKLearn", saved(tmp_path, FunctionTransformer(jitter)), columns, label="y")
    assert taken.manifest.noise[0].stochastic
    assert taken.manifest.noise[0].floor > 0.1


def test_skops_and_plain_pickle_are_read(tmp_path, take, columns, features):
    model = make_pipeline(FunctionTransformer(np.tanh), LogisticRegression()).fit(features, columns["y"])
    skops.io.dump(model, tmp_path / "model.skops")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(model))
    by_skops = take("SKLearn", tmp_path / "model.skops", columns, label="y")
    by_pickle = take("SKLearn", tmp_path / "model.pkl", columns, label="y")
    assert (
        by_skops.table("reference")["probabilities"].tolist() == by_pickle.table("reference")["probabilities"].tolist()
    )


def test_types_that_skops_does_not_trust_are_a_finding(tmp_path, take, columns):
    skops.io.dump(FunctionTransformer(jitter), tmp_path / "model.skops")
    taken = take("SKLearn", tmp_path / "model.skops", columns, label="y")
    assert taken.rules == ["SKOPS-TYPES-TRUSTED"]
    assert "jitter" in taken.manifest.findings[0].message


def test_folder_brings_the_code_that_its_pickle_names(tmp_path, take, columns, features, monkeypatch):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "own_steps_of_test.py").write_text("def double(x): return x * 2\n")
    monkeypatch.syspath_prepend(folder)
    double = importlib.import_module("own_steps_of_test").double
    saved(folder, make_pipeline(FunctionTransformer(double), LogisticRegression()).fit(features, columns["y"]))
    monkeypatch.undo()
    del sys.modules["own_steps_of_test"]
    assert take("SKLearn", folder, columns, label="y").manifest.rows == 80
    assert not (folder / "__pycache__").exists() or not list((folder / "__pycache__").iterdir())


@pytest.mark.parametrize(
    ("content", "reason", "text"),
    [
        pytest.param(None, "ModelUnreadable", "there is no model at", id="missing file"),
        pytest.param(b"", "ModelUnreadable", "is empty (0 bytes)", id="empty file"),
        pytest.param(b"\x89PNG\r\n\x1a\n" * 9, "ModelUnreadable", "is not a pickle", id="foreign file"),
        pytest.param(pickle.dumps(Ridge())[:40], "ModelUnreadable", "is truncated or damaged", id="truncated pickle"),
        pytest.param(pickle.dumps({"model": 1}), "WrongFormat", "holds a dict with the keys 'model'", id="a dict"),
        pytest.param(pickle.dumps([1, 2]), "WrongFormat", "holds a builtins.list", id="a list"),
        pytest.param(
            pickle.dumps(3).replace(b"K\x03", b"cno_such_package\nthing\n"),
            "PackageMissing",
            "needs package 'no-such-package'",
            id="missing package",
        ),
        pytest.param(
            b"\x80\x04csklearn.ensemble._gb_losses\nBinomialDeviance\n.",
            "PackageMissing",
            "written by another version",
            id="module of another version",
        ),
        pytest.param(
            b"\x80\x04c__main__\nMyStep\n.",
            "ModelUnreadable",
            "needs code that was defined in the script",
            id="code of a script",
        ),
        pytest.param(b"\x80\x04csys\nexit\n(I0\ntR.", "ModelUnreadable", "SystemExit: 0", id="a pickle that exits"),
    ],
)
def test_file_that_holds_no_estimator_is_refused(tmp_path, content, reason, text):
    path = tmp_path / "model.pkl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AgentError) as error:
        load(str(path))
    assert error.value.reason == reason
    assert text in error.value.message


def test_missing_package_says_how_the_environment_gets_it(tmp_path):
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04ccategory_encoders.target\nTargetEncoder\n.")
    with pytest.raises(
        AgentError, match=r"add it to source\.environment\.virtualenv\.requirements, e\.g\. - category-encoders"
    ):
        load(str(tmp_path / "model.pkl"))


def test_truncated_skops_is_refused(tmp_path, features):
    skops.io.dump(StandardScaler().fit(features), tmp_path / "whole.skops")
    content = (tmp_path / "whole.skops").read_bytes()
    (tmp_path / "model.skops").write_bytes(content[: len(content) // 2])
    with pytest.raises(AgentError, match="cannot be read as a skops file") as error:
        load(str(tmp_path / "model.skops"))
    assert error.value.reason == "ModelUnreadable"


def test_manifest_is_canonical_json(tmp_path, take, columns, features):
    taken = take("SKLearn", saved(tmp_path, Ridge().fit(features, features[:, 0])), columns, label="y")
    text = (taken.folder / "capture.json").read_bytes()
    data = json.loads(text)
    assert text == json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def test_an_estimator_that_answers_no_new_rows_is_refused(tmp_path, take, columns, features):
    with pytest.raises(AgentError, match=r"DBSCAN, which has no method that answers new rows") as error:
        take("SKLearn", saved(tmp_path, DBSCAN().fit(features)), columns)
    assert error.value.reason == "WrongFormat"
