"""Models that compare with stored rows: support vectors, neighbours, centres, and densities."""

from __future__ import annotations

from typing import Any

import numpy as np

from paritygate.worker.sources._sklearn.coupling import MAXIMUM_CLASSES, coupled
from paritygate.worker.sources._sklearn.links import (
    above,
    by_probability,
    first_highest,
    normalized,
    raw_scores,
)
from paritygate.worker.sources._sklearn.writer import (
    INT64,
    Classes,
    Table,
    Writer,
    classifier,
    numbers,
    regressor,
    transformer,
)


@classifier("SVC", "NuSVC")
def support_vector_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """One machine per pair of classes, which vote; the first class with the most votes wins."""
    kernel = _kernel(w, model, w.dense(table))
    if len(model.classes_) == 2:  # noqa: PLR2004
        weights = np.asarray(model.dual_coef_)
        raw = raw_scores(w, kernel, weights, model.intercept_)
        scores = w.flat(raw)
        # libsvm counts from the first class, scikit-learn from the second.
        return Classes(above(w, scores, 0.0), _svm_probabilities(w, model, w.op("Neg", raw)), scores)
    pairs = _pairwise(w, model, kernel)
    count = len(model.classes_)
    lost = w.op("LessOrEqual", pairs, 0.0)
    votes = votes_of_pairs(w, w.double(lost), count)
    scores = votes_with_confidences(w, w.double(w.op("Less", pairs, 0.0)), w.op("Neg", pairs), count)
    label = first_highest(w, scores if model.break_ties else votes)
    chosen = pairs if model.decision_function_shape == "ovo" else scores
    return Classes(label, _svm_probabilities(w, model, pairs), chosen)


@regressor("SVR", "NuSVR")
def support_vector_regressor(w: Writer, model: Any, table: Table) -> str:
    """The weighted sum of kernels."""
    return raw_scores(w, _kernel(w, model, w.dense(table)), model.dual_coef_, model.intercept_)


@regressor("OneClassSVM")
def one_class_machine(w: Writer, model: Any, table: Table) -> str:
    """1 inside, -1 outside."""
    raw = raw_scores(w, _kernel(w, model, w.dense(table)), model.dual_coef_, model.intercept_)
    return w.builder.cast(w.op("Where", w.op("Greater", raw, 0.0), 1.0, -1.0), INT64)


@regressor("KernelRidge")
def kernel_ridge(w: Writer, model: Any, table: Table) -> str:
    """The weighted sum of kernels with all training rows."""
    gamma = model.gamma if model.gamma is not None else 1.0 / model.X_fit_.shape[1]
    kernel = _kernel_values(w, model, w.dense(table), np.asarray(model.X_fit_), gamma)
    dual = np.asarray(model.dual_coef_)
    return w.op("MatMul", kernel, dual.reshape(len(dual), -1))


@classifier("KNeighborsClassifier")
def neighbours_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """The share of each class among the nearest rows; the first class of the highest share wins."""
    if model.outputs_2d_:
        raise w.unsupported("it predicts several targets", model)
    indices, weights = _neighbours(w, model, w.dense(table))
    onehot = np.eye(len(model.classes_))[np.asarray(model._y)]  # noqa: SLF001
    shares = w.op("Gather", onehot, indices, axis=0)
    weighted = w.op("Mul", shares, w.op("Unsqueeze", weights, np.array([2])))
    return by_probability(w, normalized(w, w.total("ReduceSum", weighted, 1, keepdims=False)))


@regressor("KNeighborsRegressor")
def neighbours_regressor(w: Writer, model: Any, table: Table) -> str:
    """The mean of the nearest rows' targets."""
    indices, weights = _neighbours(w, model, w.dense(table))
    targets = np.asarray(model._y, dtype=np.float64).reshape(len(model._y), -1)  # noqa: SLF001
    values = w.op("Mul", w.op("Gather", targets, indices, axis=0), w.op("Unsqueeze", weights, np.array([2])))
    return w.op("Div", w.total("ReduceSum", values, 1, keepdims=False), w.total("ReduceSum", weights))


