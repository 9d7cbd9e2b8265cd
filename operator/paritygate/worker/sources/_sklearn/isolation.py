"""Isolation forests: path lengths added in double precision, and the decision taken where scikit-learn takes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from paritygate.worker.sources._sklearn.writer import INT64, Classes, Table, Writer, classifier, regressor
from paritygate.worker.targets.onnx_trees import Ensemble, Tree, add_ensemble
from paritygate.worker.targets.sklearn_trees import plain_tree

FloatArray = npt.NDArray[np.float64]
_TWO = 2


@regressor("IsolationForest")
def isolation_forest(w: Writer, model: Any, table: Table) -> str:
    """1 inside, -1 outside."""
    inside = w.op("GreaterOrEqual", _depths(w, model, table), _shallowest_inside(w, model))
    return w.builder.cast(w.op("Where", inside, 1.0, -1.0), INT64)


@classifier("IsolationForest")
def isolation_scores(w: Writer, model: Any, table: Table) -> Classes:
    """`decision_function`: how far above the threshold a row's score is; classes are -1 and 1."""
    depths = _depths(w, model, table)
    exponent = w.op("Neg", w.op("Div", depths, _denominator(w, model)))
    scores = w.op("Neg", w.op("Pow", w.builder.constant(2.0, np.float64), exponent))
    inside = w.op("GreaterOrEqual", depths, _shallowest_inside(w, model))
    label = w.flat(w.builder.cast(inside, INT64))
    return Classes(label, None, w.flat(w.op("Sub", scores, float(model.offset_))))


def _depths(w: Writer, model: Any, table: Table) -> str:
    """(rows, 1) double: the lengths of a row's paths, added in the order of the trees."""
    trees = tuple(
        _with_lengths(member.tree_, np.asarray(features))
        for member, features in zip(model.estimators_, model.estimators_features_, strict=True)
    )
    ensemble = Ensemble(trees=trees, features=int(model.n_features_in_), targets=1, base=np.zeros(1))
    # scikit-learn's trees see what float32 leaves of a number, and compare it in double precision.
    return add_ensemble(w.builder, ensemble, w.double(w.builder.cast(w.dense(table), onnx.TensorProto.FLOAT)))


def _with_lengths(tree: Any, features: npt.NDArray[np.int64]) -> Tree:
    """A tree whose leaves hold the length of their path, over all columns of the model."""
    left, right = np.asarray(tree.children_left), np.asarray(tree.children_right)
    passed = np.ones(len(left))
    for node in np.flatnonzero(left >= 0):  # children come after their parent
        passed[left[node]] = passed[right[node]] = passed[node] + 1.0
    lengths = passed + average_path_length(np.asarray(tree.n_node_samples)) - 1.0
    plain = plain_tree(tree, lengths.reshape(-1, 1))
    return replace(plain, feature=features[plain.feature])


def average_path_length(rows: npt.NDArray[Any]) -> FloatArray:
    """Length of an unsuccessful search in a tree of so many rows, by the expression that scikit-learn rounds."""
    counts = np.asarray(rows, dtype=np.float64)
    with np.errstate(all="ignore"):
        many = 2.0 * (np.log(counts - 1.0) + np.euler_gamma) - 2.0 * (counts - 1.0) / counts
    return np.where(counts <= 1, 0.0, np.where(counts == _TWO, 1.0, many))


def _denominator(w: Writer, model: Any) -> float:
    found = len(model.estimators_) * float(average_path_length(np.asarray([model.max_samples_]))[0])
    if not found:
        raise w.unsupported("its trees were grown on one row each, and all scores are alike", model)
    return found


def _shallowest_inside(w: Writer, model: Any) -> float:
    """The least depth at which scikit-learn calls a row an inlier, to the last bit.

    `contamination` puts the threshold exactly on the score of a training row, where an exponential that rounds
    otherwise than numpy's would tip the answer; depths are sums of the same numbers in the same order.
    """
    denominator, offset = _denominator(w, model), float(model.offset_)

    def inside(depth: np.float64) -> bool:
        scores = 2 ** (-np.divide(np.asarray([depth]), denominator))
        return bool(-scores[0] - offset >= 0)

    low, high = np.float64(0.0), np.float64(denominator)
    while not inside(high) and np.isfinite(high):
        high *= 2.0
    if inside(low):
        return 0.0
    while np.nextafter(low, high) < high:
        middle = low + (high - low) / 2.0
        low, high = (low, middle) if inside(middle) else (middle, high)
    return float(high)
