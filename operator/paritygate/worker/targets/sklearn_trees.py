"""Trees of scikit-learn, and ensembles of them, as exact ONNX.

Covers decision and extra trees, random and extremely random forests, gradient boosting and histogram gradient boosting,
classifiers and regressors. `is_tree_model` says whether an estimator is one; `add_classifier` and `add_regressor` add
it to a graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import onnx
from onnx import helper, numpy_helper

from paritygate.api.spec import Datatype
from paritygate.errors import ConfigurationError
from paritygate.worker.targets.onnx_graph import ML, GraphBuilder
from paritygate.worker.targets.onnx_trees import (
    ML_OPSET,
    NO_SET,
    Ensemble,
    FloatArray,
    Tree,
    add_ensemble,
    add_logistic,
)

_FORESTS: Final = {
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
}
_SINGLE_TREES: Final = {
    "DecisionTreeClassifier",
    "DecisionTreeRegressor",
    "ExtraTreeClassifier",
    "ExtraTreeRegressor",
}
_GRADIENT_BOOSTING: Final = {"GradientBoostingClassifier", "GradientBoostingRegressor"}
_HISTOGRAM: Final = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor"}


@dataclass(frozen=True)
class Column:
    """One column of a model that takes a data frame."""

    tensor: str
    """(rows, 1)."""
    datatype: Datatype


@dataclass(frozen=True)
class ClassifierOutput:
    """What a classifier answers for one target."""

    label: str
    """(rows,) int64: index into the estimator's classes."""
    probabilities: str
    """(rows, classes) double."""
    scores: str | None
    """decision_function: (rows,) double for two classes, (rows, classes) for more; None = the estimator has none."""


def is_tree_model(estimator: Any) -> bool:
    """Whether `estimator` is one of scikit-learn's own tree models that this module converts."""
    kind = type(estimator)
    return kind.__module__.startswith("sklearn.") and kind.__name__ in (
        _FORESTS | _SINGLE_TREES | _GRADIENT_BOOSTING | _HISTOGRAM
    )


def add_classifier(
    builder: GraphBuilder, estimator: Any, features: str | Sequence[Column]
) -> tuple[ClassifierOutput, ...]:
    """Adds a fitted tree classifier; one answer per target of the model.

    `features`: one (rows, features) numeric tensor, or the columns of a data frame in the order of `feature_names_in_`.
    ConfigurationError: the estimator cannot be converted, and why.
    """
    name = type(estimator).__name__
    if name in _FORESTS | _SINGLE_TREES:
        return _vote(builder, estimator, _single_precision(builder, features))
    if name in _HISTOGRAM:
        raw = add_ensemble(builder, histogram_ensemble(estimator), histogram_features(builder, estimator, features))
        return (_boosted_classes(builder, estimator, raw, tie_is_positive=False),)
    raw = add_ensemble(builder, boosting_ensemble(estimator), _single_precision(builder, features))
    return (_boosted_classes(builder, estimator, raw, tie_is_positive=True),)


def add_regressor(builder: GraphBuilder, estimator: Any, features: str | Sequence[Column]) -> str:
    """Adds a fitted tree regressor; returns (rows, targets) double. Arguments and errors as in `add_classifier`."""
    name = type(estimator).__name__
    if name in _FORESTS | _SINGLE_TREES:
        return add_ensemble(builder, forest_ensemble(estimator), _single_precision(builder, features))
    if name in _HISTOGRAM:
        raw = add_ensemble(builder, histogram_ensemble(estimator), histogram_features(builder, estimator, features))
        link = type(estimator._loss.link).__name__
        if link not in {"IdentityLink", "LogLink"}:
            raise _refused(estimator, f"its loss has the link function {link}")
        return builder.add("Exp", raw) if link == "LogLink" else raw
    return add_ensemble(builder, boosting_ensemble(estimator), _single_precision(builder, features))


def forest_ensemble(estimator: Any) -> Ensemble:
    """A tree or forest whose targets are all outputs' values, for classifiers each output's class shares in turn."""
    members = getattr(estimator, "estimators_", None)
    trees = [member.tree_ for member in (members if members is not None else [estimator])]
    if hasattr(estimator, "classes_"):
        counts = [int(count) for count in np.atleast_1d(estimator.n_classes_)]
        values = [
            np.concatenate([tree.value[:, output, :count] for output, count in enumerate(counts)], axis=1)
            for tree in trees
        ]
    else:
        values = [tree.value[:, :, 0] for tree in trees]
    return Ensemble(
        trees=tuple(plain_tree(tree, value) for tree, value in zip(trees, values, strict=True)),
        features=int(estimator.n_features_in_),
        targets=values[0].shape[1],
        base=np.zeros(values[0].shape[1]),
        divisor=1.0 if members is None else float(len(trees)),
    )