@regressor("KMeans", "MiniBatchKMeans")
def nearest_centre(w: Writer, model: Any, table: Table) -> str:
    """Position of the nearest centre."""
    centres = np.asarray(model.cluster_centers_, dtype=np.float64)
    product = w.op("MatMul", w.dense(table), np.ascontiguousarray(centres.T))
    distance = w.op("Add", w.op("Mul", product, -2.0), (centres**2).sum(axis=1).reshape(1, -1))
    return w.op("ArgMin", distance, axis=1, keepdims=1)


@transformer("KMeans", "MiniBatchKMeans", "BisectingKMeans")
def distances_to_centres(w: Writer, model: Any, table: Table) -> Table:
    """Euclidean distance to each centre."""
    centres = np.asarray(model.cluster_centers_, dtype=np.float64)
    return numbers(w.op("Sqrt", squared_distances(w, w.dense(table), centres)), len(centres))


@classifier("NearestCentroid")
def nearest_centroid(w: Writer, model: Any, table: Table) -> Classes:
    """The class of the nearest centroid."""
    if model.metric != "euclidean" or ("class_prior_" in vars(model) and len(set(model.class_prior_)) > 1):
        raise w.unsupported(f"metric {model.metric} with unequal priors is not known", model)
    return Classes(w.op("ArgMin", squared_distances(w, w.dense(table), model.centroids_), axis=1, keepdims=0))


@regressor("GaussianMixture")
def mixture_component(w: Writer, model: Any, table: Table) -> str:
    """Position of the component with the highest weighted density."""
    features, parts = w.dense(table), []
    count, width = model.means_.shape
    for index, mean in enumerate(model.means_):
        centred = w.op("Sub", features, mean.reshape(1, -1))
        precision = model.precisions_cholesky_
        if model.covariance_type == "full":
            scaled = w.op("MatMul", centred, precision[index])
        elif model.covariance_type == "tied":
            scaled = w.op("MatMul", centred, precision)
        else:
            scaled = w.op("Mul", centred, np.atleast_1d(precision[index]).reshape(1, -1))
        parts.append(w.total("ReduceSumSquare", scaled))
    constant = np.log(model.weights_) + _log_determinants(model, count, width)
    return w.op("ArgMax", w.op("Add", w.op("Mul", w.beside(*parts), -0.5), constant.reshape(1, -1)), axis=1, keepdims=1)


@classifier("GaussianNB")
def gaussian_bayes(w: Writer, model: Any, table: Table) -> Classes:
    """Independent Gaussians per class and feature."""
    centred = w.op("Sub", w.op("Unsqueeze", w.dense(table), np.array([1])), model.theta_[np.newaxis])
    squares = w.op("Div", w.op("Mul", centred, centred), model.var_[np.newaxis])
    constant = np.log(model.class_prior_) - 0.5 * np.log(2.0 * np.pi * model.var_).sum(axis=1)
    joint = w.op("Mul", w.total("ReduceSum", squares, 2, keepdims=False), -0.5)
    return _bayes(w, w.op("Add", joint, constant.reshape(1, -1)))


@classifier("MultinomialNB", "ComplementNB")
def counting_bayes(w: Writer, model: Any, table: Table) -> Classes:
    """Counts weighted by log probabilities."""
    prior = model.class_log_prior_
    if type(model).__name__ == "ComplementNB" and len(model.classes_) > 1:
        prior = np.zeros_like(prior)
    return _bayes(w, raw_scores(w, w.dense(table), model.feature_log_prob_, prior))


