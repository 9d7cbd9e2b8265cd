"""libsvm's probabilities: pairwise sigmoids, coupled by an iteration that stops early.

The second method of Wu, Lin, Weng: Probability Estimates for Multi-class Classification by Pairwise Coupling (JMLR 5,
2004, section 4), with libsvm's tolerance of 0.005 / classes (svm.cpp, multiclass_probability). Where the iteration
stops is part of the answer, so its limit cannot be computed instead.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from paritygate.worker.sources._sklearn.writer import Writer

MAXIMUM_CLASSES: Final = 24
"""Steps are written out one by one, and grow with the number of classes."""
_ROUNDS: Final = 12
"""libsvm allows 100; shipped data sets need at most 5."""
_CLIP: Final = 1e-7
"""libsvm's min_prob."""


def coupled(w: Writer, model: Any, pairs: str) -> str:
    """(rows, pairs) decision values of class i against class j → (rows, classes) probabilities."""
    count = len(model.classes_)
    slope, shift = np.asarray(model._probA), np.asarray(model._probB)  # noqa: SLF001
    line = w.op("Add", w.op("Mul", pairs, slope.reshape(1, -1)), shift.reshape(1, -1))
    first_wins = w.op("Max", w.op("Min", w.logistic(w.op("Neg", line)), 1.0 - _CLIP), _CLIP)
    matrix = _quadratic_form(w, first_wins, count)
    rows = [w.op("Gather", matrix, np.int64(t), axis=1) for t in range(count)]  # type: ignore[arg-type]
    diagonal = [w.columns(row, [t]) for t, row in enumerate(rows)]
    zero = w.op("Mul", w.op("Gather", matrix, np.int64(0), axis=1), 0.0)  # type: ignore[arg-type]
    share = w.op("Add", zero, np.full((1, count), 1.0 / count))
    for _ in range(_ROUNDS):
        share = _round(w, matrix, rows, diagonal, share)
    return share


def _round(w: Writer, matrix: str, rows: list[str], diagonal: list[str], share: str) -> str:
    """One round over all classes, for rows that have not converged."""
    count = len(rows)
    product = w.op("Squeeze", w.op("MatMul", matrix, w.op("Unsqueeze", share, np.array([2]))), np.array([2]))
    value = w.total("ReduceSum", w.op("Mul", share, product))
    error = w.total("ReduceMax", w.op("Abs", w.op("Sub", product, value)))
    is_open = w.op("GreaterOrEqual", error, 0.005 / count)
    moved = share
    for t in range(count):
        own = w.columns(product, [t])
        step = w.op("Div", w.op("Sub", value, own), diagonal[t])
        scale = w.op("Add", step, 1.0)
        gain = w.op("Mul", step, w.op("Add", w.op("Mul", step, diagonal[t]), w.op("Add", own, own)))
        value = w.op("Div", w.op("Div", w.op("Add", value, gain), scale), scale)
        product = w.op("Div", w.op("Add", product, w.op("Mul", step, rows[t])), scale)
        moved = w.op("Div", w.op("Add", moved, w.op("Mul", step, np.eye(count)[t : t + 1])), scale)
    return w.op("Where", is_open, moved, share)


def _quadratic_form(w: Writer, first_wins: str, count: int) -> str:
    """Q (rows, classes, classes): Q_tt = Σ r_jt², Q_tj = -r_jt · r_tj."""
    first, second = np.triu_indices(count, 1)
    signs, constant = np.zeros((len(first), count, count)), np.zeros((count, count))
    signs[np.arange(len(first)), first, second] = 1.0
    signs[np.arange(len(first)), second, first] = -1.0
    constant[second, first] = 1.0
    flat = w.op("MatMul", first_wins, signs.reshape(len(first), -1))
    shares = w.op("Reshape", w.op("Add", flat, constant.reshape(1, -1)), np.array([0, count, count]))
    across = w.op("Transpose", shares, perm=[0, 2, 1])
    squares = w.total("ReduceSum", w.op("Mul", across, across), 2)
    return w.op("Sub", w.op("Mul", squares, np.eye(count)[np.newaxis]), w.op("Mul", shares, across))
