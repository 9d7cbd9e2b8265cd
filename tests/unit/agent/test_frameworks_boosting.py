"""XGBoost and LightGBM sources: native files, pickled estimators, objectives, categories, mistakes."""

import joblib
import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks.lightgbm import load as load_lightgbm
from paritygate.agent.frameworks.xgboost import load as load_xgboost

# XGBoost warns of the probe without rows, from a callback that pytest cannot attribute.
pytestmark = pytest.mark.filterwarnings("ignore:.*Empty dataset:UserWarning")
QUIET = {"verbose": -1, "min_data_in_leaf": 2, "num_threads": 1}
CLASSES = {"label": ("INT64", (-1,), "Label"), "probabilities": ("FP32", (-1, 2), "Probabilities")}


@pytest.fixture
def frame(features):
    table = pd.DataFrame(features[:, :3], columns=["a", "b", "c"])
    table["k"] = pd.Categorical(np.where(features[:, 3] > 0, "u", "v"))
    return table


@pytest.fixture
def kinds(frame):
    return Category(frame["k"].cat.codes, np.asarray(frame["k"].cat.categories, dtype=object))


@pytest.mark.parametrize("ending", ["json", "ubj"])
def test_xgboost_booster_answers_as_its_estimator_would(tmp_path, take, columns, features, ending):
    estimator = xgb.XGBClassifier(n_estimators=4, n_jobs=1).fit(features, columns["y"])
    path = tmp_path / f"model.{ending}"
    estimator.get_booster().save_model(path)
    taken = take("XGBoost", path, columns, label="y")
    assert taken.inputs == {"features": ("FP32", (-1, 4))}
    assert taken.outputs == CLASSES
    reference = taken.table("reference")
    np.testing.assert_array_equal(reference["label"], estimator.predict(features))
    np.testing.assert_array_equal(reference["probabilities"], estimator.predict_proba(features))
    assert taken.manifest.cast_exact
    assert taken.probes("threshold")


@pytest.mark.parametrize(
    ("parameters", "outputs", "task"),
    [
        pytest.param(
            {"objective": "reg:squarederror"},
            {"prediction": ("FP32", (-1,), "Prediction")},
            "Regression",
            id="regression",
        ),
        pytest.param(
            {"objective": "multi:softprob", "num_class": 3},
            {"label": ("INT64", (-1,), "Label"), "probabilities": ("FP32", (-1, 3), "Probabilities")},
            "Classification",
            id="three classes",
        ),
        pytest.param(
            {"objective": "multi:softmax", "num_class": 3},
            {"label": ("INT64", (-1,), "Label")},
            "Classification",
            id="labels only",
        ),
        pytest.param(
            {"objective": "rank:pairwise"}, {"prediction": ("FP32", (-1,), "Prediction")}, "Ranking", id="ranking"
        ),
    ],
)
def test_xgboost_outputs_follow_the_objective(tmp_path, take, columns, features, parameters, outputs, task):
    booster = xgb.train({**parameters, "nthread": 1}, xgb.DMatrix(features, columns["y"]), 3)
    booster.save_model(tmp_path / "model.json")
    taken = take("XGBoost", tmp_path / "model.json", columns, label="y")
    assert taken.outputs == outputs
    assert taken.manifest.task == task


def test_xgboost_estimator_on_named_columns_takes_them_in_its_own_order(tmp_path, take, columns, frame):
    model = xgb.XGBClassifier(n_estimators=4, n_jobs=1).fit(frame[["c", "a"]], columns["y"])
    joblib.dump(model, tmp_path / "model.pkl")
    taken = take("XGBoost", tmp_path / "model.pkl", columns, label="y")
    assert taken.inputs == {"features": ("FP32", (-1, 2))}
    assert taken.manifest.columns == ("c", "a")
    np.testing.assert_array_equal(taken.table("reference")["probabilities"], model.predict_proba(frame[["c", "a"]]))


def test_xgboost_categories_are_inputs_of_their_own(tmp_path, take, columns, frame, kinds):
    model = xgb.XGBClassifier(n_estimators=4, n_jobs=1, enable_categorical=True).fit(frame, columns["y"])
    joblib.dump(model, tmp_path / "model.joblib")
    taken = take("XGBoost", tmp_path / "model.joblib", {**columns, "k": kinds}, label="y")
    assert taken.inputs["k"] == ("BYTES", (-1, 1))
    assert taken.inputs["a"] == ("FP32", (-1, 1))
    np.testing.assert_array_equal(taken.table("reference")["probabilities"], model.predict_proba(frame))


def test_lightgbm_text_model_answers_as_its_estimator_would(tmp_path, take, columns, features):
    estimator = lgb.LGBMClassifier(n_estimators=4, min_child_samples=2, verbose=-1, n_jobs=1).fit(
        features, columns["y"]
    )
    estimator.booster_.save_model(tmp_path / "model.txt")
    taken = take("LightGBM", tmp_path / "model.txt", columns, label="y")
    assert taken.inputs == {"features": ("FP64", (-1, 4))}
    assert taken.outputs == CLASSES
    np.testing.assert_array_equal(
        taken.table("reference")["probabilities"], estimator.booster_.predict(features)[:, None] * [[-1, 1]] + [[1, 0]]
    )
    assert taken.probes("threshold")