@classifier("BernoulliNB")
def bernoulli_bayes(w: Writer, model: Any, table: Table) -> Classes:
    """Presence and absence weighted by log probabilities."""
    features = w.dense(table)
    if model.binarize is not None:
        features = w.double(w.op("Greater", features, float(model.binarize)))
    absent = np.log(1 - np.exp(model.feature_log_prob_))
    return _bayes(
        w, raw_scores(w, features, model.feature_log_prob_ - absent, model.class_log_prior_ + absent.sum(axis=1))
    )


@classifier("CategoricalNB")
def categorical_bayes(w: Writer, model: Any, table: Table) -> Classes:
    """Log probabilities looked up by category."""
    codes = w.builder.cast(w.dense(table), INT64)
    total = model.class_log_prior_.reshape(1, -1)
    joint: Any = total
    for position, table_of_feature in enumerate(model.feature_log_prob_):
        looked_up = w.op("Gather", np.ascontiguousarray(table_of_feature.T), w.column(codes, position), axis=0)
        joint = w.op("Add", looked_up, joint)
    return _bayes(w, joint)


def squared_distances(w: Writer, features: str, rows: Any) -> str:
    """(rows, stored) squared Euclidean distances as |x|² - 2xy + |y|².

    Both sides are shifted by the stored rows' mean first, without which the squares of large values would cancel.
    """
    stored = np.asarray(rows, dtype=np.float64)
    mean = stored.mean(axis=0, keepdims=True)
    stored, shifted = stored - mean, w.op("Sub", features, mean)
    product = w.op("Mul", w.op("MatMul", shifted, np.ascontiguousarray(stored.T)), -2.0)
    squares = w.op("Add", w.total("ReduceSumSquare", shifted), (stored**2).sum(axis=1).reshape(1, -1))
    return w.op("Max", w.op("Add", squares, product), 0.0)


def exact_distances(w: Writer, features: str, rows: Any, power: int) -> str:
    """(rows, stored) distances added up feature by feature, as a search tree does: equal rows have distance 0."""
    stored = np.asarray(rows, dtype=np.float64)
    total = None
    for position in range(stored.shape[1]):
        difference = w.op("Sub", w.columns(features, [position]), stored[:, position].reshape(1, -1))
        part = w.op("Abs", difference) if power == 1 else w.op("Mul", difference, difference)
        total = part if total is None else w.op("Add", total, part)
    if total is None:
        raise w.unsupported("it was fitted on no feature")
    return total if power == 1 else w.op("Sqrt", total)


def votes_of_pairs(w: Writer, second_wins: str, count: int) -> str:
    """(rows, pairs) of 0 and 1 → (rows, classes): how many of its pairs each class wins."""
    first, second = np.triu_indices(count, 1)
    signs = np.zeros((len(first), count))
    signs[np.arange(len(first)), first] = -1.0
    signs[np.arange(len(first)), second] = 1.0
    base = np.bincount(first, minlength=count).astype(np.float64).reshape(1, -1)
    return w.op("Add", w.op("MatMul", second_wins, signs), base)


def votes_with_confidences(w: Writer, second_wins: str, confidences: str, count: int) -> str:
    """scikit-learn's `_ovr_decision_function`: votes, plus the squashed sum of confidences to break ties."""
    first, second = np.triu_indices(count, 1)
    signs = np.zeros((len(first), count))
    signs[np.arange(len(first)), first] = -1.0
    signs[np.arange(len(first)), second] = 1.0
    total = w.op("MatMul", confidences, signs)
    squashed = w.op("Div", total, w.op("Mul", w.op("Add", w.op("Abs", total), 1.0), 3.0))
    return w.op("Add", votes_of_pairs(w, second_wins, count), squashed)


def _svm_probabilities(w: Writer, model: Any, pairs: str) -> str | None:
    """None = it was fitted without, or has too many classes."""
    wanted = getattr(model, "probability", False) and len(model._probA)  # noqa: SLF001
    return coupled(w, model, pairs) if wanted and len(model.classes_) <= MAXIMUM_CLASSES else None