def boosting_ensemble(estimator: Any) -> Ensemble:
    """GradientBoosting: the learning rate is in the leaves, the initial prediction in the base."""
    init = estimator.init_
    if not (isinstance(init, str) and init == "zero") and not type(init).__module__.startswith("sklearn.dummy"):
        raise _refused(
            estimator, f"it starts from another model, {type(init).__name__}; fit it with init='zero' or without init"
        )
    base = np.asarray(estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), dtype=np.float32)))[0]
    trees = tuple(
        plain_tree(member.tree_, estimator.learning_rate * member.tree_.value[:, 0, :1], target)
        for stage in estimator.estimators_
        for target, member in enumerate(stage)
    )
    return Ensemble(trees=trees, features=int(estimator.n_features_in_), targets=len(base), base=base)


def histogram_ensemble(estimator: Any) -> Ensemble:
    """HistGradientBoosting, over the columns as its own preprocessing orders them."""
    sets: dict[tuple[int, frozenset[int]], int] = {}
    trees = tuple(
        _histogram_tree(predictor, target, sets)
        for iteration in estimator._predictors
        for target, predictor in enumerate(iteration)
    )
    base = np.asarray(estimator._baseline_prediction).ravel()
    return Ensemble(
        trees=trees,
        features=int(estimator.n_features_in_),
        targets=len(base),
        base=base.astype(np.float64),
        dtype=np.float32 if base.dtype == np.float32 else np.float64,
        category_sets=tuple(sets),
    )


def histogram_features(builder: GraphBuilder, estimator: Any, features: str | Sequence[Column]) -> str:
    """The columns of HistGradientBoosting as its own preprocessing makes them, (rows, features) double.

    Categories become their position among those seen in fitting, and come first; unseen ones become NaN.
    """
    preprocessor: Any = getattr(estimator, "_preprocessor", None)
    is_categorical = estimator.is_categorical_ if preprocessor is not None else None
    if isinstance(features, str):
        matrix = builder.cast(features, onnx.TensorProto.DOUBLE)
        if is_categorical is None:
            return matrix
        columns = [
            Column(builder.add("Gather", matrix, builder.constant([index], np.int64), axis=1), Datatype.FP64)
            for index in range(len(is_categorical))
        ]
    else:
        columns = list(features)
    categorical = [] if is_categorical is None else list(np.flatnonzero(is_categorical))
    categories = preprocessor.named_transformers_["encoder"].categories_ if categorical else []
    parts = [
        _ordinal(builder, estimator, columns[index], known)
        for index, known in zip(categorical, categories, strict=True)
    ]
    parts += [
        builder.cast(column.tensor, onnx.TensorProto.DOUBLE)
        for index, column in enumerate(columns)
        if index not in categorical
    ]
    return builder.add("Concat", *parts, axis=1)


def _ordinal(builder: GraphBuilder, estimator: Any, column: Column, categories: Any) -> str:
    known = [(code, value) for code, value in enumerate(categories) if value is not None and value == value]  # noqa: PLR0124
    codes = numpy_helper.from_array(np.asarray([float(code) for code, _ in known]))
    unseen = numpy_helper.from_array(np.asarray([np.nan]))
    values = [value for _, value in known]
    textual = any(isinstance(value, str) for value in values)
    if not known:
        return builder.add("Mul", builder.cast(column.tensor, onnx.TensorProto.DOUBLE), builder.constant(np.nan))
    if column.datatype is Datatype.BYTES:
        tensor = column.tensor
        texts = [str(value).encode() for value in values]
        keys = helper.make_tensor("keys", onnx.TensorProto.STRING, [len(texts)], texts)
    elif textual:
        raise _refused(
            estimator,
            f"the categories {values[0]!r}, … are text and the input is {column.datatype}; state it as BYTES",
        )
    else:
        tensor = builder.cast(column.tensor, onnx.TensorProto.DOUBLE)
        keys = numpy_helper.from_array(np.asarray(values, dtype=np.float64))
    builder.require(ML, ML_OPSET)
    return builder.add("LabelEncoder", tensor, domain=ML, keys_tensor=keys, values_tensor=codes, default_tensor=unseen)


