"""Recognises well-known defects by what they do to answers, so that the diagnosis can name them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.report import CheckName, OutputRole
from paritygate.api.spec import Datatype
from paritygate.worker.parity.columns import cells, is_ragged
from paritygate.worker.parity.evidence import Evidence, Pair
from paritygate.worker.parity.tolerance import row_errors

Array = npt.NDArray[Any]
_MOST_CLASSES: Final = 50
_SHARE: Final = 0.99
_ROWS: Final = 5000
_TWO: Final = 2


def symptom(evidence: Evidence, check: CheckName) -> str | None:
    """One sentence that names the defect; None = it is not one that is recognised."""
    for pair in evidence.pairs:
        if (
            pair.tolerance is None
            or is_ragged(pair.reference)
            or not _beyond(pair.reference, pair.candidate, pair).any()
        ):
            continue
        for recognise in (_permuted, _logits, _probabilities, _constant, _half_precision, _affine):
            found = recognise(pair)
            if found is not None:
                return f"{pair.output.name}: {found}"
    shifted = _labels_shifted(evidence)
    if shifted is not None:
        return shifted
    return _only_some_inputs(evidence) if check is not CheckName.PROBES else None


def _matrix(pair: Pair) -> tuple[Array, Array]:
    return (
        cells(pair.reference)[:_ROWS].astype(np.float64),
        cells(pair.candidate)[:_ROWS].astype(np.float64),
    )


def _beyond(reference: Array, candidate: Array, pair: Pair) -> Array:
    if pair.tolerance is None:
        return np.zeros(len(reference), dtype=bool)
    return np.asarray(row_errors(reference, candidate, pair.tolerance).ratio > 1)


def _explains(reference: Array, candidate: Array) -> bool:
    """Whether a transformed candidate agrees with the source in nearly all rows, loosely."""
    with np.errstate(all="ignore"):
        close = np.isclose(reference, candidate, rtol=1e-3, atol=1e-4 * max(float(np.nanmax(np.abs(reference))), 1e-12))
    return bool(close.all(axis=1).mean() >= _SHARE)


def _permuted(pair: Pair) -> str | None:
    reference, candidate = _matrix(pair)
    width = reference.shape[1]
    if not _TWO <= width <= _MOST_CLASSES:
        return None
    distance = np.nanmean(np.abs(reference[:, :, None] - candidate[:, None, :]), axis=0)
    order = distance.argmin(axis=1)
    if (order == np.arange(width)).all() or len(set(order.tolist())) < width:
        return None
    if not _explains(reference, candidate[:, order]):
        return None
    if pair.output.role in (OutputRole.PROBABILITIES, OutputRole.SCORES):
        return (
            f"the classes stand in another order: column i of the source is column {order.tolist()}[i] of the candidate"
        )
    return f"the columns stand in another order: column i of the source is column {order.tolist()}[i] of the candidate"


def _logits(pair: Pair) -> str | None:
    if pair.output.role is not OutputRole.PROBABILITIES:
        return None
    reference, candidate = _matrix(pair)
    if reference.shape[1] < _TWO:
        return None
    with np.errstate(all="ignore"):
        exponent = np.exp(candidate - candidate.max(axis=1, keepdims=True))
        if _explains(reference, exponent / exponent.sum(axis=1, keepdims=True)):
            return "the candidate answers logits; the final softmax is missing"
        if _explains(reference, 1 / (1 + np.exp(-candidate))):
            return "the candidate answers scores before the logistic function"
        if _explains(reference, np.exp(candidate)):
            return "the candidate answers log-probabilities"
        squared = np.exp(reference) / np.exp(reference).sum(axis=1, keepdims=True)
    if _explains(squared, candidate):
        return "the candidate applies softmax to what are probabilities already"
    return None


def _probabilities(pair: Pair) -> str | None:
    if pair.output.role is OutputRole.PROBABILITIES:
        return None
    reference, candidate = _matrix(pair)
    with np.errstate(all="ignore"):
        exponent = np.exp(reference - reference.max(axis=1, keepdims=True))
        if reference.shape[1] > 1 and _explains(exponent / exponent.sum(axis=1, keepdims=True), candidate):
            return "the candidate answers softmax probabilities where the source answers scores"
        if _explains(1 / (1 + np.exp(-reference)), candidate):
            return "the candidate applies the logistic function, which the source does not"
    return None


def _constant(pair: Pair) -> str | None:
    reference, candidate = _matrix(pair)
    if len(candidate) > 1 and (candidate == candidate[0]).all() and not (reference == reference[0]).all():
        return "the candidate answers every row alike"
    return None


def _half_precision(pair: Pair) -> str | None:
    reference, candidate = _matrix(pair)
    if np.isinf(candidate).any() and not np.isinf(reference).any():
        return "values overflow to infinity, as they do in a narrower datatype such as float16"
    with np.errstate(all="ignore"):
        rounded = candidate.astype(np.float16).astype(np.float64) == candidate
    if rounded.mean() >= _SHARE and np.allclose(reference, candidate, rtol=1e-2, atol=1e-3):
        return "the candidate's answers are rounded to float16"
    return None


def _affine(pair: Pair) -> str | None:
    reference, candidate = _matrix(pair)
    if pair.output.role is OutputRole.PROBABILITIES or len(reference) < 10 or not np.isfinite(candidate).all():  # noqa: PLR2004
        return None
    mine, theirs = reference.ravel(), candidate.ravel()
    if not np.isfinite(mine).all() or np.ptp(mine) == 0 or np.ptp(theirs) == 0:
        return None
    slope, offset = np.polyfit(mine, theirs, 1)
    if slope == 0 or not np.allclose(mine * slope + offset, theirs, rtol=1e-4, atol=1e-6 * float(np.abs(theirs).max())):
        return None
    return f"the candidate answers {slope:.4g} times the source's value, plus {offset:.4g}"


def _labels_shifted(evidence: Evidence) -> str | None:
    for pair in evidence.pairs:
        mine, theirs = pair.reference, pair.candidate
        if pair.output.role is not OutputRole.LABEL or is_ragged(mine) or mine.dtype.kind not in "iu":
            continue
        difference = np.unique(theirs.astype(np.int64) - mine.astype(np.int64))
        if len(difference) == 1 and difference[0] != 0:
            return f"{pair.output.name}: every label is off by {int(difference[0])}"
        table = {int(a): int(b) for a, b in zip(mine.reshape(-1), theirs.reshape(-1), strict=True)}
        mapped = np.asarray([table[int(value)] for value in mine.reshape(-1)[:_ROWS]])
        same = len(table) > 1 and (mapped == theirs.reshape(-1)[:_ROWS]).all() and any(a != b for a, b in table.items())
        if same and len(set(table.values())) == len(table):
            return (
                f"{pair.output.name}: labels are exchanged: {', '.join(f'{a} → {b}' for a, b in sorted(table.items()))}"
            )
    return None


def _only_some_inputs(evidence: Evidence) -> str | None:
    """The property of the input that all differing rows share and no equal row has."""
    wrong = np.zeros(evidence.rows, dtype=bool)
    for errors in evidence.errors.values():
        wrong |= errors.ratio > 1
    if not wrong.any() or wrong.all():
        return None
    best: tuple[float, str] | None = None
    for name, holds in _properties(evidence):
        if holds.any() and wrong[holds].mean() >= 0.9 and wrong[holds].sum() >= 0.9 * wrong.sum():  # noqa: PLR2004
            score = float(wrong[holds].mean())
            if best is None or score > best[0]:
                best = (score, name)
    return f"only rows with {best[1]} differ" if best else None


def _properties(evidence: Evidence) -> list[tuple[str, Array]]:
    found: list[tuple[str, Array]] = []
    names = evidence.capture.columns
    for tensor in evidence.capture.signature.inputs:
        column = np.asarray(evidence.inputs[tensor.name])
        if is_ragged(column):
            continue
        lines = cells(column)
        if tensor.datatype is Datatype.BYTES:
            texts = lines[:, 0]
            values, counts = np.unique(np.asarray([str(v) for v in texts]), return_counts=True)
            found += [
                (f"{tensor.name}={v}", np.asarray(texts == v)) for v in values[np.argsort(-counts)][:_MOST_CLASSES]
            ]
            found.append((f"capital letters in {tensor.name}", np.asarray([str(v) != str(v).lower() for v in texts])))
            continue
        if lines.dtype.kind != "f":
            continue
        for position in range(min(lines.shape[1], 200)):
            values = lines[:, position]
            name = names[position] if len(names) == lines.shape[1] > 1 else tensor.name
            found.append((f"{name} missing", np.isnan(values)))
            found.append((f"{name} = 0", values == 0))
            found.append((f"{name} < 0", values < 0))
    return found


_Recogniser = Callable[[Pair], str | None]
