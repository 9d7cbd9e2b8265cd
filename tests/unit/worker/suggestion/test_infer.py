"""What is inferred from a model and a dataset, and what is refused with a hint."""

import json
import pickle

import lightgbm
import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from paritygate.api.artifacts import Inference, InferRequest
from paritygate.errors import ConfigurationError
from paritygate.worker import infer

ROWS = 120


@pytest.fixture
def frame():
    random = np.random.default_rng(0)
    age = random.normal(40, 10, ROWS)
    return pd.DataFrame(
        {
            "age": age,
            "spend": random.normal(100, 30, ROWS),
            "country": np.where(np.arange(ROWS) % 3, "DE", "FR"),
            "churned": np.where(age + random.normal(0, 5, ROWS) > 40, "yes", "no"),
        }
    )


@pytest.fixture
def files(tmp_path, frame):
    """Writes a model and the data set, and runs the stage on them."""

    def run(model, data=frame, label=None, loader=None, name="churn.pkl"):
        source, dataset = tmp_path / name, tmp_path / "holdout.parquet"
        if not source.exists():
            source.write_bytes(model if isinstance(model, bytes) else pickle.dumps(model))
        data.to_parquet(dataset)
        request = InferRequest(
            model=str(source),
            dataset=str(dataset),
            source_uri=name,
            dataset_uri="holdout.parquet",
            label=label,
            loader=loader,
        )
        (tmp_path / "request.json").write_text(request.model_dump_json(by_alias=True))
        (tmp_path / "out").mkdir(exist_ok=True)
        infer.run(tmp_path / "request.json", tmp_path / "out")
        return Inference.model_validate_json((tmp_path / "out" / "inference.json").read_bytes())

    return run


@pytest.fixture
def classifier(frame):
    columns = make_column_transformer((StandardScaler(), ["age", "spend"]), (OneHotEncoder(), ["country"]))
    return make_pipeline(columns, LogisticRegression()).fit(frame[["age", "spend", "country"]], frame["churned"])


def told(inference):
    return {item.subject: (item.value, item.because) for item in inference.inferred}


def refusal(files, *arguments, **named):
    with pytest.raises(ConfigurationError) as refused:
        files(*arguments, **named)
    return refused.value.reason, refused.value.message


def test_infers_everything_from_a_pipeline_on_a_data_frame(files, classifier):
    inference = files(classifier)
    spec = json.loads(inference.spec.model_dump_json(by_alias=True, exclude_defaults=True))
    assert spec == {
        "source": {"format": "SKLearn", "uri": "churn.pkl"},
        "target": {"format": "ONNX"},
        "validation": {
            "task": "Classification",
            "dataset": {"uri": "holdout.parquet", "label": "churned", "slices": [{"column": "country"}]},
            "metrics": [{"name": "accuracy"}],
        },
    }
    assert told(inference)["inputs"] == ("3 columns", "age, spend, country")
    assert told(inference)["classes"] == ("2", "no, yes")
    assert told(inference)["task"] == ("Classification", "LogisticRegression is a classifier")
    assert "the only column that the model was not fitted with" in told(inference)["label"][1]


def test_looks_into_a_search_for_its_best_model(files, frame):
    search = GridSearchCV(LogisticRegression(), {"C": [1, 2]}, cv=2).fit(frame[["age", "spend"]], frame["churned"])
    assert told(files(search, frame.drop(columns="country")))["task"][0] == "Classification"


def test_a_rare_class_asks_for_a_metric_that_sees_it(files, frame, classifier):
    rare = frame.assign(churned=np.where(np.arange(ROWS) < 10, "yes", "no"))
    assert files(classifier, rare).spec.validation.metrics[0].name == "balanced_accuracy"


def test_a_model_on_an_array_takes_the_stated_label(files, frame):
    data = frame[["age", "spend", "country"]]
    model = LinearRegression().fit(data[["age"]].to_numpy(), data["spend"])
    inference = files(model, data, label="spend")
    assert inference.spec.validation.task == "Regression"
    assert [item.column for item in inference.spec.validation.dataset.slices] == ["country"]  # one column too many


def test_without_a_label_answers_are_compared_all_the_same(files, frame):
    data = frame[["age", "spend"]]
    inference = files(LinearRegression().fit(data.to_numpy(), frame["age"]), data)
    assert inference.spec.validation.dataset.label is None
    assert inference.spec.validation.metrics == ()


def test_a_model_of_another_version_is_asked_in_its_own_environment(files, classifier):
    def recorded(version):  # as protocol 2 writes a string
        return b"X" + len(version).to_bytes(4, "little") + version.encode()

    inference = files(pickle.dumps(classifier, protocol=2).replace(recorded(sklearn.__version__), recorded("1.3.2")))
    assert inference.spec.source.environment.virtualenv.requirements == ("scikit-learn==1.3.2", "numpy<2", "pandas")
    assert "so answers are captured in an environment with 1.3.2" in told(inference)["framework"][1]


@pytest.mark.parametrize(
    ("objective", "label", "task", "metric"),
    [("binary", "churned", "Classification", "accuracy"), ("regression", "spend", "Regression", "rmse")],
)
def test_a_boosters_task_is_that_of_its_objective(files, frame, objective, label, task, metric):
    target = (frame[label] == "yes").astype(int) if label == "churned" else frame[label]
    data = frame[["age"]].assign(**{label: target})
    parameters = {"objective": objective, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(data[["age"]], target), 2)
    inference = files(booster.model_to_string().encode(), data, name="model.txt")
    assert inference.spec.source.format == "LightGBM"
    assert (inference.spec.validation.task, inference.spec.validation.metrics[0].name) == (task, metric)
    assert told(inference)["task"] == (task, f"its objective is {objective}")


