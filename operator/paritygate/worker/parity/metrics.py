"""Metrics: the candidate is no worse at the task than the source, by a margin δ."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.base import decimal
from paritygate.api.report import Check, CheckName, Measurement
from paritygate.api.spec import Equivalence, Metric, MetricName
from paritygate.worker.parity.bootstrap import bootstrap, by_unit
from paritygate.worker.parity.evidence import MIN_ROWS, Evidence
from paritygate.worker.parity.measure import check, number
from paritygate.worker.parity.scoring import Score, default_metrics, scores_of
from paritygate.worker.parity.statistics import Bounds, clopper_pearson, mcnemar, rows_for_difference, tango

Array = npt.NDArray[Any]


def metrics(evidence: Evidence) -> Check:
    """Is the model as good at its task on the labelled rows?"""
    stated = {metric.name: metric for metric in evidence.policy.validation.metrics}
    names = tuple(stated) or default_metrics(evidence.capture.task, _classes(evidence))
    measurements = []
    for score in scores_of(evidence, names):
        metric = stated.get(score.name, Metric(name=score.name))
        measurements.append(measured(evidence, score, limit_of(metric), blocking=_blocks(evidence, metric)))
    found = {m.subject for m in measurements}
    measurements += [
        _missing(metric.name, blocking=_blocks(evidence, metric))
        for metric in stated.values()
        if metric.name.value not in found
    ]
    return check(CheckName.METRICS, measurements, "" if measurements else "There are no labels to compute a metric on.")


def limit_of(metric: Metric) -> float | None:
    """δ; None = only reported."""
    return None if metric.max_drop is None else decimal(metric.max_drop)


def measured(
    evidence: Evidence, score: Score, limit: float | None, *, blocking: bool, subject: str | None = None
) -> Measurement:
    """The drop of one metric with its bounds."""
    sums = by_unit(score.sums, evidence.units[score.rows])
    bounds = _bounds(evidence, score, sums)
    open_question = limit is not None and bounds.lower <= limit < bounds.upper
    unjudged = _too_few(score, len(sums))
    return Measurement(
        subject=subject or score.name.value,
        statistic="drop" if subject is None else f"drop in {score.name.value}",
        rows=len(sums),
        measured=bounds.measured if math.isfinite(bounds.measured) else None,
        lower=bounds.lower if math.isfinite(bounds.lower) else None,
        upper=bounds.upper if math.isfinite(bounds.upper) else None,
        limit=limit,
        blocking=blocking,
        unjudged=unjudged if blocking else None,
        rows_needed=(
            rows_for_difference(bounds, limit, len(sums), evidence.policy.alpha)
            if open_question and limit is not None
            else None
        ),
        smallest_damage=_damage(score, bounds, limit),
        message=_message(evidence, score, bounds, limit, subject),
    )


def _blocks(evidence: Evidence, metric: Metric) -> bool:
    return metric.max_drop is not None and evidence.policy.equivalence in (Equivalence.METRIC, Equivalence.DECISION)


def _bounds(evidence: Evidence, score: Score, sums: Array) -> Bounds:
    alpha = evidence.policy.alpha
    if score.name is MetricName.ACCURACY and score.right is not None and len(sums) == len(score.rows):
        broken, fixed = _discordant(score)
        return tango(broken, fixed, len(sums), alpha)
    bounds = bootstrap(sums, score.drop, alpha)
    if score.right is None:
        return bounds
    broken, fixed = _discordant(score)
    if broken + fixed >= MIN_ROWS:
        return bounds
    # Too few discordant rows to resample: what the rate of broken rows could do at worst, all in the scarcest class.
    rate = clopper_pearson(broken, len(score.rows), alpha).upper
    worst = rate * len(score.rows) / max(score.scarce or len(score.rows), 1)
    return Bounds(bounds.measured, bounds.lower, max(bounds.upper, min(worst, 1.0)))


def _discordant(score: Score) -> tuple[int, int]:
    if score.right is None:
        return 0, 0
    source, candidate = score.right
    return int((source & ~candidate).sum()), int((candidate & ~source).sum())


def _too_few(score: Score, units: int) -> str | None:
    if units < MIN_ROWS:
        return f"only {units:,} labelled rows or groups; at least {MIN_ROWS} are needed"
    if score.scarce is not None and score.scarce < MIN_ROWS:
        return f"only {score.scarce:,} rows of the scarcest class; at least {MIN_ROWS} are needed"
    return None


def _damage(score: Score, bounds: Bounds, limit: float | None) -> str | None:
    if limit is None or not math.isfinite(bounds.upper):
        return None
    return f"a drop in {score.name.value} of {number(max(limit - (bounds.upper - bounds.measured), 0.0))}"


def _message(evidence: Evidence, score: Score, bounds: Bounds, limit: float | None, subject: str | None) -> str:
    source, candidate = (float(value) for value in score.values(score.sums.sum(axis=0)))
    name = score.name.value if subject is None else f"{subject}: {score.name.value}"
    text = f"{name}: {number(source)} for the source, {number(candidate)} for the candidate; worse by at most "
    text += f"{number(bounds.upper)} with {100 * evidence.policy.confidence:g}% confidence"
    text += f", {number(limit)} is allowed" if limit is not None else ", only reported"
    if score.right is not None and subject is None:
        broken, fixed = _discordant(score)
        text += f"; {broken:,} rows broken, {fixed:,} fixed (McNemar p = {mcnemar(broken, fixed):.2g})"
    return text + "."


def _missing(name: MetricName, *, blocking: bool) -> Measurement:
    return Measurement(
        subject=name.value,
        statistic="drop",
        rows=0,
        blocking=blocking,
        unjudged="the labels or the outputs that it needs are missing, or only one class is labelled",
    )


def _classes(evidence: Evidence) -> int | None:
    return next((len(output.classes) for output in evidence.capture.signature.outputs if output.classes), None)


def task_metric(evidence: Evidence) -> Metric:
    """The first metric that the user states, else the task's own; accuracy where nothing says more."""
    stated = evidence.policy.validation.metrics
    if stated:
        return stated[0]
    names = default_metrics(evidence.capture.task, None)
    return Metric(name=names[0] if names else MetricName.ACCURACY)


def rows_of(score: Score, chosen: Array) -> Score:
    """The same metric on a part of the items; `chosen`: (items,) bool."""
    return Score(
        name=score.name,
        rows=score.rows[chosen],
        sums=score.sums[chosen],
        values=score.values,
        higher_is_better=score.higher_is_better,
        right=(score.right[0][chosen], score.right[1][chosen]) if score.right is not None else None,
        scarce=int(np.count_nonzero(chosen)) if score.scarce is not None else None,
    )
