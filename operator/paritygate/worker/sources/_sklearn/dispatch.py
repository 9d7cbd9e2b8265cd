"""Finds the translation of an estimator: a wrapper's inside, trees, the tables of translations, skl2onnx, or none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from paritygate.errors import ConfigurationError
from paritygate.worker.sources._sklearn import boosters, fallback
from paritygate.worker.sources._sklearn.scale import passthrough
from paritygate.worker.sources._sklearn.writer import (
    CLASSIFIERS,
    REGRESSORS,
    TRANSFORMERS,
    Classes,
    Table,
    Writer,
    is_ours,
)
from paritygate.worker.targets import sklearn_trees

_SEARCHES = {"GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV"}


def unwrapped(estimator: Any) -> Any:
    """The estimator that a search or a frozen wrapper answers with."""
    while is_ours(estimator):
        name = type(estimator).__name__
        if name in _SEARCHES and hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif name == "FrozenEstimator":
            estimator = estimator.estimator
        else:
            break
    return estimator


def transform(w: Writer, estimator: Any, table: Table) -> Table:
    """What `estimator.transform` makes of `table`. ConfigurationError: it cannot be converted."""
    estimator = unwrapped(estimator)
    if passthrough(estimator):
        return table
    if _name(estimator) == "Pipeline":
        for name, step in estimator.steps:
            with w.step(name):
                table = w.mark(transform(w, step, table))
        return table
    translation = TRANSFORMERS.get(_name(estimator))
    if translation is not None:
        return translation(w, estimator, table)
    _refuse_foreign(w, estimator)
    return fallback.transform(w, estimator, table)


def classify(w: Writer, estimator: Any, table: Table) -> tuple[Classes, ...]:
    """What a classifier makes of `table`, one answer per target. ConfigurationError: it cannot be converted."""
    estimator = unwrapped(estimator)
    if _name(estimator) == "Pipeline":
        table, last, name = _through(w, estimator, table)
        with w.step(name):
            return classify(w, last, table)
    if sklearn_trees.is_tree_model(estimator):
        with _naming(w):
            answers = sklearn_trees.add_classifier(w.builder, estimator, _tree_features(w, estimator, table))
        return tuple(Classes(answer.label, answer.probabilities, answer.scores) for answer in answers)
    if boosters.is_booster(estimator):
        with _naming(w):
            return (boosters.classify(w, estimator, table),)
    if _name(estimator) == "MultiOutputClassifier":
        answers_of_each = []
        for position, member in enumerate(estimator.estimators_):
            with w.step(f"target_{position}"):
                answers_of_each += list(classify(w, member, table))
        return tuple(answers_of_each)
    translation = CLASSIFIERS.get(_name(estimator))
    if translation is not None:
        return (translation(w, estimator, table),)
    _refuse_foreign(w, estimator)
    return fallback.classify(w, estimator, table)


def classify_one(w: Writer, estimator: Any, table: Table) -> Classes:
    """What a classifier of one target makes of `table`."""
    answers = classify(w, estimator, table)
    if len(answers) != 1:
        raise w.unsupported("it predicts several targets inside another estimator", estimator)
    return answers[0]


def regress(w: Writer, estimator: Any, table: Table) -> str:
    """What `predict` of a regressor or clusterer makes of `table`, (rows, targets). ConfigurationError as above."""
    estimator = unwrapped(estimator)
    if _name(estimator) == "Pipeline":
        table, last, name = _through(w, estimator, table)
        with w.step(name):
            return regress(w, last, table)
    if sklearn_trees.is_tree_model(estimator):
        with _naming(w):
            return sklearn_trees.add_regressor(w.builder, estimator, _tree_features(w, estimator, table))
    if boosters.is_booster(estimator):
        with _naming(w):
            return boosters.regress(w, estimator, table)
    translation = REGRESSORS.get(_name(estimator))
    if translation is not None:
        return translation(w, estimator, table)
    _refuse_foreign(w, estimator)
    return fallback.regress(w, estimator, table)


def _name(estimator: Any) -> str:
    return type(estimator).__name__ if is_ours(estimator) else ""


def _through(w: Writer, pipeline: Any, table: Table) -> tuple[Table, Any, str]:
    for name, step in pipeline.steps[:-1]:
        with w.step(name):
            table = w.mark(transform(w, step, table))
    name, last = pipeline.steps[-1]
    return table, last, name


def _tree_features(w: Writer, estimator: Any, table: Table) -> Any:
    """Histogram boosting takes data frames as they are; other trees take numbers."""
    categorical = getattr(estimator, "is_categorical_", None)
    if categorical is None or len(table.blocks) != table.width:
        return w.dense(table)
    return [sklearn_trees.Column(block.tensor, block.datatype) for block in table.blocks]


def _refuse_foreign(w: Writer, estimator: Any) -> None:
    if not is_ours(estimator):
        kind = type(estimator)
        package = kind.__module__.partition(".")[0]
        why = (
            "it is code of your own, which no converter knows"
            if package == "__main__"
            else f"no converter knows what package {package} computes"
        )
        raise w.unsupported(why, estimator)


@contextmanager
def _naming(w: Writer) -> Iterator[None]:
    """Adds the pipeline's step to errors from below."""
    try:
        yield
    except ConfigurationError as error:
        if w.where in error.message:
            raise
        raise ConfigurationError(error.reason, f"source.uri: {w.where}: {error.message}") from error
