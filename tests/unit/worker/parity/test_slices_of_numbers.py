"""Slices of models that decide nothing: regressors and embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paritygate.api.report import Check, Measurement, OutputRole, Verdict
from paritygate.api.spec import Dataset, Equivalence, Metric, MetricName, Slice, Task
from paritygate.worker.parity.evidence import Evidence
from paritygate.worker.parity.slices import slices

ROWS = 2000
NUMERIC, DECISION, METRIC = Equivalence.NUMERIC, Equivalence.DECISION, Equivalence.METRIC


def sliced(regressor: Any, equivalence: Equivalence, *, labelled: bool = True, **changes: Any) -> Evidence:
    """Rows of two countries, three quarters of them DE, with a regressor's answers."""
    stated = Slice(column="country", **{"critical": False, **changes})
    country = np.where(np.arange(ROWS) % 4 == 0, "FR", "DE").astype(object)
    return regressor(
        ROWS,
        equivalence=equivalence,
        annotations={"country": country},
        labelled=labelled,
        dataset=Dataset(uri="holdout.npz", label="y" if labelled else None, slices=(stated,)),
        metrics=(Metric(name=MetricName.RMSE, max_drop="0.1"),) if labelled else (),
    )


def off_in_france(evidence: Evidence, share: float, amount: float) -> Evidence:
    """The candidate errs by `amount`, up or down, in a share of the rows of FR."""
    rows = np.flatnonzero(evidence.annotations["country"] == "FR")
    rows = rows[: int(share * len(rows))]
    prediction = evidence.candidate["prediction"].copy()
    prediction[rows] += (amount * np.where(np.arange(len(rows)) % 2, 1, -1)).astype(np.float32)
    return evidence.with_candidate({"prediction": prediction})


def of(check: Check, subject: str, statistic: str) -> Measurement:
    return next(m for m in check.measurements if m.subject == subject and m.statistic.startswith(statistic))


@pytest.mark.parametrize("equivalence", [NUMERIC, DECISION])
def test_the_share_of_rows_beyond_tolerance_is_the_harm(regressor: Any, equivalence: Equivalence) -> None:
    found = slices(off_in_france(sliced(regressor, equivalence, labelled=False), 0.2, 5.0))
    harmed = of(found, "country=FR", "share beyond tolerance, at least")
    assert harmed.rows == ROWS // 4
    assert harmed.measured is not None
    assert 0.15 < harmed.measured < 0.2
    assert of(found, "country=DE", "share beyond tolerance, at least").measured == 0
    assert "1 slice of 2 harmed. country=FR: 100 of 500 rows lie beyond tolerance" in found.message
    assert not found.blocking


def test_slices_of_a_sound_regressor_show_no_harm(regressor: Any) -> None:
    for equivalence in (NUMERIC, DECISION, METRIC):
        assert slices(sliced(regressor, equivalence)).message.startswith("No evidence of harm in ")


def test_holm_keeps_chance_from_harming_one_of_many_slices(regressor: Any) -> None:
    evidence = sliced(regressor, DECISION, labelled=False)
    column = (np.arange(ROWS) % 20).astype(str).astype(object)
    evidence = replace(evidence, annotations={"country": column})
    prediction = evidence.candidate["prediction"].copy()
    # 4 of 100 rows: p = 0.018 alone, which is nothing among 20 slices.
    prediction[np.flatnonzero(column == "7")[:4]] += 9
    assert slices(evidence.with_candidate({"prediction": prediction})).message.startswith("No evidence of harm")
    prediction[np.flatnonzero(column == "7")[:12]] += 9
    assert "1 slice of 20 harmed. country=7" in slices(evidence.with_candidate({"prediction": prediction})).message


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        pytest.param(0.0, Verdict.PASSED, id="no row beyond tolerance"),
        pytest.param(0.02, Verdict.INCONCLUSIVE, id="two percent may be more than one"),
        pytest.param(0.2, Verdict.FAILED, id="a fifth is too much"),
    ],
)
def test_a_critical_slice_has_a_budget_of_rows_beyond_tolerance(
    regressor: Any, share: float, expected: Verdict
) -> None:
    evidence = sliced(regressor, DECISION, labelled=False, critical=True, max_flip_rate="0.015")
    found = slices(off_in_france(evidence, share, 5.0))
    measured = of(found, "country=FR", "share beyond tolerance")
    assert measured.blocking
    assert measured.limit == 0.015
    assert found.result is expected
    if expected is Verdict.FAILED:
        assert len(measured.worst) == 5
        assert measured.worst[0].error == 1.0


def test_a_critical_slice_is_reported_under_numeric_and_does_not_block(regressor: Any) -> None:
    found = slices(off_in_france(sliced(regressor, NUMERIC, labelled=False, critical=True), 0.2, 5.0))
    measured = of(found, "country=FR", "share beyond tolerance")
    assert not measured.blocking
    assert measured.measured == 0.2


def test_a_model_trained_anew_is_judged_by_the_metric_alone(regressor: Any) -> None:
    evidence = sliced(regressor, METRIC)
    anew = evidence.with_candidate({"prediction": evidence.candidate["prediction"] + np.float32(0.01)})
    found = slices(anew)
    assert {m.statistic for m in found.measurements} == {f"drop in {MetricName.RMSE.value}, at least"}
    assert found.message.startswith("No evidence of harm")


def test_a_metric_that_drops_in_one_slice_is_harm(regressor: Any) -> None:
    found = slices(off_in_france(sliced(regressor, METRIC), 1.0, 2.0))
    assert "country=FR" in found.message
    assert "is worse by" in found.message
    harmed = of(found, "country=FR", "drop in ")
    assert harmed.measured is not None
    assert harmed.limit == 0.1
    assert harmed.measured > 1


@pytest.mark.parametrize(("amount", "expected"), [(0.0, Verdict.PASSED), (2.0, Verdict.FAILED)])
def test_a_critical_slice_has_a_budget_of_its_own_for_the_metric(
    regressor: Any, amount: float, expected: Verdict
) -> None:
    evidence = sliced(regressor, METRIC, critical=True, max_drop="0.3")
    found = slices(off_in_france(evidence, 1.0, amount))
    assert found.result is expected
    assert found.blocking
    assert of(found, "country=FR", "drop in ").limit == 0.3


def test_embeddings_are_judged_by_rows_too(regressor: Any) -> None:
    evidence = sliced(regressor, DECISION, labelled=False)
    vectors = np.random.default_rng(0).normal(size=(ROWS, 8))
    signature = evidence.capture.signature
    output = signature.outputs[0].model_copy(update={"shape": (-1, 8), "role": OutputRole.TENSOR})
    capture = evidence.capture.model_copy(
        update={"signature": signature.model_copy(update={"outputs": (output,)}), "task": Task.GENERIC}
    )
    candidate = vectors.astype(np.float32)
    candidate[:200:4] *= 1.01
    evidence = replace(
        evidence, capture=capture, reference={"prediction": vectors}, candidate={"prediction": candidate}
    )
    assert "country=FR: 50 of 500 rows lie beyond tolerance" in slices(evidence).message
