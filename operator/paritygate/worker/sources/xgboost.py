"""XGBoost: models in JSON and UBJSON, and pickled Boosters and scikit-learn wrappers, which hold the same document.

Neither assessment nor conversion loads XGBoost: the document says everything, and the trees are carried over exactly,
compared and added in single precision as XGBoost does.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx

from paritygate.api.artifacts import Assessment
from paritygate.api.report import Finding, Signature
from paritygate.api.spec import Datatype, Source, SourceFormat
from paritygate.errors import ConfigurationError
from paritygate.storage.digests import digest_of_path
from paritygate.worker import findings
from paritygate.worker.pickle_machine import Symbol
from paritygate.worker.pickles import Contents, read_pickle
from paritygate.worker.sources import Conversion, Converted
from paritygate.worker.sources._boosted import Answers, Categories, feature_matrix, write_outputs
from paritygate.worker.sources._files import size_of_model
from paritygate.worker.sources._xgboost import (
    EXPONENTIAL,
    LOGISTIC,
    Document,
    categorical_columns,
    categories_of,
    ensemble_of,
    parse,
)
from paritygate.worker.targets.onnx_graph import GraphBuilder
from paritygate.worker.targets.onnx_trees import add_ensemble, add_logistic

EXTRA = None
_NATIVE: Final = (b"{", b"binf")
_IDENTITY: Final = {
    "binary:logitraw", "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror",
    "reg:quantileerror", "reg:expectileerror", "reg:linear", "rank:pairwise", "rank:ndcg", "rank:map",
}  # fmt: skip


@dataclass(frozen=True)
class _Stored:
    """A model as it is stored."""

    document: Document
    contents: Contents | None
    """None = a file of save_model."""
    wrapper: Symbol | None
    """The scikit-learn style estimator around the Booster, which predicts up to the best iteration only."""

    @property
    def missing(self) -> float:
        """The value that stands for a missing one beside NaN."""
        value = self.wrapper.attributes().get("missing") if self.wrapper is not None else None
        return float(value) if isinstance(value, (int, float)) else float("nan")

    @property
    def iterations(self) -> int | None:
        """Boosting rounds that count; None = all."""
        best = self.document.best_iteration
        return None if self.wrapper is None or best is None else best + 1


def assess(model: Path, source: Source) -> Assessment:  # noqa: ARG001 - the protocol of source modules
    """What the file says. ConfigurationError: it is truncated or of another format."""
    stored = _stored(model)
    document = stored.document
    nodes = [len(tree["left_children"]) for tree in document.model["trees"]] if document.booster != "gblinear" else []
    return Assessment(
        format=SourceFormat.XGBOOST,
        framework="xgboost",
        framework_version=document.version or None,
        digest=digest_of_path(model),
        size=size_of_model(model),
        parameters=sum(nodes) if nodes else None,
        estimators=(*([stored.wrapper.path] if stored.wrapper else []), "xgboost.core.Booster"),
        imports=stored.contents.imports if stored.contents else (),
        hardware=("cuda",) if document.device.startswith(("cuda", "gpu")) else (),
        findings=_findings(stored),
    )


def convert(conversion: Conversion) -> Converted:
    """Writes the trees as ONNX. ConfigurationError: a linear booster, or an objective that is not known."""
    stored = _stored(conversion.model)
    document, signature = stored.document, conversion.capture.signature
    builder = GraphBuilder(conversion.opset)
    encoders = _encoders(document, signature)
    matrix = feature_matrix(builder, signature, document.features, encoders)
    # XGBoost holds its data in single precision.
    rounded = builder.cast(builder.cast(matrix, onnx.TensorProto.FLOAT), onnx.TensorProto.DOUBLE)
    ensemble = ensemble_of(document, missing=stored.missing, iterations=stored.iterations)
    scores = add_ensemble(builder, ensemble, rounded)
    write_outputs(builder, signature, answers_of(builder, document, scores))
    onnx.save_model(builder.model(conversion.destination.stem), str(conversion.destination))
    return Converted(
        converter={"paritygate": version("paritygate"), "onnx": onnx.__version__},
        categories={
            signature.inputs[index].name: tuple(str(value) for value in values)
            for index, values in encoders.items()
            if signature.inputs[index].datatype is Datatype.BYTES
        },
    )


def _stored(model: Path) -> _Stored:
    content = model.read_bytes()
    if content.lstrip()[:1] == b"{":
        return _Stored(parse(content), None, None)
    if content.startswith(b"binf"):
        raise ConfigurationError(
            "ModelUnreadable",
            f"source.uri: {model.name} is in XGBoost's old binary format, which current versions do not read; load it "
            f"with the version that wrote it and save it again with save_model('model.ubj')",
        )
    contents = read_pickle(model)
    booster = next(iter(contents.instances("Booster")), None)
    if booster is None or not booster.path.startswith("xgboost."):
        raise ConfigurationError(
            "WrongFormat",
            f"source.uri: {model.name} holds no XGBoost model but "
            f"{getattr(contents.root, 'path', type(contents.root).__name__)}; correct source.format",
        )
    root = contents.root
    wrapper = root if isinstance(root, Symbol) and root is not booster else None
    return _Stored(parse(_bytes(booster.attributes().get("handle"))), contents, wrapper)


def _bytes(handle: Any) -> bytes:
    """A pickled bytearray: bytes, or in old protocols text in Latin-1."""
    content = handle.arguments[0] if isinstance(handle, Symbol) and handle.arguments else handle
    if isinstance(content, str):
        return content.encode("latin-1")
    return bytes(content) if isinstance(content, (bytes, bytearray)) else b""


def _findings(stored: _Stored) -> tuple[Finding, ...]:
    document, found = stored.document, []
    if not np.isnan(stored.missing):
        found.append(findings.XGB_MISSING_VALUE.found(f"The model reads {stored.missing:g} as missing."))
    if document.booster == "dart":
        found.append(findings.XGB_DART.found(f"{document.trees} trees have weights of their own."))
    if stored.iterations is not None:
        found.append(
            findings.XGB_BEST_ITERATION.found(
                f"Training stopped early: {stored.iterations} iterations count of {document.trees} trees."
            )
        )
    if categorical_columns(document):
        found.append(
            findings.XGB_CATEGORICAL.found(f"{len(categorical_columns(document))} columns are split by categories.")
        )
    return tuple(found)


def _encoders(document: Document, signature: Signature) -> dict[int, Categories]:
    """Column → categories, for the columns of a data frame."""
    if len(signature.inputs) != document.features:
        return {}
    stored = categories_of(document)
    unknown = [
        signature.inputs[index].name
        for index in categorical_columns(document)
        if index not in stored and signature.inputs[index].datatype is Datatype.BYTES
    ]
    if unknown:
        raise ConfigurationError(
            "ConversionUnsupported",
            f"the XGBoost model was written before 3.1 and does not hold the categories of {', '.join(unknown)}, only "
            f"their codes; bring these columns as codes, or fit the model with a newer XGBoost",
        )
    return stored


def answers_of(builder: GraphBuilder, document: Document, scores: str) -> Answers:
    """The booster's answers from its raw scores, (rows, targets). ConfigurationError: an unknown objective."""
    name = document.objective
    if name in {"multi:softprob", "multi:softmax"}:
        shares = builder.add("Softmax", scores, axis=1)
        label = builder.add("ArgMax", shares, axis=1, keepdims=0)
        return Answers(label, shares, scores, shares if name == "multi:softprob" else label)
    prediction = _linked(builder, name, scores)
    if not name.startswith("binary:") or document.targets > 1:
        return Answers(scores=scores, prediction=prediction)
    other = builder.add("Sub", builder.constant(1.0, np.float32), prediction)
    above = builder.add("Greater", prediction, builder.constant(0.5, np.float32))
    label = builder.add("Squeeze", builder.cast(above, onnx.TensorProto.INT64), builder.constant([1], np.int64))
    return Answers(label, builder.add("Concat", other, prediction, axis=1), scores, prediction)


def _linked(builder: GraphBuilder, name: str, scores: str) -> str:
    """The prediction of an objective (src/objective, PredTransform)."""
    if name in LOGISTIC - {"binary:logitraw"}:
        return add_logistic(builder, scores, np.float32)
    if name in EXPONENTIAL:
        return builder.add("Exp", scores)
    if name == "binary:hinge":
        return builder.cast(builder.add("Greater", scores, builder.constant(0.0, np.float32)), onnx.TensorProto.FLOAT)
    if name in _IDENTITY:
        return scores
    raise ConfigurationError(
        "ConversionUnsupported",
        f"the XGBoost objective {name!r} is not known, so its link function is not; bring target.candidate",
    )
