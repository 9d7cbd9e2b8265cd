"""LightGBM models answer alike after conversion: to the bit before the link function, without flips after it."""

from __future__ import annotations

import pickle

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.worker.sources import _lightgbm, lightgbm

CATEGORIES = 40
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-35, -1e-35, _lightgbm.ZERO_BOUND, -_lightgbm.ZERO_BOUND, 5e-324,
           -1.0, -0.5, 2.7, 70.0, 1e10, -1e10]  # fmt: skip
QUIET = {"verbose": -1, "num_threads": 1, "min_data_in_leaf": 5, "min_data_per_group": 5}


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    features = random.normal(size=(800, 5))
    features[random.random(features.shape) < 0.15] = 0.0
    features[random.random(features.shape) < 0.10] = np.nan
    features[:, 3] = random.integers(0, CATEGORIES, len(features))
    effect = random.normal(size=CATEGORIES)
    score = np.nan_to_num(features[:, 0]) + effect[features[:, 3].astype(int)]
    return features, score


def train(rows, objective, **parameters):
    features, score = rows
    targets = {"binary": score > 0, "multiclass": np.digitize(score, [-0.7, 0.7]), "poisson": np.exp(score / 2).round()}
    targets["multiclassova"] = targets["multiclass"]
    target = np.asarray(targets.get(objective, score), dtype=float)
    data = lgb.Dataset(features, target, categorical_feature=[3])
    return lgb.train({**QUIET, "objective": objective, **parameters}, data, 15)


def thresholds_of(booster):
    trees = _lightgbm.ensemble_of(_lightgbm.parse(booster.model_to_string())).trees
    return [
        (int(tree.feature[node]), float(tree.threshold[node]))
        for tree in trees
        for node in np.flatnonzero((tree.left >= 0) & (tree.category_set < 0))
    ]


def saved(tmp_path, booster):
    path = tmp_path / "model.txt"
    booster.save_model(str(path))
    return path


@pytest.mark.parametrize(
    ("objective", "parameters"),
    [
        pytest.param("binary", {}, id="binary"),
        pytest.param("binary", {"zero_as_missing": True}, id="zeros are missing"),
        pytest.param("binary", {"use_missing": False}, id="missing values are zeros"),
        pytest.param("binary", {"sigmoid": 2.5}, id="another slope of the sigmoid"),
        pytest.param("binary", {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.7}, id="random forest mode"),
        pytest.param("binary", {"max_cat_to_onehot": 1}, id="large category sets"),
        pytest.param("multiclass", {"num_class": 3}, id="softmax over classes"),
        pytest.param("multiclassova", {"num_class": 3}, id="one against all"),
    ],
)
def test_classifier_has_the_sources_bits_and_labels(
    rows, tmp_path, converted_model, wire, beside_thresholds, objective, parameters
):
    booster = train(rows, objective, **parameters)
    classes = parameters.get("num_class", 2)
    candidate = converted_model(
        "LightGBM",
        saved(tmp_path, booster),
        [wire.tensor("features", "FP64", (-1, 5))],
        [
            wire.output("label", "Label", "INT64", (-1,), range(classes)),
            wire.output("probabilities", "Probabilities", "FP64", (-1, classes)),
            wire.output("scores", "Scores", "FP64", (-1, classes) if classes > 2 else (-1,)),
        ],
    )
    probes = beside_thresholds(rows[0], thresholds_of(booster), SPECIAL)
    for features in (rows[0], probes):
        answer = candidate.answer({"features": features})
        raw, probabilities = booster.predict(features, raw_score=True), booster.predict(features)
        if classes == 2:
            probabilities = np.stack([1.0 - probabilities, probabilities], axis=1)
        np.testing.assert_array_equal(answer["scores"], raw)
        np.testing.assert_allclose(answer["probabilities"], probabilities, rtol=1e-13, atol=1e-15)
        np.testing.assert_array_equal(answer["label"], probabilities.argmax(axis=1))


@pytest.mark.parametrize(
    ("objective", "parameters"),
    [
        pytest.param("regression", {}, id="least squares"),
        pytest.param("regression", {"reg_sqrt": True}, id="least squares on square roots"),
        pytest.param("regression_l1", {}, id="absolute error"),
        pytest.param("quantile", {"alpha": 0.8}, id="quantile"),
        pytest.param("poisson", {}, id="poisson"),
        pytest.param("regression", {"boosting": "dart"}, id="dart"),
    ],
)
def test_regressor_predicts_alike(rows, tmp_path, converted_model, wire, beside_thresholds, objective, parameters):
    booster = train(rows, objective, **parameters)
    candidate = converted_model(
        "LightGBM",
        saved(tmp_path, booster),
        [wire.tensor("features", "FP64", (-1, 5))],
        [wire.output("prediction", "Prediction")],
    )
    for features in (rows[0], beside_thresholds(rows[0], thresholds_of(booster), SPECIAL)):
        expected = booster.predict(features)
        np.testing.assert_allclose(candidate.answer({"features": features})["prediction"], expected, rtol=1e-13)


