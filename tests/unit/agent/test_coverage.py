"""What no row reaches is counted: leaves of trees, and categories that encoders and boosters know."""

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from paritygate.agent import coverage
from paritygate.agent.frameworks import framework_module, reach

pytestmark = pytest.mark.filterwarnings("ignore:.*Empty dataset:UserWarning")
COLUMNS = list("abcd")


def saved(path, model):
    joblib.dump(model, path)
    return path


def one(taken, subject):
    return next(entry for entry in taken.manifest.coverage if entry.subject == subject)


@pytest.fixture
def held():
    """Twelve rows, far from enough to reach every leaf."""
    return np.random.default_rng(11).normal(size=(12, 4))


@pytest.mark.parametrize(
    "model",
    [
        DecisionTreeRegressor(random_state=0),
        RandomForestClassifier(7, random_state=0),
        GradientBoostingClassifier(n_estimators=5, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_leaves_are_counted_as_apply_says(tmp_path, take, features, columns, held, model):
    model.fit(features, columns["y"])
    taken = take("SKLearn", saved(tmp_path / "m.joblib", model), dict(zip(COLUMNS, held.T, strict=True)))
    entry = one(taken, type(model).__name__)
    visited = np.asarray(model.apply(held)).reshape(len(held), -1)
    parts = [model] if hasattr(model, "tree_") else list(np.ravel(model.estimators_))
    assert entry.kind == "leaves"
    assert entry.total == sum(part.get_n_leaves() for part in parts)
    assert entry.rows == sum(len(set(column)) for column in visited.T) < entry.total
    assert 0 < entry.probes <= entry.total - entry.rows


def test_leaves_of_histogram_boosting_are_counted(tmp_path, take, features, columns, held):
    model = HistGradientBoostingRegressor(max_iter=4, max_leaf_nodes=6, min_samples_leaf=5).fit(features, columns["a"])
    path = saved(tmp_path / "m.joblib", model)
    predictors = [one for (one,) in model._predictors]
    entry = one(take("SKLearn", path, columns, label="y"), "HistGradientBoostingRegressor")
    # Every leaf was grown from rows of this very dataset.
    assert entry.total == entry.rows == sum(predictor.get_n_leaf_nodes() for predictor in predictors)
    assert entry.probes == 0
    entry = one(take("SKLearn", path, dict(zip(COLUMNS, held[:2].T, strict=True))), "HistGradientBoostingRegressor")
    known = model._bin_mapper.make_known_categories_bitsets()
    values = [predictor.predict(held[:2], *known, 1) for predictor in predictors]
    assert entry.rows == sum(len(set(answers)) for answers in values)


def test_categories_of_an_encoder_that_no_row_shows_are_named(tmp_path, take):
    trained = pd.DataFrame({"city": ["Rome", "Oslo", "Bonn", None] * 5, "size": np.arange(20.0)})
    model = make_pipeline(
        make_column_transformer((OneHotEncoder(), ["city"]), (StandardScaler(), ["size"])), LogisticRegression()
    ).fit(trained, trained["size"] > 9)
    shown = {"city": np.asarray(["Oslo", "Oslo", "Rome"], dtype=object), "size": np.arange(3.0)}
    entry = one(take("SKLearn", saved(tmp_path / "m.joblib", model), shown), "city")
    assert (entry.kind, entry.total, entry.rows) == ("categories", 4, 2)
    assert entry.examples == ("Bonn", "missing")


def test_categories_of_histogram_boosting_are_counted(tmp_path, take):
    trained = pd.DataFrame({"city": pd.Categorical(["Rome", "Oslo", "Bonn"] * 20), "size": np.arange(60.0)})
    model = HistGradientBoostingRegressor(max_iter=2, categorical_features="from_dtype").fit(trained, trained["size"])
    shown = {"city": np.asarray(["Oslo", "Rome"], dtype=object), "size": np.arange(2.0)}
    entry = one(take("SKLearn", saved(tmp_path / "m.joblib", model), shown), "city")
    assert entry.examples == ("Bonn",)


def test_leaves_of_lightgbm_are_counted(tmp_path, take, features, columns, held):
    lightgbm = pytest.importorskip("lightgbm")
    model = lightgbm.LGBMClassifier(n_estimators=5, min_child_samples=2, n_jobs=1, verbose=-1)
    model.fit(features, columns["y"])
    taken = take("LightGBM", saved(tmp_path / "m.joblib", model), dict(zip(COLUMNS, held.T, strict=True)))
    entry = one(taken, "LGBMClassifier")
    visited = model.booster_.predict(held, pred_leaf=True)
    assert entry.total == sum(tree["num_leaves"] for tree in model.booster_.dump_model()["tree_info"])
    assert entry.rows == sum(len(set(column)) for column in visited.T) < entry.total


def test_categories_of_lightgbm_are_those_that_it_was_trained_on(tmp_path, take):
    lightgbm = pytest.importorskip("lightgbm")
    from paritygate.agent.exchange import Category

    trained = pd.DataFrame({"city": pd.Categorical(["Rome", "Oslo", "Bonn"] * 40), "size": np.arange(120.0)})
    model = lightgbm.LGBMRegressor(n_estimators=2, n_jobs=1, verbose=-1).fit(trained, trained["size"])
    shown = {"city": Category([0, 1, 0], ["Oslo", "Rome"]), "size": np.arange(3.0)}
    entry = one(take("LightGBM", saved(tmp_path / "m.joblib", model), shown), "city")
    assert (entry.total, entry.rows, entry.examples) == (3, 2, ("Bonn",))


@pytest.mark.parametrize("native", [False, True], ids=["estimator", "booster"])
def test_leaves_of_xgboost_are_counted(tmp_path, take, features, columns, held, native):
    xgboost = pytest.importorskip("xgboost")
    model = xgboost.XGBClassifier(n_estimators=4, n_jobs=1).fit(features, columns["y"])
    path = tmp_path / "m.json"
    if native:
        model.get_booster().save_model(path)
    else:
        path = saved(tmp_path / "m.joblib", model)
    taken = take("XGBoost", path, dict(zip(COLUMNS, held.T, strict=True)))
    (entry,) = taken.manifest.coverage
    visited = model.apply(held)
    assert entry.total == sum(text.count("leaf=") for text in model.get_booster().get_dump())
    assert entry.rows == sum(len(set(column)) for column in visited.T) < entry.total


def test_counting_that_takes_long_ends_with_how_far_it_came(tmp_path, take, features, columns, held, monkeypatch):
    monkeypatch.setattr(coverage, "MOST", 5 * 7)
    monkeypatch.setattr(coverage, "_ROWS", 3)
    model = RandomForestClassifier(7, random_state=0).fit(features, columns["y"])
    path = saved(tmp_path / "m.joblib", model)
    taken = take("SKLearn", path, dict(zip(COLUMNS, held.T, strict=True)))
    assert taken.manifest.coverage == ()
    reached = sum(len(set(column)) for column in model.apply(held[:6]).T)
    total = sum(tree.get_n_leaves() for tree in model.estimators_)
    says = f"counting would take too long; the first 6 of 12 rows reach {reached} of {total} leaves"
    assert taken.manifest.coverage_skipped == says


def test_only_trees_with_leaves_left_are_asked_again(tmp_path, take, features, columns, monkeypatch):
    monkeypatch.setattr(coverage, "_ROWS", 20)
    leaves = [2, 60, 2, 2, 60]
    parts = [DecisionTreeRegressor(max_leaf_nodes=most, random_state=0).fit(features, columns["a"]) for most in leaves]
    model = RandomForestRegressor(5, n_jobs=2).fit(features, columns["a"])
    model.estimators_ = parts
    counted = []

    def count(subject, masks, seen, rows, visits):
        found = leaves_of(subject, masks, seen, rows, visits)
        counted.append(found.visits // rows)
        return found

    leaves_of = reach.leaves
    monkeypatch.setattr(reach, "leaves", count)
    shown = features[:70]
    taken = take("SKLearn", saved(tmp_path / "m.joblib", model), dict(zip(COLUMNS, shown.T, strict=True)))
    visited = np.column_stack([part.apply(shown) for part in parts])
    assert one(taken, "RandomForestRegressor").rows == sum(len(set(column)) for column in visited.T)
    assert counted[:2] == [5, 2]


@pytest.mark.parametrize("trees", [[0], [1, 2, 40, 61, 119], list(range(118)), [7, 25, 26]])
def test_some_trees_of_lightgbm_are_visited_as_all_are(features, trees):
    lightgbm = pytest.importorskip("lightgbm")
    classes = (features[:, 0] > 0).astype(int) + (features[:, 1] > 0.5)
    native = lightgbm.LGBMClassifier(n_estimators=40, min_child_samples=3, num_leaves=12, n_jobs=1, verbose=-1)
    model = framework_module("LightGBM").adapt(native.fit(features, classes), {})
    model.leaf_masks = model.masks(features)
    every = native.booster_.predict(features, pred_leaf=True)
    assert every.shape[1] == len(model.leaf_masks) == 120
    found = dict(model.visits(features, trees))
    assert sorted(found) == trees
    for tree in trees:
        assert found[tree].tolist() == every[:, tree].tolist()


def test_counting_ends_once_everything_is_reached(tmp_path, take, features, columns, monkeypatch):
    monkeypatch.setattr(coverage, "MOST", 0)
    monkeypatch.setattr(coverage, "_ROWS", 79)
    model = DecisionTreeRegressor(max_leaf_nodes=3, random_state=0).fit(features, columns["y"])
    taken = take("SKLearn", saved(tmp_path / "m.joblib", model), columns, label="y")
    assert one(taken, "DecisionTreeRegressor").rows == 3


def test_a_failure_to_count_leaves_the_capture_whole(tmp_path, take, features, columns, monkeypatch):
    monkeypatch.setattr(reach, "leaves", None)
    model = RandomForestClassifier(7, random_state=0).fit(features, columns["y"])
    taken = take("SKLearn", saved(tmp_path / "m.joblib", model), columns, label="y")
    assert taken.manifest.coverage_skipped.startswith("counting them failed: ")
    assert len(taken.table("reference")["label"]) == 80


def test_models_without_leaves_and_categories_have_nothing_to_count(tmp_path, take, features, columns):
    taken = take(
        "SKLearn", saved(tmp_path / "m.joblib", LogisticRegression().fit(features, columns["y"])), columns, label="y"
    )
    assert taken.manifest.coverage == ()
    assert taken.manifest.coverage_skipped is None
