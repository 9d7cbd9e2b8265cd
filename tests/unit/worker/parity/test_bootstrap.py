"""The bootstrap covers, repeats itself, and does not see how rows are laid out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from paritygate.worker.parity.bootstrap import bootstrap, by_unit

SIMULATIONS = 1000
ALPHA = 0.05
TOLERANCE = 3 * math.sqrt(ALPHA * (1 - ALPHA) / SIMULATIONS)


def mean(totals: Any) -> Any:
    return totals[..., 1] / totals[..., 0]


def root(totals: Any) -> Any:
    return np.sqrt(totals[..., 2] / totals[..., 0]) - np.sqrt(totals[..., 1] / totals[..., 0])


@pytest.mark.parametrize("size", [60, 300])
def test_bounds_of_a_mean_cover_it(size: int) -> None:
    random = np.random.default_rng(0)
    above = below = 0
    for _ in range(SIMULATIONS):
        values = random.normal(0.3, 1.0, size)
        bounds = bootstrap(np.column_stack([np.ones(size), values]), mean, ALPHA, resamples=300)
        above += bounds.upper >= 0.3
        below += bounds.lower <= 0.3
    # 300 resamples leave the quantiles themselves uncertain by half a point.
    assert above / SIMULATIONS >= 1 - ALPHA - TOLERANCE - 0.005
    assert below / SIMULATIONS >= 1 - ALPHA - TOLERANCE - 0.005


def test_bounds_of_a_paired_difference_of_errors_cover_it() -> None:
    random = np.random.default_rng(1)
    size, above = 200, 0
    true = math.sqrt(1.1**2) - 1.0
    for _ in range(SIMULATIONS):
        noise = random.normal(size=size)
        squares = np.column_stack([np.ones(size), noise**2, (1.1 * noise) ** 2])
        above += bootstrap(squares, root, ALPHA, resamples=300).upper >= true
    assert above / SIMULATIONS >= 1 - ALPHA - TOLERANCE - 0.015


def test_blocks_of_many_rows_keep_the_spread() -> None:
    random = np.random.default_rng(2)
    widths = []
    for _ in range(20):
        values = random.normal(size=20_000)
        bounds = bootstrap(np.column_stack([np.ones(len(values)), values]), mean, ALPHA)
        widths.append(bounds.upper - bounds.lower)
    assert np.mean(widths) == pytest.approx(2 * 1.6449 / math.sqrt(20_000), rel=0.05)


def test_equal_data_give_equal_bounds() -> None:
    sums = np.column_stack([np.ones(500), np.random.default_rng(3).random(500)])
    assert bootstrap(sums, mean, ALPHA) == bootstrap(sums.copy(), mean, ALPHA)


def test_one_observation_has_no_bounds() -> None:
    bounds = bootstrap(np.asarray([[1.0, 2.0]]), mean, ALPHA)
    assert bounds.measured == 2.0
    assert math.isinf(bounds.upper)


def test_rows_of_a_unit_are_summed() -> None:
    columns = np.asarray([[1.0, 10.0], [1.0, 20.0], [1.0, 5.0]])
    assert by_unit(columns, np.asarray([3, 0, 3])).tolist() == [[1.0, 20.0], [2.0, 15.0]]
