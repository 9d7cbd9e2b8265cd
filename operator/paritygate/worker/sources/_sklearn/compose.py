"""Estimators made of estimators: column transformers, unions, calibration, one-against-rest, chains, targets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paritygate.worker.sources._sklearn.dispatch import classify_one, regress, transform, unwrapped
from paritygate.worker.sources._sklearn.kernels import votes_with_confidences
from paritygate.worker.sources._sklearn.links import (
    above,
    by_probability,
    complement,
    first_highest,
    interpolated,
    normalized_or_uniform,
)
from paritygate.worker.sources._sklearn.scale import passthrough
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

_BINARY = 2


@transformer("ColumnTransformer")
def column_transformer(w: Writer, model: Any, table: Table) -> Table:
    """Each transformer on its columns, side by side in order."""
    blocks: list[Any] = []
    indices = model._transformer_to_input_indices  # noqa: SLF001
    for name, step, _ in model.transformers_:
        positions = indices.get(name, [])
        if (isinstance(step, str) and step == "drop") or not len(positions):
            continue
        with w.step(name):
            blocks.extend(w.mark(transform(w, step, w.select(table, positions))).blocks)
    return Table(tuple(blocks))


@transformer("FeatureUnion")
def feature_union(w: Writer, model: Any, table: Table) -> Table:
    """All transformers on the same columns, side by side."""
    blocks: list[Any] = []
    weights = model.transformer_weights or {}
    for name, step in model.transformer_list:
        if isinstance(step, str) and step == "drop":
            continue
        with w.step(name):
            part = w.mark(transform(w, step, table))
            if name in weights:
                part = numbers(w.op("Mul", w.dense(part), float(weights[name])), part.width)
            blocks.extend(part.blocks)
    return Table(tuple(blocks))


@classifier("CalibratedClassifierCV")
def calibrated_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """Mean of the calibrated members' probabilities."""
    parts = []
    for position, member in enumerate(model.calibrated_classifiers_):
        with w.step(f"fold_{position}"):
            parts.append(_calibrated(w, member, table))
    return by_probability(w, weighted_mean(w, parts, np.ones(len(parts))))


@classifier("OneVsRestClassifier")
def one_vs_rest(w: Writer, model: Any, table: Table) -> Classes:
    """One binary classifier per class; the first of the highest confidence wins."""
    if model.multilabel_:
        raise w.unsupported("it predicts several labels per row", model)
    confidences, probabilities, has_scores = [], [], True
    for position, member in enumerate(model.estimators_):
        with w.step(f"class_{position}"):
            answer = classify_one(w, member, table)
            has_scores = has_scores and answer.scores is not None
            confidences.append(w.upright(_confidence(w, answer)))
            if answer.probabilities is not None:
                probabilities.append(w.columns(answer.probabilities, [1]))
    scores = w.beside(*confidences)
    known = w.beside(*probabilities) if len(probabilities) == len(confidences) else None
    if len(confidences) == 1:
        flat = w.flat(scores)
        pair = complement(w, w.flat(known)) if known is not None else None
        return Classes(above(w, flat, 0.0 if has_scores else 0.5), pair, flat if has_scores else None)
    shares = normalized_or_uniform(w, known, len(confidences)) if known is not None else None
    return Classes(first_highest(w, scores), shares, scores if has_scores else None)


@classifier("OneVsOneClassifier")
def one_vs_one(w: Writer, model: Any, table: Table) -> Classes:
    """One binary classifier per pair of classes; votes, with confidences to break ties."""
    labels, confidences = [], []
    for position, member in enumerate(model.estimators_):
        with w.step(f"pair_{position}"):
            inside = table if model.pairwise_indices_ is None else w.select(table, model.pairwise_indices_[position])
            answer = classify_one(w, member, inside)
            labels.append(w.upright(w.double(answer.label)))
            confidences.append(w.upright(_confidence(w, answer)))
    scores = votes_with_confidences(w, w.beside(*labels), w.beside(*confidences), len(model.classes_))
    if len(model.classes_) == _BINARY:
        flat = w.column(scores, 1)
        return Classes(above(w, flat, 0.0 if hasattr(model.estimators_[0], "decision_function") else 0.5), None, flat)
    return Classes(first_highest(w, scores), None, scores)


