"""XGBoost models answer alike after conversion: margins to the bit, labels without flips."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from paritygate.api.spec import Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.worker.sources import _ubjson, _xgboost, xgboost

CATEGORIES = 30
SPECIAL = [np.nan, 0.0, -0.0, 1e-40, 3e38, -3e38]
SOURCE = Source(format=SourceFormat.XGBOOST, uri="model")


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    features = random.normal(size=(600, 5)).astype(np.float32)
    features[random.random(features.shape) < 0.1] = np.nan
    features[:, 3] = random.integers(0, CATEGORIES, len(features))
    effect = random.normal(size=CATEGORIES)
    return features, np.nan_to_num(features[:, 0]) + effect[features[:, 3].astype(int)]


def target_of(score, objective):
    if objective.startswith("binary:") or objective == "reg:logistic":
        return (score > 0).astype(int)
    if objective.startswith(("multi:", "rank:")):
        return np.digitize(score, [-0.7, 0.7])
    return np.exp(score / 2) if objective in _xgboost.EXPONENTIAL else score


def train(rows, objective, *, categorical=False, rounds=15, **parameters):
    features, score = rows
    kinds = ["q", "q", "q", "c", "q"] if categorical else None
    groups = {"qid": np.arange(len(features)) // 20} if objective.startswith("rank:") else {}
    data = xgb.DMatrix(
        features, target_of(score, objective), feature_types=kinds, enable_categorical=categorical, **groups
    )
    return xgb.train({"objective": objective, "nthread": 1, "max_depth": 4, "verbosity": 0, **parameters}, data, rounds)


def matrix(booster, features):
    return xgb.DMatrix(features, feature_types=booster.feature_types, enable_categorical=True)


def thresholds_of(booster):
    document = _xgboost.parse(bytes(booster.save_raw("ubj")))
    trees = _xgboost.ensemble_of(document, missing=float("nan"), iterations=None).trees
    return [
        (int(tree.feature[node]), float(tree.threshold[node]))
        for tree in trees
        for node in np.flatnonzero((tree.left >= 0) & (tree.category_set < 0))
    ]


def saved(tmp_path, booster, name="model.ubj"):
    path = tmp_path / name
    booster.save_model(str(path))
    return path, xgb.Booster(params={"nthread": 1}, model_file=str(path))


def features_input(wire, datatype="FP32"):
    return [wire.tensor("features", datatype, (-1, 5))]


@pytest.mark.parametrize(
    ("objective", "parameters"),
    [
        pytest.param("binary:logistic", {}, id="two classes"),
        pytest.param("binary:hinge", {}, id="hinge"),
        pytest.param("binary:logistic", {"categorical": True}, id="one category against the rest"),
        pytest.param("binary:logistic", {"categorical": True, "max_cat_to_onehot": 1}, id="sets of categories"),
        pytest.param("multi:softprob", {"num_class": 3}, id="three classes"),
        pytest.param("multi:softprob", {"num_class": 3, "booster": "dart", "rate_drop": 0.5}, id="dart"),
    ],
)
@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
def test_classifier_has_the_sources_margins_and_labels(
    rows, tmp_path, converted_model, wire, beside_thresholds, objective, parameters, name
):
    path, booster = saved(tmp_path, train(rows, objective, **parameters), name)
    classes = parameters.get("num_class", 2)
    candidate = converted_model(
        "XGBoost",
        path,
        features_input(wire),
        [
            wire.output("label", "Label", "INT64", (-1,), range(classes)),
            wire.output("probabilities", "Probabilities", "FP32", (-1, classes)),
            wire.output("scores", "Scores", "FP32", (-1, classes) if classes > 2 else (-1,)),
        ],
    )
    probes = beside_thresholds(rows[0], thresholds_of(booster), SPECIAL)
    if parameters.get("categorical"):
        probes[:, 3] = np.random.default_rng(1).choice([np.nan, 0, 5, 29, 30, 1000, 2.5, -1, -0.5, 2**24], len(probes))
    for features in (rows[0], probes):
        answer = candidate.answer({"features": features})
        data = matrix(booster, features)
        shares = booster.predict(data)
        label = shares.argmax(axis=1) if shares.ndim == 2 else (shares > np.float32(0.5)).astype(int)
        if shares.ndim == 1:
            shares = np.stack([1 - shares, shares], axis=1)
        np.testing.assert_array_equal(answer["scores"], booster.predict(data, output_margin=True))
        np.testing.assert_allclose(answer["probabilities"], shares, rtol=2e-6, atol=1e-7)
        np.testing.assert_array_equal(answer["label"], label)


@pytest.mark.parametrize(
    ("objective", "parameters"),
    [
        pytest.param("reg:squarederror", {}, id="least squares"),
        pytest.param("reg:squarederror", {"base_score": 0.3}, id="a stated base score"),
        pytest.param("reg:squarederror", {"num_parallel_tree": 3, "subsample": 0.5}, id="boosted forests"),
        pytest.param("reg:squarederror", {"booster": "dart", "rate_drop": 0.3}, id="dart"),
        pytest.param("reg:absoluteerror", {}, id="absolute error"),
        pytest.param("reg:logistic", {}, id="logistic"),
        pytest.param("count:poisson", {}, id="poisson"),
        pytest.param("reg:gamma", {}, id="gamma"),
        pytest.param("reg:tweedie", {}, id="tweedie"),
        pytest.param("rank:pairwise", {}, id="ranking"),
    ],
)
def test_regressor_predicts_alike(rows, tmp_path, converted_model, wire, beside_thresholds, objective, parameters):
    path, booster = saved(tmp_path, train(rows, objective, **parameters))
    candidate = converted_model(
        "XGBoost", path, features_input(wire), [wire.output("prediction", "Prediction", "FP32")]
    )
    for features in (rows[0], beside_thresholds(rows[0], thresholds_of(booster), SPECIAL)):
        expected = booster.predict(matrix(booster, features))
        np.testing.assert_allclose(candidate.answer({"features": features})["prediction"], expected, rtol=5e-7)


def test_quantiles_are_columns(rows, tmp_path, converted_model, wire):
    path, booster = saved(tmp_path, train(rows, "reg:quantileerror", quantile_alpha=np.array([0.1, 0.5, 0.9])))
    candidate = converted_model(
        "XGBoost", path, features_input(wire), [wire.output("prediction", "Prediction", "FP32", (-1, 3))]
    )
    answer = candidate.answer({"features": rows[0]})["prediction"]
    np.testing.assert_array_equal(answer, booster.predict(matrix(booster, rows[0])))


def test_one_row_has_the_bits_of_many(rows, tmp_path, converted_model, wire):
    path, _ = saved(tmp_path, train(rows, "reg:squarederror"))
    candidate = converted_model(
        "XGBoost", path, features_input(wire), [wire.output("prediction", "Prediction", "FP32")]
    )
    together = candidate.answer({"features": rows[0][:50]})["prediction"]
    single = [candidate.answer({"features": row[None]})["prediction"][0] for row in rows[0][:50]]
    np.testing.assert_array_equal(together, single)


def test_pickled_estimator_keeps_its_missing_value_and_best_iteration(rows, tmp_path, converted_model, wire):
    features, score = rows
    features = np.where(np.isnan(features), np.float32(-999), features)
    labels = (score > 0).astype(int)
    estimator = xgb.XGBClassifier(n_estimators=80, missing=-999.0, early_stopping_rounds=2, n_jobs=1)
    estimator.fit(features[:400], labels[:400], eval_set=[(features[400:], labels[400:])], verbose=False)
    assert estimator.best_iteration < 79
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    candidate = converted_model(
        "XGBoost",
        path,
        features_input(wire),
        [
            wire.output("label", "Label", "INT64", (-1,), [0, 1]),
            wire.output("probabilities", "Probabilities", "FP32", (-1, 2)),
        ],
    )
    answer = candidate.answer({"features": features})
    np.testing.assert_allclose(answer["probabilities"], estimator.predict_proba(features), rtol=2e-6, atol=1e-7)
    np.testing.assert_array_equal(answer["label"], estimator.predict(features))
    assessment = xgboost.assess(path, SOURCE)
    assert [finding.rule for finding in assessment.findings] == ["XGB-MISSING-VALUE", "XGB-BEST-ITERATION"]
    assert assessment.framework_version == xgb.__version__
    assert assessment.estimators[0] == "xgboost.sklearn.XGBClassifier"


def test_data_frame_with_categories_has_an_input_per_column(rows, tmp_path, converted_model, wire):
    features, score = rows
    names = np.asarray([f"city {code}" for code in range(CATEGORIES)])
    frame = pd.DataFrame(
        {
            "income": features[:, 0],
            "city": pd.Categorical(names[features[:, 3].astype(int)]),
            "size": pd.Categorical(features[:, 3].astype(int) // 10 * 10),
        }
    )
    estimator = xgb.XGBClassifier(n_estimators=10, enable_categorical=True, n_jobs=1).fit(frame, score > 0)
    path = tmp_path / "model.json"
    estimator.save_model(str(path))
    candidate = converted_model(
        "XGBoost",
        path,
        [wire.tensor("income", "FP32"), wire.tensor("city", "BYTES"), wire.tensor("size", "INT64")],
        [wire.output("probabilities", "Probabilities", "FP32", (-1, 2))],
    )
    answer = candidate.answer(
        {
            "income": features[:, :1],
            "city": frame["city"].astype(object).to_numpy()[:, None],
            "size": frame["size"].astype(int).to_numpy()[:, None],
        }
    )
    np.testing.assert_allclose(answer["probabilities"], estimator.predict_proba(frame), rtol=2e-6, atol=1e-7)
    assert set(candidate.converted.categories) == {"city"}
    assert set(candidate.converted.categories["city"]) == set(frame["city"])


def test_features_in_double_precision_are_rounded_as_xgboost_rounds_them(rows, tmp_path, converted_model, wire):
    path, booster = saved(tmp_path, train(rows, "reg:squarederror"))
    candidate = converted_model(
        "XGBoost", path, features_input(wire, "FP64"), [wire.output("prediction", "Prediction", "FP32")]
    )
    features = rows[0].astype(np.float64) * (1 + 1e-9)
    answer = candidate.answer({"features": features})["prediction"]
    np.testing.assert_array_equal(answer, booster.predict(matrix(booster, features.astype(np.float32))))


def test_linear_booster_is_refused_with_what_to_do(rows, tmp_path, converted_model, wire):
    path, _ = saved(
        tmp_path,
        train((np.nan_to_num(rows[0]), rows[1]), "reg:squarederror", booster="gblinear", updater="coord_descent"),
    )
    with pytest.raises(ConfigurationError, match=r"booster=gblinear.*target\.candidate") as caught:
        converted_model("XGBoost", path, features_input(wire), [wire.output("prediction", "Prediction", "FP32")])
    assert caught.value.reason == "ConversionUnsupported"
    assert xgboost.assess(path, SOURCE).parameters is None


@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_truncated_file_is_refused(rows, tmp_path, name, kept):
    path, _ = saved(tmp_path, train(rows, "reg:squarederror"), name)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ConfigurationError, match="copy it again") as caught:
        xgboost.assess(path, SOURCE)
    assert caught.value.reason == "ModelUnreadable"


def test_old_binary_format_names_the_way_out(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes(b"binf" + bytes(100))
    with pytest.raises(ConfigurationError, match=r"save_model\('model\.ubj'\)"):
        xgboost.assess(path, SOURCE)


def test_a_pickle_of_something_else_is_named(tmp_path):
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"weights": [1.0]}))
    with pytest.raises(ConfigurationError, match=r"holds no XGBoost model but dict.*source\.format") as caught:
        xgboost.assess(path, SOURCE)
    assert caught.value.reason == "WrongFormat"


def test_ubjson_says_what_json_says(rows):
    booster = train(rows, "multi:softprob", num_class=3)
    text, binary = json.loads(booster.save_raw("json")), _ubjson.loads(bytes(booster.save_raw("ubj")))
    trees = zip(
        text["learner"]["gradient_booster"]["model"]["trees"],
        binary["learner"]["gradient_booster"]["model"]["trees"],
        strict=True,
    )
    for one, other in trees:
        np.testing.assert_array_equal(np.float32(one["split_conditions"]), other["split_conditions"])
        np.testing.assert_array_equal(one["left_children"], other["left_children"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"{L\x00", "truncated|cut off", id="inside a length"),
        pytest.param(b"[$d#L\x00\x00\x00\x00\x00\x00\x00\x02\x00", "cut off", id="inside an array"),
        pytest.param(b"SL\xff\xff\xff\xff\xff\xff\xff\xff", "no length", id="a negative length"),
        pytest.param(b"[" * 100, "nested deeper", id="nested without end"),
        pytest.param(b"x", "begins no value", id="an unknown marker"),
        pytest.param(b"Tx", "follow", id="bytes after the end"),
    ],
)
def test_damaged_ubjson_is_refused(content, message):
    with pytest.raises(ValueError, match=message):
        _ubjson.loads(content)
