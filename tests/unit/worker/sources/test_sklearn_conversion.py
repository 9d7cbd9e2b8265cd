"""scikit-learn's estimators and pipelines, converted and run, against their own answers on shipped data sets."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import (
    calibration,
    cluster,
    compose,
    datasets,
    decomposition,
    discriminant_analysis,
    dummy,
    ensemble,
    feature_extraction,
    feature_selection,
    gaussian_process,
    impute,
    isotonic,
    kernel_ridge,
    linear_model,
    manifold,
    mixture,
    model_selection,
    multiclass,
    multioutput,
    naive_bayes,
    neighbors,
    neural_network,
    pipeline,
    preprocessing,
    svm,
    tree,
)  # fmt: skip

from paritygate.errors import ConfigurationError

ROWS = 150
EXACT = 1e-9
"""Relative to the largest answer: what double precision leaves, whatever the order of additions."""


@cache
def shipped(name: str) -> tuple[Any, Any]:
    """A data set of scikit-learn, every third row, so that all classes are in it."""
    features, target = getattr(datasets, f"load_{name}")(return_X_y=True)
    return features[::3].astype(np.float64), target[::3]


def scaled(model: Any) -> Any:
    return pipeline.make_pipeline(preprocessing.StandardScaler(), model)


def logistic(**arguments: Any) -> Any:
    return linear_model.LogisticRegression(max_iter=200, **arguments)


LR = logistic
CLASSIFIERS = {
    "binary logistic regression": (lambda: scaled(LR()), "breast_cancer"),
    "multinomial logistic regression": (lambda: scaled(LR()), "wine"),
    "logistic regression by liblinear": (lambda: LR(solver="liblinear"), "breast_cancer"),
    "cross-validated logistic regression": (
        lambda: scaled(
            linear_model.LogisticRegressionCV(Cs=2, cv=2, max_iter=200, use_legacy_attributes=False, l1_ratios=(0,))
        ),
        "iris",
    ),
    "ridge classifier": (lambda: scaled(linear_model.RidgeClassifier()), "wine"),
    "perceptron": (lambda: scaled(linear_model.Perceptron()), "wine"),
    "SGD with log loss": (lambda: scaled(linear_model.SGDClassifier(loss="log_loss", random_state=0)), "wine"),
    "SGD with modified Huber loss": (
        lambda: scaled(linear_model.SGDClassifier(loss="modified_huber", random_state=0)), "wine",
    ),
    "linear support vectors": (lambda: scaled(svm.LinearSVC(random_state=0)), "breast_cancer"),
    "support vectors with an rbf kernel": (lambda: scaled(svm.SVC()), "breast_cancer"),
    "support vectors of three classes": (lambda: scaled(svm.SVC(kernel="poly", degree=2, coef0=1.0)), "wine"),
    "nu support vectors with a sigmoid kernel": (lambda: scaled(svm.NuSVC(kernel="sigmoid", nu=0.2)), "iris"),
    "support vectors with probabilities of two classes": (
        lambda: scaled(svm.SVC(probability=True, random_state=0)), "breast_cancer",
    ),
    "support vectors with probabilities of many classes": (
        lambda: scaled(svm.SVC(probability=True, random_state=0)), "digits",
    ),
    "neighbours": (lambda: scaled(neighbors.KNeighborsClassifier(5)), "wine"),
    "neighbours weighted by distance": (
        lambda: scaled(neighbors.KNeighborsClassifier(4, weights="distance", p=1)), "iris",
    ),
    "Gaussian naive Bayes": (naive_bayes.GaussianNB, "wine"),
    "multinomial naive Bayes": (naive_bayes.MultinomialNB, "digits"),
    "complement naive Bayes": (naive_bayes.ComplementNB, "digits"),
    "Bernoulli naive Bayes": (lambda: naive_bayes.BernoulliNB(binarize=4.0), "digits"),
    "a neural network of two classes": (
        lambda: scaled(neural_network.MLPClassifier((6,), max_iter=60, random_state=0)), "breast_cancer",
    ),
    "a neural network of many classes": (
        lambda: scaled(neural_network.MLPClassifier((5, 4), activation="tanh", max_iter=40, random_state=0)), "wine",
    ),
    "linear discriminant analysis": (discriminant_analysis.LinearDiscriminantAnalysis, "wine"),
    "quadratic discriminant analysis": (
        lambda: discriminant_analysis.QuadraticDiscriminantAnalysis(reg_param=0.1), "wine",
    ),
    "a decision tree": (lambda: tree.DecisionTreeClassifier(random_state=0), "breast_cancer"),
    "a random forest with an even number of trees": (
        lambda: ensemble.RandomForestClassifier(8, max_depth=3, random_state=0), "breast_cancer",
    ),
    "extremely random trees": (lambda: ensemble.ExtraTreesClassifier(6, random_state=0), "digits"),
    "gradient boosting": (lambda: ensemble.GradientBoostingClassifier(n_estimators=4, random_state=0), "iris"),
    "histogram gradient boosting": (
        lambda: ensemble.HistGradientBoostingClassifier(max_iter=4, random_state=0), "breast_cancer",
    ),
    "AdaBoost of two classes": (
        lambda: ensemble.AdaBoostClassifier(n_estimators=5, random_state=0), "breast_cancer",
    ),
    "AdaBoost of three classes": (lambda: ensemble.AdaBoostClassifier(n_estimators=5, random_state=0), "wine"),
    "bagging over parts of the columns": (
        lambda: ensemble.BaggingClassifier(
            tree.DecisionTreeClassifier(max_depth=3), 4, max_features=0.6, random_state=0
        ),
        "breast_cancer",
    ),
    "bagging of members without probabilities": (
        lambda: ensemble.BaggingClassifier(linear_model.RidgeClassifier(), 4, random_state=0), "wine",
    ),
    "soft voting with weights": (
        lambda: ensemble.VotingClassifier(
            [("a", scaled(LR())), ("b", naive_bayes.GaussianNB())], voting="soft", weights=[2, 1]
        ),
        "wine",
    ),
    "hard voting": (
        lambda: ensemble.VotingClassifier(
            [("a", scaled(LR())), ("b", naive_bayes.GaussianNB()), ("c", tree.DecisionTreeClassifier(max_depth=2)),
             ("d", neighbors.KNeighborsClassifier(3))]
        ),
        "wine",
    ),
    "stacking with the columns passed through": (
        lambda: ensemble.StackingClassifier(
            [("a", scaled(LR())), ("b", scaled(svm.LinearSVC(random_state=0)))], scaled(LR()), cv=2, passthrough=True
        ),
        "breast_cancer",
    ),
    "stacking of three classes": (
        lambda: ensemble.StackingClassifier(
            [("a", naive_bayes.GaussianNB()), ("b", tree.DecisionTreeClassifier(max_depth=2, random_state=0))],
            LR(),
            cv=2,
        ),
        "wine",
    ),
    "sigmoid calibration": (
        lambda: calibration.CalibratedClassifierCV(scaled(svm.LinearSVC(random_state=0)), cv=2), "breast_cancer",
    ),
    "isotonic calibration of three classes": (
        lambda: calibration.CalibratedClassifierCV(naive_bayes.GaussianNB(), method="isotonic", cv=2), "wine",
    ),
    "one against the rest": (lambda: multiclass.OneVsRestClassifier(scaled(LR())), "wine"),
    "one against one": (lambda: multiclass.OneVsOneClassifier(scaled(svm.LinearSVC(random_state=0))), "wine"),
    "a grid search": (lambda: model_selection.GridSearchCV(scaled(LR()), {}, cv=2), "iris"),
    "a tuned threshold": (
        lambda: model_selection.FixedThresholdClassifier(scaled(LR()), threshold=0.3), "breast_cancer",
    ),
    "a constant": (lambda: dummy.DummyClassifier(strategy="prior"), "wine"),
    "scalers, powers and selection": (
        lambda: pipeline.make_pipeline(
            preprocessing.MinMaxScaler(clip=True), feature_selection.SelectKBest(k=6),
            preprocessing.PolynomialFeatures(2, interaction_only=True), preprocessing.RobustScaler(),
            preprocessing.MaxAbsScaler(), LR(),
        ),
        "breast_cancer",
    ),
    "components, bins and norms": (
        lambda: pipeline.make_pipeline(
            preprocessing.PowerTransformer(), decomposition.PCA(5, whiten=True, random_state=0),
            preprocessing.KBinsDiscretizer(4, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
            preprocessing.Normalizer(), LR(),
        ),
        "wine",
    ),
    "one column, whose scale onnxruntime would round": (
        lambda: pipeline.make_pipeline(
            feature_selection.SelectKBest(k=1), preprocessing.StandardScaler(with_mean=False), LR()
        ),
        "breast_cancer",
    ),
    "a union with weights": (
        lambda: pipeline.make_pipeline(
            pipeline.FeatureUnion(
                [("a", decomposition.TruncatedSVD(2, random_state=0)), ("b", preprocessing.StandardScaler())],
                transformer_weights={"a": 0.3},
            ),
            preprocessing.FunctionTransformer(np.tanh), LR(),
        ),
        "iris",
    ),
}  # fmt: skip

REGRESSORS = {
    "linear regression": (linear_model.LinearRegression, "diabetes"),
    "lasso": (lambda: linear_model.Lasso(0.1), "diabetes"),
    "Poisson regression": (linear_model.PoissonRegressor, "diabetes"),
    "Tweedie regression": (lambda: linear_model.TweedieRegressor(power=0), "diabetes"),
    "support vector regression": (lambda: scaled(svm.SVR()), "diabetes"),
    "kernel ridge": (lambda: kernel_ridge.KernelRidge(kernel="rbf", gamma=0.5), "diabetes"),
    "neighbours": (lambda: neighbors.KNeighborsRegressor(3, weights="distance"), "diabetes"),
    "a neural network": (
        lambda: neural_network.MLPRegressor(
            hidden_layer_sizes=(5,), activation="logistic", max_iter=30, random_state=0
        ),
        "diabetes",
    ),
    "a random forest": (lambda: ensemble.RandomForestRegressor(5, max_depth=4, random_state=0), "diabetes"),
    "gradient boosting": (lambda: ensemble.GradientBoostingRegressor(n_estimators=5, random_state=0), "diabetes"),
    "histogram gradient boosting with a Poisson loss": (
        lambda: ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=4), "diabetes",
    ),
    "AdaBoost": (lambda: ensemble.AdaBoostRegressor(n_estimators=5, random_state=0), "diabetes"),
    "bagging": (lambda: ensemble.BaggingRegressor(n_estimators=3, random_state=0), "diabetes"),
    "voting": (
        lambda: ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))]),
        "diabetes",
    ),
    "stacking": (
        lambda: ensemble.StackingRegressor([("a", linear_model.Ridge()), ("b", svm.SVR())], linear_model.Ridge(), cv=2),
        "diabetes",
    ),
    "a scaled target": (
        lambda: compose.TransformedTargetRegressor(linear_model.Ridge(), transformer=preprocessing.StandardScaler()),
        "diabetes",
    ),
    "the exponential of a prediction": (
        lambda: compose.TransformedTargetRegressor(linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1),
        "diabetes",
    ),
    "an isolation forest": (lambda: ensemble.IsolationForest(n_estimators=20, random_state=0), "breast_cancer"),
    "an isolation forest whose threshold is the score of a row": (
        lambda: ensemble.IsolationForest(n_estimators=25, contamination=0.25, max_features=0.5, random_state=1), "iris",
    ),
    "k-means": (lambda: cluster.KMeans(4, n_init=1, random_state=0), "iris"),
    "a Gaussian mixture": (lambda: mixture.GaussianMixture(3, random_state=0), "iris"),
    "a Gaussian process, by skl2onnx": (
        lambda: gaussian_process.GaussianProcessRegressor(alpha=1e-2, random_state=0), "diabetes",
    ),
}  # fmt: skip


NO_EMPTY_BATCH = {"a Gaussian process, by skl2onnx"}
"""skl2onnx's graph for it fails on no rows, and scikit-learn refuses them too."""