def test_lightgbm_estimator_keeps_text_labels_and_categories(tmp_path, take, columns, frame, kinds):
    model = lgb.LGBMClassifier(n_estimators=4, min_child_samples=2, verbose=-1, n_jobs=1)
    model.fit(frame, np.where(columns["y"] == 1, "yes", "no"))
    joblib.dump(model, tmp_path / "model.pkl")
    taken = take("LightGBM", tmp_path / "model.pkl", {**columns, "k": kinds}, label="y")
    assert taken.signature.outputs[1].classes == ("no", "yes")
    assert taken.outputs["label"][0] == "BYTES"
    np.testing.assert_array_equal(taken.table("reference")["probabilities"], model.predict_proba(frame))


@pytest.mark.parametrize(
    ("objective", "output", "task"),
    [("regression", "prediction", "Regression"), ("lambdarank", "prediction", "Ranking")],
)
def test_lightgbm_task_follows_the_objective(tmp_path, take, columns, features, objective, output, task):
    data = lgb.Dataset(features, columns["y"], group=[40, 40] if objective == "lambdarank" else None)
    lgb.train({"objective": objective, **QUIET}, data, 3).save_model(tmp_path / "model.txt")
    taken = take("LightGBM", tmp_path / "model.txt", columns, label="y")
    assert list(taken.outputs) == [output]
    assert taken.manifest.task == task


def test_column_that_a_model_was_trained_on_must_be_there(tmp_path, take, columns, frame):
    booster = xgb.train({"nthread": 1}, xgb.DMatrix(frame[["a", "b"]], columns["y"]), 2)
    booster.save_model(tmp_path / "model.json")
    del columns["b"]
    with pytest.raises(AgentError, match=r"the dataset lacks 'b' and has 'a', 'c', 'd', 'y'") as error:
        take("XGBoost", tmp_path / "model.json", columns, label="y")
    assert error.value.reason == "DatasetMismatch"


@pytest.mark.parametrize(
    ("load", "name"), [(load_xgboost, "model.json"), (load_xgboost, "model.ubj"), (load_lightgbm, "model.txt")]
)
@pytest.mark.parametrize("damage", ["truncated", "foreign", "empty", "missing"])
def test_damaged_native_file_is_refused(tmp_path, features, columns, load, name, damage):
    path = tmp_path / name
    if load is load_xgboost:
        xgb.train({"nthread": 1}, xgb.DMatrix(features, columns["y"]), 2).save_model(path)
    else:
        lgb.train({"objective": "binary", **QUIET}, lgb.Dataset(features, columns["y"]), 2).save_model(path)
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "foreign": b"PK\x03\x04" * 50}.get(damage, b""))
    if damage == "missing":
        path.unlink()
    with pytest.raises(AgentError) as error:
        load(str(path))
    assert error.value.reason == "ModelUnreadable"
    assert "Stack trace" not in error.value.message


def test_call_chooses_a_method_of_an_estimator_only(tmp_path, take, columns, features):
    model = xgb.XGBClassifier(n_estimators=2, n_jobs=1).fit(features, columns["y"])
    joblib.dump(model, tmp_path / "model.pkl")
    model.get_booster().save_model(tmp_path / "model.json")
    taken = take("XGBoost", tmp_path / "model.pkl", columns, label="y", call="predict_proba")
    assert list(taken.outputs) == ["probabilities"]
    for name, call in (("model.pkl", "transform"), ("model.json", "predict")):
        with pytest.raises(AgentError, match=rf"source\.call is '{call}'"):
            take("XGBoost", tmp_path / name, columns, label="y", call=call)


def test_pickle_of_another_framework_is_refused(tmp_path):
    joblib.dump([1], tmp_path / "model.pkl")
    with pytest.raises(AgentError, match=r"holds a builtins\.list, not a model of xgboost"):
        load_xgboost(str(tmp_path / "model.pkl"))


def test_lightgbm_columns_with_spaces_are_found_under_their_own_names(tmp_path, take, frame, kinds, columns):
    spaced = frame.rename(columns={"a": "mean area", "b": "mean root depth"})
    booster = lgb.train({"objective": "binary", **QUIET}, lgb.Dataset(spaced, columns["y"]), 3)
    booster.save_model(tmp_path / "model.txt")
    table = {
        "mean area": columns["a"],
        "mean root depth": columns["b"],
        "c": columns["c"],
        "k": kinds,
        "y": columns["y"],
    }
    taken = take("LightGBM", tmp_path / "model.txt", table, label="y")
    assert list(taken.inputs) == ["mean area", "mean root depth", "c", "k"]
    np.testing.assert_array_equal(taken.table("reference")["probabilities"][:, 1], booster.predict(spaced))


def test_lightgbm_columns_that_underscores_make_equal_are_not_guessed(tmp_path, take, frame, columns):
    spaced = frame[["a", "b"]].rename(columns={"a": "mean area x"})
    lgb.train({"objective": "binary", **QUIET}, lgb.Dataset(spaced, columns["y"]), 3).save_model(tmp_path / "model.txt")
    table = {"mean area x": columns["a"], "mean_area x": columns["c"], "b": columns["b"], "y": columns["y"]}
    with pytest.raises(AgentError, match="the dataset lacks 'mean_area_x'"):
        take("LightGBM", tmp_path / "model.txt", table, label="y")
