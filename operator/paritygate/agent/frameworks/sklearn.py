"""SKLearn: estimators and pipelines in joblib, pickle or skops files, or a folder with one of these and its code."""

import contextlib
import os
import zipfile
from collections import OrderedDict

import numpy as np

from paritygate.agent.exchange import Category
from paritygate.agent.failures import AgentError, one_line
from paritygate.agent.frameworks import pickles, pipelines, reach, tabular, trees
from paritygate.agent.frameworks.model import (
    FRAME,
    LABEL,
    MATRIX,
    PREDICTION,
    PROBABILITIES,
    SCORES,
    TRANSFORMED,
    Demand,
    Model,
    dense,
    plain_classes,
)
from paritygate.agent.frameworks.overheard import COMPARED, Overheard

ENDINGS = (".pkl", ".pickle", ".joblib", ".skops", ".sav", ".p")
_METHODS = ("predict", "predict_proba", "decision_function", "transform")
_OUTPUTS = {
    "predict": "label",
    "predict_proba": "probabilities",
    "decision_function": "scores",
    "transform": "transformed",
}


def load(path, loader=None):
    """The fitted estimator. AgentError: it cannot be read, or is none."""
    if os.path.isdir(path):
        path = pickles.only_file(path, ENDINGS)
    pickles.require_file(path)
    skops = path.lower().endswith(".skops") or _is_skops(path)
    estimator = _skops(path) if skops else pickles.read(path)
    if isinstance(estimator, type) or not any(hasattr(estimator, method) for method in _METHODS):
        raise AgentError("WrongFormat", _no_estimator(path, estimator))
    return estimator


def adapt(native, request):
    """The estimator as a `Model`."""
    model = SklearnModel(native, request)
    types = untrusted_types(request["model"])
    if types:
        model.find(
            "SKOPS-TYPES-TRUSTED",
            "Warning",
            "the skops file names types that skops does not trust by itself: %s" % ", ".join(types),
            "loading them runs code of the environment that the file chooses",
            "they were trusted for this capture; read the list, and load the file only where that code may run",
        )
    return model


class SklearnModel(Model):
    """A fitted estimator or pipeline."""

    framework = "scikit-learn"

    def __init__(self, native, request):
        super().__init__(native, request)
        import sklearn

        self.version = sklearn.__version__
        self.parts = estimators_of(native)
        for part in self.parts:
            # In one thread a forest adds its trees in one order, so that the same capture has the same digest; the
            # threads that it was given answer batches side by side instead.
            if "n_jobs" in getattr(part, "__dict__", {}):
                self.workers = max(self.workers, _threads_of(part.n_jobs))
                part.n_jobs = 1
        if not all(type(part).__module__.startswith("sklearn.") for part in self.parts):
            self.workers = 1
        self.methods = self._methods()
        self.frame = False
        self.names = None
        self.overheard = Overheard(native)
        self.forests = {}

    def settle(self, inputs):
        if self.methods == ["predict", "predict_proba"]:
            few = OrderedDict((name, inputs[name][:COMPARED]) for name in inputs)
            self.overheard.listen(lambda: self._rows(few))
        return inputs

    def demand(self, table, free):
        names = getattr(self.native, "feature_names_in_", None)
        names = None if names is None else [str(name) for name in names]
        if self._takes_text():
            return Demand(FRAME, [_text_column(table, free)], (), 1)
        width = getattr(self.native, "n_features_in_", None)
        if names is not None and (set(names) & set(table) or not _is_one_tensor(table, free)):
            self.frame, self.names = True, names
            return Demand(FRAME, names, (), len(names))
        return Demand(MATRIX, ("features", None), (), None if width is None else int(width))

    def answer(self, inputs):
        rows = self._rows(inputs)
        answers = OrderedDict()
        if self.methods == ["predict", "predict_proba"]:
            calls = self.overheard(rows)
        else:
            calls = [getattr(self.native, method)(rows) for method in self.methods]
        for method, found in zip(self.methods, calls):
            if method == "predict_proba" and isinstance(found, list):
                for position, part in enumerate(found):
                    answers["probabilities_%d" % position] = dense(part)
            else:
                answers[self._output(method)] = dense(found)
        return answers

    def role(self, name):
        classes = getattr(self.native, "classes_", None)
        several = isinstance(classes, list)
        if name.startswith("probabilities_"):
            return PROBABILITIES, plain_classes(classes[int(name.rsplit("_", 1)[1])])
        roles = {"label": LABEL, "probabilities": PROBABILITIES, "scores": SCORES, "transformed": TRANSFORMED}
        role = roles.get(name, PREDICTION)
        if role in (PREDICTION, TRANSFORMED) or classes is None or several:
            return role, None
        return role, plain_classes(classes)

    def task(self):
        if self.kind() == "classifier":
            return "Classification"
        return "Regression" if self.kind() == "regressor" else "Generic"

    def kind(self):
        """classifier, regressor, clusterer, outlier_detector or transformer, as scikit-learn of any version says it."""
        from sklearn import base

        if base.is_classifier(self.native):
            return "classifier"
        if base.is_regressor(self.native):
            return "regressor"
        last = self.parts[0] if not hasattr(self.native, "steps") else self.native.steps[-1][1]
        return getattr(last, "_estimator_type", None) or ("clusterer" if hasattr(last, "predict") else "transformer")

    def thresholds(self):
        return trees.thresholds_of_sklearn(self.native, None if self.frame else "features", self.names)

    def missing_text(self):
        return None if any(_knows_none(part) for part in self.parts) else float("nan")

    def steps(self, inputs):
        for visit in pipelines.visits(self.native, self._rows(inputs)):
            kind = type(visit.estimator).__name__
            yield "/".join(visit.path) or kind, kind, visit.branches, visit.made

    def reach(self, inputs, seen):
        if not any(
            reach.has_trees(part) or isinstance(getattr(part, "categories_", None), list) for part in self.parts
        ):
            return []
        found = []
        for visit in pipelines.visits(self.native, self._rows(inputs)):
            path = "/".join(visit.path) or type(visit.estimator).__name__
            found += reach.of_encoder(path, visit.estimator, visit.given)
            if visit.made is None:
                forest = self.forests.setdefault(path, reach.Forest(visit.estimator))
                found += reach.of_trees(path, forest, visit.given, seen, self.workers)
                own = getattr(visit.estimator, "_preprocessor", None)
                for inner in pipelines.visits(own, visit.given) if own is not None else ():
                    found += reach.of_encoder(path, inner.estimator, inner.given)
        return found

    @contextlib.contextmanager
    def threads(self, count):
        try:
            import threadpoolctl
        except ImportError:
            yield False
            return
        with threadpoolctl.threadpool_limits(limits=count):
            yield True

    def _methods(self):
        if self.call:
            if not callable(getattr(self.native, self.call, None)):
                self.refuse_call(", ".join(method for method in _METHODS if hasattr(self.native, method)))
            return [self.call]
        if self.kind() == "classifier":
            chosen = ["predict"]
            scores = [name for name in ("predict_proba", "decision_function") if hasattr(self.native, name)]
            return chosen + scores[:1]
        return ["predict"] if hasattr(self.native, "predict") else ["transform"]

    def _output(self, method):
        if method == "predict" and self.kind() != "classifier":
            return "prediction"
        return _OUTPUTS.get(method, method)

    def _rows(self, inputs):
        """What the estimator's methods take: an array, a sequence of text, or a data frame."""
        if self.frame:
            return tabular.frame(inputs, self.missing_text())
        rows = next(iter(inputs.values()))
        if isinstance(rows, Category):
            rows = rows.values()
        if rows.dtype == object:
            missing = self.missing_text()
            flat = [missing if value is None else value for value in rows.reshape(-1)]
            rows = np.asarray(flat + [None], dtype=object)[:-1].reshape(rows.shape)
        return rows

    def _takes_text(self):
        """Whether the first step reads a sequence of text, as text vectorisers do."""
        first = self.native
        while hasattr(first, "steps"):
            first = first.steps[0][1]
        return hasattr(first, "build_analyzer") or type(first).__name__ == "HashingVectorizer"