@pytest.fixture
def converted(converted_model: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Converts a fitted estimator with the signature that a capture gives it, numbers in FP64."""

    def convert(model: Any, inputs: list[Any], outputs: list[Any], **options: Any) -> Any:
        path = tmp_path / "model.joblib"
        joblib.dump(model, path)
        return converted_model("SKLearn", path, inputs, outputs, **options)

    return convert


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    """Fitting tiny models to few rows does not converge, and says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def classifier_outputs(wire: Any, model: Any) -> list[Any]:
    classes = model.classes_.tolist()
    label = wire.output("label", "Label", "INT64" if model.classes_.dtype.kind in "iu" else "BYTES", (-1,), classes)
    if hasattr(model, "predict_proba"):
        return [label, wire.output("probabilities", "Probabilities", "FP64", (-1, len(classes)), classes)]
    if hasattr(model, "decision_function"):
        shape = (-1,) if len(classes) == 2 else (-1, len(classes))
        return [label, wire.output("scores", "Scores", "FP64", shape, classes)]
    return [label]


def check_classifier(model: Any, rows: Any, answers: dict[str, Any]) -> None:
    expected = model.predict(rows)
    assert answers["label"].tolist() == expected.tolist()
    if "probabilities" in answers:
        check_numbers(model.predict_proba(rows), answers["probabilities"])
    if "scores" in answers:
        check_numbers(model.decision_function(rows), answers["scores"])


def check_numbers(expected: Any, found: Any) -> None:
    expected = np.asarray(expected.todense() if hasattr(expected, "todense") else expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=EXACT, atol=EXACT * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifier_answers_as_its_source(name: str, converted: Callable[..., Any], wire: Any) -> None:
    build, data = CLASSIFIERS[name]
    features, target = shipped(data)
    model = build().fit(features, target)
    candidate = converted(
        model, [wire.tensor("features", "FP64", (-1, features.shape[1]))], classifier_outputs(wire, model)
    )
    rows = features[:ROWS]
    check_classifier(model, rows, candidate.answer({"features": rows}))
    check_classifier(model, rows[:1], candidate.answer({"features": rows[:1]}))
    assert all(len(value) == 0 for value in candidate.answer({"features": rows[:0]}).values())


@pytest.mark.parametrize("contamination", ["auto", *np.linspace(0.02, 0.5, 13)])
def test_outliers_at_the_threshold_are_those_of_the_source(contamination, converted, wire) -> None:
    features, _ = shipped("iris")
    # Rounded, many rows are alike, and the threshold lies on the score of some.
    model = ensemble.IsolationForest(n_estimators=30, contamination=contamination, random_state=2).fit(features.round())
    rows = np.concatenate([features.round(), features, np.full((1, 4), 1e30)])
    inputs = [wire.tensor("features", "FP64", (-1, 4))]
    labels = converted(model, inputs, [wire.output("prediction", "Prediction", "INT64", (-1,))])
    assert labels.answer({"features": rows})["prediction"].tolist() == model.predict(rows).tolist()
    scores = converted(model, inputs, [wire.output("scores", "Scores", "FP64", (-1,))])
    np.testing.assert_allclose(
        scores.answer({"features": rows})["scores"], model.decision_function(rows), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressor_answers_as_its_source(name: str, converted: Callable[..., Any], wire: Any) -> None:
    build, data = REGRESSORS[name]
    features, target = shipped(data)
    model = build().fit(features, target)
    rows = features[:ROWS]
    expected = model.predict(rows)
    datatype = "INT64" if expected.dtype.kind == "i" else "FP64"
    candidate = converted(
        model, [wire.tensor("features", "FP64", (-1, features.shape[1]))],
        [wire.output("prediction", "Prediction", datatype, (-1,))],
    )  # fmt: skip
    check_numbers(expected, candidate.answer({"features": rows})["prediction"])
    check_numbers(expected[:1], candidate.answer({"features": rows[:1]})["prediction"])
    if name not in NO_EMPTY_BATCH:
        assert candidate.answer({"features": rows[:0]})["prediction"].shape == (0,)


def people(rows: int = 120) -> pd.DataFrame:
    """A data frame of every kind of column, with gaps."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 12, rows),
            "visits": random.integers(0, 9, rows),
            "member": random.integers(0, 2, rows).astype(bool),
            "country": random.choice(["DE", "FR", "IT", "ES", "PT"], rows, p=[0.4, 0.3, 0.2, 0.06, 0.04]),
            "plan": random.choice(["free", "pro"], rows),
            "zone": random.integers(1, 4, rows),
        }
    ).astype({"country": object, "plan": object})
    frame.loc[random.random(rows) < 0.2, "age"] = np.nan
    frame["paid"] = np.where((frame["visits"] > 4) ^ (frame["plan"] == "pro"), "yes", "no")
    return frame


def frame_inputs(wire: Any, frame: pd.DataFrame) -> list[Any]:
    kinds = {"f": "FP64", "i": "INT64", "b": "BOOL", "O": "BYTES"}
    return [wire.tensor(name, kinds[frame[name].dtype.kind]) for name in frame.columns]


def frame_feeds(frame: pd.DataFrame) -> dict[str, Any]:
    feeds = {name: frame[name].to_numpy().reshape(-1, 1) for name in frame.columns}
    return {name: np.where(pd.isna(v), "", v).astype(object) if v.dtype == object else v for name, v in feeds.items()}


ENCODERS = {
    "one-hot, unknown values ignored": preprocessing.OneHotEncoder(handle_unknown="ignore"),
    "one-hot without the first": preprocessing.OneHotEncoder(drop="first", handle_unknown="ignore"),
    "one-hot without one of two": preprocessing.OneHotEncoder(drop="if_binary", sparse_output=False),
    "one-hot with infrequent values together": preprocessing.OneHotEncoder(
        min_frequency=12, handle_unknown="infrequent_if_exist"
    ),
    "ordinal with a value for unknown": preprocessing.OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1
    ),
    "the mean of the target": preprocessing.TargetEncoder(random_state=0),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_data_frame_pipeline_answers_as_its_source(name: str, converted: Callable[..., Any], wire: Any) -> None:
    frame = people()
    target = frame.pop("paid")
    numeric = pipeline.make_pipeline(
        impute.SimpleImputer(strategy="median", add_indicator=True), preprocessing.StandardScaler()
    )
    steps = compose.ColumnTransformer(
        [("numbers", numeric, ["age", "visits"]), ("texts", ENCODERS[name], ["country", "plan", "zone"])],
        remainder="passthrough",
    )
    model = pipeline.Pipeline([("columns", steps), ("model", LR())]).fit(frame, target)
    candidate = converted(model, frame_inputs(wire, frame), classifier_outputs(wire, model))
    rows = frame.copy()
    if getattr(ENCODERS[name], "handle_unknown", "") != "error":
        rows.loc[0, "country"] = "XX"
        rows.loc[1, "zone"] = 99
    check_classifier(model, rows, candidate.answer(frame_feeds(rows)))


def test_missing_text_is_a_category_of_its_own(converted: Callable[..., Any], wire: Any) -> None:
    frame = people()[["country", "age"]]
    frame.loc[::7, "country"] = None
    target = frame["age"].fillna(0) > 35
    steps = compose.ColumnTransformer([("c", preprocessing.OneHotEncoder(), ["country"])])
    model = pipeline.make_pipeline(steps, tree.DecisionTreeClassifier(random_state=0)).fit(
        frame[["country", "age"]], target
    )
    candidate = converted(
        model, frame_inputs(wire, frame),
        [wire.output("label", "Label", "BOOL", (-1,)), wire.output("probabilities", "Probabilities", "FP64", (-1, 2))],
    )  # fmt: skip
    check_classifier(model, frame, candidate.answer(frame_feeds(frame)))
    assert candidate.converted.categories == {"country": ("", "DE", "ES", "FR", "IT", "PT")}


TEXTS = [
    "Free money, click NOW!", "see you at the café tomorrow", "WIN a free prize now now", "", "naïve Bayes & you",
    "meeting moved to 3 pm", "x", "prize prize prize", "Überweisung an dich", "don't miss it_all", "日本語 テスト free",
]  # fmt: skip
VECTORIZERS = {
    "words weighted by rarity": feature_extraction.text.TfidfVectorizer(),
    "pairs of words, counted once, damped": feature_extraction.text.TfidfVectorizer(
        ngram_range=(1, 2), sublinear_tf=True, norm="l1", binary=True
    ),
    "counts without stop words": feature_extraction.text.CountVectorizer(stop_words=["free", "at"], lowercase=False),
    "single letters too": feature_extraction.text.CountVectorizer(token_pattern=r"(?u)\b\w+\b", ngram_range=(2, 2)),
    "a set of characters": feature_extraction.text.CountVectorizer(token_pattern="[a-z]{2,}"),
}


@pytest.mark.parametrize("name", VECTORIZERS)
def test_text_pipeline_answers_as_its_source(name: str, converted: Callable[..., Any], wire: Any) -> None:
    target = np.array([1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 1])
    model = pipeline.make_pipeline(VECTORIZERS[name], LR()).fit(TEXTS, target)
    for shape in ((-1,), (-1, 1)):
        candidate = converted(model, [wire.tensor("text", "BYTES", shape)], classifier_outputs(wire, model))
        rows = np.array([*TEXTS, "unseen words only"], dtype=object)
        feeds = rows.reshape(shape)
        check_classifier(model, rows, candidate.answer({"text": feeds}))
        nothing = candidate.answer({"text": feeds[:0]})
        assert nothing["probabilities"].shape == (0, 2)
        check_classifier(model, [""], candidate.answer({"text": feeds[3:4]}))


def test_several_targets_have_labels_and_probabilities_each(converted: Callable[..., Any], wire: Any) -> None:
    features, target = shipped("wine")
    both = np.stack([target, (features[:, 0] > 13).astype(int)], axis=1)
    for model in (
        multioutput.MultiOutputClassifier(scaled(LR())), tree.DecisionTreeClassifier(max_depth=3, random_state=0),
    ):  # fmt: skip
        model.fit(features, both)
        candidate = converted(
            model, [wire.tensor("features", "FP64", (-1, features.shape[1]))],
            [wire.output("label", "Label", "INT64", (-1, 2)),
             wire.output("probabilities_0", "Probabilities", "FP64", (-1, 3)),
             wire.output("probabilities_1", "Probabilities", "FP64", (-1, 2))],
        )  # fmt: skip
        answers = candidate.answer({"features": features})
        assert answers["label"].tolist() == model.predict(features).tolist()
        for position, expected in enumerate(model.predict_proba(features)):
            check_numbers(expected, answers[f"probabilities_{position}"])


def test_several_numbers_are_predicted_in_order(converted: Callable[..., Any], wire: Any) -> None:
    features, target = shipped("diabetes")
    both = np.stack([target, features[:, 2] * 100], axis=1)
    for model in (
        multioutput.MultiOutputRegressor(linear_model.Ridge()),
        multioutput.RegressorChain(linear_model.Ridge(), order=[1, 0]),
        linear_model.LinearRegression(),
    ):  # fmt: skip
        model.fit(features, both)
        candidate = converted(
            model, [wire.tensor("features", "FP64", (-1, features.shape[1]))],
            [wire.output("prediction", "Prediction", "FP64", (-1, 2))],
        )  # fmt: skip
        check_numbers(model.predict(features), candidate.answer({"features": features})["prediction"])


def test_a_transformer_alone_is_converted(converted: Callable[..., Any], wire: Any) -> None:
    features, _ = shipped("iris")
    model = scaled(cluster.KMeans(3, n_init=1, random_state=0)).fit(features)
    candidate = converted(
        model, [wire.tensor("features", "FP32", (-1, 4))], [wire.output("out", "Transformed", "FP32", (-1, 3))]
    )
    found = candidate.answer({"features": features.astype(np.float32)})["out"]
    np.testing.assert_allclose(found, model.transform(features.astype(np.float32)), rtol=1.3e-6, atol=1e-5)


def test_isotonic_regression_reads_one_column(converted: Callable[..., Any], wire: Any) -> None:
    x = np.linspace(0, 1, 40)
    model = isotonic.IsotonicRegression(out_of_bounds="clip").fit(x, np.round(x * 7) + np.sin(x * 40))
    candidate = converted(
        model, [wire.tensor("x", "FP64", (-1, 1))], [wire.output("prediction", "Prediction", "FP64", (-1,))]
    )
    rows = np.linspace(-0.5, 1.5, 99)
    check_numbers(model.predict(rows), candidate.answer({"x": rows.reshape(-1, 1)})["prediction"])


@pytest.mark.parametrize("package", ["lightgbm", "xgboost"])
def test_boosters_stand_at_the_end_of_a_pipeline(package: str, converted: Callable[..., Any], wire: Any) -> None:
    library = pytest.importorskip(package)
    kinds = {"lightgbm": ("LGBMClassifier", "LGBMRegressor"), "xgboost": ("XGBClassifier", "XGBRegressor")}[package]
    quiet = {"verbose": -1} if package == "lightgbm" else {}
    for data in ("breast_cancer", "wine"):
        features, target = shipped(data)
        model = scaled(getattr(library, kinds[0])(n_estimators=4, n_jobs=1, **quiet)).fit(features, target)
        inputs = [wire.tensor("features", "FP64", (-1, features.shape[1]))]
        candidate = converted(model, inputs, classifier_outputs(wire, model))
        answers = candidate.answer({"features": features})
        assert answers["label"].tolist() == model.predict(features).tolist()
        np.testing.assert_allclose(answers["probabilities"], model.predict_proba(features), rtol=1e-6, atol=1e-7)
    features, target = shipped("diabetes")
    model = scaled(getattr(library, kinds[1])(n_estimators=4, n_jobs=1, **quiet)).fit(features, target)
    candidate = converted(
        model, [wire.tensor("features", "FP64", (-1, 10))], [wire.output("prediction", "Prediction", "FP64", (-1,))]
    )
    found = candidate.answer({"features": features})["prediction"]
    np.testing.assert_allclose(found, model.predict(features), rtol=1e-6)


def doubled(values: Any) -> Any:
    return values * 2


REFUSED = {
    "a Python function": (
        lambda: pipeline.Pipeline([("twice", preprocessing.FunctionTransformer(doubled)), ("model", LR())]),
        "step twice", "doubled",
    ),
    "letters instead of words": (
        lambda: pipeline.Pipeline(
            [("words", feature_extraction.text.TfidfVectorizer(analyzer="char")), ("model", LR())]
        ),
        "step words", "analyzer 'char'",
    ),
    "a pattern that other engines read otherwise": (
        lambda: pipeline.Pipeline(
            [("words", feature_extraction.text.CountVectorizer(token_pattern=r"(?<=a)\w+|\w")), ("model", LR())]
        ),
        "step words", "token_pattern",
    ),
    "a kernel in Python": (
        lambda: svm.SVC(kernel=lambda a, b: a @ b.T), "the model", "kernel",
    ),
    "an isolation forest of single rows": (
        lambda: ensemble.IsolationForest(n_estimators=2, max_samples=1), "IsolationForest", "all scores are alike",
    ),
    "an operator that onnxruntime does not have": (
        gaussian_process.GaussianProcessClassifier, "GaussianProcessClassifier", "operator",
    ),
    "neighbours within a radius": (
        lambda: neighbors.RadiusNeighborsClassifier(2.0), "RadiusNeighborsClassifier", "without neighbours",
    ),
    "no converter at all": (
        lambda: pipeline.Pipeline([("chart", manifold.Isomap(n_components=2)), ("model", LR())]),
        "step chart", "Isomap",
    ),
}  # fmt: skip
MAIN_PROGRAM_CODE = {"a kernel in Python"}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_converted_is_refused_by_name(name: str, wire: Any) -> None:
    from paritygate.api.report import Signature
    from paritygate.worker.sources._sklearn.outputs import write_inputs, write_outputs
    from paritygate.worker.sources._sklearn.writer import Writer
    from paritygate.worker.targets.onnx_graph import GraphBuilder

    build, where, why = REFUSED[name]
    features, target = shipped("iris")
    text = "words" in where
    model = build().fit(TEXTS if text else features, np.arange(len(TEXTS)) % 2 if text else target)
    role = "Prediction" if not hasattr(model, "classes_") else "Label"
    signature = Signature(
        inputs=(wire.tensor("x", "BYTES", (-1, 1)) if text else wire.tensor("x", "FP64", (-1, 4)),),
        outputs=(wire.output("y", role, "INT64", (-1,)),),
    )
    w = Writer(GraphBuilder(18))
    with pytest.raises(ConfigurationError, match=r"target\.candidate") as caught:
        write_outputs(w, model, write_inputs(w, model, signature), signature)
    assert caught.value.reason == "ConversionUnsupported"
    assert where in caught.value.message
    assert why in caught.value.message


def test_the_same_model_gives_the_same_bytes(converted: Callable[..., Any], wire: Any) -> None:
    features, target = shipped("wine")
    model = scaled(LR()).fit(features, target)
    arguments = (model, [wire.tensor("features", "FP64", (-1, 13))], classifier_outputs(wire, model))
    assert converted(*arguments).path.read_bytes() == converted(*arguments).path.read_bytes()


@pytest.mark.parametrize("opset", [13, 15, 17, 18, 21, 26])
def test_every_stated_opset_is_written(opset: int, converted: Callable[..., Any], wire: Any) -> None:
    features, target = shipped("iris")
    model = scaled(LR()).fit(features, target)
    candidate = converted(
        model, [wire.tensor("features", "FP64", (-1, 4))], classifier_outputs(wire, model), opset=opset
    )
    check_classifier(model, features, candidate.answer({"features": features}))
    assert {entry.domain: entry.version for entry in candidate.model.opset_import}[""] == opset
