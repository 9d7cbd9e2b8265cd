"""Task metrics as functions of sums over rows, so that bounds need no second look at the rows.

Every metric here is a `Score`: `sums` holds a few numbers per row, whose totals give the metric of the source and of
the candidate. `drop` is by how much the candidate is worse, in the metric's unit, whichever way is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from paritygate.api.spec import MetricName, Task
from paritygate.worker.parity.columns import cells
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.labelled import Answers, Labelled, labelled

Array = npt.NDArray[Any]
_SMALLEST: Final = 1e-15
"""Probabilities are clipped here before logarithms are taken, as in scikit-learn's log_loss."""
_TWO: Final = 2


@dataclass(frozen=True)
class Score:
    """A metric of source and candidate on the labelled rows."""

    name: MetricName
    rows: Array
    """(items,) a row of each item; an item is a labelled row, or a list where rows are ranked."""
    sums: Array
    """(items, statistics)."""
    values: Callable[[Array], tuple[Array, Array]]
    """From (…, statistics) totals to the source's and the candidate's metric."""
    higher_is_better: bool
    right: tuple[Array, Array] | None = None
    """(items,) bool: which rows source and candidate have right, for 0/1 metrics."""
    strata: Array | None = None
    """(items,) integers: classes of which the metric needs each; −1 = of none; None = it does not depend on any."""
    changes: Array | None = None
    """(items,) by how much an item's own part of the metric changes, in the metric's unit; None = see `right`."""
    worst: Array | None = None
    """(statistics,) what the totals gain where the candidate answers one item as badly as any that was seen, or can be
    seen; None = see `right`."""

    def drop(self, totals: Array) -> Array:
        """By how much the candidate is worse."""
        source, candidate = self.values(totals)
        return source - candidate if self.higher_is_better else candidate - source


def scores_of(evidence: Evidence, names: tuple[MetricName, ...]) -> list[Score]:
    """The named metrics, as far as the outputs allow them."""
    data = labelled(evidence)
    if data is None or not len(data.rows):
        return []
    found = (_MAKERS[name](name, data) for name in names)
    return [score for score in found if score is not None]


def default_metrics(task: Task, classes: int | None) -> tuple[MetricName, ...]:
    """What is reported where the user names no metric."""
    if task is Task.CLASSIFICATION:
        names = (MetricName.ACCURACY, MetricName.LOG_LOSS)
        return (*names, MetricName.ROC_AUC) if classes == _TWO else names
    if task is Task.REGRESSION:
        return (MetricName.RMSE, MetricName.MAE, MetricName.R2)
    return (MetricName.NDCG,) if task is Task.RANKING else ()


def _accuracy(name: MetricName, data: Labelled) -> Score | None:
    if data.source.labels is None or data.candidate.labels is None:
        return None
    right = [(side.labels == data.truth) & (data.truth >= 0) for side in (data.source, data.candidate)]
    sums = np.column_stack([np.ones(len(data.rows)), *right]).astype(np.float64)
    return Score(name, data.rows, sums, _ratios, True, right=(right[0], right[1]))


def _ratios(totals: Array) -> tuple[Array, Array]:
    return totals[..., 1] / totals[..., 0], totals[..., 2] / totals[..., 0]


def _counts(data: Labelled) -> Array:
    """(rows, 1 + 2 · 2, classes): truth, then of each side hits and predictions, one-hot by class."""
    eye = np.eye(data.classes + 1)[:, : data.classes]
    truth = eye[data.truth]
    parts = [truth]
    for side in (data.source, data.candidate):
        predicted = eye[side.labels if side.labels is not None else data.truth]
        parts += [predicted * truth, predicted]
    return np.stack(parts, axis=1)


def _per_class(name: MetricName, data: Labelled) -> Score | None:
    if data.source.labels is None or data.candidate.labels is None or data.classes < _TWO:
        return None
    counts = _counts(data)
    classes = data.classes
    only_positive = name is MetricName.F1 and classes == _TWO

    def values(totals: Array) -> tuple[Array, Array]:
        table = totals.reshape(*totals.shape[:-1], 5, classes)
        truth = table[..., 0, :]
        found = []
        for hits, predicted in ((table[..., 1, :], table[..., 2, :]), (table[..., 3, :], table[..., 4, :])):
            with np.errstate(all="ignore"):
                if name is MetricName.BALANCED_ACCURACY:
                    by_class = np.where(truth > 0, hits / truth, np.nan)
                else:
                    by_class = np.where(truth + predicted > 0, 2 * hits / (truth + predicted), np.nan)
            if only_positive:
                found.append(np.nan_to_num(by_class[..., 1]))
            else:
                known = ~np.isnan(by_class)
                found.append(np.nan_to_num(by_class).sum(axis=-1) / np.maximum(known.sum(axis=-1), 1))
        return found[0], found[1]

    right = (np.asarray(data.source.labels == data.truth), np.asarray(data.candidate.labels == data.truth))
    strata = np.where(data.truth == 1, 0, -1) if only_positive else data.truth
    sums = cells(counts)
    return Score(name, data.rows, sums, values, True, right=right, strata=strata)


