"""Ensembles of several estimators: votes, stacks, bags and AdaBoost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paritygate.worker.sources._sklearn.compose import predictions_of, probabilities_of, weighted_mean
from paritygate.worker.sources._sklearn.dispatch import classify_one, regress
from paritygate.worker.sources._sklearn.links import (
    above,
    by_probability,
    first_highest,
    softmax,
)
from paritygate.worker.sources._sklearn.writer import (
    INT64,
    Classes,
    Table,
    Writer,
    classifier,
    numbers,
    regressor,
)

_BINARY = 2


@classifier("VotingClassifier")
def voting_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """Weighted mean of probabilities, or weighted votes with the first class winning ties."""
    count, weights = len(model.classes_), np.asarray(_weights(model), dtype=np.float64)
    answers = _members(w, model.estimators_, table)
    if model.voting == "soft":
        parts = [probabilities_of(w, answer, member) for answer, member in zip(answers, model.estimators_, strict=True)]
        return by_probability(w, weighted_mean(w, parts, weights))
    votes = [one_hot(w, _position_in(w, answer, member, np.arange(count)), count)
             for answer, member in zip(answers, model.estimators_, strict=True)]  # fmt: skip
    return Classes(first_highest(w, weighted_mean(w, votes, weights)))


@regressor("VotingRegressor")
def voting_regressor(w: Writer, model: Any, table: Table) -> str:
    """Weighted mean of predictions."""
    return weighted_mean(w, predictions_of(w, model.estimators_, table), np.asarray(_weights(model), dtype=np.float64))


@classifier("StackingClassifier")
def stacking_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """The final classifier on what the others answer."""
    blocks: list[Any] = []
    count = len(np.atleast_1d(model.classes_))
    for position, (member, method) in enumerate(zip(model.estimators_, model.stack_method_, strict=True)):
        with w.step(_member_name(model, position)):
            answer = classify_one(w, member, table)
            if method == "predict_proba":
                tensor = probabilities_of(w, answer, member)
                blocks += [w.select(numbers(tensor, count), [1]) if count == _BINARY else numbers(tensor, count)]
            elif method == "decision_function" and answer.scores is not None:
                blocks += [numbers(w.upright(answer.scores), 1) if count == _BINARY else numbers(answer.scores, count)]
            else:
                blocks += [
                    numbers(
                        w.upright(w.op("Gather", np.asarray(member.classes_, dtype=np.float64), answer.label, axis=0)),
                        1,
                    )
                ]
    return classify_one(w, model.final_estimator_, _stacked(model, blocks, table))


@regressor("StackingRegressor")
def stacking_regressor(w: Writer, model: Any, table: Table) -> str:
    """The final regressor on what the others predict."""
    blocks = [numbers(tensor, 1) for tensor in predictions_of(w, model.estimators_, table)]
    return regress(w, model.final_estimator_, _stacked(model, blocks, table))


@classifier("BaggingClassifier")
def bagging_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """Mean probabilities, or shares of votes of members without any."""
    parts, count = [], len(model.classes_)
    for position, (member, columns) in enumerate(zip(model.estimators_, model.estimators_features_, strict=True)):
        with w.step(f"member_{position}"):
            answer = classify_one(w, member, w.select(table, columns))
            if answer.probabilities is None:
                parts.append(one_hot(w, _position_in(w, answer, member, np.arange(count)), count))
                continue
            spread = np.zeros((len(member.classes_), count))
            spread[np.arange(len(member.classes_)), np.asarray(member.classes_, dtype=int)] = 1.0
            full = np.array_equal(spread, np.eye(count))
            parts.append(answer.probabilities if full else w.op("MatMul", answer.probabilities, spread))
    return by_probability(w, weighted_mean(w, parts, np.ones(len(parts))))


@regressor("BaggingRegressor")
def bagging_regressor(w: Writer, model: Any, table: Table) -> str:
    """Mean prediction."""
    parts = []
    for position, (member, columns) in enumerate(zip(model.estimators_, model.estimators_features_, strict=True)):
        with w.step(f"member_{position}"):
            parts.append(regress(w, member, w.select(table, columns)))
    return weighted_mean(w, parts, np.ones(len(parts)))


@classifier("AdaBoostClassifier")
def ada_boost_classifier(w: Writer, model: Any, table: Table) -> Classes:
    """The sum of what the members say for each class, divided by their weights."""
    count, total = len(model.classes_), None
    for position, member in enumerate(model.estimators_):
        with w.step(f"member_{position}"):
            answer = classify_one(w, member, table)
            part = _boosted_vote(w, model, position, answer)
            total = part if total is None else w.op("Add", total, part)
    if total is None:
        raise w.unsupported("it has no members", model)
    scores = w.op("Div", total, float(np.sum(model.estimator_weights_)))
    if count == _BINARY:
        flat = w.op("Sub", w.column(scores, 1), w.column(scores, 0))
        pair = w.op("Mul", w.beside(w.op("Neg", w.upright(flat)), w.upright(flat)), 0.5)
        return Classes(above(w, flat, 0.0), softmax(w, pair), flat)
    return Classes(first_highest(w, scores), softmax(w, w.op("Div", scores, float(count - 1))), scores)


def _boosted_vote(w: Writer, model: Any, position: int, answer: Classes) -> str:
    """What one member of AdaBoost adds to each class, (rows, classes).

    SAMME.R, gone since 1.6, adds centred log probabilities. SAMME adds the member's weight to its class and, since
    1.3, takes a share of it from the others.
    """
    member, count = model.estimators_[position], len(model.classes_)
    if model.__dict__.get("algorithm") == "SAMME.R":
        logarithm = w.op("Log", w.op("Max", probabilities_of(w, answer, member), float(np.finfo(np.float64).eps)))
        mean = w.op("Mul", w.total("ReduceSum", logarithm), 1.0 / count)
        return w.op("Mul", w.op("Sub", logarithm, mean), float(count - 1))
    weight = float(model.estimator_weights_[position])
    positions = np.searchsorted(model.classes_, member.classes_)
    others = 0.0 if w.written_before(1, 3) else -weight / (count - 1)
    rows = np.full((len(positions), count), others)
    rows[np.arange(len(positions)), positions] = weight
    return w.op("Gather", rows, answer.label, axis=0)


@regressor("AdaBoostRegressor")
def ada_boost_regressor(w: Writer, model: Any, table: Table) -> str:
    """The weighted median of the members' predictions."""
    predictions = w.beside(*predictions_of(w, model.estimators_, table))
    count = len(model.estimators_)
    ordered, order = w.builder.add_many(
        "TopK", predictions, w.operand(np.array([count])), outputs=2, largest=0, sorted=1, axis=1
    )
    weights = np.asarray(model.estimator_weights_[:count], dtype=np.float64)
    cumulated = w.op("CumSum", w.op("Gather", weights, order, axis=0), np.array(1))
    half = w.op("Mul", w.columns(cumulated, [count - 1]), 0.5)
    reached = w.builder.cast(w.op("GreaterOrEqual", cumulated, half), INT64)
    return w.op("GatherElements", ordered, w.op("ArgMax", reached, axis=1, keepdims=1), axis=1)


