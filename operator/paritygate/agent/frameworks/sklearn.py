"""SKLearn: estimators and pipelines in joblib, pickle or skops files, or a folder with one of these and its code."""

import os
import zipfile

from paritygate.agent.failures import AgentError, one_line
from paritygate.agent.frameworks import pickles

ENDINGS = (".pkl", ".pickle", ".joblib", ".skops", ".sav", ".p")
_METHODS = ("predict", "predict_proba", "decision_function", "transform")


def load(path, loader=None):
    """The fitted estimator. AgentError: it cannot be read, or is none."""
    if os.path.isdir(path):
        path = pickles.only_file(path, ENDINGS)
    pickles.require_file(path)
    estimator = _skops(path) if _is_skops(path) else pickles.read(path)
    if isinstance(estimator, type) or not any(hasattr(estimator, method) for method in _METHODS):
        raise AgentError("WrongFormat", _no_estimator(path, estimator))
    return estimator


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
    return "%s holds a %s.%s, not a fitted estimator; correct source.format or source.uri" % (
        name,
        type(found).__module__,
        type(found).__name__,
    )