def test_a_lightgbm_model_names_columns_with_spaces_as_the_dataset_does(files, frame):
    labels = (frame["churned"] == "yes").astype(int)
    data = pd.DataFrame({"age in years": frame["age"], "spend": frame["spend"]})
    parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(parameters, lightgbm.Dataset(data, labels), 2)
    inference = files(booster.model_to_string().encode(), data.assign(churned=labels), name="model.txt")
    assert inference.spec.validation.dataset.label == "churned"
    assert told(inference)["inputs"] == ("2 columns", "age in years, spend")


def test_an_xgboost_model_names_its_columns(files, frame):
    labels = (frame["churned"] == "yes").astype(int)
    model = xgboost.XGBClassifier(n_estimators=2, n_jobs=1).fit(frame[["age", "spend"]], labels)
    data = frame[["age", "spend"]].assign(churned=labels)
    inference = files(bytes(model.get_booster().save_raw("ubj")), data, name="model.ubj")
    assert (inference.spec.source.format, inference.spec.validation.dataset.label) == ("XGBoost", "churned")


def test_the_task_of_a_model_without_one_follows_from_the_label(files, frame, tmp_path):
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "net.py").write_text("def build():\n    ...\n")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "net" / "weights.pt")
    data = frame[["age", "spend"]].assign(label=np.arange(ROWS) % 3)
    inference = files(None, data, loader="net:build", name="net")
    assert inference.spec.source.loader == "net:build"
    assert inference.spec.validation.task == "Classification"
    assert told(inference)["label"][1] == "by its name or values; 3 distinct values"


def test_a_misspelt_label_names_the_closest(files, classifier):
    reason, message = refusal(files, classifier, label="churn")
    assert reason == "LabelMissing"
    assert message.endswith("its columns are age, spend, country, churned; did you mean 'churned'?")


def test_a_feature_is_no_label(files, classifier):
    reason, message = refusal(files, classifier, label="age")
    assert reason == "LabelMismatch"
    assert "is one of the features" in message
    assert message.endswith("choose --label among churned")


def test_a_column_without_the_models_classes_is_no_label(files, frame, classifier):
    data = frame.assign(region="north")
    reason, message = refusal(files, classifier, data, label="region")
    assert reason == "LabelMismatch"
    assert message.endswith("holds north, but the model's classes are no, yes; --label churned would fit")


def test_a_column_with_too_many_values_is_no_class(files, frame):
    model = LogisticRegression().fit(frame[["age"]].to_numpy(), np.arange(ROWS) % 2)
    reason, message = refusal(files, model, frame, label="spend")
    assert (reason, "but the model has 2 classes" in message) == ("LabelMismatch", True)


def test_text_is_no_label_of_a_regression(files, frame):
    model = LinearRegression().fit(frame[["age"]], frame["spend"])
    reason, message = refusal(files, model, frame, label="country")
    assert reason == "LabelMismatch"
    assert message.endswith("but the model predicts numbers; choose --label among spend")


def test_a_label_that_cannot_be_told_is_asked_for(files, frame):
    model = LinearRegression().fit(frame[["age"]].to_numpy(), frame["spend"])
    reason, message = refusal(files, model, frame)
    assert reason == "LabelMissing"
    assert message.endswith("state --label, one of age, spend, country, churned")


def test_a_missing_column_names_the_closest(files, frame, classifier):
    reason, message = refusal(files, classifier, frame.rename(columns={"spend": "Spend"}))
    assert reason == "DatasetMismatch"
    assert "lacks spend, which the model was fitted with" in message
    assert message.endswith("did you mean 'Spend'?")


def test_a_dataset_in_the_models_place_is_recognised(files, frame):
    reason, message = refusal(files, frame.to_parquet(), name="model.parquet")
    assert (reason, "is a parquet table" in message) == ("ModelUnreadable", True)


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("train.ipynb", b'{"cells": [], "nbformat": 4}', "a notebook"),
        ("train.py", b"import sklearn\n", "a Python script"),
        ("holdout.csv", b"age,churned\n41,1\n", "a CSV table"),
        ("churn.yaml", b"kind: ModelMigration\n", "a YAML document"),
    ],
)
def test_what_is_no_model_is_called_by_its_name(files, name, content, what):
    reason, message = refusal(files, content, name=name)
    assert reason == "ModelUnreadable"
    assert f"{name} is {what}, not a model" in message


def test_a_dataset_that_is_not_there(classifier, tmp_path):
    model = tmp_path / "churn.pkl"
    model.write_bytes(pickle.dumps(classifier))
    request = InferRequest(model=str(model), dataset="no.csv", source_uri="churn.pkl", dataset_uri="no.csv")
    (tmp_path / "request.json").write_text(request.model_dump_json(by_alias=True))
    with pytest.raises(ConfigurationError, match=r"^no\.csv does not exist; name the dataset's file or folder$"):
        infer.run(tmp_path / "request.json", tmp_path)


def test_weights_alone_ask_for_their_code(files, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.pt").write_bytes(b"")
    (tmp_path / "model" / "net.py").write_text("def build():\n    ...\n\ndef other(folder):\n    ...\n")
    reason, message = refusal(files, None, name="model")
    assert reason == "LoaderMissing"
    assert message.endswith("its code offers net:build, net:other")


def test_a_model_that_is_not_there(tmp_path):
    request = InferRequest(model=str(tmp_path / "no.pkl"), dataset="d", source_uri="no.pkl", dataset_uri="d")
    (tmp_path / "request.json").write_text(request.model_dump_json(by_alias=True))
    with pytest.raises(ConfigurationError, match=r"no\.pkl does not exist"):
        infer.run(tmp_path / "request.json", tmp_path)