def plain_tree(tree: Any, value: FloatArray, target: int = 0) -> Tree:
    """A `Tree_` of scikit-learn with other values, (nodes, width), in its leaves."""
    left = np.asarray(tree.children_left, dtype=np.int64)
    missing = getattr(tree, "missing_go_to_left", None)
    return Tree(
        feature=np.maximum(np.asarray(tree.feature, dtype=np.int64), 0),
        threshold=np.asarray(tree.threshold, dtype=np.float64),
        left=left,
        right=np.asarray(tree.children_right, dtype=np.int64),
        missing_left=np.zeros(len(left), dtype=bool) if missing is None else np.asarray(missing, dtype=bool),
        value=np.asarray(value, dtype=np.float64),
        category_set=np.full(len(left), NO_SET, dtype=np.int64),
        target=target,
    )


def _histogram_tree(predictor: Any, target: int, sets: dict[tuple[int, frozenset[int]], int]) -> Tree:
    nodes = predictor.nodes
    leaf = nodes["is_leaf"].astype(bool)
    category_set = np.full(len(nodes), NO_SET, dtype=np.int64)
    for index in np.flatnonzero(nodes["is_categorical"].astype(bool) & ~leaf):
        words = predictor.raw_left_cat_bitsets[nodes["bitset_idx"][index]]
        bits = np.unpackbits(np.ascontiguousarray(words, dtype="<u4").view(np.uint8), bitorder="little")
        key = (int(nodes["feature_idx"][index]), frozenset(np.flatnonzero(bits).tolist()))
        category_set[index] = sets.setdefault(key, len(sets))
    return Tree(
        feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
        threshold=nodes["num_threshold"].astype(np.float64),
        left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        missing_left=nodes["missing_go_to_left"].astype(bool),
        value=nodes["value"].astype(np.float64).reshape(-1, 1),
        category_set=category_set,
        target=target,
    )


def _single_precision(builder: GraphBuilder, features: str | Sequence[Column]) -> str:
    """The features as scikit-learn's trees see them: rounded to float32, though compared as doubles."""
    if not isinstance(features, str):
        parts = [builder.cast(column.tensor, onnx.TensorProto.FLOAT) for column in features]
        features = builder.add("Concat", *parts, axis=1)
    rounded = builder.cast(features, onnx.TensorProto.FLOAT)
    return builder.cast(rounded, onnx.TensorProto.DOUBLE)


def _vote(builder: GraphBuilder, estimator: Any, features: str) -> tuple[ClassifierOutput, ...]:
    shares = add_ensemble(builder, forest_ensemble(estimator), features)
    counts = [int(count) for count in np.atleast_1d(estimator.n_classes_)]
    outputs, start = [], 0
    for count in counts:
        columns = builder.constant(np.arange(start, start + count), np.int64)
        own = builder.add("Gather", shares, columns, axis=1) if len(counts) > 1 else shares
        label = builder.add("ArgMax", own, axis=1, keepdims=0)
        outputs.append(ClassifierOutput(label, own, None))
        start += count
    return tuple(outputs)


def _boosted_classes(builder: GraphBuilder, estimator: Any, raw: str, *, tie_is_positive: bool) -> ClassifierOutput:
    link = type(estimator._loss.link).__name__
    if link == "MultinomialLogit":
        label = builder.add("ArgMax", raw, axis=1, keepdims=0)
        return ClassifierOutput(label, builder.add("Softmax", raw, axis=1), raw)
    if link not in {"LogitLink", "HalfLogitLink"}:
        raise _refused(estimator, f"its loss has the link function {link}")
    scores = builder.add("Squeeze", raw, builder.constant([1], np.int64))
    positive = builder.add(
        "GreaterOrEqual" if tie_is_positive else "Greater", scores, builder.constant(0.0, np.float64)
    )
    scaled = builder.add("Mul", raw, builder.constant(2.0, np.float64)) if link == "HalfLogitLink" else raw
    probability = add_logistic(builder, scaled, np.float64)
    other = builder.add("Sub", builder.constant(1.0, np.float64), probability)
    probabilities = builder.add("Concat", other, probability, axis=1)
    return ClassifierOutput(builder.cast(positive, onnx.TensorProto.INT64), probabilities, scores)


def _refused(estimator: Any, reason: str) -> ConfigurationError:
    return ConfigurationError(
        "ConversionUnsupported", f"{type(estimator).__name__} cannot be converted exactly: {reason}"
    )
