"""How far a row is from being decided otherwise, and what a row of scores decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.report import OutputSignature
from paritygate.worker.parity.columns import cells
from paritygate.worker.parity.evidence import Pair

Array = npt.NDArray[Any]
_TWO: int = 2


def margins(scores: Array, pair: Pair) -> tuple[Array, Array]:
    """(rows,) distance between the two highest scores, or of a single score from 0, and τ there."""
    values = cells(scores).astype(np.float64)
    if values.shape[1] == 1:
        return np.abs(values[:, 0]), allowed_change(pair)
    highest = np.partition(values, values.shape[1] - 2, axis=1)[:, -2:]
    with np.errstate(all="ignore"):
        return highest[:, 1] - highest[:, 0], allowed_change(pair)


def allowed_change(pair: Pair) -> Array:
    """(rows,) by how much the score of one column may differ within the tolerance."""
    if pair.tolerance is None:
        return np.zeros(len(pair.reference))
    allowed = pair.tolerance.of(cells(pair.reference).astype(np.float64))
    return np.asarray(allowed.max(axis=1))


def classes_array(output: OutputSignature) -> Array | None:
    """Labels in the order of the scores' last axis; None = not known."""
    if not output.classes:
        return None
    if all(isinstance(label, str) for label in output.classes):
        return np.asarray(output.classes, dtype=object)
    return np.asarray(output.classes)


def own_argmax(scores: Array, classes: Array) -> Array:
    """(rows,) the class with the highest score, the first of equals."""
    values = cells(scores)
    if values.shape[1] == 1 and len(classes) == _TWO:
        return np.asarray(classes[(values[:, 0] > 0).astype(np.int64)])
    return np.asarray(classes[np.minimum(argmax(values), len(classes) - 1)])


def argmax(scores: Array) -> Array:
    """(rows,) the column of the highest score; NaN is never the highest."""
    return np.asarray(np.argmax(np.nan_to_num(scores, nan=-np.inf), axis=1))
