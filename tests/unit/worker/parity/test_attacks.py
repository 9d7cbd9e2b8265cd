"""Attacks on the gate: answers that are wrong in ways a check could overlook. None may pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paritygate.api.artifacts import Noise, Probe
from paritygate.api.report import CheckName, OutputRole, OutputSignature, Verdict
from paritygate.api.spec import Dataset, Datatype, Equivalence, Metric, MetricName, Numeric, Slice
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.evidence import Evidence, ProbeAnswer
from paritygate.worker.parity.judge import judge
from paritygate.worker.parity.report import Circumstances, report_of

METRIC = Equivalence.METRIC


def verdict(evidence: Evidence) -> Verdict:
    return verdict_of(judge(evidence))


def result(evidence: Evidence, name: CheckName) -> Verdict:
    return next(check.result for check in judge(evidence) if check.name is name)


def columns_evidence(regressor: Any, reference: Any, noise: Noise | None = None, **validation: Any) -> Evidence:
    """A source that answers several numbers a row; the candidate answers the same, in FP32."""
    rows, width = reference.shape
    output = OutputSignature(name="prediction", datatype=Datatype.FP32, shape=(-1, width), role=OutputRole.PREDICTION)
    evidence = regressor(rows, **validation)
    evidence = replace(
        evidence, reference={"prediction": reference}, candidate={"prediction": reference.astype(np.float32)}
    )
    signature = evidence.capture.signature.model_copy(update={"outputs": (output,)})
    changes = {"signature": signature} | ({"noise": (noise,)} if noise else {})
    return replace(evidence, capture=evidence.capture.model_copy(update=changes))


def off(evidence: Evidence, change: Any, rows: Any = slice(None)) -> Evidence:
    """The candidate's predictions in `rows`, changed."""
    prediction = np.asarray(evidence.candidate["prediction"], dtype=np.float64).copy()
    prediction[rows] = change(prediction[rows])
    return evidence.with_candidate({"prediction": prediction.astype(np.float32)})


def test_an_outlier_among_mostly_zeros_hides_no_error(regressor: Any) -> None:
    random = np.random.default_rng(0)
    prediction = np.where(random.random(1000) < 0.4, random.uniform(1, 2, 1000), 0.0)
    prediction[-1] = 1e9
    evidence = regressor(prediction=prediction)
    assert verdict(evidence) is Verdict.PASSED
    assert verdict(off(evidence, lambda p: np.where(p > 0, p + 50, 0), slice(0, -1))) is Verdict.FAILED


def test_squares_that_overflow_hide_no_error(regressor: Any) -> None:
    prediction = np.where(np.arange(1000) % 3 == 0, 1.0 + np.arange(1000), 0.0)
    prediction[0] = 1e200
    evidence = replace(regressor(), reference={"prediction": prediction})
    evidence = evidence.with_candidate({"prediction": np.where(prediction == 1e200, 1e200, prediction * 2)})
    assert result(evidence, CheckName.NUMERIC) is Verdict.FAILED


def test_a_column_of_zeros_beside_large_numbers_stays_zero(regressor: Any) -> None:
    large = np.random.default_rng(0).normal(size=1000) * 1e9
    evidence = columns_evidence(regressor, np.column_stack([large, np.zeros(1000)]))
    assert verdict(evidence) is Verdict.PASSED
    assert verdict(off(evidence, lambda p: p + np.asarray([0, 5000.0]))) is Verdict.FAILED


def test_noise_of_a_large_column_excuses_no_error_in_a_small_one(regressor: Any) -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=(1000, 2)) * [1e6, 1e-3]
    evidence = columns_evidence(regressor, reference, Noise(output="prediction", floor=1.0, rows=64))
    assert verdict(evidence) is Verdict.PASSED
    assert verdict(off(evidence, lambda p: p * np.asarray([1, 100.0]))) is Verdict.FAILED


def test_a_stated_rtol_does_not_bring_an_absolute_tolerance_with_it(regressor: Any) -> None:
    prediction = np.random.default_rng(0).uniform(1, 2, 1000) * 1e-4
    evidence = regressor(prediction=prediction, numeric=Numeric(rtol="1e-3"))
    assert verdict(evidence) is Verdict.PASSED
    assert verdict(off(evidence, lambda p: p * 1.05)) is Verdict.FAILED


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_never_pass(regressor: Any, wrong: float) -> None:
    evidence = regressor()
    assert verdict(off(evidence, lambda p: p * 0 + wrong, slice(500, 501))) is Verdict.FAILED
    assert verdict(off(evidence, lambda p: p * 0 + wrong)) is Verdict.FAILED


def test_a_source_that_answers_only_nan_proves_nothing(regressor: Any) -> None:
    evidence = regressor(prediction=np.full(1000, np.nan))
    assert verdict(evidence) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("rows", [1, 2, 29])
@pytest.mark.parametrize("equivalence", [Equivalence.NUMERIC, Equivalence.DECISION])
def test_few_rows_prove_nothing(classifier: Any, regressor: Any, rows: int, equivalence: Equivalence) -> None:
    assert verdict(regressor(rows, equivalence=equivalence)) is Verdict.INCONCLUSIVE
    assert verdict(classifier(rows, equivalence=equivalence)) is Verdict.INCONCLUSIVE


