"""The paired bootstrap, on sums per observation instead of rows, so that 100,000 rows cost what 1,000 do."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from paritygate.worker.parity.statistics import Bounds

Array = npt.NDArray[Any]
RESAMPLES: Final = 2000
_SEED: Final = 20_261_121
_BLOCKS: Final = 1000


def bootstrap(sums: Array, statistic: Callable[[Array], Array], alpha: float, resamples: int = RESAMPLES) -> Bounds:
    """A statistic of paired data with bounds from resampling observations with replacement.

    Percentiles of the resamples, expanded for the narrowness of small samples as in T. C. Hesterberg: What teachers
    should know about the bootstrap, The American Statistician 69 (2015) 371–386, §3.3: levels Φ(−√(n/(n−1)) · t). More
    than 1,000 observations are first summed, in a fixed random order, into 1,000 blocks of equal size, which are as
    independent as they are and have the same distribution of sums. Seeded: equal data give equal bounds.

    Args:
        sums: (observations, statistics) what the statistic needs, summed over the rows of each row or group.
        statistic: from (…, statistics) totals to (…) values.
        alpha: of each bound.
        resamples: number of resamples.
    """
    measured = float(statistic(sums.sum(axis=0)))
    if len(sums) < 2:  # noqa: PLR2004 - one observation has no spread
        return Bounds(measured, -math.inf, math.inf)
    order, weights = _resampling(len(sums), resamples)
    blocks = _blocked(sums, order)
    count = len(blocks)
    with np.errstate(all="ignore"):
        values = statistic(weights @ blocks)
    values = values[np.isfinite(values)]
    if len(values) < resamples * 0.9:
        return Bounds(measured, -math.inf, math.inf)
    level = float(special.ndtr(math.sqrt(count / (count - 1)) * special.stdtrit(count - 1, alpha)))
    lower, upper = np.quantile(values, [level, 1 - level])
    return Bounds(measured, min(float(lower), measured), max(float(upper), measured))


def by_unit(columns: Array, units: Array) -> Array:
    """(rows, statistics) summed over the rows of each unit, (units, statistics)."""
    count = int(units.max()) + 1 if len(units) else 0
    present = np.bincount(units, minlength=count) > 0
    return np.column_stack([np.bincount(units, weights=column, minlength=count)[present] for column in columns.T])


@lru_cache(maxsize=4)
def _resampling(observations: int, resamples: int) -> tuple[Array, Array]:
    """The order in which observations go to blocks, and how often each block is drawn in each resample.

    Seeded, so the same for the same sizes: metrics of one dataset share them.
    """
    random = np.random.Generator(np.random.PCG64(_SEED))
    order = random.permutation(observations) if observations > _BLOCKS else np.arange(observations)
    count = min(observations, _BLOCKS)
    return order, random.multinomial(count, np.full(count, 1.0 / count), size=resamples).astype(np.float64)


def _blocked(sums: Array, order: Array) -> Array:
    if len(sums) <= _BLOCKS:
        return sums
    starts = np.linspace(0, len(sums), _BLOCKS + 1).astype(np.int64)[:-1]
    return np.add.reduceat(sums[order], starts, axis=0)
