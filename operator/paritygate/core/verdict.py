"""From evidence to verdict: a pure function, computed alike where the evidence is made and where it is acted on."""

from __future__ import annotations

import math
from collections.abc import Iterable

from paritygate.api.report import Check, Measurement, SummaryLine, Verdict

_SEVERITY = (Verdict.ERROR, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED)


def result_of_measurement(measurement: Measurement) -> Verdict:
    """What one number says by itself, whether or not it blocks.

    Zero rows and anything unjudged are Inconclusive; a number that is not finite is Failed. An exact number passes at
    `measured` ≤ `limit`; a statistical one passes at `upper` ≤ `limit`, fails at `lower` > `limit`, and is
    Inconclusive between. Without a limit a number is only reported, and passes.
    """
    if measurement.rows == 0 or measurement.unjudged is not None:
        return Verdict.INCONCLUSIVE
    if measurement.limit is None:
        return Verdict.PASSED
    if measurement.measured is None or not math.isfinite(measurement.limit):
        return Verdict.INCONCLUSIVE
    if not math.isfinite(measurement.measured):
        return Verdict.FAILED
    if measurement.lower is None or measurement.upper is None:
        return Verdict.PASSED if measurement.measured <= measurement.limit else Verdict.FAILED
    if not (math.isfinite(measurement.lower) and math.isfinite(measurement.upper)):
        return Verdict.INCONCLUSIVE
    if measurement.upper <= measurement.limit:
        return Verdict.PASSED
    return Verdict.FAILED if measurement.lower > measurement.limit else Verdict.INCONCLUSIVE


def result_of_check(measurements: Iterable[Measurement]) -> Verdict:
    """The worst result among those that block, or among all where none blocks; Inconclusive where there is none."""
    measured = tuple(measurements)
    judged = tuple(m for m in measured if m.blocking) or measured
    return _worst(result_of_measurement(m) for m in judged)


def verdict_of(checks: Iterable[Check | SummaryLine]) -> Verdict:
    """The worst result among checks that block; Inconclusive when nothing blocks, since nothing was then proved."""
    return _worst(check.result for check in checks if check.blocking)


def _worst(results: Iterable[Verdict]) -> Verdict:
    found = set(results)
    return next((result for result in _SEVERITY if result in found), Verdict.INCONCLUSIVE)
