"""What XGBoost and LightGBM models have in common: their inputs, outputs and roles."""

import functools
from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError
from paritygate.agent.frameworks import pickles, reach, tabular
from paritygate.agent.frameworks.model import (
    FRAME,
    LABEL,
    MATRIX,
    PREDICTION,
    PROBABILITIES,
    SCORES,
    Demand,
    Model,
    dense,
    plain_classes,
)

CLASSIFICATION, REGRESSION, RANKING = "Classification", "Regression", "Ranking"
_OUTPUTS = {"predict": "label", "predict_proba": "probabilities", "decision_function": "scores"}


class BoostingModel(Model):
    """A Booster or a scikit-learn style estimator around one."""

    def __init__(self, native, request):
        super().__init__(native, request)
        self.estimator = hasattr(native, "get_params")
        self.frame = False
        self.names = None
        self.leaf_masks = None
        if self.estimator and getattr(native, "n_jobs", None) is not None:
            native.n_jobs = 1
        if not self.estimator:
            self.refuse_call("its objective's outputs, which are what is recorded without source.call")
        elif not callable(getattr(native, self.call or "predict", None)):
            self.refuse_call("predict and, where it classifies, predict_proba")

    def feature_names(self):
        """Names of the columns that the model was trained on; None = trained on an array."""
        raise NotImplementedError

    def width(self):
        """Number of columns."""
        raise NotImplementedError

    def predict(self, rows):
        """The Booster's own answers: (rows,) or (rows, classes)."""
        raise NotImplementedError

    def demand(self, table, free):
        names = self.feature_names()
        if names is not None and (
            not set(names) & set(table) and ("features" in table or self._one_tensor(table, free))
        ):
            names = None
        if names is not None and any(_is_text(table[name]) for name in names if name in table):
            self.frame, self.names = True, names
            return Demand(FRAME, names, (), len(names))
        self.names = names
        return Demand(MATRIX, ("features", names), (), self.width())

    def rows(self, inputs):
        """The model's inputs as its methods take them."""
        rows = tabular.frame(inputs, float("nan")) if self.frame else next(iter(inputs.values()))
        if not self.frame and self.names is not None and self.estimator:
            rows = tabular.frame(OrderedDict(zip(self.names, np.asarray(rows).T)), None)
        return rows

    def masks(self, rows):
        """Per tree, (nodes,) bool: which numbers of nodes are leaves. `rows`: some, as the model takes them."""
        raise NotImplementedError

    def visits(self, rows, trees):
        """Pairs of each of these trees and the (rows,) numbers of the leaves where `rows` end."""
        raise NotImplementedError

    def known_categories(self, inputs):
        """Name of an input of categories → those that the model was trained on, as far as it says so."""
        return OrderedDict((name, column.categories) for name, column in inputs.items() if isinstance(column, Category))

    def reach(self, inputs, seen):
        subject, rows = type(self.native).__name__, self.rows(inputs)
        if self.leaf_masks is None:
            self.leaf_masks = self.masks(rows)
        before = seen.get((subject, reach.LEAVES))
        visits = functools.partial(self.visits, rows)
        found = [reach.leaves(subject, self.leaf_masks, before, len(rows), visits)]
        known = self.known_categories(inputs) if self.frame else {}
        for name, values in known.items():
            found.append(reach.categories(name, list(values), inputs[name].values().tolist()))
        return found

    def answer(self, inputs):
        rows = self.rows(inputs)
        if self.call:
            return OrderedDict([(self._name(self.call), dense(getattr(self.native, self.call)(rows)))])
        if not self.estimator:
            return self._booster_answers(self.predict(rows))
        if self.task() != CLASSIFICATION:
            return OrderedDict(prediction=dense(self.native.predict(rows)))
        answers = OrderedDict(label=dense(self.native.predict(rows)))
        answers["probabilities"] = dense(self.native.predict_proba(rows))
        return answers

    def role(self, name):
        roles = {"label": LABEL, "probabilities": PROBABILITIES, "scores": SCORES}
        role = roles.get(name, PREDICTION)
        if role == PREDICTION:
            return role, None
        if self.estimator:
            classes = getattr(self.native, "classes_", None)
            return role, None if classes is None else plain_classes(classes)
        return role, tuple(range(self.classes()))

    def classes(self):
        """Number of classes of a Booster that classifies."""
        raise NotImplementedError

    def _booster_answers(self, found):
        """Outputs of a Booster as its estimator would give them: the label follows from the probabilities."""
        found = np.asarray(found)
        if self.task() != CLASSIFICATION:
            return OrderedDict(prediction=found)
        if found.ndim == 1:
            if self.classes() > 2:
                return OrderedDict(label=found.astype(np.int64))
            label = (found > found.dtype.type(0.5)).astype(np.int64)
            found = np.stack([found.dtype.type(1) - found, found], axis=1)
        else:
            label = np.argmax(found, axis=1).astype(np.int64)
        return OrderedDict([("label", label), ("probabilities", found)])

    def _name(self, method):
        return "prediction" if method == "predict" and self.task() != CLASSIFICATION else _OUTPUTS.get(method, method)

    def _one_tensor(self, table, free):
        return len(free) == 1 and not isinstance(table[free[0]], Category) and table[free[0]].ndim == 2


def read_estimator(path, booster, module):
    """A pickled estimator or Booster of `module`. AgentError: WrongFormat, or it cannot be read."""
    found = pickles.read(path)
    if not any(type(found).__mro__[place].__module__.startswith(module) for place in range(len(type(found).__mro__))):
        raise AgentError(
            "WrongFormat",
            "%s holds a %s.%s, not a model of %s; correct source.format"
            % (path, type(found).__module__, type(found).__name__, module),
        )
    return found


def _is_text(column):
    return isinstance(column, Category) or column.dtype == object
