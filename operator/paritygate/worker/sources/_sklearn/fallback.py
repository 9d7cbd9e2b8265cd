"""Estimators without a translation of our own, converted one by one by skl2onnx and put into the graph."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Final

from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType

from paritygate.worker import findings
from paritygate.worker.sources._sklearn.writer import Classes, Table, Writer, numbers

KNOWN_WRONG: Final = {
    "GaussianProcessClassifier": "skl2onnx writes an operator for it that onnxruntime does not have",
    "RadiusNeighborsClassifier": "skl2onnx's graph for it fails on rows without neighbours",
    "RadiusNeighborsRegressor": "skl2onnx's graph for it fails on rows without neighbours",
}
"""Classes whose conversion by skl2onnx is known to answer otherwise."""
_ML_OPSET: Final = 3


def transform(w: Writer, estimator: Any, table: Table) -> Table:
    """What skl2onnx makes of a transformer."""
    outputs = _inlined(w, estimator, table, {})
    width = len(estimator.get_feature_names_out())
    return numbers(w.double(outputs[0]), width)


def classify(w: Writer, estimator: Any, table: Table) -> tuple[Classes, ...]:
    """What skl2onnx makes of a classifier: its label is taken as a position among the classes."""
    if not hasattr(estimator, "predict_proba"):
        raise w.unsupported("no converter is known for it", estimator)
    probabilities = w.double(_inlined(w, estimator, table, {id(estimator): {"zipmap": False}})[1])
    label = w.op("ArgMax", probabilities, axis=1, keepdims=0, select_last_index=0)
    return (Classes(label, probabilities),)


def regress(w: Writer, estimator: Any, table: Table) -> str:
    """What skl2onnx makes of a regressor or clusterer."""
    return _inlined(w, estimator, table, {})[0]


def _inlined(w: Writer, estimator: Any, table: Table, options: dict[int, Any]) -> list[str]:
    name = type(estimator).__name__
    if name in KNOWN_WRONG:
        raise w.unsupported(KNOWN_WRONG[name], estimator)
    features = w.dense(table)
    quiet = logging.getLogger("skl2onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = to_onnx(
                estimator,
                initial_types=[("X", DoubleTensorType([None, table.width]))],
                options=options or None,
                target_opset={"": w.builder.opset, "ai.onnx.ml": _ML_OPSET},
            )
    except Exception as error:
        raise w.unsupported(f"skl2onnx refuses it ({type(error).__name__}: {_first_line(error)})", estimator) from error
    finally:
        quiet.setLevel(level)
    w.findings.append(findings.FALLBACK_CONVERTER.found(f"{w.where} ({name}) is converted by skl2onnx"))
    return w.builder.inline(model, features)


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
