"""LightGBM: text models and pickled estimators."""

import contextlib
import inspect
import os
import re
from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError, is_out_of_memory, one_line
from paritygate.agent.frameworks import boosting, pickles, reach, trees

_PICKLED = (".pkl", ".pickle", ".joblib")
_GAP = 4
"""Iterations so close are asked together with those between them: a call takes as long as a few of them."""
_RANKING = ("lambdarank", "rank_xendcg")


def load(path, loader=None):
    """A Booster, or the estimator that was pickled. AgentError: it cannot be read, or is none."""
    if os.path.isdir(path):
        path = pickles.only_file(path, (".txt", ".lgb", *_PICKLED))
    pickles.require_file(path)
    try:
        import lightgbm
    except ImportError as error:
        raise pickles.package_missing(error, "format LightGBM") from error
    if path.lower().endswith(_PICKLED):
        return boosting.read_estimator(path, lightgbm.Booster, "lightgbm")
    with open(path, "rb") as stream:
        text = stream.read()
    # LightGBM itself ends the process by a segmentation fault when it reads a truncated file.
    end = b"end of parameters" if b"version=v3" in text[:200] or b"version=v4" in text[:200] else b"end of trees"
    if not text.startswith(b"tree") or end not in text:
        what = (
            "is truncated: it has no line %r" % end.decode()
            if text.startswith(b"tree")
            else "is no LightGBM text model"
        )
        raise AgentError("ModelUnreadable", "%s %s; write it again with save_model" % (os.path.basename(path), what))
    try:
        return lightgbm.Booster(model_str=text.decode("utf-8"))
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = "%s cannot be read as a LightGBM model: %s; it may be damaged, or of a newer LightGBM"
        raise AgentError("ModelUnreadable", message % (os.path.basename(path), one_line(error))) from error


def adapt(native, request):
    """The Booster or estimator as a `Model`."""
    return LightGBMModel(native, request)


def _underscored(table):
    """LightGBM's name → the dataset's name of columns with spaces, which LightGBM stores as underscores."""
    found = {}
    for name in table:
        stored = name.replace(" ", "_")
        if stored not in table:
            found.setdefault(stored, []).append(name)
    return {stored: names[0] for stored, names in found.items() if len(names) == 1}


class LightGBMModel(boosting.BoostingModel):
    """A LightGBM model."""

    framework = "lightgbm"

    def __init__(self, native, request):
        super().__init__(native, request)
        import lightgbm

        self.version = lightgbm.__version__
        self.booster = native.booster_ if self.estimator else native
        model = self.booster.dump_model(num_iteration=1)
        self.objective = model.get("objective", "custom").split(" ")[0]
        self.num_class = int(model["num_class"])
        self.limit = None
        self.underscored = {}

    def feature_names(self):
        names = self.booster.feature_name()
        if all(name == "Column_%d" % place for place, name in enumerate(names)):
            return None
        return [self.underscored.get(name, name) for name in names]

    def demand(self, table, free):
        self.underscored = _underscored(table)
        return super().demand(table, free)

    def width(self):
        return int(self.booster.num_feature())

    def predict(self, rows):
        return self.native.predict(rows, **({"num_threads": self.limit} if self.limit else {}))

    def answer(self, inputs):
        if self.estimator and self.limit:
            self.native.n_jobs = self.limit
        return super().answer(inputs)

    def task(self):
        if self.objective in _RANKING:
            return boosting.RANKING
        if hasattr(self.native, "classes_") or self.objective in ("binary", "multiclass", "multiclassova"):
            return boosting.CLASSIFICATION
        return boosting.REGRESSION

    def classes(self):
        return max(2, self.num_class)

    def thresholds(self):
        return trees.thresholds_of_lightgbm(self.booster, None if self.frame else "features", self.names)

    def masks(self, rows):
        # Of the text: the JSON of nodes within nodes takes far longer.
        counts = re.findall(r"^num_leaves=(\d+)$", self.booster.model_to_string(), re.MULTILINE)
        return [np.ones(int(count), dtype=bool) for count in counts]

    def visits(self, rows, trees):
        each = self.booster.num_model_per_iteration()
        wanted = sorted({tree // each for tree in trees})
        if "start_iteration" not in inspect.signature(self.booster.predict).parameters:
            wanted = []
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > _GAP) + 1) if wanted else []
        if len(wanted) * 2 > len(self.leaf_masks) // each or not runs:
            return reach.columns_of(self.booster.predict(rows, pred_leaf=True), trees)
        found = {}
        for run in runs:
            start, count = int(run[0]), int(run[-1] - run[0]) + 1
            part = self.booster.predict(rows, pred_leaf=True, start_iteration=start, num_iteration=count)
            found.update(enumerate(np.asarray(part).reshape(len(part), -1).T, start * each))
        return [(tree, found[tree]) for tree in trees]

    def known_categories(self, inputs):
        names = [name for name, column in inputs.items() if isinstance(column, Category)]
        return OrderedDict(zip(names, getattr(self.booster, "pandas_categorical", None) or ()))

    @contextlib.contextmanager
    def threads(self, count):
        before = getattr(self.native, "n_jobs", None)
        self.limit = count
        try:
            yield True
        finally:
            self.limit = None
            if self.estimator:
                self.native.n_jobs = before
