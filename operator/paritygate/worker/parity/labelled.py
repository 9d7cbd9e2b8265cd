"""Answers of both sides beside the truth: what task metrics are computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.report import OutputRole
from paritygate.api.spec import Task
from paritygate.worker.parity.columns import cells, is_ragged, text
from paritygate.worker.parity.evidence import Evidence, Pair, codes_of
from paritygate.worker.parity.margins import classes_array, own_argmax

Array = npt.NDArray[Any]
_TWO: Final = 2


@dataclass(frozen=True)
class Answers:
    """What metrics read of one side."""

    labels: Array | None
    """(rows,) codes of predicted classes, −1 = a class that is not known."""
    probabilities: Array | None
    """(rows, classes) float64."""
    scores: Array | None
    """(rows,) score of the positive class, or the prediction."""


@dataclass(frozen=True)
class Labelled:
    """The labelled rows."""

    rows: Array
    truth: Array
    """(rows,) codes of classes, or float64 targets."""
    classes: int
    source: Answers
    candidate: Answers
    lists: Array | None = None


def labelled(evidence: Evidence) -> Labelled | None:
    """The rows that carry a label, with both sides' answers; None = no labels, or no output that they belong to."""
    column = evidence.policy.validation.dataset.label
    if column is None or column not in evidence.annotations:
        return None
    truth = evidence.annotations[column]
    truth = cells(np.asarray(truth.values() if hasattr(truth, "codes") else truth))[:, 0]
    if evidence.capture.task in (Task.REGRESSION, Task.RANKING):
        return _targets(evidence, truth)
    label = next((p for p in evidence.pairs if p.output.role is OutputRole.LABEL and _single(p)), None)
    scores = next(
        (p for p in evidence.pairs if p.output.role is OutputRole.PROBABILITIES and p.output.classes and _matrix(p)),
        None,
    ) or next((p for p in evidence.pairs if p.output.role is OutputRole.SCORES and p.output.classes), None)
    if label is None and scores is None:
        return None
    return _classes(truth, label, scores)


def _single(pair: Pair) -> bool:
    return not is_ragged(pair.reference) and pair.reference.size == len(pair.reference)


def _matrix(pair: Pair) -> bool:
    return not is_ragged(pair.reference) and pair.reference.ndim == _TWO


def _targets(evidence: Evidence, truth: Array) -> Labelled | None:
    pair = next(
        (
            p
            for p in evidence.pairs
            if p.output.role in (OutputRole.PREDICTION, OutputRole.SCORES, OutputRole.TENSOR)
            and p.tolerance is not None
            and _single(p)
        ),
        None,
    )
    if pair is None or truth.dtype.kind not in "biuf":
        return None
    values = truth.astype(np.float64)
    rows = np.flatnonzero(np.isfinite(values))
    group_by = evidence.policy.validation.decisions.group_by
    lists = None
    if group_by is not None and group_by in evidence.annotations:
        lists = codes_of(evidence.annotations[group_by])[0][rows]
    sides = [
        Answers(None, None, column.reshape(-1).astype(np.float64)[rows]) for column in (pair.reference, pair.candidate)
    ]
    return Labelled(rows, values[rows], 0, sides[0], sides[1], lists)


def _classes(truth: Array, label: Pair | None, scores: Pair | None) -> Labelled | None:
    classes = classes_array(scores.output) if scores is not None else classes_array(label.output) if label else None
    if classes is None:
        _, found = codes_of(label.reference.reshape(-1) if label is not None else np.arange(0))
        classes = np.asarray(sorted(found, key=str))
    known = {_key(value): code for code, value in enumerate(classes.tolist())}
    codes = _codes(truth, known)
    rows = np.flatnonzero(~_missing(truth))
    if not len(rows) or (codes[rows] < 0).all():
        return None

    def side(reference: bool) -> Answers:
        labels = None
        if label is not None:
            labels = _codes((label.reference if reference else label.candidate).reshape(-1), known)[rows]
        elif scores is not None:
            labels = _codes(own_argmax(scores.reference if reference else scores.candidate, classes), known)[rows]
        column = None
        if scores is not None:
            values = scores.reference if reference else scores.candidate
            column = cells(values).astype(np.float64)[rows]
        probabilities = column if scores is not None and scores.output.role is OutputRole.PROBABILITIES else None
        ranked = None
        if column is not None and (column.shape[1] == 1 or column.shape[1] == _TWO):
            ranked = column[:, -1]
        return Answers(labels, probabilities, ranked)

    return Labelled(rows, codes[rows], len(classes), side(reference=True), side(reference=False))


def _key(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        value = int(value)
    return str(value)


def _codes(values: Array, known: dict[str, int]) -> Array:
    codes, found = codes_of(values)
    table = np.asarray([known.get(_key(value), -1) for value in found] or [-1], dtype=np.int64)
    return np.asarray(table[codes])


def _missing(values: Array) -> Array:
    if values.dtype == object:
        return np.asarray(text(values) == "")
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(len(values), dtype=bool)
