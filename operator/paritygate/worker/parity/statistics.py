"""Bounds and tests, exact where an exact method exists. Bounds are one-sided: each holds with the stated confidence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

# Not scipy.stats, whose import takes longer than all that is computed here.
from scipy import special

Array = npt.NDArray[Any]
POWER: Final = 0.8
_MOST_ROWS: Final = 100_000_000
"""Beyond so many, no number of rows is worth naming."""


@dataclass(frozen=True)
class Bounds:
    """A number with its lower and upper confidence bound."""

    measured: float
    lower: float
    upper: float


def clopper_pearson(events: int, trials: int, alpha: float) -> Bounds:
    """Rate of `events` in `trials` with exact bounds, each of confidence 1 − alpha; 0 and 1 for no trials.

    C. J. Clopper, E. S. Pearson: The use of confidence or fiducial limits illustrated in the case of the binomial,
    Biometrika 26 (1934) 404–413.
    """
    if trials == 0:
        return Bounds(math.nan, 0.0, 1.0)
    lower = float(special.betaincinv(events, trials - events + 1, alpha)) if events else 0.0
    upper = float(special.betaincinv(events + 1, trials - events, 1 - alpha)) if events < trials else 1.0
    return Bounds(events / trials, lower, upper)


def most_events(trials: int, limit: float, alpha: float) -> int:
    """The most events in `trials` whose upper bound is still ≤ `limit`; −1 where not even none is few enough."""
    if trials == 0 or clopper_pearson(0, trials, alpha).upper > limit:
        return -1
    low, high = 0, trials
    while high - low > 1:
        middle = (low + high) // 2
        if clopper_pearson(middle, trials, alpha).upper <= limit:
            low = middle
        else:
            high = middle
    return trials if limit >= 1.0 else low


def rows_for_rate(rate: float, limit: float, alpha: float, power: float = POWER) -> int | None:
    """Trials after which a true `rate` is told from `limit` with `power`; None = no sensible number does.

    Exact for the binomial: the least number, up to its saw-tooth, at which `rate` < `limit` passes, or
    `rate` > `limit` fails, with probability `power`.
    """
    if limit <= 0 or math.isclose(rate, limit, rel_tol=1e-3):
        return None
    low, high = 1, 2
    while not _tells(rate, limit, alpha, high, power):
        low, high = high, high * 2
        if high > _MOST_ROWS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if _tells(rate, limit, alpha, middle, power):
            high = middle
        else:
            low = middle
    return high


def _tells(rate: float, limit: float, alpha: float, trials: int, power: float) -> bool:
    if rate < limit:
        most = most_events(trials, limit, alpha)
        return most >= 0 and float(special.bdtr(most, trials, rate)) >= power
    # By the duality of test and interval, the lower bound exceeds the limit at counts whose tail under it is < alpha.
    least = _rejected(trials, limit, alpha)
    return float(special.bdtrc(least - 1, trials, rate)) >= power


def _rejected(trials: int, limit: float, alpha: float) -> int:
    """The least events in `trials` whose probability of being reached at rate `limit` is at most `alpha`."""
    low, high = 0, trials + 1
    while low < high:
        middle = (low + high) // 2
        if special.bdtrc(middle - 1, trials, limit) <= alpha:
            high = middle
        else:
            low = middle + 1
    return low


def rows_for_difference(bounds: Bounds, limit: float, rows: int, alpha: float, power: float = POWER) -> int | None:
    """Rows after which a difference as measured is told from `limit` with `power`, by the normal approximation.

    n · ((z_α + z_β) · s / (limit − measured))², with s from the bound that faces the limit.
    """
    gap = limit - bounds.measured
    spread = bounds.upper - bounds.measured if gap > 0 else bounds.measured - bounds.lower
    if gap == 0 or rows == 0 or not (math.isfinite(gap) and math.isfinite(spread)):
        return None
    quantile = float(special.ndtri(1 - alpha))
    needed = rows * ((quantile + float(special.ndtri(power))) * spread / quantile / gap) ** 2
    return max(rows + 1, math.ceil(needed)) if needed <= _MOST_ROWS else None


def tango(broken: int, fixed: int, rows: int, alpha: float) -> Bounds:
    """Difference of two paired proportions, (broken − fixed) / rows, with score bounds.

    Inverts the score test with the nuisance parameter at its restricted maximum likelihood. T. Tango: Equivalence
    test and confidence interval for the difference in proportions for the paired-sample design, Statistics in
    Medicine 17 (1998) 891–908, equations 12 to 17.

    Args:
        broken: rows that only the first of the pair (the source) has right.
        fixed: rows that only the second (the candidate) has right.
        rows: all rows.
        alpha: of each bound.
    """
    if rows == 0:
        return Bounds(math.nan, -1.0, 1.0)
    difference = (broken - fixed) / rows
    quantile = float(special.ndtri(1 - alpha))

    def score(delta: float) -> float:
        b = -broken - fixed + (2 * rows - broken + fixed) * delta
        c = -fixed * delta * (1 - delta)
        nuisance = (math.sqrt(max(b * b - 8 * rows * c, 0.0)) - b) / (4 * rows)
        variance = rows * (2 * nuisance + delta * (1 - delta))
        distance = broken - fixed - rows * delta
        if variance <= 0:
            return math.copysign(math.inf, distance) if distance else 0.0
        return distance / math.sqrt(variance)

    upper = _root(lambda delta: score(delta) + quantile, difference, 1.0)
    lower = _root(lambda delta: score(delta) - quantile, -1.0, difference)
    return Bounds(difference, lower, upper)


def _root(decreasing: Callable[[float], float], low: float, high: float) -> float:
    for _ in range(60):
        middle = (low + high) / 2
        if decreasing(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def mcnemar(broken: int, fixed: int) -> float:
    """Two-sided exact p-value that `broken` and `fixed` rows are equally likely; a diagnostic, no evidence of parity.

    Q. McNemar: Note on the sampling error of the difference between correlated proportions, Psychometrika 12 (1947)
    153–157, in its exact, conditional form.
    """
    if broken + fixed == 0:
        return 1.0
    return min(1.0, 2.0 * float(special.bdtr(min(broken, fixed), broken + fixed, 0.5)))


def holm(p_values: Array, alpha: float) -> Array:
    """Per hypothesis the level at which Holm's step-down procedure judges it; 0 after the first that is kept.

    S. Holm: A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6 (1979)
    65–70. Hypothesis *i* is rejected where its p-value is at most the level returned.
    """
    count = len(p_values)
    levels = np.zeros(count)
    for rank, position in enumerate(np.argsort(p_values, kind="stable")):
        level = alpha / (count - rank)
        levels[position] = level
        if p_values[position] > level:
            # What comes later is kept whatever its p-value is: judged at the level at which the procedure stopped.
            rest = np.argsort(p_values, kind="stable")[rank:]
            levels[rest] = level
            break
    return levels


def binomial_tail(events: Array, trials: Array, limit: float) -> Array:
    """P(X ≥ events) for X ~ Bin(trials, limit): the p-value that a rate does not exceed `limit`."""
    return np.asarray(special.bdtrc(np.asarray(events) - 1.0, trials, limit))