def _bayes(w: Writer, joint: str) -> Classes:
    return Classes(first_highest(w, joint), w.op("Softmax", joint, axis=1))


def _log_determinants(model: Any, count: int, width: int) -> Any:
    precision = model.precisions_cholesky_
    if model.covariance_type == "full":
        return np.array([np.log(np.diag(part)).sum() for part in precision])
    if model.covariance_type == "tied":
        return np.full(count, np.log(np.diag(precision)).sum())
    if model.covariance_type == "diag":
        return np.log(precision).sum(axis=1)
    return width * np.log(precision)


def _neighbours(w: Writer, model: Any, features: str) -> tuple[str, str]:
    """(rows, k) int64 positions of the nearest stored rows, and (rows, k) double weights."""
    metric = model.effective_metric_
    power = model.effective_metric_params_.get("p", 2) if metric == "minkowski" else {"manhattan": 1}.get(metric, 2)
    if metric not in {"minkowski", "euclidean", "manhattan"} or power not in {1, 2}:
        raise w.unsupported(f"metric {metric} is not known; euclidean and manhattan are", model)
    stored = np.asarray(model._fit_X, dtype=np.float64)  # noqa: SLF001
    distance = exact_distances(w, features, stored, power)
    nearest, indices = w.builder.add_many(
        "TopK", distance, w.operand(np.array([model.n_neighbors])), outputs=2, largest=0, sorted=1, axis=1
    )
    if model.weights == "uniform":
        return indices, w.op("Add", w.op("Mul", nearest, 0.0), 1.0)
    if model.weights != "distance":
        raise w.unsupported("its weights are a Python function", model)
    same = w.op("Equal", nearest, 0.0)
    any_same = w.op("Greater", w.total("ReduceSum", w.double(same)), 0.0)
    return indices, w.op("Where", any_same, w.double(same), w.op("Div", 1.0, w.op("Where", same, 1.0, nearest)))


def _kernel(w: Writer, model: Any, features: str) -> str:
    if callable(model.kernel) or model.kernel == "precomputed":
        raise w.unsupported("its kernel is a Python function or precomputed", model)
    stored = model.support_vectors_
    return _kernel_values(
        w,
        model,
        features,
        np.asarray(stored.todense() if hasattr(stored, "todense") else stored),
        model._gamma,  # noqa: SLF001
    )


def _kernel_values(w: Writer, model: Any, features: str, stored: Any, gamma: float) -> str:
    """(rows, stored) kernel values."""
    if model.kernel == "rbf":
        return w.op("Exp", w.op("Mul", squared_distances(w, features, stored), -float(gamma)))
    if model.kernel == "linear":
        return w.op("MatMul", features, np.ascontiguousarray(stored.T))
    if model.kernel not in {"poly", "polynomial", "sigmoid"}:
        raise w.unsupported(f"kernel {model.kernel} is not known", model)
    product = w.op("MatMul", features, np.ascontiguousarray(stored.T) * float(gamma))
    scaled = w.op("Add", product, float(model.coef0))
    return w.op("Tanh", scaled) if model.kernel == "sigmoid" else w.op("Pow", scaled, float(model.degree))


def _pairwise(w: Writer, model: Any, kernel: str) -> str:
    """Libsvm's decision values of class i against class j, (rows, pairs), i before j."""
    starts = np.cumsum([0, *model.n_support_])
    dual = np.asarray(model.dual_coef_.todense() if hasattr(model.dual_coef_, "todense") else model.dual_coef_)
    first, second = np.triu_indices(len(model.classes_), 1)
    weights = np.zeros((len(first), dual.shape[1]))
    for row, (i, j) in enumerate(zip(first, second, strict=True)):
        weights[row, starts[i] : starts[i + 1]] = dual[j - 1, starts[i] : starts[i + 1]]
        weights[row, starts[j] : starts[j + 1]] = dual[i, starts[j] : starts[j + 1]]
    return raw_scores(w, kernel, weights, model.intercept_)
