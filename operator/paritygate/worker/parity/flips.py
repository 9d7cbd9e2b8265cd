"""Decisions that outputs stand for, which rows flip, and which of the flips are ties."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.base import decimal
from paritygate.api.report import OutputRole
from paritygate.api.spec import Task
from paritygate.worker.parity.columns import cells, different, is_ragged
from paritygate.worker.parity.evidence import Evidence, Pair, codes_of
from paritygate.worker.parity.margins import allowed_change, argmax, classes_array, margins, own_argmax

Array = npt.NDArray[Any]
_TWO: int = 2


@dataclass(frozen=True)
class Decision:
    """One kind of decision over all items: rows, or lists where rows are ranked."""

    subject: str
    """Such as 'label', 'probabilities[1] ≥ 0.5' or 'top 3 per query_id'."""
    sides: Array | None
    """(items,) integers: what the source decided; None = lists, which have no sides."""
    flips: Array
    """(items,) bool: the candidate decides otherwise; ties included."""
    close: Array
    """(items,) bool: the source's margin is within τ and its label is the arg-max of its own scores."""
    margin: Array
    """(items,) margin of the source's decision; NaN where there are no scores."""
    units: Array
    """(items,) integers: items of one number count once."""
    close_candidate: Array
    """(items,) bool: the candidate's own margin is within τ."""
    item_rows: Array
    """(items,) a row of each item."""
    label: Pair | None = None
    label_column: int | None = None
    scores: Pair | None = None
    threshold: float | None = None
    column: int | None = None
    """Column of the scores that a threshold is compared with."""

    @property
    def ties(self) -> Array:
        """(items,) bool: flips that rounding explains."""
        return self.flips & self.close

    @property
    def real(self) -> Array:
        """(items,) bool: flips that are no ties."""
        return self.flips & ~self.close

    def labels(self, label: Pair) -> tuple[Array, Array]:
        """The source's and the candidate's labels, (rows,)."""
        return _label_column(label.reference, self.label_column), _label_column(label.candidate, self.label_column)


def decisions_of(evidence: Evidence) -> tuple[Decision, ...]:
    """All decisions that the outputs and the policy define. Computed once per evidence."""
    cached = evidence.__dict__.get("_decisions")
    if cached is None:
        cached = tuple(_decisions(evidence))
        evidence.__dict__["_decisions"] = cached
    return cached


def _decisions(evidence: Evidence) -> Iterator[Decision]:  # noqa: C901 - one branch per kind of decision
    policy = evidence.policy.validation.decisions
    labels = [pair for pair in evidence.pairs if pair.output.role is OutputRole.LABEL and not is_ragged(pair.reference)]
    scores = [pair for pair in evidence.pairs if _is_score(pair)]
    ranking = policy.group_by is not None and policy.group_by in evidence.annotations
    if ranking:
        yield from _rankings(evidence, policy.group_by or "", policy.top_k)
    for label in labels:
        yield from _label_decisions(evidence, label, scores)
    if not labels and not ranking and evidence.capture.task in (Task.CLASSIFICATION, Task.GENERIC):
        for pair in scores:
            if pair.reference.ndim == _TWO and pair.reference.shape[1] > 1:
                yield _argmax_decision(evidence, pair)
    if policy.top_k > 1 and not ranking:
        for pair in scores:
            if pair.reference.ndim == _TWO and pair.reference.shape[1] > policy.top_k:
                yield _top_k(evidence, pair, policy.top_k)
    for threshold in policy.thresholds:
        for pair in evidence.pairs:
            yield from _thresholds(evidence, pair, decimal(threshold))


def _is_score(pair: Pair) -> bool:
    return (
        pair.output.role in (OutputRole.PROBABILITIES, OutputRole.SCORES)
        and pair.tolerance is not None
        and not is_ragged(pair.reference)
        and pair.reference.ndim <= _TWO
    )


def _label_decisions(evidence: Evidence, label: Pair, scores: list[Pair]) -> Iterator[Decision]:
    if label.reference.ndim == 1 or label.reference.shape[1:] == (1,):
        yield _label_decision(evidence, label, scores[0] if scores else None, None)
        return
    width = int(np.prod(label.reference.shape[1:]))
    matched = scores if len(scores) == width else [None] * width
    for column in range(width):
        yield _label_decision(evidence, label, matched[column], column)


def _label_decision(evidence: Evidence, label: Pair, scores: Pair | None, column: int | None) -> Decision:
    reference, candidate = _label_column(label.reference, column), _label_column(label.candidate, column)
    classes = classes_array(scores.output) if scores is not None else None
    margin = np.full(evidence.rows, np.nan)
    close = np.zeros(evidence.rows, dtype=bool)
    close_candidate = np.zeros(evidence.rows, dtype=bool)
    if scores is not None and scores.tolerance is not None:
        margin, allowed = margins(scores.reference, scores)
        if classes is not None:
            close = (margin <= allowed) & ~different(reference, own_argmax(scores.reference, classes))
        close_candidate = np.less_equal(margins(scores.candidate, scores)[0], allowed)
    subject = label.output.name if column is None else f"{label.output.name}[{column}]"
    return Decision(
        subject=subject,
        sides=codes_of(reference)[0],
        flips=different(reference, candidate) | evidence.unanswered,
        close=close & ~evidence.unanswered,
        margin=margin,
        units=evidence.units,
        close_candidate=close_candidate,
        item_rows=np.arange(evidence.rows),
        label=label,
        label_column=column,
        scores=scores,
    )