def _threads_of(jobs):
    """Threads that `n_jobs` asks for, as far as there are processors."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if jobs is None:
        return 1
    return max(1, min(jobs if jobs > 0 else processors + 1 + jobs, processors))


def estimators_of(estimator):
    """The estimator and every estimator inside it, outermost first."""
    found, queue, seen = [], [estimator], set()
    while queue:
        part = queue.pop(0)
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, (list, tuple)):
            queue.extend(part)
        elif isinstance(part, dict):
            queue.extend(part.values())
        elif isinstance(part, np.ndarray) and part.dtype == object:
            queue.extend(part.reshape(-1))
        elif hasattr(part, "get_params") and hasattr(part, "__dict__"):
            found.append(part)
            queue.extend(vars(part).values())
    return found


def _text_column(table, free):
    texts = [name for name in free if not isinstance(table[name], Category) and table[name].dtype == object]
    if len(texts) != 1:
        raise AgentError(
            "DatasetMismatch",
            "the model reads one column of text; the dataset has %s among %s. Leave one, or name the others as label, "
            "group or slices" % (", ".join(map(repr, texts)) or "none", ", ".join(map(repr, free))),
        )
    return texts[0]


def _is_one_tensor(table, free):
    if "features" in table:
        return True
    return len(free) == 1 and not isinstance(table[free[0]], Category) and table[free[0]].ndim == 2


def _knows_none(part):
    """Whether a fitted encoder or imputer was given None, not NaN, for missing text."""
    if getattr(part, "missing_values", 0) is None:
        return True
    categories = getattr(part, "categories_", None)
    return isinstance(categories, list) and any(
        value is None for column in categories if np.asarray(column).dtype == object for value in column
    )


def _is_skops(path):
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return "schema.json" in archive.namelist()


def _skops(path):
    try:
        import skops.io
    except ImportError as error:
        raise pickles.package_missing(error, "the model file %s" % os.path.basename(path)) from error
    try:
        return skops.io.load(path, trusted=untrusted_types(path))
    except ImportError as error:
        raise pickles.package_missing(error, "the model file %s" % os.path.basename(path)) from error
    except Exception as error:
        message = "%s cannot be read as a skops file: %s; write it again" % (os.path.basename(path), one_line(error))
        raise AgentError("ModelUnreadable", message) from error


def untrusted_types(path):
    """Types in a skops file that skops does not trust by itself; empty for other files."""
    if os.path.isdir(path):
        path = pickles.only_file(path, ENDINGS)
    if not _is_skops(path):
        return []
    import skops.io

    return list(skops.io.get_untrusted_types(file=path))


def _no_estimator(path, found):
    name = os.path.basename(path)
    if isinstance(found, dict):
        keys = ", ".join(repr(key) for key in list(found)[:10])
        return "%s holds a dict with the keys %s, not an estimator; save the estimator itself" % (name, keys)
    message = "%s holds a %s.%s, not a fitted estimator; correct source.format or source.uri"
    if hasattr(found, "get_params"):
        message = (
            "%s holds a %s.%s, which has no method that answers new rows, such as predict or transform; migrate an "
            "estimator that has"
        )
    return message % (name, type(found).__module__, type(found).__name__)