def test_one_row_has_the_bits_of_many(rows, tmp_path, converted_model, wire):
    booster = train(rows, "regression")
    candidate = converted_model(
        "LightGBM",
        saved(tmp_path, booster),
        [wire.tensor("features", "FP64", (-1, 5))],
        [wire.output("prediction", "Prediction")],
    )
    features = rows[0][:50]
    together = candidate.answer({"features": features})["prediction"]
    single = [candidate.answer({"features": row[None]})["prediction"][0] for row in features]
    np.testing.assert_array_equal(together, single)
    assert candidate.answer({"features": features[:0]})["prediction"].shape == (0,)


def test_pickled_classifier_on_a_data_frame_keeps_categories_and_best_iteration(rows, tmp_path, converted_model, wire):
    features, score = rows
    names = np.asarray([f"city {code}" for code in range(CATEGORIES)])
    frame = pd.DataFrame({"income": features[:, 0], "city": pd.Categorical(names[features[:, 3].astype(int)])})
    labels = (score > 0).astype(int)
    estimator = lgb.LGBMClassifier(n_estimators=60, verbose=-1, n_jobs=1, min_child_samples=5, random_state=0)
    estimator.fit(
        frame[:500],
        labels[:500],
        eval_X=frame[500:],
        eval_y=labels[500:],
        callbacks=[lgb.early_stopping(3, verbose=False)],
    )
    assert 0 < estimator.best_iteration_ < 60
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    candidate = converted_model(
        "LightGBM",
        path,
        [wire.tensor("income"), wire.tensor("city", "BYTES")],
        [
            wire.output("label", "Label", "INT64", (-1,), [0, 1]),
            wire.output("probabilities", "Probabilities", "FP64", (-1, 2)),
        ],
    )
    text = frame["city"].astype(object).to_numpy(copy=True)
    text[::7] = "a city that was never seen"
    seen = frame.assign(
        city=pd.Categorical(
            np.where(np.arange(len(text)) % 7 == 0, None, text), categories=frame["city"].cat.categories
        )
    )
    answer = candidate.answer({"income": features[:, :1], "city": text[:, None]})
    np.testing.assert_allclose(answer["probabilities"], estimator.predict_proba(seen), rtol=1e-13)
    np.testing.assert_array_equal(answer["label"], estimator.predict(seen))


def test_labels_of_a_pickled_classifier_are_its_classes(rows, tmp_path, converted_model, wire):
    features, score = rows
    labels = np.where(score > 0, "stays", "leaves")
    estimator = lgb.LGBMClassifier(n_estimators=5, verbose=-1, n_jobs=1).fit(features, labels)
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    candidate = converted_model(
        "LightGBM",
        path,
        [wire.tensor("features", "FP64", (-1, 5))],
        [wire.output("label", "Label", "BYTES", (-1,), ["leaves", "stays"])],
    )
    np.testing.assert_array_equal(candidate.answer({"features": features})["label"], estimator.predict(features))


def test_the_same_model_gives_the_same_bytes(rows, tmp_path, converted_model, wire):
    path = saved(tmp_path, train(rows, "binary"))
    signature = [wire.tensor("features", "FP64", (-1, 5))], [wire.output("scores", "Scores")]
    first, second = (converted_model("LightGBM", path, *signature).path.read_bytes() for _ in range(2))
    assert first == second


def test_assessment_names_what_is_known_to_go_wrong(rows, tmp_path):
    path = saved(tmp_path, train(rows, "binary", zero_as_missing=True))
    assessment = lightgbm.assess(path, Source(format=SourceFormat.LIGHTGBM, uri="model.txt"))
    assert {finding.rule for finding in assessment.findings} == {
        "LGBM-ZERO-AS-MISSING", "LGBM-CATEGORICAL", "FLOAT64-THRESHOLDS",
    }  # fmt: skip
    assert assessment.parameters > 15
    assert assessment.size == path.stat().st_size


def test_linear_trees_are_refused_with_what_to_do(rows, tmp_path, converted_model, wire):
    features, score = rows
    data = lgb.Dataset(np.nan_to_num(features), score)
    booster = lgb.train({**QUIET, "objective": "regression", "linear_tree": True}, data, 3)
    with pytest.raises(ConfigurationError, match="linear_tree=false") as caught:
        converted_model(
            "LightGBM",
            saved(tmp_path, booster),
            [wire.tensor("features", "FP64", (-1, 5))],
            [wire.output("prediction", "Prediction")],
        )
    assert caught.value.reason == "ConversionUnsupported"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        pytest.param(lambda text: text[: len(text) // 2], "truncated", id="cut in half"),
        pytest.param(
            lambda text: text.replace("max_feature_idx=4", ""), "lacks max_feature_idx", id="without a header"
        ),
        pytest.param(lambda text: text.replace("Tree=3\n", "Tre=3\n"), "15 trees and holds 14", id="without a tree"),
    ],
)
def test_damaged_text_is_refused(rows, tmp_path, damage, message):
    path = saved(tmp_path, train(rows, "binary"))
    path.write_text(damage(path.read_text()))
    with pytest.raises(ConfigurationError, match=message) as caught:
        lightgbm.assess(path, Source(format=SourceFormat.LIGHTGBM, uri="model.txt"))
    assert caught.value.reason == "ModelUnreadable"


def test_a_pickle_of_something_else_is_named(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(lgb.LGBMClassifier))
    with pytest.raises(ConfigurationError, match=r"holds no LightGBM model.*source\.format"):
        lightgbm.assess(path, Source(format=SourceFormat.LIGHTGBM, uri="model.pkl"))
