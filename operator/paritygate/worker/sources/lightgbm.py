"""LightGBM: text models, and pickled Boosters and scikit-learn wrappers, which hold the same text.

Neither assessment nor conversion loads LightGBM: the text says everything, and the trees are carried over exactly.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
from paritygate.worker.sniff import sniffed
from paritygate.worker.sources import Conversion, Converted
from paritygate.worker.sources._boosted import Answers, Categories, feature_matrix, write_outputs
from paritygate.worker.sources._files import size_of_model
from paritygate.worker.sources._lightgbm import (
    TextModel,
    categorical_splits,
    ensemble_of,
    parse,
    uses_zero_as_missing,
)
from paritygate.worker.targets.onnx_graph import GraphBuilder
from paritygate.worker.targets.onnx_trees import add_ensemble, add_logistic

EXTRA = None
_IDENTITY: Final = {
    "", "regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg", "custom",
}  # fmt: skip
_EXPONENTIAL: Final = {"poisson", "gamma", "tweedie"}


@dataclass(frozen=True)
class _Stored:
    """A model as it is stored."""

    text: TextModel
    contents: Contents | None
    """None = a text file."""
    estimators: tuple[str, ...]


def assess(model: Path, source: Source) -> Assessment:  # noqa: ARG001 - the protocol of source modules
    """What the file says. ConfigurationError: it is truncated or of another format."""
    stored = _stored(model)
    text = stored.text
    leaves = sum(int(tree.get("num_leaves", "0")) for tree in text.trees)
    splits = sum(int(tree.get("num_leaves", "1")) - 1 for tree in text.trees)
    return Assessment(
        format=SourceFormat.LIGHTGBM,
        framework="lightgbm",
        # The text format has a version of its own and does not name LightGBM's.
        framework_version=None,
        digest=digest_of_path(model),
        size=size_of_model(model),
        parameters=leaves + splits,
        estimators=stored.estimators,
        imports=stored.contents.imports if stored.contents else (),
        findings=_findings(text),
    )


def convert(conversion: Conversion) -> Converted:
    """Writes the trees as ONNX. ConfigurationError: linear trees, or an objective that is not known."""
    text = _stored(conversion.model).text
    signature = conversion.capture.signature
    builder = GraphBuilder(conversion.opset)
    features = feature_matrix(builder, signature, text.features, _encoders(text, signature))
    scores = add_ensemble(builder, ensemble_of(text), features)
    write_outputs(builder, signature, answers_of(builder, text, scores))
    onnx.save_model(builder.model(conversion.destination.stem), str(conversion.destination))
    return Converted(converter={"paritygate": version("paritygate"), "onnx": onnx.__version__})


def _stored(model: Path) -> _Stored:
    looks = sniffed(model)
    if looks is not None and looks.format is SourceFormat.LIGHTGBM:
        try:
            return _Stored(parse(model.read_text(encoding="utf-8")), None, ("lightgbm.basic.Booster",))
        except UnicodeDecodeError as error:
            raise ConfigurationError(
                "ModelUnreadable", f"source.uri: {model.name} is damaged: {error}; copy the model again"
            ) from error
    contents = read_pickle(model)
    booster, best_iteration = _booster(contents)
    if booster is None:
        raise ConfigurationError(
            "WrongFormat",
            f"source.uri: {model.name} holds no LightGBM model but "
            f"{getattr(contents.root, 'path', type(contents.root).__name__)}; correct source.format",
        )
    attributes = booster.attributes()
    text = parse(attributes.get("_handle") or attributes.get("handle") or "")
    kept = len(text.trees) if best_iteration <= 0 else min(len(text.trees), best_iteration * text.targets)
    estimators = tuple(s.path for s in contents.symbols() if s.path.startswith("lightgbm."))
    return _Stored(replace(text, trees=text.trees[:kept]), contents, estimators)


def _booster(contents: Contents) -> tuple[Symbol | None, int]:
    """The Booster in a pickle, and the iteration up to which it predicts; 0 = all."""
    booster = next(iter(contents.instances("Booster")), None)
    best = booster.attributes().get("best_iteration") if booster is not None else None
    return booster, int(best) if isinstance(best, int) else 0


def _findings(text: TextModel) -> tuple[Finding, ...]:
    found = []
    if uses_zero_as_missing(text):
        found.append(findings.LGBM_ZERO_AS_MISSING.found("The model was fitted with zero_as_missing=true."))
    if splits := categorical_splits(text):
        found.append(findings.LGBM_CATEGORICAL.found(f"{splits} splits test membership in a set of categories."))
    if any(tree.get("is_linear", "0") == "1" for tree in text.trees):
        found.append(findings.LGBM_LINEAR_TREE.found("The model was fitted with linear_tree=true."))
    found.append(findings.FLOAT64_THRESHOLDS.found(f"{len(text.trees)} trees compare in double precision."))
    return tuple(found)


def _encoders(text: TextModel, signature: Signature) -> dict[int, Categories]:
    """Column → categories. The file lists them without naming columns: they follow each other in column order."""
    if not text.pandas_categorical or len(signature.inputs) == 1:
        return {}
    infos = text.header.get("feature_infos", "").split()
    textual = [index for index, tensor in enumerate(signature.inputs) if tensor.datatype is Datatype.BYTES]
    # Numbers may be categories too; a categorical column's info is a list, a numerical one's a range.
    listed = [index for index, info in enumerate(infos) if not info.startswith(("[", "none"))]
    for columns in (textual, sorted({*textual, *listed})):
        if len(columns) == len(text.pandas_categorical):
            return dict(zip(columns, text.pandas_categorical, strict=True))
    raise ConfigurationError(
        "SignatureMismatch",
        f"the model was fitted on {len(text.pandas_categorical)} categorical columns and the captured signature "
        f"has {len(textual)} text inputs; store these columns of the dataset as categories, as they were in fitting",
    )


def answers_of(builder: GraphBuilder, text: TextModel, scores: str) -> Answers:
    """The booster's answers from its raw scores, (rows, targets). ConfigurationError: an unknown objective."""
    name, parameters = text.objective
    raw = scores
    if text.averages:
        iterations = max(1, len(text.trees) // text.targets)
        scores = builder.add("Div", scores, builder.constant(float(iterations), np.float64))
    if name in {"binary", "multiclassova"}:
        slope = builder.constant(float(parameters.get("sigmoid", "1")), np.float64)
        shares = add_logistic(builder, builder.add("Mul", scores, slope), np.float64)
        if name == "binary":
            other = builder.add("Sub", builder.constant(1.0, np.float64), shares)
            both = builder.add("Concat", other, shares, axis=1)
            return Answers(_arg_max(builder, both), both, raw, shares)
        return Answers(_arg_max(builder, shares), shares, raw, shares)
    if name == "multiclass":
        shares = builder.add("Softmax", scores, axis=1)
        return Answers(_arg_max(builder, shares), shares, raw, shares)
    return Answers(scores=raw, prediction=_linked(builder, name, parameters, scores))


def _linked(builder: GraphBuilder, name: str, parameters: Any, scores: str) -> str:
    """The prediction of an objective that does not classify (src/objective, ConvertOutput)."""
    if name in _EXPONENTIAL:
        return builder.add("Exp", scores)
    if name == "cross_entropy":
        return add_logistic(builder, scores, np.float64)
    if name == "cross_entropy_lambda":
        one = builder.constant(1.0, np.float64)
        return builder.add("Log", builder.add("Add", one, builder.add("Exp", scores)))
    if name not in _IDENTITY:
        raise ConfigurationError(
            "ConversionUnsupported",
            f"the LightGBM objective {name!r} is not known, so its link function is not; "
            f"state source.call for raw scores, or bring target.candidate",
        )
    if "sqrt" in parameters:
        return builder.add("Mul", builder.add("Abs", scores), scores)
    return scores


def _arg_max(builder: GraphBuilder, tensor: str) -> str:
    return builder.add("ArgMax", tensor, axis=1, keepdims=0)
