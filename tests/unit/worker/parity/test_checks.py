"""Verdicts of the gate on made-up evidence, one defect at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from paritygate.api.artifacts import Coverage, Noise, Probe, ProbedCells
from paritygate.api.report import Check, CheckName, Gap, TensorSignature, Verdict
from paritygate.api.spec import Dataset, Datatype, Decisions, Equivalence, Metric, MetricName, Numeric, Slice, Task
from paritygate.core.verdict import verdict_of
from paritygate.worker.parity.diagnosis import diagnose
from paritygate.worker.parity.evidence import BatchAnswers, Evidence, Offer, ProbeAnswer
from paritygate.worker.parity.judge import judge
from paritygate.worker.parity.measure import times
from paritygate.worker.parity.unjudged import not_judged

DECISION, METRIC = Equivalence.DECISION, Equivalence.METRIC


def check(evidence: Evidence, name: CheckName) -> Check:
    return next(one for one in judge(evidence) if one.name is name)


def verdict(evidence: Evidence) -> Verdict:
    return verdict_of(judge(evidence))


def with_flips(evidence: Evidence, rows: Any) -> Evidence:
    """The candidate decides `rows` otherwise, by probabilities and by label."""
    probabilities = evidence.candidate["probabilities"].copy()
    probabilities[rows] = probabilities[rows][:, ::-1]
    return evidence.with_candidate({"label": probabilities.argmax(axis=1), "probabilities": probabilities})


@pytest.mark.parametrize("equivalence", [Equivalence.NUMERIC, DECISION])
@pytest.mark.parametrize("classes", [2, 3, 10])
def test_equal_answers_pass(classifier: Any, classes: int, equivalence: Equivalence) -> None:
    assert verdict(classifier(classes=classes, equivalence=equivalence)) is Verdict.PASSED


def test_one_number_beyond_tolerance_fails_under_numeric(classifier: Any) -> None:
    evidence = classifier()
    probabilities = evidence.candidate["probabilities"].copy()
    probabilities[7] += np.float32(3e-5) * np.asarray([1, -1], dtype=np.float32)
    assert verdict(evidence.with_candidate({**evidence.candidate, "probabilities": probabilities})) is Verdict.FAILED


@pytest.mark.parametrize(
    ("flips", "rows", "expected"),
    [
        pytest.param(0, 299, Verdict.PASSED, id="no flip in 299 rows proves less than 1%"),
        pytest.param(0, 290, Verdict.INCONCLUSIVE, id="no flip in 290 rows proves too little"),
        pytest.param(4, 1000, Verdict.PASSED, id="four flips in 1,000 rows are few enough"),
        pytest.param(10, 1000, Verdict.INCONCLUSIVE, id="ten flips in 1,000 rows may be either"),
        pytest.param(30, 1000, Verdict.FAILED, id="thirty flips in 1,000 rows are too many"),
    ],
)
def test_flip_rates_are_three_valued(classifier: Any, flips: int, rows: int, expected: Verdict) -> None:
    evidence = classifier(rows, equivalence=DECISION, decisions=Decisions(max_tie_rate="0.05"))
    assert check(with_flips(evidence, np.arange(flips) * 7), CheckName.DECISIONS).result is expected


def test_an_inconclusive_rate_names_the_rows_that_would_tell(classifier: Any) -> None:
    found = check(classifier(200, equivalence=DECISION), CheckName.DECISIONS)
    assert found.measurements[0].rows_needed == 299


def test_repeated_rows_count_once(classifier: Any) -> None:
    evidence = classifier(1000, equivalence=DECISION)
    repeated = {"features": np.repeat(evidence.inputs["features"][:100], 10, axis=0)}
    same = {name: np.repeat(column[:100], 10, axis=0) for name, column in evidence.reference.items()}
    evidence = replace(evidence, inputs=repeated, reference=same, candidate=same)
    found = check(evidence, CheckName.DECISIONS)
    assert found.measurements[0].rows == 100
    assert found.result is Verdict.INCONCLUSIVE


def test_rows_of_a_group_count_once(classifier: Any) -> None:
    evidence = classifier(
        1000, equivalence=DECISION, dataset=Dataset(uri="x", group="customer"),
        annotations={"customer": np.arange(1000) % 150},
    )  # fmt: skip
    assert check(evidence, CheckName.DECISIONS).measurements[0].rows == 150


@pytest.mark.parametrize("equivalence", list(Equivalence))
def test_no_rows_never_pass(classifier: Any, equivalence: Equivalence) -> None:
    metrics = (Metric(name=MetricName.ACCURACY, max_drop="0.1"),) if equivalence is METRIC else ()
    evidence = classifier(0, equivalence=equivalence, metrics=metrics, labelled=True)
    assert verdict(evidence) is not Verdict.PASSED


def tied(rows: int, ties: int) -> Any:
    random = np.random.default_rng(0)
    first = random.uniform(0.05, 0.45, rows) + 0.5 * (random.random(rows) < 0.5)
    first[:ties] = 0.5
    return np.column_stack([first, 1 - first])


@pytest.mark.parametrize(
    ("ties", "limit", "expected"),
    [
        pytest.param(3, "0.02", Verdict.PASSED, id="few ties are forgiven"),
        pytest.param(60, "0.02", Verdict.FAILED, id="many ties are not"),
        pytest.param(3, "0.001", Verdict.INCONCLUSIVE, id="a tighter limit needs more rows"),
    ],
)
@pytest.mark.parametrize("equivalence", [Equivalence.NUMERIC, DECISION])
def test_ties_are_bounded(classifier: Any, ties: int, limit: str, expected: Verdict, equivalence: Equivalence) -> None:
    evidence = classifier(
        1000, probabilities=tied(1000, ties), equivalence=equivalence, decisions=Decisions(max_tie_rate=limit)
    )
    label = evidence.candidate["label"].copy()
    label[:ties] = 1
    assert verdict(evidence.with_candidate({**evidence.candidate, "label": label})) is expected


def test_a_label_that_is_not_the_sources_own_arg_max_is_no_tie(classifier: Any) -> None:
    evidence = classifier(1000, probabilities=tied(1000, 5))
    label = evidence.reference["label"].copy()
    label[:5] = 1
    evidence = replace(evidence, reference={**evidence.reference, "label": label})
    assert check(evidence, CheckName.NUMERIC).result is Verdict.FAILED


def test_one_side_of_a_decision_with_few_rows_is_inconclusive(classifier: Any) -> None:
    random = np.random.default_rng(0)
    first = random.uniform(0.6, 0.9, 2000)
    first[:20] = 0.2
    evidence = classifier(2000, probabilities=np.column_stack([first, 1 - first]), equivalence=DECISION)
    found = check(evidence, CheckName.DECISIONS)
    assert found.result is Verdict.INCONCLUSIVE
    assert "only 20 rows" in (found.measurements[0].unjudged or "")


def test_thresholds_and_top_k_are_decisions(classifier: Any) -> None:
    evidence = classifier(1000, classes=5, equivalence=DECISION, decisions=Decisions(thresholds=("0.3",), top_k=3))
    subjects = {m.subject for m in check(evidence, CheckName.DECISIONS).measurements}
    assert {"label", "probabilities top 3", "probabilities[2] ≥ 0.3"} <= subjects


def test_a_threshold_flip_is_found_where_no_label_flips(regressor: Any) -> None:
    evidence = regressor(1000, equivalence=DECISION, decisions=Decisions(thresholds=("100",)))
    assert verdict(evidence) is Verdict.PASSED
    moved = evidence.candidate["prediction"] + np.float32(5)
    found = check(evidence.with_candidate({"prediction": moved}), CheckName.DECISIONS)
    assert found.result is Verdict.FAILED


def test_rankings_are_judged_by_list(regressor: Any) -> None:
    lists = np.repeat(np.arange(400), 5)
    evidence = regressor(
        2000, equivalence=DECISION, task=Task.RANKING, annotations={"query": lists},
        decisions=Decisions(group_by="query", top_k=2),
    )  # fmt: skip
    found = check(evidence, CheckName.DECISIONS)
    assert found.measurements[0].rows == 400
    assert found.result is Verdict.PASSED
    reversed_ = evidence.with_candidate({"prediction": -evidence.candidate["prediction"]})
    assert check(reversed_, CheckName.DECISIONS).result is Verdict.FAILED


def test_decision_without_any_decision_is_inconclusive(regressor: Any) -> None:
    assert verdict(regressor(equivalence=DECISION)) is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("rows", "drop", "expected"),
    [
        pytest.param(0, "0.02", Verdict.PASSED, id="equal answers are no worse"),
        pytest.param(150, "0.02", Verdict.FAILED, id="a tenth of the labels broken"),
        pytest.param(0, "0.001", Verdict.INCONCLUSIVE, id="a margin finer than the data"),
    ],
)
def test_accuracy_is_non_inferior(classifier: Any, rows: int, drop: str, expected: Verdict) -> None:
    evidence = classifier(
        1500, labelled=True, equivalence=METRIC, metrics=(Metric(name=MetricName.ACCURACY, max_drop=drop),)
    )
    assert check(with_flips(evidence, np.arange(rows)), CheckName.METRICS).result is expected


@pytest.mark.parametrize(
    "name", [m for m in MetricName if m not in (MetricName.RMSE, MetricName.MAE, MetricName.R2, MetricName.NDCG)]
)
def test_metrics_of_classifiers_see_broken_rows(classifier: Any, name: MetricName) -> None:
    evidence = classifier(1500, labelled=True, equivalence=METRIC, metrics=(Metric(name=name, max_drop="0.03"),))
    assert check(evidence, CheckName.METRICS).result is Verdict.PASSED
    assert check(with_flips(evidence, np.arange(500)), CheckName.METRICS).result is Verdict.FAILED


@pytest.mark.parametrize("name", [MetricName.RMSE, MetricName.MAE, MetricName.R2])
def test_metrics_of_regressors_see_noise(regressor: Any, name: MetricName) -> None:
    evidence = regressor(1500, labelled=True, equivalence=METRIC, metrics=(Metric(name=name, max_drop="0.05"),))
    assert check(evidence, CheckName.METRICS).result is Verdict.PASSED
    noise = np.random.default_rng(5).normal(size=1500).astype(np.float32) * 5
    broken = evidence.with_candidate({"prediction": evidence.candidate["prediction"] + noise})
    assert check(broken, CheckName.METRICS).result is Verdict.FAILED


@pytest.mark.parametrize("name", list(MetricName))
def test_metrics_agree_with_scikit_learn(classifier: Any, regressor: Any, name: MetricName) -> None:
    from sklearn import metrics

    from paritygate.worker.parity.scoring import scores_of

    of_classes = name in (
        MetricName.ACCURACY, MetricName.BALANCED_ACCURACY, MetricName.F1, MetricName.ROC_AUC, MetricName.LOG_LOSS,
        MetricName.BRIER,
    )  # fmt: skip
    lists = np.repeat(np.arange(100), 5)
    evidence = (
        classifier(500, labelled=True) if of_classes
        else regressor(500, labelled=True, annotations={"q": lists}, decisions=Decisions(group_by="q"))
    )  # fmt: skip
    truth = evidence.annotations["y"]
    if name is MetricName.NDCG:
        truth = np.random.default_rng(0).integers(0, 4, 500).astype(float)
        evidence = replace(evidence, annotations={**evidence.annotations, "y": truth})
    reference = evidence.reference
    expected = {
        MetricName.ACCURACY: lambda: metrics.accuracy_score(truth, reference["label"]),
        MetricName.BALANCED_ACCURACY: lambda: metrics.balanced_accuracy_score(truth, reference["label"]),
        MetricName.F1: lambda: metrics.f1_score(truth, reference["label"]),
        MetricName.ROC_AUC: lambda: metrics.roc_auc_score(truth, reference["probabilities"][:, 1]),
        MetricName.LOG_LOSS: lambda: metrics.log_loss(truth, reference["probabilities"]),
        MetricName.BRIER: lambda: metrics.brier_score_loss(truth, reference["probabilities"][:, 1]),
        MetricName.RMSE: lambda: metrics.root_mean_squared_error(truth, reference["prediction"]),
        MetricName.MAE: lambda: metrics.mean_absolute_error(truth, reference["prediction"]),
        MetricName.R2: lambda: metrics.r2_score(truth, reference["prediction"]),
        MetricName.NDCG: lambda: metrics.ndcg_score(
            np.exp2(truth.reshape(100, 5)) - 1, reference["prediction"].reshape(100, 5)
        ),
    }[name]()
    score = scores_of(evidence, (name,))[0]
    assert float(score.values(score.sums.sum(axis=0))[0]) == pytest.approx(expected, rel=1e-9)


def test_metrics_that_nobody_states_are_only_reported(classifier: Any) -> None:
    found = check(classifier(labelled=True), CheckName.METRICS)
    assert {m.subject for m in found.measurements} == {"accuracy", "log_loss", "roc_auc"}
    assert not found.blocking


def test_a_metric_without_its_labels_blocks(classifier: Any) -> None:
    evidence = classifier(
        equivalence=METRIC, metrics=(Metric(name=MetricName.ACCURACY, max_drop="0.1"),), labelled=True
    )
    evidence = replace(evidence, annotations={})
    assert verdict(evidence) is Verdict.INCONCLUSIVE


def sliced(classifier: Any, small: int, **stated: Any) -> Evidence:
    country = np.where(np.arange(3000) < small, "MT", "DE").astype(object)
    return classifier(
        3000, labelled=True, equivalence=DECISION, annotations={"country": country},
        dataset=Dataset(uri="x", label="y", slices=(Slice(column="country", **stated),)),
    )  # fmt: skip


def test_a_critical_slice_must_meet_its_budget(classifier: Any) -> None:
    evidence = sliced(classifier, 400, critical=True)
    assert verdict(evidence) is Verdict.PASSED
    assert check(with_flips(evidence, np.arange(15)), CheckName.SLICES).result is Verdict.FAILED
    assert check(with_flips(evidence, np.arange(15)), CheckName.DECISIONS).result is Verdict.PASSED


def test_a_critical_slice_with_few_rows_is_inconclusive(classifier: Any) -> None:
    assert verdict(sliced(classifier, 25, critical=True)) is Verdict.INCONCLUSIVE


def test_harm_in_another_slice_is_reported_and_does_not_block(classifier: Any) -> None:
    evidence = with_flips(sliced(classifier, 400), np.arange(15))
    found = check(evidence, CheckName.SLICES)
    assert found.result is Verdict.FAILED
    assert not found.blocking
    assert "country=MT" in found.message


def test_small_slices_are_not_judged(classifier: Any) -> None:
    evidence = sliced(classifier, 20)
    assert "slice country=MT" in {entry.what for entry in not_judged(evidence, judge(evidence))}


def test_patterns_of_missing_values_are_slices(classifier: Any) -> None:
    evidence = classifier(2000)
    features = evidence.inputs["features"].copy()
    features[:300, 1] = np.nan
    found = check(replace(evidence, inputs={"features": features}), CheckName.SLICES)
    assert {"missing=b", "missing=nothing"} <= {m.subject for m in found.measurements}


@pytest.mark.parametrize(
    ("noise", "stated", "expected"),
    [
        pytest.param(0.0, None, Verdict.PASSED, id="an exact source"),
        pytest.param(1e-3, None, Verdict.INCONCLUSIVE, id="a noisy source"),
        pytest.param(1e-3, "0.01", Verdict.PASSED, id="a noisy source with a stated tolerance"),
    ],
)
def test_noise_of_the_source(classifier: Any, noise: float, stated: str | None, expected: Verdict) -> None:
    capture = {"noise": (Noise(output="probabilities", floor=noise, rows=64),)}
    assert verdict(classifier(capture=capture, numeric=Numeric(atol=stated))) is expected


def test_a_cast_that_changes_the_source_is_blamed_before_the_converter(classifier: Any) -> None:
    evidence = classifier(capture={"cast_exact": False})
    recast = {name: np.roll(column, 1, axis=0) for name, column in evidence.reference.items()}
    evidence = replace(evidence, cast=recast, candidate=recast)
    checks = judge(evidence)
    assert next(c for c in checks if c.name is CheckName.INPUT_CONTRACT).result is Verdict.FAILED
    diagnosis = diagnose(evidence, checks, None, (), "again")
    assert diagnosis is not None
    assert diagnosis.gap is Gap.INPUT_CAST
    assert "FP64" in diagnosis.try_next


def probed(
    classifier: Any, *, inside: bool, refused: str | None, answer: ProbeAnswer | None = None, kind: str = "nan"
) -> Evidence:
    evidence = classifier()
    probe = Probe(description="NaN in a", kind=kind, inside_domain=inside, refused=refused)
    one = {name: column[:1] for name, column in evidence.reference.items()}
    answered = ProbeAnswer({name: column[:1] for name, column in evidence.candidate.items()})
    return replace(
        evidence, capture=evidence.capture.model_copy(update={"probes": (probe,)}), probes_reference=one,
        probes={"features": evidence.inputs["features"][:1]}, probe_answers=(answer or answered,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("inside", "refused", "answer", "expected"),
    [
        pytest.param(True, None, None, Verdict.PASSED, id="both answer alike"),
        pytest.param(True, "ValueError", None, Verdict.FAILED, id="the candidate answers what the source refuses"),
        pytest.param(True, "ValueError", ProbeAnswer({}, "guarded"), Verdict.PASSED, id="both refuse"),
        pytest.param(
            True, None, ProbeAnswer({}, "no"), Verdict.FAILED, id="the candidate refuses what the source answers"
        ),
        pytest.param(False, "ValueError", None, Verdict.PASSED, id="outside the domain nothing blocks"),
    ],
)
def test_probes(classifier: Any, inside: bool, refused: str | None, answer: Any, expected: Verdict) -> None:
    assert verdict(probed(classifier, inside=inside, refused=refused, answer=answer)) is expected


def test_a_label_without_a_task_says_what_to_state(regressor: Any) -> None:
    labelled = regressor(task=Task.GENERIC, labelled=True)
    assert "for task Generic; state validation.task" in check(labelled, CheckName.METRICS).message
    assert check(regressor(task=Task.GENERIC), CheckName.METRICS).message.startswith("There are no labels")


def test_a_batch_without_rows_needs_no_guard(classifier: Any) -> None:
    evidence = probed(classifier, inside=False, refused="ValueError", kind="empty-batch")
    assert check(evidence, CheckName.PROBES).measurements[0].measured == 0


def test_a_batch_without_rows_must_be_answered_where_the_source_answers(classifier: Any) -> None:
    refusal = ProbeAnswer({}, "send rows")
    evidence = probed(classifier, inside=False, refused=None, answer=refusal, kind="empty-batch")
    assert check(evidence, CheckName.PROBES).measurements[0].measured == 1


def test_a_source_that_answers_all_rows_alike_proves_nothing(classifier: Any) -> None:
    evidence = classifier(1000, probabilities=np.tile([0.3, 0.7], (1000, 1)))
    found = check(evidence, CheckName.VACUITY)
    assert found.result is Verdict.INCONCLUSIVE
    assert "shuffled" in found.message


def test_vacuity_tries_shuffling_shifting_and_the_smallest_slice(classifier: Any) -> None:
    assert len(check(classifier(), CheckName.VACUITY).measurements) == 3


def test_vacuity_of_a_failed_candidate_is_reported_and_does_not_block(classifier: Any) -> None:
    evidence = with_flips(classifier(), np.arange(50))
    found = check(evidence, CheckName.VACUITY)
    assert found.result is Verdict.PASSED
    assert not found.blocking
    assert found.message.startswith("In answers as the source gives them, 3 of 3 deliberate defects were stopped")
    assert verdict(evidence) is Verdict.FAILED
    assert not any(entry.what == "vacuity" for entry in not_judged(evidence, judge(evidence)))


def test_vacuity_is_left_out_where_not_even_the_sources_own_answers_would_pass(classifier: Any) -> None:
    evidence = with_flips(classifier(200, equivalence=DECISION), np.arange(50))
    checks = judge(evidence)
    assert verdict_of(checks) is Verdict.FAILED
    assert CheckName.VACUITY not in {one.name for one in checks}
    reason = next(entry.why for entry in not_judged(evidence, checks) if entry.what == "vacuity")
    assert reason == "the candidate failed, and not even one that answers as the source does would pass on these rows"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"datatype": Datatype.FP64}, "datatype FP64 instead of FP32", id="another datatype"),
        pytest.param({"shape": (1, 2)}, "shape [1, 2]", id="a frozen batch"),
        pytest.param({"name": "p"}, "'probabilities' is missing", id="another name"),
    ],
)
def test_the_offer_must_be_the_signature(classifier: Any, changes: dict[str, Any], says: str) -> None:
    evidence = classifier()
    signature = evidence.capture.signature
    outputs = tuple(TensorSignature(name=o.name, datatype=o.datatype, shape=o.shape) for o in signature.outputs)
    broken = (outputs[0], outputs[1].model_copy(update=changes))
    found = check(replace(evidence, offer=Offer(signature.inputs, broken)), CheckName.CONTRACT)
    assert found.result is Verdict.FAILED
    assert says in found.message


def test_a_missing_output_fails_the_contract(classifier: Any) -> None:
    evidence = classifier()
    assert verdict(evidence.with_candidate({"label": evidence.candidate["label"]})) is Verdict.FAILED


def test_rows_without_an_answer_fail_the_contract(classifier: Any) -> None:
    evidence = classifier()
    answered = np.arange(1000) != 17
    found = check(replace(evidence, answered=answered, refusal="index out of bounds"), CheckName.CONTRACT)
    assert found.result is Verdict.FAILED
    assert "index out of bounds" in found.message
    assert found.measurements[1].worst[0].row == 17


@pytest.mark.parametrize("equivalence", [Equivalence.NUMERIC, DECISION])
def test_nan_where_the_source_has_none_fails_whatever_the_equivalence(
    classifier: Any, equivalence: Equivalence
) -> None:
    evidence = classifier(equivalence=equivalence)
    probabilities = evidence.candidate["probabilities"].copy()
    probabilities[3] = np.nan
    broken = evidence.with_candidate({**evidence.candidate, "probabilities": probabilities})
    assert check(broken, CheckName.CONTRACT).result is Verdict.FAILED


@pytest.mark.parametrize(
    ("shift", "refused", "expected"),
    [
        pytest.param(0.0, None, Verdict.PASSED, id="batches agree"),
        pytest.param(0.01, None, Verdict.FAILED, id="a batch of one gets another answer"),
        pytest.param(0.0, "expected 1", Verdict.FAILED, id="a batch size is refused"),
    ],
)
def test_batch_sizes(classifier: Any, shift: float, refused: str | None, expected: Verdict) -> None:
    evidence = classifier()
    rows = np.arange(14)
    whole = {name: column[rows] for name, column in evidence.candidate.items()}
    single = {**whole, "probabilities": whole["probabilities"] + np.float32(shift)}
    batches = (BatchAnswers(1, rows, {} if refused else single, refused), BatchAnswers(14, rows, whole))
    assert check(replace(evidence, batches=batches), CheckName.CONTRACT).result is expected


@pytest.mark.parametrize(("shift", "expected"), [(0.0, Verdict.PASSED), (1e-2, Verdict.FAILED)])
def test_batch_sizes_tried_on_a_few_rows_are_compared_on_these(
    classifier: Any, shift: float, expected: Verdict
) -> None:
    evidence = classifier()
    whole = {name: column[:14] for name, column in evidence.candidate.items()}
    few = {name: column[5:8] for name, column in whole.items()}
    few["probabilities"] = few["probabilities"] + np.float32(shift)
    batches = (BatchAnswers(3, np.arange(5, 8), few), BatchAnswers(14, np.arange(14), whole))
    asked = replace(evidence, batches=batches)
    assert check(asked, CheckName.CONTRACT).result is expected
    assert "whether a second batch of 3 rows is answered as the first" in {
        entry.what for entry in not_judged(asked, judge(asked))
    }


def test_cells_that_probes_pass_over_are_not_judged(classifier: Any) -> None:
    evidence = classifier(capture={"probed_cells": (ProbedCells(input="image", cells=2, total=784),)})
    said = {entry.what for entry in not_judged(evidence, judge(evidence))}
    assert "unusual values in 782 of the 784 cells of image" in said


def test_loosened_limits_are_listed(classifier: Any) -> None:
    evidence = classifier(numeric=Numeric(atol="0.1"), decisions=Decisions(max_flip_rate="0.2"))
    said = " ".join(entry.what for entry in not_judged(evidence, judge(evidence)))
    assert "numeric.atol 0.1" in said
    assert "maxFlipRate 0.2" in said


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(17_712.4, "17,700 times"), (1.5, "1.5 times"), (99.99, "100 times"), (2.5e15, "2.5e+15 times")],
)
def test_ratios_are_told_in_words(ratio: float, words: str) -> None:
    assert times(ratio) == words


def test_leaves_and_categories_that_no_row_reaches_are_not_judged(classifier: Any) -> None:
    coverage = (
        Coverage(subject="forest", kind="leaves", total=3100, rows=2688, probes=37),
        Coverage(subject="tree", kind="leaves", total=8, rows=8, probes=0),
        Coverage(subject="city", kind="categories", total=4, rows=3, probes=0, examples=("Bonn",)),
    )
    evidence = classifier(capture={"coverage": coverage, "coverage_skipped": "too many"})
    found = {entry.what: entry.why for entry in not_judged(evidence, judge(evidence))}
    assert found["412 of 3,100 leaves of forest"].startswith("no row ends there; probes reach 37 of these; bring rows")
    assert not any("leaves of tree" in what for what in found)
    assert found["city: Bonn"] == "of the 4 categories that the model knows, no row shows this; bring rows that do"
    assert found["leaves and categories that no row reaches"] == "they were not counted to the end: too many"