def _auc(name: MetricName, data: Labelled) -> Score | None:
    """DeLong's structural components: each row's share of the area, so that areas are means of row sums.

    E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson: Comparing the areas under two or more correlated receiver
    operating characteristic curves, Biometrics 44 (1988) 837–845. Resampling them is the bootstrap's first order.
    """
    columns = _auc_columns(data)
    if not columns:
        return None
    parts, areas, scarce = [], [], len(data.rows)
    for positive, source, candidate in columns:
        count = int(positive.sum())
        scarce = min(scarce, count, len(positive) - count)
        if not 0 < count < len(positive):
            return None
        both = _placements(positive, source), _placements(positive, candidate)
        areas.append([float(own[positive, 0].mean()) for own in both])
        parts.append(np.column_stack([positive, ~positive, *both]))
    width = len(parts)

    def values(totals: Array) -> tuple[Array, Array]:
        table = totals.reshape(*totals.shape[:-1], width, 6)
        with np.errstate(all="ignore"):
            found = [
                (table[..., i] / table[..., 0] + table[..., i + 1] / table[..., 1] - full[..., j])
                for j, i in enumerate((2, 4))
            ]
        return found[0].mean(axis=-1), found[1].mean(axis=-1)

    full = np.asarray(areas)
    sums = np.column_stack(parts).astype(np.float64)
    moved = [np.abs(part[:, 2:4] - part[:, 4:6]).max(axis=1) for part in parts]
    # An item that was ranked first is ranked last: half of the items are positives, as far as is known.
    worst = np.tile([0.0, 0.0, 0.0, 0.0, -0.5, -0.5], width)
    strata = data.truth if data.classes != _TWO else np.asarray(columns[0][0], dtype=np.int64)
    return Score(
        name, data.rows, sums, values, True, strata=strata, changes=np.max(moved, axis=0), worst=worst
    )  # fmt: skip


def _auc_columns(data: Labelled) -> list[tuple[Array, Array, Array]]:
    if data.classes == _TWO and data.source.scores is not None and data.candidate.scores is not None:
        return [(data.truth == 1, data.source.scores, data.candidate.scores)]
    source, candidate = data.source.probabilities, data.candidate.probabilities
    if source is None or candidate is None or data.classes <= _TWO or source.shape[1] != data.classes:
        return []
    return [(data.truth == k, source[:, k], candidate[:, k]) for k in range(data.classes)]


def _placements(positive: Array, scores: Array) -> Array:
    """(rows, 2): of positives the share of negatives below, of negatives the share of positives above, else 0."""
    comparable = np.nan_to_num(scores, nan=-np.inf)
    ranks = _ranks(comparable)
    count = int(positive.sum())
    others = len(positive) - count
    own = np.zeros((len(positive), 2))
    own[positive, 0] = (ranks[positive] - _ranks(comparable[positive])) / others
    own[~positive, 1] = 1.0 - (ranks[~positive] - _ranks(comparable[~positive])) / count
    return own


