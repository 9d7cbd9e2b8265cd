"""A model of every tabular format, from the file to answers to a stock Open Inference client."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

pytestmark = pytest.mark.timeout(300)


@dataclass(frozen=True)
class Ready:
    """A model on disk with what it answers."""

    source: dict[str, Any]
    dataset: dict[str, Any]
    inputs: dict[str, np.ndarray]
    """Of a few rows, as a client sends them."""
    answers: dict[str, np.ndarray]
    """The source's own, to these rows."""
    validation: dict[str, Any] = field(default_factory=dict)


def frame_pipeline(folder: Path) -> Ready:
    frame, label = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = frame.iloc[:, :4].copy()
    rng = np.random.default_rng(0)
    frame["side"] = rng.choice(["left", "right"], len(frame))
    frame["visits"] = rng.integers(0, 9, len(frame))
    frame["smoker"] = rng.random(len(frame)) < 0.3
    frame.loc[::17, "mean radius"] = np.nan
    numbers = list(frame.columns[:4])
    model = make_pipeline(
        make_column_transformer(
            (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
            (OneHotEncoder(handle_unknown="ignore"), ["side"]),
            ("passthrough", ["visits", "smoker"]),
        ),
        LogisticRegression(max_iter=1000),
    )
    named = label.map({0: "malignant", 1: "benign"})
    model.fit(frame, named)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    frame.assign(diagnosis=named).to_parquet(folder / "data.parquet")
    rows = frame.head(20)
    return Ready(
        {"format": "SKLearn", "uri": "model.pkl"},
        {"uri": "data.parquet", "label": "diagnosis", "slices": [{"column": "side"}]},
        columns(rows),
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


def joblib_forest(folder: Path) -> Ready:
    pictures, digits = load_digits(return_X_y=True)
    model = RandomForestClassifier(20, max_depth=8, random_state=0).fit(pictures[:600], digits[:600])
    joblib.dump(model, folder / "model.joblib", compress=3)
    np.savez(folder / "data.npz", features=pictures[600:1200], digit=digits[600:1200])
    rows = pictures[600:620]
    return Ready(
        {"format": "SKLearn", "uri": "model.joblib"},
        {"uri": "data.npz", "label": "digit"},
        {"features": rows},
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


def skops_scaler_and_regression(folder: Path) -> Ready:
    import skops.io

    table = load_wine(as_frame=True)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(table.data.to_numpy(), table.target)
    skops.io.dump(model, folder / "model.skops")
    table.frame.to_csv(folder / "data.csv", index=False)
    rows = pd.read_csv(folder / "data.csv").drop(columns="target").head(20).to_numpy()
    return Ready(
        {"format": "SKLearn", "uri": "model.skops"},
        {"uri": "data.csv", "label": "target"},
        {"features": rows},
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


def text_vectoriser(folder: Path) -> Ready:
    rng = np.random.default_rng(0)
    common = ["the", "film", "was", "a", "Plot", "and", "it"]
    words = {"kind": ["good,", "Great", "fine"], "unkind": ["bad.", "awful", "ugly"]}
    labels = rng.choice(["kind", "unkind"], 400)
    texts = [" ".join(rng.permutation([*rng.choice(common, 4), *rng.choice(words[mood], 2)])) for mood in labels]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression()).fit(texts, labels)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    pd.DataFrame({"review": texts, "mood": labels}).to_csv(folder / "data.csv", index=False)
    return Ready(
        {"format": "SKLearn", "uri": "model.pkl"},
        {"uri": "data.csv", "label": "mood"},
        {"review": np.array(texts[:20], dtype=object).reshape(-1, 1)},
        {"label": model.predict(texts[:20]), "probabilities": model.predict_proba(texts[:20])},
    )


def regressor(folder: Path) -> Ready:
    table = load_diabetes(as_frame=True)
    model = make_pipeline(StandardScaler(), Ridge()).fit(table.data, table.target)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    table.frame.to_json(folder / "data.jsonl", orient="records", lines=True, double_precision=15)
    rows = pd.read_json(folder / "data.jsonl", lines=True).drop(columns="target").head(20)
    return Ready(
        {"format": "SKLearn", "uri": "model.pkl"},
        {"uri": "data.jsonl", "label": "target"},
        columns(rows),
        {"prediction": model.predict(rows)},
    )


def multi_output(folder: Path) -> Ready:
    pictures, digits = load_digits(return_X_y=True)
    pictures = pictures / 16
    targets = np.stack([digits % 2, digits % 3], axis=1)
    model = MultiOutputClassifier(LogisticRegression(max_iter=3000)).fit(pictures[:500], targets[:500])
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    np.savez(folder / "data.npz", features=pictures[500:1000])
    rows = pictures[500:520]
    odd, third = model.predict_proba(rows)
    return Ready(
        {"format": "SKLearn", "uri": "model.pkl"},
        {"uri": "data.npz"},
        {"features": rows},
        {"label": model.predict(rows), "probabilities_0": odd, "probabilities_1": third},
    )


def categories(folder: Path) -> Ready:
    frame, label = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = frame.iloc[:, :4].copy()
    frame["ward"] = pd.Categorical(np.random.default_rng(0).choice(["north", "south", "west"], len(frame)))
    named = np.where(label == 1, "benign", "malignant")
    model = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=15).fit(frame, named)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    frame.assign(diagnosis=named).to_parquet(folder / "data.parquet")
    rows = frame.head(20)
    return Ready(
        {"format": "SKLearn", "uri": "model.pkl"},
        {"uri": "data.parquet", "label": "diagnosis"},
        columns(rows),
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


def xgboost_json(folder: Path) -> Ready:
    import xgboost

    frame, label = load_breast_cancer(return_X_y=True, as_frame=True)
    frame = frame.mask(np.random.default_rng(0).random(frame.shape) < 0.1)
    model = xgboost.XGBClassifier(n_estimators=15, max_depth=3).fit(frame, label)
    model.save_model(folder / "model.json")
    frame.assign(diagnosis=label).to_parquet(folder / "data.parquet")
    rows = frame.head(20)
    return Ready(
        {"format": "XGBoost", "uri": "model.json"},
        {"uri": "data.parquet", "label": "diagnosis"},
        {"features": rows.to_numpy(np.float32)},
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


def xgboost_ubj(folder: Path) -> Ready:
    import xgboost

    table = load_iris(as_frame=True)
    model = xgboost.XGBClassifier(n_estimators=10, max_depth=3).fit(table.data, table.target)
    model.save_model(folder / "model.ubj")
    table.frame.to_parquet(folder / "data.parquet")
    rows = table.data.iloc[::10]
    return Ready(
        {"format": "XGBoost", "uri": "model.ubj"},
        {"uri": "data.parquet", "label": "target"},
        {"features": rows.to_numpy(np.float32)},
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


def xgboost_pickle(folder: Path) -> Ready:
    import xgboost

    table = load_diabetes(as_frame=True)
    model = xgboost.XGBRegressor(n_estimators=15, max_depth=3, missing=-1.0)
    model.fit(table.data.to_numpy(), table.target)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    table.frame.to_parquet(folder / "data.parquet")
    rows = table.data.head(20).to_numpy()
    return Ready(
        {"format": "XGBoost", "uri": "model.pkl"},
        {"uri": "data.parquet", "label": "target"},
        {"features": rows.astype(np.float32)},
        {"prediction": model.predict(rows)},
    )


def lightgbm_text(folder: Path) -> Ready:
    import lightgbm

    frame, label = load_breast_cancer(return_X_y=True, as_frame=True)
    model = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(frame, label), 15)
    model.save_model(folder / "model.txt")
    frame.assign(diagnosis=label).to_parquet(folder / "data.parquet")
    rows = frame.head(20)
    positive = model.predict(rows)
    return Ready(
        {"format": "LightGBM", "uri": "model.txt"},
        {"uri": "data.parquet", "label": "diagnosis"},
        {"features": rows.to_numpy()},
        {"label": (positive > 0.5).astype(np.int64), "probabilities": np.stack([1 - positive, positive], axis=1)},
    )


def lightgbm_pickle(folder: Path) -> Ready:
    import lightgbm

    table = load_iris(as_frame=True)
    frame = table.data.assign(plot=pd.Categorical(np.random.default_rng(0).choice(["a", "b", "c"], 150)))
    named = table.target_names[table.target]
    model = lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(frame, named)
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    frame.assign(species=named).to_parquet(folder / "data.parquet")
    rows = frame.iloc[::10]
    return Ready(
        {"format": "LightGBM", "uri": "model.pkl"},
        {"uri": "data.parquet", "label": "species"},
        columns(rows),
        {"label": model.predict(rows), "probabilities": model.predict_proba(rows)},
    )


FORMATS: dict[str, Callable[[Path], Ready]] = {
    "a pickled pipeline that takes a data frame of numbers, words and flags": frame_pipeline,
    "a compressed joblib forest on a dataset of arrays": joblib_forest,
    "a skops pipeline on a csv": skops_scaler_and_regression,
    "a text vectoriser with labels in words": text_vectoriser,
    "a regression on a jsonl": regressor,
    "a classifier with two labels": multi_output,
    "histogram gradient boosting with categories": categories,
    "an XGBoost classifier saved as json, with missing values": xgboost_json,
    "an XGBoost classifier of three classes saved as ubj": xgboost_ubj,
    "a pickled XGBoost regressor that reads a number as missing": xgboost_pickle,
    "a LightGBM text model whose columns have spaces in their names": lightgbm_text,
    "a pickled LightGBM classifier with a category and labels in words": lightgbm_pickle,
}


@pytest.mark.parametrize("model", FORMATS.values(), ids=FORMATS.keys())
def test_passes_and_answers_as_the_source(model, command_line):
    ready = model(command_line.folder)
    manifest = command_line.manifest("model", ready.source, ready.dataset, validation=ready.validation)
    with command_line.serving(manifest) as served:
        answers = command_line.asked(served, "model", ready.inputs)
    for name, expected in ready.answers.items():
        if expected.dtype.kind in "fc":
            np.testing.assert_allclose(answers[name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
        else:
            np.testing.assert_array_equal(answers[name], expected, err_msg=name)
    assert answers.keys() == ready.answers.keys()


def columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """A data frame as one input per column, (rows, 1); missing text is empty."""
    found = {}
    for name in frame.columns:
        column = frame[name].to_numpy()
        found[name] = (column.astype(object) if column.dtype.kind not in "fiub" else column).reshape(-1, 1)
    return found
