"""Walks through a scikit-learn pipeline: what every step is given and what it makes of it."""

from collections import namedtuple

Visit = namedtuple("Visit", "path branches estimator given made")
"""`path`: names down to the step. `made`: None = the last step, whose values are the model's outputs."""


def visits(estimator, rows, path=(), branches=()):
    """Every step of an estimator asked for `rows`, in order; branches of column transformers before the whole."""
    estimator = unwrapped(estimator)
    if hasattr(estimator, "steps"):
        for name, step in estimator.steps[:-1]:
            rows = yield from _step(step, rows, path + (name,), branches)
        name, last = estimator.steps[-1]
        yield from visits(last, rows, path + (name,), branches)
        return
    if _is_passthrough(estimator):
        return
    yield from _branches(estimator, rows, path, branches)
    yield Visit(path, branches, estimator, rows, None)


def unwrapped(estimator):
    """The estimator that a search or a frozen wrapper answers with."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif type(estimator).__name__ == "FrozenEstimator":
            estimator = estimator.estimator
        else:
            return estimator


def _step(step, rows, path, branches):
    """Visits a step that transforms; returns what it makes of the rows."""
    step = unwrapped(step)
    if _is_passthrough(step):
        return rows
    if hasattr(step, "steps"):
        for name, inner in step.steps:
            rows = yield from _step(inner, rows, path + (name,), branches)
        return rows
    yield from _branches(step, rows, path, branches)
    made = step.transform(rows)
    yield Visit(path, branches, step, rows, made)
    return made


def _branches(step, rows, path, branches):
    """Visits what a column transformer or a union applies side by side."""
    if hasattr(step, "transformers_"):
        parts = [(name, inner, columns) for name, inner, columns in step.transformers_]
    elif hasattr(step, "transformer_list"):
        parts = [(name, inner, None) for name, inner in step.transformer_list]
    else:
        return
    for name, inner, columns in parts:
        if (isinstance(inner, str) and inner == "drop") or _is_empty(columns):
            continue
        given = rows if columns is None else _selected(rows, columns)
        yield from _step(inner, given, path + (name,), branches + ("/".join(path + (name,)),))


def _selected(rows, columns):
    from sklearn.utils import _safe_indexing

    if not isinstance(columns, (str, int, slice)):
        columns = list(columns)
    return _safe_indexing(rows, columns, axis=1)


def _is_empty(columns):
    return hasattr(columns, "__len__") and not isinstance(columns, str) and len(columns) == 0


def _is_passthrough(step):
    return step is None or (isinstance(step, str) and step == "passthrough")
