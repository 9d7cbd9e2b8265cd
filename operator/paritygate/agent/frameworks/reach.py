"""Which leaves of trees, and which known categories, some rows reach."""

import copy
import inspect
import itertools
import math
from collections import OrderedDict, namedtuple
from concurrent.futures import ThreadPoolExecutor

import numpy as np

Reached = namedtuple("Reached", "subject kind names reached visits")
"""`reached`: (total,) bool. `names`: of categories, None for leaves. `visits`: rows times trees that it took."""

LEAVES, CATEGORIES = "leaves", "categories"


def leaves(subject, masks, seen, rows, visits):
    """Leaves reached, of trees that have leaves left to reach: the others are not asked.

    `masks`: per tree, (nodes,) bool of its leaves; `seen`: (leaves,) bool reached before, None = none. `visits(trees)`
    gives the number of each of these trees with the (rows,) numbers of the nodes where the rows end.
    """
    counts = [np.count_nonzero(mask) for mask in masks]
    ends = np.cumsum(counts)
    starts = ends - counts
    reached = np.zeros(int(ends[-1]), dtype=bool)
    left = [tree for tree in range(len(masks)) if seen is None or not seen[starts[tree] : ends[tree]].all()]
    for tree, nodes in visits(left):
        ended = np.zeros(len(masks[tree]), dtype=bool)
        ended[nodes] = True
        reached[starts[tree] : ends[tree]] = ended[masks[tree]]
    return Reached(subject, LEAVES, None, reached, rows * len(left))


def columns_of(visited, trees):
    """Visits of `trees` where all were asked: `visited` (rows, trees) node numbers."""
    visited = np.asarray(visited).reshape(len(visited), -1).astype(np.int64)
    return [(tree, visited[:, tree]) for tree in trees]


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


class Forest(object):
    """A scikit-learn estimator, and which nodes of its trees are leaves, which is looked up once."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.masks = None


def of_trees(path, forest, given, seen, workers):
    """Leaves reached of a tree, forest or gradient boosting model as a `Forest`; empty for others.

    `seen`: leaves reached before, by path; `workers`: threads that look at trees side by side.
    """
    estimator = forest.estimator
    if hasattr(estimator, "_predictors"):
        return [_of_histograms(path, estimator, given, seen)]
    if not hasattr(estimator, "apply"):
        return []
    if hasattr(estimator, "tree_"):
        parts = [estimator]
    else:
        parts = list(np.asarray(estimator.estimators_, dtype=object).reshape(-1))
    if forest.masks is None:
        forest.masks = [part.tree_.children_left == -1 for part in parts]
    dense = isinstance(given, np.ndarray) and given.ndim == 2 and given.dtype.kind in "fiub"

    def visits(trees):
        if not dense:
            return columns_of(estimator.apply(given), trees)
        # What `apply` does with all its trees.
        cells = np.ascontiguousarray(given, dtype=np.float32)

        def some(share):
            return [(tree, parts[tree].tree_.apply(cells)) for tree in share]

        if workers == 1:
            return some(trees)
        with ThreadPoolExecutor(workers) as pool:
            return itertools.chain.from_iterable(pool.map(some, (trees[start::workers] for start in range(workers))))

    return [leaves(path, forest.masks, seen.get((path, LEAVES)), _rows(given), visits)]


def has_trees(estimator):
    """Whether `of_trees` finds any."""
    trees = hasattr(estimator, "tree_") or hasattr(estimator, "estimators_")
    return hasattr(estimator, "_predictors") or (hasattr(estimator, "apply") and trees)


def _rows(given):
    return given.shape[0] if hasattr(given, "shape") else len(given)


def _of_histograms(path, estimator, given, seen):
    predictors = [one for several in estimator._predictors for one in several]  # noqa: SLF001
    # Private, because scikit-learn has no way to ask for the leaves of this model.
    prepare = getattr(estimator, "_preprocess_X", None)
    cells = given if prepare is None else prepare(given, reset=False)
    cells = np.ascontiguousarray(cells, dtype=np.float64)
    bitsets, positions = estimator._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001

    def visits(trees):
        for tree in trees:
            # Leaves answer with their own number in place of their value.
            numbered = copy.copy(predictors[tree])
            numbered.nodes = numbered.nodes.copy()
            numbered.nodes["value"] = np.arange(len(numbered.nodes))
            threads = {"n_threads": 1} if "n_threads" in inspect.signature(numbered.predict).parameters else {}
            yield tree, np.asarray(numbered.predict(cells, bitsets, positions, **threads)).astype(np.int64)

    masks = [one.nodes["is_leaf"].astype(bool) for one in predictors]
    return leaves(path, masks, seen.get((path, LEAVES)), len(cells), visits)


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
