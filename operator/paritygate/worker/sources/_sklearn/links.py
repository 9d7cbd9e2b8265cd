"""From raw scores to labels and probabilities, with the source's own rules for ties."""

from __future__ import annotations

from typing import Any

import numpy as np

from paritygate.worker.sources._sklearn.writer import INT64, Classes, Writer


def first_highest(w: Writer, scores: str) -> str:
    """(rows, classes) → (rows,) int64: the lowest position among equals, as numpy's argmax."""
    return w.op("ArgMax", scores, axis=1, keepdims=0, select_last_index=0)


def above(w: Writer, scores: str, threshold: float) -> str:
    """(rows,) → (rows,) int64: 1 where strictly above."""
    return w.builder.cast(w.op("Greater", scores, threshold), INT64)


def label_of_scores(w: Writer, scores: str, *, binary: bool) -> str:
    """Position of the predicted class from decision_function's values."""
    return above(w, scores, 0.0) if binary else first_highest(w, scores)


def complement(w: Writer, positive: str) -> str:
    """(rows,) probability of the second class → (rows, 2)."""
    upright = w.upright(positive)
    return w.beside(w.op("Sub", 1.0, upright), upright)


def normalized(w: Writer, tensor: str) -> str:
    """Rows divided by their sums."""
    return w.op("Div", tensor, w.total("ReduceSum", tensor))


def normalized_or_uniform(w: Writer, tensor: str, count: int) -> str:
    """Rows divided by their sums; rows of sum 0 become uniform."""
    total = w.total("ReduceSum", tensor)
    return w.op("Where", w.op("Equal", total, 0.0), np.full((1, count), 1.0 / count), w.op("Div", tensor, total))


def softmax(w: Writer, tensor: str) -> str:
    """Softmax over the last axis."""
    return w.op("Softmax", tensor, axis=1)


def by_probability(w: Writer, probabilities: str, scores: str | None = None) -> Classes:
    """Classes whose label is the first of the highest probability."""
    return Classes(first_highest(w, probabilities), probabilities, scores)


def raw_scores(w: Writer, features: str, coefficients: Any, intercept: Any) -> str:
    """X·Wᵀ + b, (rows, outputs)."""
    weights = np.atleast_2d(np.asarray(coefficients, dtype=np.float64))
    product = w.op("MatMul", features, np.ascontiguousarray(weights.T))
    return (
        w.op("Add", product, np.asarray(intercept, dtype=np.float64).reshape(1, -1)) if np.any(intercept) else product
    )


def interpolated(w: Writer, tensor: str, xs: Any, ys: Any) -> str:
    """(rows,) piecewise linear through (xs, ys), constant beyond the ends; xs ascending."""
    xs, ys = np.asarray(xs, dtype=np.float64), np.asarray(ys, dtype=np.float64)
    if len(xs) == 1:
        return w.op("Add", w.op("Mul", tensor, 0.0), ys[0])
    inside = w.op("Max", w.op("Min", tensor, xs[-1]), xs[0])
    reached = w.op("GreaterOrEqual", w.upright(inside), xs[1:-1].reshape(1, -1)) if len(xs) > 2 else None  # noqa: PLR2004
    if reached is None:
        segment = w.builder.cast(w.op("Mul", inside, 0.0), INT64)
    else:
        segment = w.total("ReduceSum", w.builder.cast(reached, INT64), keepdims=False)
    # The share of the way is found before it is multiplied: between close thresholds a slope would overflow.
    wide = np.where(np.diff(xs) > 0.0, np.diff(xs), 1.0)
    distance = w.op("Sub", inside, w.op("Gather", xs, segment, axis=0))
    share = w.op("Div", distance, w.op("Gather", wide, segment, axis=0))
    rise = w.op("Mul", share, w.op("Gather", np.diff(ys), segment, axis=0))
    return w.op("Add", rise, w.op("Gather", ys, segment, axis=0))
