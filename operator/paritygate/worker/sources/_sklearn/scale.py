"""Transformers of numbers: scalers, imputers, polynomials, projections and selections of columns."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from paritygate.api.spec import Datatype
from paritygate.worker.sources._sklearn.writer import Block, Table, Writer, is_ours, numbers, transformer

_FUNCTIONS: Final = {
    np.log: ("Log",), np.exp: ("Exp",), np.sqrt: ("Sqrt",), np.abs: ("Abs",), np.absolute: ("Abs",), np.sin: ("Sin",),
    np.cos: ("Cos",), np.tanh: ("Tanh",), np.negative: ("Neg",), np.floor: ("Floor",), np.ceil: ("Ceil",),
    np.sign: ("Sign",), np.reciprocal: ("Reciprocal",),
}  # fmt: skip


@transformer("StandardScaler")
def standard_scaler(w: Writer, model: Any, table: Table) -> Table:
    """(x - mean) / scale."""
    value = w.dense(table)
    if model.with_mean:
        value = w.op("Sub", value, _row(model.mean_))
    if model.with_std and model.scale_ is not None:
        value = w.op("Div", value, _row(model.scale_))
    return numbers(value, table.width)


@transformer("MinMaxScaler")
def min_max_scaler(w: Writer, model: Any, table: Table) -> Table:
    """X · scale + min, clipped where asked for."""
    value = w.op("Add", w.op("Mul", w.dense(table), _row(model.scale_)), _row(model.min_))
    if model.clip:
        value = w.op("Max", w.op("Min", value, float(model.feature_range[1])), float(model.feature_range[0]))
    return numbers(value, table.width)


@transformer("MaxAbsScaler")
def max_abs_scaler(w: Writer, model: Any, table: Table) -> Table:
    """X / scale."""
    value = w.op("Div", w.dense(table), _row(model.scale_))
    if getattr(model, "clip", False):
        value = w.op("Max", w.op("Min", value, 1.0), -1.0)
    return numbers(value, table.width)


@transformer("RobustScaler")
def robust_scaler(w: Writer, model: Any, table: Table) -> Table:
    """(x - centre) / scale."""
    value = w.dense(table)
    if model.with_centering:
        value = w.op("Sub", value, _row(model.center_))
    if model.with_scaling:
        value = w.op("Div", value, _row(model.scale_))
    return numbers(value, table.width)


@transformer("Normalizer")
def normalizer(w: Writer, model: Any, table: Table) -> Table:
    """Rows divided by their norm; rows of norm 0 stay."""
    return numbers(row_normalized(w, w.dense(table), model.norm), table.width)


@transformer("Binarizer")
def binarizer(w: Writer, model: Any, table: Table) -> Table:
    """1 above the threshold, else 0."""
    return numbers(w.double(w.op("Greater", w.dense(table), float(model.threshold))), table.width)


@transformer("PolynomialFeatures")
def polynomial_features(w: Writer, model: Any, table: Table) -> Table:
    """Products of columns; column `width` stands for 1."""
    powers = np.asarray(model.powers_)
    width = table.width
    factors = [[column for column, power in enumerate(row) for _ in range(power)] for row in powers]
    degree = max((len(row) for row in factors), default=0) or 1
    padded = np.array([[*row, *[width] * (degree - len(row))] for row in factors])
    value = w.dense(table)
    one = w.op("Add", w.op("Mul", w.columns(value, [0]), 0.0), 1.0)
    extended = w.beside(value, one)
    product = w.columns(extended, padded[:, 0])
    for position in range(1, degree):
        product = w.op("Mul", product, w.columns(extended, padded[:, position]))
    return numbers(product, len(powers))


@transformer("PowerTransformer")
def power_transformer(w: Writer, model: Any, table: Table) -> Table:
    """Yeo-Johnson or Box-Cox by column, then standardised."""
    value, lambdas = w.dense(table), np.asarray(model.lambdas_, dtype=np.float64)
    if model.method == "box-cox":
        value = _box_cox(w, value, lambdas)
    else:
        positive = _box_cox(w, w.op("Add", w.op("Max", value, 0.0), 1.0), lambdas)
        negative = _box_cox(w, w.op("Sub", 1.0, w.op("Min", value, 0.0)), 2.0 - lambdas)
        value = w.op("Where", w.op("GreaterOrEqual", value, 0.0), positive, w.op("Neg", negative))
    table = numbers(value, table.width)
    return standard_scaler(w, model._scaler, table) if model.standardize else table  # noqa: SLF001


@transformer("KBinsDiscretizer")
def bins(w: Writer, model: Any, table: Table) -> Table:
    """The number of inner edges at or below each value, as it is or one-hot."""
    value, parts, width = w.dense(table), [], 0
    for position, edges in enumerate(model.bin_edges_):
        inner = np.asarray(edges, dtype=np.float64)[1:-1]
        column = w.columns(value, [position])
        if len(inner):
            code = w.total("ReduceSum", w.double(w.op("GreaterOrEqual", column, _row(inner))))
        else:
            code = w.op("Mul", column, 0.0)
        if model.encode == "ordinal":
            parts.append(code)
            width += 1
        else:
            count = int(model.n_bins_[position])
            parts.append(w.double(w.op("Equal", code, _row(np.arange(count, dtype=np.float64)))))
            width += count
    return numbers(w.beside(*parts), width)


@transformer("SimpleImputer")
def simple_imputer(w: Writer, model: Any, table: Table) -> Table:
    """Missing values replaced by a statistic; columns without one are dropped."""
    statistics = np.asarray(model.statistics_)
    if any(block.datatype is Datatype.BYTES for block in table.blocks):
        return _text_imputer(w, model, table)
    value = w.dense(table)
    missing = _is_missing(w, value, model.missing_values)
    numeric = np.asarray(statistics, dtype=np.float64)
    filled = w.op("Where", missing, _row(numeric), value)
    kept = np.arange(table.width)
    if not getattr(model, "keep_empty_features", False) and model.strategy != "constant":
        kept = np.flatnonzero(~np.isnan(numeric))
    blocks = [Block(filled if len(kept) == table.width else w.columns(filled, kept), Datatype.FP64, len(kept))]
    if model.add_indicator:
        features = model.indicator_.features_
        blocks.append(Block(w.double(w.columns(missing, features)), Datatype.FP64, len(features)))
    return Table(tuple(blocks))


@transformer("MissingIndicator")
def missing_indicator(w: Writer, model: Any, table: Table) -> Table:
    """1 where a value is missing, for the columns that had missing values."""
    missing = _is_missing(w, w.dense(table), model.missing_values)
    return numbers(w.double(w.columns(missing, model.features_)), len(model.features_))


@transformer("PCA", "IncrementalPCA")
def principal_components(w: Writer, model: Any, table: Table) -> Table:
    """(X - mean)·componentsᵀ, whitened where asked for."""
    value = w.dense(table)
    if model.mean_ is not None:
        value = w.op("Sub", value, _row(model.mean_))
    value = w.op("MatMul", value, np.ascontiguousarray(np.asarray(model.components_, dtype=np.float64).T))
    if model.whiten:
        scale = np.sqrt(model.explained_variance_)
        scale = np.maximum(scale, np.finfo(scale.dtype).eps)
        value = w.op("Div", value, _row(scale))
    return numbers(value, len(model.components_))


@transformer("TruncatedSVD", "GaussianRandomProjection", "SparseRandomProjection")
def linear_projection(w: Writer, model: Any, table: Table) -> Table:
    """X·componentsᵀ."""
    components = model.components_
    components = np.asarray(components.todense() if hasattr(components, "todense") else components, dtype=np.float64)
    return numbers(w.op("MatMul", w.dense(table), np.ascontiguousarray(components.T)), len(components))


@transformer("FastICA")
def independent_components(w: Writer, model: Any, table: Table) -> Table:
    """(X - mean)·componentsᵀ."""
    value = w.dense(table)
    if model.whiten:
        value = w.op("Sub", value, _row(model.mean_))
    return numbers(w.op("MatMul", value, np.ascontiguousarray(model.components_.T)), len(model.components_))


@transformer(
    "SelectKBest", "SelectPercentile", "SelectFpr", "SelectFdr", "SelectFwe", "GenericUnivariateSelect",
    "SelectFromModel", "VarianceThreshold", "RFE", "RFECV", "SequentialFeatureSelector",
)  # fmt: skip
def selection(w: Writer, model: Any, table: Table) -> Table:
    """Some of the columns."""
    return w.select(table, model.get_support(indices=True))


@transformer("FunctionTransformer")
def function_transformer(w: Writer, model: Any, table: Table) -> Table:
    """Known numpy functions of each element."""
    if model.func is None:
        return table
    if model.kw_args:
        raise w.unsupported(f"function {model.func!r} takes arguments that are not known", model)
    value = None
    if model.func is np.log1p:
        value = w.op("Log", w.op("Add", w.dense(table), 1.0))
    elif model.func is np.expm1:
        value = w.op("Sub", w.op("Exp", w.dense(table)), 1.0)
    elif model.func is np.square:
        dense = w.dense(table)
        value = w.op("Mul", dense, dense)
    elif isinstance(model.func, np.ufunc) and model.func in _FUNCTIONS:
        value = w.op(_FUNCTIONS[model.func][0], w.dense(table))
    if value is None:
        name = f"{getattr(model.func, '__module__', '?')}.{getattr(model.func, '__qualname__', model.func)}"
        raise w.unsupported(f"function {name} is Python code", model)
    return numbers(value, table.width)


def row_normalized(w: Writer, value: str, norm: str) -> str:
    """Rows divided by their norm l1, l2 or max; rows of norm 0 stay."""
    if norm == "max":
        size = w.total("ReduceMax", w.op("Abs", value))
    else:
        size = w.total({"l1": "ReduceL1", "l2": "ReduceL2"}[norm], value)
    return w.op("Div", value, w.op("Where", w.op("Equal", size, 0.0), 1.0, size))


def passthrough(estimator: Any) -> bool:
    """Whether a step does nothing."""
    if estimator is None or isinstance(estimator, str):
        return estimator in {None, "passthrough"}
    return is_ours(estimator) and type(estimator).__name__ == "FunctionTransformer" and estimator.func is None


def _row(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values, dtype=np.float64).reshape(1, -1)


def _is_missing(w: Writer, value: str, marker: Any) -> str:
    if marker is None or (isinstance(marker, float) and np.isnan(marker)) or str(marker) in {"<NA>", "nan"}:
        return w.op("IsNaN", value)
    return w.op("Equal", value, float(marker))


def _box_cox(w: Writer, value: str, lambdas: Any) -> str:
    """(x^λ - 1) / λ, and log x where λ is 0; `value` (rows, width) > 0."""
    zero = np.abs(lambdas) < np.finfo(np.float64).eps
    safe = np.where(zero, 1.0, lambdas)
    powered = w.op("Div", w.op("Sub", w.op("Pow", value, _row(safe)), 1.0), _row(safe))
    return w.op("Where", zero.reshape(1, -1), w.op("Log", value), powered) if zero.any() else powered


def _text_imputer(w: Writer, model: Any, table: Table) -> Table:
    """Texts: the wire carries a missing value as the empty text."""
    if model.add_indicator:
        raise w.unsupported("missing texts and an indicator of them are not known", model)
    blocks = []
    for block, statistic in zip(w.singles(table), model.statistics_, strict=True):
        if block.datatype is not Datatype.BYTES:
            raise w.unsupported("its columns are texts and numbers mixed; impute them apart", model)
        marker = model.missing_values if isinstance(model.missing_values, str) else ""
        if statistic is None or statistic != statistic:  # noqa: PLR0124 - NaN
            continue
        is_text = w.op(
            "LabelEncoder", block.tensor, domain="ai.onnx.ml", keys_strings=[marker], values_int64s=[1], default_int64=0
        )
        filled = w.op(
            "Where", w.op("Equal", is_text, np.array(1)), np.array([[str(statistic)]], dtype=object), block.tensor
        )
        blocks.append(Block(filled, Datatype.BYTES, 1, block.origin))
    return Table(tuple(blocks))