def test_a_dataset_of_one_row_repeated_proves_nothing(regressor: Any) -> None:
    assert verdict(repeated(regressor(), 20)) is Verdict.INCONCLUSIVE


def test_mostly_equal_answers_still_tell(regressor: Any) -> None:
    """The first row and the one in the middle are answered alike; a swap of these two would break nothing."""
    prediction = np.where(np.arange(1000) % 10 == 3, 1.0 + np.arange(1000), 0.0)
    evidence = regressor(
        prediction=prediction, dataset=Dataset(uri="x", slices=(Slice(column="place"),)),
        annotations={"place": np.where(np.arange(1000) < 100, "A", "B").astype(object)},
    )  # fmt: skip
    assert verdict(evidence) is Verdict.PASSED


def test_a_holdout_of_one_class_still_tells_by_its_probabilities(classifier: Any) -> None:
    first = np.random.default_rng(0).uniform(0.6, 0.9, 500)
    evidence = classifier(500, probabilities=np.column_stack([first, 1 - first]))
    assert verdict(evidence) is Verdict.PASSED


def test_a_constant_answer_proves_nothing(regressor: Any) -> None:
    assert verdict(regressor(prediction=np.full(1000, 7.0))) is Verdict.INCONCLUSIVE


def repeated(evidence: Evidence, distinct: int) -> Evidence:
    """The first `distinct` rows over and over."""
    rows = np.arange(evidence.rows) % distinct
    tables = {
        name: {key: column[rows] for key, column in getattr(evidence, name).items()}
        for name in ("inputs", "reference", "candidate", "annotations")
    }
    return replace(evidence, **tables)


@pytest.mark.parametrize(
    "name",
    [MetricName.ACCURACY, MetricName.BALANCED_ACCURACY, MetricName.F1, MetricName.ROC_AUC, MetricName.BRIER],
)
def test_forty_rows_repeated_a_hundred_times_are_forty_rows(classifier: Any, name: MetricName) -> None:
    evidence = classifier(4000, labelled=True, equivalence=METRIC, metrics=(Metric(name=name, max_drop="0.01"),))
    assert verdict(evidence) is Verdict.PASSED
    assert verdict(repeated(evidence, 80)) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("name", [MetricName.RMSE, MetricName.MAE])
def test_forty_equal_predictions_bound_no_loss(regressor: Any, name: MetricName) -> None:
    evidence = regressor(4000, labelled=True, equivalence=METRIC, metrics=(Metric(name=name, max_drop="0.02"),))
    assert verdict(evidence) is Verdict.PASSED
    assert verdict(repeated(evidence, 40)) is Verdict.INCONCLUSIVE


def test_a_metric_that_resampling_cannot_bound_is_inconclusive(regressor: Any) -> None:
    evidence = regressor(500, labelled=True, equivalence=METRIC, metrics=(Metric(name=MetricName.R2, max_drop="0.5"),))
    truth = np.zeros(500)
    truth[3] = 1.0
    evidence = replace(evidence, annotations={"y": truth}, reference={"prediction": truth * 0.9})
    evidence = evidence.with_candidate({"prediction": (truth * 0.9 + 1e-3).astype(np.float32)})
    assert result(evidence, CheckName.METRICS) is Verdict.INCONCLUSIVE


def test_a_critical_slice_counts_its_scarcest_class_not_its_rows(classifier: Any) -> None:
    random = np.random.default_rng(0)
    first = np.where(np.arange(3000) < 1500, 0.9, 0.1) + random.uniform(-0.05, 0.05, 3000)
    evidence = classifier(
        3000, labelled=True, equivalence=METRIC, probabilities=np.column_stack([first, 1 - first]),
        metrics=(Metric(name=MetricName.BALANCED_ACCURACY, max_drop="0.02"),),
        annotations={"place": np.where(np.arange(3000) % 3 == 0, "A", "B").astype(object)},
        dataset=Dataset(uri="x", label="y", slices=(Slice(column="place", critical=True),)),
    )  # fmt: skip
    truth = np.where(np.arange(3000) < 1500, 0, 1)
    truth[(np.arange(3000) % 3 == 0) & (np.arange(3000) >= 1500)] = 0
    truth[2997] = truth[2994] = 1
    checks = judge(replace(evidence, annotations={**evidence.annotations, "y": truth}))
    found = next(check for check in checks if check.name is CheckName.SLICES)
    small = next(m for m in found.measurements if m.subject == "place=A")
    assert "scarcest" in (small.unjudged or "")


def test_an_output_that_the_source_never_answered_is_not_judged_by_the_others(classifier: Any) -> None:
    evidence = classifier()
    partial = replace(evidence, reference={"label": evidence.reference["label"]})
    assert verdict(partial) is not Verdict.PASSED


def test_a_cast_without_answers_does_not_pass(classifier: Any) -> None:
    evidence = classifier(capture={"cast_exact": False})
    assert verdict(replace(evidence, cast=evidence.reference)) is Verdict.PASSED
    assert verdict(replace(evidence, cast={})) is not Verdict.PASSED
    assert verdict(replace(evidence, cast={"label": evidence.reference["label"]})) is not Verdict.PASSED


