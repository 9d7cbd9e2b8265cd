"""Decisions: the share of rows, or lists, that are decided otherwise, ties apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from paritygate.api.report import Check, CheckName, Measurement
from paritygate.api.spec import Equivalence
from paritygate.worker.parity.evidence import MIN_ROWS, Evidence, count_units
from paritygate.worker.parity.flips import Decision, decisions_of
from paritygate.worker.parity.measure import at_least, at_most, check, count, percent
from paritygate.worker.parity.rows import worst_rows
from paritygate.worker.parity.statistics import clopper_pearson, most_events, rows_for_rate


def decisions(evidence: Evidence) -> Check:
    """Do at most `maxFlipRate` of all future rows get another decision?"""
    blocking = evidence.policy.equivalence is Equivalence.DECISION
    measurements = [m for decision in decisions_of(evidence) for m in _measured(evidence, decision, blocking=blocking)]
    if not measurements:
        message = "No decision is defined for these outputs; state validation.decisions.thresholds to define one."
        if blocking:
            measurements = [
                Measurement(
                    subject="all outputs", statistic="flip rate", rows=0, blocking=True,
                    unjudged="no decision is defined; state validation.decisions.thresholds or groupBy",
                )
            ]  # fmt: skip
        return check(CheckName.DECISIONS, measurements, message)
    return check(CheckName.DECISIONS, measurements)


def _measured(evidence: Evidence, decision: Decision, *, blocking: bool) -> Iterator[Measurement]:
    policy = evidence.policy.validation.decisions
    total = count_units(decision.units)
    one_sided = _one_sided(decision)
    flipped, tied = count_units(decision.units[decision.real]), count_units(decision.units[decision.ties])
    limit = float(policy.max_flip_rate)
    noun = evidence.unit_name if decision.sides is not None else "lists"
    flips = _Count("flip rate", flipped, total, limit, noun)
    yield _rate(evidence, decision.subject, flips, blocking=blocking, unjudged=one_sided).model_copy(
        update={
            "worst": _worst(evidence, decision),
            "message": _message(evidence, decision, flips),
        }
    )
    ties = _Count("tie rate", tied, total, float(policy.max_tie_rate), noun)
    yield _rate(evidence, decision.subject, ties, blocking=blocking).model_copy(update={"smallest_damage": None})


@dataclass(frozen=True)
class _Count:
    """Events among items, and the rate that is allowed."""

    statistic: str
    events: int
    total: int
    limit: float
    noun: str


def _rate(
    evidence: Evidence, subject: str, counted: _Count, *, blocking: bool, unjudged: str | None = None
) -> Measurement:
    events, total, limit = counted.events, counted.total, counted.limit
    alpha = evidence.policy.alpha
    bounds = clopper_pearson(events, total, alpha)
    open_question = total and bounds.lower <= limit < bounds.upper
    most = most_events(total, limit, alpha)
    return Measurement(
        subject=subject,
        statistic=counted.statistic,
        rows=total,
        measured=bounds.measured if total else None,
        lower=bounds.lower,
        upper=bounds.upper,
        limit=limit,
        blocking=blocking,
        unjudged=unjudged if blocking else None,
        rows_needed=rows_for_rate(bounds.measured, limit, alpha) if open_question else None,
        smallest_damage=f"{most + 1:,} flipped {counted.noun} in {total:,}" if 0 <= most < total else None,
    )


def _one_sided(decision: Decision) -> str | None:
    """Why the data hold too little of one side: the source's most frequent decision against all others."""
    if decision.sides is None:
        return None
    counts = [count_units(decision.units[decision.sides == side]) for side in np.unique(decision.sides)[:1000]]
    if not counts:
        return None
    largest = max(counts)
    others = sum(counts) - largest
    fewer = min(largest, others)
    if fewer >= MIN_ROWS:
        return None
    return f"only {fewer:,} rows lie on one side of the decision; at least {MIN_ROWS} are needed"


def _worst(evidence: Evidence, decision: Decision) -> tuple[object, ...]:
    if decision.sides is None:
        error, margin = np.zeros(evidence.rows), np.full(evidence.rows, np.nan)
        error[decision.item_rows], margin[decision.item_rows] = decision.real, decision.margin
    else:
        error, margin = decision.real.astype(float), decision.margin
    # Among flips, those that the source decided most clearly.
    finite = np.where(np.isfinite(margin), margin, 0.0)
    rows = worst_rows(evidence, error * (1.0 + finite), margin)
    return tuple(row.model_copy(update={"error": None}) for row in rows)


def _message(evidence: Evidence, decision: Decision, counted: _Count) -> str:
    flipped, total, limit, noun = counted.events, counted.total, counted.limit, counted.noun
    bounds = clopper_pearson(flipped, total, evidence.policy.alpha)
    confidence = f"{100 * evidence.policy.confidence:g}% confidence"
    if bounds.lower > limit:
        return (
            f"{decision.subject}: {flipped:,} of {count(total, noun)} flip ({percent(bounds.measured)}, at least "
            f"{percent(at_least(bounds.lower))} with {confidence}); {percent(limit)} is allowed."
        )
    return (
        f"{decision.subject}: {flipped:,} of {count(total, noun)} flip, and at most "
        f"{percent(at_most(bounds.upper))} of future ones would, with {confidence}; {percent(limit)} is allowed."
    )