def one_hot(w: Writer, positions: str, count: int) -> str:
    """(rows,) int64 → (rows, count) double."""
    return w.op("Gather", np.eye(count), positions, axis=0)


def _weights(model: Any) -> Any:
    """Weights of the members that were not dropped."""
    if model.weights is None:
        return np.ones(len(model.estimators_))
    return [
        weight
        for (_, member), weight in zip(model.estimators, model.weights, strict=True)
        if not isinstance(member, str)
    ]


def _members(w: Writer, estimators: Sequence[Any], table: Table) -> list[Classes]:
    answers = []
    for position, member in enumerate(estimators):
        with w.step(f"member_{position}"):
            answers.append(classify_one(w, member, table))
    return answers


def _member_name(model: Any, position: int) -> str:
    kept = [name for name, member in model.estimators if not isinstance(member, str)]
    return kept[position] if position < len(kept) else f"member_{position}"


def _position_in(w: Writer, answer: Classes, member: Any, classes: Any) -> str:
    """A member's labels are positions among the outer classes, of which it may have seen only some."""
    own = np.asarray(member.classes_).astype(np.int64)
    return answer.label if np.array_equal(own, classes) else w.op("Gather", own, answer.label, axis=0)


def _stacked(model: Any, tables: Sequence[Table], table: Table) -> Table:
    blocks = [block for part in tables for block in part.blocks]
    return Table((*blocks, *(table.blocks if model.passthrough else ())))