def _argmax_decision(evidence: Evidence, pair: Pair) -> Decision:
    margin, allowed = margins(pair.reference, pair)
    sides = argmax(pair.reference)
    return _score_decision(
        evidence,
        pair,
        f"{pair.output.name} arg-max",
        sides,
        sides != argmax(pair.candidate),
        margin,
        margin <= allowed,
    )


def _top_k(evidence: Evidence, pair: Pair, k: int) -> Decision:
    def top(scores: Array) -> Array:
        order = np.argsort(-np.nan_to_num(scores, nan=-np.inf), axis=1, kind="stable")[:, :k]
        return np.sort(order, axis=1)

    reference = pair.reference.astype(np.float64)
    ordered = -np.sort(-np.nan_to_num(reference, nan=-np.inf), axis=1)
    margin = ordered[:, k - 1] - ordered[:, k]
    allowed = allowed_change(pair)
    mine = top(reference)
    flips = (mine != top(pair.candidate.astype(np.float64))).any(axis=1)
    sides = codes_of(mine)[0]
    return _score_decision(evidence, pair, f"{pair.output.name} top {k}", sides, flips, margin, margin <= allowed)


def _thresholds(evidence: Evidence, pair: Pair, threshold: float) -> Iterator[Decision]:
    role, reference = pair.output.role, pair.reference
    if pair.tolerance is None or is_ragged(reference) or reference.ndim > _TWO:
        return
    if role not in (OutputRole.PROBABILITIES, OutputRole.SCORES, OutputRole.PREDICTION):
        return
    width = reference.shape[1] if reference.ndim == _TWO else 1
    binary = role is not OutputRole.PREDICTION and width == _TWO
    for column in [1] if binary else range(width):
        mine = cells(reference)[:, column].astype(np.float64)
        theirs = cells(pair.candidate)[:, column].astype(np.float64)
        allowed = pair.tolerance.of(cells(reference).astype(np.float64))[:, column]
        margin = np.abs(mine - threshold)
        name = pair.output.name if width == 1 else f"{pair.output.name}[{column}]"
        sides = mine >= threshold
        yield _score_decision(
            evidence,
            pair,
            f"{name} ≥ {threshold:g}",
            sides.astype(np.int64),
            sides != (theirs >= threshold),
            margin,
            margin <= allowed,
            threshold=threshold,
            column=column,
        )


def _rankings(evidence: Evidence, group_by: str, k: int) -> Iterator[Decision]:
    lists, _ = codes_of(evidence.annotations[group_by])
    count = int(lists.max()) + 1 if len(lists) else 0
    first_rows = np.unique(lists, return_index=True)[1]
    for pair in evidence.pairs:
        wanted = (OutputRole.PREDICTION, OutputRole.SCORES)
        if pair.output.role not in wanted or pair.tolerance is None or is_ragged(pair.reference):
            continue
        if pair.reference.size != evidence.rows:
            continue
        mine = pair.reference.reshape(-1).astype(np.float64)
        theirs = pair.candidate.reshape(-1).astype(np.float64)
        top_mine, margin = _top_of_lists(mine, lists, count, k)
        top_theirs, _ = _top_of_lists(theirs, lists, count, k)
        flips = np.bincount(lists[top_mine != top_theirs], minlength=count) > 0
        allowed = np.zeros(count)
        np.maximum.at(allowed, lists, pair.tolerance.of(mine[:, None])[:, 0])
        yield Decision(
            subject=f"{pair.output.name}: top {k} per {group_by}",
            sides=None,
            flips=flips,
            close=margin <= allowed,
            margin=margin,
            units=np.arange(count),
            close_candidate=np.zeros(count, dtype=bool),
            item_rows=first_rows,
            scores=pair,
        )


def _top_of_lists(scores: Array, lists: Array, count: int, k: int) -> tuple[Array, Array]:
    """(rows,) bool: among the first k of its list; (lists,) distance from the last of these to the next."""
    comparable = np.nan_to_num(scores, nan=-np.inf)
    order = np.lexsort((np.arange(len(scores)), -comparable, lists))
    starts = np.searchsorted(lists[order], np.arange(count))
    rank = np.arange(len(scores)) - starts[lists[order]]
    top = np.zeros(len(scores), dtype=bool)
    top[order[rank < k]] = True
    margin = np.full(count, np.inf)
    last, following = order[rank == k - 1], order[rank == k]
    last_score = np.full(count, np.nan)
    last_score[lists[last]] = comparable[last]
    with np.errstate(invalid="ignore"):
        margin[lists[following]] = last_score[lists[following]] - comparable[following]
    return top, margin


def _score_decision(  # noqa: PLR0913, PLR0917 - what differs between decisions made on scores
    evidence: Evidence,
    pair: Pair,
    subject: str,
    sides: Array,
    flips: Array,
    margin: Array,
    close: Array,
    *,
    threshold: float | None = None,
    column: int | None = None,
) -> Decision:
    return Decision(
        subject=subject,
        sides=sides,
        flips=np.asarray(flips, dtype=bool) | evidence.unanswered,
        close=np.asarray(close, dtype=bool) & ~evidence.unanswered,
        margin=margin,
        units=evidence.units,
        close_candidate=np.zeros(evidence.rows, dtype=bool),
        item_rows=np.arange(evidence.rows),
        scores=pair,
        threshold=threshold,
        column=column,
    )


def _label_column(labels: Array, column: int | None) -> Array:
    flat = cells(labels)
    return np.asarray(flat[:, column or 0])
