"""Which leaves of trees, and which known categories, some rows reach."""

import copy
import inspect
import math
from collections import OrderedDict, namedtuple

import numpy as np

Reached = namedtuple("Reached", "subject kind names reached visits")
"""`reached`: (total,) bool. `names`: of categories, None for leaves. `visits`: rows times trees that it took."""

LEAVES, CATEGORIES = "leaves", "categories"


def leaves(subject, visited, masks):
    """Leaves reached. `visited`: (rows, trees) node numbers; `masks`: per tree, (nodes,) bool of its leaves."""
    starts = np.concatenate([[0], np.cumsum([len(mask) for mask in masks])]).astype(np.int64)
    seen = np.zeros(starts[-1], dtype=bool)
    seen[(np.asarray(visited).reshape(len(visited), -1).astype(np.int64) + starts[:-1]).reshape(-1)] = True
    return Reached(subject, LEAVES, None, seen[np.concatenate(masks)], len(visited) * len(masks))


def categories(subject, known, values):
    """Known categories among values; missing ones count as one."""
    places = OrderedDict((_key(value), place) for place, value in enumerate(known))
    seen = np.zeros(len(known), dtype=bool)
    for value in set(values):
        place = places.get(_key(value))
        if place is not None:
            seen[place] = True
    return Reached(subject, CATEGORIES, [_name(value) for value in known], seen, 0)


def of_encoder(path, encoder, given):
    """Categories reached of each column of a fitted encoder."""
    known = getattr(encoder, "categories_", None)
    if not isinstance(known, list):
        return []
    names = [str(name) for name in getattr(given, "columns", getattr(encoder, "feature_names_in_", ()))]
    cells = given.to_numpy(dtype=object) if hasattr(given, "to_numpy") else np.asarray(given, dtype=object)
    found = []
    for place, column in enumerate(known):
        name = names[place] if len(names) == len(known) else "%s[%d]" % (path, place)
        found.append(categories(name, list(column), cells.reshape(len(cells), -1)[:, place].tolist()))
    return found


def of_trees(path, estimator, given):
    """Leaves reached of a scikit-learn tree, forest or gradient boosting model; empty for others."""
    if hasattr(estimator, "_predictors"):
        return [_of_histograms(path, estimator, given)]
    if not hasattr(estimator, "apply"):
        return []
    if hasattr(estimator, "tree_"):
        parts = [estimator]
    else:
        parts = list(np.asarray(estimator.estimators_, dtype=object).reshape(-1))
    masks = [part.tree_.children_left == -1 for part in parts]
    return [leaves(path, np.asarray(estimator.apply(given)), masks)]


def has_trees(estimator):
    """Whether `of_trees` finds any."""
    trees = hasattr(estimator, "tree_") or hasattr(estimator, "estimators_")
    return hasattr(estimator, "_predictors") or (hasattr(estimator, "apply") and trees)


def _of_histograms(path, estimator, given):
    predictors = [one for several in estimator._predictors for one in several]  # noqa: SLF001
    # Private, because scikit-learn has no way to ask for the leaves of this model.
    prepare = getattr(estimator, "_preprocess_X", None)
    cells = given if prepare is None else prepare(given, reset=False)
    cells = np.ascontiguousarray(cells, dtype=np.float64)
    bitsets, positions = estimator._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001
    visited = np.empty((len(cells), len(predictors)), dtype=np.int64)
    for place, predictor in enumerate(predictors):
        # Leaves answer with their own number in place of their value.
        numbered = copy.copy(predictor)
        numbered.nodes = predictor.nodes.copy()
        numbered.nodes["value"] = np.arange(len(predictor.nodes))
        threads = {"n_threads": 1} if "n_threads" in inspect.signature(numbered.predict).parameters else {}
        visited[:, place] = numbered.predict(cells, bitsets, positions, **threads)
    return leaves(path, visited, [one.nodes["is_leaf"].astype(bool) for one in predictors])


def _key(value):
    if (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float) and math.isnan(value))
    ):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _name(value):
    return "missing" if _key(value) is None else str(value)
