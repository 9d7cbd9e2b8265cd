"""Numeric: element errors against τ, probabilities also as logarithms; what is no number must be equal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from paritygate.api.report import Check, CheckName, Measurement, OutputRole
from paritygate.api.spec import Equivalence
from paritygate.worker.parity.columns import different
from paritygate.worker.parity.evidence import Evidence, Pair, count_units
from paritygate.worker.parity.flips import decisions_of
from paritygate.worker.parity.measure import check, count, number, times
from paritygate.worker.parity.rows import worst_rows
from paritygate.worker.parity.statistics import clopper_pearson
from paritygate.worker.parity.tolerance import RowErrors, log_errors


def numeric(evidence: Evidence) -> Check:
    """Is every number of every row within tolerance, and everything else equal?"""
    blocking = evidence.policy.equivalence is Equivalence.NUMERIC
    measurements = list(measured(evidence, blocking=blocking))
    if not measurements and blocking:
        measurements = [_nothing()]
    return check(CheckName.NUMERIC, measurements)


def measured(evidence: Evidence, *, blocking: bool, with_logs: bool = True) -> Iterator[Measurement]:
    """Measurements of every output that both sides answered in one shape."""
    for pair in evidence.pairs:
        if pair.tolerance is None:
            yield from _exact(evidence, pair, blocking=blocking)
            continue
        yield _errors(evidence, pair, evidence.errors[pair.output.name], blocking=blocking)
        if with_logs and pair.output.role is OutputRole.PROBABILITIES and not pair.tolerance.stated:
            errors = log_errors(pair.reference, pair.candidate, pair.tolerance)
            yield _errors(evidence, pair, errors, blocking=blocking, logs=True)


def _errors(evidence: Evidence, pair: Pair, errors: RowErrors, *, blocking: bool, logs: bool = False) -> Measurement:
    name = f"log {pair.output.name}" if logs else pair.output.name
    worst = float(errors.ratio.max(initial=0.0))
    beyond = errors.ratio > 1
    message = _message(evidence, name, errors, worst, beyond)
    damage = None
    if not logs and pair.tolerance is not None:
        damage = f"a change of {number(pair.tolerance.smallest)} in one number of {pair.output.name} in one row"
    return Measurement(
        subject=name,
        statistic="largest error / tolerance",
        rows=count_units(evidence.units[errors.compared]),
        measured=worst,
        limit=1.0,
        blocking=blocking,
        smallest_damage=damage,
        message=message,
        worst=worst_rows(evidence, errors.ratio if not np.isfinite(errors.absolute).all() else errors.absolute)
        if not logs
        else (),
    )


def _message(evidence: Evidence, name: str, errors: RowErrors, worst: float, beyond: npt.NDArray[Any]) -> str:
    if not beyond.any():
        return f"{name}: the largest error is {number(worst)} of what is allowed, over {evidence.rows:,} rows."
    share = f"{int(beyond.sum()):,} of {evidence.rows:,} rows lie beyond the tolerance"
    if not np.isfinite(worst):
        return f"{name}: {share}, and some are NaN or infinite where the source's are not, or the reverse."
    row = int(np.argmax(errors.ratio))
    return f"{name}: {share}, the worst, row {row}, by {times(worst)} the tolerance."


def _exact(evidence: Evidence, pair: Pair, *, blocking: bool) -> Iterator[Measurement]:
    unequal = different(pair.reference, pair.candidate) | evidence.unanswered
    ties = np.zeros(evidence.rows, dtype=bool)
    margin = np.full(evidence.rows, np.nan)
    decided = [d for d in decisions_of(evidence) if d.label is not None and d.label.output.name == pair.output.name]
    if decided:
        unequal = np.logical_or.reduce([d.real for d in decided])
        ties = np.logical_or.reduce([d.ties for d in decided]) & ~unequal
        margin = decided[0].margin
    wrong = int(unequal.sum())
    yield Measurement(
        subject=pair.output.name,
        statistic="rows that differ" + (", ties apart" if decided else ""),
        rows=evidence.unit_count,
        measured=float(wrong),
        limit=0.0,
        blocking=blocking,
        smallest_damage=f"one other {pair.output.name} in one row",
        message=(
            f"{pair.output.name}: {count(wrong, 'rows')} of {evidence.rows:,} differ."
            if wrong
            else f"{pair.output.name}: equal in all {evidence.rows:,} rows" + (", ties apart." if ties.any() else ".")
        ),
        worst=worst_rows(evidence, unequal * (1.0 + np.nan_to_num(margin)), margin),
    )
    if ties.any():
        yield _ties(evidence, pair.output.name, ties, blocking=blocking)


def _ties(evidence: Evidence, name: str, ties: npt.NDArray[Any], *, blocking: bool) -> Measurement:
    tied = count_units(evidence.units[ties])
    limit = float(evidence.policy.validation.decisions.max_tie_rate)
    bounds = clopper_pearson(tied, evidence.unit_count, evidence.policy.alpha)
    return Measurement(
        subject=name,
        statistic="tie rate",
        rows=evidence.unit_count,
        measured=bounds.measured,
        lower=bounds.lower,
        upper=bounds.upper,
        limit=limit,
        blocking=blocking,
        message=f"{name}: {count(tied, evidence.unit_name)} that the source decides within its tolerance are tied "
        f"otherwise.",
    )


def _nothing() -> Measurement:
    return Measurement(
        subject="all outputs",
        statistic="largest error / tolerance",
        rows=0,
        blocking=True,
        unjudged="no output could be compared; see the contract",
    )
