"""Linear models, discriminant analysis, support vector machines and neural networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from paritygate.worker.sources._sklearn.links import (
    above,
    by_probability,
    complement,
    first_highest,
    label_of_scores,
    normalized,
    normalized_or_uniform,
    raw_scores,
    softmax,
)
from paritygate.worker.sources._sklearn.writer import (
    Classes,
    Table,
    Writer,
    classifier,
    numbers,
    regressor,
    transformer,
)


@classifier(
    "LogisticRegression", "LogisticRegressionCV", "LinearSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron",
    "PassiveAggressiveClassifier", "SGDClassifier", "LinearDiscriminantAnalysis",
)  # fmt: skip
def linear_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """Scores X·Wᵀ + b; the class's own way to probabilities."""
    scores, binary = _decisions(w, model, table)
    if hasattr(model, "_label_binarizer") and model._label_binarizer.y_type_.startswith("multilabel"):  # noqa: SLF001
        raise w.unsupported("it predicts several labels per row", model)
    return Classes(label_of_scores(w, scores, binary=binary), _linear_probabilities(w, model, scores, binary), scores)


@regressor(
    "LinearRegression", "Ridge", "RidgeCV", "Lasso", "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "Lars",
    "LarsCV", "ElasticNet", "ElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV", "MultiTaskElasticNet",
    "MultiTaskElasticNetCV", "OrthogonalMatchingPursuit", "OrthogonalMatchingPursuitCV", "BayesianRidge",
    "ARDRegression", "HuberRegressor", "TheilSenRegressor", "QuantileRegressor", "SGDRegressor",
    "PassiveAggressiveRegressor", "LinearSVR",
)  # fmt: skip
def linear_regressor(w: Writer, model: Any, table: Table) -> str:
    """X·Wᵀ + b."""
    return raw_scores(w, w.dense(table), model.coef_, model.intercept_)


@regressor("PoissonRegressor", "GammaRegressor", "TweedieRegressor")
def generalized_linear_regressor(w: Writer, model: Any, table: Table) -> str:
    """The inverse link of X·Wᵀ + b."""
    raw = raw_scores(w, w.dense(table), model.coef_, model.intercept_)
    link = type(model._base_loss.link).__name__  # noqa: SLF001
    if link not in {"IdentityLink", "LogLink"}:
        raise w.unsupported(f"its link function is {link}", model)
    return w.op("Exp", raw) if link == "LogLink" else raw


@transformer("LinearDiscriminantAnalysis")
def discriminant_projection(w: Writer, model: Any, table: Table) -> Table:
    """(X - mean)·scalings, or X·scalings for solver eigen."""
    features = w.dense(table)
    if model.solver == "svd":
        features = w.op("Sub", features, model.xbar_.reshape(1, -1))
    kept = model.scalings_[:, : model._max_components]  # noqa: SLF001
    return numbers(w.op("MatMul", features, np.ascontiguousarray(kept)), kept.shape[1])


@classifier("QuadraticDiscriminantAnalysis")
def quadratic_discriminant(w: Writer, model: Any, table: Table) -> Classes:
    """Log posterior of a Gaussian per class (Elements of Statistical Learning, equation 4.12)."""
    features, parts = w.dense(table), []
    for mean, rotation, scaling in zip(model.means_, model.rotations_, model.scalings_, strict=True):
        centred = w.op("Sub", features, mean.reshape(1, -1))
        parts.append(w.total("ReduceSumSquare", w.op("MatMul", centred, rotation * scaling**-0.5)))
    constant = np.array([np.log(scaling).sum() for scaling in model.scalings_]).reshape(1, -1)
    posterior = w.op(
        "Add", w.op("Mul", w.op("Add", w.beside(*parts), constant), -0.5), np.log(model.priors_).reshape(1, -1)
    )
    if len(model.classes_) == 2:  # noqa: PLR2004
        scores = w.op("Sub", w.column(posterior, 1), w.column(posterior, 0))
        return Classes(above(w, scores, 0.0), softmax(w, posterior), scores)
    return Classes(first_highest(w, posterior), softmax(w, posterior), posterior)


@classifier("MLPClassifier")
def neural_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """A feed-forward network with a logistic or softmax end."""
    raw = _hidden(w, model, table)
    if model.out_activation_ == "softmax":
        return by_probability(w, softmax(w, raw))
    if len(model.classes_) != 2 or model.n_outputs_ != 1:  # noqa: PLR2004
        raise w.unsupported("it predicts several labels per row", model)
    positive = w.flat(w.logistic(raw))
    return Classes(above(w, positive, 0.5), complement(w, positive))


@regressor("MLPRegressor")
def neural_regressor(w: Writer, model: Any, table: Table) -> str:
    """A feed-forward network without an end function."""
    raw = _hidden(w, model, table)
    if model.out_activation_ == "identity":
        return raw
    return w.op("Exp", raw)


@transformer("BernoulliRBM")
def boltzmann_machine(w: Writer, model: Any, table: Table) -> Table:
    """Probabilities of the hidden units."""
    raw = raw_scores(w, w.dense(table), model.components_, model.intercept_hidden_)
    return numbers(w.logistic(raw), model.components_.shape[0])


def _decisions(w: Writer, model: Any, table: Table) -> tuple[str, bool]:
    scores = raw_scores(w, w.dense(table), model.coef_, model.intercept_)
    binary = np.atleast_2d(model.coef_).shape[0] == 1
    return (w.flat(scores) if binary else scores), binary


def _linear_probabilities(w: Writer, model: Any, scores: str, binary: bool) -> str | None:
    name = type(model).__name__
    if name.startswith("LogisticRegression"):
        return _logistic_probabilities(w, model, scores, binary)
    if name == "LinearDiscriminantAnalysis":
        return complement(w, w.logistic(scores)) if binary else softmax(w, scores)
    if name == "SGDClassifier" and model.loss in {"log_loss", "log"}:
        return complement(w, w.logistic(scores)) if binary else normalized(w, w.logistic(scores))
    if name == "SGDClassifier" and model.loss == "modified_huber":
        clipped = w.op("Mul", w.op("Add", w.op("Max", w.op("Min", scores, 1.0), -1.0), 1.0), 0.5)
        return complement(w, clipped) if binary else normalized_or_uniform(w, clipped, len(model.classes_))
    return None


def _logistic_probabilities(w: Writer, model: Any, scores: str, binary: bool) -> str:
    """Models of scikit-learn before 1.8 state multi_class, which newer ones do not read any more."""
    stated = model.__dict__.get("multi_class", "auto")
    if binary:
        if stated == "multinomial" and model.solver != "liblinear":
            scores = w.op("Mul", scores, 2.0)
        return complement(w, w.logistic(scores))
    if stated == "ovr" or model.solver == "liblinear":
        return normalized(w, w.logistic(scores))
    return softmax(w, scores)


def _hidden(w: Writer, model: Any, table: Table) -> str:
    value = w.dense(table)
    for layer, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        value = w.op("Add", w.op("MatMul", value, weights), bias.reshape(1, -1))
        if layer == len(model.coefs_) - 1 or model.activation == "identity":
            continue
        if model.activation == "logistic":
            value = w.logistic(value)
        else:
            value = w.op({"tanh": "Tanh", "relu": "Relu"}[model.activation], value)
    return value
