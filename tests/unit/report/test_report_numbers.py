"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from paritygate.api.report import Measurement
from paritygate.report import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (-0.0, "0"),
        (2000, "2,000"),
        (999_999, "999,999"),
        (1_000_000, "1e6"),
        (97_612.34, "97,600"),
        (3.14159, "3.14"),
        (0.9999, "1"),
        (0.0099951, "0.01"),
        (0.0372, "0.0372"),
        (0.00099996, "0.001"),
        (1.234e-7, "1.23e-7"),
        (-1.5, "−1.5"),
        (-2.5e9, "−2.5e9"),
        (math.nan, "NaN"),
        (math.inf, "∞"),
        (-math.inf, "−∞"),
        (5e-324, "4.94e-324"),
    ],
)
def test_a_number_has_three_significant_digits(value: float | None, text: str) -> None:
    assert numbers.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0%"), (0.0123, "1.23%"), (0.312, "31.2%"), (1.0, "100%"), (None, "–"), (math.nan, "NaN")]
)
def test_a_share_is_a_percentage(value: float | None, text: str) -> None:
    assert numbers.percent(value) == text


@pytest.mark.parametrize(
    ("statistic", "is_share"),
    [
        ("flip rate", True),
        ("tie rate", True),
        ("share of rows", True),
        ("flip rate, at least", True),
        ("largest error / tolerance", False),
        ("drop", False),
        ("separate trees", False),
    ],
)
def test_rates_are_shares(statistic: str, is_share: bool) -> None:
    assert numbers.is_share(Measurement(subject="x", statistic=statistic, rows=1, blocking=True)) is is_share


def test_answers_show_as_many_digits_as_tell_them_apart() -> None:
    assert numbers.answers(0.5, 0.50000012) == ("0.5", "0.5000001")
    assert numbers.answers([0.25, 0.75], [0.75, 0.25]) == ("[0.25, 0.75]", "[0.75, 0.25]")
    assert numbers.answers({"label": 1}, {"label": 1}) == ("label 1", "label 1")
    assert numbers.answers(math.nan, 1.0) == ("NaN", "1")


def test_values_of_any_kind_fit_on_a_line() -> None:
    assert numbers.answer(None) == "missing"
    assert numbers.answer(True) == "true"
    assert numbers.answer("") == "“”"
    assert numbers.answer(1_700_000_000_123) == "1,700,000,000,123"
    assert numbers.answer(list(range(20))) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, … 8 more]"
    assert numbers.answer({"a": [1.0, None]}) == "a [1, missing]"


def test_counts_have_separators_and_the_right_noun() -> None:
    assert numbers.count(1, "row") == "1 row"
    assert numbers.count(2000, "row") == "2,000 rows"