@classifier("FixedThresholdClassifier", "TunedThresholdClassifierCV")
def threshold_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """A binary classifier with a threshold of its own: the second class from the threshold on."""
    answer = classify_one(w, model.estimator_, table)
    tuned = type(model).__name__ == "TunedThresholdClassifierCV"
    threshold = model.best_threshold_ if tuned else model.threshold
    by_scores = model.response_method == "decision_function" or answer.probabilities is None
    if threshold == "auto":
        threshold = 0.0 if by_scores else 0.5
    confidence = answer.scores if by_scores else w.column(probabilities_of(w, answer, model), 1)
    if model.__dict__.get("pos_label") not in {None, model.classes_[1]} or confidence is None:
        raise w.unsupported("its positive class is not the second one", model)
    label = w.builder.cast(w.op("GreaterOrEqual", confidence, float(threshold)), INT64)
    return Classes(label, answer.probabilities, answer.scores)


@regressor("MultiOutputRegressor")
def multi_output_regressor(w: Writer, model: Any, table: Table) -> str:
    """One regressor per target."""
    return w.beside(*predictions_of(w, model.estimators_, table))


@regressor("RegressorChain")
def regressor_chain(w: Writer, model: Any, table: Table) -> str:
    """Each regressor sees the predictions of those before it."""
    made: list[str] = []
    for position, member in enumerate(model.estimators_):
        with w.step(f"link_{position}"):
            extended = Table((*table.blocks, *(block for tensor in made for block in numbers(tensor, 1).blocks)))
            made.append(regress(w, member, extended))
    return w.columns(w.beside(*made), np.argsort(model.order_))


@regressor("TransformedTargetRegressor")
def transformed_target(w: Writer, model: Any, table: Table) -> str:
    """The inverse of the target's transformation."""
    value = regress(w, model.regressor_, table)
    if model.inverse_func is not None or model.func is not None:
        inverses = {np.exp: ("Exp", 0.0), np.expm1: ("Exp", -1.0)}
        if model.inverse_func in inverses:
            operator, shift = inverses[model.inverse_func]
            value = w.op(operator, value)
            return w.op("Add", value, shift) if shift else value
        raise w.unsupported(f"inverse_func {model.inverse_func!r} is Python code", model)
    scaler = model.transformer_
    if passthrough(scaler):
        return value
    if type(scaler).__name__ == "StandardScaler":
        scaled = w.op("Mul", value, np.asarray(scaler.scale_).reshape(1, -1)) if scaler.with_std else value
        return w.op("Add", scaled, np.asarray(scaler.mean_).reshape(1, -1)) if scaler.with_mean else scaled
    if type(scaler).__name__ == "MinMaxScaler":
        shifted = w.op("Sub", value, np.asarray(scaler.min_).reshape(1, -1))
        return w.op("Div", shifted, np.asarray(scaler.scale_).reshape(1, -1))
    raise w.unsupported(f"the inverse of {type(scaler).__name__} is not known", model)


@regressor("IsotonicRegression")
def isotonic_regressor(w: Writer, model: Any, table: Table) -> str:
    """Piecewise linear through the thresholds."""
    if model.out_of_bounds != "clip":
        raise w.unsupported("out_of_bounds must be 'clip'", model)
    return w.upright(interpolated(w, w.flat(w.dense(table)), model.X_thresholds_, model.y_thresholds_))


