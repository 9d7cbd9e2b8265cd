"""scikit-learn's tree models answer alike, categories included, where the usual converter flips labels silently."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import pytest
from sklearn import datasets, ensemble, linear_model, tree

from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx_graph import GraphBuilder
from paritygate.worker.targets.sklearn_trees import Column, add_classifier, add_regressor, is_tree_model

COLUMNS, CATEGORICAL = 5, [1, 4]


def answered(estimator: Any, features: Any, columns: list[tuple[str, Datatype]] | None = None) -> list[Any]:
    """Labels as indices and probabilities, per target; or the prediction of a regressor."""
    builder = GraphBuilder(18)
    if columns is None:
        given: Any = builder.input("features", Datatype.FP64, (-1, features.shape[1]))
        feeds = {"features": np.asarray(features, dtype=np.float64)}
    else:
        given = [Column(builder.input(name, datatype, (-1, 1)), datatype) for name, datatype in columns]
        feeds = {name: features[name].to_numpy(copy=True)[:, None] for name, _ in columns}
        feeds = {
            name: cells.astype(object if datatype is Datatype.BYTES else np.float64)
            for (name, datatype), cells in zip(columns, feeds.values(), strict=True)
        }
    if hasattr(estimator, "classes_"):
        for index, output in enumerate(add_classifier(builder, estimator, given)):
            builder.output(f"label_{index}", output.label, Datatype.INT64, (-1,))
            builder.output(f"probabilities_{index}", output.probabilities, Datatype.FP64, (-1, -1))
    else:
        builder.output("prediction", add_regressor(builder, estimator, given), Datatype.FP64, (-1, -1))
    model = builder.model("model")
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    found: list[Any] = ort.InferenceSession(model.SerializeToString(), options).run(None, feeds)
    return found


@pytest.fixture(scope="module")
def categorical_rows() -> tuple[Any, Any]:
    """1,500 rows whose columns 1 and 4 are categories that no order explains; some are missing."""
    random = np.random.default_rng(0)
    codes = random.integers(0, 30, (1500, 2))
    features = random.normal(size=(1500, COLUMNS))
    features[random.random(features.shape) < 0.1] = np.nan
    effect = random.normal(size=30)
    target = (effect[codes[:, 0]] + effect[codes[:, 1]] + np.nan_to_num(features[:, 0]) > 0).astype(int)
    features[:, CATEGORICAL] = codes * 1.5
    features[::17, 1] = np.nan
    return features, target


def test_no_label_flips_where_features_are_categories(categorical_rows):
    features, target = categorical_rows
    estimator = ensemble.HistGradientBoostingClassifier(max_iter=40, categorical_features=CATEGORICAL)
    estimator.fit(features[:1000], target[:1000])
    rows = features[1000:].copy()
    rows[::5, 4] = np.resize([-1.0, 2.7, 300.0, 1e9, -0.0, 43.5], len(rows[::5]))
    label, probabilities = answered(estimator, rows)
    assert (label != estimator.predict(rows)).sum() == 0
    np.testing.assert_allclose(probabilities, estimator.predict_proba(rows), rtol=1e-13)
    # The same trees read as thresholds, as skl2onnx reads them, flip a large part of the labels.
    for predictor in (one for iteration in estimator._predictors for one in iteration):
        predictor.nodes["is_categorical"] = 0
    wrong, _ = answered(estimator, rows)
    assert (wrong != label).mean() > 0.1


def test_data_frame_with_text_categories(categorical_rows):
    features, target = categorical_rows
    names = np.asarray([f"city {code}" for code in range(30)], dtype=object)
    cities = names[np.nan_to_num(features[:, 4] / 1.5).astype(int)]
    frame = pd.DataFrame({"income": features[:, 0], "city": pd.Categorical(cities), "age": features[:, 2]})
    estimator = ensemble.HistGradientBoostingClassifier(max_iter=20, categorical_features="from_dtype")
    estimator.fit(frame, target)
    columns = [("income", Datatype.FP64), ("city", Datatype.BYTES), ("age", Datatype.FP64)]
    label, probabilities = answered(estimator, frame, columns)
    np.testing.assert_array_equal(label, estimator.predict(frame))
    np.testing.assert_allclose(probabilities, estimator.predict_proba(frame), rtol=1e-13)
    unseen = frame.assign(city="nowhere")
    missing = frame.assign(city=pd.Categorical([None] * len(frame), categories=frame["city"].cat.categories))
    np.testing.assert_array_equal(answered(estimator, unseen, columns)[0], estimator.predict(missing))


def test_text_categories_need_a_text_input(categorical_rows):
    features, target = categorical_rows
    frame = pd.DataFrame({"city": pd.Categorical(np.where(target, "a", "b")), "age": features[:, 2]})
    estimator = ensemble.HistGradientBoostingClassifier(max_iter=2, categorical_features="from_dtype").fit(
        frame, target
    )
    with pytest.raises(ConfigurationError, match="state it as BYTES"):
        answered(estimator, frame.assign(city=0.0), [("city", Datatype.FP64), ("age", Datatype.FP64)])


def thresholds_of(estimator: Any) -> list[tuple[int, float]]:
    if hasattr(estimator, "_predictors"):
        nodes = [node for iteration in estimator._predictors for one in iteration for node in one.nodes]
        return [(int(node["feature_idx"]), float(node["num_threshold"])) for node in nodes if not node["is_leaf"]]
    members = np.ravel(getattr(estimator, "estimators_", [estimator]))
    pairs = [pair for one in members for pair in zip(one.tree_.feature, one.tree_.threshold, strict=True)]
    return [(int(feature), float(threshold)) for feature, threshold in pairs if feature >= 0]


FAST = {"n_estimators": 15, "random_state": 0}


@pytest.mark.parametrize(
    ("estimator", "load"),
    [
        (tree.DecisionTreeClassifier(random_state=0), datasets.load_wine),
        (tree.ExtraTreeClassifier(random_state=0), datasets.load_wine),
        (ensemble.RandomForestClassifier(**FAST), datasets.load_breast_cancer),
        (ensemble.RandomForestClassifier(**FAST, max_depth=3), datasets.load_wine),
        (ensemble.ExtraTreesClassifier(**FAST), datasets.load_wine),
        (ensemble.GradientBoostingClassifier(**FAST), datasets.load_wine),
        (ensemble.GradientBoostingClassifier(**FAST, loss="exponential"), datasets.load_breast_cancer),
        (ensemble.GradientBoostingClassifier(**FAST, init="zero"), datasets.load_breast_cancer),
        (ensemble.HistGradientBoostingClassifier(max_iter=10), datasets.load_breast_cancer),
        (ensemble.HistGradientBoostingClassifier(max_iter=10), datasets.load_wine),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "fit") else value.__name__.removeprefix("load_"),
)
def test_classifiers_decide_alike_beside_their_thresholds(estimator, load, beside_thresholds):
    features, target = load(return_X_y=True)
    estimator.fit(features, target)
    rows = beside_thresholds(features, thresholds_of(estimator), [])
    for given in (features, rows):
        label, probabilities = answered(estimator, given)
        np.testing.assert_array_equal(estimator.classes_[label], estimator.predict(given))
        np.testing.assert_allclose(probabilities, estimator.predict_proba(given), rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize(
    "estimator",
    [
        tree.DecisionTreeRegressor(random_state=0),
        ensemble.RandomForestRegressor(**FAST),
        ensemble.GradientBoostingRegressor(**FAST, loss="huber"),
        ensemble.HistGradientBoostingRegressor(max_iter=10),
        ensemble.HistGradientBoostingRegressor(max_iter=10, loss="absolute_error"),
        ensemble.HistGradientBoostingRegressor(max_iter=10, loss="quantile", quantile=0.9),
        ensemble.HistGradientBoostingRegressor(max_iter=10, loss="poisson"),
        ensemble.HistGradientBoostingRegressor(max_iter=10, loss="gamma"),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'loss', '')}",
)
def test_regressors_predict_alike(estimator, beside_thresholds):
    features, target = datasets.load_diabetes(return_X_y=True)
    estimator.fit(features, target)
    for given in (features, beside_thresholds(features, thresholds_of(estimator), [])):
        np.testing.assert_allclose(answered(estimator, given)[0][:, 0], estimator.predict(given), rtol=1e-14)


def test_even_votes_break_as_the_source_breaks_them():
    random = np.random.default_rng(0)
    features, target = random.normal(size=(300, 3)), random.integers(0, 2, 300)
    estimator = ensemble.RandomForestClassifier(n_estimators=4, random_state=0).fit(features, target)
    rows = random.normal(size=(2000, 3))
    label, probabilities = answered(estimator, rows)
    assert (probabilities[:, 0] == 0.5).sum() > 100
    np.testing.assert_array_equal(label, estimator.predict(rows))


def test_several_targets_have_answers_of_their_own():
    features, target = datasets.load_wine(return_X_y=True)
    both = np.stack([target, target == 1], axis=1)
    estimator = ensemble.RandomForestClassifier(**FAST).fit(features, both)
    found = answered(estimator, features)
    for index, expected in enumerate(estimator.predict_proba(features)):
        np.testing.assert_array_equal(found[2 * index + 1], expected)


def test_missing_values_go_where_the_tree_learned():
    features, target = datasets.load_wine(return_X_y=True)
    features[np.random.default_rng(0).random(features.shape) < 0.2] = np.nan
    estimator = ensemble.RandomForestClassifier(**FAST).fit(features, target)
    np.testing.assert_array_equal(answered(estimator, features)[1], estimator.predict_proba(features))


def test_boosting_that_starts_from_another_model_is_refused():
    features, target = datasets.load_diabetes(return_X_y=True)
    estimator = ensemble.GradientBoostingRegressor(n_estimators=2, init=linear_model.LinearRegression())
    estimator.fit(features, target)
    with pytest.raises(ConfigurationError, match="LinearRegression; fit it with init='zero'") as caught:
        answered(estimator, features)
    assert caught.value.reason == "ConversionUnsupported"


def test_only_scikit_learns_own_trees_are_claimed():
    assert is_tree_model(tree.DecisionTreeClassifier())
    assert not is_tree_model(linear_model.LinearRegression())