@pytest.mark.parametrize(("output", "dtype"), [("label", np.float64), ("label", object), ("probabilities", np.float64)])
def test_answers_of_another_datatype_than_promised_fail(classifier: Any, output: str, dtype: Any) -> None:
    evidence = classifier()
    retyped = evidence.candidate[output].astype(dtype)
    if dtype is object:
        retyped = np.asarray([str(value) for value in retyped], dtype=object)
    changed = evidence.with_candidate({**evidence.candidate, output: retyped})
    assert result(changed, CheckName.CONTRACT) is Verdict.FAILED


def test_integers_beyond_the_mantissa_of_a_double_are_told_apart(classifier: Any) -> None:
    evidence = classifier()
    large = evidence.reference["label"] + 2**53
    evidence = replace(evidence, reference={**evidence.reference, "label": large})
    moved = large.copy()
    moved[4] += 1
    assert result(evidence.with_candidate({**evidence.candidate, "label": moved}), CheckName.NUMERIC) is Verdict.FAILED


def test_a_second_output_is_judged_like_the_first(classifier: Any) -> None:
    evidence = classifier()
    for name in ("label", "probabilities"):
        column = np.roll(evidence.candidate[name], 1, axis=0)
        assert verdict(evidence.with_candidate({**evidence.candidate, name: column})) is Verdict.FAILED


def lookup(evidence: Evidence, probes: int, answered: Any) -> Evidence:
    """A candidate that knows the dataset's rows by heart, and answers `answered` to every other row."""
    features = np.asarray(evidence.inputs["features"])[:probes].copy()
    features[:, 0] = 0.0
    return replace(
        evidence,
        capture=evidence.capture.model_copy(
            update={
                "probes": tuple(
                    Probe(description=f"zero in a, row {row}", kind="zero", inside_domain=True) for row in range(probes)
                )
            }
        ),
        probes={"features": features},
        probes_reference={"prediction": np.asarray(evidence.reference["prediction"])[:probes] + features[:, 1]},
        probe_answers=tuple(
            ProbeAnswer({"prediction": np.asarray([answered(row)], dtype=np.float32)}) for row in range(probes)
        ),
    )


def test_a_candidate_that_knows_the_rows_by_heart_fails_on_probes(regressor: Any) -> None:
    evidence = regressor()
    assert verdict(lookup(evidence, 4, lambda row: evidence.reference["prediction"][row])) is Verdict.FAILED


def test_probes_without_answers_are_not_passed(regressor: Any) -> None:
    evidence = lookup(regressor(), 4, float)
    assert verdict(replace(evidence, probe_answers=evidence.probe_answers[:0])) is not Verdict.PASSED


def test_probes_without_the_sources_answers_are_not_passed(regressor: Any) -> None:
    evidence = lookup(regressor(), 4, float)
    assert verdict(replace(evidence, probes_reference={})) is not Verdict.PASSED


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_slices_of_numbers_that_are_none_are_still_slices(classifier: Any, odd: float) -> None:
    values = np.arange(3000, dtype=np.float64)
    values[::5] = odd
    evidence = classifier(
        3000, labelled=True, equivalence=Equivalence.DECISION, annotations={"amount": values},
        dataset=Dataset(uri="x", label="y", slices=(Slice(column="amount", critical=True),)),
    )  # fmt: skip
    label = evidence.candidate["label"].copy()
    label[::50] = 1 - label[::50]
    assert verdict(evidence) is Verdict.PASSED
    assert verdict(evidence.with_candidate({**evidence.candidate, "label": label})) is Verdict.FAILED


def sentence(evidence: Evidence) -> str:
    digest = "sha256:" + "0" * 64
    subject = dict.fromkeys(("source", "dataset", "capture", "candidate", "runtime", "policy"), digest)
    return report_of(
        evidence,
        Circumstances(
            migration="m", subject=subject, candidate_environment=evidence.capture.environment, reproduce="paritygate"
        ),
    ).sentence


def test_a_sentence_does_not_deny_labels_that_ties_changed(classifier: Any) -> None:
    first = np.random.default_rng(0).uniform(0.05, 0.45, 1000) + 0.5 * (np.arange(1000) % 2)
    first[:3] = 0.5
    evidence = classifier(1000, probabilities=np.column_stack([first, 1 - first]))
    label = evidence.candidate["label"].copy()
    label[:3] = 1
    evidence = evidence.with_candidate({**evidence.candidate, "label": label})
    assert verdict(evidence) is Verdict.PASSED
    assert "3 ties apart" in sentence(evidence)


def test_bounds_in_sentences_are_never_rounded_to_the_better(classifier: Any) -> None:
    # 1 − 0.05^(1/298) = 0.0100022…
    found = next(c for c in judge(classifier(298, equivalence=Equivalence.DECISION)) if c.name is CheckName.DECISIONS)
    assert found.result is Verdict.INCONCLUSIVE
    assert "1.01%" in found.message
