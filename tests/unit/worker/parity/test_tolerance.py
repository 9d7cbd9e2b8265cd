"""τ follows the coarser datatype, the column and the source's noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paritygate.api.artifacts import Noise
from paritygate.api.report import OutputRole, OutputSignature
from paritygate.api.spec import Datatype, Numeric, OutputTolerance
from paritygate.worker.parity.tolerance import log_errors, row_errors, tolerance_of


def output(
    datatype: Datatype = Datatype.FP32, role: OutputRole = OutputRole.PREDICTION, width: int = 1
) -> OutputSignature:
    return OutputSignature(name="out", datatype=datatype, shape=(-1, width), role=role)


def tau(reference: Any, stated: Numeric | None = None, noise: Noise | None = None, **changes: Any) -> Any:
    dtype = changes.pop("dtype", "float64")
    return tolerance_of(output(**changes), np.asarray(reference), dtype, noise, stated or Numeric())


@pytest.mark.parametrize(
    ("datatype", "dtype", "rtol"),
    [
        pytest.param(Datatype.FP32, "float64", 1.3e-6, id="the wire is coarser"),
        pytest.param(Datatype.FP64, "float32", 1.3e-6, id="the source is coarser"),
        pytest.param(Datatype.FP64, "float64", 1e-7, id="both are double"),
        pytest.param(Datatype.FP16, "float64", 1e-3, id="half precision on the wire"),
        pytest.param(Datatype.BF16, "float32", 1.6e-2, id="bfloat16 on the wire"),
    ],
)
def test_the_coarser_datatype_counts(datatype: Datatype, dtype: str, rtol: float) -> None:
    assert tau([[1.0], [2.0]], datatype=datatype, dtype=dtype).rtol == rtol


def test_a_column_of_small_numbers_has_a_small_tolerance() -> None:
    found = tau(np.column_stack([np.full(9, 1e-6), np.full(9, 1e6)]), width=2)
    allowed = found.of(np.asarray([[1e-6, 1e6]]))[0]
    assert allowed == pytest.approx([1.13e-11, 11.3])


def test_rare_classes_are_judged_at_the_scale_of_a_uniform_guess() -> None:
    found = tau(np.full((9, 4), [1 - 3e-9, 1e-9, 1e-9, 1e-9]), role=OutputRole.PROBABILITIES, width=4)
    assert found.scale.tolist() == pytest.approx([1.0, 0.25, 0.25, 0.25])


def test_columns_of_mostly_zeros_take_the_median_of_the_others() -> None:
    column = np.zeros(100)
    column[:3] = [1e9, 10.0, 2.0]
    assert tau(column[:, None]).scale[0] == 10.0


@pytest.mark.parametrize(("other", "scale"), [(1e9, 1.0), (1e-3, 1e-3), (0.0, 1.0)])
def test_columns_of_zeros_take_the_size_of_the_smallest_other_column_up_to_one(other: float, scale: float) -> None:
    assert tau(np.column_stack([np.zeros(9), np.full(9, other)]), width=2).scale[0] == scale


def test_stating_rtol_alone_keeps_the_scale_of_atol() -> None:
    found = tau([[1e-4]] * 5, Numeric(rtol="1e-3"))
    assert found.of(np.asarray([[1e-4]]))[0, 0] == pytest.approx(1.01e-7)


def test_noise_widens_by_ten_floors() -> None:
    noise = Noise(output="out", floor=2e-5, rows=64)
    assert tau([[1.0]] * 5, noise=noise).of(np.asarray([[1.0]]))[0, 0] == pytest.approx(2e-4)


def test_noise_of_a_large_column_widens_a_small_one_by_no_more_than_its_own_could() -> None:
    reference = np.tile([1e6, 1e-3], (9, 1))
    found = tau(reference, noise=Noise(output="out", floor=1.0, rows=64), width=2)
    assert found.of(reference[:1])[0] == pytest.approx([11.3, 1.13e-6])


@pytest.mark.parametrize(
    ("columns", "floors"),
    [
        pytest.param((2e-5, 2e-8), [2e-4, 2e-7], id="each its own"),
        pytest.param((2e-5, 2e-5), [2e-4, 1.13e-6], id="the small one as noisy as the large one, to its bound"),
        pytest.param((2e-5, 0.0), [2e-4, 1e-7], id="one that looks quiet on few rows gets half of the usual"),
        pytest.param((2e-5,), [2e-4, 1.13e-6], id="of another number of columns, and so of none"),
    ],
)
def test_noise_by_column_widens_each_by_its_own(columns: tuple[float, ...], floors: list[float]) -> None:
    reference = np.tile([1.0, 1e-3], (9, 1))
    found = tau(reference, noise=Noise(output="out", floor=2e-5, columns=columns, rows=64), width=2)
    assert found.of(reference[:1])[0] == pytest.approx(floors)
    assert found.with_noise(4e-5).of(reference[:1])[0] == pytest.approx([4e-4, min(2 * floors[1], 1.13e-6)])


@pytest.mark.parametrize(
    "noise",
    [
        pytest.param(Noise(output="out", floor=1e-3, rows=64), id="noise above ten defaults"),
        pytest.param(Noise(output="out", floor=0.0, rows=64, stochastic=True), id="a stochastic source"),
    ],
)
def test_a_noisy_source_does_not_widen(noise: Noise) -> None:
    found = tau([[1.0]] * 5, noise=noise)
    assert found.noisy
    assert found.of(np.asarray([[1.0]]))[0, 0] == pytest.approx(1.13e-5)


def test_a_stated_tolerance_counts_literally_and_ends_the_question_of_noise() -> None:
    stated = Numeric(rtol="0.1", atol="0.5")
    found = tau([[100.0]] * 5, stated, Noise(output="out", floor=9.0, rows=64))
    assert not found.noisy
    assert found.of(np.asarray([[100.0]]))[0, 0] == pytest.approx(10.5)


def test_an_outputs_own_tolerance_comes_before_the_general_one() -> None:
    stated = Numeric(atol="1", outputs=(OutputTolerance(name="out", atol="2", rtol="0"),))
    assert tau([[100.0]] * 5, stated).of(np.asarray([[100.0]]))[0, 0] == 2.0


def test_integers_have_no_tolerance() -> None:
    assert tolerance_of(output(Datatype.INT64), np.asarray([[1], [2]]), "int64", None, Numeric()) is None


@pytest.mark.parametrize(
    ("reference", "candidate", "misplaced"),
    [
        pytest.param(np.nan, np.nan, False, id="NaN on both sides agrees"),
        pytest.param(np.nan, 1.0, True, id="NaN at the source alone"),
        pytest.param(1.0, np.nan, True, id="NaN at the candidate alone"),
        pytest.param(np.inf, np.inf, False, id="the same infinity agrees"),
        pytest.param(np.inf, -np.inf, True, id="infinities of other sign"),
        pytest.param(np.inf, np.nan, True, id="infinity against NaN"),
        pytest.param(1e300, np.inf, True, id="overflow"),
    ],
)
def test_numbers_that_are_none_are_compared_by_place(reference: float, candidate: float, misplaced: bool) -> None:
    mine, theirs = np.asarray([[1.0], [reference]]), np.asarray([[1.0], [candidate]])
    errors = row_errors(mine, theirs, tau([[1.0]] * 3))
    assert errors.misplaced.tolist() == [False, misplaced]
    assert np.isinf(errors.ratio[1]) == misplaced


def test_ragged_rows_are_compared_row_by_row() -> None:
    mine, theirs = np.empty(3, dtype=object), np.empty(3, dtype=object)
    mine[:] = [np.ones(2), np.ones(5), np.ones(1)]
    theirs[:] = [np.ones(2), np.ones(5), np.ones(1) * 2]
    errors = row_errors(mine, theirs, tau([[1.0]] * 3))
    assert errors.absolute.tolist() == [0.0, 0.0, 1.0]


def test_the_column_of_the_worst_error_is_named() -> None:
    mine = np.ones((2, 3, 4))
    theirs = mine.copy()
    theirs[1, 2, 3] += 1e-3
    theirs[1, 0, 1] += 1e-2
    assert row_errors(mine, theirs, tau(mine, width=4)).column.tolist() == [0, 1]


def test_logarithms_see_a_rare_class_that_differences_do_not() -> None:
    mine = np.tile([1 - 1e-4, 1e-4], (50, 1))
    theirs = np.tile([1 - 1.05e-4, 1.05e-4], (50, 1))
    found = tau(mine, role=OutputRole.PROBABILITIES, width=2)
    assert row_errors(mine, theirs, found).ratio.max() < 1
    assert log_errors(mine, theirs, found).ratio.max() > 1


@pytest.mark.parametrize("small", [0.0, 1e-300, 1e-12])
def test_logarithms_forgive_what_rounding_cannot_hold(small: float) -> None:
    mine = np.tile([1 - small, small], (50, 1))
    found = tau(mine, role=OutputRole.PROBABILITIES, width=2)
    assert log_errors(mine, mine.astype(np.float32), found).ratio.max() <= 1


def test_noise_of_one_answer_widens_its_own_tolerance_and_no_other() -> None:
    output = OutputSignature(name="scores", datatype=Datatype.FP32, shape=(-1, 2), role=OutputRole.SCORES)
    reference = np.asarray([[1.0, 2.0], [1.0, 2.0]], np.float32)
    plain = tolerance_of(output, reference, "float32", None, Numeric())
    assert plain is not None
    wider = plain.with_noise(1e-5)
    assert wider.of(reference)[0, 0] == pytest.approx(1e-4)
    assert plain.of(reference)[0, 0] < 2e-5
    assert plain.with_noise(1e9).of(reference).max() <= 100 * plain.of(reference).max() + 1e-12
    stated = tolerance_of(output, reference, "float32", None, Numeric(atol="1e-6"))
    assert stated is not None
    assert stated.with_noise(1.0) is stated
