"""Equal values get one code, whatever they are, in order of first appearance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from paritygate.worker.parity.columns import factorized

NAN = math.nan


def told_apart(values):
    """What `factorized` should give, one value after the other."""
    known, codes = [], []
    for value in values.tolist():
        key = None if value is None or (isinstance(value, float) and math.isnan(value)) else value
        codes.append(known.index(key) if key in known else len(known))
        if codes[-1] == len(known):
            known.append(key)
    return codes, known


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(st.sampled_from(["i1", "u1", "i8", "u8"]), st.integers(0, 20)))
def test_integers_of_any_range(values):
    codes, known = factorized(values)
    assert (codes.tolist(), known) == told_apart(values)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2**63 - 3, 2**63 + 3), min_size=1))
def test_integers_that_are_large_and_close_together(numbers):
    values = np.asarray(numbers, dtype=np.uint64)
    codes, known = factorized(values)
    assert (codes.tolist(), known) == told_apart(values)


@pytest.mark.parametrize(
    "cells", [["b", None, "a", NAN, "b", ""], [True, "x", 1, 2.0, 2], [float("nan"), float("nan")], []]
)
def test_text_and_what_is_missing(cells):
    values = np.empty(len(cells), dtype=object)
    values[:] = cells
    codes, known = factorized(values)
    assert (codes.tolist(), known) == told_apart(values)
