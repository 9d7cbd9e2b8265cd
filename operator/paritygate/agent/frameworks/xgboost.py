"""XGBoost: models in `.json` or `.ubj` files, and pickled estimators."""

import contextlib
import json
import os
from collections import OrderedDict

import numpy as np

from paritygate.agent.failures import AgentError, is_out_of_memory, one_line
from paritygate.agent.frameworks import boosting, pickles, reach, trees, ubjson

_NATIVE = (".json", ".ubj", ".model", ".deprecated", ".bin")


def load(path, loader=None):
    """A Booster, or the estimator that was pickled. AgentError: it cannot be read, or is none."""
    if os.path.isdir(path):
        path = pickles.only_file(path, (*_NATIVE, ".pkl", ".pickle", ".joblib"))
    pickles.require_file(path)
    try:
        import xgboost
    except ImportError as error:
        raise pickles.package_missing(error, "format XGBoost") from error
    if not path.lower().endswith(_NATIVE):
        return boosting.read_estimator(path, xgboost.Booster, "xgboost")
    try:
        if ubjson.begins(path):  # whatever the file is called, XGBoost looks at what is in it
            ubjson.require_whole(path)
        booster = xgboost.Booster()
        booster.load_model(path)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        message = (
            "%s cannot be read as an XGBoost model: %s; it may be truncated, of another format, or of a newer XGBoost"
        )
        raise AgentError(
            "ModelUnreadable", message % (os.path.basename(path), one_line(error).split(" Stack trace:")[0])
        ) from error
    return booster


def adapt(native, request):
    """The Booster or estimator as a `Model`."""
    return XGBoostModel(native, request)


class XGBoostModel(boosting.BoostingModel):
    """An XGBoost model. Its arithmetic is single precision, so that FP32 carries its inputs as it sees them."""

    framework = "xgboost"
    cell_datatype = "FP32"

    def __init__(self, native, request):
        super().__init__(native, request)
        import xgboost

        self.version = xgboost.__version__
        self.booster = native.get_booster() if self.estimator else native
        learner = json.loads(self.booster.save_config())["learner"]
        self.objective = learner["objective"]["name"]
        self.num_class = int(learner["learner_model_param"]["num_class"])

    def feature_names(self):
        return self.booster.feature_names

    def width(self):
        return int(self.booster.num_features())

    def predict(self, rows, **options):
        import xgboost

        names = self.booster.feature_names if not self.frame else None
        kinds = OrderedDict(enable_categorical=True) if self.frame else OrderedDict()
        return self.native.predict(xgboost.DMatrix(rows, feature_names=names, **kinds), **options)

    def task(self):
        if self.objective.startswith("rank:"):
            return boosting.RANKING
        if self.objective in ("binary:logistic", "multi:softprob", "multi:softmax") or hasattr(self.native, "classes_"):
            return boosting.CLASSIFICATION
        return boosting.REGRESSION

    def classes(self):
        return max(2, self.num_class)

    def thresholds(self):
        return trees.thresholds_of_xgboost(self.booster, None if self.frame else "features", self.names)

    def masks(self, rows):
        # After early stopping, trees behind the best iteration are there and not asked.
        asked = self._visited(rows[:1]).shape[1]
        return [_leaf_mask(json.loads(text)) for text in self.booster.get_dump(dump_format="json")[:asked]]

    def visits(self, rows, trees):
        return reach.columns_of(self._visited(rows), trees)

    def _visited(self, rows):
        visited = np.asarray(self.native.apply(rows) if self.estimator else self.predict(rows, pred_leaf=True))
        return visited.reshape(len(visited), -1)

    @contextlib.contextmanager
    def threads(self, count):
        before = json.loads(self.booster.save_config())["learner"]["generic_param"].get("nthread", "0")
        self.booster.set_param({"nthread": count})
        try:
            yield True
        finally:
            self.booster.set_param({"nthread": before})


def _leaf_mask(root):
    """(nodes,) bool: which numbers of nodes of a dumped tree are leaves."""
    found, queue = [], [root]
    while queue:
        node = queue.pop()
        queue += node.get("children", [])
        if "leaf" in node:
            found.append(int(node["nodeid"]))
    mask = np.zeros(max(found) + 1, dtype=bool)
    mask[found] = True
    return mask
