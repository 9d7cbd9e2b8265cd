"""Sound conversions at the edges of numbers: each must pass, or be Inconclusive for the right reason; none may fail."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, IsolationForest, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from paritygate.api.report import Verdict

pytestmark = pytest.mark.filterwarnings("ignore")

X = np.random.default_rng(0).normal(size=(900, 5))
TRUE = (X[:, 0] > 0).astype(int)
LARGE = X * 1e6
INTEGERS = (X * 20).astype(np.int64)
HOLES = np.where((np.arange(900)[:, None] % 7 == 0) & (np.arange(5) == 1), np.nan, X)
IMPUTED = make_pipeline(
    ColumnTransformer([("one", SimpleImputer(), [1])], remainder="passthrough"), LogisticRegression()
)


def fitted(model: Any, x: Any, y: Any) -> tuple[Any, Any]:
    """A model, and the rows that it has not seen."""
    return model.fit(x[:300], y[:300]), x[300:]


SOUND = {
    "predictions around 1e9": lambda: fitted(LinearRegression(), X, 1e9 * (3 + X[:, 0])),
    "predictions around 1e-9": lambda: fitted(LinearRegression(), X, 1e-9 * X[:, 0]),
    "a column of zeros beside millions": lambda: fitted(
        RandomForestRegressor(5, random_state=0), X, np.column_stack([X[:, 0] * 1e6, np.zeros(900), X[:, 1]])
    ),
    "mostly zeros, and millions": lambda: fitted(
        DecisionTreeRegressor(random_state=0), X, np.where(X[:, 0] > 1, 1e6 * X[:, 0], 0)
    ),
    "probabilities of 0 and 1": lambda: fitted(DecisionTreeClassifier(random_state=0), X, TRUE),
    "saturated probabilities": lambda: fitted(LogisticRegression(C=1e9, max_iter=500), X * 100, TRUE),
    "huge scores": lambda: fitted(LinearSVC(), LARGE, TRUE),
    "columns of integers": lambda: fitted(HistGradientBoostingClassifier(max_iter=10), INTEGERS, TRUE),
    "a column far from zero": lambda: fitted(
        make_pipeline(StandardScaler(), LogisticRegression()), X + np.asarray([1.7e9, 0, 0, 0, 0]), TRUE
    ),
    "outliers beside a threshold on the score of a row": lambda: fitted(
        IsolationForest(n_estimators=20, contamination=0.1, random_state=0), X, TRUE
    ),
    "missing values in the one column that takes them": lambda: fitted(IMPUTED, HOLES, TRUE),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_conversions_pass_with(gate: Any, case: Any, corpus: Any, name: str) -> None:
    model, rows = SOUND[name]()
    report = gate.converted(case(model, corpus.matrix(rows)))
    assert report.verdict is Verdict.PASSED, report.sentence


def test_a_holdout_of_one_class_passes(gate: Any, case: Any, corpus: Any) -> None:
    model, rows = fitted(LogisticRegression(), X, TRUE)
    rows = rows[rows[:, 0] > 0.7]
    report = gate.converted(case(model, corpus.matrix(rows, y=np.ones(len(rows), dtype=int)), label="y"))
    assert report.verdict is Verdict.PASSED, report.sentence


@pytest.mark.parametrize("rows", [1, 2, 29])
def test_few_rows_are_inconclusive(gate: Any, case: Any, corpus: Any, rows: int) -> None:
    model, held = fitted(LinearRegression(), X, X[:, 0])
    report = gate.converted(case(model, corpus.matrix(held[:rows])))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "fewer than 30 rows" in report.sentence


def test_one_row_many_times_is_inconclusive(gate: Any, case: Any, corpus: Any) -> None:
    model, held = fitted(LogisticRegression(), X, TRUE)
    report = gate.converted(case(model, corpus.matrix(np.repeat(held[:1], 400, axis=0))))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "1 distinct row " in report.sentence


def test_a_constant_answer_is_inconclusive(gate: Any, case: Any, corpus: Any) -> None:
    model, held = fitted(DummyRegressor(), X, X[:, 0])
    report = gate.converted(case(model, corpus.matrix(held)))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "too much alike" in report.sentence
