"""Bounds hold as often as they say; tests and powers agree with their definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize, stats

from paritygate.worker.parity.statistics import (
    binomial_tail,
    clopper_pearson,
    holm,
    mcnemar,
    most_events,
    rows_for_difference,
    rows_for_rate,
    tango,
)

SIMULATIONS = 2000
ALPHA = 0.05
# Three standard errors of a coverage of 0.95 estimated from 2,000 data sets.
TOLERANCE = 3 * math.sqrt(0.95 * 0.05 / SIMULATIONS)


@pytest.mark.parametrize(
    ("events", "trials", "lower", "upper"),
    [
        pytest.param(0, 300, 0.0, 0.009936, id="zero flips prove less than 1% at 300 rows"),
        pytest.param(0, 3000, 0.0, 0.000998, id="zero flips prove less than 0.1% at 3,000 rows"),
        pytest.param(10, 10, 0.741134, 1.0, id="all events have no room above"),
        pytest.param(4, 50, 0.027788, 0.173790, id="agrees with the beta quantiles"),
    ],
)
def test_clopper_pearson(events: int, trials: int, lower: float, upper: float) -> None:
    bounds = clopper_pearson(events, trials, ALPHA)
    assert bounds.lower == pytest.approx(lower, abs=1e-4)
    assert bounds.upper == pytest.approx(upper, abs=1e-4)


def test_no_trials_say_nothing() -> None:
    bounds = clopper_pearson(0, 0, ALPHA)
    assert (bounds.lower, bounds.upper) == (0.0, 1.0)
    assert math.isnan(bounds.measured)


@pytest.mark.parametrize(("rate", "trials"), [(0.003, 400), (0.02, 150), (0.3, 60)])
def test_clopper_pearson_covers_the_true_rate(rate: float, trials: int) -> None:
    found = np.random.default_rng(0).binomial(trials, rate, SIMULATIONS)
    bounds = {events: clopper_pearson(int(events), trials, ALPHA) for events in np.unique(found)}
    assert np.mean([bounds[e].upper >= rate for e in found]) >= 1 - ALPHA - TOLERANCE
    assert np.mean([bounds[e].lower <= rate for e in found]) >= 1 - ALPHA - TOLERANCE


@pytest.mark.parametrize(
    ("broken", "fixed", "rows"), [(0.02, 0.02, 400), (0.05, 0.01, 200), (0.1, 0.15, 100), (0.01, 0.0, 1000)]
)
def test_tango_covers_the_true_difference(broken: float, fixed: float, rows: int) -> None:
    random = np.random.default_rng(1)
    counts = random.multinomial(rows, [broken, fixed, 1 - broken - fixed], SIMULATIONS)
    pairs, occurrences = np.unique(counts[:, :2], axis=0, return_counts=True)
    bounds = [tango(int(b), int(c), rows, ALPHA) for b, c in pairs]
    true = broken - fixed
    above = sum(n for n, x in zip(occurrences, bounds, strict=True) if x.upper >= true) / SIMULATIONS
    below = sum(n for n, x in zip(occurrences, bounds, strict=True) if x.lower <= true) / SIMULATIONS
    # Score intervals are approximate: Tango (1998), table III, finds up to 1.5 points less at small samples.
    assert above >= 1 - ALPHA - TOLERANCE - 0.015
    assert below >= 1 - ALPHA - TOLERANCE - 0.015


def test_tango_without_discordant_rows_has_its_closed_form() -> None:
    quantile = stats.norm.ppf(0.95)
    assert tango(0, 0, 200, ALPHA).upper == pytest.approx(quantile**2 / (200 + quantile**2), rel=1e-6)


def test_tango_is_antisymmetric() -> None:
    one, other = tango(12, 5, 300, ALPHA), tango(5, 12, 300, ALPHA)
    assert one.upper == pytest.approx(-other.lower, abs=1e-9)
    assert one.lower == pytest.approx(-other.upper, abs=1e-9)


def test_tango_solves_the_score_equation_at_the_restricted_maximum_likelihood() -> None:
    broken, fixed, rows = 12, 2, 50
    upper = tango(broken, fixed, rows, 0.025).upper

    def loss(nuisance: float) -> float:
        chances = np.asarray([nuisance + upper, nuisance, 1 - 2 * nuisance - upper])
        counts = np.asarray([broken, fixed, rows - broken - fixed])
        return -float((counts * np.log(np.maximum(chances, 1e-300))).sum())

    nuisance = optimize.minimize_scalar(loss, bounds=(0, (1 - upper) / 2), method="bounded", options={"xatol": 1e-12}).x
    score = (broken - fixed - rows * upper) / math.sqrt(rows * (2 * nuisance + upper * (1 - upper)))
    assert score == pytest.approx(-stats.norm.ppf(0.975), abs=1e-4)


def brute_force(broken: int, fixed: int, rows: int, quantile: float) -> tuple[float, float]:
    """Bounds from the score test alone: at each difference the likelihood is maximised anew, by bisection of its
    derivative, and the bounds are the last differences that the test does not reject.
    """

    def score(delta: float) -> float:
        def slope(chance: float) -> float:
            return broken / (chance + delta) + fixed / chance - 2 * (rows - broken - fixed) / (1 - 2 * chance - delta)

        low, high = max(0.0, -delta) + 1e-13, (1 - delta) / 2 - 1e-13
        chance = optimize.brentq(slope, low, high, xtol=1e-15) if slope(low) > 0 > slope(high) else low
        return (broken - fixed - rows * delta) / math.sqrt(rows * (2 * chance + delta - delta**2))

    middle = (broken - fixed) / rows
    upper = optimize.brentq(lambda delta: score(delta) + quantile, middle, 1 - 1e-9)
    lower = optimize.brentq(lambda delta: score(delta) - quantile, -1 + 1e-9, middle)
    return lower, upper


@pytest.mark.parametrize(
    ("broken", "fixed", "rows"),
    [(12, 2, 50), (1, 5, 60), (3, 3, 30), (40, 25, 400), (7, 0, 90), (0, 4, 200), (150, 160, 1000), (1, 0, 35)],
)
@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.005])
def test_tango_agrees_with_the_score_test_by_brute_force(broken: int, fixed: int, rows: int, alpha: float) -> None:
    bounds = tango(broken, fixed, rows, alpha)
    assert (bounds.lower, bounds.upper) == pytest.approx(
        brute_force(broken, fixed, rows, float(stats.norm.isf(alpha))), abs=1e-5
    )


@pytest.mark.parametrize("flips", [0, 3, 17])
@pytest.mark.parametrize("rows", [100, 599, 2400])
def test_the_bound_in_sentences_is_where_so_few_flips_have_one_chance_in_twenty(flips: int, rows: int) -> None:
    """One-sided: P(at most `flips` | bound) = 0.05, which for no flips is 1 − 0.05^(1/rows)."""
    upper = clopper_pearson(flips, rows, ALPHA).upper
    assert stats.binom.cdf(flips, rows, upper) == pytest.approx(0.05, rel=1e-6)
    if not flips:
        assert upper == pytest.approx(1 - 0.05 ** (1 / rows), rel=1e-9)


@pytest.mark.parametrize(("trials", "limit"), [(140, 0.01), (299, 0.01), (473, 0.01), (2000, 0.01), (50, 0.2)])
def test_most_events_is_the_last_that_passes(trials: int, limit: float) -> None:
    most = most_events(trials, limit, ALPHA)
    if most >= 0:
        assert clopper_pearson(most, trials, ALPHA).upper <= limit
    assert clopper_pearson(most + 1, trials, ALPHA).upper > limit


def test_rows_needed_without_flips_are_the_rule_of_three() -> None:
    assert rows_for_rate(0.0, 0.01, ALPHA) == 299


@pytest.mark.parametrize(("rate", "limit"), [(0.002, 0.01), (0.02, 0.01), (0.1, 0.05)])
def test_rows_needed_give_the_power_that_they_promise(rate: float, limit: float) -> None:
    rows = rows_for_rate(rate, limit, ALPHA)
    assert rows is not None
    found = np.random.default_rng(2).binomial(rows, rate, SIMULATIONS)
    bounds = {events: clopper_pearson(int(events), rows, ALPHA) for events in np.unique(found)}
    decided = [bounds[e].upper <= limit if rate < limit else bounds[e].lower > limit for e in found]
    assert np.mean(decided) >= 0.8 - 3 * math.sqrt(0.16 / SIMULATIONS)


def test_no_number_of_rows_tells_a_rate_from_itself() -> None:
    assert rows_for_rate(0.01, 0.01, ALPHA) is None
    assert rows_for_rate(0.001, 0.0, ALPHA) is None


def test_rows_for_a_difference_grow_as_the_gap_shrinks() -> None:
    bounds = tango(20, 18, 500, ALPHA)
    near, far = (rows_for_difference(bounds, limit, 500, ALPHA) for limit in (0.008, 0.02))
    assert near is not None
    assert far is not None
    assert near > far > 500


def test_mcnemar_is_the_sign_test() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(10, 0) == pytest.approx(2 * 0.5**10)


def test_holm_rejects_as_the_step_down_procedure() -> None:
    p_values = np.asarray([0.03, 0.001, 0.02, 0.4])
    rejected = p_values <= holm(p_values, ALPHA)
    assert rejected.tolist() == [False, True, False, False]


def test_holm_bounds_the_family_of_errors() -> None:
    random = np.random.default_rng(3)
    wrong = [bool((p <= holm(p, ALPHA)).any()) for p in random.random((SIMULATIONS, 12))]
    assert np.mean(wrong) <= ALPHA + TOLERANCE


def test_binomial_tail_counts_the_event_itself() -> None:
    assert binomial_tail(np.asarray(2), np.asarray(2), 0.1) == pytest.approx(0.01)