def _ranks(values: Array) -> Array:
    """Ranks from 1, equal values sharing the mean of theirs."""
    order = np.argsort(values)
    ordered = values[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    ends = np.append(starts[1:], len(values))
    ranks = np.empty(len(values))
    ranks[order] = np.repeat((starts + 1 + ends) / 2, ends - starts)
    return ranks


def _mean_loss(name: MetricName, data: Labelled) -> Score | None:
    losses = []
    for side in (data.source, data.candidate):
        loss = _loss(name, data, side)
        if loss is None:
            return None
        losses.append(loss)
    rooted = name is MetricName.RMSE

    def values(totals: Array) -> tuple[Array, Array]:
        source, candidate = _ratios(totals)
        return (np.sqrt(source), np.sqrt(candidate)) if rooted else (source, candidate)

    sums = np.column_stack([np.ones(len(data.rows)), *losses])
    own = [np.sqrt(loss) if rooted else loss for loss in losses]
    worst = np.asarray([0.0, 0.0, np.max(sums[:, 1:])])
    return Score(name, data.rows, sums, values, False, changes=np.abs(own[1] - own[0]), worst=worst)


def _loss(name: MetricName, data: Labelled, side: Answers) -> Array | None:
    if name in (MetricName.RMSE, MetricName.MAE):
        if side.scores is None or data.classes:
            return None
        error = np.abs(side.scores - data.truth)
        return np.asarray(error**2 if name is MetricName.RMSE else error)
    if side.probabilities is None or side.probabilities.shape[1] != data.classes:
        return None
    known = np.maximum(data.truth, 0)
    if name is MetricName.LOG_LOSS:
        own = side.probabilities[np.arange(len(known)), known]
        return np.asarray(-np.log(np.clip(np.where(data.truth >= 0, own, 0.0), _SMALLEST, 1.0)))
    one_hot = np.eye(data.classes + 1)[:, : data.classes][data.truth]
    squared = ((side.probabilities - one_hot) ** 2).sum(axis=1)
    return np.asarray(squared / 2 if data.classes == _TWO else squared)


def _r2(name: MetricName, data: Labelled) -> Score | None:
    if data.source.scores is None or data.candidate.scores is None or data.classes:
        return None
    # Centred, so that squares do not cancel.
    truth = data.truth - data.truth.mean()
    squares = [(side.scores - data.truth) ** 2 for side in (data.source, data.candidate) if side.scores is not None]

    def values(totals: Array) -> tuple[Array, Array]:
        spread = totals[..., 2] - totals[..., 1] ** 2 / totals[..., 0]
        # Equal truths have no spread but what rounding leaves.
        spread = np.where(spread > _SMALLEST * np.sum(truth**2), spread, np.nan)
        with np.errstate(all="ignore"):
            return 1 - totals[..., 3] / spread, 1 - totals[..., 4] / spread

    sums = np.column_stack([np.ones(len(truth)), truth, truth**2, *squares])
    with np.errstate(all="ignore"):
        changes = np.abs(squares[1] - squares[0]) / np.var(truth)
    worst = np.asarray([0.0, 0.0, 0.0, 0.0, np.max(sums[:, 3:])])
    return Score(name, data.rows, sums, values, True, changes=changes, worst=worst)


def _ndcg(name: MetricName, data: Labelled) -> Score | None:
    """Mean over lists of DCG / ideal DCG, gains 2^relevance − 1; lists without a relevant row do not count.

    C. Burges et al.: Learning to rank using gradient descent, ICML 2005, §6.
    """
    if data.lists is None or data.source.scores is None or data.candidate.scores is None:
        return None
    gains = np.exp2(np.maximum(data.truth, 0.0)) - 1.0
    count = int(data.lists.max()) + 1
    ideal = _discounted(gains, gains, data.lists, count)
    relevant = ideal > 0
    found = [_discounted(gains, side.scores, data.lists, count) for side in (data.source, data.candidate)]  # type: ignore[arg-type]
    sums = np.column_stack(
        [relevant.astype(float), *(np.where(relevant, f / np.maximum(ideal, 1e-300), 0) for f in found)]
    )
    rows = data.rows[np.unique(data.lists, return_index=True)[1]]
    worst = np.asarray([0.0, 0.0, -1.0])
    return Score(name, rows, sums, _ratios, True, changes=np.abs(sums[:, 2] - sums[:, 1]), worst=worst)


def _discounted(gains: Array, scores: Array, lists: Array, count: int) -> Array:
    order = np.lexsort((np.arange(len(scores)), -np.nan_to_num(scores, nan=-np.inf), lists))
    starts = np.searchsorted(lists[order], np.arange(count))
    rank = np.arange(len(scores)) - starts[lists[order]]
    return np.bincount(lists[order], weights=gains[order] / np.log2(rank + 2.0), minlength=count)


_MAKERS: Final[dict[MetricName, Callable[[MetricName, Labelled], Score | None]]] = {
    MetricName.ACCURACY: _accuracy,
    MetricName.BALANCED_ACCURACY: _per_class,
    MetricName.F1: _per_class,
    MetricName.ROC_AUC: _auc,
    MetricName.LOG_LOSS: _mean_loss,
    MetricName.BRIER: _mean_loss,
    MetricName.RMSE: _mean_loss,
    MetricName.MAE: _mean_loss,
    MetricName.R2: _r2,
    MetricName.NDCG: _ndcg,
}