@classifier("DummyClassifier")
def constant_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """The same answer for every row."""
    if model.strategy not in {"prior", "most_frequent", "constant"} or model.n_outputs_ != 1:
        raise w.unsupported(f"strategy {model.strategy} is random or has several targets", model)
    share = np.asarray(model.class_prior_, dtype=np.float64)
    winner = int(np.argmax(share))
    if model.strategy == "constant":
        winner = int(np.flatnonzero(np.asarray(model.classes_) == np.ravel(model.constant)[0])[0])
    if model.strategy != "prior":
        share = np.eye(len(share))[winner]
    zero = w.op("Mul", _any_number(w, table), 0.0)
    zero = w.op("Where", w.op("IsNaN", zero), 0.0, zero)
    return Classes(
        w.op("Add", w.builder.cast(w.flat(zero), INT64), np.array(winner)), w.op("Add", zero, share.reshape(1, -1))
    )


@regressor("DummyRegressor")
def constant_regressor(w: Writer, model: Any, table: Table) -> str:
    """The same prediction for every row."""
    zero = w.op("Mul", _any_number(w, table), 0.0)
    return w.op("Add", w.op("Where", w.op("IsNaN", zero), 0.0, zero), np.asarray(model.constant_).reshape(1, -1))


def weighted_mean(w: Writer, parts: Sequence[str], weights: Any) -> str:
    """Σ weight·part / Σ weight, added in order."""
    total = None
    for part, weight in zip(parts, weights, strict=True):
        scaled = part if weight == 1.0 else w.op("Mul", part, float(weight))
        total = scaled if total is None else w.op("Add", total, scaled)
    if total is None:
        raise w.unsupported("it has no members")
    return w.op("Div", total, float(np.sum(weights)))


def _any_number(w: Writer, table: Table) -> str:
    first = w.select(table, [0]).blocks[0]
    if first.datatype.value == "BYTES":
        lengths = w.op(
            "LabelEncoder", first.tensor, domain="ai.onnx.ml", keys_strings=[""], values_int64s=[0], default_int64=0
        )
        return w.double(lengths)
    return w.double(first.tensor)


def predictions_of(w: Writer, estimators: Sequence[Any], table: Table) -> list[str]:
    """What each regressor predicts, (rows,) double."""
    parts = []
    for position, member in enumerate(estimators):
        with w.step(f"member_{position}"):
            parts.append(regress(w, member, table))
    return parts


def probabilities_of(w: Writer, answer: Classes, model: Any) -> str:
    """The probabilities of an answer that must have them. ConfigurationError: the model does not tell them."""
    if answer.probabilities is None:
        raise w.unsupported("its probabilities are needed and are not known", unwrapped(model))
    return answer.probabilities


def _confidence(w: Writer, answer: Classes) -> str:
    return answer.scores if answer.scores is not None else w.column(probabilities_of(w, answer, None), 1)


def _calibrated(w: Writer, member: Any, table: Table) -> str:
    answer = classify_one(w, member.estimator, table)
    count = len(member.classes)
    if getattr(member, "method", "sigmoid") not in {"sigmoid", "isotonic"}:
        raise w.unsupported(f"calibration by {member.method} is not known", member)
    own = np.searchsorted(member.classes, unwrapped(member.estimator).classes_)
    if answer.scores is not None:
        confidences = w.upright(answer.scores) if count == _BINARY else answer.scores
    else:
        confidences = probabilities_of(w, answer, member.estimator)
        confidences = w.columns(confidences, [1]) if count == _BINARY else confidences
    parts: dict[int, str] = {}
    for position, (owner, calibrator) in enumerate(zip(own, member.calibrators, strict=False)):
        parts[int(owner)] = _calibrate(w, calibrator, w.column(confidences, position))
    if count == _BINARY:
        return complement(w, parts[0])
    if len(parts) != count:
        raise w.unsupported("a fold has not seen every class", member)
    return normalized_or_uniform(w, w.beside(*(w.upright(parts[index]) for index in range(count))), count)


def _calibrate(w: Writer, calibrator: Any, confidence: str) -> str:
    if hasattr(calibrator, "X_thresholds_"):
        return interpolated(w, confidence, calibrator.X_thresholds_, calibrator.y_thresholds_)
    line = w.op("Add", w.op("Mul", confidence, float(calibrator.a_)), float(calibrator.b_))
    return w.logistic(w.op("Neg", line))
