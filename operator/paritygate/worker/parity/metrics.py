"""Metrics: the candidate is no worse at the task than the source, by a margin δ."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.base import decimal
from paritygate.api.report import Check, CheckName, Measurement
from paritygate.api.spec import Equivalence, Metric, MetricName
from paritygate.worker.parity.bootstrap import bootstrap, by_unit
from paritygate.worker.parity.evidence import MIN_ROWS, Evidence, count_units
from paritygate.worker.parity.measure import at_most, check, number
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
    return check(CheckName.METRICS, measurements, "" if measurements else _nothing(evidence))


def _nothing(evidence: Evidence) -> str:
    if evidence.policy.validation.dataset.label is None:
        return "There are no labels to compute a metric on."
    task = evidence.capture.task
    return f"No metric is known for task {task}; state validation.task, or validation.metrics, to have one computed."


def limit_of(metric: Metric) -> float | None:
    """δ; None = only reported."""
    return None if metric.max_drop is None else decimal(metric.max_drop)


def measured(
    evidence: Evidence, score: Score, limit: float | None, *, blocking: bool, subject: str | None = None
) -> Measurement:
    """The drop of one metric with its bounds."""
    units = evidence.units[score.rows]
    sums = by_unit(score.sums, units)
    bounds = _bounds(evidence, score, sums, limit)
    bounded = math.isfinite(bounds.lower) and math.isfinite(bounds.upper)
    open_question = limit is not None and bounds.lower <= limit < bounds.upper
    unjudged = _too_few(score, units)
    if not bounded and limit is not None:
        unjudged = unjudged or "resampling these rows does not bound it: the labels vary too little"
    return Measurement(
        subject=subject or score.name.value,
        statistic="drop" if subject is None else f"drop in {score.name.value}",
        rows=len(sums),
        measured=bounds.measured if math.isfinite(bounds.measured) else None,
        lower=bounds.lower if bounded else None,
        upper=bounds.upper if bounded else None,
        limit=limit,
        blocking=blocking,
        unjudged=unjudged if blocking or not bounded else None,
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


def _bounds(evidence: Evidence, score: Score, sums: Array, limit: float | None) -> Bounds:
    alpha = evidence.policy.alpha
    if score.name is MetricName.ACCURACY and score.right is not None and len(sums) == len(score.rows):
        broken, fixed = _discordant(score)
        return tango(broken, fixed, len(sums), alpha)
    bounds = bootstrap(sums, score.drop, alpha)
    if limit is None or not len(sums) or not math.isfinite(bounds.measured):
        return bounds
    return Bounds(bounds.measured, bounds.lower, max(bounds.upper, _unseen(evidence, score, sums, limit)))


def _unseen(evidence: Evidence, score: Score, sums: Array, limit: float) -> float:
    """The drop if as many units were broken as may be, where too few are discordant for resampling to show it.

    Resampling knows only what the rows hold: of forty rows that are answered alike it says that nothing can go wrong.
    A unit is discordant where its own part of the metric changes by more than δ, or where it is right on one side only.
    """
    units = evidence.units[score.rows]
    if score.right is not None:
        source, candidate = score.right
        discordant, broken = source != candidate, source & ~candidate
    else:
        discordant = broken = ~((score.changes if score.changes is not None else np.zeros(len(units))) <= limit)
    if count_units(units[discordant]) >= MIN_ROWS:
        return -math.inf
    total = count_units(units)
    largest = float(np.bincount(units).max()) * total / len(units)
    rate = min(clopper_pearson(count_units(units[broken]), total, evidence.policy.alpha).upper * largest, 1.0)
    if score.worst is None:
        return min(rate * len(units) / max(_scarce(score, np.arange(len(units))), 1), 1.0)
    return float(score.drop(sums.sum(axis=0) + rate * len(units) * score.worst))


def _discordant(score: Score) -> tuple[int, int]:
    if score.right is None:
        return 0, 0
    source, candidate = score.right
    return int((source & ~candidate).sum()), int((candidate & ~source).sum())


def _too_few(score: Score, units: Array) -> str | None:
    total = count_units(units)
    if total < MIN_ROWS:
        return f"only {total:,} labelled rows or groups; at least {MIN_ROWS} are needed"
    scarce = _scarce(score, units)
    if score.strata is not None and scarce < MIN_ROWS:
        return f"only {scarce:,} rows of the scarcest class; at least {MIN_ROWS} are needed"
    return None


def _scarce(score: Score, units: Array) -> int:
    """Distinct units of the scarcest class that is there, or all where the metric needs no class."""
    if score.strata is None:
        return count_units(units)
    present = np.unique(score.strata[score.strata >= 0])
    return min((count_units(units[score.strata == stratum]) for stratum in present), default=0)


def _damage(score: Score, bounds: Bounds, limit: float | None) -> str | None:
    if limit is None or not math.isfinite(bounds.upper):
        return None
    return f"a drop in {score.name.value} of {number(max(limit - (bounds.upper - bounds.measured), 0.0))}"


def _message(evidence: Evidence, score: Score, bounds: Bounds, limit: float | None, subject: str | None) -> str:
    source, candidate = (float(value) for value in score.values(score.sums.sum(axis=0)))
    name = score.name.value if subject is None else f"{subject}: {score.name.value}"
    text = f"{name}: {number(source)} for the source, {number(candidate)} for the candidate; worse by at most "
    text += f"{number(at_most(bounds.upper))} with {100 * evidence.policy.confidence:g}% confidence"
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
    return replace(
        score,
        rows=score.rows[chosen],
        sums=score.sums[chosen],
        right=(score.right[0][chosen], score.right[1][chosen]) if score.right is not None else None,
        strata=score.strata[chosen] if score.strata is not None else None,
        changes=score.changes[chosen] if score.changes is not None else None,
    )
