"""Makes checks of measurements, and words for numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from paritygate.api.report import Check, CheckName, Measurement, Verdict
from paritygate.core.verdict import result_of_check, result_of_measurement

_ORDER = (Verdict.ERROR, Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED)
_THOUSAND = 1_000
_MANY = 1e5
_ABSURD = 1e12


def check(name: CheckName, measurements: Iterable[Measurement], message: str = "") -> Check:
    """A check with the result that follows from its measurements. `message`: None or "" = of the decisive one."""
    measured = tuple(measurements)
    decisive = decisive_of(measured)
    return Check(
        name=name,
        result=result_of_check(measured),
        blocking=any(m.blocking for m in measured),
        message=message or (sentence(decisive) if decisive else "Nothing could be measured."),
        measurements=measured,
    )


def decisive_of(measurements: Sequence[Measurement]) -> Measurement | None:
    """The measurement that a check's result hangs on: blocking before reported, worst first, nearest to its limit."""
    return min(
        measurements,
        key=lambda m: (not m.blocking, _ORDER.index(result_of_measurement(m)), -_closeness(m)),
        default=None,
    )


def sentence(m: Measurement) -> str:
    """What a measurement says, in one sentence."""
    if m.unjudged is not None:
        return f"{m.subject}: {m.statistic} cannot be judged: {m.unjudged}."
    if m.message is not None:
        return m.message
    text = f"{m.subject}: {m.statistic} is {number(m.measured)}"
    if m.upper is not None and m.lower is not None:
        text += f" (between {number(m.lower)} and {number(m.upper)})"
    if m.limit is not None:
        text += f"; {number(m.limit)} is allowed"
    return text + "."


def number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return "unknown"
    if value == int(value) if math.isfinite(value) else False:
        return f"{int(value):,}" if abs(value) < _MANY else f"{value:.3g}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if _THOUSAND <= abs(rounded) < _MANY else f"{rounded:.3g}"


def times(ratio: float) -> str:
    """A ratio as '17,700 times', three significant digits."""
    return f"{int(float(f'{ratio:.3g}')):,} times" if 100 <= ratio < _ABSURD else f"{ratio:.3g} times"  # noqa: PLR2004


def percent(rate: float) -> str:
    """A rate in percent, three significant digits."""
    return f"{100 * rate:.3g}%"


def at_most(bound: float) -> float:
    """An upper bound to three significant digits, never below itself: 0.010002 is at most 0.0101, not 0.01."""
    return _rounded(bound, ROUND_CEILING)


def at_least(bound: float) -> float:
    """A lower bound to three significant digits, never above itself."""
    return _rounded(bound, ROUND_FLOOR)


def _rounded(value: float, rounding: str) -> float:
    if not math.isfinite(value) or value == 0:
        return value
    exact = Decimal(value)
    return float(exact.quantize(Decimal((0, (1,), exact.adjusted() - 2)), rounding=rounding))


def count(amount: int, noun: str) -> str:
    """`amount` with its noun, in the plural where it should be."""
    return f"{amount:,} {noun[:-1] if amount == 1 and noun.endswith('s') else noun}"


def _closeness(m: Measurement) -> float:
    value = m.upper if m.upper is not None else m.measured
    if value is None or m.limit is None:
        return -math.inf
    if math.isnan(value):
        return math.inf
    return value / m.limit if m.limit > 0 else (math.inf if value > 0 else 0.0)
