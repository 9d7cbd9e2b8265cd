"""Sound conversions by ParityGate itself: each must pass, or a gate that stops everything would look good."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

from paritygate.api.report import Verdict
from paritygate.api.spec import SourceFormat

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSIFIERS = {
    "logistic regression": LogisticRegression(),
    "scaled logistic regression": make_pipeline(StandardScaler(), LogisticRegression()),
    "imputed logistic regression": make_pipeline(SimpleImputer(), LogisticRegression()),
    "decision tree": DecisionTreeClassifier(max_depth=6, random_state=0),
    "random forest with ties": RandomForestClassifier(10, random_state=0),
    "extra trees": ExtraTreesClassifier(20, max_depth=6, random_state=0),
    "histogram boosting": HistGradientBoostingClassifier(max_iter=20, random_state=0),
    "naive Bayes": GaussianNB(),
    "perceptron with a hidden layer": MLPClassifier((8,), max_iter=80, random_state=0),
    "support vectors": SVC(random_state=0),
    "nearest neighbours": KNeighborsClassifier(5),
}
REGRESSORS = {
    "least squares": LinearRegression(),
    "ridge": make_pipeline(StandardScaler(), Ridge()),
    "gradient boosting": GradientBoostingRegressor(n_estimators=30, random_state=0),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_passes(gate: Any, case: Any, corpus: Any, name: str) -> None:
    x, y, held, truth = corpus.classification(classes=3 if "naive" in name else 2)
    model = CLASSIFIERS[name].fit(x, y)
    report = gate.converted(case(model, corpus.matrix(held, y=truth), label="y"))
    assert report.verdict is Verdict.PASSED, report.sentence


@pytest.mark.parametrize("name", REGRESSORS)
def test_a_regressor_passes(gate: Any, case: Any, corpus: Any, name: str) -> None:
    x, y, held, _ = corpus.classification()
    model = REGRESSORS[name].fit(x, 3 * y + x[:, 0] ** 2)
    report = gate.converted(case(model, corpus.matrix(held)))
    assert report.verdict is Verdict.PASSED, report.sentence


def test_missing_values_pass_through_histogram_boosting(gate: Any, case: Any, corpus: Any) -> None:
    x, y, held, _ = corpus.classification()
    hide = np.random.default_rng(0)
    x, held = (np.where(hide.random(table.shape) < 0.1, np.nan, table) for table in (x, held))
    model = HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(x, y)
    report = gate.converted(case(model, corpus.matrix(held)))
    assert report.verdict is Verdict.PASSED, report.sentence


def test_categories_of_histogram_boosting_are_kept(gate: Any, case: Any, corpus: Any) -> None:
    random = np.random.default_rng(0)
    x = np.column_stack([random.integers(0, 12, 3000), random.normal(size=3000)]).astype(float)
    y = np.isin(x[:, 0], [1, 4, 6, 9]).astype(int)
    model = HistGradientBoostingClassifier(categorical_features=[0], max_iter=20, random_state=0).fit(
        x[:1000], y[:1000]
    )
    report = gate.converted(case(model, corpus.matrix(x[1000:])))
    assert report.verdict is Verdict.PASSED, report.sentence


def test_a_data_frame_of_numbers_and_text_passes(gate: Any, case: Any) -> None:
    import pandas as pd

    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 10, 1500),
            "plan": random.choice(np.asarray(["basic", "family", "business"], dtype=object), 1500),
        }
    )
    y = np.where((frame["plan"] == "family") & (frame["age"] > 40), "churns", "stays")
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), ["age"]), ("text", OneHotEncoder(handle_unknown="ignore"), ["plan"])]
    )
    model = make_pipeline(columns, LogisticRegression()).fit(frame[:500], y[:500])
    rows = {"age": frame["age"].to_numpy()[500:], "plan": frame["plan"].to_numpy(dtype=object)[500:]}
    report = gate.converted(case(model, rows))
    assert report.verdict is Verdict.PASSED, report.sentence


def test_text_passes(gate: Any, case: Any) -> None:
    random = np.random.default_rng(10)
    words = np.asarray(["good", "bad", "fine", "poor", "Great", "AWFUL", "plot", "Film"])
    texts = np.asarray([" ".join(random.choice(words, 6)) for _ in range(900)], dtype=object)
    y = np.asarray([("good" in t.lower()) ^ ("awful" in t.lower()) for t in texts]).astype(int)
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts[:400], y[:400])
    report = gate.converted(case(model, {"text": texts[400:]}))
    assert report.verdict is Verdict.PASSED, report.sentence


def test_zero_as_missing_of_lightgbm_is_kept(gate: Any, case: Any, corpus: Any) -> None:
    import lightgbm

    random = np.random.default_rng(1)
    x = np.where(random.random((3000, 5)) < 0.3, 0.0, random.normal(size=(3000, 5)))
    y = (np.where(x[:, 0] == 0, 1, x[:, 0]) + x[:, 1] > 0.3).astype(int)
    model = lightgbm.LGBMClassifier(n_estimators=20, zero_as_missing=True, verbose=-1, random_state=0)
    model.fit(x[:1000], y[:1000])
    report = gate.converted(case(model, corpus.matrix(x[1000:]), SourceFormat.LIGHTGBM))
    assert report.verdict is Verdict.PASSED, report.sentence


def test_xgboost_passes(gate: Any, case: Any, corpus: Any) -> None:
    import xgboost

    x, y, held, _ = corpus.classification()
    model = xgboost.XGBClassifier(n_estimators=20, max_depth=3, random_state=0).fit(x, y)
    report = gate.converted(case(model, corpus.matrix(held), SourceFormat.XGBOOST))
    assert report.verdict is Verdict.PASSED, report.sentence
