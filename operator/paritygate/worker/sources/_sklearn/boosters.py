"""LightGBM's and XGBoost's estimators as steps of a pipeline."""

from __future__ import annotations

from typing import Any

import onnx

from paritygate.worker.sources import lightgbm, xgboost
from paritygate.worker.sources._boosted import Answers
from paritygate.worker.sources._lightgbm import ensemble_of as lightgbm_ensemble
from paritygate.worker.sources._lightgbm import parse as parse_lightgbm
from paritygate.worker.sources._sklearn.writer import Classes, Table, Writer
from paritygate.worker.sources._xgboost import ensemble_of as xgboost_ensemble
from paritygate.worker.sources._xgboost import parse as parse_xgboost
from paritygate.worker.targets.onnx_trees import add_ensemble

_PACKAGES = {"lightgbm", "xgboost"}


def is_booster(estimator: Any) -> bool:
    """Whether it is an estimator of LightGBM or XGBoost."""
    return type(estimator).__module__.partition(".")[0] in _PACKAGES


def classify(w: Writer, estimator: Any, table: Table) -> Classes:
    """The classes of a fitted booster. ConfigurationError: its objective is unknown or does not classify."""
    answers = _answers(w, estimator, table)
    if answers.label is None or answers.probabilities is None:
        raise w.unsupported("its objective does not classify", estimator)
    return Classes(answers.label, w.double(answers.probabilities))


def regress(w: Writer, estimator: Any, table: Table) -> str:
    """The prediction of a fitted booster, (rows, targets) double."""
    answers = _answers(w, estimator, table)
    if answers.prediction is None:
        raise w.unsupported("its objective does not predict a number", estimator)
    return w.double(answers.prediction)


def _answers(w: Writer, estimator: Any, table: Table) -> Answers:
    features = w.dense(table)
    if type(estimator).__module__.startswith("lightgbm"):
        text = parse_lightgbm(estimator.booster_.model_to_string())
        return lightgbm.answers_of(w.builder, text, add_ensemble(w.builder, lightgbm_ensemble(text), features))
    document = parse_xgboost(bytes(estimator.get_booster().save_raw("ubj")))
    # XGBoost holds its data in single precision.
    rounded = w.double(w.builder.cast(features, onnx.TensorProto.FLOAT))
    last = vars(estimator).get("early_stopping_rounds") and estimator.best_iteration + 1
    ensemble = xgboost_ensemble(document, missing=float(estimator.missing), iterations=last or None)
    return xgboost.answers_of(w.builder, document, add_ensemble(w.builder, ensemble, rounded))
